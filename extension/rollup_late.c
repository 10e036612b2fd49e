/*
 * rollup_late.c
 *		Groups that are older than a rollup's retention when rows for them come.
 *
 * Called by rollup_delta.c, between what it computes and what it writes.  Such a group has been removed or
 * is about to be: to begin it anew, with the late rows alone, would show a number that was never true.  So
 * it is left out, and the rows are counted: clickstream.stat_rollups shows how many.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/date.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "rollup_late.h"

/* as comparing it with a timestamptz does */
static TimestampTz
moment_of(Datum key, Oid type)
{
	switch (type)
	{
		case DATEOID:
			return DatumGetTimestampTz(DirectFunctionCall1(date_timestamptz, key));
		case TIMESTAMPOID:
			return DatumGetTimestampTz(DirectFunctionCall1(timestamp_timestamptz, key));
		default:
			return DatumGetTimestampTz(key);
	}
}

/* the place of the time key among a state's columns */
static int
time_key(const RollupMerge *merge)
{
	AttrNumber	column = rollup_query_time_column(merge->query);
	ListCell   *cell;

	foreach(cell, rollup_query_keys(merge->query))
	{
		if (lfirst_int(cell) == column)
			return foreach_current_index(cell);
	}
	return -1;
}

static bool
is_late(TupleTableSlot *slot, int key, Oid type, TimestampTz oldest)
{
	bool		is_null;
	Datum		value = slot_getattr(slot, key + 1, &is_null);

	return !is_null && moment_of(value, type) < oldest;
}

static Tuplestorestate *
without(const RollupMerge *merge, Tuplestorestate *states, TimestampTz oldest, int64 *rows)
{
	TupleTableSlot *slot = MakeSingleTupleTableSlot(merge->states_desc, &TTSOpsMinimalTuple);
	int			counted = list_length(rollup_query_keys(merge->query)) + merge->query->rows + 1;
	int			key = time_key(merge);
	Oid			type = TupleDescAttr(merge->states_desc, key)->atttypid;
	Tuplestorestate *kept = tuplestore_begin_heap(true, false, work_mem);

	tuplestore_rescan(states);
	while (tuplestore_gettupleslot(states, true, false, slot))
	{
		bool		is_null;

		if (is_late(slot, key, type, oldest))
			*rows += DatumGetInt64(slot_getattr(slot, counted, &is_null));
		else
			tuplestore_puttupleslot(kept, slot);
	}
	ExecDropSingleTupleTableSlot(slot);
	return kept;
}

static bool
any_is_late(const RollupMerge *merge, Tuplestorestate *states, TimestampTz oldest)
{
	TupleTableSlot *slot = MakeSingleTupleTableSlot(merge->states_desc, &TTSOpsMinimalTuple);
	int			key = time_key(merge);
	bool		any = false;

	tuplestore_rescan(states);
	while (!any && tuplestore_gettupleslot(states, true, false, slot))
		any = is_late(slot, key, TupleDescAttr(merge->states_desc, key)->atttypid, oldest);
	tuplestore_rescan(states);
	ExecDropSingleTupleTableSlot(slot);
	return any;
}

Tuplestorestate *
rollup_without_late(const Rollup *rollup, const RollupMerge *merge, Tuplestorestate *states, bool count)
{
	TimestampTz oldest = rollup_oldest(rollup);
	Tuplestorestate *kept;
	int64		rows = 0;

	if (rollup->retention == NULL || states == NULL || !any_is_late(merge, states, oldest))
		return states;
	kept = without(merge, states, oldest, &rows);
	if (count)
		catalog_late_rows_insert(rollup->id, rows);
	tuplestore_end(states);
	return kept;
}
