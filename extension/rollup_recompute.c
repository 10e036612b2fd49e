/*
 * rollup_recompute.c
 *		Groups whose rows were deleted or changed, computed again from the raw rows.
 *
 * Called by rollup_delta.c.  The order is what matters:
 *		1. lock the groups' rows in the rollup, in key order (a group that is not there is made, empty);
 *		2. take a new snapshot;
 *		3. compute the groups from the raw rows, and put that in place of what is there.
 * In any other order a batch that commits in between would be lost.  A batch that comes later
 * waits for the lock of (1) and adds to the outcome of (3).
 *
 * A rollup outlives raw rows: of a group, some may have gone with a partition.  What is computed again
 * then lacks them.  The number of rows tells: the group's in the rollup, less those deleted, plus
 * those new, should be there; if fewer are, the group is lost to computing.  It is kept, new rows are
 * added to it, and of the deleted ones is subtracted what can be, exactly: counts, sums of integers and
 * their averages.  The rest (floats, numeric, min, max, sketches) still has them.
 *
 * Other triggers of the same statement may still have to run.  Rows that they will tell of as deleted
 * are missing already; the group is taken for lost, its counts are kept right, so the last of those
 * triggers finds them to add up, and computes the group after all.  Rows that they will tell of as new
 * are there already; a group that was computed with them has as many as there are, and is
 * not taken for lost when its new rows are told.
 */
#include "postgres.h"

#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "rollup_groups.h"
#include "rollup_net.h"
#include "rollup_recompute.h"
#include "rollup_states.h"

/* ---------------------------------------------------------------- statements about groups */

/* groups of which more rows are in the rollup than the raw rows can account for */
static Tuplestorestate *
find_lost(RollupMerge *merge, const RollupTouched *touched, Tuplestorestate *now, const bool *null_keys)
{
	RollupRelation relations[] = {
		{"_states", touched->groups}, {"_now", now}, {"_old", touched->old}, {"_fresh", touched->fresh}
	};
	const char *rows = rollup_merge_rows_column(merge);
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "SELECT %s FROM _states s JOIN %s r ON %s LEFT JOIN _now n ON %s",
					 rollup_merge_states_columns(merge, "s"), rollup_merge_table(merge),
					 rollup_merge_match(merge, "r", "s", null_keys),
					 rollup_merge_match(merge, "n", "s", null_keys));
	if (touched->old)
		appendStringInfo(&sql, " LEFT JOIN _old o ON %s", rollup_merge_match(merge, "o", "s", null_keys));
	if (touched->fresh)
		appendStringInfo(&sql, " LEFT JOIN _fresh f ON %s", rollup_merge_match(merge, "f", "s", null_keys));
	appendStringInfo(&sql, " WHERE r.%s", rows);
	if (touched->old)
		appendStringInfo(&sql, " - coalesce(o.%s, 0)", rows);
	if (touched->fresh)
		appendStringInfo(&sql, " + coalesce(f.%s, 0)", rows);
	appendStringInfo(&sql, " > coalesce(n.%s, 0)", rows);
	if (touched->again)
		appendStringInfo(&sql, " AND r.%s <> coalesce(n.%s, 0)", rows, rows);
	return rollup_merge_select(merge, sql.data, relations, lengthof(relations));
}

/* ---------------------------------------------------------------- the whole */

static Tuplestorestate *
part_of_lost(RollupMerge *merge, Tuplestorestate *states, Tuplestorestate *lost, const bool *null_keys)
{
	return states == NULL ? NULL : rollup_groups_filter(merge, states, true, lost, null_keys);
}

static void
add_to_lost(RollupMerge *merge, const RollupTouched *touched, Tuplestorestate *lost, const bool *null_keys)
{
	Tuplestorestate *old = part_of_lost(merge, touched->old, lost, null_keys);
	Tuplestorestate *fresh = part_of_lost(merge, touched->fresh, lost, null_keys);
	Tuplestorestate *net = rollup_net_states(merge, old, fresh);

	if (tuplestore_tuple_count(net) > 0)
		rollup_merge_run(merge, ROLLUP_ADD, net);
	tuplestore_end(net);
}

static void
replace_others(RollupMerge *merge, const RollupTouched *touched, Tuplestorestate *now,
			   Tuplestorestate *lost, const bool *null_keys)
{
	Tuplestorestate *groups = rollup_groups_filter(merge, touched->groups, false, lost, null_keys);
	Tuplestorestate *states = rollup_groups_filter(merge, now, false, lost, null_keys);

	rollup_groups_put_in_place(merge, groups, states);
	tuplestore_end(groups);
	tuplestore_end(states);
}

void
rollup_recompute(RollupMerge *merge, const RollupTouched *touched)
{
	RollupRows	which = {.touched = touched->groups, .except = touched->except};
	Tuplestorestate *now;
	Tuplestorestate *lost;

	which.null_keys = rollup_merge_null_keys(merge, touched->groups);
	rollup_merge_run(merge, ROLLUP_LOCK, touched->groups);
	now = rollup_states_of_target(merge, &which);
	lost = find_lost(merge, touched, now, which.null_keys);
	if (tuplestore_tuple_count(lost) == 0)
		rollup_groups_put_in_place(merge, touched->groups, now);
	else
	{
		replace_others(merge, touched, now, lost, which.null_keys);
		add_to_lost(merge, touched, lost, which.null_keys);
	}
	tuplestore_end(now);
	tuplestore_end(lost);
}
