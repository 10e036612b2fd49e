/*
 * statement.h
 *		SQL of our own making over relations of users: how one is named in it, how it is run.
 */
#ifndef CLICKSTREAM_STATEMENT_H
#define CLICKSTREAM_STATEMENT_H

#include "postgres.h"

/* schema and name, quoted; in the current memory context */
extern PGDLLEXPORT char *qualified_name(Oid relation);

/* in an SPI connection of its own; in the one that is open */
extern void run_ddl(const char *sql);
extern PGDLLEXPORT void run_statement(const char *sql);

#endif							/* CLICKSTREAM_STATEMENT_H */
