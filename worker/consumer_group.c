/*
 * consumer_group.c
 *		Tells Kafka's tools how far a source is: commits its positions to a consumer group.
 *
 * Owns a second handle of librdkafka, which does nothing but that, so that a group that may not be
 * written, or whose coordinator is away, touches neither what is read nor the source's state.  What
 * is told was committed in the database before; it is never read back, and a failure is a line in
 * the log, once.  Nobody joins the group.  Called by consumer.c and consumer_topic.c.
 */
#include "postgres.h"

#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "utils/timestamp.h"

#include "consumer_internal.h"

#define TELL_EVERY_MS 1000
#define LAST_WORD_MS 300

/* Kafka forgets what a group has committed when nothing more comes for some days */
#define TELL_AGAIN_MS (3600 * 1000)

/* in a transaction; NULL when the source wants none */
static char *
name_of_group(const Source *source)
{
	if (source->consumer_group == NULL)
		return psprintf("clickstream.%s.%s", get_database_name(MyDatabaseId), source->name);
	return source->consumer_group[0] != '\0' ? pstrdup(source->consumer_group) : NULL;
}

void
consumer_group_open(Consumer *consumer, const Source *source, List *options)
{
	ConsumerGroup *group = &consumer->group;
	const char *settings[] = {
		"group.id", NULL, "session.timeout.ms", "6000", "topic.metadata.refresh.interval.ms", "-1", NULL
	};

	group->name = name_of_group(source);
	if (group->name == NULL)
		return;
	settings[1] = group->name;
	if (!kafka_client_open(&group->client, options, settings))
	{
		ereport(LOG,
				(errmsg("source \"%s\" cannot tell consumer group \"%s\" how far it is: %s",
						source->name, group->name, group->client.reason)));
		return;
	}
	group->answers = rd_kafka_queue_new(group->client.rk);
	group->complaints = rd_kafka_queue_get_consumer(group->client.rk);
}

/* ---------------------------------------------------------------- what is told */

/* the positions of ours that the group does not know; NULL for none */
static rd_kafka_topic_partition_list_t *
untold(Consumer *consumer)
{
	rd_kafka_topic_partition_list_t *list = NULL;

	for (int i = 0; i < consumer->n_partitions; i++)
	{
		ConsumerPartition *partition = consumer->partitions[i];

		if (partition->state < PARTITION_IDLE || !partition->topic->there || partition->told == partition->committed + 1)
			continue;
		if (list == NULL)
			list = rd_kafka_topic_partition_list_new(consumer->n_partitions);
		rd_kafka_topic_partition_list_add(list, partition->topic->name, partition->number)->offset = partition->committed;
		partition->told = partition->committed + 1;
	}
	return list;
}

static void
tell(Consumer *consumer)
{
	ConsumerGroup *group = &consumer->group;
	rd_kafka_topic_partition_list_t *list = untold(consumer);

	if (list == NULL)
		return;
	group->waiting = rd_kafka_commit_queue(group->client.rk, list, group->answers, NULL, NULL) == 0;
	rd_kafka_topic_partition_list_destroy(list);
}

static void
forget_told(Consumer *consumer)
{
	for (int i = 0; i < consumer->n_partitions; i++)
		consumer->partitions[i]->told = 0;
}

/* ---------------------------------------------------------------- what comes back */

static rd_kafka_resp_err_t
error_of(rd_kafka_event_t *event)
{
	const rd_kafka_topic_partition_list_t *list = rd_kafka_event_topic_partition_list(event);
	rd_kafka_resp_err_t error = rd_kafka_event_error(event);

	for (int i = 0; list != NULL && error == RD_KAFKA_RESP_ERR_NO_ERROR && i < list->cnt; i++)
		error = list->elems[i].err;
	return error;
}

static void
take_answer(Consumer *consumer, rd_kafka_event_t *event)
{
	ConsumerGroup *group = &consumer->group;
	rd_kafka_resp_err_t error = error_of(event);

	group->waiting = false;
	if (error != RD_KAFKA_RESP_ERR_NO_ERROR)
		forget_told(consumer);
	if (error != RD_KAFKA_RESP_ERR_NO_ERROR && !group->failing)
		ereport(LOG,
				(errmsg("source \"%s\" cannot tell consumer group \"%s\" how far it is: %s",
						consumer->source, group->name, kafka_client_reason(&group->client, rd_kafka_err2str(error))),
				 errdetail("It reads on: offsets are kept in the database, and the group is only for other tools to look at.")));
	if (error == RD_KAFKA_RESP_ERR_NO_ERROR)
		group->client.reason[0] = '\0';
	group->failing = error != RD_KAFKA_RESP_ERR_NO_ERROR;
	group->pause_ms = group->failing ? Min(Max(group->pause_ms, TELL_EVERY_MS) * 2, 60000) : TELL_EVERY_MS;
	rd_kafka_event_destroy(event);
}

/* why there is no coordinator is told apart from the answer */
static void
hear_complaints(ConsumerGroup *group)
{
	rd_kafka_event_t *event;

	(void) kafka_client_reason(&group->client, NULL);
	while ((event = rd_kafka_queue_poll(group->complaints, 0)) != NULL)
	{
		if (rd_kafka_event_error(event) != RD_KAFKA_RESP_ERR_NO_ERROR)
			strlcpy(group->client.reason, rd_kafka_event_error_string(event), sizeof(group->client.reason));
		rd_kafka_event_destroy(event);
	}
}

static void
hear(Consumer *consumer, int wait_ms)
{
	ConsumerGroup *group = &consumer->group;
	rd_kafka_event_t *event = rd_kafka_queue_poll(group->answers, wait_ms);

	hear_complaints(group);
	if (event != NULL)
		take_answer(consumer, event);
}

/* ---------------------------------------------------------------- when */

/* at most once a second, and where it fails, ever less often */
void
consumer_group_attend(Consumer *consumer, TimestampTz now)
{
	ConsumerGroup *group = &consumer->group;

	if (group->answers == NULL || now < group->next)
		return;
	if (group->waiting)
		hear(consumer, 0);
	group->next = now + MS(Max(group->pause_ms, TELL_EVERY_MS));
	if (group->waiting || !consumer->reachable)
		return;
	if (now >= group->again)
	{
		forget_told(consumer);
		group->again = now + MS(TELL_AGAIN_MS);
	}
	tell(consumer);
}

/* a worker that ends says where it stood, if that takes no time */
void
consumer_group_close(Consumer *consumer)
{
	ConsumerGroup *group = &consumer->group;

	if (group->answers == NULL)
		return;
	if (group->waiting)
		hear(consumer, LAST_WORD_MS);
	if (!group->waiting && !group->failing && consumer->reachable)
	{
		tell(consumer);
		if (group->waiting)
			hear(consumer, LAST_WORD_MS);
	}
	rd_kafka_queue_destroy(group->answers);
	rd_kafka_queue_destroy(group->complaints);
	group->answers = NULL;
	kafka_client_abandon(&group->client);
}
