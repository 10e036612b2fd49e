/*
 * consumer_topic.c
 *		Looks at the topics now and then: are they there, who leads them, are there new ones, new
 *		partitions, and where do those start.
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
#define ROWS_EVERY_MS 100
#define QUERY_MS 2000

/* ---------------------------------------------------------------- questions of offsets */

static rd_kafka_topic_partition_list_t *
list_of(Consumer *consumer, bool (*wanted) (const ConsumerPartition *))
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(Max(consumer->n_partitions, 1));

	for (int i = 0; i < consumer->n_partitions; i++)
	{
		ConsumerPartition *partition = consumer->partitions[i];

		if (partition->topic->there && wanted(partition))
			rd_kafka_topic_partition_list_add(list, partition->topic->name, partition->number);
	}
	return list;
}

static ConsumerPartition *
partition_of(Consumer *consumer, const rd_kafka_topic_partition_t *element)
{
	return consumer_partition(consumer_topic(consumer, element->topic), element->partition);
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
		partition_of(consumer, &list->elems[i])->end = list->elems[i].offset;
	rd_kafka_topic_partition_list_destroy(list);
	return found;
}

/* ---------------------------------------------------------------- where new partitions start */

/* what start_at names by itself, or -1 */
static int64
named_start(const SourcePosition *position, const ConsumerPartition *partition)
{
	ListCell   *cell;

	foreach(cell, position->offsets)
	{
		PartitionOffset *offset = lfirst(cell);

		if (offset->partition == partition->number &&
			(offset->topic == NULL || strcmp(offset->topic, partition->topic->name) == 0))
			return offset->offset;
	}
	return -1;
}

static void
take_starts(Consumer *consumer, const rd_kafka_topic_partition_list_t *list, const SourcePosition *position)
{
	for (int i = 0; i < list->cnt; i++)
	{
		ConsumerPartition *partition = partition_of(consumer, &list->elems[i]);
		int64		named = named_start(position, partition);

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
			return ask_offsets(consumer, list, source_kafka_time(position->time)) && ends_for_none(consumer, list);
		default:
			return ask_offsets(consumer, list, AT_BEGIN);
	}
}

/*
 * Worker 0 finds out where the partitions without a row start, for all workers.  One that appears
 * later starts at its beginning.  A source without any offset was made while Kafka did not answer:
 * start_at is settled now, once and for all partitions that are there.
 */
