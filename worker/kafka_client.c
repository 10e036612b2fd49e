/*
 * kafka_client.c
 *		Opens librdkafka with a connection's options, and keeps the last error it reports.
 *
 * Owns the handle.  Its threads are made with all signals blocked and never touch PostgreSQL: what
 * they have to say waits in a queue that the worker itself drains.  Must never put an option's
 * value into a message.  Called by everything in the worker that speaks to Kafka.
 */
#include "postgres.h"

#include <signal.h>
#include <time.h>

#include "nodes/parsenodes.h"
#include "nodes/value.h"
#include "utils/timestamp.h"

#include "kafka_client.h"

/* what the extension decides; connection_table.c refuses these as options where they would change meaning */
static const char *const settled[] = {
	"enable.auto.commit", "false",
	"enable.auto.offset.store", "false",
	"allow.auto.create.topics", "false",
	"isolation.level", "read_committed",
	"auto.offset.reset", "error",
	"log.queue", "true",
	NULL
};

static bool
set_option(KafkaClient *client, rd_kafka_conf_t *conf, const char *name, const char *value)
{
	/* librdkafka's own text could repeat the value, and the value could be a secret */
	switch (rd_kafka_conf_set(conf, name, value, NULL, 0))
	{
		case RD_KAFKA_CONF_OK:
			return true;
		case RD_KAFKA_CONF_UNKNOWN:
			snprintf(client->reason, sizeof(client->reason), "librdkafka does not know the option \"%s\"", name);
			return false;
		default:
			snprintf(client->reason, sizeof(client->reason), "librdkafka refuses the value of the option \"%s\"", name);
			return false;
	}
}

static bool
set_pairs(KafkaClient *client, rd_kafka_conf_t *conf, const char *const *pairs)
{
	for (; pairs != NULL && *pairs != NULL; pairs += 2)
		if (!set_option(client, conf, pairs[0], pairs[1]))
			return false;
	return true;
}

static bool
set_options(KafkaClient *client, rd_kafka_conf_t *conf, List *options)
{
	ListCell   *cell;

	foreach(cell, options)
	{
		DefElem    *option = lfirst_node(DefElem, cell);

		if (client->relay != NULL && kafka_relay_takes(option->defname))
			continue;
		if (!set_option(client, conf, option->defname, strVal(option->arg)))
			return false;
	}
	return true;
}

static bool
make_relay(KafkaClient *client, List *options)
{
	if (!kafka_relay_is_needed(options))
		return true;
	client->relay = kafka_relay_make(options, client->reason, sizeof(client->reason));
	return client->relay != NULL;
}

/* ---------------------------------------------------------------- what is fetched */

#define API_FETCH 1

/* a broker answers far more often, also when there is nothing */
#define SILENCE_US (2 * USECS_PER_SEC)

static int64
steady_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * USECS_PER_SEC + now.tv_nsec / 1000;
}

static void
note_silence(KafkaClient *client, int32_t broker)
{
	int64		now = steady_now(),
				before = __atomic_exchange_n(&client->replied_at[broker & (KAFKA_BROKERS - 1)], now, __ATOMIC_RELAXED);

	if (before != 0 && now - before > SILENCE_US)
		__atomic_store_n(&client->was_silent, true, __ATOMIC_RELEASE);
}

/* in a thread of librdkafka's, before it takes the reply apart */
static rd_kafka_resp_err_t
note_reply(rd_kafka_t *rk, int socket, const char *broker, int32_t broker_id, int16_t api, int16_t version,
		   int32_t request, size_t size, int64_t time, rd_kafka_resp_err_t error, void *opaque)
{
	KafkaClient *client = opaque;

	if (api == API_FETCH)
	{
		__atomic_add_fetch(&client->fetched, size, __ATOMIC_RELAXED);
		__atomic_add_fetch(&client->fetches, 1, __ATOMIC_RELAXED);
		note_silence(client, broker_id);
	}
	return RD_KAFKA_RESP_ERR_NO_ERROR;
}

static rd_kafka_resp_err_t
listen_to_replies(rd_kafka_t *rk, const rd_kafka_conf_t *conf, void *opaque, char *reason, size_t room)
{
	return rd_kafka_interceptor_add_on_response_received(rk, "clickstream", note_reply, opaque);
}

