/*
 * producer.c
 *		The Kafka side: configure librdkafka, make the topic, send, count the answers.
 *
 * Owns the producer handle and the counts of deliveries. A message counts as sent
 * when the broker acknowledged it, never when it was only queued; the producer is
 * idempotent, so that a retry cannot put a message into the topic twice and the
 * counts can be held against what a consumer reads. Called by main.c.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <librdkafka/rdkafka.h>

#include "producer.h"

#define METADATA_TIMEOUT_MS 10000
#define NEW_TOPIC_TIMEOUT_MS 30000

struct producer
{
	rd_kafka_t *kafka;
	rd_kafka_queue_t *queue;	/* delivery reports and errors */
	rd_kafka_topic_t *topic;	/* of most */
	rd_kafka_topic_t *routes[EVENT_KINDS];	/* NULL: that one */
	struct deliveries deliveries;
};

/*
 * Settings for many small messages on one core: batches as large as a broker takes by default,
 * a short wait to fill them, and a deep queue. The partitioner is the one of Kafka's own clients.
 */
static const char *const settings[][2] = {
	{"client.id", "clickstream_simulator"},
	{"enable.idempotence", "true"},
	{"partitioner", "murmur2_random"},
	{"linger.ms", "20"},
	{"batch.num.messages", "20000"},
	{"batch.size", "1000000"},
	{"queue.buffering.max.messages", "500000"},
	{"queue.buffering.max.kbytes", "262144"},
	{"message.timeout.ms", "120000"},
	{"log_level", "3"},
};

static void
complain(const char *what, const char *why)
{
	fprintf(stderr, "clickstream_simulator: %s: %s\n", what, why);
}

static double
seconds_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double) now.tv_sec + (double) now.tv_nsec / 1e9;
}

static bool
set_property(rd_kafka_conf_t *conf, const char *name, const char *value)
{
	char		error[256];

	if (rd_kafka_conf_set(conf, name, value, error, sizeof(error)) == RD_KAFKA_CONF_OK)
		return true;
	complain("a Kafka property was refused", error);
	return false;
}

/* "name=value" as the user gave it; these come last and win */
static bool
set_users_property(rd_kafka_conf_t *conf, const char *text)
{
	const char *equals = strchr(text, '=');
	char	   *name = strndup(text, (size_t) (equals - text));
	bool		done = name != NULL && set_property(conf, name, equals + 1);

	free(name);
	return done;
}

static bool
configure(rd_kafka_conf_t *conf, const struct options *options)
{
	for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++)
		if (!set_property(conf, settings[i][0], settings[i][1]))
			return false;
	if (!set_property(conf, "bootstrap.servers", options->bootstrap) ||
		!set_property(conf, "compression.codec", options->compression))
		return false;
	for (size_t i = 0; i < options->nproperties; i++)
		if (!set_users_property(conf, options->properties[i]))
			return false;
	rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR);
	return true;
}

struct producer *
producer_open(const struct options *options)
{
	struct producer *producer = calloc(1, sizeof(struct producer));
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	char		error[256];

	if (producer == NULL)
		abort();
	if (configure(conf, options))
	{
		producer->kafka = rd_kafka_new(RD_KAFKA_PRODUCER, conf, error, sizeof(error));
		if (producer->kafka != NULL)
		{
			producer->queue = rd_kafka_queue_get_main(producer->kafka);
			return producer;
		}
		complain("no Kafka client", error);
	}
	rd_kafka_conf_destroy(conf);
	free(producer);
	return NULL;
}

/*
 * The number of partitions of the topic, all of them with a leader; 0 if there is no such topic
 * yet, -1 if Kafka does not answer. Asks for all topics: to ask for one would create it on a
 * broker with auto.create.topics.enable.
 */
