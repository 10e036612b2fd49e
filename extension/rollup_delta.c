/*
 * rollup_delta.c
 *		Applies the rows that a statement changed to every rollup over their table, in the caller's transaction.
 *
 * Called by rollup_trigger.c, and by rollup_few.c for a worker's rows that cannot just be added.  Brings together
 * what rollup_states.c computes and rollup_merge.c writes; must never write anything itself, nor commit.
 *
 * New rows are added: the states of their groups are combined with those in the table.  Rows that
 * were deleted or changed are subtracted (rollup_subtract.c), or the groups they belonged to or now belong to are
 * computed again (rollup_recompute.c).
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/executor.h"
#include "miscadmin.h"

#include "rollup_late.h"
#include "rollup_note.h"
#include "rollup_recompute.h"
#include "rollup_set_internal.h"
#include "rollup_states.h"
#include "rollup_subtract.h"

/* up to so many rows are added by plans that are kept set up */
#define FEW_ROWS 100

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

bool
rollup_has_recomputed(Oid target)
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

/* ---------------------------------------------------------------- rows that were deleted or changed */

/* the states of some of the changed rows: all of them again, or computed, or none */
static Tuplestorestate *
states_of_part(RollupSet *set, RollupPlan *plan, const Change *change, Tuplestorestate *part,
			   Tuplestorestate *all_states)
{
	if (part == NULL || part == change->all)
		return part == NULL ? NULL : all_states;
	return rollup_without_late(plan->rollup, plan->merge, rollup_states_of_rows(set, plan, part, change->desc), false);
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
										 rollup_states_of_rows(set, plan, change->all, change->desc), false);
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
	Change		change = {.desc = desc, .again = rollup_has_recomputed(set->target), .except = except};

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
	rollup_apply_to_all(set, &change, recompute_groups);
	if (change.all != change.old && change.all != change.fresh)
		tuplestore_end(change.all);
}

/* ---------------------------------------------------------------- new rows */

void
rollup_set_apply_insert(RollupSet *set, Tuplestorestate *rows, TupleDesc desc)
{
	Change		change = {.fresh = rows, .desc = desc};

	if (tuplestore_tuple_count(rows) == 0)
		return;
	if (rollup_has_recomputed(set->target))
		rollup_set_recompute(set, NULL, rows, desc, NIL);
	else if (tuplestore_tuple_count(rows) <= FEW_ROWS)
		rollup_add_few(set, rows, desc);
	else
		rollup_apply_to_all(set, &change, rollup_add_rows);
}

static void
compute_states(RollupSet *set, RollupPlan *plan, const Change *change)
{
	tuplestore_end(rollup_states_of_rows(set, plan, change->fresh, change->desc));
}

void
rollup_set_compute(RollupSet *set, int n, Tuplestorestate *rows, TupleDesc desc)
{
	Change		change = {.fresh = rows, .desc = desc};

	rollup_apply(set, list_nth(set->plans, n), &change, compute_states);
}
