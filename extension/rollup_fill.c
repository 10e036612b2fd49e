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
 * Of a large table that is done for one portion after the other (rollup_portions.c), and what is in place is told
 * in clickstream._fills, in the same transaction.  Whoever comes after a worker that has ended, or a server that has
 * crashed, goes on with the portion that was under way, after the last group of it that is in place.
 *
 * The states of a portion are kept in the worker alone, in memory or in a temporary file.  A table that is not
 * divided begins again when the worker ends, as does one whose portions are not to be found any more: the rollup is
 * emptied, with a new snapshot.  A TRUNCATE of the target leads back to `waiting`, too.
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

#include "rollup_fill.h"
#include "rollup_lock.h"
#include "rollup_note.h"
#include "rollup_portions.h"
#include "rollup_refresh.h"
#include "rollup_set.h"
#include "rollup_sorted.h"
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
	MemoryContext planned;		/* of the plan */
	Fill	   *plan;			/* NULL: the target is read as a whole */
	RollupPart	part;			/* of the target, of which the states are */
	bool		has_read;		/* the target, as a whole */
	TupleDesc	desc;			/* of the states */
	Tuplestorestate *states;	/* read, and not yet in place; NULL: none */
	int64		n_merged;
	int64		n_before;		/* groups in place of portions before */
};

