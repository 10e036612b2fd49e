/*
 * consumer.c
 *		Batches out of Kafka: takes what has arrived, says when a batch is whole, keeps its positions.
 *
 * Owns the librdkafka handle and the messages of the batch in hand.  Position, here and in the
 * table, only ever moves over what was handed out and committed; consumer_share.c, consumer_topic.c,
 * consumer_read.c and consumer_lag.c do all that asks the broker something or meets an error.  Never throws from
 * where messages are taken, so that none is lost.  Called by source_main.c.
 *
 * The partitions are read with librdkafka's simple interface: nothing joins or looks for a consumer
 * group, so no rights on one are needed and no rebalance comes.  All partitions feed one queue.
 *
 * When is a batch whole?  When it is full; or when everything that Kafka holds has been taken.  Then
 * the next batch is not begun at once: it waits until twice the time has passed that the last one
 * took to commit, or 5 ms.  So at a trickle a record is committed at once, and in a steady stream
 * one commit takes many records along.
 */
#include "postgres.h"

#include <fcntl.h>
#include <unistd.h>

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "consumer_internal.h"
#include "record.h"

#define TAKE_AT_ONCE 1000
#define IDLE_MS 1000
#define SHORTEST_REST_US 5000

/* what a message costs beside its bytes, here and in librdkafka */
#define MESSAGE_OVERHEAD 300

#define MOST_PAYLOAD (12 * 1024 * 1024)

/* ---------------------------------------------------------------- open and close */

/* librdkafka writes to it from its threads, and must not be held up by us */
static void
open_pipe(Consumer *consumer)
{
	if (pipe(consumer->wake) != 0 ||
		fcntl(consumer->wake[0], F_SETFL, O_NONBLOCK) != 0 || fcntl(consumer->wake[1], F_SETFL, O_NONBLOCK) != 0 ||
		fcntl(consumer->wake[0], F_SETFD, FD_CLOEXEC) != 0 || fcntl(consumer->wake[1], F_SETFD, FD_CLOEXEC) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not make a pipe: %m")));
}

void
consumer_drop_batch(Consumer *consumer)
{
	for (int i = 0; i < consumer->n_messages; i++)
		rd_kafka_message_destroy(consumer->messages[i]);
	consumer->n_messages = 0;
	consumer->bytes = 0;
	consumer->handed_out_at = 0;
	for (int i = 0; i < consumer->n_partitions; i++)
	{
		ConsumerPartition *partition = consumer->partitions[i];

		partition->taken = 0;
		partition->last = NULL;
		partition->gap_to = 0;
		partition->row = NULL;
	}
	consumer->news = false;
}

/* its threads have to be gone before the process runs its exit handlers */
static void
close_at_exit(int code, Datum arg)
{
	Consumer   *consumer = (Consumer *) DatumGetPointer(arg);

	if (consumer->client.rk == NULL)
		return;
	consumer_group_close(consumer);
	consumer_drop_batch(consumer);
	consumer_close_client(consumer);
}

static List *
copy_texts(List *texts)
{
	List	   *copy = NIL;
	ListCell   *cell;

	foreach(cell, texts)
		copy = lappend(copy, pstrdup(lfirst(cell)));
	return copy;
}

static void
remember(Consumer *consumer, WorkerSlot *slot, const Source *source)
{
	consumer->slot = slot;
	consumer->source = pstrdup(source->name);
	consumer->named = copy_texts(source->topics);
	consumer->matcher = source_topics_matcher(consumer->named);
	consumer->start_at = pstrdup(source->start_at);
	consumer->worker_no = slot->worker_no;
	consumer->n_workers = Max(slot->n_workers, 1);
	consumer->n_only = source->n_partitions;
	if (source->partitions != NULL)
	{
		consumer->only = palloc(sizeof(int32) * Max(source->n_partitions, 1));
		memcpy(consumer->only, source->partitions, sizeof(int32) * source->n_partitions);
	}
	consumer->patience_ms = 500;
	consumer->state = WORKER_STARTING;
}

static bool
open_client(Consumer *consumer)
{
	ListCell   *cell;

	if (!consumer_open_client(consumer))
	{
		worker_set_error(consumer->slot, consumer->client.reason);
		worker_set_state(consumer->slot, WORKER_STOPPED, consumer->client.reason);
		return false;
	}
	foreach(cell, consumer->named)
		if (!source_topic_is_pattern(lfirst(cell)))
			(void) consumer_know_topic(consumer, lfirst(cell));
	before_shmem_exit(close_at_exit, PointerGetDatum(consumer));
	return true;
}

Consumer *
consumer_open(WorkerSlot *slot, const Source *source, List *options, List *offsets)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "clickstream consumer", ALLOCSET_DEFAULT_SIZES);
	MemoryContext before = MemoryContextSwitchTo(context);
	Consumer   *consumer = palloc0(sizeof(Consumer));

	consumer->context = context;
	consumer->options = copyObject(options);
	remember(consumer, slot, source);
	open_pipe(consumer);
	if (!open_client(consumer))
	{
		close(consumer->wake[0]);
		close(consumer->wake[1]);
		MemoryContextSwitchTo(before);
		MemoryContextDelete(context);
		return NULL;
	}
	consumer_group_open(consumer, source);
	MemoryContextSwitchTo(before);
	consumer_rewind(consumer, offsets);
	return consumer;
}

