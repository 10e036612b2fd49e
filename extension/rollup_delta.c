/*
 * rollup_delta.c
 *		Applies changed rows of a table to every rollup over it, in the caller's transaction.
 *
 * Called by the source worker (new rows), by rollup_trigger.c (all other writers) and by
 * rollup_api.c (fill, refresh).  Brings together what rollup_states.c computes and rollup_merge.c
 * writes; must never write anything itself, nor commit.
 *
 * A RollupSet keeps the plans of all rollups of a target between transactions.  It is marked stale by
 * an invalidation of any relation in them, or of any function or type, and is then made anew as a
 * whole: this is rare, and takes a few milliseconds.
 *
 * New rows are added: the states of their groups are combined with those in the table.  For rows that
 * were deleted or changed, the groups they belonged to or now belong to are computed again, by
 * rollup_recompute.c.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "nodes/plannodes.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "catalog.h"
#include "compat.h"
#include "rollup_batch.h"
#include "rollup_delta.h"
#include "rollup_depend.h"
#include "rollup_late.h"
#include "rollup_merge.h"
#include "rollup_note.h"
#include "rollup_query.h"
#include "rollup_ready.h"
#include "rollup_recompute.h"
#include "rollup_set.h"
#include "rollup_states.h"
#include "rollup_subtract.h"

/* up to so many rows are added by plans that are kept set up */
#define FEW_ROWS 100

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

/*
 * Backend-local: what relation cache invalidations are to mark.  A set leaves the list when its
 * memory goes.
 */
static dlist_head all_sets = DLIST_STATIC_INIT(all_sets);

/* ---------------------------------------------------------------- when a set is stale */

static bool
depends_on(const RollupSet *set, Oid relation)
{
	ListCell   *cell;

	if (relation == InvalidOid || relation == set->target)
		return true;
	foreach(cell, set->plans)
	{
		RollupPlan *plan = lfirst(cell);

		if (relation == plan->rollup->rollup || relation == plan->rollup->definition)
			return true;
		if (plan->delta != NULL && list_member_oid(plan->delta->relationOids, relation))
			return true;
		if (plan->delta_of_batch != NULL && list_member_oid(plan->delta_of_batch->relationOids, relation))
			return true;
		if (plan->delta_of_few != NULL && list_member_oid(plan->delta_of_few->relationOids, relation))
			return true;
	}
	return false;
}

static void
note_relation_change(Datum argument, Oid relation)
{
	dlist_iter	iter;

	dlist_foreach(iter, &all_sets)
	{
		RollupSet  *set = dlist_container(RollupSet, node, iter.cur);

		if (!set->is_stale && depends_on(set, relation))
			set->is_stale = true;
	}
}

static void
note_object_change(Datum argument, int cache, uint32 hash)
{
	dlist_iter	iter;

	dlist_foreach(iter, &all_sets)
		dlist_container(RollupSet, node, iter.cur)->is_stale = true;
}

static void
watch_changes(void)
{
	static bool watching = false;

	if (watching)
		return;
	watching = true;
	CacheRegisterRelcacheCallback(note_relation_change, (Datum) 0);
	CacheRegisterSyscacheCallback(PROCOID, note_object_change, (Datum) 0);
	CacheRegisterSyscacheCallback(TYPEOID, note_object_change, (Datum) 0);
	CacheRegisterSyscacheCallback(AGGFNOID, note_object_change, (Datum) 0);
	/* what stays set up has looked at rights */
	CacheRegisterSyscacheCallback(AUTHOID, note_object_change, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, note_object_change, (Datum) 0);
}

void
rollup_set_changed(Oid target)
{
	CacheInvalidateRelcacheByRelid(target);
}

/* ---------------------------------------------------------------- making a set */

/*
 * The plans' memory is about to go, by us or with the set.  Of two contexts the child's callback comes
 * first, so the set is still there.
 */
static void
free_plans(void *argument)
{
	RollupSet  *set = argument;
	ListCell   *cell;

	foreach(cell, set->plans)
		rollup_merge_free(((RollupPlan *) lfirst(cell))->merge);
	set->plans = NIL;
	set->few = NULL;
}