uint64
kafka_client_fetched(const KafkaClient *client, uint64 *fetches)
{
	*fetches = __atomic_load_n(&client->fetches, __ATOMIC_RELAXED);
	return __atomic_load_n(&client->fetched, __ATOMIC_RELAXED);
}

/* ---------------------------------------------------------------- open */

bool
kafka_client_open(KafkaClient *client, List *options, const char *const *extra)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	sigset_t	all,
				before;

	memset(client, 0, sizeof(*client));
	if (!make_relay(client, options) ||
		!set_option(client, conf, "client.id", "clickstream") ||
		!set_options(client, conf, options) ||
		!set_pairs(client, conf, settled) ||
		!set_pairs(client, conf, extra))
	{
		rd_kafka_conf_destroy(conf);
		kafka_client_close(client);
		return false;
	}
	if (client->relay != NULL)
		kafka_relay_configure(client->relay, conf);
	(void) rd_kafka_conf_interceptor_add_on_new(conf, "clickstream", listen_to_replies, client);
	rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_ERROR | RD_KAFKA_EVENT_LOG);

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	client->rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, client->reason, sizeof(client->reason));
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (client->rk == NULL)
	{
		/* librdkafka cannot free the settings any more once it has called listen_to_replies: they are left to the process */
		kafka_client_close(client);
		return false;
	}
	client->events = rd_kafka_queue_get_main(client->rk);
	rd_kafka_set_log_queue(client->rk, client->events);
	return true;
}

/* without librdkafka's own book-keeping: " (after 0ms in state CONNECT, 1 identical error(s) suppressed)" */
static void
keep_reason(KafkaClient *client, const char *text)
{
	char	   *tail;

	strlcpy(client->reason, text, sizeof(client->reason));
	tail = strstr(client->reason, " (after ");
	if (tail != NULL)
		*tail = '\0';
}

/* what trying again does not mend: who we are, or who the broker is */
static bool
is_refusal(rd_kafka_event_t *event)
{
	return rd_kafka_event_error(event) == RD_KAFKA_RESP_ERR__AUTHENTICATION ||
		strstr(rd_kafka_event_error_string(event), "certificate") != NULL;
}

/* errors say it best; a log line serves where no error follows it */
static void
take_event(KafkaClient *client, rd_kafka_event_t *event)
{
	const char *facility,
			   *text;
	int			level;

	switch (rd_kafka_event_type(event))
	{
		case RD_KAFKA_EVENT_ERROR:
			if (rd_kafka_event_error(event) == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN)
				break;
			if (strstr(rd_kafka_event_error_string(event), "in state UP") != NULL)
				client->lost_leader = true;
			client->refused = is_refusal(event);
			keep_reason(client, rd_kafka_event_error_string(event));
			break;
		case RD_KAFKA_EVENT_LOG:
			if (rd_kafka_event_log(event, &facility, &text, &level) != 0)
				break;
			if (strcmp(facility, "BROKERUA") == 0)
				client->lost_leader = true;
			if (client->reason[0] == '\0' && level <= 4)
				keep_reason(client, text);
			break;
		default:
			break;
	}
}

static void
take_events(KafkaClient *client)
{
	rd_kafka_event_t *event;

	while (client->events != NULL && (event = rd_kafka_queue_poll(client->events, 0)) != NULL)
	{
		take_event(client, event);
		rd_kafka_event_destroy(event);
	}
}

const char *
kafka_client_reason(KafkaClient *client, const char *otherwise)
{
	take_events(client);
	if (client->relay != NULL)
		(void) kafka_relay_reason(client->relay, client->reason, sizeof(client->reason), &client->refused);
	return client->reason[0] != '\0' ? client->reason : otherwise;
}

bool
kafka_client_lost_leader(KafkaClient *client)
{
	bool		lost;

	take_events(client);
	lost = __atomic_exchange_n(&client->was_silent, false, __ATOMIC_ACQUIRE) || client->lost_leader;
	client->lost_leader = false;
	return lost;
}

void
kafka_client_close(KafkaClient *client)
{
	if (client->events != NULL)
		rd_kafka_queue_destroy(client->events);
	client->events = NULL;
	if (client->rk != NULL)
		rd_kafka_destroy(client->rk);
	client->rk = NULL;
	if (client->relay != NULL)
		kafka_relay_end(client->relay);
	client->relay = NULL;
}
