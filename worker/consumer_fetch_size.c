/*
 * consumer_fetch_size.c
 *		How much is asked of Kafka at a time, so that there is room for what it expands to.
 *
 * librdkafka takes a reply apart whole, and compressed records may grow to thousands of times their
 * size: a reply of half a megabyte, to gigabytes.  Nothing tells beforehand what is inside, and the size
 * of replies is settled when librdkafka is opened.  So a consumer begins with replies that hold a batch of
 * a producer each, and looks how far they expand.  Where there is a backlog, librdkafka is then opened
 * anew, with replies that expand to a megabyte or so; and with smaller ones, when records come to expand
 * further than that.  A worker that only follows a stream stays with the small ones.
 *
 * Where the connection's options say how much to fetch, that is how much.  Owns librdkafka's settings
 * that the consumer chooses, and the opening of its handle.  Called by consumer.c.
 */
#include "postgres.h"

#include "nodes/parsenodes.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "consumer_internal.h"
#include "worker.h"

/* of a reply: the first batch of records comes whole, whatever its size */
#define SMALLEST_BYTES 2048
#define LARGEST_BYTES (512 * 1024)

/* what a partition's part of a reply is to expand to */
#define WANTED_BYTES (1024 * 1024)

/* so much has to be seen before the size is changed, and so far off must it be */
#define EVIDENCE_BYTES (64 * 1024)
#define WINDOW_BYTES (8 * 1024 * 1024)
#define TOO_FAR 4

/*
 * Of a reply, beside records; so much at the most, as not every partition is in every reply.  It matters
 * where replies are small, and never makes them look smaller than a quarter of what they are.
 */
#define REPLY_BYTES 40
#define PARTITION_BYTES 42
#define LEAST_RECORDS 4

/*
 * How librdkafka is set where the connection says nothing.  The two limits of the queue hold for
 * all partitions together, since they share it; what is under way from the broker comes on top.
 */
static const char *const tuning[] = {
	"enable.partition.eof", "true",
	"debug", "topic",			/* only so can one hear of a partition that its broker does not know */
	"queued.min.messages", "60000",
	"queued.max.messages.kbytes", "8192",
	"receive.message.max.bytes", "2000000000",
	"fetch.wait.max.ms", "50",
	"fetch.error.backoff.ms", "100",
	"reconnect.backoff.ms", "100",
	"reconnect.backoff.max.ms", "2000",
	"topic.metadata.refresh.interval.ms", "30000",
	NULL
};

/* these say how much is fetched; fetch.max.bytes is never less than message.max.bytes */
static const char *const sizes[] = {
	"fetch.message.max.bytes", "max.partition.fetch.bytes", "fetch.max.bytes", "message.max.bytes", NULL
};

static bool
is_given(List *options, const char *name)
{
	ListCell   *cell;

	foreach(cell, options)
		if (strcmp(lfirst_node(DefElem, cell)->defname, name) == 0)
			return true;
	return false;
}

static bool
size_is_given(List *options)
{
	for (int i = 0; sizes[i] != NULL; i++)
		if (is_given(options, sizes[i]))
			return true;
	return false;
}

/* ---------------------------------------------------------------- the handle */

static void
add(const char **pairs, int *n, List *options, const char *name, const char *value)
{
	if (is_given(options, name))
		return;
	pairs[(*n)++] = name;
	pairs[(*n)++] = value;
}

static const char **
settings(const Consumer *consumer)
{
	const char **pairs = palloc0(sizeof(tuning) + sizeof(char *) * 8);
	int			n = 0;

	for (int i = 0; tuning[i] != NULL; i += 2)
		add(pairs, &n, consumer->options, tuning[i], tuning[i + 1]);
	if (size_is_given(consumer->options))
		return pairs;
	add(pairs, &n, NIL, "fetch.message.max.bytes", psprintf("%d", consumer->fetch_bytes));
	add(pairs, &n, NIL, "fetch.max.bytes", psprintf("%d", consumer->fetch_bytes * 2));
	add(pairs, &n, NIL, "message.max.bytes", psprintf("%d", SMALLEST_BYTES));
	return pairs;
}