/* Nothing below the set's own context may be touched: it is gone. */
static void
forget_set(void *argument)
{
	RollupSet  *set = argument;

	dlist_delete(&set->node);
}

static RollupSet *
make_set(Oid target, LOCKMODE lock, MemoryContext parent)
{
	MemoryContext context = AllocSetContextCreate(parent, "clickstream rollups of a table",
												  ALLOCSET_SMALL_SIZES);
	RollupSet  *set = MemoryContextAllocZero(context, sizeof(RollupSet));

	watch_changes();
	set->target = target;
	set->lock = lock;
	set->context = context;
	set->loaded = AllocSetContextCreate(context, "plans", ALLOCSET_DEFAULT_SIZES);
	set->is_stale = true;
	dlist_push_head(&all_sets, &set->node);
	set->forget.func = forget_set;
	set->forget.arg = set;
	MemoryContextRegisterResetCallback(context, &set->forget);
	return set;
}

static RollupPlan *
make_plan(Rollup *rollup)
{
	RollupPlan *plan = palloc0(sizeof(RollupPlan));

	plan->rollup = rollup;
	plan->name = get_rel_name(rollup->rollup);
	plan->query = rollup_query_of_definition(rollup->definition, rollup->target);
	plan->merge = rollup_merge_create(plan->query, rollup->rollup);
	plan->merge->partition_interval = rollup->partition_interval;
	return plan;
}

/* the number of the first that has the same scope, or the next one */
static int
scope_of(const RollupSet *set, const RollupPlan *plan)
{
	ListCell   *cell;

	foreach(cell, set->plans)
	{
		const RollupPlan *other = lfirst(cell);

		if (rollup_scope_is_same(plan->rollup, plan->query, other->rollup, other->query))
			return other->scope;
	}
	return list_length(set->plans);
}

static void
require_definition(const Rollup *rollup)
{
	const char *name = get_rel_name(rollup->rollup);

	if (get_rel_name(rollup->definition) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the definition of rollup \"%s\" is gone", name),
				 errhint("Run SELECT clickstream.drop_rollup('%s'), and make it again.", name)));
}

/* The locks come first: what is read then stays as it is until the transaction's end. */
static void
load(RollupSet *set)
{
	MemoryContext caller = MemoryContextSwitchTo(set->loaded);
	ListCell   *cell;

	set->free.func = free_plans;
	set->free.arg = set;
	MemoryContextRegisterResetCallback(set->loaded, &set->free);
	foreach(cell, catalog_rollups_of_target(set->target))
	{
		Rollup	   *rollup = lfirst(cell);
		RollupPlan *plan;

		LockRelationOid(rollup->rollup, RowExclusiveLock);
		LockRelationOid(rollup->definition, AccessShareLock);
		if (get_rel_name(rollup->rollup) == NULL)
			continue;			/* it is being dropped */
		require_definition(rollup);
		rollup_depend(rollup->rollup, rollup->definition);
		plan = make_plan(rollup);
		plan->scope = scope_of(set, plan);
		set->plans = lappend(set->plans, plan);
	}
	MemoryContextSwitchTo(caller);
}

/* What becomes stale in the meantime is seen; what fails midway is made anew the next time. */
static void
reload(RollupSet *set)
{
	MemoryContextReset(set->loaded);
	set->is_stale = false;
	PG_TRY();
	{
		load(set);
	}
	PG_CATCH();
	{
		set->is_stale = true;
		PG_RE_THROW();
	}
	PG_END_TRY();
}

static void
lock_what_is_read(const PlannedStmt *plan)
{
	ListCell   *cell;

	if (plan != NULL)
		foreach(cell, plan->relationOids)
			LockRelationOid(lfirst_oid(cell), AccessShareLock);
}

static void
lock_relations(RollupSet *set)
{
	ListCell   *cell;

	foreach(cell, set->plans)
	{
		RollupPlan *plan = lfirst(cell);

		LockRelationOid(plan->rollup->rollup, RowExclusiveLock);
		LockRelationOid(plan->rollup->definition, AccessShareLock);
		lock_what_is_read(plan->delta);
		lock_what_is_read(plan->delta_of_batch);
		lock_what_is_read(plan->delta_of_few);
	}
}

