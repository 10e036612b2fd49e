/*
 * rollup_subtract.c
 *		Deleted and changed rows taken out of their groups by arithmetic, without the raw rows.
 *
 * Called by rollup_delta.c for rollups that have nothing but counts, sums of smallint and integer,
 * and their averages, over the target alone: a joined table may say by now that a row belongs to another
 * group than the one in which it was counted.  A state is added that is the deleted rows' own with the sign
 * turned, so this commutes with whatever others add, and needs neither snapshot nor raw rows.
 *
 * Arithmetic does not know everything.  A sum that comes to 0 may be the sum of nothing, which is NULL; a
 * group with fewer than no rows had not counted the rows that were deleted (a partition was attached
 * with them).  Such groups, which are few, are computed again, while they are locked.
 */
#include "postgres.h"

#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/fmgroids.h"

#include "rollup_groups.h"
#include "rollup_refresh.h"
#include "rollup_subtract.h"

/* ---------------------------------------------------------------- states that take away */

static Datum
negated_average(Datum value)
{
	ArrayType  *state = DatumGetArrayTypePCopy(value);
	int64	   *numbers = (int64 *) ARR_DATA_PTR(state);
	int			n = ArrayGetNItems(ARR_NDIM(state), ARR_DIMS(state));

	while (n-- > 0)
		numbers[n] = -numbers[n];
	return PointerGetDatum(state);
}

/* The state that takes away what this one brought; nothing where that is not exact. */
static bool
negate(const RollupAggregate *aggregate, Datum *value)
{
	switch (aggregate->combine)
	{
		case F_INT8PL:
			*value = Int64GetDatum(-DatumGetInt64(*value));
			return true;
		case F_INT4_AVG_COMBINE:
			*value = negated_average(*value);
			return true;
		default:
			return false;
	}
}

Tuplestorestate *
rollup_negated_states(const RollupMerge *merge, Tuplestorestate *states)
{
	Tuplestorestate *negated = tuplestore_begin_heap(true, false, work_mem);
	TupleTableSlot *slot = MakeSingleTupleTableSlot(merge->states_desc, &TTSOpsMinimalTuple);
	int			n_keys = list_length(rollup_query_keys(merge->query));
	ListCell   *cell;

	tuplestore_rescan(states);
	while (tuplestore_gettupleslot(states, true, false, slot))
	{
		slot_getallattrs(slot);
		foreach(cell, merge->query->aggregates)
		{
			int			i = n_keys + foreach_current_index(cell);

			if (!slot->tts_isnull[i])
				slot->tts_isnull[i] = !negate(lfirst(cell), &slot->tts_values[i]);
		}
		tuplestore_putvalues(negated, merge->states_desc, slot->tts_values, slot->tts_isnull);
	}
	ExecDropSingleTupleTableSlot(slot);
	return negated;
}

/* ---------------------------------------------------------------- what can be subtracted */

static bool
is_sum(const RollupAggregate *aggregate)
{
	return aggregate->aggref->aggfnoid == F_SUM_INT2 || aggregate->aggref->aggfnoid == F_SUM_INT4;
}

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
			return is_sum(aggregate);
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
	StringInfoData sql;
	ListCell   *cell;

	initStringInfo(&sql);
	appendStringInfo(&sql, "r.%s %s 0", rows_column, merge->query->is_single_group ? "<=" : "<");
	foreach(cell, merge->query->aggregates)
	{
		RollupAggregate *aggregate = lfirst(cell);

		if (is_sum(aggregate))
			appendStringInfo(&sql, " OR (r.%s > 0 AND r.%s = 0)", rows_column,
							 rollup_merge_column(merge, aggregate->column));
	}
	return sql.data;
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

/* Two statements that each go through the groups in order do not, together: so they are locked before. */
bool
rollup_subtract(RollupMerge *merge, const RollupTouched *touched)
{
	bool	   *null_keys = rollup_merge_null_keys(merge, touched->groups);
	Tuplestorestate *again;
	bool		any;

	if (touched->old != NULL && touched->fresh != NULL)
		rollup_merge_run(merge, ROLLUP_LOCK, touched->groups);
	if (touched->fresh != NULL)
		rollup_merge_run(merge, ROLLUP_ADD, touched->fresh);
	if (touched->old == NULL)
		return false;
	rollup_groups_add(merge, rollup_negated_states(merge, touched->old));
	again = groups_where(merge, touched->groups, null_keys, doubtful(merge));
	any = tuplestore_tuple_count(again) > 0;
	if (any)
		rollup_compute_locked(merge, again, null_keys);
	tuplestore_end(again);
	if (!merge->query->is_single_group)
		remove_empty(merge, touched->groups, null_keys);
	return any;
}
