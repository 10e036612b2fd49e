/*
 * consumer_broker.c
 *		What the consumer asks the broker, and what becomes of errors: states, gaps, tries again.
 *
 * Owns the slot's state as far as Kafka is concerned, and where each partition is read from.  An
 * error never moves a position: a partition is read again from where it stood.  Only three things
 * move it without a record: the end of the partition (what lies before it are markers and holes),
 * a gap that Kafka's retention tore (recorded), and a person's seek.  Called by consumer.c.
 *
 * Each time a partition is begun, the record before its position is asked for first and compared
 * with what is kept of it: a topic that was deleted and made again is noticed even where it has as
 * many records as before.
 */
#include "postgres.h"

#include "storage/condition_variable.h"
#include "utils/timestamp.h"

#include "consumer_internal.h"
#include "record.h"
#include "source_api.h"

#define MS(n) ((int64) (n) * 1000)

#define PATIENCE_MS 500
#define LONGEST_PATIENCE_MS 2000
#define LONGEST_PAUSE_MS 3000
#define LOOK_EVERY_MS 5000
#define LOOK_FOR_TOPIC_MS 1000
#define EVENTS_EVERY_MS 500
#define ENDS_EVERY_MS 200
#define QUERY_MS 2000

/* so often must Kafka say that a partition ends before our position until it is believed */
#define DOUBTS 3

/* enough taken from the queue that librdkafka may have stopped to fill it */
#define NUDGE_BYTES (256 * 1024)

/* what Kafka takes for a time, to say the ends of a partition */
#define AT_BEGIN ((int64) -2)
#define AT_END ((int64) -1)

/* milliseconds since 1970 */
#define UNIX_MS(time) ((time) / 1000 + (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY * 1000)

/* ---------------------------------------------------------------- states */

/* one line in the log for each change of state, not for each change of its reason */
static void
log_state(const Consumer *consumer, WorkerState before)
{
	if (consumer->state == WORKER_RUNNING && before != WORKER_STARTING)
		ereport(LOG, (errmsg("source \"%s\" reads topic \"%s\" again", consumer->source, consumer->topic_name)));
	else if (consumer->state != WORKER_RUNNING)
		ereport(LOG, (errmsg("source \"%s\": %s", consumer->source, consumer->detail)));
}

static void
set_state(Consumer *consumer, WorkerState state, const char *detail)
{
	WorkerState before = consumer->state;

	if (detail == NULL)
		detail = "";
	if (state == before && strcmp(detail, consumer->detail) == 0)
		return;
	consumer->state = state;
	strlcpy(consumer->detail, detail, sizeof(consumer->detail));
	if (state == WORKER_WAITING || state == WORKER_CONNECTING || state == WORKER_STOPPED)
		worker_set_error(consumer->slot, detail);
	worker_set_state(consumer->slot, state, detail[0] != '\0' ? detail : NULL);
	if (state != before)
		log_state(consumer, before);
}

static void set_state_to(Consumer *consumer, WorkerState state, const char *format,...) pg_attribute_printf(3, 4);

static void
set_state_to(Consumer *consumer, WorkerState state, const char *format,...)
{
	char		text[WORKER_TEXT_LENGTH];
	va_list		arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	set_state(consumer, state, text);
}

/* 100 ms at first, then twice as long each time */
static int64
pause_for(int attempts)
{
	return MS(Min(100 << Min(attempts, 10), LONGEST_PAUSE_MS));
}

static bool
any_broken(const Consumer *consumer)
{
	for (int i = 0; i < consumer->n_partitions; i++)
		if (consumer->partitions[i].state == PARTITION_BROKEN || consumer->partitions[i].attempts > 0)
			return true;
	return false;
}

static void
set_running(Consumer *consumer)
{
	if (consumer->stopped || !consumer->reachable || any_broken(consumer))
		return;
	consumer->client.reason[0] = '\0';
	set_state(consumer, WORKER_RUNNING, NULL);
}

static void
unreachable(Consumer *consumer, const char *otherwise)
{
	consumer->reachable = false;
	consumer->next_look = GetCurrentTimestamp() + pause_for(consumer->attempts++);
	consumer->patience_ms = Min(consumer->patience_ms * 2, LONGEST_PATIENCE_MS);
	set_state_to(consumer, consumer->reached_once ? WORKER_WAITING : WORKER_CONNECTING, "Kafka does not answer: %s",
				 kafka_client_reason(&consumer->client, otherwise));
}

