/*
 * connection.c
 *		Servers and user mappings of the two foreign data wrappers: options checked, secrets read.
 *
 * Owns the one table of all options: where each may be given, by whom, which values it takes, or
 * why it is refused.  The table is an allow-list: librdkafka has properties that run commands or
 * load libraries in the server, and new releases may bring more.  Options are checked when a server
 * or mapping is made or altered, and again whenever a worker or SQL function reads them.
 *
 * A secret never appears in a message, and nothing here logs an option list.  An error about options
 * keeps its statement out of the server's log, as the statement may hold a secret beside its fault.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/reloptions.h"
#include "catalog/pg_foreign_data_wrapper.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "fmgr.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

#include "compat.h"
#include "connection.h"

/* where an option may be given */
#define SERVER 1
#define MAPPING 2

typedef enum ValueKind
{
	VALUE_TEXT,					/* anything but nothing */
	VALUE_BOOLEAN,
	VALUE_INTEGER,				/* min .. max */
	VALUE_CHOICE,				/* one of the words in choices, split by blanks */
	VALUE_HOSTS,				/* host[:port], … */
	VALUE_URLS,					/* http[s]://host[:port][/path], … */
	VALUE_PEM,					/* the text of such a file, with a block as named in choices */
	VALUE_USER,					/* of HTTP basic authentication: no colon */
	VALUE_TOKEN,				/* fit to stand in a header of HTTP */
	VALUE_DURATION				/* 30s, 500ms, 2min: min .. max are milliseconds */
} ValueKind;

typedef enum Restriction
{
	FOR_ALL,
	SECRET,						/* never shown; on the server it would be readable by all */
	FOR_SUPERUSERS				/* names a file of the database server */
} Restriction;

typedef struct Option
{
	const char *name;
	int			places;			/* SERVER | MAPPING; 0: refused */
	Restriction restriction;
	ValueKind	kind;
	int64		min;
	int64		max;
	const char *choices;
	const char *refused;		/* why, as a detail, when places is 0 */
} Option;

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
typedef struct Wrapper
{
	const char *name;
	const char *label;
	const char *required;
	const char *example;		/* of OPTIONS, for hints */
	const char *option_hint;
	const Option *options;
	int			n_options;
} Wrapper;

static const Wrapper wrappers[] = {
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

PG_FUNCTION_INFO_V1(clickstream_kafka_validator);
PG_FUNCTION_INFO_V1(clickstream_elasticsearch_validator);

/* ---------------------------------------------------------------- names */

static const Option *
find_option(const Wrapper *wrapper, const char *name)
{
	int			i;

	for (i = 0; i < wrapper->n_options; i++)
		if (strcmp(wrapper->options[i].name, name) == 0)
			return &wrapper->options[i];
	return NULL;
}

bool
connection_takes_option(ConnectionKind kind, const char *name, bool *in_mapping, const char **why)
{
	const Option *option = find_option(&wrappers[kind], name);

	*why = option ? option->refused : NULL;
	*in_mapping = option && (option->places & SERVER) == 0;
	return option && option->places != 0;
}

/* the name most like it among those that may be given in that place, or NULL when none is near */
static const char *
nearest_option(const Wrapper *wrapper, const char *name, int place)
{
	int			length = strlen(name);
	int			nearest = Min(length / 2, 12) + 1;
	const char *found = NULL;
	int			i;

	if (length > 100)
		return NULL;
	for (i = 0; i < wrapper->n_options; i++)
	{
		const Option *option = &wrapper->options[i];
		int			distance;

		if ((option->places & place) == 0)
			continue;
		distance = varstr_levenshtein(name, length, option->name, strlen(option->name), 1, 1, 1,
									  true);
		if (distance < nearest)
		{
			nearest = distance;
			found = option->name;
		}
	}
	return found;
}

static void
refuse_unknown(const Wrapper *wrapper, const char *name, int place)
{
	const char *nearest = nearest_option(wrapper, name, place);

	ereport(ERROR,
			(errcode(ERRCODE_FDW_INVALID_OPTION_NAME), errhidestmt(true),
			 errmsg("invalid option \"%s\"", name),
			 nearest ? errhint("Perhaps you meant the option \"%s\".", nearest) :
			 errhint("%s", wrapper->option_hint)));
}

static void
refuse_misplaced(const Option *option)
{
	if (option->restriction == SECRET)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_OPTION_NAME), errhidestmt(true),
				 errmsg("option \"%s\" is a secret and does not belong on the server", option->name),
				 errdetail("Everybody can read the options of a server."),
				 errhint("Give it to a role: CREATE USER MAPPING FOR role SERVER server OPTIONS "
						 "(\"%s\" '...').", option->name)));
	if (option->places == MAPPING)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_OPTION_NAME), errhidestmt(true),
				 errmsg("option \"%s\" belongs to a role, not to the server", option->name),
				 errhint("Give it to a role: CREATE USER MAPPING FOR role SERVER server OPTIONS "
						 "(\"%s\" '...').", option->name)));
	ereport(ERROR,
			(errcode(ERRCODE_FDW_INVALID_OPTION_NAME), errhidestmt(true),
			 errmsg("option \"%s\" belongs to the server, not to a user mapping", option->name),
			 errhint("Use ALTER SERVER server OPTIONS (ADD \"%s\" '...').", option->name)));
}

