/*
 * connector_sql.c
 *		The SQL function connector_sql: a sink of Kafka Connect as the statements that do the same here.
 *
 * It writes text and changes nothing.  What it prints is built from a configuration that came from
 * somewhere, so every name goes through quote_identifier, every value through quote_literal.  Statements
 * come in the order in which they are run; comments about settings follow.
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "commands/defrem.h"
#include "fmgr.h"
#include "foreign/foreign.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/formatting.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"

#include "catalog.h"
#include "connection.h"
#include "connector.h"
#include "statement.h"

/* as many workers as a source may have */
#define MOST_WORKERS 64

/* what create_sink takes: see sink_check_bulk */
#define LEAST_BULK_BYTES 1024
#define MOST_BULK_BYTES (100 * 1024 * 1024)
#define LONGEST_BULK_WAIT_MS 60000

#define KAFKA_PLACEHOLDER "localhost:9092"

/* what is being written */
typedef struct Script
{
	Connector  *connector;
	StringInfoData text;
	char	   *kafka;			/* the names of the two servers */
	char	   *search;
} Script;

PG_FUNCTION_INFO_V1(clickstream_connector_sql);

/* ---------------------------------------------------------------- names */

/* what RegexRouter makes of the topic's name: as in Java the whole of it has to match */
static char *
routed(const Connector *connector, const char *topic)
{
	StringInfoData replacement;

	if (connector->route_regex == NULL || connector->route_replacement == NULL)
		return pstrdup(topic);
	initStringInfo(&replacement);
	for (const char *c = connector->route_replacement; *c; c++)
	{
		if (*c == '$' && c[1] >= '1' && c[1] <= '9')
			appendStringInfoChar(&replacement, '\\');
		else if (*c == '\\')
			appendStringInfoString(&replacement, "\\\\");
		else
			appendStringInfoChar(&replacement, *c);
	}
	return TextDatumGetCString(DirectFunctionCall3Coll(textregexreplace_noopt, C_COLLATION_OID,
													   CStringGetTextDatum(topic),
													   CStringGetTextDatum(psprintf("^(?:%s)$", connector->route_regex)),
													   CStringGetTextDatum(replacement.data)));
}

/* table.name.format, with schema if it has one: "public.${topic}" */
static char *
table_of_topic(Connector *connector, const char *topic)
{
	const char *format = connector_get(connector, "table.name.format");
	char	   *mapped = connector_map_get(connector, "topics.to.tables.mapping", topic);
	char	   *full = mapped ? mapped : routed(connector, topic);
	char	   *dot;
	char	   *before;

	if (format && mapped == NULL)
		full = text_to_cstring(DatumGetTextPP(DirectFunctionCall3Coll(replace_text, C_COLLATION_OID,
																	   CStringGetTextDatum(format),
																	   CStringGetTextDatum("${topic}"),
																	   CStringGetTextDatum(full))));
	dot = strrchr(full, '.');
	if (dot == NULL || dot == full || dot[1] == '\0')
		return pstrdup(quote_identifier(full));
	*dot = '\0';
	before = strrchr(full, '.');
	return quote_qualified_identifier(before ? before + 1 : full, dot + 1);
}

static char *
index_of_topic(Connector *connector, const char *topic)
{
	char	   *mapped = connector_map_get(connector, "topic.index.map", topic);
	char	   *name;

	if (mapped == NULL)
		mapped = connector_map_get(connector, "topic.to.external.resource.mapping", topic);
	name = mapped ? mapped : routed(connector, topic);
	return asc_tolower(name, strlen(name));
}

/* one connector may need several sources or sinks, whose names have to differ */
static char *
name_for(const Connector *connector, const char *topic, int n_topics)
{
	if (connector->name == NULL)
		return pstrdup(topic);
	return n_topics > 1 ? psprintf("%s-%s", connector->name, topic) : pstrdup(connector->name);
}

/* ---------------------------------------------------------------- servers */

static void append(Script *script, const char *format, ...) pg_attribute_printf(2, 3);

static void
append(Script *script, const char *format, ...)
{
	for (;;)
	{
		va_list		arguments;
		int			needed;

		va_start(arguments, format);
		needed = appendStringInfoVA(&script->text, format, arguments);
		va_end(arguments);
		if (needed == 0)
			return;
		enlargeStringInfo(&script->text, needed);
	}
}

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
	append(script, "CREATE SERVER IF NOT EXISTS %s FOREIGN DATA WRAPPER %s\n    OPTIONS (%s);\n",
		   quote_identifier(name), wrapper, options);
}

