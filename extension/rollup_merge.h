/*
 * rollup_merge.h
 *		States of groups -> the rollup's table: the statements that do it, and their execution.
 */
#ifndef CLICKSTREAM_ROLLUP_MERGE_H
#define CLICKSTREAM_ROLLUP_MERGE_H

#include "postgres.h"

#include "access/tupdesc.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "utils/snapshot.h"
#include "utils/tuplestore.h"

#include "compat.h"
#include "rollup_query.h"
#include "rollup_set.h"

/* our own statements name everything else with its schema */
#define ROLLUP_SEARCH_PATH "pg_catalog, pg_temp"

/* what is done with the states of some groups */
typedef enum RollupMergeKind
{
	ROLLUP_ADD,					/* combine them with what is there */
	ROLLUP_TAKE,				/* the same, but some take rows away; see rollup_subtract.c */
	ROLLUP_REPLACE,				/* put them in place of what is there */
	ROLLUP_LOCK,				/* only lock their groups; make those that are not there, empty */
	ROLLUP_N_MERGES
} RollupMergeKind;

/* One rollup's statements.  Lives until rollup_merge_free; its plans are made when first used. */
typedef struct RollupMerge
{
	const RollupQuery *query;
	Oid			rollup;
	TupleDesc	states_desc;	/* of the tuples merged: rollup_query_state_columns */
	const Interval *partition_interval; /* NULL: the table is not partitioned; given by the caller */
	SPIPlanPtr	plans[ROLLUP_N_MERGES];
	struct RollupUpsert *upsert;	/* adds without a statement; NULL if it cannot, or nobody has looked */
	bool		looked_for_upsert;
} RollupMerge;

extern RollupMerge *rollup_merge_create(const RollupQuery *query, Oid rollup);
extern void rollup_merge_free(RollupMerge *merge);

/* for an owner who altered the table or replaced the definition */
pg_noreturn extern void rollup_merge_does_not_fit(Oid rollup);

/* Both as the current user, who is the rollup's owner. */
extern void rollup_merge_run(RollupMerge *merge, RollupMergeKind kind, Tuplestorestate *states);
extern bool rollup_merge_adds_without_statement(RollupMerge *merge);
extern void rollup_merge_remove(RollupMerge *merge, Tuplestorestate *touched, Tuplestorestate *left);
extern void rollup_merge_truncate(RollupMerge *merge);

/* what the rollup has in a range (NULL: in all): how many groups, of how many rows; which groups */
typedef struct RollupTotals
{
	int64		groups;
	int64		rows;
} RollupTotals;

extern RollupTotals rollup_merge_totals(RollupMerge *merge, const RollupRange *range);
extern Tuplestorestate *rollup_merge_groups(RollupMerge *merge, const RollupRange *range);

/* removes the groups before a time, but those that somebody works on */
extern void rollup_merge_retire(RollupMerge *merge, TimestampTz before);

/* of how many rows these states are */
extern int64 rollup_merge_rows_of(RollupMerge *merge, Tuplestorestate *states);

/* Whether the guard trigger of a rollup's table is called for a statement of ours: true once for each event. */
extern bool rollup_merge_expects(Oid relation, TriggerEvent event);

/* a tuplestore with the states' row type, and the name by which a statement knows it */
typedef struct RollupRelation
{
	const char *name;
	Tuplestorestate *states;	/* NULL: there is no such relation */
	TupleDesc	desc;			/* of its tuples; NULL: they are states and nothing else */
} RollupRelation;

/* Runs a query that gives states; in a tuplestore in the current memory context. */
extern Tuplestorestate *rollup_merge_select(RollupMerge *merge, const char *sql,
											const RollupRelation *relations, int n);

/*
 * The same of a query that gives more than states, as a snapshot sees everything; $1 and $2 are the bounds
 * of the range.  *desc is what it gives.
 */
extern Tuplestorestate *rollup_merge_select_at(RollupMerge *merge, const char *sql,
											   const RollupRelation *relations, int n,
											   const RollupRange *range, Snapshot snapshot,
											   TupleDesc *desc);

/* ` AND r.key >= $1 AND r.key < $2`, for the bounds that there are */
extern void rollup_merge_append_range(StringInfo sql, const RollupMerge *merge, const RollupRange *range);

/* for each key, whether one of the tuples has NULL there */
extern bool *rollup_merge_null_keys(RollupMerge *merge, Tuplestorestate *states);

/* the condition that two relations are at the same group; `=` alone where no key is NULL */
extern const char *rollup_merge_match(const RollupMerge *merge, const char *left, const char *right,
									  const bool *null_keys);

/* ` OR alias.column = 0` for each sum whose 0 may be the sum of no values */
extern const char *rollup_merge_zero_sums(const RollupMerge *merge, const char *alias);

/* the rollup's table, quoted and with its schema */
extern const char *rollup_merge_table(const RollupMerge *merge);

/* columns of a relation of states, or of the rollup's table, by its alias: all, or those of the keys */
extern const char *rollup_merge_states_columns(const RollupMerge *merge, const char *alias);
extern const char *rollup_merge_key_columns(const RollupMerge *merge, const char *alias);

/* the one that counts a group's rows, quoted */
extern const char *rollup_merge_rows_column(const RollupMerge *merge);

/* the name of a column of the rollup's table, quoted */
extern const char *rollup_merge_column(const RollupMerge *merge, AttrNumber column);

#endif							/* CLICKSTREAM_ROLLUP_MERGE_H */