/* a new handle knows nothing of what was fetched before it */
static void
begin_window(Consumer *consumer)
{
	consumer->expanded_bytes = 0;
	consumer->fetched_before = kafka_client_fetched(&consumer->client, &consumer->fetches_before);
}

bool
consumer_open_client(Consumer *consumer)
{
	MemoryContext before = MemoryContextSwitchTo(consumer->context);
	bool		opened;

	if (consumer->fetch_bytes == 0)
		consumer->fetch_bytes = SMALLEST_BYTES;
	opened = kafka_client_open(&consumer->client, consumer->options, settings(consumer));
	if (opened)
	{
		consumer->queue = rd_kafka_queue_new(consumer->client.rk);
		rd_kafka_queue_io_event_enable(consumer->queue, consumer->wake[1], "1", 1);
		for (int i = 0; i < consumer->n_topics; i++)
			consumer_open_topic(consumer, consumer->topics[i]);
		begin_window(consumer);
	}
	MemoryContextSwitchTo(before);
	return opened;
}

/* no message of it may be in hand */
void
consumer_close_client(Consumer *consumer)
{
	if (consumer->client.rk == NULL)
		return;
	for (int i = 0; i < consumer->n_partitions; i++)
		if (consumer->partitions[i]->started)
			(void) rd_kafka_consume_stop(consumer->partitions[i]->topic->handle, consumer->partitions[i]->number);
	rd_kafka_queue_io_event_enable(consumer->queue, -1, NULL, 0);
	rd_kafka_queue_destroy(consumer->queue);
	for (int i = 0; i < consumer->n_topics; i++)
		rd_kafka_topic_destroy(consumer->topics[i]->handle);
	kafka_client_close(&consumer->client);
}

/* ---------------------------------------------------------------- which size */

/* how many bytes of records came of one byte of replies */
static double
expansion(const Consumer *consumer)
{
	uint64		fetches;
	double		fetched = kafka_client_fetched(&consumer->client, &fetches) - consumer->fetched_before,
				beside = (double) (fetches - consumer->fetches_before) *
		(REPLY_BYTES + PARTITION_BYTES * (double) consumer->n_partitions);

	fetched = Max(fetched - beside, fetched / LEAST_RECORDS);
	return fetched > 0 ? Max(consumer->expanded_bytes / fetched, 1) : 1;
}

static int
right_size(const Consumer *consumer)
{
	return (int) Min(Max(WANTED_BYTES / expansion(consumer), SMALLEST_BYTES), LARGEST_BYTES);
}

/* asked while records are in hand, which tell whether there are more */
bool
consumer_size_is_wrong(Consumer *consumer)
{
	int			size;

	if (consumer->expanded_bytes < EVIDENCE_BYTES || size_is_given(consumer->options))
		return false;
	size = right_size(consumer);
	consumer->wrong_size = size * TOO_FAR <= consumer->fetch_bytes ||
		(size >= consumer->fetch_bytes * TOO_FAR && consumer_is_behind(consumer));
	if (!consumer->wrong_size && consumer->expanded_bytes >= WINDOW_BYTES)
		begin_window(consumer);
	return consumer->wrong_size;
}

/* what was being read is read again from where it stood, as a worker does that starts */
static void
read_again(Consumer *consumer)
{
	for (int i = 0; i < consumer->n_partitions; i++)
	{
		ConsumerPartition *partition = consumer->partitions[i];

		partition->started = false;
		partition->low = partition->high = 0;
		if (partition->state == PARTITION_READING)
			partition->state = PARTITION_IDLE;
	}
	consumer->next_look = 0;
}

void
consumer_mend_size(Consumer *consumer)
{
	if (!consumer->wrong_size)
		return;
	consumer->wrong_size = false;
	consumer->fetch_bytes = right_size(consumer);
	consumer->doubtful |= kafka_client_lost_leader(&consumer->client);
	consumer_group_forget(consumer);
	consumer_close_client(consumer);
	if (!consumer_open_client(consumer))
		worker_leave();
	consumer_group_again(consumer);
	read_again(consumer);
}