/* ---------------------------------------------------------------- values */

/* the value is shown unless it could hold a secret */
static void
refuse_value(const Option *option, const char *value, const char *hint)
{
	bool		shown = option->restriction != SECRET && option->kind != VALUE_URLS &&
		option->kind != VALUE_PEM && option->kind != VALUE_USER;

	ereport(ERROR,
			(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE), errhidestmt(true),
			 shown ? errmsg("invalid value for option \"%s\": \"%s\"", option->name, value) :
			 errmsg("invalid value for option \"%s\"", option->name),
			 errhint("%s", hint)));
}

static bool
is_one_of(const char *value, const char *choices)
{
	size_t		length = strlen(value);
	const char *at = choices;

	while (length > 0 && (at = strstr(at, value)) != NULL)
	{
		if ((at == choices || at[-1] == ' ') && (at[length] == ' ' || at[length] == '\0'))
			return strchr(value, ' ') == NULL;
		at += length;
	}
	return false;
}

static void
check_integer(const Option *option, const char *value)
{
	char	   *end;
	int64		number;

	errno = 0;
	number = strtoll(value, &end, 10);
	if (end == value || *end != '\0' || errno != 0 || isspace((unsigned char) value[0]) ||
		number < option->min || number > option->max)
		refuse_value(option, value,
					 psprintf("Give a whole number from " INT64_FORMAT " to " INT64_FORMAT ".",
							  option->min, option->max));
}

static bool
is_port(const char *text, size_t length)
{
	int			port = 0;
	size_t		i;

	if (length == 0 || length > 5)
		return false;
	for (i = 0; i < length; i++)
	{
		if (text[i] < '0' || text[i] > '9')
			return false;
		port = port * 10 + (text[i] - '0');
	}
	return port >= 1 && port <= 65535;
}

/* host, host:port, [v6], [v6]:port; no user, no path */
static bool
is_host_and_port(const char *text, size_t length)
{
	const char *end = text + length;
	const char *at = text;
	const char *host_end;

	if (length > 0 && text[0] == '[')
	{
		host_end = memchr(text, ']', length);
		if (host_end == NULL || host_end == text + 1)
			return false;
		for (at = text + 1; at < host_end; at++)
			if (strchr("0123456789abcdefABCDEF:.%", *at) == NULL)
				return false;
		at = host_end + 1;
	}
	else
	{
		for (; at < end && *at != ':'; at++)
			if (!isalnum((unsigned char) *at) && strchr(".-_", *at) == NULL &&
				!IS_HIGHBIT_SET(*at))
				return false;
		if (at == text)
			return false;
	}
	return at == end || (*at == ':' && is_port(at + 1, end - at - 1));
}

/* calls the check for each part between commas, blanks around it taken off; false if any fails */
static bool
all_parts(const char *value, bool (*check) (const char *, size_t))
{
	const char *at = value;

	for (;;)
	{
		size_t		length = strcspn(at, ",");
		const char *from = at;
		size_t		part = length;

		while (part > 0 && isspace((unsigned char) *from))
			from++, part--;
		while (part > 0 && isspace((unsigned char) from[part - 1]))
			part--;
		if (!check(from, part))
			return false;
		if (at[length] == '\0')
			return true;
		at += length + 1;
	}
}

/* a broker may carry its protocol: SSL://host:9093 */
static bool
is_broker(const char *text, size_t length)
{
	static const char *const protocols[] = {
		"PLAINTEXT://", "SSL://", "SASL_PLAINTEXT://", "SASL_SSL://"
	};
	int			i;

	for (i = 0; i < lengthof(protocols); i++)
	{
		size_t		prefix = strlen(protocols[i]);

		if (length > prefix && pg_strncasecmp(text, protocols[i], prefix) == 0)
			return is_host_and_port(text + prefix, length - prefix);
	}
	return is_host_and_port(text, length);
}

