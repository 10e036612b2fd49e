/*
 * rollup_set.h
 *		The rollups of a target as a set, and what is done with it; beyond rollup_delta.h, which the worker sees.
 */
#ifndef CLICKSTREAM_ROLLUP_SET_H
#define CLICKSTREAM_ROLLUP_SET_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "catalog.h"
#include "rollup_delta.h"
#include "rollup_query.h"
#include "utils/jsonb.h"

struct RollupMerge;

/* groups by their time key: from <= key < to; a bound that is not there is open */
typedef struct RollupRange
{
	bool		has_from;
	TimestampTz from;
	bool		has_to;
	TimestampTz to;
} RollupRange;

/*
 * The same as rollup_set_open for a trigger: kept for the session and shared by its statements, and
 * holds no lock that another writer waits for.  NULL when the target has no rollups.
 */
extern RollupSet *rollup_set_of_session(Oid target);

/*
 * Rows (of the target's row type) were taken away, put there, or both; either may be NULL.  Their groups
 * are computed again from what the target now holds, without the partitions `except`.
 */
extern void rollup_set_recompute(RollupSet *set, Tuplestorestate *old, Tuplestorestate *fresh,
								 TupleDesc desc, List *except);

/* Empties the rollups, as the target has been. */
extern void rollup_set_truncate(RollupSet *set);

/*
 * Computes the groups of one rollup from what the target now holds; the caller has locked out all writers.
 * Groups that are there and have no rows stay; returns how many.
 */
extern int64 rollup_set_fill(RollupSet *set, Oid rollup, const RollupRange *range);

/* The rollups of a set, by number; what is shown lives until the set is made anew. */
extern int	rollup_set_count(const RollupSet *set);
extern void rollup_set_show(const RollupSet *set, int n, const Rollup **rollup,
							const RollupQuery **query, const char **name);

/* Computes the states of some rows, and does nothing with them: throws if a rollup cannot. */
extern void rollup_set_compute(RollupSet *set, int n, Tuplestorestate *rows, TupleDesc desc);

/* In a PG_CATCH: says which rollup it was, and throws again. */
extern void rollup_throw_naming(const char *rollup, MemoryContext context);

/* Does something with one rollup, as its owner and under its settings. */
extern void rollup_set_work(RollupSet *set, Oid rollup, void (*work) (struct RollupMerge *merge, void *argument),
							void *argument);

/* The row of a rollup without GROUP BY is there from the start. */
extern void rollup_set_fill_with_nothing(RollupSet *set, Oid rollup);

/* groups before this time are too old to be kept; -infinity without a retention */
extern TimestampTz rollup_oldest(const Rollup *rollup);

/* Makes sure no process uses what it knew about the rollups of a target. */
extern void rollup_set_changed(Oid target);

/* The settings that give a query its meaning: as they are, and put in force until the GUC level ends. */
extern Jsonb *rollup_settings_now(void);

/* Runs as the rollup's owner under its settings, until the end; returns what the end needs. */
typedef struct RollupScope
{
	Oid			user;
	int			security;
	int			guc_level;
} RollupScope;

extern void rollup_scope_enter(RollupScope *scope, const Rollup *rollup, const RollupQuery *query);
/* the same where nothing looks for a name and no statement is planned or run: search_path stays as it is */
extern void rollup_scope_enter_without_names(RollupScope *scope, const Rollup *rollup);
extern bool rollup_scope_is_same(const Rollup *one, const RollupQuery *query_of_one, const Rollup *other,
								 const RollupQuery *query_of_other);
extern void rollup_scope_leave(const RollupScope *scope);

#endif							/* CLICKSTREAM_ROLLUP_SET_H */