static int
count_partitions(struct producer *producer, const char *topic)
{
	const rd_kafka_metadata_t *metadata;
	rd_kafka_resp_err_t err;
	int			count = 0;

	err = rd_kafka_metadata(producer->kafka, 1, NULL, &metadata, METADATA_TIMEOUT_MS);
	if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		complain("Kafka does not answer", rd_kafka_err2str(err));
		return -1;
	}
	for (int i = 0; i < metadata->topic_cnt; i++)
	{
		const rd_kafka_metadata_topic_t *found = &metadata->topics[i];

		if (strcmp(found->topic, topic) != 0 || found->err != RD_KAFKA_RESP_ERR_NO_ERROR)
			continue;
		count = found->partition_cnt;
		for (int j = 0; j < found->partition_cnt; j++)
			if (found->partitions[j].leader < 0)
				count = 0;
	}
	rd_kafka_metadata_destroy(metadata);
	return count;
}

/* what the broker answered to the creation of the one topic, or why it did not answer */
static rd_kafka_resp_err_t
creation_result(rd_kafka_event_t *event, char *why, size_t size)
{
	rd_kafka_resp_err_t err = event == NULL ? RD_KAFKA_RESP_ERR__TIMED_OUT
		: rd_kafka_event_error(event);
	const char *text = event == NULL ? rd_kafka_err2str(err) : rd_kafka_event_error_string(event);

	if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		size_t		count;
		const rd_kafka_topic_result_t **results =
			rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &count);

		err = rd_kafka_topic_result_error(results[0]);
		text = rd_kafka_topic_result_error_string(results[0]);
	}
	snprintf(why, size, "%s", text != NULL ? text : rd_kafka_err2str(err));
	return err;
}

static bool
create_topic(struct producer *producer, const char *topic, int partitions)
{
	char		why[256];
	rd_kafka_NewTopic_t *new_topic;
	rd_kafka_queue_t *answers;
	rd_kafka_event_t *answer;
	rd_kafka_resp_err_t err;

	new_topic = rd_kafka_NewTopic_new(topic, partitions, -1, why, sizeof(why));
	if (new_topic == NULL)
	{
		complain("the topic cannot be created", why);
		return false;
	}
	answers = rd_kafka_queue_new(producer->kafka);
	rd_kafka_CreateTopics(producer->kafka, &new_topic, 1, NULL, answers);
	answer = rd_kafka_queue_poll(answers, NEW_TOPIC_TIMEOUT_MS);
	err = creation_result(answer, why, sizeof(why));
	if (answer != NULL)
		rd_kafka_event_destroy(answer);
	rd_kafka_queue_destroy(answers);
	rd_kafka_NewTopic_destroy(new_topic);

	/* another producer may have been faster */
	if (err == RD_KAFKA_RESP_ERR_NO_ERROR || err == RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS)
		return true;
	complain("the topic cannot be created", why);
	return false;
}

static bool
wait_for_leaders(struct producer *producer, const char *topic)
{
	double		deadline = seconds_now() + NEW_TOPIC_TIMEOUT_MS / 1000.0;
	int			partitions;

	while ((partitions = count_partitions(producer, topic)) == 0 && seconds_now() < deadline)
		producer_poll(producer, 50);
	if (partitions == 0)
		complain("the new topic has no leader", topic);
	return partitions > 0;
}

static rd_kafka_topic_t *
prepare_topic(struct producer *producer, const char *name, int create_partitions, const char *bootstrap)
{
	int			partitions = count_partitions(producer, name);
	rd_kafka_topic_t *topic;

	if (partitions < 0)
		return NULL;
	if (partitions == 0 && create_partitions == 0)
	{
		fprintf(stderr, "clickstream_simulator: topic \"%s\" does not exist on %s "
				"(--create-topic N creates it)\n", name, bootstrap);
		return NULL;
	}
	if (partitions == 0 &&
		(!create_topic(producer, name, create_partitions) || !wait_for_leaders(producer, name)))
		return NULL;

	topic = rd_kafka_topic_new(producer->kafka, name, NULL);
	if (topic == NULL)
		complain("the topic cannot be used", rd_kafka_err2str(rd_kafka_last_error()));
	return topic;
}