/* The workers use the mapping of the table's owner, which is taken to be who runs this. */
static void
create_user_mapping(Script *script, const char *server, const char *options)
{
	if (*options)
		append(script, "CREATE USER MAPPING IF NOT EXISTS FOR CURRENT_USER SERVER %s\n    OPTIONS (%s);\n",
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
static void
create_kafka_server(Script *script)
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
		append(script, "-- bootstrap.servers stands in the settings of Connect's worker, not here: put it in\n");
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

static void
create_search_server(Script *script)
{
	Connector  *connector = script->connector;
	const char *username = connector_get(connector, "connection.username");
	const char *password = connector_get(connector, "connection.password");
	const char *timeout = connector_number(connector, "read.timeout.ms", 100, 3600000);
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
	script->search = server_name(connector, "search", "url", urls);
	create_server(script, script->search, "clickstream_elasticsearch", server.data);
	if (password && strncmp(password, "${", 2) == 0)
		append(script, "-- the password is a reference to a secret of Connect's: put the secret itself in\n");
	create_user_mapping(script, script->search, mapping.data);
}

/* ---------------------------------------------------------------- tables */

static bool
is_key(List *key, const ConnectorColumn *column)
{
	ListCell   *cell;

	foreach(cell, key)
		if (strcmp(lfirst(cell), column->name) == 0)
			return true;
	return false;
}

/* the columns of the primary key that Connect would make */
static List *
primary_key(Connector *connector)
{
	const char *mode = connector_get(connector, "pk.mode");
	List	   *fields = connector_get_list(connector, "pk.fields");

	if (connector->kind != CONNECTOR_JDBC || mode == NULL || strcmp(mode, "none") == 0)
		return NIL;
	if (strcmp(mode, "kafka") == 0 && list_length(fields) != 3)
		return list_make3("__connect_topic", "__connect_partition", "__connect_offset");
	if (strcmp(mode, "record_key") == 0 && fields == NIL)
		return connector->key_fields;
	return fields;
}

static void
take_part(Connector *connector, const char *name, const char *part, const char *type)
{
	ConnectorColumn *column = connector_column(connector, name);

	column->part = part;
	column->type = type;
}

/* A configuration seldom names all fields.  Those that it does not name are one column, so that none is lost. */
static void
take_other_fields(Connector *connector)
{
	ConnectorColumn *column;

	if (connector_get(connector, "fields.whitelist"))
		return;
	if (connector->columns)
		take_part(connector, "document", "@rest", "jsonb");
	else if (connector->envelope)
	{
		column = connector_column(connector, "document");
		column->type = "jsonb";
		column->field = connector->envelope;
		connector->envelope = NULL;
	}
	else
		take_part(connector, "document", "@value", "jsonb");
}

/* A table for documents needs what their ids are made of. */
static void
take_id(Connector *connector)
{
	ListCell   *cell;

	take_part(connector, "kafka_partition", "@partition", "int");
	take_part(connector, "kafka_offset", "@offset", "bigint");
	if (connector_is(connector, "key.ignore", false))
		return;
	if (connector->key_fields == NIL)
		take_part(connector, "kafka_key", "@key", "text");
	foreach(cell, connector->key_fields)
		(void) connector_column(connector, lfirst(cell));
}

static void
create_table(Script *script, const char *table)
{
	Connector  *connector = script->connector;
	List	   *key = primary_key(connector);
	const char *comma = "";
	ListCell   *cell;

	append(script, "-- a column that the configuration gives no type is text, and fields that have no column are left out: adapt it\n");
	append(script, "CREATE TABLE IF NOT EXISTS %s (\n", table);
	foreach(cell, connector->columns)
	{
		ConnectorColumn *column = lfirst(cell);

		append(script, "%s    %s %s%s", comma, quote_identifier(column->name), column->type, is_key(key, column) ? " NOT NULL" : "");
		if (column->constant)
			append(script, " DEFAULT %s", quote_literal_cstr(column->constant));
		comma = ",\n";
	}
	if (key)
	{
		append(script, ",\n    PRIMARY KEY (");
		comma = "";
		foreach(cell, key)
		{
			append(script, "%s%s", comma, quote_identifier(lfirst(cell)));
			comma = ", ";
		}
		append(script, ")");
	}
	append(script, "\n);\n");
}

/* ---------------------------------------------------------------- sources */

static void
argument(Script *script, const char *name, const char *value)
{
	if (value)
		append(script, ",\n    %s => %s", name, quote_literal_cstr(value));
}

/* arguments that Connect knows as options of its consumer */
static void
append_consumer(Script *script)
{
	const char *start = connector_get(script->connector, "consumer.override.auto.offset.reset");

	argument(script, "start_at", start && strcmp(start, "latest") == 0 ? start : NULL);
	argument(script, "consumer_group", connector_get(script->connector, "consumer.override.group.id"));
}

static const char *
on_conflict(Connector *connector)
{
	const char *mode = connector_get(connector, "insert.mode");

	if (mode == NULL || pg_strcasecmp(mode, "insert") == 0 || pg_strcasecmp(mode, "multi") == 0)
		return NULL;
	if (pg_strcasecmp(mode, "upsert") != 0)
		connector_note(connector, false, "insert.mode", "a record whose key is not there is inserted all the same, as by upsert");
	return "update";
}

static int
workers(Connector *connector)
{
	const char *most = connector->kind == CONNECTOR_JDBC ? connector_number(connector, "tasks.max", 1, MOST_WORKERS) : NULL;

	return most ? atoi(most) : 1;
}

static void
create_source(Script *script, const char *name, const char *topic, const char *table)
{
	Connector  *connector = script->connector;
	int			n = workers(connector);

	append(script, "SELECT clickstream.create_source(%s, server => %s, topic => %s, target => %s", quote_literal_cstr(name),
		   quote_literal_cstr(script->kafka), quote_literal_cstr(topic), quote_literal_cstr(table));
	argument(script, "columns", connector_columns_json(connector));
	argument(script, "on_conflict", on_conflict(connector));
	append_consumer(script);
	if (n > 1)
		append(script, ",\n    workers => %d", n);
	append(script, ");\n");
}

/* "topics", or "topics.regex" as a source takes it */
static List *
topics_of(Connector *connector)
{
	List	   *topics = connector_get_list(connector, "topics");
	const char *regex = connector_get(connector, "topics.regex");

	if (topics == NIL && (regex == NULL || *regex == '\0'))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errhidestmt(true),
				 errmsg("the configuration has neither \"topics\" nor \"topics.regex\""),
				 errhint("One of them says what a sink reads.")));
	if (topics == NIL)
	{
		connector_note(connector, true, "topics.regex", "it is read as a regular expression of PostgreSQL's, which Java's can differ from");
		topics = list_make1(psprintf("^(%s)$", regex));
	}
	return topics;
}

