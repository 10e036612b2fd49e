/*
 * rollup_set_internal.h
 *		What the files share that apply something to all rollups over a target.
 *
 * rollup_set.c makes sets and keeps them current; rollup_apply.c does something with the rollups in one, each as its
 * owner.  What that is: rollup_delta.c has the changes of a statement, rollup_few.c rows that are added in small numbers
 * or by a worker, rollup_whole.c a rollup as a whole.
 */
#ifndef CLICKSTREAM_ROLLUP_SET_INTERNAL_H
#define CLICKSTREAM_ROLLUP_SET_INTERNAL_H

#include "postgres.h"

#include "lib/ilist.h"
#include "nodes/plannodes.h"
#include "storage/lockdefs.h"
#include "utils/palloc.h"

#include "catalog.h"
#include "rollup_batch.h"
#include "rollup_merge.h"
#include "rollup_ready.h"
#include "rollup_set.h"

typedef struct RollupPlan
{
	Rollup	   *rollup;
	char	   *name;			/* for errors, when the catalogs cannot be asked */
	RollupQuery *query;
	RollupMerge *merge;
	PlannedStmt *delta;			/* made when first used */
	PlannedStmt *delta_of_batch;	/* the same over a batch */
	Bitmapset  *columns;		/* that the latter needs */
	PlannedStmt *delta_of_few;	/* the same over few rows */
	Bitmapset  *columns_of_few;
	RollupReady *ready;			/* the latter set up, or NULL */
	int			scope;			/* the same number: the same owner and settings */
	bool		is_plain;		/* few rows are added without a statement, and without looking for a name */
	Tuplestorestate *states;	/* of the batch that is being applied; in the batch's memory */
	TimestampTz retired_at;		/* when this process last looked for groups that are too old */
} RollupPlan;

struct RollupSet
{
	dlist_node	node;			/* of all_sets */
	Oid			target;
	LOCKMODE	lock;			/* on the target, while in use */
	MemoryContext context;		/* of the set itself */
	MemoryContext loaded;		/* of all that is made anew when stale; child of context */
	List	   *plans;			/* of RollupPlan *, ordered by id */
	RollupBatch *few;			/* where few rows go, in loaded; NULL until there are any */
	bool		is_stale;
	int			in_use;
	MemoryContextCallback forget;	/* of context */
	MemoryContextCallback free;		/* of loaded */
};

/* what is to be done with one rollup; lives on the caller's stack */
typedef struct Change
{
	Tuplestorestate *old;		/* rows taken away, or NULL */
	Tuplestorestate *fresh;		/* rows put there, or NULL */
	Tuplestorestate *all;		/* both */
	RollupBatch *batch;			/* of a worker, or of a statement with few rows */
	bool		is_few;
	TupleDesc	desc;
	bool		again;
	List	   *except;
	const RollupRange *range;
	int64	   *kept;			/* out: groups of the range that have no rows */
	void		(*work) (RollupMerge *merge, void *argument);
	void	   *argument;
} Change;

/* the scope that is open, if any: rollups one after the other can mostly share it */
typedef struct OpenScope
{
	bool		is_open;
	int			number;
	bool		without_names;
	RollupScope scope;
} OpenScope;

typedef void (*Action) (RollupSet *set, RollupPlan *plan, const Change *change);

/* ---------------------------------------------------------------- rollup_apply.c */

/* Does something with one rollup, or with all, as their owners. */
extern void rollup_apply(RollupSet *set, RollupPlan *plan, const Change *change, Action action);
extern void rollup_apply_to_all(RollupSet *set, const Change *change, Action action);

/* one thing after the other with all of them; the caller leaves the scope */
extern void rollup_apply_within(OpenScope *open, RollupSet *set, const Change *change, Action action);
extern void rollup_apply_leave(OpenScope *open);

/* the states of some rows of the target, by a plan that is kept */
extern Tuplestorestate *rollup_states_of_rows(RollupSet *set, RollupPlan *plan, Tuplestorestate *rows, TupleDesc desc);

/* change->fresh is added; what is too old goes */
extern void rollup_add_rows(RollupSet *set, RollupPlan *plan, const Change *change);
extern void rollup_retire_groups(RollupPlan *plan);

/* ---------------------------------------------------------------- rollup_delta.c */

/* whether this statement of the client has had groups of the target computed again */
extern bool rollup_has_recomputed(Oid target);

/* ---------------------------------------------------------------- rollup_few.c */

/* few rows, by plans that stay set up */
extern void rollup_add_few(RollupSet *set, Tuplestorestate *rows, TupleDesc desc);

#endif							/* CLICKSTREAM_ROLLUP_SET_INTERNAL_H */
