/*
 * rollup_where.h
 *		Which of the target's rows a rollup's query is to see: conditions put into it.
 */
#ifndef CLICKSTREAM_ROLLUP_WHERE_H
#define CLICKSTREAM_ROLLUP_WHERE_H

#include "postgres.h"

#include "nodes/parsenodes.h"

#include "rollup_states.h"

/* the name under which the query finds the groups of which->touched */
#define ROLLUP_TOUCHED "_touched"

/* Puts conditions into a query of states over the target. */
extern void rollup_where(Query *query, const RollupMerge *merge, const RollupRows *which);

/* makes a range table entry one of rows in memory */
extern void rollup_where_named(RangeTblEntry *rte, const char *name, TupleDesc desc, double n_rows);

#endif							/* CLICKSTREAM_ROLLUP_WHERE_H */
