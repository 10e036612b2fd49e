/*
 * rollup_whole.c
 *		A rollup as a whole: filled from its table, emptied with it, or worked on by others.
 *
 * Called by rollup_api.c, rollup_fill.c and rollup_trigger.c.
 */
#include "postgres.h"

#include "access/table.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/rel.h"

#include "rollup_set_internal.h"
#include "rollup_states.h"

static RollupPlan *
plan_of(RollupSet *set, Oid rollup)
{
	ListCell   *cell;

	foreach(cell, set->plans)
	{
		if (((RollupPlan *) lfirst(cell))->rollup->rollup == rollup)
			return lfirst(cell);
	}
	elog(ERROR, "relation %u is not a rollup of relation %u", rollup, set->target);
}

static void
do_work(RollupSet *set, RollupPlan *plan, const Change *change)
{
	change->work(plan->merge, change->argument);
}

void
rollup_set_work(RollupSet *set, Oid rollup, void (*work) (RollupMerge *merge, void *argument), void *argument)
{
	Change		change = {.work = work, .argument = argument};

	rollup_apply(set, plan_of(set, rollup), &change, do_work);
}

/*
 * Groups that have no rows any more are kept: their rows may have gone with a partition.  But if there
 * are just as many rows as the rollup has counted, none are gone; they are in other groups now, for
 * example because a joined table has changed.
 */
static void
fill_range(RollupSet *set, RollupPlan *plan, const Change *change)
{
	RollupMerge *merge = plan->merge;
	RollupRows	which = {.range = change->range};
	RollupTotals before = rollup_merge_totals(merge, change->range);
	Tuplestorestate *states = rollup_states_of_target(merge, &which);
	int64		kept;

	rollup_merge_run(merge, ROLLUP_REPLACE, states);
	kept = before.groups == 0 ? 0 :
		rollup_merge_totals(merge, change->range).groups - tuplestore_tuple_count(states);
	if (kept > 0 && before.rows == rollup_merge_rows_of(merge, states))
	{
		Tuplestorestate *groups = rollup_merge_groups(merge, change->range);

		rollup_merge_remove(merge, groups, states);
		tuplestore_end(groups);
		kept = 0;
	}
	if (change->kept != NULL)
		*change->kept = kept;
	tuplestore_end(states);
}

int64
rollup_set_fill(RollupSet *set, Oid rollup, const RollupRange *range)
{
	int64		kept = 0;
	Change		change = {.range = range, .kept = &kept};

	rollup_apply(set, plan_of(set, rollup), &change, fill_range);
	return kept;
}

void
rollup_set_fill_with_nothing(RollupSet *set, Oid rollup)
{
	RollupPlan *plan = plan_of(set, rollup);
	Relation	target = table_open(set->target, NoLock);
	Change		change = {.desc = RelationGetDescr(target)};

	change.fresh = tuplestore_begin_heap(true, false, work_mem);
	rollup_apply(set, plan, &change, rollup_add_rows);
	tuplestore_end(change.fresh);
	table_close(target, NoLock);
}

/* What a worker has read and not yet put in place must never get there. */
static void
begin_to_fill_again(RollupPlan *plan)
{
	Rollup	   *rollup = catalog_rollup_by_id(plan->rollup->id);

	rollup->phase = ROLLUP_WAITING;
	catalog_rollup_update(rollup);
	rollup_set_changed(rollup->target);
}

static void
truncate_rollup(RollupSet *set, RollupPlan *plan, const Change *change)
{
	rollup_merge_truncate(plan->merge);
	if (plan->rollup->phase == ROLLUP_FILLING)
		begin_to_fill_again(plan);
	if (plan->query->is_single_group)
		fill_range(set, plan, change);
}

void
rollup_set_truncate(RollupSet *set)
{
	Change		change = {0};

	rollup_apply_to_all(set, &change, truncate_rollup);
}
