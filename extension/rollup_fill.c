/*
 * rollup_fill.c
 *		The steps by which a worker fills a rollup while others write to its target.
 *
 * Called by the worker library's rollup_main.c.  A rollup over a large table is made empty, and filled in
 * the background:
 *
 *	waiting		Writers leave the rollup alone.  The worker keeps them out for a moment, in which
 *				it lets the next phase begin and takes a snapshot.  What the snapshot sees is the worker's
 *				to read, all that comes later is the writers' to add: nothing is in both, nothing in neither.
 *	filling		The worker computes the states of all groups as the snapshot sees them, sorted by
 *				their keys, and adds them to what the writers have added meanwhile: to combine two states
 *				is the same in either order.  It does so some groups at a time, each time in a transaction of
 *				its own, so that no writer waits long for a group.  Whoever deletes or changes rows only notes
 *				their groups (rollup_note.c).
 *	settling	Writers are kept out for a moment again; from now on they keep the rollup exact.  The worker
 *				computes the groups that were noted.  Then the rollup is complete.
 *
 * The states are kept in the worker alone, in memory or in a temporary file.  If it ends before
 * the rollup is complete, all begins again: the rollup is emptied, with a new snapshot.  A TRUNCATE of
 * the target leads back to `waiting`, too.
 */
#include "postgres.h"

#include "executor/executor.h"
#include "miscadmin.h"
#include "optimizer/optimizer.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/tuplesort.h"

#include "rollup_fill.h"
#include "rollup_lock.h"
#include "rollup_note.h"
#include "rollup_refresh.h"
#include "rollup_set.h"
#include "rollup_states.h"

/* groups put in place by one transaction */
#define MERGED_AT_ONCE 5000

/* lives as long as the worker */
struct RollupFill
{
	WorkerSlot *slot;
	int32		id;
	Rollup	   *rollup;			/* as last read; in the transaction's memory */
	MemoryContext memory;		/* of what goes from one transaction to another */
	List	   *held;			/* locks that keep writers out */
	TupleDesc	desc;			/* of the states */
	Tuplestorestate *states;	/* read, and not yet in place; NULL: none */
	int64		n_merged;
};

RollupFill *
rollup_fill_of(WorkerSlot *slot)
{
	RollupFill *fill = MemoryContextAllocZero(TopMemoryContext, sizeof(RollupFill));

	fill->slot = slot;
	fill->id = slot->object_id;
	fill->memory = AllocSetContextCreate(TopMemoryContext, "filling a rollup", ALLOCSET_DEFAULT_SIZES);
	return fill;
}

/* ---------------------------------------------------------------- what others see of it */

static void
tell_blocks(int64 done, int64 total, void *argument)
{
	WorkerSlot *slot = argument;

	SpinLockAcquire(&slot->mutex);
	slot->blocks_done = done;
	slot->blocks_total = total;
	SpinLockRelease(&slot->mutex);
}

static void
tell_groups(WorkerSlot *slot, int64 done, int64 total)
{
	SpinLockAcquire(&slot->mutex);
	slot->groups_done = done;
	slot->groups_total = total;
	SpinLockRelease(&slot->mutex);
}

static void
tell_begun(WorkerSlot *slot)
{
	TimestampTz now = GetCurrentTimestamp();

	SpinLockAcquire(&slot->mutex);
	slot->begun_at = now;
	SpinLockRelease(&slot->mutex);
	tell_blocks(0, 0, slot);
	tell_groups(slot, 0, 0);
}

/* ---------------------------------------------------------------- from phase to phase */

RollupPhase
rollup_fill_phase(RollupFill *fill)
{
	fill->rollup = catalog_rollup_by_id(fill->id);
	if (fill->rollup == NULL || get_rel_name(fill->rollup->rollup) == NULL)
		return ROLLUP_FILLED;
	return fill->rollup->phase;
}