/* Brings the set up to date, and locks all that it stands on until the end of the transaction. */
static void
make_current(RollupSet *set)
{
	int			tries;

	LockRelationOid(set->target, set->lock);
	for (tries = 0;; tries++)
	{
		if (set->is_stale)
		{
			if (tries > 100)
				elog(ERROR, "the rollups of \"%s\" keep changing", get_rel_name(set->target));
			reload(set);
		}
		else
		{
			lock_relations(set);
			if (!set->is_stale)
				return;
		}
	}
}

RollupSet *
rollup_set_open(Oid target)
{
	RollupSet  *set = make_set(target, RowExclusiveLock, CurrentMemoryContext);

	make_current(set);
	return set;
}

void
rollup_set_refresh(RollupSet *set)
{
	make_current(set);
}

bool
rollup_set_is_empty(const RollupSet *set)
{
	return set->plans == NIL;
}

void
rollup_set_close(RollupSet *set)
{
	MemoryContextDelete(set->context);
}

RollupSet *
rollup_set_of_session(Oid target)
{
	RollupSet  *set = NULL;
	dlist_iter	iter;

	dlist_foreach(iter, &all_sets)
	{
		RollupSet  *other = dlist_container(RollupSet, node, iter.cur);

		/* one that is in use may not change under its user */
		if (other->target == target && other->lock == AccessShareLock && other->in_use == 0)
			set = other;
	}
	if (set == NULL)
		set = make_set(target, AccessShareLock, CacheMemoryContext);
	make_current(set);
	return set->plans == NIL ? NULL : set;
}

/* ---------------------------------------------------------------- what this statement has done */

/*
 * Statement triggers of one query all run after all its changes were made, and not always in the order
 * of the changes (INSERT … ON CONFLICT DO UPDATE, data-modifying WITH).  A group that is computed
 * again from the raw rows has the query's new rows already; adding them once more would count them
 * twice.  So once something was computed again, new rows of the same client's statement are not added:
 * their groups are computed again as well.
 *
 * Backend-local, and only valid within the transaction named in it.
 */
static struct
{
	Oid			target;
	TransactionId transaction;
	TimestampTz statement;
}			recomputed;

static bool
has_recomputed(Oid target)
{
	return recomputed.target == target && TransactionIdIsValid(recomputed.transaction) &&
		recomputed.transaction == GetTopTransactionIdIfAny() &&
		recomputed.statement == GetCurrentStatementStartTimestamp();
}

static void
note_recomputed(Oid target)
{
	recomputed.target = target;
	recomputed.transaction = GetTopTransactionId();
	recomputed.statement = GetCurrentStatementStartTimestamp();
}

/* ---------------------------------------------------------------- applying rows */

/* Says which rollup it was, and throws again; in the memory context of the caller. */
void
rollup_throw_naming(const char *rollup, MemoryContext context)
{
	ErrorData  *error;

	MemoryContextSwitchTo(context);
	if (ERRCODE_TO_CATEGORY(geterrcode()) == ERRCODE_OPERATOR_INTERVENTION)
		PG_RE_THROW();
	error = CopyErrorData();
	FlushErrorState();
	error->message = psprintf("rollup \"%s\": %s", rollup, error->message);
	ReThrowError(error);
}

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

static Tuplestorestate *
states_of_rows(RollupSet *set, RollupPlan *plan, Tuplestorestate *rows, TupleDesc desc)
{
	if (plan->delta == NULL)
	{
		MemoryContext caller = MemoryContextSwitchTo(set->loaded);

		plan->delta = rollup_states_plan(plan->merge, desc, tuplestore_tuple_count(rows));
		MemoryContextSwitchTo(caller);
	}
	return rollup_states_of(plan->delta, rows, desc);
}

/* Whoever adds rows looks, at most every minute; there is nobody else whom every rollup has. */
static void
retire_groups(RollupPlan *plan)
{
	TimestampTz now = GetCurrentTransactionStartTimestamp();

	if (plan->rollup->retention == NULL || now - plan->retired_at < USECS_PER_MINUTE)
		return;
	plan->retired_at = now;
	if (!IsolationUsesXactSnapshot())
		catalog_late_rows_sum_up(plan->rollup->id);
	if (plan->rollup->partition_interval == NULL)
		rollup_merge_retire(plan->merge, rollup_oldest(plan->rollup));
}

