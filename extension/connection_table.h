/*
 * connection_table.h
 *		What is known of each option of the two foreign data wrappers.
 */
#ifndef CLICKSTREAM_CONNECTION_TABLE_H
#define CLICKSTREAM_CONNECTION_TABLE_H

#include "postgres.h"

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

/* by ConnectionKind */
extern const Wrapper connection_wrappers[];

/* whether the value is one of the words in choices, split by blanks */
extern bool connection_is_one_of(const char *value, const char *choices);

/* Throws, with the value unless it could hold a secret, when the option does not take it. */
extern void connection_check_value(const Option *option, const char *value);

#endif							/* CLICKSTREAM_CONNECTION_TABLE_H */
