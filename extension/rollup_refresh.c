/*
 * rollup_refresh.c
 *		Groups made what the raw rows say, whatever the rollup has.
 *
 * Called by rollup_api.c for refresh_rollup, and by rollup_fill.c for groups that were noted.  To read the raw
 * rows can take long, and nobody is to wait for it.  So:
 *		1. under one snapshot, without a lock: compute the groups from the raw rows, and look which version
 *		   of its row the rollup has of each;
 *		2. lock the groups, in key order (a group that is not there is made, empty);
 *		3. of those whose row is still the same, no raw row has come or gone since: put in place what was
 *		   computed.  The others, which somebody wrote to in the meantime, are few: compute them again.
 *
 * A rollup is exact at every commit, and a snapshot shows both sides of one moment.  So of a range only
 * those groups are touched that differ under it: mostly none, and then nobody waits at all.
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

#include "rollup_groups.h"
#include "rollup_refresh.h"
#include "rollup_states.h"

/* what stands after the states of a group in the relation `todo`: version of its row, rows it has counted */
#define VERSION_COLUMNS ", r.tableoid AS _clickstream_table, r.ctid AS _clickstream_place, " \
	"r.xmin AS _clickstream_writer, "

/* groups to be made anew */
typedef struct Todo
{
	Tuplestorestate *tuples;
	TupleDesc	desc;
	const bool *null_keys;
} Todo;

/* Under REPEATABLE READ there is but one, and a group that somebody wrote to since cannot be locked. */
static Snapshot
take_snapshot(void)
{
	CommandCounterIncrement();
	return RegisterSnapshot(IsolationUsesXactSnapshot() ? GetTransactionSnapshot() : GetLatestSnapshot());
}

/* ---------------------------------------------------------------- making them anew */

static Tuplestorestate *
states_of(RollupMerge *merge, const Todo *todo)
{
	RollupRelation relation = {"_todo", todo->tuples, todo->desc};

	return rollup_merge_select(merge, psprintf("SELECT %s FROM _todo t", rollup_merge_states_columns(merge, "t")),
							   &relation, 1);
}

/* Those whose row is another than it was; that there was none tells nothing of what happened since. */
static Tuplestorestate *
written_since(RollupMerge *merge, const Todo *todo)
{
	RollupRelation relation = {"_todo", todo->tuples, todo->desc};

	return rollup_merge_select(merge,
							   psprintf("SELECT %s FROM _todo t LEFT JOIN %s r ON %s "
										"WHERE t._clickstream_place IS NULL OR r.ctid IS DISTINCT FROM t._clickstream_place "
										"OR r.xmin IS DISTINCT FROM t._clickstream_writer "
										"OR r.tableoid IS DISTINCT FROM t._clickstream_table",
										rollup_merge_states_columns(merge, "t"), rollup_merge_table(merge),
										rollup_merge_match(merge, "r", "t", todo->null_keys)),
							   &relation, 1);
}

/* They are locked, so what is computed now is what stays. */
void
rollup_compute_locked(RollupMerge *merge, Tuplestorestate *groups, const bool *null_keys)
{
	RollupRows	which = {.touched = groups, .null_keys = null_keys};
	Tuplestorestate *now = rollup_states_of_target(merge, &which);

	rollup_groups_put_in_place(merge, groups, now);
	tuplestore_end(now);
}

/* `now`: what all of them, and perhaps others, were under the snapshot */
static void
make_anew(RollupMerge *merge, const Todo *todo, Tuplestorestate *now)
{
	Tuplestorestate *groups = states_of(merge, todo);
	Tuplestorestate *written;

	rollup_merge_run(merge, ROLLUP_LOCK, groups);
	written = written_since(merge, todo);
	if (tuplestore_tuple_count(written) < tuplestore_tuple_count(groups))
	{
		Tuplestorestate *still = rollup_groups_filter(merge, groups, false, written, todo->null_keys);
		Tuplestorestate *still_now = rollup_groups_filter(merge, now, true, still, todo->null_keys);

		rollup_groups_put_in_place(merge, still, still_now);
		tuplestore_end(still);
		tuplestore_end(still_now);
	}
	if (tuplestore_tuple_count(written) > 0)
		rollup_compute_locked(merge, written, todo->null_keys);
	tuplestore_end(written);
	tuplestore_end(groups);
}

/* ---------------------------------------------------------------- those noted */

void
rollup_refresh_groups(RollupMerge *merge, Tuplestorestate *groups)
{
	const RollupRange everything = {0};
	RollupRelation relation = {"_touched", groups};
	Todo		todo = {.null_keys = rollup_merge_null_keys(merge, groups)};
	RollupRows	which = {.touched = groups, .null_keys = todo.null_keys, .snapshot = take_snapshot()};
	Tuplestorestate *now = rollup_states_of_target(merge, &which);

	todo.tuples = rollup_merge_select_at(merge,
										 psprintf("SELECT %s" VERSION_COLUMNS "r.%s AS _clickstream_rows "
												  "FROM _touched t LEFT JOIN %s r ON %s",
												  rollup_merge_states_columns(merge, "t"), rollup_merge_rows_column(merge),
												  rollup_merge_table(merge),
												  rollup_merge_match(merge, "r", "t", todo.null_keys)),
										 &relation, 1, &everything, which.snapshot, &todo.desc);
	UnregisterSnapshot(which.snapshot);
	make_anew(merge, &todo, now);
	tuplestore_end(now);
	tuplestore_end(todo.tuples);
}

