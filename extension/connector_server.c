/*
 * connector_server.c
 *		The CREATE SERVER and CREATE USER MAPPING of a sink of Kafka Connect.
 *
 * Owns where a secret of the configuration goes: into the user mapping, as it was given, and nowhere else.
 * Called by connector_sql.c and connector_sink.c.
 */
#include "postgres.h"

#include "commands/defrem.h"
#include "foreign/foreign.h"
#include "utils/builtins.h"

#include "connection.h"
#include "connector_script.h"

#define KAFKA_PLACEHOLDER "localhost:9092"

/* A name that is free, or that of a server with this very option. */
static char *
server_name(const Connector *connector, const char *usual, const char *option, const char *value)
{
	ForeignServer *server = GetForeignServerByName(usual, true);
	ListCell   *cell;

	if (server == NULL || value == NULL)
		return pstrdup(usual);
	foreach(cell, server->options)
	{
		DefElem    *element = lfirst(cell);

		if (strcmp(element->defname, option) == 0 && strcmp(defGetString(element), value) == 0)
			return pstrdup(usual);
	}
	return psprintf("%s %s", connector->name ? connector->name : "connector", usual);
}

static void
append_option(StringInfo options, const char *name, const char *value)
{
	appendStringInfo(options, "%s%s %s", options->len > 0 ? ", " : "", quote_identifier(name), quote_literal_cstr(value));
}

static void
create_server(Script *script, const char *name, const char *wrapper, const char *options)
{
	script_append(script, "CREATE SERVER IF NOT EXISTS %s FOREIGN DATA WRAPPER %s\n    OPTIONS (%s);\n",
		   quote_identifier(name), wrapper, options);
}

/* The workers use the mapping of the table's owner, which is taken to be who runs this. */
static void
create_user_mapping(Script *script, const char *server, const char *options)
{
	if (*options)
		script_append(script, "CREATE USER MAPPING IF NOT EXISTS FOR CURRENT_USER SERVER %s\n    OPTIONS (%s);\n",
			   quote_identifier(server), options);
}

/* the quoted value after a word in a JAAS configuration, or NULL */
static char *
jaas_value(const char *jaas, const char *word)
{
	const char *at = jaas ? strstr(jaas, word) : NULL;

	at = at ? strchr(at, '"') : NULL;
	return at ? pnstrdup(at + 1, strcspn(at + 1, "\"")) : NULL;
}

/* what is an argument of create_source here: see append_consumer */
static bool
is_argument(const char *option)
{
	return strcmp(option, "auto.offset.reset") == 0 || strcmp(option, "group.id") == 0;
}

/* client options that stand in the connector, where a connection takes them */
static void
take_client_options(Connector *connector, StringInfo server, StringInfo mapping)
{
	static const char prefix[] = "consumer.override.";
	ListCell   *cell;

	foreach(cell, connector->settings)
	{
		ConnectorSetting *setting = lfirst(cell);
		const char *name = setting->name + strlen(prefix);
		const char *why;
		bool		in_mapping;

		if (setting->taken || strncmp(setting->name, prefix, strlen(prefix)) != 0 || is_argument(name))
			continue;
		if (connection_takes_option(CONNECTION_KAFKA, name, &in_mapping, &why))
			append_option(in_mapping ? mapping : server, name, connector_get(connector, setting->name));
		else if (!connector_note_known(connector, setting))
			connector_note(connector, false, setting->name, why ? why : "a connection has no such option");
	}
}

/* Connect's own client settings stand in its worker's file; a connector can override them. */
void
script_kafka_server(Script *script)
{
	Connector  *connector = script->connector;
	const char *jaas = connector_get(connector, "consumer.override.sasl.jaas.config");
	const char *brokers = connector_get(connector, "consumer.override.bootstrap.servers");
	StringInfoData server;
	StringInfoData mapping;

	initStringInfo(&server);
	initStringInfo(&mapping);
	append_option(&server, "bootstrap.servers", brokers ? brokers : KAFKA_PLACEHOLDER);
	if (jaas_value(jaas, "username="))
		append_option(&mapping, "sasl.username", jaas_value(jaas, "username="));
	if (jaas_value(jaas, "password="))
		append_option(&mapping, "sasl.password", jaas_value(jaas, "password="));
	take_client_options(connector, &server, &mapping);
	script->kafka = server_name(connector, "kafka", "bootstrap.servers", brokers);
	if (brokers == NULL)
		script_append(script, "-- bootstrap.servers stands in the settings of Connect's worker, not here: put it in\n");
	create_server(script, script->kafka, "clickstream_kafka", server.data);
	create_user_mapping(script, script->kafka, mapping.data);
}

/* user and password before the host belong in the user mapping: taken out of the address */
static char *
without_user(const char *url, StringInfo mapping)
{
	const char *host = strstr(url, "://");
	size_t		length = host ? strcspn(host + 3, "/?#") : 0;
	char	   *user = host ? pnstrdup(host + 3, length) : NULL;
	char	   *at = user ? strrchr(user, '@') : NULL;
	char	   *colon;

	if (at == NULL)
		return pstrdup(url);
	*at = '\0';
	colon = strchr(user, ':');
	if (colon)
		*colon = '\0';
	if (mapping->len == 0)
	{
		append_option(mapping, "username", user);
		append_option(mapping, "password", colon ? colon + 1 : "");
	}
	return psprintf("%.*s%s", (int) (host + 3 - url), url, host + 3 + (at - user) + 1);
}

/* "host:9200" means http there, and a blank may follow a comma */
static char *
urls_of(Connector *connector, StringInfo mapping)
{
	StringInfoData urls;
	ListCell   *cell;

	initStringInfo(&urls);
	foreach(cell, connector_get_list(connector, "connection.url"))
	{
		const char *url = without_user(lfirst(cell), mapping);

		appendStringInfo(&urls, "%s%s%s", urls.len > 0 ? "," : "", strstr(url, "://") ? "" : "http://", url);
	}
	if (urls.len == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errhidestmt(true),
				 errmsg("the configuration has no \"connection.url\""),
				 errhint("It says where Elasticsearch is, such as \"http://localhost:9200\".")));
	return urls.data;
}

void
script_search_server(Script *script)
{
	Connector  *connector = script->connector;
	const char *username = connector_get(connector, "connection.username");
	const char *password = connector_get(connector, "connection.password");
	const char *timeout = connector_number(connector, "read.timeout.ms", 100, 3600000);
	const char *in_flight = connector_number(connector, "max.in.flight.requests", 1, 16);
	char	   *urls;
	StringInfoData server;
	StringInfoData mapping;

	initStringInfo(&server);
	initStringInfo(&mapping);
	if (username)
		append_option(&mapping, "username", username);
	if (password)
		append_option(&mapping, "password", password);
	urls = urls_of(connector, &mapping);
	append_option(&server, "url", urls);
	if (timeout)
		append_option(&server, "timeout", psprintf("%sms", timeout));
	if (connector_is(connector, "connection.compression", false))
		append_option(&server, "compression", "gzip");
	if (in_flight)
		append_option(&server, "max_in_flight", in_flight);
	script->search = server_name(connector, "search", "url", urls);
	create_server(script, script->search, "clickstream_elasticsearch", server.data);
	if (password && strncmp(password, "${", 2) == 0)
		script_append(script, "-- the password is a reference to a secret of Connect's: put the secret itself in\n");
	create_user_mapping(script, script->search, mapping.data);
}