static void
add_rows(RollupSet *set, RollupPlan *plan, const Change *change)
{
	Tuplestorestate *states = rollup_without_late(plan->rollup, plan->merge,
												  states_of_rows(set, plan, change->fresh, change->desc), true);

	if (tuplestore_tuple_count(states) > 0)
		rollup_merge_run(plan->merge, ROLLUP_ADD, states);
	tuplestore_end(states);
	retire_groups(plan);
}

/* the states of some of the changed rows: all of them again, or computed, or none */
static Tuplestorestate *
states_of_part(RollupSet *set, RollupPlan *plan, const Change *change, Tuplestorestate *part,
			   Tuplestorestate *all_states)
{
	if (part == NULL || part == change->all)
		return part == NULL ? NULL : all_states;
	return rollup_without_late(plan->rollup, plan->merge, states_of_rows(set, plan, part, change->desc), false);
}

static void
end_part(Tuplestorestate *states, Tuplestorestate *all_states)
{
	if (states != NULL && states != all_states)
		tuplestore_end(states);
}

static void
recompute_groups(RollupSet *set, RollupPlan *plan, const Change *change)
{
	RollupTouched touched = {.again = change->again, .except = change->except};
	bool		computed = true;

	touched.groups = rollup_without_late(plan->rollup, plan->merge,
										 states_of_rows(set, plan, change->all, change->desc), false);
	if (plan->rollup->phase == ROLLUP_FILLING)
		rollup_note_groups(plan->merge, plan->rollup->id, touched.groups);
	else if (tuplestore_tuple_count(touched.groups) > 0)
	{
		touched.old = states_of_part(set, plan, change, change->old, touched.groups);
		touched.fresh = states_of_part(set, plan, change, change->fresh, touched.groups);
		if (plan->rollup->complete && !change->again && change->except == NIL &&
			rollup_can_subtract(plan->query))
			computed = rollup_subtract(plan->merge, &touched);
		else
			rollup_recompute(plan->merge, &touched);
		if (computed)
			note_recomputed(set->target);
		end_part(touched.old, touched.groups);
		end_part(touched.fresh, touched.groups);
	}
	tuplestore_end(touched.groups);
}

/*
 * Groups that have no rows any more are kept: their rows may have gone with a partition.  But if there
 * are just as many rows as the rollup has counted, none are gone; they are in other groups now, for
 * example because a joined table has changed.
 */
static void
fill_range(RollupSet *set, RollupPlan *plan, const Change *change)
{
	RollupMerge *merge = plan->merge;
	RollupRows	which = {.range = change->range};
	RollupTotals before = rollup_merge_totals(merge, change->range);
	Tuplestorestate *states = rollup_states_of_target(merge, &which);
	int64		kept;

	rollup_merge_run(merge, ROLLUP_REPLACE, states);
	kept = before.groups == 0 ? 0 :
		rollup_merge_totals(merge, change->range).groups - tuplestore_tuple_count(states);
	if (kept > 0 && before.rows == rollup_merge_rows_of(merge, states))
	{
		Tuplestorestate *groups = rollup_merge_groups(merge, change->range);

		rollup_merge_remove(merge, groups, states);
		tuplestore_end(groups);
		kept = 0;
	}
	if (change->kept != NULL)
		*change->kept = kept;
	tuplestore_end(states);
}

/* the scope that is open, if any: rollups one after the other can mostly share it */
typedef struct OpenScope
{
	bool		is_open;
	int			number;
	bool		without_names;
	RollupScope scope;
} OpenScope;

static void
leave_scope(OpenScope *open)
{
	if (open->is_open)
		rollup_scope_leave(&open->scope);
	open->is_open = false;
}

static void
enter_scope(OpenScope *open, const RollupPlan *plan, bool without_names)
{
	if (open->is_open && open->number == plan->scope && open->without_names == without_names)
		return;
	leave_scope(open);
	if (without_names)
		rollup_scope_enter_without_names(&open->scope, plan->rollup);
	else
		rollup_scope_enter(&open->scope, plan->rollup, plan->query);
	open->is_open = true;
	open->number = plan->scope;
	open->without_names = without_names;
}

