/*
 * consumer_group.c
 *		Tells Kafka's tools how far a source is: commits its positions to a consumer group.
 *
 * It asks as an administrator's tool does, so that nobody joins the group, and a group that may not be
 * written, or whose coordinator is away, touches neither what is read nor the source's state.  What
 * is told was committed in the database before; it is never read back, and a failure is a line in
 * the log, once.  Called by consumer.c and consumer_topic.c.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_collation.h"
#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "consumer_internal.h"
#include "worker.h"

#define TELL_EVERY_MS 1000
#define LONGEST_PAUSE_MS 60000
#define LAST_WORD_MS 300

/*
 * librdkafka 2.0 aborts the process when a request's time is up before it is known which broker has the group, and
 * the broker is found later.  So a request has all the time that may be given, and long before that is
 * over, the worker makes room for another one.
 */
#define ANSWER_MS (3600 * 1000)
#define PATIENCE_MS (3000 * 1000)

/* Kafka forgets what a group has committed when nothing more comes for some days */
#define TELL_AGAIN_MS (3600 * 1000)

#define DEFAULT_NAME "clickstream.<database>.<source>"

static char *
with(const char *pattern, const char *placeholder, const char *name)
{
	return TextDatumGetCString(DirectFunctionCall3Coll(replace_text, C_COLLATION_OID, CStringGetTextDatum(pattern),
													   CStringGetTextDatum(placeholder), CStringGetTextDatum(name)));
}

/* in a transaction; NULL when the source wants none */
static char *
name_of_group(const Source *source)
{
	const char *given = source->consumer_group ? source->consumer_group : DEFAULT_NAME;
	char	   *name = with(with(given, "<database>", get_database_name(MyDatabaseId)), "<source>", source->name);

	return name[0] != '\0' ? name : NULL;
}

void
consumer_group_open(Consumer *consumer, const Source *source)
{
	ConsumerGroup *group = &consumer->group;

	group->name = name_of_group(source);
	consumer_group_again(consumer);
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
	rd_kafka_AlterConsumerGroupOffsets_t *request;
	rd_kafka_AdminOptions_t *options;

	if (list == NULL)
		return;
	request = rd_kafka_AlterConsumerGroupOffsets_new(group->name, list);
	options = rd_kafka_AdminOptions_new(consumer->client.rk, RD_KAFKA_ADMIN_OP_ALTERCONSUMERGROUPOFFSETS);
	(void) rd_kafka_AdminOptions_set_request_timeout(options, ANSWER_MS, NULL, 0);
	rd_kafka_AlterConsumerGroupOffsets(consumer->client.rk, &request, 1, options, group->answers);
	group->waiting = true;
	group->asked = GetCurrentTimestamp();
	rd_kafka_AdminOptions_destroy(options);
	rd_kafka_AlterConsumerGroupOffsets_destroy(request);
	rd_kafka_topic_partition_list_destroy(list);
}

static void
forget_told(Consumer *consumer)
{
	for (int i = 0; i < consumer->n_partitions; i++)
		consumer->partitions[i]->told = 0;
}

/* ---------------------------------------------------------------- what comes back */

/* of the request, the group or one of its partitions; NULL for none */
static const char *
error_of(rd_kafka_event_t *event)
{
	const rd_kafka_AlterConsumerGroupOffsets_result_t *result = rd_kafka_event_AlterConsumerGroupOffsets_result(event);
	const rd_kafka_topic_partition_list_t *list;
	const rd_kafka_group_result_t **groups;
	size_t		n;

	if (rd_kafka_event_error(event) != RD_KAFKA_RESP_ERR_NO_ERROR || result == NULL)
		return rd_kafka_err2str(rd_kafka_event_error(event));
	groups = rd_kafka_AlterConsumerGroupOffsets_result_groups(result, &n);
	if (n > 0 && rd_kafka_group_result_error(groups[0]) != NULL)
		return rd_kafka_error_string(rd_kafka_group_result_error(groups[0]));
	list = n > 0 ? rd_kafka_group_result_partitions(groups[0]) : NULL;
	for (int i = 0; list != NULL && i < list->cnt; i++)
		if (list->elems[i].err != RD_KAFKA_RESP_ERR_NO_ERROR)
			return rd_kafka_err2str(list->elems[i].err);
	return NULL;
}

static void
take_answer(Consumer *consumer, rd_kafka_event_t *event)
{
	ConsumerGroup *group = &consumer->group;
	const char *error = error_of(event);

	group->waiting = false;
	if (error != NULL)
		forget_told(consumer);
	if (error != NULL && !group->failing)
		ereport(LOG,
				(errmsg("source \"%s\" cannot tell consumer group \"%s\" how far it is: %s",
						consumer->source, group->name, error),
				 errdetail("It reads on: offsets are kept in the database, and the group is only for other tools to look at.")));
	group->failing = error != NULL;
	group->pause_ms = group->failing ? Min(Max(group->pause_ms, TELL_EVERY_MS) * 2, LONGEST_PAUSE_MS) : TELL_EVERY_MS;
}

static void
hear(Consumer *consumer, int wait_ms)
{
	rd_kafka_event_t *event = rd_kafka_queue_poll(consumer->group.answers, wait_ms);

	if (event == NULL)
		return;
	take_answer(consumer, event);
	rd_kafka_event_destroy(event);
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
	if (group->waiting && now > group->asked + MS(PATIENCE_MS) && !IsTransactionState())
		worker_leave();
	if (group->waiting || !consumer->reachable)
		return;
	if (now >= group->again)
	{
		forget_told(consumer);
		group->again = now + MS(TELL_AGAIN_MS);
	}
	tell(consumer);
}

void
consumer_group_forget(Consumer *consumer)
{
	ConsumerGroup *group = &consumer->group;

	if (group->answers != NULL)
		rd_kafka_queue_destroy(group->answers);
	group->answers = NULL;
}

/* what was asked and not answered is asked again */
void
consumer_group_again(Consumer *consumer)
{
	ConsumerGroup *group = &consumer->group;

	group->waiting = false;
	forget_told(consumer);
	if (group->name != NULL)
		group->answers = rd_kafka_queue_new(consumer->client.rk);
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
	consumer_group_forget(consumer);
}
