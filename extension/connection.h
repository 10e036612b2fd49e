/*
 * connection.h
 *		Servers and user mappings of the two foreign data wrappers: options checked, secrets read.
 */
#ifndef CLICKSTREAM_CONNECTION_H
#define CLICKSTREAM_CONNECTION_H

#include "postgres.h"

#include "nodes/pg_list.h"

typedef enum ConnectionKind
{
	CONNECTION_KAFKA,
	CONNECTION_ELASTICSEARCH
} ConnectionKind;

/*
 * The server of that name and kind; an error with a hint when there is none, when it is of another
 * wrapper, or when the role may not use it.
 */
extern PGDLLEXPORT Oid connection_server(const char *name, ConnectionKind kind, Oid role);

/*
 * All options of a connection as the role sees it: the server's, then those of the role's user
 * mapping (or PUBLIC's).  A list of DefElem with String arguments, checked once more against the
 * allow-list.  Holds secrets: never log it.
 */
extern PGDLLEXPORT List *connection_options(const char *server, ConnectionKind kind, Oid role);

/*
 * Whether a connection of that kind takes the option, and if it belongs in the user mapping.  *why is the
 * reason when it is one that clickstream refuses, NULL when it knows none.
 */
extern bool connection_takes_option(ConnectionKind kind, const char *name, bool *in_mapping, const char **why);

/* a checked value such as '30s' or '500ms' (a bare number: milliseconds) in milliseconds */
extern PGDLLEXPORT int connection_duration_ms(const char *value);

#endif							/* CLICKSTREAM_CONNECTION_H */
