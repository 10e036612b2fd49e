/*
 * connector_columns.c
 *		Which columns a connector's configuration names, and where each takes its value from.
 *
 * Owns what converters, pk.mode and fields.whitelist mean for columns; transforms come before them, in
 * connector_transforms.c.  Called by connector_sql.c.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/json.h"

#include "connector.h"

ConnectorColumn *
connector_column(Connector *connector, const char *name)
{
	ConnectorColumn *column;
	ListCell   *cell;

	foreach(cell, connector->columns)
	{
		column = lfirst(cell);
		if (strcmp(column->name, name) == 0)
			return column;
	}
	column = palloc0(sizeof(ConnectorColumn));
	column->name = pstrdup(name);
	column->field = column->name;
	column->type = "text";
	connector->columns = lappend(connector->columns, column);
	return column;
}

void
connector_part(Connector *connector, const char *name, const char *part, const char *type)
{
	ConnectorColumn *column = connector_column(connector, name);

	column->part = part;
	column->field = NULL;
	column->type = type;
}

/* ---------------------------------------------------------------- converters */

/* a JSON object a record is what a source reads; Connect's converter may put it into an envelope */
static void
take_value_converter(Connector *connector)
{
	const char *class = connector_get(connector, "value.converter");

	if (class == NULL)
		return;
	if (strstr(class, "JsonConverter") == NULL)
	{
		connector_note(connector, false, "value.converter", "a source reads JSON objects; other records are dead letters");
		return;
	}
	connector_note(connector, true, "value.converter", "a source reads a JSON object a record");
	if (!connector_is(connector, "value.converter.schemas.enable", true))
		return;
	connector->envelope = "payload";
	connector_note(connector, true, "value.converter.schemas.enable",
				   "the schema beside the payload is not looked at: the columns' types say what a field is");
}

/* ---------------------------------------------------------------- keys */

static void
take_kafka_key(Connector *connector, List *fields)
{
	static const char *const names[] = {"__connect_topic", "__connect_partition", "__connect_offset"};
	static const char *const parts[] = {"@topic", "@partition", "@offset"};
	static const char *const types[] = {"text", "int", "bigint"};

	for (int i = 0; i < 3; i++)
		connector_part(connector, list_length(fields) == 3 ? list_nth(fields, i) : names[i], parts[i], types[i]);
}

static void
take_record_key(Connector *connector, List *fields)
{
	ListCell   *cell;

	if (connector->key_fields)
	{
		foreach(cell, fields ? fields : connector->key_fields)
			(void) connector_column(connector, lfirst(cell));
	}
	else if (list_length(fields) == 1)
		connector_part(connector, linitial(fields), "@key", "text");
	else
		connector_note(connector, false, "pk.mode",
					   "fields within the record's key cannot be columns; the whole key can, by \"@key\"");
}

static void
take_primary_key(Connector *connector)
{
	const char *mode = connector_get(connector, "pk.mode");
	List	   *fields = connector_get_list(connector, "pk.fields");
	ListCell   *cell;

	if (mode == NULL || strcmp(mode, "none") == 0)
		return;
	if (strcmp(mode, "kafka") == 0)
		take_kafka_key(connector, fields);
	else if (strcmp(mode, "record_key") == 0)
		take_record_key(connector, fields);
	else if (fields == NIL)
		connector_note(connector, false, "pk.mode", "without pk.fields the table's own key is the key");
	foreach(cell, strcmp(mode, "record_value") == 0 ? fields : NIL)
		(void) connector_column(connector, lfirst(cell));
}

/* ---------------------------------------------------------------- which of them */

static bool
contains(List *names, const char *name)
{
	ListCell   *cell;

	foreach(cell, names)
		if (strcmp(lfirst(cell), name) == 0)
			return true;
	return false;
}

/* The list says which fields of the record become columns; what Kafka adds is a column anyway. */
static void
take_whitelist(Connector *connector)
{
	List	   *names = connector_get_list(connector, "fields.whitelist");
	List	   *kept = NIL;
	ListCell   *cell;

	if (names == NIL)
		return;
	foreach(cell, connector->columns)
	{
		ConnectorColumn *column = lfirst(cell);

		if (contains(names, column->name) || column->field == NULL || contains(connector->key_fields, column->name) ||
			contains(connector_get_list(connector, "pk.fields"), column->name))
			kept = lappend(kept, column);
	}
	connector->columns = kept;
	foreach(cell, names)
		(void) connector_column(connector, lfirst(cell));
	connector_note(connector, true, "fields.whitelist",
				   "a field becomes a column where the table has one for it; others are left out");
}

void
connector_columns(Connector *connector)
{
	take_value_converter(connector);
	connector_transforms(connector);
	if (connector->kind == CONNECTOR_JDBC)
	{
		take_primary_key(connector);
		take_whitelist(connector);
	}
}

/* ---------------------------------------------------------------- as an argument of create_source */

/* "field", or a list of keys where it lies deeper or a dot is part of its name */
static void
append_path(StringInfo to, const Connector *connector, const char *field)
{
	bool		list = connector->envelope || strchr(field, '.') || field[0] == '@';

	if (list)
		appendStringInfoChar(to, '[');
	if (connector->envelope)
	{
		escape_json(to, connector->envelope);
		appendStringInfoString(to, ", ");
	}
	escape_json(to, field);
	if (list)
		appendStringInfoChar(to, ']');
}

static void
append_entry(StringInfo to, const Connector *connector, const ConnectorColumn *column)
{
	appendStringInfoString(to, to->len > 1 ? ", " : "");
	escape_json(to, column->name);
	appendStringInfoString(to, ": ");
	if (column->part)
		escape_json(to, column->part);
	else if (column->epoch)
	{
		appendStringInfoString(to, "{\"path\": ");
		append_path(to, connector, column->field);
		appendStringInfo(to, ", \"epoch\": \"%s\"}", column->epoch);
	}
	else
		append_path(to, connector, column->field);
}

/* A column that takes the field of its own name needs no entry. */
static bool
needs_entry(const Connector *connector, const ConnectorColumn *column)
{
	if (column->constant)
		return false;
	return column->part || column->epoch || connector->envelope ||
		strcmp(column->name, column->field) != 0;
}

char *
connector_columns_json(Connector *connector)
{
	StringInfoData json;
	ListCell   *cell;

	initStringInfo(&json);
	appendStringInfoChar(&json, '{');
	foreach(cell, connector->columns)
		if (needs_entry(connector, lfirst(cell)))
			append_entry(&json, connector, lfirst(cell));
	appendStringInfoChar(&json, '}');
	return json.len > 2 ? json.data : NULL;
}
