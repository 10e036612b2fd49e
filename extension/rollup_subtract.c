/*
 * rollup_subtract.c
 *		Deleted and changed rows taken out of their groups by arithmetic, without the raw rows.
 *
 * Called by rollup_delta.c for rollups that have nothing but counts, sums of smallint and integer,
 * and their averages, over the target alone: a joined table may say by now that a row belongs to another
 * group than the one in which it was counted.  A state is added that is the new rows' less the deleted rows' own
 * (rollup_net.c), so this commutes with whatever others add, and needs neither snapshot nor raw rows.
 *
 * Arithmetic does not know everything.  A sum that comes to 0 may be the sum of nothing, which is NULL; a
 * group with fewer than no rows had not counted the rows that were deleted (a partition was attached
 * with them).  Such groups, which are few, are computed again, while they are locked.
 */
#include "postgres.h"

#include "utils/fmgroids.h"

#include "rollup_net.h"
#include "rollup_refresh.h"
#include "rollup_subtract.h"

/* ---------------------------------------------------------------- what can be subtracted */

static bool
is_exact(const RollupAggregate *aggregate)
{
	switch (aggregate->aggref->aggfnoid)
	{
		case F_COUNT_:
		case F_COUNT_ANY:
		case F_AVG_INT2:
		case F_AVG_INT4:
			return true;
		default:
			return rollup_query_is_sum_of_integers(aggregate);
	}
}

/* besides the target there are but functions of its columns */
static bool
is_alone(const RollupQuery *query)
{
	ListCell   *cell;

	foreach(cell, query->query->rtable)
	{
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, cell);

		if (foreach_current_index(cell) + 1 != query->target_index && rte->inFromCl &&
			(rte->rtekind == RTE_RELATION || rte->rtekind == RTE_SUBQUERY))
			return false;
	}
	return !query->query->hasSubLinks;
}

bool
rollup_can_subtract(const RollupQuery *query)
{
	ListCell   *cell;

	foreach(cell, query->aggregates)
	{
		if (!is_exact(lfirst(cell)))
			return false;
	}
	return is_alone(query);
}

/* ---------------------------------------------------------------- groups to look at again */

static Tuplestorestate *
groups_where(RollupMerge *merge, Tuplestorestate *groups, const bool *null_keys, const char *condition)
{
	RollupRelation relation = {"_states", groups};

	return rollup_merge_select(merge,
							   psprintf("SELECT %s FROM _states s JOIN %s r ON %s WHERE %s",
										rollup_merge_states_columns(merge, "s"), rollup_merge_table(merge),
										rollup_merge_match(merge, "r", "s", null_keys), condition),
							   &relation, 1);
}

/* A single group's row stays when its last row goes, but what it says is then another matter. */
static const char *
doubtful(const RollupMerge *merge)
{
	const char *rows_column = rollup_merge_rows_column(merge);

	return psprintf("r.%s %s 0 OR (r.%s > 0 AND (false%s))", rows_column, merge->query->is_single_group ? "<=" : "<",
					rows_column, rollup_merge_zero_sums(merge, "r"));
}

static void
remove_empty(RollupMerge *merge, Tuplestorestate *groups, const bool *null_keys)
{
	Tuplestorestate *left = groups_where(merge, groups, null_keys,
										 psprintf("r.%s > 0", rollup_merge_rows_column(merge)));

	if (tuplestore_tuple_count(left) < tuplestore_tuple_count(groups))
		rollup_merge_remove(merge, groups, left);
	tuplestore_end(left);
}

/* ---------------------------------------------------------------- the whole */

/* groups that have been changed, and so locked */
static bool
settle(RollupMerge *merge, Tuplestorestate *groups)
{
	bool	   *null_keys = rollup_merge_null_keys(merge, groups);
	Tuplestorestate *again = groups_where(merge, groups, null_keys, doubtful(merge));
	bool		any = tuplestore_tuple_count(again) > 0;

	if (any)
		rollup_compute_locked(merge, again, null_keys);
	tuplestore_end(again);
	if (!merge->query->is_single_group)
		remove_empty(merge, groups, null_keys);
	return any;
}

/* A group that comes out as it was is neither locked nor looked at. */
bool
rollup_subtract(RollupMerge *merge, const RollupTouched *touched)
{
	Tuplestorestate *net;
	bool		any = false;

	if (touched->old == NULL)
	{
		rollup_merge_run(merge, ROLLUP_ADD, touched->fresh);
		return false;
	}
	net = rollup_net_states(merge, touched->old, touched->fresh);
	if (tuplestore_tuple_count(net) > 0)
	{
		rollup_merge_run(merge, ROLLUP_TAKE, net);
		any = settle(merge, net);
	}
	tuplestore_end(net);
	return any;
}