/* http or https, a host, perhaps a port and a path; no user, no query, no fragment */
static bool
is_url(const char *text, size_t length)
{
	size_t		prefix;
	size_t		host;
	size_t		i;

	if (length > 7 && pg_strncasecmp(text, "http://", 7) == 0)
		prefix = 7;
	else if (length > 8 && pg_strncasecmp(text, "https://", 8) == 0)
		prefix = 8;
	else
		return false;
	for (i = prefix; i < length; i++)
		if (strchr("?#@\\\"'<>", text[i]) != NULL || isspace((unsigned char) text[i]) ||
			iscntrl((unsigned char) text[i]))
			return false;
	for (host = 0; prefix + host < length && text[prefix + host] != '/'; host++)
		;
	return is_host_and_port(text + prefix, host);
}

static void
check_urls(const Option *option, const char *value)
{
	if (strchr(value, '@') != NULL)
		refuse_value(option, value,
					 "A url holds no user and no password: give username and password in CREATE "
					 "USER MAPPING.");
	if (!all_parts(value, is_url))
		refuse_value(option, value, "Give http://host:port or https://host:port, with a path prefix "
					 "if need be.");
}

int
connection_duration_ms(const char *value)
{
	int			ms;

	if (!parse_int(value, &ms, GUC_UNIT_MS, NULL))
		elog(ERROR, "invalid duration \"%s\"", value);
	return ms;
}

static void
check_duration(const Option *option, const char *value)
{
	int			ms;

	if (!parse_int(value, &ms, GUC_UNIT_MS, NULL) || ms < option->min || ms > option->max)
		refuse_value(option, value, "Give a time such as '30s', '500ms' or '2min'.");
}

/* "-----BEGIN <anything> <block>-----", and the same with END after it */
static bool
has_pem_block(const char *value, const char *block)
{
	char	   *tail = psprintf("%s-----", block);
	const char *begin = strstr(value, "-----BEGIN ");
	const char *title = begin ? strstr(begin, tail) : NULL;
	const char *end = title ? strstr(title, "-----END ") : NULL;

	return end && strcspn(begin, "\n") > (size_t) (title - begin) && strstr(end, tail) != NULL;
}

static void
check_pem(const Option *option, const char *value)
{
	if (!has_pem_block(value, option->choices))
		refuse_value(option, value,
					 psprintf("Give the text of a PEM file, with its lines -----BEGIN %s----- and "
							  "-----END %s-----; superusers may give the name of a file as %.*s_file.",
							  option->choices, option->choices,
							  (int) strcspn(option->name, "_"), option->name));
}

static void
check_token(const Option *option, const char *value)
{
	const char *at;

	for (at = value; *at; at++)
		if (*at <= ' ' || *at > '~')
			refuse_value(option, value,
						 "Give the key as Elasticsearch shows it: \"encoded\", or id:api_key.");
}

static void
check_value(const Option *option, const char *value)
{
	if (value[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE), errhidestmt(true),
				 errmsg("option \"%s\" must not be empty", option->name),
				 errhint("Give it a value or leave it out.")));
	switch (option->kind)
	{
		case VALUE_TEXT:
			break;
		case VALUE_BOOLEAN:
			if (!is_one_of(value, "true false"))
				refuse_value(option, value, "Give true or false.");
			break;
		case VALUE_INTEGER:
			check_integer(option, value);
			break;
		case VALUE_CHOICE:
			if (!is_one_of(value, option->choices))
				refuse_value(option, value, psprintf("Give one of: %s.", option->choices));
			break;
		case VALUE_HOSTS:
			if (!all_parts(value, is_broker))
				refuse_value(option, value, "Give host:port, or several with commas between.");
			break;
		case VALUE_URLS:
			check_urls(option, value);
			break;
		case VALUE_DURATION:
			check_duration(option, value);
			break;
		case VALUE_PEM:
			check_pem(option, value);
			break;
		case VALUE_USER:
			if (strchr(value, ':') != NULL)
				refuse_value(option, value, "A user's name holds no colon; the password is an option of "
							 "its own.");
			break;
		case VALUE_TOKEN:
			check_token(option, value);
			break;
	}
}

/* ---------------------------------------------------------------- option lists */

