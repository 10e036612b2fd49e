/*
 * consumer_topic.c
 *		Looks at the topic now and then: is it there, who leads it, are there new partitions, where do they start.
 *
 * Owns the questions of offsets, and when the next look is due.  A look is a request or two and takes
 * a millisecond when all is well; when nobody answers, it is not tried often.  Called by consumer.c.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "consumer_internal.h"
#include "source_api.h"

#define PATIENCE_MS 500
#define LOOK_EVERY_MS 5000
#define LOOK_FOR_TOPIC_MS 1000
#define EVENTS_EVERY_MS 500
#define QUERY_MS 2000

/* milliseconds since 1970 */
#define UNIX_MS(time) ((time) / 1000 + (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY * 1000)

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
		consumer_unreachable(consumer, rd_kafka_err2str(error));
	return error == RD_KAFKA_RESP_ERR_NO_ERROR;
}

bool
consumer_owns(const ConsumerPartition *partition)
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
	return consumer_owns(partition) && partition->end < 0;
}

bool
consumer_find_ends(Consumer *consumer, bool (*wanted) (const ConsumerPartition *))
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

/* the topic, not the broker, is what is amiss */
static void
topic_amiss(Consumer *consumer, const char *what)
{
	consumer->reachable = false;
	consumer->next_look = GetCurrentTimestamp() + MS(LOOK_FOR_TOPIC_MS);
	consumer_set_state(consumer, WORKER_WAITING, "topic \"%s\" %s", consumer->topic_name, what);
}

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
		consumer_stop(consumer, consumer_partition(consumer, topic->partition_cnt), "the topic was made again with fewer partitions");
		return false;
	}
	consumer_know_partitions(consumer, topic->partition_cnt);
	for (int i = 0; i < topic->partition_cnt; i++)
	{
		ConsumerPartition *partition = consumer_partition(consumer, topic->partitions[i].id);

		if (partition == NULL || !consumer_owns(partition) || topic->partitions[i].leader >= 0)
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
		consumer_unreachable(consumer, rd_kafka_err2str(error));
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
	if (!look_at_topic(consumer) || !find_starts(consumer) || !consumer_find_ends(consumer, has_no_end))
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
	consumer_set_running(consumer);
}

/* ---------------------------------------------------------------- each round */

void
consumer_attend(Consumer *consumer)
{
	TimestampTz now = GetCurrentTimestamp();

	if (consumer->stopped)
		return;
	consumer_hear_question(consumer);
	hear_events(consumer, now);
	if (now >= consumer->next_look)
		look(consumer);
	consumer_start_what_is_due(consumer);
	consumer_set_targets(consumer);
	consumer_set_running(consumer);
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