/* the topic, not the broker, is what is amiss */
static void
topic_amiss(Consumer *consumer, const char *what)
{
	consumer->reachable = false;
	consumer->next_look = GetCurrentTimestamp() + MS(LOOK_FOR_TOPIC_MS);
	set_state_to(consumer, WORKER_WAITING, "topic \"%s\" %s", consumer->topic_name, what);
}

static void
stop(Consumer *consumer, const ConsumerPartition *partition, const char *why)
{
	consumer->stopped = true;
	set_state_to(consumer, WORKER_STOPPED,
				 "partition %d of topic \"%s\" is not the one that was read up to offset " INT64_FORMAT
				 ": %s; run clickstream.seek_source to say where to go on, or clickstream.drop_source",
				 partition->number, consumer->topic_name, partition->position, why);
}

/* ---------------------------------------------------------------- questions of offsets */

static rd_kafka_topic_partition_list_t *
list_of(Consumer *consumer, bool (*wanted) (const ConsumerPartition *))
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(Max(consumer->n_partitions, 1));

	for (int i = 0; i < consumer->n_partitions; i++)
		if (wanted(&consumer->partitions[i]))
			rd_kafka_topic_partition_list_add(list, consumer->topic_name, i);
	return list;
}

/* the offset of each partition at a time, or AT_BEGIN or AT_END, one request a broker; false when nobody says */
static bool
ask_offsets(Consumer *consumer, rd_kafka_topic_partition_list_t *list, int64 at)
{
	rd_kafka_resp_err_t error;

	if (list->cnt == 0)
		return true;
	for (int i = 0; i < list->cnt; i++)
		list->elems[i].offset = at;
	error = rd_kafka_offsets_for_times(consumer->client.rk, list, QUERY_MS);
	for (int i = 0; error == RD_KAFKA_RESP_ERR_NO_ERROR && i < list->cnt; i++)
		error = list->elems[i].err;
	if (error != RD_KAFKA_RESP_ERR_NO_ERROR)
		unreachable(consumer, rd_kafka_err2str(error));
	return error == RD_KAFKA_RESP_ERR_NO_ERROR;
}

static bool
is_ours(const ConsumerPartition *partition)
{
	return partition->state != PARTITION_FOREIGN;
}

static bool
is_unknown(const ConsumerPartition *partition)
{
	return partition->state == PARTITION_UNKNOWN;
}

static bool
has_no_end(const ConsumerPartition *partition)
{
	return is_ours(partition) && partition->end < 0;
}

static bool
find_ends(Consumer *consumer, bool (*wanted) (const ConsumerPartition *))
{
	rd_kafka_topic_partition_list_t *list = list_of(consumer, wanted);
	bool		found = ask_offsets(consumer, list, AT_END);

	for (int i = 0; found && i < list->cnt; i++)
		consumer->partitions[list->elems[i].partition].end = list->elems[i].offset;
	rd_kafka_topic_partition_list_destroy(list);
	return found;
}

/* ---------------------------------------------------------------- where new partitions start */

/* what start_at names by itself, or -1 */
static int64
named_start(const SourcePosition *position, int32 partition)
{
	ListCell   *cell;

	foreach(cell, position->offsets)
	{
		PartitionOffset *offset = lfirst(cell);

		if (offset->partition == partition)
			return offset->offset;
	}
	return -1;
}

static void
take_starts(Consumer *consumer, const rd_kafka_topic_partition_list_t *list, const SourcePosition *position)
{
	for (int i = 0; i < list->cnt; i++)
	{
		ConsumerPartition *partition = &consumer->partitions[list->elems[i].partition];
		int64		named = named_start(position, partition->number);

		partition->committed = partition->position = named >= 0 ? named : list->elems[i].offset;
		partition->last_timestamp = 0;
		partition->last_hash = 0;
		partition->state = PARTITION_NEW;
	}
	consumer->news = consumer->news || list->cnt > 0;
}