static char *
joined(List *topics)
{
	StringInfoData text;
	ListCell   *cell;

	initStringInfo(&text);
	foreach(cell, topics)
		appendStringInfo(&text, "%s%s", text.len > 0 ? "," : "", (char *) lfirst(cell));
	return text.data;
}

/* topics that go into one table are one source */
static void
create_sources(Script *script)
{
	Connector  *connector = script->connector;
	List	   *topics = topics_of(connector);
	List	   *done = NIL;
	bool		make = connector_is(connector, "auto.create", false);
	ListCell   *cell;
	ListCell   *other;

	if (make)
		take_other_fields(connector);
	else if (connector->envelope && connector->columns == NIL)
		connector_note(connector, false, "value.converter.schemas.enable",
					   "the fields lie under \"payload\": name each in columns, such as {\"page\": \"payload.page\"}");
	foreach(cell, topics)
	{
		char	   *table = table_of_topic(connector, lfirst(cell));
		List	   *same = NIL;

		foreach(other, done)
			if (strcmp(lfirst(other), table) == 0)
				break;
		if (other)
			continue;
		done = lappend(done, table);
		foreach(other, topics)
			if (strcmp(table_of_topic(connector, lfirst(other)), table) == 0)
				same = lappend(same, lfirst(other));
		append(script, "\n");
		if (make)
			create_table(script, table);
		create_source(script, name_for(connector, lfirst(cell), list_length(topics) - list_length(same) + 1),
					  joined(same), table);
	}
}

/* ---------------------------------------------------------------- sinks */

/* the source of the caller's that reads the topic, or NULL */
static Source *
source_of_topic(const char *topic)
{
	ListCell   *cell;
	ListCell   *name;

	foreach(cell, catalog_sources())
	{
		Source	   *source = lfirst(cell);

		if (!OidIsValid(source->owner) || !has_privs_of_role(GetUserId(), source->owner))
			continue;
		foreach(name, source->topics)
			if (strcmp(lfirst(name), topic) == 0)
				return source;
	}
	return NULL;
}

/* the column of a source that takes this part of a record, or NULL */
static char *
column_from(const Source *source, const char *part)
{
	JsonbIterator *iterator = JsonbIteratorInit(&source->columns->root);
	JsonbValue	value;
	JsonbIteratorToken token;
	char	   *column = NULL;

	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			column = pnstrdup(value.val.string.val, value.val.string.len);
		else if (token == WJB_VALUE && value.type == jbvString && (size_t) value.val.string.len == strlen(part) &&
				 strncmp(value.val.string.val, part, strlen(part)) == 0)
			return column;
	}
	return NULL;
}

/* the column of a source that takes a field of the record */
static char *
column_of_field(const Source *source, const char *field)
{
	char	   *renamed = column_from(source, field);

	if (renamed)
		return renamed;
	return get_attnum(source->target, field) != InvalidAttrNumber ? pstrdup(field) : NULL;
}