typedef void (*Action) (RollupSet *set, RollupPlan *plan, const Change *change);

static void
apply_within(OpenScope *open, RollupSet *set, RollupPlan *plan, const Change *change, Action action)
{
	MemoryContext context = CurrentMemoryContext;
	MemoryContext work = AllocSetContextCreate(context, "a rollup's change", ALLOCSET_DEFAULT_SIZES);

	set->in_use++;
	PG_TRY();
	{
		enter_scope(open, plan, change->is_few && plan->is_plain);
		MemoryContextSwitchTo(work);
		action(set, plan, change);
		MemoryContextSwitchTo(context);
	}
	PG_CATCH();
	{
		set->in_use--;
		rollup_throw_naming(plan->name, context);
	}
	PG_END_TRY();
	set->in_use--;
	MemoryContextDelete(work);
}

static void
apply(RollupSet *set, RollupPlan *plan, const Change *change, Action action)
{
	OpenScope	open = {0};

	apply_within(&open, set, plan, change, action);
	leave_scope(&open);
}

static void
apply_all_within(OpenScope *open, RollupSet *set, const Change *change, Action action)
{
	ListCell   *cell;

	/* one that nobody has begun to fill will be read from the table itself */
	foreach(cell, set->plans)
	{
		RollupPlan *plan = lfirst(cell);

		if (plan->rollup->phase != ROLLUP_WAITING)
			apply_within(open, set, plan, change, action);
	}
}

static void
apply_to_all(RollupSet *set, const Change *change, Action action)
{
	OpenScope	open = {0};

	apply_all_within(&open, set, change, action);
	leave_scope(&open);
}

static void
append_rows(Tuplestorestate *to, Tuplestorestate *from, TupleDesc desc)
{
	TupleTableSlot *slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);

	tuplestore_select_read_pointer(from, tuplestore_alloc_read_pointer(from, EXEC_FLAG_REWIND));
	tuplestore_rescan(from);
	while (tuplestore_gettupleslot(from, true, false, slot))
		tuplestore_puttupleslot(to, slot);
	ExecDropSingleTupleTableSlot(slot);
}

void
rollup_set_recompute(RollupSet *set, Tuplestorestate *old, Tuplestorestate *fresh, TupleDesc desc,
					 List *except)
{
	Change		change = {.desc = desc, .again = has_recomputed(set->target), .except = except};

	change.old = old != NULL && tuplestore_tuple_count(old) > 0 ? old : NULL;
	change.fresh = fresh != NULL && tuplestore_tuple_count(fresh) > 0 ? fresh : NULL;
	if (change.old == NULL && change.fresh == NULL)
		return;
	change.all = change.old != NULL ? change.old : change.fresh;
	if (change.old != NULL && change.fresh != NULL)
	{
		change.all = tuplestore_begin_heap(true, false, work_mem);
		append_rows(change.all, change.old, desc);
		append_rows(change.all, change.fresh, desc);
	}
	apply_to_all(set, &change, recompute_groups);
	if (change.all != change.old && change.all != change.fresh)
		tuplestore_end(change.all);
}

/* ---------------------------------------------------------------- rows of a worker */

static void
plan_batch(RollupSet *set, RollupPlan *plan, const Change *change)
{
	MemoryContext caller;

	if (plan->delta_of_batch != NULL)
		return;
	caller = MemoryContextSwitchTo(set->loaded);
	plan->delta_of_batch = rollup_states_plan_batch(plan->merge, change->desc, &plan->columns);
	MemoryContextSwitchTo(caller);
}

RollupBatch *
rollup_set_begin_batch(RollupSet *set, TupleDesc desc)
{
	Change		change = {.desc = desc};
	Bitmapset  *columns = NULL;
	RollupBatch *batch;
	ListCell   *cell;

	apply_to_all(set, &change, plan_batch);
	foreach(cell, set->plans)
		columns = bms_add_members(columns, ((RollupPlan *) lfirst(cell))->columns);
	batch = rollup_batch_create(desc, columns);
	bms_free(columns);
	return batch;
}