void
rollup_fill_let_go(RollupFill *fill)
{
	rollup_release_writers(&fill->held);
}

static void
forget_states(RollupFill *fill)
{
	if (fill->states != NULL)
		tuplestore_end(fill->states);
	fill->states = NULL;
	fill->desc = NULL;
	MemoryContextReset(fill->memory);
}

static bool
try_to_enter(RollupFill *fill, RollupPhase from, RollupPhase to)
{
	MemoryContext transaction = MemoryContextSwitchTo(TopMemoryContext);

	rollup_hold_writers(fill->rollup->target, &fill->held);
	MemoryContextSwitchTo(transaction);
	if (rollup_fill_phase(fill) != from)
		return false;
	fill->rollup->phase = to;
	catalog_rollup_update(fill->rollup);
	if (to == ROLLUP_WAITING)
		catalog_noted_groups_delete(fill->id);
	rollup_set_changed(fill->rollup->target);
	return true;
}

bool
rollup_fill_enter(RollupFill *fill, RollupPhase from, RollupPhase to)
{
	if (rollup_fill_phase(fill) != from)
		return false;
	if (to == ROLLUP_FILLING)
		tell_begun(fill->slot);
	return try_to_enter(fill, from, to);
}

static void
clear(RollupMerge *merge, void *argument)
{
	rollup_merge_truncate(merge);
}

void
rollup_fill_clear(RollupFill *fill)
{
	forget_states(fill);
	if (rollup_fill_phase(fill) == ROLLUP_WAITING)
		rollup_set_work(rollup_set_of_session(fill->rollup->target), fill->rollup->rollup, clear, NULL);
}

/* ---------------------------------------------------------------- reading */

/* by the keys, as the rollup's index has them; in a place that outlives the transaction */
static Tuplestorestate *
sorted(const RollupMerge *merge, Tuplestorestate *states, TupleDesc desc)
{
	List	   *keys = rollup_query_keys(merge->query);
	int			n = list_length(keys);
	AttrNumber *columns = palloc(sizeof(AttrNumber) * n);
	Oid		   *operators = palloc(sizeof(Oid) * n);
	Oid		   *collations = palloc(sizeof(Oid) * n);
	bool	   *nulls_first = palloc0(sizeof(bool) * n);
	TupleTableSlot *slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	Tuplestorestate *result = tuplestore_begin_heap(false, true, work_mem);
	Tuplesortstate *sort;
	ListCell   *cell;

	foreach(cell, keys)
	{
		int			i = foreach_current_index(cell);
		TargetEntry *entry = list_nth_node(TargetEntry, merge->query->query->targetList, lfirst_int(cell) - 1);

		columns[i] = i + 1;
		operators[i] = get_sortgroupref_clause(entry->ressortgroupref,
											   merge->query->query->groupClause)->sortop;
		collations[i] = TupleDescAttr(desc, i)->attcollation;
	}
	sort = tuplesort_begin_heap(desc, n, columns, operators, collations, nulls_first, work_mem, NULL,
								TUPLESORT_NONE);
	tuplestore_rescan(states);
	while (tuplestore_gettupleslot(states, true, false, slot))
		tuplesort_puttupleslot(sort, slot);
	tuplesort_performsort(sort);
	while (tuplesort_gettupleslot(sort, true, false, slot, NULL))
	{
		tuplestore_puttupleslot(result, slot);
		CHECK_FOR_INTERRUPTS();
	}
	tuplesort_end(sort);
	return result;
}

/* there is one group, and nothing to sort it by */
static Tuplestorestate *
kept(Tuplestorestate *states, TupleDesc desc)
{
	TupleTableSlot *slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	Tuplestorestate *result = tuplestore_begin_heap(false, true, work_mem);

	tuplestore_rescan(states);
	while (tuplestore_gettupleslot(states, true, false, slot))
		tuplestore_puttupleslot(result, slot);
	return result;
}