static bool
has_option(List *options, const char *name)
{
	ListCell   *cell;

	foreach(cell, options)
		if (strcmp(((DefElem *) lfirst(cell))->defname, name) == 0)
			return true;
	return false;
}

/*
 * Checks one option.  Whether a superuser gave it is asked when it is given; a worker that reads it
 * later acts for the owner of a source or sink, who need not be one.
 */
static void
check_option(const Wrapper *wrapper, DefElem *given, int place, bool giving)
{
	const Option *option = find_option(wrapper, given->defname);

	if (option == NULL)
		refuse_unknown(wrapper, given->defname, place);
	if (option->refused)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_OPTION_NAME), errhidestmt(true),
				 errmsg("option \"%s\" cannot be set", option->name),
				 errdetail("%s", option->refused),
				 errhint("Leave it out.")));
	if ((option->places & place) == 0)
		refuse_misplaced(option);
	if (giving && option->restriction == FOR_SUPERUSERS && !superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errhidestmt(true),
				 errmsg("only a superuser may set option \"%s\"", option->name),
				 errdetail("It has the database server open a file or act under its system account."),
				 errhint("Where there is a \"pem\" option it takes the file's contents instead.")));
	check_value(option, defGetString(given));
}

/* the same thing is given as text or as a file */
static void
check_text_or_file(List *options, const char *thing)
{
	char	   *text = psprintf("%s_pem", thing);
	char	   *file = psprintf("%s_file", thing);

	if (has_option(options, text) && has_option(options, file))
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE), errhidestmt(true),
				 errmsg("option \"%s\" excludes \"%s\"", text, file),
				 errhint("Keep one of the two.")));
}

static void
check_certificate(List *options)
{
	bool		certificate = has_option(options, "certificate_pem") ||
		has_option(options, "certificate_file");
	bool		key = has_option(options, "key_pem") || has_option(options, "key_file");

	check_text_or_file(options, "certificate");
	check_text_or_file(options, "key");
	if (certificate != key)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_DYNAMIC_PARAMETER_VALUE_NEEDED), errhidestmt(true),
				 errmsg("option \"%s\" is missing", certificate ? "key_pem" : "certificate_pem"),
				 errhint("Give both the certificate and its key.")));
	if (!key && has_option(options, "key_password"))
		ereport(ERROR,
				(errcode(ERRCODE_FDW_DYNAMIC_PARAMETER_VALUE_NEEDED), errhidestmt(true),
				 errmsg("option \"key_password\" is given without a key"),
				 errhint("Give certificate_pem and key_pem, too.")));
}

static void
check_user_or_key(List *options)
{
	bool		username = has_option(options, "username");
	bool		password = has_option(options, "password");

	if (has_option(options, "api_key") && (username || password))
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE), errhidestmt(true),
				 errmsg("option \"api_key\" excludes \"username\" and \"password\""),
				 errhint("Keep one of the two.")));
	if (username != password)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_DYNAMIC_PARAMETER_VALUE_NEEDED), errhidestmt(true),
				 errmsg("option \"%s\" is missing", username ? "password" : "username"),
				 errhint("Give both username and password, or an api_key.")));
}

/* how a role proves who it is to Elasticsearch: one way, and whole; beside it perhaps a certificate */
static void
check_credentials(List *options)
{
	check_certificate(options);
	check_user_or_key(options);
}

static void
check_options(ConnectionKind kind, List *options, int place, bool giving)
{
	const Wrapper *wrapper = &wrappers[kind];
	ListCell   *cell;

	foreach(cell, options)
		check_option(wrapper, lfirst(cell), place, giving);
	if (place == SERVER && !has_option(options, wrapper->required))
		ereport(ERROR,
				(errcode(ERRCODE_FDW_DYNAMIC_PARAMETER_VALUE_NEEDED), errhidestmt(true),
				 errmsg("option \"%s\" is missing", wrapper->required),
				 errhint("Add OPTIONS (%s).", wrapper->example)));
	if (kind == CONNECTION_ELASTICSEARCH && place == SERVER)
		check_text_or_file(options, "ca");
	if (kind == CONNECTION_ELASTICSEARCH && place == MAPPING)
		check_credentials(options);
}

static void
validate(ConnectionKind kind, Datum given, Oid catalog)
{
	List	   *options = untransformRelOptions(given);

	if (catalog == ForeignServerRelationId)
		check_options(kind, options, SERVER, true);
	else if (catalog == UserMappingRelationId)
		check_options(kind, options, MAPPING, true);
	else if (options != NIL)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_OPTION_NAME), errhidestmt(true),
				 errmsg("options belong on a server or a user mapping"),
				 errhint("CREATE SERVER name FOREIGN DATA WRAPPER %s OPTIONS (%s).",
						 wrappers[kind].name, wrappers[kind].example)));
}

