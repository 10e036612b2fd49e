/*
 * rollup_few.c
 *		New rows one by one, in a batch: those of a worker, and the few of a statement.
 *
 * Called by the source worker's writer and by rollup_delta.c.  A batch is read by the plans where it lies, without a
 * tuplestore; and the plans for few rows stay set up from one statement to the next.
 *
 * All is computed before anything is written: groups are locked from when they are written to the end of
 * the transaction, and other workers that have rows for them wait that long.
 */
#include "postgres.h"

#include "executor/executor.h"

#include "rollup_late.h"
#include "rollup_set_internal.h"
#include "rollup_states.h"

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

	rollup_apply_to_all(set, &change, plan_batch);
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
	rollup_retire_groups(plan);
}

static void
compute_and_merge(RollupSet *set, const Change *change)
{
	OpenScope	open = {0};

	rollup_apply_within(&open, set, change, compute_states_of_batch);
	rollup_apply_within(&open, set, change, merge_states_of_batch);
	rollup_apply_leave(&open);
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
	rollup_apply_to_all(set, &change, plan_few);
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
void
rollup_add_few(RollupSet *set, Tuplestorestate *rows, TupleDesc desc)
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

/* ---------------------------------------------------------------- a worker's batch */

/* Groups were computed again when a trigger of the user's changed rows of the target meanwhile. */
void
rollup_set_apply_batch(RollupSet *set, RollupBatch *batch)
{
	Change		change = {.batch = batch};

	if (rollup_batch_count(batch) > 0 && rollup_has_recomputed(set->target))
	{
		Tuplestorestate *rows = rollup_batch_rows(batch);

		rollup_set_recompute(set, NULL, rows, rollup_batch_desc(batch), NIL);
		tuplestore_end(rows);
	}
	else if (rollup_batch_count(batch) > 0)
		compute_and_merge(set, &change);
	rollup_batch_clear(batch);
}
