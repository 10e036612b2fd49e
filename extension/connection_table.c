/*
 * connection_table.c
 *		The one table of all options of the two foreign data wrappers.
 *
 * Owns where each may be given, by whom, which values it takes, or why it is refused.  The table is an
 * allow-list: librdkafka has properties that run commands or load libraries in the server, and new
 * releases may bring more.  Read by connection.c.
 */
#include "postgres.h"

#include "connection_table.h"

#define RUNS_CODE "It runs a program or loads a library in the database server."
#define CALLBACK "It is a function pointer of librdkafka's C interface."
#define OWN "clickstream sets it itself: offsets are committed with the rows, in the database."
#define OWN_START "clickstream sets it itself: see the argument start_at of create_source."
#define OWN_LOG "clickstream sets it itself: what librdkafka reports is in stat_sources."
#define NO_GROUP "clickstream uses no consumer group to share out partitions: see the argument workers of create_source."
#define PRODUCER "It is for producers, and a source only reads."

static const Option kafka_options[] = {
	/* whom to talk to, and how */
	{"bootstrap.servers", SERVER, FOR_ALL, VALUE_HOSTS},
	{"client.id", SERVER | MAPPING, FOR_ALL, VALUE_TEXT},
	{"client.rack", SERVER, FOR_ALL, VALUE_TEXT},
	{"security.protocol", SERVER, FOR_ALL, VALUE_CHOICE, 0, 0, "plaintext ssl sasl_plaintext sasl_ssl PLAINTEXT SSL SASL_PLAINTEXT SASL_SSL"},
	{"broker.address.family", SERVER, FOR_ALL, VALUE_CHOICE, 0, 0, "any v4 v6"},
	{"broker.address.ttl", SERVER, FOR_ALL, VALUE_INTEGER, 0, 86400000},
	{"socket.timeout.ms", SERVER, FOR_ALL, VALUE_INTEGER, 10, 300000},
	{"socket.connection.setup.timeout.ms", SERVER, FOR_ALL, VALUE_INTEGER, 1000, 2147483647},
	{"socket.send.buffer.bytes", SERVER, FOR_ALL, VALUE_INTEGER, 0, 100000000},
	{"socket.receive.buffer.bytes", SERVER, FOR_ALL, VALUE_INTEGER, 0, 100000000},
	{"socket.keepalive.enable", SERVER, FOR_ALL, VALUE_BOOLEAN},
	{"socket.nagle.disable", SERVER, FOR_ALL, VALUE_BOOLEAN},
	{"socket.max.fails", SERVER, FOR_ALL, VALUE_INTEGER, 0, 1000000},
	{"connections.max.idle.ms", SERVER, FOR_ALL, VALUE_INTEGER, 0, 2147483647},
	{"reconnect.backoff.ms", SERVER, FOR_ALL, VALUE_INTEGER, 0, 3600000},
	{"reconnect.backoff.max.ms", SERVER, FOR_ALL, VALUE_INTEGER, 0, 3600000},
	{"api.version.request", SERVER, FOR_ALL, VALUE_BOOLEAN},
	{"api.version.request.timeout.ms", SERVER, FOR_ALL, VALUE_INTEGER, 1, 300000},
	{"api.version.fallback.ms", SERVER, FOR_ALL, VALUE_INTEGER, 0, 604800000},
	{"broker.version.fallback", SERVER, FOR_ALL, VALUE_TEXT},
	{"topic.metadata.refresh.interval.ms", SERVER, FOR_ALL, VALUE_INTEGER, -1, 3600000},
	{"topic.metadata.refresh.fast.interval.ms", SERVER, FOR_ALL, VALUE_INTEGER, 1, 60000},
	{"topic.metadata.propagation.max.ms", SERVER, FOR_ALL, VALUE_INTEGER, 0, 3600000},
	{"topic.metadata.refresh.sparse", SERVER, FOR_ALL, VALUE_BOOLEAN},
	{"metadata.max.age.ms", SERVER, FOR_ALL, VALUE_INTEGER, 1, 86400000},
	/* how much to fetch */
	{"fetch.wait.max.ms", SERVER, FOR_ALL, VALUE_INTEGER, 0, 300000},
	{"fetch.min.bytes", SERVER, FOR_ALL, VALUE_INTEGER, 1, 100000000},
	{"fetch.max.bytes", SERVER, FOR_ALL, VALUE_INTEGER, 0, 2147483135},
	{"fetch.message.max.bytes", SERVER, FOR_ALL, VALUE_INTEGER, 1, 1000000000},
	{"max.partition.fetch.bytes", SERVER, FOR_ALL, VALUE_INTEGER, 1, 1000000000},
	{"fetch.error.backoff.ms", SERVER, FOR_ALL, VALUE_INTEGER, 0, 300000},
	{"receive.message.max.bytes", SERVER, FOR_ALL, VALUE_INTEGER, 1000, 2147483647},
	{"message.max.bytes", SERVER, FOR_ALL, VALUE_INTEGER, 1000, 1000000000},
	{"queued.min.messages", SERVER, FOR_ALL, VALUE_INTEGER, 1, 10000000},
	{"queued.max.messages.kbytes", SERVER, FOR_ALL, VALUE_INTEGER, 1, 2097151},
	{"check.crcs", SERVER, FOR_ALL, VALUE_BOOLEAN},
	/* TLS */
	{"ssl.ca.pem", SERVER | MAPPING, FOR_ALL, VALUE_TEXT},
	{"ssl.ca.location", SERVER, FOR_SUPERUSERS, VALUE_TEXT},
	{"ssl.crl.location", SERVER, FOR_SUPERUSERS, VALUE_TEXT},
	{"ssl.certificate.pem", SERVER | MAPPING, FOR_ALL, VALUE_TEXT},
	{"ssl.certificate.location", SERVER | MAPPING, FOR_SUPERUSERS, VALUE_TEXT},
	{"ssl.key.pem", MAPPING, SECRET, VALUE_TEXT},
	{"ssl.key.location", SERVER | MAPPING, FOR_SUPERUSERS, VALUE_TEXT},
	{"ssl.key.password", MAPPING, SECRET, VALUE_TEXT},
	{"ssl.keystore.location", SERVER | MAPPING, FOR_SUPERUSERS, VALUE_TEXT},
	{"ssl.keystore.password", MAPPING, SECRET, VALUE_TEXT},
	{"ssl.cipher.suites", SERVER, FOR_ALL, VALUE_TEXT},
	{"ssl.curves.list", SERVER, FOR_ALL, VALUE_TEXT},
	{"ssl.sigalgs.list", SERVER, FOR_ALL, VALUE_TEXT},
	{"ssl.endpoint.identification.algorithm", SERVER, FOR_ALL, VALUE_CHOICE, 0, 0, "none https"},
	{"enable.ssl.certificate.verification", SERVER, FOR_ALL, VALUE_BOOLEAN},
	/* SASL */
	{"sasl.mechanism", SERVER | MAPPING, FOR_ALL, VALUE_CHOICE, 0, 0, "PLAIN SCRAM-SHA-256 SCRAM-SHA-512 GSSAPI OAUTHBEARER"},
	{"sasl.mechanisms", SERVER | MAPPING, FOR_ALL, VALUE_CHOICE, 0, 0, "PLAIN SCRAM-SHA-256 SCRAM-SHA-512 GSSAPI OAUTHBEARER"},
	{"sasl.username", MAPPING, FOR_ALL, VALUE_TEXT},
	{"sasl.password", MAPPING, SECRET, VALUE_TEXT},
	{"sasl.oauthbearer.method", SERVER, FOR_ALL, VALUE_CHOICE, 0, 0, "default oidc"},
	{"sasl.oauthbearer.token.endpoint.url", SERVER, FOR_ALL, VALUE_URLS},
	{"sasl.oauthbearer.scope", SERVER | MAPPING, FOR_ALL, VALUE_TEXT},
	{"sasl.oauthbearer.extensions", SERVER | MAPPING, FOR_ALL, VALUE_TEXT},
	{"sasl.oauthbearer.client.id", MAPPING, FOR_ALL, VALUE_TEXT},
	{"sasl.oauthbearer.client.secret", MAPPING, SECRET, VALUE_TEXT},
	{"sasl.oauthbearer.config", MAPPING, SECRET, VALUE_TEXT},
	{"sasl.kerberos.service.name", SERVER, FOR_SUPERUSERS, VALUE_TEXT},
	{"sasl.kerberos.principal", SERVER | MAPPING, FOR_SUPERUSERS, VALUE_TEXT},
	{"sasl.kerberos.keytab", SERVER | MAPPING, FOR_SUPERUSERS, VALUE_TEXT},
	/* refused for all */
	{"sasl.kerberos.kinit.cmd", .refused = RUNS_CODE},
	{"plugin.library.paths", .refused = RUNS_CODE},
	{"interceptors", .refused = RUNS_CODE},
	{"ssl.engine.location", .refused = RUNS_CODE},
	{"ssl.engine.id", .refused = RUNS_CODE},
	{"ssl_engine_callback_data", .refused = RUNS_CODE},
	{"ssl.providers", .refused = RUNS_CODE},
	{"error_cb", .refused = CALLBACK},
	{"throttle_cb", .refused = CALLBACK},
	{"stats_cb", .refused = CALLBACK},
	{"log_cb", .refused = CALLBACK},
	{"background_event_cb", .refused = CALLBACK},
	{"socket_cb", .refused = CALLBACK},
	{"connect_cb", .refused = CALLBACK},
	{"closesocket_cb", .refused = CALLBACK},
	{"open_cb", .refused = CALLBACK},
	{"resolve_cb", .refused = CALLBACK},
	{"consume_cb", .refused = CALLBACK},
	{"rebalance_cb", .refused = CALLBACK},
	{"offset_commit_cb", .refused = CALLBACK},
	{"ssl.certificate.verify_cb", .refused = CALLBACK},
	{"oauthbearer_token_refresh_cb", .refused = CALLBACK},
	{"opaque", .refused = CALLBACK},
	{"default_topic_conf", .refused = CALLBACK},
	{"ssl_key", .refused = CALLBACK},
	{"ssl_certificate", .refused = CALLBACK},
	{"ssl_ca", .refused = CALLBACK},
	{"group.id", .refused = NO_GROUP},
	{"group.instance.id", .refused = NO_GROUP},
	{"group.protocol", .refused = NO_GROUP},
	{"group.protocol.type", .refused = NO_GROUP},
	{"partition.assignment.strategy", .refused = NO_GROUP},
	{"session.timeout.ms", .refused = NO_GROUP},
	{"heartbeat.interval.ms", .refused = NO_GROUP},
	{"max.poll.interval.ms", .refused = NO_GROUP},
	{"coordinator.query.interval.ms", .refused = NO_GROUP},
	{"enable.auto.commit", .refused = OWN},
	{"auto.commit.enable", .refused = OWN},
	{"auto.commit.interval.ms", .refused = OWN},
	{"enable.auto.offset.store", .refused = OWN},
	{"offset.store.method", .refused = OWN},
	{"isolation.level", .refused = "clickstream sets it itself: transactional topics are read committed."},
	{"auto.offset.reset", .refused = OWN_START},
	{"enable.partition.eof", .refused = OWN},
	{"allow.auto.create.topics", .refused = "clickstream sets it itself: reading never makes a topic."},
	{"statistics.interval.ms", .refused = OWN_LOG},
	{"debug", .refused = OWN_LOG},
	{"log_level", .refused = OWN_LOG},
	{"log.queue", .refused = OWN_LOG},
	{"log.thread.name", .refused = OWN_LOG},
	{"log.connection.close", .refused = OWN_LOG},
	{"enabled_events", .refused = OWN_LOG},
	{"internal.termination.signal", .refused = "clickstream blocks all signals in librdkafka's threads."},
	{"enable.sasl.oauthbearer.unsecure.jwt", .refused = "Tokens without a signature are no authentication."},
	{"metadata.broker.list", .refused = "It is an old name of bootstrap.servers."},
	{"topic.blacklist", .refused = "A source names its topic."},
	{"topic.denylist", .refused = "A source names its topic."},
	{"acks", .refused = PRODUCER},
	{"request.required.acks", .refused = PRODUCER},
	{"request.timeout.ms", .refused = PRODUCER},
	{"message.timeout.ms", .refused = PRODUCER},
	{"delivery.timeout.ms", .refused = PRODUCER},
	{"linger.ms", .refused = PRODUCER},
	{"batch.size", .refused = PRODUCER},
	{"compression.type", .refused = PRODUCER},
	{"compression.codec", .refused = PRODUCER},
	{"enable.idempotence", .refused = PRODUCER},
	{"transactional.id", .refused = PRODUCER},
	{"partitioner", .refused = PRODUCER},
};