/* a time after the last record is answered by -1: the end */
static bool
ends_for_none(Consumer *consumer, rd_kafka_topic_partition_list_t *list)
{
	rd_kafka_topic_partition_list_t *ends = rd_kafka_topic_partition_list_copy(list);
	bool		found = ask_offsets(consumer, ends, AT_END);

	for (int i = 0; found && i < list->cnt; i++)
		if (list->elems[i].offset < 0)
			list->elems[i].offset = ends->elems[i].offset;
	rd_kafka_topic_partition_list_destroy(ends);
	return found;
}

static bool
ask_starts(Consumer *consumer, rd_kafka_topic_partition_list_t *list, const SourcePosition *position)
{
	switch (position->kind)
	{
		case POSITION_LATEST:
			return ask_offsets(consumer, list, AT_END);
		case POSITION_TIME:
			return ask_offsets(consumer, list, UNIX_MS(position->time)) && ends_for_none(consumer, list);
		default:
			return ask_offsets(consumer, list, AT_BEGIN);
	}
}

/*
 * A partition that appears later starts at its beginning.  A source without any offset was made
 * while Kafka did not answer: start_at is settled now, once and for all partitions, by worker 0
 * alone, so that no two of them settle it at different times.
 */
static bool
find_starts(Consumer *consumer)
{
	SourcePosition beginning = {POSITION_EARLIEST},
			   *position = &beginning;
	rd_kafka_topic_partition_list_t *list;
	bool		found;

	if (!consumer->any_row && consumer->worker_no != 0)
		return true;
	if (!consumer->any_row)
	{
		position = source_position_parse(consumer->start_at, "start_at");
		consumer_claim_all(consumer);
		if (consumer->seen_missing && position->kind == POSITION_LATEST)
			position->kind = POSITION_EARLIEST;
	}
	list = list_of(consumer, is_unknown);
	found = ask_starts(consumer, list, position);
	if (found)
		take_starts(consumer, list, position);
	rd_kafka_topic_partition_list_destroy(list);
	return found;
}

/* ---------------------------------------------------------------- reading a partition */

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
		(void) rd_kafka_consume_stop(consumer->topic, partition->number);
	partition->started = rd_kafka_consume_start_queue(consumer->topic, partition->number, from, consumer->queue) == 0;
	partition->out_of_range = false;
	partition->state = PARTITION_READING;
	if (!partition->started)
	{
		partition->state = PARTITION_BROKEN;
		partition->retry_at = GetCurrentTimestamp() + pause_for(partition->attempts++);
	}
}

static void
break_off(ConsumerPartition *partition, bool out_of_range)
{
	partition->state = PARTITION_BROKEN;
	partition->out_of_range = out_of_range;
	partition->retry_at = GetCurrentTimestamp() + pause_for(partition->attempts++);
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
	stop(consumer, partition, "the last record read is another one now, so the topic was deleted and made again");
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
		set_state_to(consumer, WORKER_WAITING, "topic \"%s\", partition %d: %s", consumer->topic_name,
					 message->partition, rd_kafka_err2str(message->err));
}

