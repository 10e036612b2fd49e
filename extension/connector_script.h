/*
 * connector_script.h
 *		The text that connector_sql writes, and which file writes what of it.
 */
#ifndef CLICKSTREAM_CONNECTOR_SCRIPT_H
#define CLICKSTREAM_CONNECTOR_SCRIPT_H

#include "postgres.h"

#include "lib/stringinfo.h"

#include "connector.h"

typedef struct Script
{
	Connector  *connector;
	StringInfoData text;
	char	   *kafka;			/* the names of the two servers; NULL before they are written */
	char	   *search;
} Script;

/* connector_sql.c; a value that is NULL adds no argument */
extern void script_append(Script *script, const char *format,...) pg_attribute_printf(2, 3);
extern void script_argument(Script *script, const char *name, const char *value);
extern List *script_topics(Connector *connector);	/* of char *: names, or one pattern */
extern char *script_name(const Connector *connector, const char *topic, int n_topics);
extern char *script_routed(const Connector *connector, const char *topic);

/* connector_server.c */
extern void script_kafka_server(Script *script);
extern void script_search_server(Script *script);

/* connector_source.c: a source for each table; one with its table for a sink that has none */
extern void script_sources(Script *script);
extern void script_source_for_sink(Script *script, const char *topic, const char *table);

/* connector_sink.c: a sink for each topic */
extern void script_sinks(Script *script);

#endif							/* CLICKSTREAM_CONNECTOR_SCRIPT_H */
