/*
 * rollup_net.c
 *		What a statement took away from groups and what it put there -> one state for each of them.
 *
 * Called by rollup_subtract.c, and by rollup_recompute.c for groups whose raw rows are gone.  Both halves go into a
 * row at once: what it would say between the two was never true, and an expression of the rollup may fail for it.
 * Reads and writes no table.
 *
 * Only counts, sums of smallint and integer, and their averages can be taken away; their states are an int8, or
 * an array of two.
 */
#include "postgres.h"

#include "common/int.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/fmgroids.h"

#include "rollup_net.h"
#include "rollup_order.h"

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

/* ---------------------------------------------------------------- two halves together */

static int64
added(int64 one, int64 other)
{
	int64		sum;

	if (pg_add_s64_overflow(one, other, &sum))
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE), errmsg("bigint out of range")));
	return sum;
}

static Datum
added_averages(Datum one, Datum other)
{
	ArrayType  *sum = DatumGetArrayTypePCopy(one);
	int64	   *numbers = (int64 *) ARR_DATA_PTR(sum);
	const int64 *others = (int64 *) ARR_DATA_PTR(DatumGetArrayTypeP(other));

	for (int i = 0; i < ArrayGetNItems(ARR_NDIM(sum), ARR_DIMS(sum)); i++)
		numbers[i] = added(numbers[i], others[i]);
	return PointerGetDatum(sum);
}

static bool
is_nothing(const RollupAggregate *aggregate, Datum value)
{
	const int64 *numbers;

	if (aggregate->combine == F_INT8PL)
		return DatumGetInt64(value) == 0;
	numbers = (int64 *) ARR_DATA_PTR(DatumGetArrayTypeP(value));
	return numbers[0] == 0 && numbers[1] == 0;
}

/* a group's states, as it is put together; in the memory of the current context */
typedef struct Net
{
	const RollupMerge *merge;
	TupleTableSlot *group;		/* the first of its halves; its keys are the group's */
	Datum	   *values;
	bool	   *nulls;
	bool		is_same;		/* of no aggregate anything comes out */
	Tuplestorestate *nets;
} Net;

/* A sum of nothing (NULL) that becomes one of zeros is another, and so the other way round. */
static void
add_half(Net *net, TupleTableSlot *half)
{
	int			at = list_length(rollup_query_keys(net->merge->query));
	ListCell   *cell;

	net->is_same = true;
	foreach(cell, net->merge->query->aggregates)
	{
		const RollupAggregate *aggregate = lfirst(cell);
		int			i = at + foreach_current_index(cell);
		bool		was_null = net->nulls[i];

		if (half->tts_isnull[i] || was_null)
		{
			net->is_same &= half->tts_isnull[i] && was_null;
			net->values[i] = was_null ? half->tts_values[i] : net->values[i];
			net->nulls[i] = was_null && half->tts_isnull[i];
			continue;
		}
		net->values[i] = aggregate->combine == F_INT8PL ?
			Int64GetDatum(added(DatumGetInt64(net->values[i]), DatumGetInt64(half->tts_values[i]))) :
			added_averages(net->values[i], half->tts_values[i]);
		net->is_same &= is_nothing(aggregate, net->values[i]);
	}
}

static void
begin_group(Net *net, TupleTableSlot *half)
{
	ExecCopySlot(net->group, half);
	slot_getallattrs(net->group);
	memcpy(net->values, net->group->tts_values, sizeof(Datum) * net->merge->states_desc->natts);
	memcpy(net->nulls, net->group->tts_isnull, sizeof(bool) * net->merge->states_desc->natts);
	net->is_same = false;
}

static void
end_group(Net *net)
{
	if (!TupIsNull(net->group) && !net->is_same)
		tuplestore_putvalues(net->nets, net->merge->states_desc, net->values, net->nulls);
	ExecClearTuple(net->group);
}

/* ---------------------------------------------------------------- all groups */

static void
put(Tuplesortstate *sort, const RollupMerge *merge, Tuplestorestate *states, bool takes)
{
	TupleTableSlot *slot = MakeSingleTupleTableSlot(merge->states_desc, &TTSOpsMinimalTuple);
	TupleTableSlot *negated = MakeSingleTupleTableSlot(merge->states_desc, &TTSOpsVirtual);
	int			n_keys = list_length(rollup_query_keys(merge->query));
	ListCell   *cell;

	tuplestore_rescan(states);
	while (tuplestore_gettupleslot(states, true, false, slot))
	{
		ExecCopySlot(negated, slot);
		foreach(cell, takes ? merge->query->aggregates : NIL)
		{
			int			i = n_keys + foreach_current_index(cell);

			if (!negated->tts_isnull[i])
				negated->tts_isnull[i] = !negate(lfirst(cell), &negated->tts_values[i]);
		}
		tuplesort_puttupleslot(sort, negated);
	}
	ExecDropSingleTupleTableSlot(negated);
	ExecDropSingleTupleTableSlot(slot);
}

static void
add_up(Net *net, Tuplesortstate *sort, const RollupOrder *order)
{
	TupleTableSlot *half = MakeSingleTupleTableSlot(net->merge->states_desc, &TTSOpsMinimalTuple);

	while (tuplesort_gettupleslot(sort, true, false, half, NULL))
	{
		bool		is_second;

		slot_getallattrs(half);
		is_second = !TupIsNull(net->group) && rollup_order_same_group(order, net->group, half);
		if (is_second)
			add_half(net, half);
		end_group(net);
		if (!is_second)
			begin_group(net, half);
	}
	end_group(net);
	ExecDropSingleTupleTableSlot(half);
}

Tuplestorestate *
rollup_net_states(const RollupMerge *merge, Tuplestorestate *old, Tuplestorestate *fresh)
{
	RollupOrder *order = rollup_order_of(merge);
	Tuplesortstate *sort = rollup_order_begin(order, merge->states_desc);
	int			n = merge->states_desc->natts;
	Net			net = {.merge = merge};

	net.group = MakeSingleTupleTableSlot(merge->states_desc, &TTSOpsMinimalTuple);
	net.values = palloc(sizeof(Datum) * n);
	net.nulls = palloc(sizeof(bool) * n);
	net.nets = tuplestore_begin_heap(true, false, work_mem);
	if (fresh != NULL)
		put(sort, merge, fresh, false);
	if (old != NULL)
		put(sort, merge, old, true);
	tuplesort_performsort(sort);
	add_up(&net, sort, order);
	tuplesort_end(sort);
	ExecDropSingleTupleTableSlot(net.group);
	return net.nets;
}