static void
tear_gap(Consumer *consumer, ConsumerPartition *partition, int64 low)
{
	ereport(LOG,
			(errmsg("source \"%s\" goes on at offset " INT64_FORMAT " of partition %d of topic \"%s\"",
					consumer->source, low, partition->number, consumer->topic_name),
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
	rd_kafka_resp_err_t error = rd_kafka_query_watermark_offsets(consumer->client.rk, consumer->topic_name,
																 partition->number, &low, &high, QUERY_MS);

	if (error != RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		break_off(partition, true);
		unreachable(consumer, rd_kafka_err2str(error));
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
		stop(consumer, partition, why);
	}
}

/* what is idle and what broke is read again; a gap and a new partition are recorded first */
static void
start_what_is_due(Consumer *consumer)
{
	TimestampTz now = GetCurrentTimestamp();

	for (int i = 0; i < consumer->n_partitions && consumer->reachable && !consumer->stopped; i++)
	{
		ConsumerPartition *partition = &consumer->partitions[i];

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

/* ---------------------------------------------------------------- a look at the topic */

/* what was read of a topic that has gone is not to be read on without a check */
static void
topic_missing(Consumer *consumer)
{
	for (int i = 0; i < consumer->n_partitions; i++)
		if (consumer->partitions[i].state == PARTITION_READING || consumer->partitions[i].state == PARTITION_BROKEN)
			consumer->partitions[i].state = PARTITION_IDLE;
	consumer->seen_missing = true;
	topic_amiss(consumer, "does not exist");
}

/* false: there is a reason to wait, and the state says it */
static bool
take_topic(Consumer *consumer, const rd_kafka_metadata_topic_t *topic)
{
	char		text[128];

	if (topic->err == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)
	{
		topic_missing(consumer);
		return false;
	}
	if (topic->err != RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		topic_amiss(consumer, rd_kafka_err2str(topic->err));
		return false;
	}
	if (topic->partition_cnt < consumer->n_partitions)
	{
		snprintf(text, sizeof(text), "has %d partitions now, where it had %d", topic->partition_cnt, consumer->n_partitions);
		topic_amiss(consumer, text);
		return false;
	}
	consumer_know_partitions(consumer, topic->partition_cnt);
	for (int i = 0; i < topic->partition_cnt; i++)
	{
		ConsumerPartition *partition = consumer_partition(consumer, topic->partitions[i].id);

		if (partition == NULL || !is_ours(partition) || topic->partitions[i].leader >= 0)
			continue;
		snprintf(text, sizeof(text), "has no leader for partition %d", partition->number);
		topic_amiss(consumer, text);
		return false;
	}
	return true;
}

static bool
look_at_topic(Consumer *consumer)
{
	const struct rd_kafka_metadata *metadata;
	rd_kafka_resp_err_t error = rd_kafka_metadata(consumer->client.rk, 0, consumer->topic, &metadata, consumer->patience_ms);
	bool		fine;

	if (error != RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		unreachable(consumer, rd_kafka_err2str(error));
		return false;
	}
	fine = metadata->topic_cnt == 1 && take_topic(consumer, &metadata->topics[0]);
	rd_kafka_metadata_destroy(metadata);
	consumer->reached_once = true;
	return fine;
}

/* is the broker there, the topic, are there new partitions?  A millisecond or so when all is well */
static void
look(Consumer *consumer)
{
	consumer->next_look = GetCurrentTimestamp() + MS(LOOK_EVERY_MS);
	if (!look_at_topic(consumer) || !find_starts(consumer) || !find_ends(consumer, has_no_end))
		return;
	consumer->reachable = true;
	consumer->attempts = 0;
	consumer->patience_ms = PATIENCE_MS;
	consumer_tell_lag(consumer);
}

/* librdkafka says what it meets; that alone proves nothing, but is a reason to look */
static void
hear_events(Consumer *consumer, TimestampTz now)
{
	if (now < consumer->next_events)
		return;
	consumer->next_events = now + MS(EVENTS_EVERY_MS);
	if (kafka_client_reason(&consumer->client, NULL) != NULL && consumer->reachable &&
		consumer->state == WORKER_RUNNING)
		consumer->next_look = 0;
	set_running(consumer);
}

/* ---------------------------------------------------------------- ends: lag, and wait_for_source */

static void
refresh_end(Consumer *consumer, ConsumerPartition *partition)
{
	int64		low,
				high;

	if (rd_kafka_get_watermark_offsets(consumer->client.rk, consumer->topic_name, partition->number, &low, &high) == 0 && high >= 0)
		partition->end = high;
}

/* whether Kafka is known to hold more of what the batch has */
bool
consumer_is_behind(Consumer *consumer)
{
	for (int i = 0; i < consumer->n_partitions; i++)
	{
		ConsumerPartition *partition = &consumer->partitions[i];

		if (partition->taken == 0)
			continue;
		refresh_end(consumer, partition);
		if (partition->end > partition->position)
			return true;
	}
	return false;
}

void
consumer_tell_lag(Consumer *consumer)
{
	int64		lag = 0;

	for (int i = 0; i < consumer->n_partitions; i++)
	{
		ConsumerPartition *partition = &consumer->partitions[i];

		if (is_ours(partition) && partition->state != PARTITION_UNKNOWN)
			lag += Max(Max(partition->end, partition->position) - partition->committed, 0);
	}
	if (!consumer->reached_once)
		lag = -1;
	SpinLockAcquire(&consumer->slot->mutex);
	consumer->slot->lag = lag;
	SpinLockRelease(&consumer->slot->mutex);
}

/* what has been fetched of each partition tells where it ends; the batch in hand counts as lag, too */
void
consumer_refresh_lag(Consumer *consumer)
{
	TimestampTz now = GetCurrentTimestamp();

	if (now >= consumer->next_ends)
	{
		consumer->next_ends = now + MS(ENDS_EVERY_MS);
		for (int i = 0; i < consumer->n_partitions; i++)
			if (consumer->partitions[i].state == PARTITION_READING)
				refresh_end(consumer, &consumer->partitions[i]);
	}
	consumer_tell_lag(consumer);
}

/* ends are asked for after the question was seen, partitions too: nothing that was there is left out */
static void
hear_question(Consumer *consumer)
{
	uint64		asked,
				answered;

	SpinLockAcquire(&consumer->slot->mutex);
	asked = consumer->slot->asked;
	answered = consumer->slot->answered;
	SpinLockRelease(&consumer->slot->mutex);
	if (consumer->question == 0 && asked > answered)
	{
		consumer->question = asked;
		consumer->targets_known = false;
		consumer->compared = false;
		consumer->news = true;	/* a seek_source before the question must have been seen */
		if (consumer->reachable)
			consumer->next_look = 0;
	}
}

static void
set_targets(Consumer *consumer)
{
	if (consumer->question == 0 || consumer->targets_known || !consumer->reachable || !find_ends(consumer, is_ours))
		return;
	for (int i = 0; i < consumer->n_partitions; i++)
		consumer->partitions[i].target = consumer->partitions[i].end;
	consumer->targets_known = true;
	consumer_answer(consumer);
}

void
consumer_answer(Consumer *consumer)
{
	if (consumer->question == 0 || !consumer->targets_known || !consumer->compared || consumer->stopped)
		return;
	for (int i = 0; i < consumer->n_partitions; i++)
	{
		ConsumerPartition *partition = &consumer->partitions[i];

		if (is_ours(partition) && (partition->state == PARTITION_UNKNOWN || partition->state == PARTITION_NEW ||
								   partition->committed < partition->target))
			return;
	}
	SpinLockAcquire(&consumer->slot->mutex);
	consumer->slot->answered = Max(consumer->slot->answered, consumer->question);
	SpinLockRelease(&consumer->slot->mutex);
	consumer->question = 0;
	ConditionVariableBroadcast(&consumer->slot->changed);
}

/* ---------------------------------------------------------------- each round */

void
consumer_attend(Consumer *consumer)
{
	TimestampTz now = GetCurrentTimestamp();

	if (consumer->stopped)
		return;
	hear_question(consumer);
	hear_events(consumer, now);
	if (now >= consumer->next_look)
		look(consumer);
	start_what_is_due(consumer);
	set_targets(consumer);
	set_running(consumer);
	consumer_refresh_lag(consumer);
}

/* when the next of these is due, at the latest */
TimestampTz
consumer_next_attention(const Consumer *consumer)
{
	TimestampTz next = consumer->next_look;

	for (int i = 0; i < consumer->n_partitions; i++)
		if (consumer->partitions[i].state == PARTITION_BROKEN)
			next = Min(next, consumer->partitions[i].retry_at);
	return next;
}

/*
 * librdkafka's threads stop to fetch when the queue is full, and up to 2.1 look again only after a
 * second.  A request to the brokers we read from wakes them; nobody waits for its answer.
 */
void
consumer_nudge(Consumer *consumer)
{
	rd_kafka_topic_partition_list_t *list;

	if (consumer->bytes_since_nudge < NUDGE_BYTES || !consumer->reachable)
		return;
	consumer->bytes_since_nudge = 0;
	list = rd_kafka_topic_partition_list_new(consumer->n_partitions);
	for (int i = 0; i < consumer->n_partitions; i++)
		if (consumer->partitions[i].state == PARTITION_READING)
			rd_kafka_topic_partition_list_add(list, consumer->topic_name, i)->offset = AT_END;
	if (list->cnt > 0)
		(void) rd_kafka_offsets_for_times(consumer->client.rk, list, 0);
	rd_kafka_topic_partition_list_destroy(list);
}