/* the last record before the position, and where it is not known, 0 */
void
consumer_last_record(ConsumerPartition *partition, TimestampTz *timestamp, int64 *hash)
{
	Record		record;

	*timestamp = partition->last_timestamp;
	*hash = partition->last_hash;
	if (partition->last == NULL)
		return;
	record_of_message(&record, partition->last);
	*timestamp = record_time(&record);
	*hash = record_hash(&record);
}

/* ---------------------------------------------------------------- taking messages */

/* the one it belongs to; NULL when it does not belong to the batch */
static ConsumerPartition *
sift(Consumer *consumer, rd_kafka_message_t *message)
{
	ConsumerTopic *topic = message->rkt ? rd_kafka_topic_opaque(message->rkt) : NULL;
	ConsumerPartition *partition = topic ? consumer_partition(topic, message->partition) : NULL;

	if (unlikely(message->err != RD_KAFKA_RESP_ERR_NO_ERROR))
	{
		consumer_take_error(consumer, partition, message);
		return NULL;
	}
	if (unlikely(partition == NULL || partition->state != PARTITION_READING))
		return NULL;
	if (unlikely(message->offset < partition->position))
	{
		if (partition->check && message->offset == partition->position - 1)
			consumer_check_last(consumer, partition, message);
		return NULL;
	}
	partition->check = partition->unchecked = false;
	partition->attempts = 0;
	partition->position = message->offset + 1;
	partition->taken++;
	partition->last = message;
	consumer->bytes += message->len + message->key_len + MESSAGE_OVERHEAD;
	return partition;
}

static void
make_room(Consumer *consumer, int max_rows)
{
	if (consumer->room >= max_rows)
		return;
	if (consumer->messages == NULL)
	{
		consumer->messages = MemoryContextAllocHuge(consumer->context, sizeof(rd_kafka_message_t *) * max_rows);
		consumer->slots = MemoryContextAllocHuge(consumer->context, sizeof(int32) * max_rows);
	}
	else
	{
		consumer->messages = repalloc_huge(consumer->messages, sizeof(rd_kafka_message_t *) * max_rows);
		consumer->slots = repalloc_huge(consumer->slots, sizeof(int32) * max_rows);
	}
	consumer->room = max_rows;
}

/* librdkafka writes again once the queue was empty: so empty the pipe first, and then the queue */
static void
empty_pipe(Consumer *consumer)
{
	char		bytes[64];

	while (read(consumer->wake[0], bytes, sizeof(bytes)) == sizeof(bytes))
		;
}