static const Option elasticsearch_options[] = {
	{"url", SERVER, FOR_ALL, VALUE_URLS},
	{"timeout", SERVER, FOR_ALL, VALUE_DURATION, 100, 3600000},
	{"compression", SERVER, FOR_ALL, VALUE_CHOICE, 0, 0, "none gzip"},
	{"max_in_flight", SERVER, FOR_ALL, VALUE_INTEGER, 1, 16},
	{"ca_file", SERVER, FOR_SUPERUSERS, VALUE_TEXT},
	{"ca_pem", SERVER, FOR_ALL, VALUE_PEM, .choices = "CERTIFICATE"},
	{"username", MAPPING, FOR_ALL, VALUE_USER},
	{"password", MAPPING, SECRET, VALUE_TEXT},
	{"api_key", MAPPING, SECRET, VALUE_TOKEN},
	{"certificate_file", MAPPING, FOR_SUPERUSERS, VALUE_TEXT},
	{"certificate_pem", MAPPING, FOR_ALL, VALUE_PEM, .choices = "CERTIFICATE"},
	{"key_file", MAPPING, FOR_SUPERUSERS, VALUE_TEXT},
	{"key_pem", MAPPING, SECRET, VALUE_PEM, .choices = "PRIVATE KEY"},
	{"key_password", MAPPING, SECRET, VALUE_TEXT},
};

/* what differs between the two kinds */

const Wrapper connection_wrappers[] = {
	[CONNECTION_KAFKA] = {
		"clickstream_kafka", "Kafka", "bootstrap.servers", "\"bootstrap.servers\" 'host:9092'",
		"Options are librdkafka's own property names, such as \"bootstrap.servers\" and \"security.protocol\".",
		kafka_options, lengthof(kafka_options)
	},
	[CONNECTION_ELASTICSEARCH] = {
		"clickstream_elasticsearch", "Elasticsearch", "url", "url 'http://host:9200'",
		"A server takes url, timeout, compression, max_in_flight, ca_pem and ca_file; a user mapping username and password, or api_key, "
		"and certificate_pem and key_pem, or certificate_file and key_file.",
		elasticsearch_options, lengthof(elasticsearch_options)
	},
};