static Tuplestorestate *
states_of_few(RollupPlan *plan, RollupBatch *batch)
{
	return plan->ready != NULL ? rollup_states_of_ready(plan->ready) :
		rollup_states_of_batch(plan->delta_of_few, batch);
}

static void
compute_states_of_batch(RollupSet *set, RollupPlan *plan, const Change *change)
{
	MemoryContext caller = MemoryContextSwitchTo(rollup_batch_memory(change->batch));

	plan->states = rollup_without_late(plan->rollup, plan->merge,
									   change->is_few ? states_of_few(plan, change->batch) :
									   rollup_states_of_batch(plan->delta_of_batch, change->batch), true);
	MemoryContextSwitchTo(caller);
}

static void
merge_states_of_batch(RollupSet *set, RollupPlan *plan, const Change *change)
{
	if (tuplestore_tuple_count(plan->states) > 0)
		rollup_merge_run(plan->merge, ROLLUP_ADD, plan->states);
	tuplestore_end(plan->states);
	retire_groups(plan);
}

/*
 * All is computed before anything is written: groups are locked from when they are written to the end of
 * the transaction, and other workers that have rows for them wait that long.
 */
static void
compute_and_merge(RollupSet *set, const Change *change)
{
	OpenScope	open = {0};

	apply_all_within(&open, set, change, compute_states_of_batch);
	apply_all_within(&open, set, change, merge_states_of_batch);
	leave_scope(&open);
}

/* ---------------------------------------------------------------- rows of a statement */

static void
plan_few(RollupSet *set, RollupPlan *plan, const Change *change)
{
	MemoryContext caller = MemoryContextSwitchTo(set->loaded);

	plan->delta_of_few = rollup_states_plan_few(plan->merge, change->desc, &plan->columns_of_few);
	/* retention has statements of its own */
	plan->is_plain = !plan->query->needs_search_path && plan->rollup->retention == NULL &&
		rollup_ready_can_keep(plan->delta_of_few) && rollup_merge_adds_without_statement(plan->merge);
	MemoryContextSwitchTo(caller);
}

/* all that few rows need, made once */
static RollupBatch *
batch_for_few(RollupSet *set, TupleDesc desc)
{
	MemoryContext caller = MemoryContextSwitchTo(set->loaded);
	Change		change = {.desc = CreateTupleDescCopy(desc)};
	Bitmapset  *columns = NULL;
	RollupBatch *few;
	ListCell   *cell;

	MemoryContextSwitchTo(caller);
	apply_to_all(set, &change, plan_few);
	MemoryContextSwitchTo(set->loaded);
	foreach(cell, set->plans)
		columns = bms_add_members(columns, ((RollupPlan *) lfirst(cell))->columns_of_few);
	few = rollup_batch_create(change.desc, columns);
	foreach(cell, set->plans)
	{
		RollupPlan *plan = lfirst(cell);

		if (plan->delta_of_few != NULL)
			plan->ready = rollup_states_ready(plan->delta_of_few, few);
	}
	MemoryContextSwitchTo(caller);
	return few;
}

/* What an error has left in the batch goes before, too. */
static void
add_few(RollupSet *set, Tuplestorestate *rows, TupleDesc desc)
{
	TupleTableSlot *slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	Change		change = {.is_few = true};

	if (set->few == NULL)
		set->few = batch_for_few(set, desc);
	change.batch = set->few;
	rollup_batch_clear(set->few);
	tuplestore_select_read_pointer(rows, tuplestore_alloc_read_pointer(rows, EXEC_FLAG_REWIND));
	tuplestore_rescan(rows);
	while (tuplestore_gettupleslot(rows, true, false, slot))
		rollup_batch_add(set->few, slot);
	ExecDropSingleTupleTableSlot(slot);
	compute_and_merge(set, &change);
	rollup_batch_clear(set->few);
}