static bool
find_starts(Consumer *consumer)
{
	SourcePosition beginning = {POSITION_EARLIEST},
			   *position = &beginning;
	rd_kafka_topic_partition_list_t *list;
	bool		found;

	if (consumer->worker_no != 0)
		return true;
	if (!consumer->any_row)
	{
		position = source_position_parse(consumer->start_at, "start_at");
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

/* ---------------------------------------------------------------- the topics */

/* what was read of a topic that has gone is not to be read on without a check */
static void
topic_missing(Consumer *consumer, ConsumerTopic *topic)
{
	for (int i = 0; i < topic->n_partitions; i++)
	{
		ConsumerPartition *partition = topic->partitions[i];

		partition->end = -1;
		partition->low = partition->high = 0;
		if (partition->state == PARTITION_READING || partition->state == PARTITION_BROKEN)
			partition->state = PARTITION_IDLE;
		if (partition->state == PARTITION_IDLE)
			consumer->doubtful = true;
	}
	consumer_topic_amiss(consumer, topic, "does not exist");
}

/* each partition that is read here has somebody who serves it */
static bool
is_led(const ConsumerTopic *topic, const rd_kafka_metadata_topic_t *metadata, char *why, size_t room)
{
	for (int i = 0; i < metadata->partition_cnt; i++)
	{
		ConsumerPartition *partition = consumer_partition(topic, metadata->partitions[i].id);

		if (partition == NULL || !consumer_owns(partition) || metadata->partitions[i].leader >= 0)
			continue;
		snprintf(why, room, "has no leader for partition %d", partition->number);
		return false;
	}
	return true;
}

static void
take_topic(Consumer *consumer, ConsumerTopic *topic, const rd_kafka_metadata_topic_t *metadata)
{
	char		why[128];

	if (metadata->err == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)
		topic_missing(consumer, topic);
	else if (metadata->err != RD_KAFKA_RESP_ERR_NO_ERROR)
		consumer_topic_amiss(consumer, topic, rd_kafka_err2str(metadata->err));
	else if (metadata->partition_cnt < topic->n_partitions)
		consumer_stop(consumer, topic->partitions[metadata->partition_cnt], "the topic was made again with fewer partitions");
	else
	{
		consumer_know_partitions(consumer, topic, metadata->partition_cnt);
		if (is_led(topic, metadata, why, sizeof(why)))
			topic->there = true;
		else
			consumer_topic_amiss(consumer, topic, why);
	}
	if (topic->there)
		topic->amiss[0] = '\0';
}

/* the topics that are meant: those that we know, and those that only a pattern means */
static void
take_topics(Consumer *consumer, const struct rd_kafka_metadata *metadata)
{
	bool	   *seen = palloc0(metadata->topic_cnt + consumer->n_topics + 1);
	int			n_before = consumer->n_topics;

	for (int i = 0; i < metadata->topic_cnt; i++)
	{
		const rd_kafka_metadata_topic_t *one = &metadata->topics[i];
		ConsumerTopic *topic = consumer_topic(consumer, one->topic);

		if (topic == NULL && (one->err != RD_KAFKA_RESP_ERR_NO_ERROR || !source_topics_mean(consumer->matcher, one->topic)))
			continue;
		if (topic == NULL)
			topic = consumer_know_topic(consumer, one->topic);
		for (int k = 0; k < n_before; k++)
			seen[k] = seen[k] || consumer->topics[k] == topic;
		topic->there = false;
		if (!topic->stopped)
			take_topic(consumer, topic, one);
	}
	for (int k = 0; k < n_before; k++)
		if (!seen[k] && !consumer->topics[k]->stopped)
		{
			consumer->topics[k]->there = false;
			topic_missing(consumer, consumer->topics[k]);
		}
	pfree(seen);
}

/* librdkafka asks about the topics that it was told of, or about all */
static bool
look_at_topics(Consumer *consumer)
{
	const struct rd_kafka_metadata *metadata;
	rd_kafka_resp_err_t error = rd_kafka_metadata(consumer->client.rk, source_topics_have_pattern(consumer->matcher), NULL,
												  &metadata, consumer->patience_ms);

	if (error != RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		consumer_unreachable(consumer, rd_kafka_err2str(error));
		return false;
	}
	take_topics(consumer, metadata);
	rd_kafka_metadata_destroy(metadata);
	consumer->reached_once = true;
	return true;
}

/* a topic that is missing is looked for more often */
static void
plan_next_look(Consumer *consumer)
{
	bool		any = false;

	for (int i = 0; i < consumer->n_topics; i++)
	{
		any |= consumer->topics[i]->there;
		if (!consumer->topics[i]->there && !consumer->topics[i]->stopped)
			consumer->next_look = GetCurrentTimestamp() + MS(LOOK_FOR_TOPIC_MS);
	}
	if (!any)
		consumer->seen_missing = true;
}

/* is the broker there, are the topics, are there new ones?  A millisecond or so when all is well */
static void
look(Consumer *consumer)
{
	consumer->next_look = GetCurrentTimestamp() + MS(LOOK_EVERY_MS);
	if (!look_at_topics(consumer))
		return;
	plan_next_look(consumer);
	if (!find_starts(consumer) || !consumer_find_ends(consumer, has_no_end))
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

/* a partition without a row is worker 0's to record: the others look whether it has */
static void
wait_for_rows(Consumer *consumer, TimestampTz now)
{
	if (consumer->worker_no == 0 || now < consumer->next_rows || !consumer_has(consumer, PARTITION_UNKNOWN))
		return;
	consumer->next_rows = now + MS(ROWS_EVERY_MS);
	consumer->news = true;
}

void
consumer_attend(Consumer *consumer)
{
	TimestampTz now = GetCurrentTimestamp();

	consumer_hear_question(consumer);
	hear_events(consumer, now);
	if (now >= consumer->next_look)
		look(consumer);
	wait_for_rows(consumer, now);
	consumer_start_what_is_due(consumer);
	consumer_set_targets(consumer);
	consumer_answer(consumer);
	consumer_set_running(consumer);
	consumer_refresh_lag(consumer);
	consumer_group_attend(consumer, now);
}

/* when the next of these is due, at the latest */
TimestampTz
consumer_next_attention(const Consumer *consumer)
{
	TimestampTz next = consumer->next_look;

	for (int i = 0; i < consumer->n_partitions; i++)
	{
		ConsumerPartition *partition = consumer->partitions[i];

		if (partition->state == PARTITION_BROKEN)
			next = Min(next, partition->retry_at);
		else if (partition->state == PARTITION_UNKNOWN && consumer->worker_no != 0)
			next = Min(next, consumer->next_rows);
	}
	return next;
}
