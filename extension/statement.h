/*
 * statement.h
 *		SQL of our own making over relations of users: how one is named in it, how it is run, which rows
 *		in memory it sees.
 */
#ifndef CLICKSTREAM_STATEMENT_H
#define CLICKSTREAM_STATEMENT_H

#include "postgres.h"

#include "access/tupdesc.h"
#include "nodes/pg_list.h"
#include "utils/queryenvironment.h"
#include "utils/tuplestore.h"

/* schema and name, quoted; in the current memory context */
extern PGDLLEXPORT char *qualified_name(Oid relation);

/* in an SPI connection of its own; in the one that is open */
extern void run_ddl(const char *sql);
extern PGDLLEXPORT void run_statement(const char *sql);

/* the first column of a query's rows, each value once, in their order; in an SPI connection of its own, and the result in the caller's memory */
extern List *oids_of(const char *sql);

/*
 * Rows in memory under a name, for a query environment: a tuplestore, or what a plan node of ours reads.
 * `desc` may be NULL for the latter.
 */
extern EphemeralNamedRelation named_rows(const char *name, void *rows, double n, TupleDesc desc);

/* a tuplestore, for the statements of the SPI connection that is open */
extern PGDLLEXPORT void show_rows(const char *name, Tuplestorestate *rows, TupleDesc desc);

#endif							/* CLICKSTREAM_STATEMENT_H */
