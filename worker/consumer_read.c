/*
 * consumer_read.c
 *		Where each partition is read from, and what becomes of errors: gaps, doubts, tries again.
 *
 * An error never moves a position: a partition is read again from where it stood.  Only three things
 * move it without a record: the end of the partition (what lies before it are markers and holes),
 * a gap that Kafka's retention tore (recorded), and a person's seek.  Called by consumer.c.
 *
 * Each time a partition is begun, the record before its position is asked for first and compared
 * with what is kept of it: a topic that was deleted and made again is noticed even where it has as
 * many records as before.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "consumer_internal.h"
#include "record.h"

#define QUERY_MS 2000

/* so often must Kafka say that a partition ends before our position until it is believed */
#define DOUBTS 3

/* enough taken from the queue, and long enough ago, that librdkafka may have stopped to fill it */
#define NUDGE_BYTES (1024 * 1024)
#define NUDGE_EVERY_US 5000

static void
start_reading(Consumer *consumer, ConsumerPartition *partition)
{
	int64		from = partition->position,
				hash;
	TimestampTz timestamp;

	consumer_last_record(partition, &timestamp, &hash);
	partition->check = from > 0 && !partition->unchecked && (timestamp != 0 || hash != 0);
	if (partition->check)
		from--;
	if (partition->started)
		(void) rd_kafka_consume_stop(partition->topic->handle, partition->number);
	partition->started = rd_kafka_consume_start_queue(partition->topic->handle, partition->number, from, consumer->queue) == 0;
	partition->out_of_range = false;
	partition->state = PARTITION_READING;
	if (!partition->started)
	{
		partition->state = PARTITION_BROKEN;
		partition->retry_at = GetCurrentTimestamp() + consumer_pause_for(partition->attempts++);
	}
}

static void
break_off(ConsumerPartition *partition, bool out_of_range)
{
	partition->state = PARTITION_BROKEN;
	partition->out_of_range = out_of_range;
	partition->retry_at = GetCurrentTimestamp() + consumer_pause_for(partition->attempts++);
}

/* the record before our position came again: is it the one that we know? */
void
consumer_check_last(Consumer *consumer, ConsumerPartition *partition, rd_kafka_message_t *message)
{
	Record		record;
	TimestampTz timestamp;
	int64		hash;

	consumer_last_record(partition, &timestamp, &hash);
	record_of_message(&record, message);
	partition->check = false;
	partition->attempts = 0;
	if (record_time(&record) == timestamp && record_hash(&record) == hash)
		return;
	partition->state = PARTITION_BROKEN;
	consumer_stop(consumer, partition, "the last record read is another one now, so the topic was deleted and made again");
}

static void
take_end(Consumer *consumer, ConsumerPartition *partition, int64 end)
{
	if (partition == NULL || partition->state != PARTITION_READING)
		return;
	if (end < partition->position)
	{
		break_off(partition, true);
		return;
	}
	partition->check = false;
	partition->attempts = 0;
	partition->end = Max(partition->end, end);
	if (end > partition->position)
		consumer->news = true;
	partition->position = end;
}

void
consumer_take_error(Consumer *consumer, ConsumerPartition *partition, const rd_kafka_message_t *message)
{
	if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF)
	{
		take_end(consumer, partition, message->offset);
		return;
	}
	if (partition != NULL && partition->state != PARTITION_READING)
		return;
	consumer->next_look = 0;
	if (partition != NULL)
		break_off(partition, message->err == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET ||
				  message->err == RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE);
	if (partition != NULL && partition->out_of_range)
		partition->retry_at = 0;	/* nothing wrong with the broker: ask at once */
	else
		consumer_set_state(consumer, WORKER_WAITING, "topic \"%s\", partition %d: %s",
						   partition ? partition->topic->name : message->rkt ? rd_kafka_topic_name(message->rkt) : "?",
						   message->partition, rd_kafka_err2str(message->err));
}

static void
tear_gap(Consumer *consumer, ConsumerPartition *partition, int64 low)
{
	ereport(LOG,
			(errmsg("source \"%s\" goes on at offset " INT64_FORMAT " of partition %d of topic \"%s\"",
					consumer->source, low, partition->number, partition->topic->name),
			 errdetail("Kafka had deleted the offsets from " INT64_FORMAT " on before they were read.", partition->position)));
	partition->gap_from = partition->position;
	partition->gap_to = low;
	partition->position = low;
	partition->unchecked = true;
	partition->attempts = 0;
	partition->state = PARTITION_IDLE;
	consumer->news = true;
}

/* Kafka holds nothing at our position: before it, after it, or it changed its mind */
static void
find_range(Consumer *consumer, ConsumerPartition *partition)
{
	int64		low,
				high;
	char		why[128];
	rd_kafka_resp_err_t error = rd_kafka_query_watermark_offsets(consumer->client.rk, partition->topic->name,
																 partition->number, &low, &high, QUERY_MS);

	if (error != RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		break_off(partition, true);
		consumer_unreachable(consumer, rd_kafka_err2str(error));
	}
	else if (partition->position < low)
		tear_gap(consumer, partition, low);
	else if (partition->position <= high)
	{
		/* only where the record before it is gone, too, can it not be compared */
		partition->unchecked = partition->position == low;
		start_reading(consumer, partition);
	}
	else if (partition->attempts < DOUBTS)
		break_off(partition, true);
	else
	{
		snprintf(why, sizeof(why), "it ends at offset " INT64_FORMAT " now", high);
		consumer_stop(consumer, partition, why);
	}
}

/* what is idle and what broke is read again; a gap and a new partition are recorded first */
void
consumer_start_what_is_due(Consumer *consumer)
{
	TimestampTz now = GetCurrentTimestamp();

	for (int i = 0; i < consumer->n_partitions && consumer->reachable; i++)
	{
		ConsumerPartition *partition = consumer->partitions[i];

		if (!partition->topic->there || partition->topic->stopped)
			continue;
		if (partition->state == PARTITION_IDLE && partition->gap_to == 0)
			start_reading(consumer, partition);
		else if (partition->state == PARTITION_BROKEN && partition->retry_at <= now)
		{
			if (partition->out_of_range)
				find_range(consumer, partition);
			else
				start_reading(consumer, partition);
		}
	}
}

/*
 * librdkafka's threads stop to fetch when the queue is full, and up to 2.1 look again only after a
 * second.  A request to the brokers we read from wakes them; nobody waits for its answer.
 */
void
consumer_nudge(Consumer *consumer)
{
	TimestampTz now = GetCurrentTimestamp();
	rd_kafka_topic_partition_list_t *list;

	if (consumer->bytes_since_nudge < NUDGE_BYTES || !consumer->reachable || now < consumer->next_nudge)
		return;
	consumer->bytes_since_nudge = 0;
	consumer->next_nudge = now + NUDGE_EVERY_US;
	list = rd_kafka_topic_partition_list_new(consumer->n_partitions);
	for (int i = 0; i < consumer->n_partitions; i++)
	{
		ConsumerPartition *partition = consumer->partitions[i];

		if (partition->state == PARTITION_READING)
			rd_kafka_topic_partition_list_add(list, partition->topic->name, partition->number)->offset = AT_END;
	}
	if (list->cnt > 0)
		(void) rd_kafka_offsets_for_times(consumer->client.rk, list, 0);
	rd_kafka_topic_partition_list_destroy(list);
}
