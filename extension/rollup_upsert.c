/*
 * rollup_upsert.c
 *		Adds states of groups to the rows of a rollup's table, without a statement.
 *
 * Called by rollup_merge.c, for tables that have nothing but what create_rollup gave them, indexes and checks;
 * it does just what INSERT … ON CONFLICT DO UPDATE there does, in the same order of keys, at less than half
 * the cost: a group is looked up in the index of the keys and its row is updated at once.  The statement
 * locks the row first, which writes the page and its log twice, and sets the executor up for each run.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "rollup_upsert_internal.h"

/* ---------------------------------------------------------------- all groups in order */

static void
add_group(UpsertRun *run)
{
	upsert_table_choose(run);
	upsert_row_add(run);
}

static void
add_sorted(UpsertRun *run, Tuplestorestate *states)
{
	TupleTableSlot *fresh = run->upsert->fresh;
	Tuplesortstate *sort = rollup_order_begin(run->upsert->order, run->upsert->states_desc);

	while (tuplestore_gettupleslot(states, true, false, fresh))
		tuplesort_puttupleslot(sort, fresh);
	tuplesort_performsort(sort);
	while (tuplesort_gettupleslot(sort, true, false, fresh, NULL))
		add_group(run);
	tuplesort_end(sort);
}

static void
add_all(UpsertRun *run, Tuplestorestate *states)
{
	tuplestore_rescan(states);
	if (tuplestore_tuple_count(states) > 1)
		add_sorted(run, states);
	else if (tuplestore_gettupleslot(states, true, false, run->upsert->fresh))
		add_group(run);
	ExecClearTuple(run->upsert->fresh);
}

/* ---------------------------------------------------------------- one run */

static void
make_slots(RollupUpsert *upsert)
{
	upsert->fresh = MakeSingleTupleTableSlot(upsert->states_desc, &TTSOpsMinimalTuple);
	upsert->there = MakeSingleTupleTableSlot(upsert->desc, &TTSOpsBufferHeapTuple);
	upsert->row = MakeSingleTupleTableSlot(upsert->desc, &TTSOpsVirtual);
	upsert->context->ecxt_innertuple = upsert->fresh;
	upsert->context->ecxt_outertuple = upsert->there;
	upsert->context->ecxt_scantuple = upsert->row;
}

static void
drop_slots(RollupUpsert *upsert)
{
	ExecDropSingleTupleTableSlot(upsert->fresh);
	ExecDropSingleTupleTableSlot(upsert->there);
	ExecDropSingleTupleTableSlot(upsert->row);
	ResetExprContext(upsert->context);
}

static void
write_all(UpsertRun *run, Tuplestorestate *states)
{
	run->command = GetCurrentCommandId(true);
	PushActiveSnapshot(GetTransactionSnapshot());
	add_all(run, states);
	PopActiveSnapshot();
}

bool
rollup_upsert_run(RollupUpsert *upsert, Tuplestorestate *states, bool takes)
{
	UpsertRun	run = {.upsert = upsert, .takes = takes};
	bool		fits;

	run.rollup = table_open(upsert->rollup, RowExclusiveLock);
	InitDirtySnapshot(run.dirty);
	make_slots(upsert);
	fits = upsert_tables_open(&run, states);
	if (fits)
		write_all(&run, states);
	drop_slots(upsert);
	upsert_tables_close(&run);
	table_close(run.rollup, NoLock);
	if (fits)
		CommandCounterIncrement();
	return fits;
}