/* what records weigh beside their number: a copy or two of them is made while they become rows */
static bool
is_full(const Consumer *consumer, int max_rows, size_t max_bytes)
{
	return consumer->n_messages >= max_rows || consumer->bytes >= max_bytes ||
		consumer->bytes - consumer->n_messages * (size_t) MESSAGE_OVERHEAD >= MOST_PAYLOAD;
}

static void
take(Consumer *consumer, int max_rows, size_t max_bytes)
{
	size_t		bytes_before = consumer->bytes,
				expanded = 0;

	empty_pipe(consumer);
	while (!is_full(consumer, max_rows, max_bytes))
	{
		rd_kafka_message_t **first = consumer->messages + consumer->n_messages;
		ssize_t		n = rd_kafka_consume_batch_queue(consumer->queue, 0, first,
													 Min(TAKE_AT_ONCE, max_rows - consumer->n_messages));

		if (n <= 0)
			break;
		for (ssize_t i = 0; i < n; i++)
		{
			rd_kafka_message_t *message = first[i];
			ConsumerPartition *partition = sift(consumer, message);

			expanded += message->len + message->key_len;
			if (likely(partition != NULL))
			{
				consumer->slots[consumer->n_messages] = partition->slot;
				consumer->messages[consumer->n_messages++] = message;
			}
			else
				rd_kafka_message_destroy(message);
		}
	}
	consumer->bytes_since_nudge += consumer->bytes - bytes_before;
	consumer->expanded_bytes += expanded;
}

/* ---------------------------------------------------------------- waiting */

/* false when the latch was set: somebody wants something */
static bool
sleep_until(Consumer *consumer, TimestampTz until, bool or_more)
{
	long		ms = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until);
	int			events = WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH | (or_more ? WL_SOCKET_READABLE : 0);
	int			happened = WaitLatchOrSocket(MyLatch, events, or_more ? consumer->wake[0] : PGINVALID_SOCKET,
											 Max(ms, 1), compat_wait_event("ClickstreamKafkaFetch"));

	if (happened & WL_LATCH_SET)
	{
		ResetLatch(MyLatch);
		return false;
	}
	return true;
}

/* until when the batch may grow, when all that was there has been taken */
static TimestampTz
grow_until(Consumer *consumer, TimestampTz first, int max_wait_ms, bool *behind)
{
	TimestampTz latest = first + (TimestampTz) max_wait_ms * 1000,
				rested = consumer->committed_at + Max(2 * consumer->last_effort, SHORTEST_REST_US);

	*behind = consumer_is_behind(consumer);
	return *behind ? latest : Min(latest, rested);
}

/* true once the batch is whole, else after a sleep that something may have ended */
static bool
is_whole(Consumer *consumer, TimestampTz begin, TimestampTz *first, int max_wait_ms)
{
	TimestampTz now = GetCurrentTimestamp(),
				until = begin + IDLE_MS * 1000;
	bool		or_more = true;

	if (consumer->n_messages > 0)
	{
		if (*first == 0)
			*first = now;
		until = grow_until(consumer, *first, max_wait_ms, &or_more);
	}
	else if (consumer->news)
		return true;
	if (until <= now)
		return true;
	return !sleep_until(consumer, Min(until, consumer_next_attention(consumer)), or_more);
}

/*
 * Where a topic may have been made anew, nothing that was taken since counts: all is read again from
 * what is committed, and the record before that is compared first.  Librdkafka tells of it before it
 * hands out a record that came later.
 */
static bool
is_in_doubt(Consumer *consumer)
{
	if (kafka_client_lost_leader(&consumer->client))
		consumer->doubtful = true;
	if (!consumer->doubtful)
		return false;
	consumer->doubtful = false;
	consumer_drop_batch(consumer);
	for (int i = 0; i < consumer->n_partitions; i++)
	{
		ConsumerPartition *partition = consumer->partitions[i];

		if (partition->state < PARTITION_IDLE)
			continue;
		partition->position = partition->committed;
		partition->unchecked = false;
		if (partition->state == PARTITION_READING)
			partition->state = PARTITION_IDLE;
	}
	return true;
}

