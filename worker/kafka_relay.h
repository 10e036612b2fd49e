/*
 * kafka_relay.h
 *		Connections to brokers that demand SCRAM, for a librdkafka that does it wrong.
 */
#ifndef CLICKSTREAM_KAFKA_RELAY_H
#define CLICKSTREAM_KAFKA_RELAY_H

#include "postgres.h"

#include <librdkafka/rdkafka.h>

#include "nodes/pg_list.h"

typedef struct KafkaRelay KafkaRelay;

/* whether a connection of these options needs one */
extern bool kafka_relay_is_needed(List *options);

/* NULL, with the reason, where an option cannot be used */
extern KafkaRelay *kafka_relay_make(List *options, char *reason, size_t room);

/* has librdkafka's connections made by the relay, before rd_kafka_new; the options of TLS and SASL are not for it then */
extern bool kafka_relay_takes(const char *option);
extern void kafka_relay_configure(KafkaRelay *relay, rd_kafka_conf_t *conf);

/* why the last connection that was tried came to nothing; false when it did not */
extern bool kafka_relay_reason(KafkaRelay *relay, char *reason, size_t room, bool *refused);

/* after rd_kafka_destroy: waits for the threads, which end at once */
extern void kafka_relay_end(KafkaRelay *relay);

#endif							/* CLICKSTREAM_KAFKA_RELAY_H */
