/*
 * connector_source.c
 *		The CREATE TABLE and create_source of a sink of Kafka Connect.
 *
 * Called by connector_sql.c for a JDBC sink, by connector_sink.c where a topic has no table yet.
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "fmgr.h"
#include "utils/builtins.h"

#include "connector_script.h"

/* as many workers as a source may have */
#define MOST_WORKERS 64

/* ---------------------------------------------------------------- tables */

/* table.name.format, with schema if it has one: "public.${topic}" */
static char *
table_of_topic(Connector *connector, const char *topic)
{
	const char *format = connector_get(connector, "table.name.format");
	char	   *mapped = connector_map_get(connector, "topics.to.tables.mapping", topic);
	char	   *full = mapped ? mapped : script_routed(connector, topic);
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

/* A configuration seldom names all fields.  Those that it does not name are one column, so that none is lost. */
static void
take_other_fields(Connector *connector)
{
	ConnectorColumn *column;

	if (connector_get(connector, "fields.whitelist"))
		return;
	if (connector->columns)
		connector_part(connector, "document", "@rest", "jsonb");
	else if (connector->envelope)
	{
		column = connector_column(connector, "document");
		column->type = "jsonb";
		column->field = connector->envelope;
		connector->envelope = NULL;
	}
	else
		connector_part(connector, "document", "@value", "jsonb");
}

/* A table for documents needs what their ids are made of. */
static void
take_id(Connector *connector)
{
	ListCell   *cell;

	connector_part(connector, "kafka_partition", "@partition", "int");
	connector_part(connector, "kafka_offset", "@offset", "bigint");
	if (connector_is(connector, "key.ignore", false))
		return;
	if (connector->key_fields == NIL)
		connector_part(connector, "kafka_key", "@key", "text");
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

	script_append(script, "-- a column that the configuration gives no type is text, and fields that have no column are left out: adapt it\n");
	script_append(script, "CREATE TABLE IF NOT EXISTS %s (\n", table);
	foreach(cell, connector->columns)
	{
		ConnectorColumn *column = lfirst(cell);

		script_append(script, "%s    %s %s%s", comma, quote_identifier(column->name), column->type, is_key(key, column) ? " NOT NULL" : "");
		if (column->constant)
			script_append(script, " DEFAULT %s", quote_literal_cstr(column->constant));
		comma = ",\n";
	}
	if (key)
	{
		script_append(script, ",\n    PRIMARY KEY (");
		comma = "";
		foreach(cell, key)
		{
			script_append(script, "%s%s", comma, quote_identifier(lfirst(cell)));
			comma = ", ";
		}
		script_append(script, ")");
	}
	script_append(script, "\n);\n");
}

/* ---------------------------------------------------------------- sources */

/* arguments that Connect knows as options of its consumer */
static void
append_consumer(Script *script)
{
	const char *start = connector_get(script->connector, "consumer.override.auto.offset.reset");

	script_argument(script, "start_at", start && strcmp(start, "latest") == 0 ? start : NULL);
	script_argument(script, "consumer_group", connector_get(script->connector, "consumer.override.group.id"));
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

	script_append(script, "SELECT clickstream.create_source(%s, server => %s, topic => %s, target => %s", quote_literal_cstr(name),
		   quote_literal_cstr(script->kafka), quote_literal_cstr(topic), quote_literal_cstr(table));
	script_argument(script, "columns", connector_columns_json(connector));
	script_argument(script, "on_conflict", on_conflict(connector));
	append_consumer(script);
	if (n > 1)
		script_append(script, ",\n    workers => %d", n);
	script_append(script, ");\n");
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
void
script_sources(Script *script)
{
	Connector  *connector = script->connector;
	List	   *topics = script_topics(connector);
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
		script_append(script, "\n");
		if (make)
			create_table(script, table);
		create_source(script, script_name(connector, lfirst(cell), list_length(topics) - list_length(same) + 1),
					  joined(same), table);
	}
}

void
script_source_for_sink(Script *script, const char *topic, const char *table)
{
	take_id(script->connector);
	take_other_fields(script->connector);
	create_table(script, table);
	create_source(script, topic, topic, table);
}