void
rollup_set_apply_insert(RollupSet *set, Tuplestorestate *rows, TupleDesc desc)
{
	Change		change = {.fresh = rows, .desc = desc};

	if (tuplestore_tuple_count(rows) == 0)
		return;
	if (has_recomputed(set->target))
		rollup_set_recompute(set, NULL, rows, desc, NIL);
	else if (tuplestore_tuple_count(rows) <= FEW_ROWS)
		add_few(set, rows, desc);
	else
		apply_to_all(set, &change, add_rows);
}

/* ---------------------------------------------------------------- a worker's batch */

/* Groups were computed again when a trigger of the user's changed rows of the target meanwhile. */
void
rollup_set_apply_batch(RollupSet *set, RollupBatch *batch)
{
	Change		change = {.batch = batch};

	if (rollup_batch_count(batch) > 0 && has_recomputed(set->target))
	{
		Tuplestorestate *rows = rollup_batch_rows(batch);

		rollup_set_recompute(set, NULL, rows, rollup_batch_desc(batch), NIL);
		tuplestore_end(rows);
	}
	else if (rollup_batch_count(batch) > 0)
		compute_and_merge(set, &change);
	rollup_batch_clear(batch);
}

static RollupPlan *
plan_of(RollupSet *set, Oid rollup)
{
	ListCell   *cell;

	foreach(cell, set->plans)
	{
		if (((RollupPlan *) lfirst(cell))->rollup->rollup == rollup)
			return lfirst(cell);
	}
	elog(ERROR, "relation %u is not a rollup of relation %u", rollup, set->target);
}

/* ---------------------------------------------------------------- one of the rollups */

int
rollup_set_count(const RollupSet *set)
{
	return list_length(set->plans);
}

void
rollup_set_show(const RollupSet *set, int n, const Rollup **rollup, const RollupQuery **query,
				const char **name)
{
	const RollupPlan *plan = list_nth(set->plans, n);

	*rollup = plan->rollup;
	*query = plan->query;
	*name = plan->name;
}

static void
compute_states(RollupSet *set, RollupPlan *plan, const Change *change)
{
	tuplestore_end(states_of_rows(set, plan, change->fresh, change->desc));
}

void
rollup_set_compute(RollupSet *set, int n, Tuplestorestate *rows, TupleDesc desc)
{
	Change		change = {.fresh = rows, .desc = desc};

	apply(set, list_nth(set->plans, n), &change, compute_states);
}

static void
do_work(RollupSet *set, RollupPlan *plan, const Change *change)
{
	change->work(plan->merge, change->argument);
}

void
rollup_set_work(RollupSet *set, Oid rollup, void (*work) (RollupMerge *merge, void *argument), void *argument)
{
	Change		change = {.work = work, .argument = argument};

	apply(set, plan_of(set, rollup), &change, do_work);
}

int64
rollup_set_fill(RollupSet *set, Oid rollup, const RollupRange *range)
{
	int64		kept = 0;
	Change		change = {.range = range, .kept = &kept};

	apply(set, plan_of(set, rollup), &change, fill_range);
	return kept;
}

void
rollup_set_fill_with_nothing(RollupSet *set, Oid rollup)
{
	RollupPlan *plan = plan_of(set, rollup);
	Relation	target = table_open(set->target, NoLock);
	Change		change = {.desc = RelationGetDescr(target)};

	change.fresh = tuplestore_begin_heap(true, false, work_mem);
	apply(set, plan, &change, add_rows);
	tuplestore_end(change.fresh);
	table_close(target, NoLock);
}

/* What a worker has read and not yet put in place must never get there. */
static void
begin_to_fill_again(RollupPlan *plan)
{
	Rollup	   *rollup = catalog_rollup_by_id(plan->rollup->id);

	rollup->phase = ROLLUP_WAITING;
	catalog_rollup_update(rollup);
	rollup_set_changed(rollup->target);
}

static void
truncate_rollup(RollupSet *set, RollupPlan *plan, const Change *change)
{
	rollup_merge_truncate(plan->merge);
	if (plan->rollup->phase == ROLLUP_FILLING)
		begin_to_fill_again(plan);
	if (plan->query->is_single_group)
		fill_range(set, plan, change);
}

void
rollup_set_truncate(RollupSet *set)
{
	Change		change = {0};

	apply_to_all(set, &change, truncate_rollup);
}
