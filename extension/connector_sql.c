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
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

#include "connector_script.h"

PG_FUNCTION_INFO_V1(clickstream_connector_sql);

/* ---------------------------------------------------------------- text */

void
script_append(Script *script, const char *format,...)
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

void
script_argument(Script *script, const char *name, const char *value)
{
	if (value)
		script_append(script, ",\n    %s => %s", name, quote_literal_cstr(value));
}

/* ---------------------------------------------------------------- names */

/* what RegexRouter makes of the topic's name: as in Java the whole of it has to match */
char *
script_routed(const Connector *connector, const char *topic)
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

/* one connector may need several sources or sinks, whose names have to differ */
char *
script_name(const Connector *connector, const char *topic, int n_topics)
{
	if (connector->name == NULL)
		return pstrdup(topic);
	return n_topics > 1 ? psprintf("%s-%s", connector->name, topic) : pstrdup(connector->name);
}

/* "topics", or "topics.regex" as a source takes it */
List *
script_topics(Connector *connector)
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

/* ---------------------------------------------------------------- the whole */

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
			script_append(script, "\n-- %s\n", heading);
		heading = NULL;
		script_append(script, "-- %s\n", note->text);
	}
}

Datum
clickstream_connector_sql(PG_FUNCTION_ARGS)
{
	Script		script = {.connector = connector_read(PG_GETARG_JSONB_P(0))};
	Connector  *connector = script.connector;

	initStringInfo(&script.text);
	connector_columns(connector);
	script_append(&script, "-- what this sink of Kafka Connect does, done by clickstream: read it, then run it\n");
	if (connector->kind == CONNECTOR_JDBC)
	{
		script_kafka_server(&script);
		script_sources(&script);
	}
	else
	{
		script_search_server(&script);
		script_sinks(&script);
	}
	connector_note_rest(connector);
	append_notes(&script, true, "done otherwise:");
	append_notes(&script, false, "not done:");
	PG_RETURN_TEXT_P(cstring_to_text_with_len(script.text.data, script.text.len));
}
