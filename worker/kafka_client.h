/*
 * kafka_client.h
 *		A librdkafka handle made of a connection's options, and the last thing that went wrong with it.
 */
#ifndef CLICKSTREAM_KAFKA_CLIENT_H
#define CLICKSTREAM_KAFKA_CLIENT_H

#include "postgres.h"

#include <librdkafka/rdkafka.h>

#include "nodes/pg_list.h"

#include "kafka_relay.h"

#define KAFKA_REASON_LENGTH 512

/* brokers whose numbers are equal modulo this share a place */
#define KAFKA_BROKERS 64

/* what Kafka takes for a time, to say the ends of a partition */
#define AT_BEGIN ((int64) -2)
#define AT_END ((int64) -1)

typedef struct KafkaClient
{
	rd_kafka_t *rk;				/* NULL while closed */
	KafkaRelay *relay;			/* makes its connections; NULL when librdkafka does */
	rd_kafka_queue_t *events;	/* logs and errors, drained by kafka_client_reason */
	char		reason[KAFKA_REASON_LENGTH];	/* of the last error, empty for none */
	bool		lost_leader;	/* see below */
	bool		refused;		/* the last error is about who we or they are: a person has to mend it */
	uint64		fetched;		/* bytes of replies to fetches; librdkafka's threads add to both */
	uint64		fetches;
	int64		replied_at[KAFKA_BROKERS];	/* of each broker, in microseconds of a clock that never jumps */
	bool		was_silent;
} KafkaClient;

/*
 * Opens a consumer that belongs to no group: the connection's options, what the extension sets
 * itself, then `extra` (name, value, …, NULL).  All signals are blocked in librdkafka's threads.
 * False when librdkafka will not have the options: client->reason says why.
 */
extern bool kafka_client_open(KafkaClient *client, List *options, const char *const *extra);

/* takes in what librdkafka reported since, and returns the last error, or `otherwise` when there was none */
extern const char *kafka_client_reason(KafkaClient *client, const char *otherwise);

/*
 * Since the last call, a broker did not serve a partition that it had served (it moved, or its topic
 * was deleted), a connection broke, or nothing was fetched from a broker for a while: a topic may have
 * been made anew meanwhile.  Nothing that was fetched after that was handed out before it is told.
 */
extern bool kafka_client_lost_leader(KafkaClient *client);

/* so many bytes of records have come, compressed as Kafka has them, in so many replies */
extern uint64 kafka_client_fetched(const KafkaClient *client, uint64 *fetches);

/* safe to call twice, and on one that was never opened */
extern void kafka_client_close(KafkaClient *client);

#endif							/* CLICKSTREAM_KAFKA_CLIENT_H */
