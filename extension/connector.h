/*
 * connector.h
 *		A configuration of Kafka Connect, as connector_sql reads it: settings, what they say of the
 *		record's fields, and what there is to say about each.
 *
 * Everything in it is data from outside: it reaches SQL through quote_literal and quote_identifier,
 * and comments through connector_note, which leaves no line break in them.
 */
#ifndef CLICKSTREAM_CONNECTOR_H
#define CLICKSTREAM_CONNECTOR_H

#include "postgres.h"

#include "nodes/pg_list.h"
#include "utils/jsonb.h"

typedef enum ConnectorKind
{
	CONNECTOR_JDBC = 1,
	CONNECTOR_ELASTICSEARCH = 2
} ConnectorKind;

#define CONNECTOR_BOTH (CONNECTOR_JDBC | CONNECTOR_ELASTICSEARCH)

typedef struct ConnectorSetting
{
	char	   *name;
	char	   *value;
	bool		taken;			/* it is in a statement, or there is a note about it */
} ConnectorSetting;

/* a field of the record after the transforms, which becomes a column */
typedef struct ConnectorColumn
{
	char	   *name;
	char	   *field;			/* what it is called in the record; NULL if it is not from there */
	const char *part;			/* "@offset" and its like, or NULL */
	const char *epoch;			/* the unit of a time that is a number, or NULL */
	const char *type;			/* as far as the configuration tells, else text */
	char	   *constant;		/* the column's default, or NULL */
} ConnectorColumn;

/* what is said in a comment */
typedef struct ConnectorNote
{
	bool		honoured;		/* false: nothing does what it asks for */
	char	   *text;
} ConnectorNote;

typedef struct Connector
{
	ConnectorKind kind;
	char	   *name;			/* NULL if it has none */
	List	   *settings;		/* of ConnectorSetting, by name */
	List	   *columns;		/* of ConnectorColumn: those the configuration names */
	List	   *key_fields;		/* of char *: fields that transforms make the record's key; NIL: its own */
	char	   *envelope;		/* the field that holds the record, or NULL */
	char	   *route_regex;	/* RegexRouter: what becomes of a topic's name, or NULL */
	char	   *route_replacement;
	List	   *notes;			/* of ConnectorNote */
} Connector;

/* connector_config.c */
extern Connector *connector_read(Jsonb *config);
extern const char *connector_get(Connector *connector, const char *name);	/* NULL where it is not set */
extern const char *connector_number(Connector *connector, const char *name, int64 min, int64 max);	/* with a note where it is not one */
extern List *connector_get_list(Connector *connector, const char *name);	/* split at commas, of char * */
extern bool connector_is(Connector *connector, const char *name, bool otherwise);
extern char *connector_map_get(Connector *connector, const char *name, const char *key);
extern void connector_note(Connector *connector, bool honoured, const char *name, const char *says);

/* connector_options.c: a note about a setting, if it is known; about each that nobody has taken */
extern bool connector_note_known(Connector *connector, ConnectorSetting *setting);
extern void connector_note_rest(Connector *connector);

/* connector_columns.c */
extern void connector_columns(Connector *connector);
extern ConnectorColumn *connector_column(Connector *connector, const char *name);	/* made if need be */
extern void connector_part(Connector *connector, const char *name, const char *part, const char *type);
extern char *connector_columns_json(Connector *connector);	/* for create_source; NULL where it needs none */

/* connector_transforms.c: they are carried out on the columns known */
extern void connector_transforms(Connector *connector);

#endif							/* CLICKSTREAM_CONNECTOR_H */