RollupFill *
rollup_fill_of(WorkerSlot *slot)
{
	RollupFill *fill = MemoryContextAllocZero(TopMemoryContext, sizeof(RollupFill));

	fill->slot = slot;
	fill->id = slot->object_id;
	fill->memory = AllocSetContextCreate(TopMemoryContext, "filling a rollup", ALLOCSET_DEFAULT_SIZES);
	fill->planned = AllocSetContextCreate(TopMemoryContext, "portions of a rollup's target", ALLOCSET_SMALL_SIZES);
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

/* of a part of the target */
static void
tell_blocks_of_part(int64 done, int64 total, void *argument)
{
	const RollupFill *fill = argument;

	tell_blocks(rollup_portions_read(fill->plan) + Min(done, fill->part.to - fill->part.from),
				rollup_portions_total(fill->plan), fill->slot);
}

/* of the states that are read, and of portions before them */
static void
tell_groups(const RollupFill *fill)
{
	int64		read = fill->states != NULL ? tuplestore_tuple_count(fill->states) : 0;

	SpinLockAcquire(&fill->slot->mutex);
	fill->slot->groups_done = fill->n_before + fill->n_merged;
	fill->slot->groups_total = fill->n_before + read;
	SpinLockRelease(&fill->slot->mutex);
}

static void
tell_begun(const RollupFill *fill)
{
	TimestampTz begun_at = fill->plan != NULL ? fill->plan->begun_at : GetCurrentTimestamp();

	SpinLockAcquire(&fill->slot->mutex);
	fill->slot->begun_at = begun_at;
	SpinLockRelease(&fill->slot->mutex);
	if (fill->plan != NULL)
		tell_blocks(rollup_portions_read(fill->plan), rollup_portions_total(fill->plan), fill->slot);
	else
		tell_blocks(0, 0, fill->slot);
	tell_groups(fill);
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
	fill->n_merged = 0;
	fill->n_before = fill->plan != NULL ? fill->plan->groups : 0;
	MemoryContextReset(fill->memory);
}

static void
forget_plan(RollupFill *fill)
{
	fill->plan = NULL;
	forget_states(fill);
	fill->has_read = false;
	MemoryContextReset(fill->planned);
}

/* Nobody writes to the target now. */
static void
plan_portions(RollupFill *fill)
{
	MemoryContext transaction = MemoryContextSwitchTo(fill->planned);

	fill->plan = rollup_portions_plan(fill->rollup);
	MemoryContextSwitchTo(transaction);
	catalog_fill_delete(fill->id);
	if (fill->plan != NULL)
		catalog_fill_insert(fill->id, fill->plan);
	tell_begun(fill);
}

/* What a crash empties is filled anew. */
bool
rollup_fill_go_on(RollupFill *fill)
{
	MemoryContext transaction;
	RollupPhase phase = rollup_fill_phase(fill);

	forget_plan(fill);
	if (phase == ROLLUP_SETTLING)
		return get_rel_persistence(fill->rollup->rollup) == RELPERSISTENCE_PERMANENT;
	if (phase != ROLLUP_FILLING)
		return false;
	transaction = MemoryContextSwitchTo(fill->planned);
	fill->plan = catalog_fill(fill->id);
	MemoryContextSwitchTo(transaction);
	if (fill->plan == NULL)
		return false;
	forget_states(fill);
	tell_begun(fill);
	return true;
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
	{
		catalog_noted_groups_delete(fill->id);
		catalog_fill_delete(fill->id);
	}
	rollup_set_changed(fill->rollup->target);
	return true;
}

bool
rollup_fill_enter(RollupFill *fill, RollupPhase from, RollupPhase to)
{
	if (rollup_fill_phase(fill) != from || !try_to_enter(fill, from, to))
		return false;
	if (to == ROLLUP_FILLING)
		plan_portions(fill);
	return true;
}

static void
clear(RollupMerge *merge, void *argument)
{
	rollup_merge_truncate(merge);
}

void
rollup_fill_clear(RollupFill *fill)
{
	forget_plan(fill);
	if (rollup_fill_phase(fill) == ROLLUP_WAITING)
		rollup_set_work(rollup_set_of_session(fill->rollup->target), fill->rollup->rollup, clear, NULL);
}

/* ---------------------------------------------------------------- reading */

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

/*
 * The groups of a portion are the same when they are read again, unless another table, or a function that may read one, has a
 * say in what they are.
 */
static bool
reads_other_tables(const RollupQuery *query)
{
	ListCell   *cell;

	foreach(cell, query->query->rtable)
	{
		const RangeTblEntry *rte = lfirst_node(RangeTblEntry, cell);

		if ((rte->rtekind == RTE_RELATION && foreach_current_index(cell) + 1 != query->target_index) ||
			rte->rtekind == RTE_SUBQUERY)
			return true;
	}
	return query->query->hasSubLinks ||
		(query->needs_search_path && contain_mutable_functions((Node *) query->query));
}

static void
read_states(RollupMerge *merge, void *argument)
{
	RollupFill *fill = argument;
	RollupRange range = {.has_from = fill->rollup->retention != NULL};
	RollupRows	which = {.range = &range, .snapshot = GetActiveSnapshot(), .told_argument = fill};
	Tuplestorestate *states;
	MemoryContext work;

	range.from = fill->plan != NULL ? fill->plan->oldest : rollup_oldest(fill->rollup);
	which.part = fill->plan != NULL ? &fill->part : NULL;
	which.told = fill->plan != NULL ? tell_blocks_of_part : tell_blocks;
	which.told_argument = fill->plan != NULL ? (void *) fill : (void *) fill->slot;
	take_memory();
	states = rollup_states_of_target(merge, &which);
	work = MemoryContextSwitchTo(fill->memory);
	fill->desc = CreateTupleDescCopy(merge->states_desc);
	fill->states = rollup_sorted(merge, states, fill->desc, fill->plan != NULL ? fill->plan->merged : NULL);
	fill->n_merged = 0;
	MemoryContextSwitchTo(work);
	tuplestore_end(states);
}

/* the next one of a table that is divided, or that which is not */
static RollupRead
find_part(RollupFill *fill)
{
	RollupPortion found;

	if (fill->plan == NULL)
		return fill->has_read ? ROLLUP_READ_ALL : ROLLUP_READ;
	found = rollup_portions_next(fill->rollup, fill->plan, &fill->part);
	if (found == PORTION_FOUND)
		return ROLLUP_READ;
	return found == PORTIONS_OVER ? ROLLUP_READ_ALL : ROLLUP_READ_AGAIN;
}

static void
read_or_give_up(RollupMerge *merge, void *argument)
{
	RollupFill *fill = argument;

	if (fill->plan == NULL || fill->plan->merged == NULL || !reads_other_tables(merge->query))
		read_states(merge, fill);
}

/* The set locks the target before the phase is read: a TRUNCATE has ended by then, or waits for us. */
RollupRead
rollup_fill_read(RollupFill *fill)
{
	RollupSet  *set;
	RollupRead	found;

	forget_states(fill);
	if (rollup_fill_phase(fill) != ROLLUP_FILLING)
		return ROLLUP_READ_ALL;
	set = rollup_set_of_session(fill->rollup->target);
	if (rollup_fill_phase(fill) != ROLLUP_FILLING)
		return ROLLUP_READ_ALL;
	found = find_part(fill);
	if (found != ROLLUP_READ)
		return found;
	rollup_set_work(set, fill->rollup->rollup, read_or_give_up, fill);
	if (fill->states == NULL)
		return ROLLUP_READ_AGAIN;
	fill->has_read = true;
	tell_groups(fill);
	return ROLLUP_READ;
}

/* ---------------------------------------------------------------- putting in place */

/* The catalog says so in the same transaction. */
static void
save_how_far(RollupFill *fill, const RollupMerge *merge, int n, TupleTableSlot *last)
{
	MemoryContext transaction;

	if (fill->plan == NULL)
		return;
	transaction = MemoryContextSwitchTo(fill->planned);
	fill->plan->groups += n;
	if (fill->n_merged < tuplestore_tuple_count(fill->states))
	{
		if (fill->plan->merged != NULL)
			pfree(fill->plan->merged);
		fill->plan->merged = rollup_note_of(merge, last);
	}
	else
		rollup_portions_done(fill->plan, &fill->part);
	MemoryContextSwitchTo(transaction);
	catalog_fill_save(fill->id, fill->plan);
}

static void
merge_some(RollupMerge *merge, void *argument)
{
	RollupFill *fill = argument;
	Tuplestorestate *some = tuplestore_begin_heap(true, false, work_mem);
	TupleTableSlot *slot = MakeSingleTupleTableSlot(fill->desc, &TTSOpsMinimalTuple);
	TupleTableSlot *last = MakeSingleTupleTableSlot(fill->desc, &TTSOpsMinimalTuple);
	int			n = 0;

	while (n < MERGED_AT_ONCE && tuplestore_gettupleslot(fill->states, true, false, slot))
	{
		tuplestore_puttupleslot(some, slot);
		ExecCopySlot(last, slot);
		n++;
	}
	if (n > 0)
		rollup_merge_run(merge, ROLLUP_ADD, some);
	fill->n_merged += n;
	save_how_far(fill, merge, n, last);
	ExecDropSingleTupleTableSlot(last);
	ExecDropSingleTupleTableSlot(slot);
	tuplestore_end(some);
}

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
	tell_groups(fill);
	if (fill->n_merged < tuplestore_tuple_count(fill->states))
		return true;
	if (fill->plan != NULL)
		tell_blocks(rollup_portions_read(fill->plan), rollup_portions_total(fill->plan), fill->slot);
	return false;
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
	forget_plan(fill);
	if (rollup_fill_phase(fill) != ROLLUP_SETTLING)
		return false;
	rollup_set_work(rollup_set_of_session(fill->rollup->target), fill->rollup->rollup, settle_some, fill);
	if (fill->n_merged > 0)
		return true;
	fill->rollup->phase = ROLLUP_FILLED;
	fill->rollup->complete = true;
	catalog_rollup_update(fill->rollup);
	catalog_fill_delete(fill->id);
	rollup_set_changed(fill->rollup->target);
	return false;
}
