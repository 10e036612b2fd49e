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

/* so much may wait in librdkafka's queues: a preview is no backlog */
static const char *const modest[] = {
	"enable.partition.eof", "true",
	"queued.max.messages.kbytes", "4096",
	"fetch.wait.max.ms", "100",
	NULL
};

static bool
start(Fetch *fetch, List *offsets)
{
	ListCell   *cell;

	fetch->queue = rd_kafka_queue_new(fetch->client.rk);
	fetch->topics = palloc0(sizeof(rd_kafka_topic_t *) * Max(list_length(offsets), 1));
	fetch->partitions = palloc0(sizeof(int) * Max(list_length(offsets), 1));
	foreach(cell, offsets)
	{
		SourceOffset *offset = lfirst(cell);
		rd_kafka_topic_t *topic = rd_kafka_topic_new(fetch->client.rk, offset->topic, NULL);

		fetch->topics[fetch->n_partitions] = topic;
		fetch->partitions[fetch->n_partitions++] = offset->partition;
		if (rd_kafka_consume_start_queue(topic, offset->partition, offset->next_offset, fetch->queue) != 0)
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
	if (!kafka_client_open(&fetch->client, inquiry->options, modest) || !start(fetch, offsets))
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
