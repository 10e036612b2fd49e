/*
 * consumer_state.c
 *		The slot's state as far as Kafka is concerned: connecting, waiting, running, or stopped for a person.
 *
 * Owns what is told of it: the state with its reason, the last error, and one line in the log for
 * each change.  Decides nothing about partitions.  Called by the consumer's other files.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "consumer_internal.h"

#define LONGEST_PATIENCE_MS 2000
#define LONGEST_PAUSE_MS 3000

/* one line in the log for each change of state, not for each change of its reason */
static void
log_state(const Consumer *consumer, WorkerState before)
{
	if (consumer->state == WORKER_RUNNING && before != WORKER_STARTING)
		ereport(LOG, (errmsg("source \"%s\" reads %s again", consumer->source, source_topics_text(consumer->named))));
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
	consumer_tell_state(consumer);
	if (state != before)
		log_state(consumer, before);
}

void
consumer_tell_state(const Consumer *consumer)
{
	worker_set_state(consumer->slot, consumer->state, consumer->detail[0] != '\0' ? consumer->detail : NULL);
}

void
consumer_set_state(Consumer *consumer, WorkerState state, const char *format,...)
{
	char		text[WORKER_TEXT_LENGTH];
	va_list		arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	set_state(consumer, state, text);
}

/* 100 ms at first, then twice as long each time */
int64
consumer_pause_for(int attempts)
{
	return MS(Min(100 << Min(attempts, 10), LONGEST_PAUSE_MS));
}

static bool
any_broken(const Consumer *consumer)
{
	for (int i = 0; i < consumer->n_partitions; i++)
		if (consumer->partitions[i]->state == PARTITION_BROKEN || consumer->partitions[i]->attempts > 0)
			return true;
	return false;
}

/* a topic that a pattern found may go for good, and then nobody waits for it */
static WorkerState
state_of(const ConsumerTopic *topic)
{
	if (topic->stopped)
		return WORKER_STOPPED;
	return topic->by_pattern ? WORKER_RUNNING : WORKER_WAITING;
}

/* the topic that is worst off, or NULL: one that needs a person before one that is waited for */
static const ConsumerTopic *
worst_topic(const Consumer *consumer)
{
	const ConsumerTopic *worst = NULL;

	for (int i = 0; i < consumer->n_topics; i++)
	{
		const ConsumerTopic *topic = consumer->topics[i];

		if (topic->stopped)
			return topic;
		if (topic->amiss[0] != '\0' && (worst == NULL || worst->by_pattern))
			worst = topic;
	}
	return worst;
}

/* each topic is read as long as it can be, whatever becomes of the others */
void
consumer_set_running(Consumer *consumer)
{
	const ConsumerTopic *topic = worst_topic(consumer);

	if (!consumer->reachable || (topic == NULL && any_broken(consumer)))
		return;
	consumer->client.reason[0] = '\0';
	consumer->client.refused = false;
	if (topic == NULL)
		set_state(consumer, WORKER_RUNNING, NULL);
	else
		set_state(consumer, state_of(topic), topic->amiss);
}

void
consumer_unreachable(Consumer *consumer, const char *otherwise)
{
	const char *reason;

	consumer->reachable = false;
	consumer->next_look = GetCurrentTimestamp() + consumer_pause_for(consumer->attempts++);
	consumer->patience_ms = Min(consumer->patience_ms * 2, LONGEST_PATIENCE_MS);
	reason = kafka_client_reason(&consumer->client, otherwise);
	if (consumer->client.refused)
		consumer_set_state(consumer, WORKER_WAITING, "Kafka refuses: %s", reason);
	else
		consumer_set_state(consumer, consumer->reached_once ? WORKER_WAITING : WORKER_CONNECTING,
						   "Kafka does not answer: %s", reason);
}

/* several topics: the state tells of one of them, the log of each */
static void
set_amiss(Consumer *consumer, ConsumerTopic *topic)
{
	if (consumer->n_topics > 1)
		ereport(LOG, (errmsg("source \"%s\": %s", consumer->source, topic->amiss)));
}

void
consumer_topic_amiss(Consumer *consumer, ConsumerTopic *topic, const char *what)
{
	char		text[WORKER_TEXT_LENGTH];

	snprintf(text, sizeof(text), "topic \"%s\" %s", topic->name, what);
	if (strcmp(text, topic->amiss) == 0)
		return;
	strlcpy(topic->amiss, text, sizeof(topic->amiss));
	set_amiss(consumer, topic);
}

void
consumer_stop(Consumer *consumer, ConsumerPartition *partition, const char *why)
{
	ConsumerTopic *topic = partition->topic;

	topic->stopped = true;
	snprintf(topic->amiss, sizeof(topic->amiss),
			 "partition %d of topic \"%s\" is not the one that was read up to offset " INT64_FORMAT
			 ": %s; run clickstream.seek_source to say where to go on, or clickstream.drop_source",
			 partition->number, topic->name, partition->position, why);
	set_amiss(consumer, topic);
	consumer_set_running(consumer);
}