int
consumer_fetch(Consumer *consumer, rd_kafka_message_t ***messages, const int32 **slots, int max_rows,
			   size_t max_bytes, int max_wait_ms)
{
	TimestampTz begin = GetCurrentTimestamp(),
				first = 0;

	make_room(consumer, max_rows);
	while (consumer->handed_out_at == 0)
	{
		if (consumer->n_messages == 0)
			consumer_mend_size(consumer);
		consumer_attend(consumer);
		take(consumer, max_rows, max_bytes);
		consumer_nudge(consumer);
		if ((is_full(consumer, max_rows, max_bytes) || consumer_size_is_wrong(consumer) ||
			 is_whole(consumer, begin, &first, max_wait_ms)) &&
			!is_in_doubt(consumer))
			break;
	}
	if (consumer->n_messages > 0)
	{
		if (consumer->handed_out_at == 0)
			consumer->handed_out_at = GetCurrentTimestamp();
		consumer_refresh_lag(consumer);
	}
	*messages = consumer->messages;
	*slots = consumer->slots;
	return consumer->n_messages;
}

/* ---------------------------------------------------------------- in and after the transaction */

bool
consumer_has_news(const Consumer *consumer)
{
	return consumer->news;
}

SourceOffset *
consumer_offset(Consumer *consumer, int32 slot)
{
	ConsumerPartition *partition = consumer->partitions[slot];

	if (partition->row == NULL)
		elog(ERROR, "no row of offsets for partition %d of topic \"%s\"", partition->number, partition->topic->name);
	return partition->row;
}

static SourceOffset *
new_row(const ConsumerPartition *partition)
{
	SourceOffset *row = palloc0(sizeof(SourceOffset));

	row->topic = pstrdup(partition->topic->name);
	row->partition = partition->number;
	row->start_offset = partition->position;
	row->next_offset = partition->position;
	row->changed = true;
	return row;
}

static void
move_row(ConsumerPartition *partition)
{
	SourceOffset *row = partition->row;

	row->next_offset = partition->position;
	row->messages += partition->taken;
	consumer_last_record(partition, &row->last_timestamp, &row->last_hash);
	row->changed = true;
}

List *
consumer_record(Consumer *consumer, const char *source, List *offsets)
{
	for (int i = 0; i < consumer->n_partitions; i++)
	{
		ConsumerPartition *partition = consumer->partitions[i];

		if (partition->gap_to > 0)
			catalog_gap_insert(source, partition->topic->name, partition->number, partition->gap_from, partition->gap_to);
		if (partition->state == PARTITION_NEW)
			offsets = lappend(offsets, new_row(partition));
		else if (partition->row != NULL && partition->position != partition->committed)
			move_row(partition);
	}
	return offsets;
}

/* a new partition is shared out in the next transaction, by its place among all rows */
static void
settle(Consumer *consumer, ConsumerPartition *partition)
{
	if (partition->state == PARTITION_FOREIGN || partition->state == PARTITION_UNKNOWN)
		return;
	consumer_last_record(partition, &partition->last_timestamp, &partition->last_hash);
	partition->committed = partition->position;
	if (partition->state != PARTITION_NEW)
		return;
	consumer->any_row = true;
	partition->state = consumer->n_workers == 1 ? PARTITION_IDLE : PARTITION_UNKNOWN;
}

void
consumer_committed(Consumer *consumer)
{
	bool		had_messages = consumer->n_messages > 0,
				to_share = consumer_shares_out(consumer);

	for (int i = 0; i < consumer->n_partitions; i++)
		settle(consumer, consumer->partitions[i]);
	consumer->committed_at = GetCurrentTimestamp();
	if (had_messages)
		consumer->last_effort = consumer->committed_at - consumer->handed_out_at;
	consumer_drop_batch(consumer);
	consumer->news = to_share;

	consumer_tell_lag(consumer);
	consumer_answer(consumer);
}