static void
append_id(StringInfo id, const char *column)
{
	if (column)
		appendStringInfo(id, "%s%s", id->len > 0 ? "," : "", quote_identifier(column));
}

/* key.ignore: the record's place is the id, which is create_sink's default where it has no better one; else its key */
static char *
id_of_record(Connector *connector, const Source *source)
{
	StringInfoData id;
	ListCell   *cell;

	initStringInfo(&id);
	if (connector_is(connector, "key.ignore", false))
	{
		if (column_from(source, "@partition") && column_from(source, "@offset"))
		{
			append_id(&id, column_from(source, "@partition"));
			append_id(&id, column_from(source, "@offset"));
		}
		else
			connector_note(connector, false, "key.ignore",
						   "the table has no columns from \"@partition\" and \"@offset\"; the id is its key");
	}
	else
	{
		foreach(cell, connector->key_fields)
			append_id(&id, column_of_field(source, lfirst(cell)));
		if (id.len == 0)
			append_id(&id, column_from(source, "@key"));
		if (id.len == 0)
			connector_note(connector, false, "key.ignore",
						   "no column holds the record's key (\"@key\"); the id is the table's key, or partition and offset");
	}
	return id.len > 0 ? id.data : NULL;
}

/* the same for a table that is made for the sink */
static char *
id_of_new_table(Connector *connector)
{
	StringInfoData id;
	ListCell   *cell;

	initStringInfo(&id);
	if (connector_is(connector, "key.ignore", false))
		return "kafka_partition,kafka_offset";
	foreach(cell, connector->key_fields)
		append_id(&id, lfirst(cell));
	return id.len > 0 ? id.data : "kafka_key";
}

static void
create_sink(Script *script, const char *name, const char *table, const char *index, const char *id)
{
	Connector  *connector = script->connector;
	const char *linger = connector_number(connector, "linger.ms", 0, LONGEST_BULK_WAIT_MS);
	const char *bytes = connector_number(connector, "bulk.size.bytes", LEAST_BULK_BYTES, MOST_BULK_BYTES);

	append(script, "SELECT clickstream.create_sink(%s, server => %s, relation => %s, index => %s", quote_literal_cstr(name),
		   quote_literal_cstr(script->search), quote_literal_cstr(table), quote_literal_cstr(index));
	argument(script, "id", id);
	argument(script, "bulk_wait", linger ? psprintf("%s ms", linger) : NULL);
	argument(script, "bulk_bytes", bytes);
	append(script, ");\n");
}

/* A sink follows a table: the one that a source fills from the topic, or a new one. */
static void
create_sinks(Script *script)
{
	Connector  *connector = script->connector;
	List	   *topics = topics_of(connector);
	ListCell   *cell;

	foreach(cell, topics)
	{
		char	   *topic = lfirst(cell);
		Source	   *source = source_of_topic(topic);
		char	   *table = source ? qualified_name(source->target) : pstrdup(quote_identifier(topic));

		if (source)
			append(script, "\n-- a source fills the table from the topic\n");
		else
		{
			append(script, "\n-- no source reads the topic yet; each field that is to be one of the index needs a column of its own\n");
			if (script->kafka == NULL)
				create_kafka_server(script);
			take_id(connector);
			take_other_fields(connector);
			create_table(script, table);
			create_source(script, topic, topic, table);
		}
		create_sink(script, name_for(connector, topic, list_length(topics)), table, index_of_topic(connector, topic),
					source ? id_of_record(connector, source) : id_of_new_table(connector));
	}
}

/* ---------------------------------------------------------------- comments */

static void
append_notes(Script *script, bool honoured, const char *heading)
{
	ListCell   *cell;

	foreach(cell, script->connector->notes)
	{
		ConnectorNote *note = lfirst(cell);

		if (note->honoured != honoured)
			continue;
		if (heading)
			append(script, "\n-- %s\n", heading);
		heading = NULL;
		append(script, "-- %s\n", note->text);
	}
}

Datum
clickstream_connector_sql(PG_FUNCTION_ARGS)
{
	Script		script = {.connector = connector_read(PG_GETARG_JSONB_P(0))};
	Connector  *connector = script.connector;

	initStringInfo(&script.text);
	connector_columns(connector);
	append(&script, "-- what this sink of Kafka Connect does, done by clickstream: read it, then run it\n");
	if (connector->kind == CONNECTOR_JDBC)
	{
		create_kafka_server(&script);
		create_sources(&script);
	}
	else
	{
		create_search_server(&script);
		create_sinks(&script);
	}
	connector_note_rest(connector);
	append_notes(&script, true, "done otherwise:");
	append_notes(&script, false, "not done:");
	PG_RETURN_TEXT_P(cstring_to_text_with_len(script.text.data, script.text.len));
}
