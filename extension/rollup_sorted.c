/*
 * rollup_sorted.c
 *		States of groups in the order in which they are put in place, and kept over transactions.
 *
 * Called by rollup_fill.c.  The order is that of whoever writes groups (rollup_order.h), who then has nothing to
 * sort; and it is the same each time, so that one group tells which others are before it.
 */
#include "postgres.h"

#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/sortsupport.h"

#include "rollup_note.h"
#include "rollup_order.h"
#include "rollup_sorted.h"

static SortSupport
comparators(const RollupOrder *order)
{
	SortSupport sort = palloc0(sizeof(SortSupportData) * order->n_keys);
	int			i;

	for (i = 0; i < order->n_keys; i++)
	{
		sort[i].ssup_cxt = CurrentMemoryContext;
		sort[i].ssup_collation = order->collations[i];
		sort[i].ssup_nulls_first = order->nulls_first[i];
		sort[i].ssup_attno = order->columns[i];
		PrepareSortSupportFromOrderingOp(order->operators[i], &sort[i]);
	}
	return sort;
}

static bool
comes_after(TupleTableSlot *slot, TupleTableSlot *other, const RollupOrder *order, SortSupport sort)
{
	int			i;

	for (i = 0; i < order->n_keys; i++)
	{
		bool		is_null;
		bool		other_is_null;
		Datum		value = slot_getattr(slot, order->columns[i], &is_null);
		Datum		other_value = slot_getattr(other, order->columns[i], &other_is_null);
		int			result = ApplySortComparator(value, is_null, other_value, other_is_null, &sort[i]);

		if (result != 0)
			return result > 0;
	}
	return false;
}

static Tuplesortstate *
sorted(Tuplestorestate *states, TupleDesc desc, TupleTableSlot *slot, const RollupOrder *order)
{
	Tuplesortstate *sort = rollup_order_begin(order, desc);

	while (tuplestore_gettupleslot(states, true, false, slot))
		tuplesort_puttupleslot(sort, slot);
	tuplesort_performsort(sort);
	return sort;
}

/* all that come after the group of a note; behind the first of them nobody looks */
static void
put_rest(Tuplestorestate *result, Tuplesortstate *sort, TupleTableSlot *slot, const RollupOrder *order,
		 const bytea *after)
{
	TupleTableSlot *last = MakeSingleTupleTableSlot(slot->tts_tupleDescriptor, &TTSOpsMinimalTuple);
	SortSupport comparing = comparators(order);
	bool		looks = after != NULL;

	if (looks)
		rollup_note_read(after, last);
	while (tuplesort_gettupleslot(sort, true, false, slot, NULL))
	{
		CHECK_FOR_INTERRUPTS();
		if (looks && !comes_after(slot, last, order, comparing))
			continue;
		looks = false;
		tuplestore_puttupleslot(result, slot);
	}
	ExecDropSingleTupleTableSlot(last);
}

Tuplestorestate *
rollup_sorted(const RollupMerge *merge, Tuplestorestate *states, TupleDesc desc, const bytea *after)
{
	TupleTableSlot *slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	Tuplestorestate *result = tuplestore_begin_heap(false, true, work_mem);

	tuplestore_rescan(states);
	if (merge->query->is_single_group)
	{
		while (tuplestore_gettupleslot(states, true, false, slot))
			tuplestore_puttupleslot(result, slot);
	}
	else
	{
		RollupOrder *order = rollup_order_of(merge);
		Tuplesortstate *sort = sorted(states, desc, slot, order);

		put_rest(result, sort, slot, order, after);
		tuplesort_end(sort);
	}
	ExecDropSingleTupleTableSlot(slot);
	return result;
}
