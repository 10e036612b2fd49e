/*
 * inquiry_fetch.c
 *		Takes a few records of a source out of Kafka, without a consumer group and without a trace.
 *
 * Owns librdkafka's messages until fetch_close.  Called by inquiry_preview.c.
 */
#include "postgres.h"

#include "catalog.h"
#include "inquiry_fetch.h"

#define POLL_MS 100

/* how long one question about a partition may take */
#define LONGEST_QUESTION_MS 5000

/* so much may wait in librdkafka's queues: a preview is no backlog */
static const char *const modest[] = {
	"enable.partition.eof", "true",
	"queued.max.messages.kbytes", "4096",
	"fetch.wait.max.ms", "100",
	NULL
};

/* what Kafka holds of a partition, and where reading begins */
typedef struct Stretch
{
	int64		low;
	int64		from;
	int64		high;
} Stretch;

/* false when no broker answers */
static bool
measure(Fetch *fetch, const Inquiry *inquiry, List *offsets, Stretch *stretches)
{
	ListCell   *cell;

	foreach(cell, offsets)
	{
		const SourceOffset *offset = lfirst(cell);
		Stretch    *it = &stretches[foreach_current_index(cell)];
		int			wait = inquiry_time_left(inquiry, LONGEST_QUESTION_MS);

		if (wait <= 0 ||
			rd_kafka_query_watermark_offsets(fetch->client.rk, offset->topic, offset->partition,
											 &it->low, &it->high, wait) != RD_KAFKA_RESP_ERR_NO_ERROR)
			return false;
		it->from = Min(Max(offset->next_offset, it->low), it->high);
	}
	return true;
}

/* where fewer than `count` wait, as many are read again that were read before, of all partitions about alike */
static void
step_back(Stretch *stretches, int n, int64 count)
{
	for (int i = 0; i < n; i++)
		count -= stretches[i].high - stretches[i].from;
	while (count > 0)
	{
		int64		share = (count + n - 1) / n,
					before = count;

		for (int i = 0; i < n && count > 0; i++)
		{
			int64		back = Min(Min(share, count), stretches[i].from - stretches[i].low);

			stretches[i].from -= back;
			count -= back;
		}
		if (count == before)
			return;				/* that is all there is */
	}
}

static bool
start(Fetch *fetch, const Inquiry *inquiry, List *offsets, int count)
{
	Stretch    *stretches = palloc(sizeof(Stretch) * Max(list_length(offsets), 1));
	ListCell   *cell;

	if (!measure(fetch, inquiry, offsets, stretches))
		return false;
	step_back(stretches, list_length(offsets), count);
	fetch->queue = rd_kafka_queue_new(fetch->client.rk);
	fetch->topics = palloc0(sizeof(rd_kafka_topic_t *) * Max(list_length(offsets), 1));
	fetch->partitions = palloc0(sizeof(int) * Max(list_length(offsets), 1));
	foreach(cell, offsets)
	{
		SourceOffset *offset = lfirst(cell);
		rd_kafka_topic_t *topic = rd_kafka_topic_new(fetch->client.rk, offset->topic, NULL);

		fetch->topics[fetch->n_partitions] = topic;
		fetch->partitions[fetch->n_partitions++] = offset->partition;
		if (rd_kafka_consume_start_queue(topic, offset->partition,
										 stretches[foreach_current_index(cell)].from, fetch->queue) != 0)
			return false;
	}
	return true;
}

/* a message is kept, anything else is the end of a partition or the reason why none comes */
static void
take(Fetch *fetch, rd_kafka_message_t *message)
{
	if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR && fetch->n < fetch->room)
	{
		fetch->messages[fetch->n++] = message;
		return;
	}
	if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF)
		fetch->n_ended++;
	else if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR)
		strlcpy(fetch->client.reason, rd_kafka_message_errstr(message), sizeof(fetch->client.reason));
	rd_kafka_message_destroy(message);
}

bool
fetch_records(Fetch *fetch, const Inquiry *inquiry, List *offsets, int count)
{
	memset(fetch, 0, sizeof(*fetch));
	if (!kafka_client_open(&fetch->client, inquiry->options, modest) || !start(fetch, inquiry, offsets, count))
		return false;
	fetch->room = count;
	fetch->messages = palloc(sizeof(rd_kafka_message_t *) * count);
	while (fetch->n < count && fetch->n_ended < fetch->n_partitions)
	{
		int			wait = inquiry_time_left(inquiry, POLL_MS);
		rd_kafka_message_t *message = wait > 0 ? rd_kafka_consume_queue(fetch->queue, wait) : NULL;

		if (message != NULL)
			take(fetch, message);
		else if (wait <= 0 || fetch->client.refused)
			break;
		else
			(void) kafka_client_reason(&fetch->client, NULL);
	}
	return fetch->n > 0 || fetch->n_ended == fetch->n_partitions;
}

void
fetch_close(Fetch *fetch)
{
	for (int i = 0; i < fetch->n; i++)
		rd_kafka_message_destroy(fetch->messages[i]);
	fetch->n = 0;
	for (int i = 0; i < fetch->n_partitions; i++)
	{
		(void) rd_kafka_consume_stop(fetch->topics[i], fetch->partitions[i]);
		rd_kafka_topic_destroy(fetch->topics[i]);
	}
	fetch->n_partitions = 0;
	if (fetch->queue != NULL)
		rd_kafka_queue_destroy(fetch->queue);
	fetch->queue = NULL;
	kafka_client_close(&fetch->client);
}