static bool
prepare_route(struct producer *producer, const struct options *options, const char *route)
{
	const char *equals = strchr(route, '=');
	rd_kafka_topic_t *topic =
		prepare_topic(producer, equals + 1, options->create_partitions, options->bootstrap);

	for (int kind = 0; kind < EVENT_KINDS; kind++)
		if (kind_is((enum event_kind) kind, route, (size_t) (equals - route)))
		{
			if (producer->routes[kind] != NULL)
				rd_kafka_topic_destroy(producer->routes[kind]);
			producer->routes[kind] = topic;
		}
	return topic != NULL;
}

bool
producer_prepare_topics(struct producer *producer, const struct options *options)
{
	producer->topic =
		prepare_topic(producer, options->topic, options->create_partitions, options->bootstrap);
	if (producer->topic == NULL)
		return false;
	for (size_t i = 0; i < options->nroutes; i++)
		if (!prepare_route(producer, options, options->routes[i]))
			return false;
	return true;
}

/* what is no event of any kind goes where most go */
static rd_kafka_topic_t *
topic_of(const struct producer *producer, const struct event *event)
{
	bool		known = event->class != EVENT_TOMBSTONE && event->class != EVENT_MALFORMED;

	return known && producer->routes[event->kind] != NULL ? producer->routes[event->kind] : producer->topic;
}

bool
producer_send(struct producer *producer, const struct event *event)
{
	bool		tombstone = event->class == EVENT_TOMBSTONE;

	if (rd_kafka_produce(topic_of(producer, event), RD_KAFKA_PARTITION_UA, RD_KAFKA_MSG_F_COPY,
						 tombstone ? NULL : (void *) event->payload, event->payload_length,
						 event->key_length ? event->key : NULL, event->key_length,
						 (void *) (intptr_t) event->class) == 0)
		return true;
	if (rd_kafka_last_error() == RD_KAFKA_RESP_ERR__QUEUE_FULL)
		return false;
	producer->deliveries.failed++;
	snprintf(producer->deliveries.last_error, sizeof(producer->deliveries.last_error), "%s",
			 rd_kafka_err2str(rd_kafka_last_error()));
	return true;
}

static void
count_deliveries(struct deliveries *deliveries, rd_kafka_event_t *event)
{
	const rd_kafka_message_t *message;

	while ((message = rd_kafka_event_message_next(event)) != NULL)
	{
		if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR)
		{
			deliveries->sent++;
			deliveries->sent_of[(intptr_t) message->_private]++;
			deliveries->bytes += message->len + message->key_len;
		}
		else
		{
			deliveries->failed++;
			snprintf(deliveries->last_error, sizeof(deliveries->last_error), "%s",
					 rd_kafka_err2str(message->err));
		}
	}
}

void
producer_poll(struct producer *producer, int timeout_ms)
{
	rd_kafka_event_t *event;

	while ((event = rd_kafka_queue_poll(producer->queue, timeout_ms)) != NULL)
	{
		if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_DR)
			count_deliveries(&producer->deliveries, event);
		else if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_ERROR)
			snprintf(producer->deliveries.last_error, sizeof(producer->deliveries.last_error),
					 "%s", rd_kafka_event_error_string(event));
		rd_kafka_event_destroy(event);
		timeout_ms = 0;
	}
}

const struct deliveries *
producer_deliveries(const struct producer *producer)
{
	return &producer->deliveries;
}

void
producer_finish(struct producer *producer, double seconds)
{
	double		deadline = seconds_now() + seconds;

	while (rd_kafka_outq_len(producer->kafka) > 0 && seconds_now() < deadline)
		producer_poll(producer, 100);
	if (rd_kafka_outq_len(producer->kafka) == 0)
		return;
	rd_kafka_purge(producer->kafka, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
	for (int i = 0; i < 50 && rd_kafka_outq_len(producer->kafka) > 0; i++)
		producer_poll(producer, 100);
}

void
producer_close(struct producer *producer)
{
	if (producer->topic != NULL)
		rd_kafka_topic_destroy(producer->topic);
	for (int kind = 0; kind < EVENT_KINDS; kind++)
		if (producer->routes[kind] != NULL)
			rd_kafka_topic_destroy(producer->routes[kind]);
	rd_kafka_queue_destroy(producer->queue);
	rd_kafka_destroy(producer->kafka);
	free(producer);
}