/* It is a utility command in all but name, and may take the memory of one. */
static void
take_memory(void)
{
	char		value[32];

	if (maintenance_work_mem <= work_mem)
		return;
	snprintf(value, sizeof(value), "%d", maintenance_work_mem);
	(void) set_config_option("work_mem", value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

static void
read_states(RollupMerge *merge, void *argument)
{
	RollupFill *fill = argument;
	RollupRange range = {.has_from = fill->rollup->retention != NULL};
	RollupRows	which = {
		.range = &range, .snapshot = GetActiveSnapshot(), .told = tell_blocks, .told_argument = fill->slot
	};
	Tuplestorestate *states;
	MemoryContext work;

	range.from = rollup_oldest(fill->rollup);
	take_memory();
	states = rollup_states_of_target(merge, &which);
	work = MemoryContextSwitchTo(fill->memory);
	fill->desc = CreateTupleDescCopy(merge->states_desc);
	fill->states = merge->query->is_single_group ? kept(states, fill->desc) : sorted(merge, states, fill->desc);
	fill->n_merged = 0;
	MemoryContextSwitchTo(work);
	tuplestore_end(states);
}

void
rollup_fill_read(RollupFill *fill)
{
	if (rollup_fill_phase(fill) != ROLLUP_FILLING)
		return;
	rollup_set_work(rollup_set_of_session(fill->rollup->target), fill->rollup->rollup, read_states, fill);
	tell_groups(fill->slot, 0, tuplestore_tuple_count(fill->states));
}

/* ---------------------------------------------------------------- putting in place */

static void
merge_some(RollupMerge *merge, void *argument)
{
	RollupFill *fill = argument;
	Tuplestorestate *some = tuplestore_begin_heap(true, false, work_mem);
	TupleTableSlot *slot = MakeSingleTupleTableSlot(fill->desc, &TTSOpsMinimalTuple);
	int			n = 0;

	while (n < MERGED_AT_ONCE && tuplestore_gettupleslot(fill->states, true, false, slot))
	{
		tuplestore_puttupleslot(some, slot);
		n++;
	}
	if (n > 0)
		rollup_merge_run(merge, ROLLUP_ADD, some);
	fill->n_merged += n;
	ExecDropSingleTupleTableSlot(slot);
	tuplestore_end(some);
}

/* The set locks the target before the phase is read: a TRUNCATE has ended by then, or waits for us. */
bool
rollup_fill_merge(RollupFill *fill)
{
	RollupSet  *set;

	if (rollup_fill_phase(fill) != ROLLUP_FILLING || fill->states == NULL)
		return false;
	set = rollup_set_of_session(fill->rollup->target);
	if (rollup_fill_phase(fill) != ROLLUP_FILLING)
		return false;
	rollup_set_work(set, fill->rollup->rollup, merge_some, fill);
	tell_groups(fill->slot, fill->n_merged, tuplestore_tuple_count(fill->states));
	return fill->n_merged < tuplestore_tuple_count(fill->states);
}

/* ---------------------------------------------------------------- what others have noted */

static void
settle_some(RollupMerge *merge, void *argument)
{
	RollupFill *fill = argument;
	Tuplestorestate *groups = rollup_note_take(merge, fill->id);

	fill->n_merged = tuplestore_tuple_count(groups);
	if (fill->n_merged > 0)
		rollup_refresh_groups(merge, groups);
}

bool
rollup_fill_settle(RollupFill *fill)
{
	forget_states(fill);
	if (rollup_fill_phase(fill) != ROLLUP_SETTLING)
		return false;
	rollup_set_work(rollup_set_of_session(fill->rollup->target), fill->rollup->rollup, settle_some, fill);
	if (fill->n_merged > 0)
		return true;
	fill->rollup->phase = ROLLUP_FILLED;
	fill->rollup->complete = true;
	catalog_rollup_update(fill->rollup);
	rollup_set_changed(fill->rollup->target);
	return false;
}
