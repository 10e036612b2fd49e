/*
 * connector_sink.c
 *		The create_sink of a sink of Kafka Connect into Elasticsearch.
 *
 * There a sink reads a topic, here it follows a table: the one that a source of the caller's fills from the topic,
 * or a new one.  Called by connector_sql.c.
 */
#include "postgres.h"

#include "access/attnum.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/formatting.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"

#include "catalog.h"
#include "connector_script.h"
#include "sink_api.h"
#include "statement.h"

/* what create_sink takes: see sink_check_bulk */
#define LEAST_BULK_BYTES 1024
#define MOST_BULK_BYTES (100 * 1024 * 1024)
#define LONGEST_BULK_WAIT_MS 60000

static char *
index_of_topic(Connector *connector, const char *topic)
{
	char	   *mapped = connector_map_get(connector, "topic.index.map", topic);
	char	   *name;

	if (mapped == NULL)
		mapped = connector_map_get(connector, "topic.to.external.resource.mapping", topic);
	name = mapped ? mapped : script_routed(connector, topic);
	return asc_tolower(name, strlen(name));
}

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

/* the column of a source that takes a field of the record */
static char *
column_of_field(const Source *source, const char *field)
{
	char	   *renamed = sink_column_fed_by(source, field);

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
		if (sink_column_fed_by(source, "@partition") && sink_column_fed_by(source, "@offset"))
		{
			append_id(&id, sink_column_fed_by(source, "@partition"));
			append_id(&id, sink_column_fed_by(source, "@offset"));
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
			append_id(&id, sink_column_fed_by(source, "@key"));
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

	script_append(script, "SELECT clickstream.create_sink(%s, server => %s, relation => %s, index => %s", quote_literal_cstr(name),
		   quote_literal_cstr(script->search), quote_literal_cstr(table), quote_literal_cstr(index));
	script_argument(script, "id", id);
	script_argument(script, "bulk_wait", linger ? psprintf("%s ms", linger) : NULL);
	script_argument(script, "bulk_bytes", bytes);
	script_append(script, ");\n");
}

/* A sink follows a table: the one that a source fills from the topic, or a new one. */
void
script_sinks(Script *script)
{
	Connector  *connector = script->connector;
	List	   *topics = script_topics(connector);
	ListCell   *cell;

	foreach(cell, topics)
	{
		char	   *topic = lfirst(cell);
		Source	   *source = source_of_topic(topic);
		char	   *table = source ? qualified_name(source->target) : pstrdup(quote_identifier(topic));

		if (source)
			script_append(script, "\n-- a source fills the table from the topic\n");
		else
		{
			script_append(script, "\n-- no source reads the topic yet; each field that is to be one of the index needs a column of its own\n");
			if (script->kafka == NULL)
				script_kafka_server(script);
			script_source_for_sink(script, topic, table);
		}
		create_sink(script, script_name(connector, topic, list_length(topics)), table, index_of_topic(connector, topic),
					source ? id_of_record(connector, source) : id_of_new_table(connector));
	}
}