/* ---------------------------------------------------------------- a range */

/* Compared bit by bit, for not every type knows what equal is. */
static Tuplestorestate *
differing(RollupMerge *merge, Tuplestorestate *now, const bool *null_keys, const RollupRange *range,
		  Snapshot snapshot, TupleDesc *desc)
{
	RollupRelation relation = {"_now", now};

	return rollup_merge_select_at(merge,
								  psprintf("SELECT %s" VERSION_COLUMNS "r.%s AS _clickstream_rows "
										   "FROM _now n LEFT JOIN %s r ON %s WHERE r.ctid IS NULL "
										   "OR ROW(%s)::record OPERATOR(pg_catalog.*<>) ROW(%s)::record",
										   rollup_merge_states_columns(merge, "n"), rollup_merge_rows_column(merge),
										   rollup_merge_table(merge), rollup_merge_match(merge, "r", "n", null_keys),
										   rollup_merge_states_columns(merge, "r"), rollup_merge_states_columns(merge, "n")),
								  &relation, 1, range, snapshot, desc);
}

/* what the rollup has, and the raw rows have not */
static Tuplestorestate *
without_rows(RollupMerge *merge, Tuplestorestate *now, const bool *null_keys, const RollupRange *range,
			 Snapshot snapshot, TupleDesc *desc)
{
	RollupRelation relation = {"_now", now};
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "SELECT %s" VERSION_COLUMNS "r.%s AS _clickstream_rows FROM %s r WHERE NOT EXISTS "
					 "(SELECT FROM _now n WHERE %s)", rollup_merge_states_columns(merge, "r"), rollup_merge_rows_column(merge),
					 rollup_merge_table(merge), rollup_merge_match(merge, "r", "n", null_keys));
	rollup_merge_append_range(&sql, merge, range);
	return rollup_merge_select_at(merge, sql.data, &relation, 1, range, snapshot, desc);
}

/* how many rows the rollup had counted in these groups, and how many there are */
static int64
counted_less_found(const RollupMerge *merge, Tuplestorestate *tuples, TupleDesc desc, bool found)
{
	TupleTableSlot *slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	int			rows = list_length(rollup_query_keys(merge->query)) + merge->query->rows + 1;
	int64		sum = 0;

	tuplestore_rescan(tuples);
	while (tuplestore_gettupleslot(tuples, true, false, slot))
	{
		bool		is_null;
		Datum		counted = slot_getattr(slot, desc->natts, &is_null);

		if (!is_null)
			sum += DatumGetInt64(counted);
		if (found)
			sum -= DatumGetInt64(slot_getattr(slot, rows, &is_null));
	}
	tuplestore_rescan(tuples);
	ExecDropSingleTupleTableSlot(slot);
	return sum;
}

static void
append(Tuplestorestate *to, Tuplestorestate *from, TupleDesc desc)
{
	TupleTableSlot *slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);

	tuplestore_rescan(from);
	while (tuplestore_gettupleslot(from, true, false, slot))
		tuplestore_puttupleslot(to, slot);
	ExecDropSingleTupleTableSlot(slot);
}

/*
 * Groups that have no rows any more are kept: their rows may have gone with a partition.  But if there
 * are just as many rows as the rollup has counted, none are gone; they are in other groups now, for
 * example because a joined table has changed.
 */
int64
rollup_refresh_range(RollupMerge *merge, const RollupRange *range)
{
	RollupRows	which = {.range = range, .snapshot = take_snapshot()};
	Tuplestorestate *now = rollup_states_of_target(merge, &which);
	Todo		todo = {.null_keys = rollup_merge_null_keys(merge, now)};
	Tuplestorestate *rowless;
	int64		kept;

	todo.tuples = differing(merge, now, todo.null_keys, range, which.snapshot, &todo.desc);
	rowless = without_rows(merge, now, todo.null_keys, range, which.snapshot, &todo.desc);
	UnregisterSnapshot(which.snapshot);
	kept = tuplestore_tuple_count(rowless);
	if (kept > 0 && counted_less_found(merge, todo.tuples, todo.desc, true) +
		counted_less_found(merge, rowless, todo.desc, false) == 0)
	{
		append(todo.tuples, rowless, todo.desc);
		todo.null_keys = rollup_merge_null_keys(merge, states_of(merge, &todo));
		kept = 0;
	}
	if (tuplestore_tuple_count(todo.tuples) > 0)
		make_anew(merge, &todo, now);
	tuplestore_end(rowless);
	tuplestore_end(todo.tuples);
	tuplestore_end(now);
	return kept;
}
