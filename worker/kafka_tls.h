/*
 * kafka_tls.h
 *		OpenSSL set up by a connection's ssl.* options, as librdkafka does it.
 */
#ifndef CLICKSTREAM_KAFKA_TLS_H
#define CLICKSTREAM_KAFKA_TLS_H

#include "postgres.h"

#include <openssl/ssl.h>

#include "nodes/pg_list.h"

/* NULL, with the reason, where an option cannot be used; no secret is in the reason */
extern SSL_CTX *kafka_tls_make(List *options, char *reason, size_t room);

/* the option's value, or NULL; the last one counts */
extern const char *kafka_option(List *options, const char *name);

#endif							/* CLICKSTREAM_KAFKA_TLS_H */