Datum
clickstream_kafka_validator(PG_FUNCTION_ARGS)
{
	validate(CONNECTION_KAFKA, PG_GETARG_DATUM(0), PG_GETARG_OID(1));
	PG_RETURN_VOID();
}

Datum
clickstream_elasticsearch_validator(PG_FUNCTION_ARGS)
{
	validate(CONNECTION_ELASTICSEARCH, PG_GETARG_DATUM(0), PG_GETARG_OID(1));
	PG_RETURN_VOID();
}

/* ---------------------------------------------------------------- reading */

static void
check_wrapper(ForeignServer *server, const Wrapper *wrapper)
{
	ForeignDataWrapper *found = GetForeignDataWrapper(server->fdwid);

	if (strcmp(found->fdwname, wrapper->name) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("server \"%s\" is not a connection to %s", server->servername,
						wrapper->label),
				 errdetail("Its foreign data wrapper is \"%s\".", found->fdwname),
				 errhint("Name a server made with FOREIGN DATA WRAPPER %s.", wrapper->name)));
}

Oid
connection_server(const char *name, ConnectionKind kind, Oid role)
{
	const Wrapper *wrapper = &wrappers[kind];
	ForeignServer *server = GetForeignServerByName(name, true);

	if (server == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("server \"%s\" does not exist", name),
				 errhint("CREATE SERVER %s FOREIGN DATA WRAPPER %s OPTIONS (%s).",
						 quote_identifier(name), wrapper->name, wrapper->example)));
	check_wrapper(server, wrapper);
	if (compat_server_aclcheck(server->serverid, role, ACL_USAGE) != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for foreign server %s", name),
				 errhint("GRANT USAGE ON FOREIGN SERVER %s TO %s.", quote_identifier(name),
						 quote_identifier(GetUserNameFromId(role, false)))));
	return server->serverid;
}

static List *
mapping_options(Oid role, Oid server)
{
	HeapTuple	tuple = SearchSysCache2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(role),
										ObjectIdGetDatum(server));
	List	   *options = NIL;
	Datum		value;
	bool		is_null;

	if (!HeapTupleIsValid(tuple))
		tuple = SearchSysCache2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(InvalidOid),
								ObjectIdGetDatum(server));
	if (!HeapTupleIsValid(tuple))
		return NIL;
	value = SysCacheGetAttr(USERMAPPINGUSERSERVER, tuple, Anum_pg_user_mapping_umoptions, &is_null);
	if (!is_null)
		options = untransformRelOptions(value);
	ReleaseSysCache(tuple);
	return options;
}

/* a broker that wants a user name, and a role without one: said here, as librdkafka says it badly */
static void
check_sasl(ForeignServer *server, List *options, Oid role)
{
	bool		needed = false;
	ListCell   *cell;

	foreach(cell, options)
	{
		DefElem    *option = lfirst(cell);

		if (strncmp(option->defname, "sasl.mechanism", strlen("sasl.mechanism")) == 0 &&
			is_one_of(defGetString(option), "PLAIN SCRAM-SHA-256 SCRAM-SHA-512"))
			needed = true;
	}
	if (needed && !(has_option(options, "sasl.username") && has_option(options, "sasl.password")))
		ereport(ERROR,
				(errcode(ERRCODE_FDW_DYNAMIC_PARAMETER_VALUE_NEEDED),
				 errmsg("server \"%s\" asks for a user name and a password",
						server->servername),
				 errhint("CREATE USER MAPPING FOR %s SERVER %s OPTIONS (\"sasl.username\" '...', "
						 "\"sasl.password\" '...').",
						 quote_identifier(GetUserNameFromId(role, false)),
						 quote_identifier(server->servername))));
}

List *
connection_options(const char *name, ConnectionKind kind, Oid role)
{
	ForeignServer *server = GetForeignServer(connection_server(name, kind, role));
	List	   *of_mapping = mapping_options(role, server->serverid);
	List	   *options;

	check_options(kind, server->options, SERVER, false);
	check_options(kind, of_mapping, MAPPING, false);
	options = list_concat(list_copy(server->options), of_mapping);
	if (kind == CONNECTION_KAFKA)
		check_sasl(server, options, role);
	return options;
}
