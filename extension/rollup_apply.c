/*
 * rollup_apply.c
 *		Does something with one rollup of a set, or with all of them: as the owner, under the rollup's settings.
 *
 * Called by rollup_delta.c, rollup_few.c and rollup_whole.c, which say what.  An error names the rollup.  Rollups one
 * after the other mostly share an owner and settings, and so a scope.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "rollup_late.h"
#include "rollup_set_internal.h"
#include "rollup_states.h"

/* Says which rollup it was, and throws again; in the memory context of the caller. */
void
rollup_throw_naming(const char *rollup, MemoryContext context)
{
	ErrorData  *error;

	MemoryContextSwitchTo(context);
	if (ERRCODE_TO_CATEGORY(geterrcode()) == ERRCODE_OPERATOR_INTERVENTION)
		PG_RE_THROW();
	error = CopyErrorData();
	FlushErrorState();
	error->message = psprintf("rollup \"%s\": %s", rollup, error->message);
	ReThrowError(error);
}

/* ---------------------------------------------------------------- under whose name and settings */

void
rollup_apply_leave(OpenScope *open)
{
	if (open->is_open)
		rollup_scope_leave(&open->scope);
	open->is_open = false;
}

static void
enter_scope(OpenScope *open, const RollupPlan *plan, bool without_names)
{
	if (open->is_open && open->number == plan->scope && open->without_names == without_names)
		return;
	rollup_apply_leave(open);
	if (without_names)
		rollup_scope_enter_without_names(&open->scope, plan->rollup);
	else
		rollup_scope_enter(&open->scope, plan->rollup, plan->query);
	open->is_open = true;
	open->number = plan->scope;
	open->without_names = without_names;
}

static void
apply_within(OpenScope *open, RollupSet *set, RollupPlan *plan, const Change *change, Action action)
{
	MemoryContext context = CurrentMemoryContext;
	MemoryContext work = AllocSetContextCreate(context, "a rollup's change", ALLOCSET_DEFAULT_SIZES);

	set->in_use++;
	PG_TRY();
	{
		enter_scope(open, plan, change->is_few && plan->is_plain);
		MemoryContextSwitchTo(work);
		action(set, plan, change);
		MemoryContextSwitchTo(context);
	}
	PG_CATCH();
	{
		set->in_use--;
		rollup_throw_naming(plan->name, context);
	}
	PG_END_TRY();
	set->in_use--;
	MemoryContextDelete(work);
}

void
rollup_apply(RollupSet *set, RollupPlan *plan, const Change *change, Action action)
{
	OpenScope	open = {0};

	apply_within(&open, set, plan, change, action);
	rollup_apply_leave(&open);
}

void
rollup_apply_within(OpenScope *open, RollupSet *set, const Change *change, Action action)
{
	ListCell   *cell;

	/* one that nobody has begun to fill will be read from the table itself */
	foreach(cell, set->plans)
	{
		RollupPlan *plan = lfirst(cell);

		if (plan->rollup->phase != ROLLUP_WAITING)
			apply_within(open, set, plan, change, action);
	}
}

void
rollup_apply_to_all(RollupSet *set, const Change *change, Action action)
{
	OpenScope	open = {0};

	rollup_apply_within(&open, set, change, action);
	rollup_apply_leave(&open);
}

/* ---------------------------------------------------------------- new rows */

Tuplestorestate *
rollup_states_of_rows(RollupSet *set, RollupPlan *plan, Tuplestorestate *rows, TupleDesc desc)
{
	if (plan->delta == NULL)
	{
		MemoryContext caller = MemoryContextSwitchTo(set->loaded);

		plan->delta = rollup_states_plan(plan->merge, desc, tuplestore_tuple_count(rows));
		MemoryContextSwitchTo(caller);
	}
	return rollup_states_of(plan->delta, rows, desc);
}

/* Whoever adds rows looks, at most every minute; there is nobody else whom every rollup has. */
void
rollup_retire_groups(RollupPlan *plan)
{
	TimestampTz now = GetCurrentTransactionStartTimestamp();

	if (plan->rollup->retention == NULL || now - plan->retired_at < USECS_PER_MINUTE)
		return;
	plan->retired_at = now;
	if (!IsolationUsesXactSnapshot())
		catalog_late_rows_sum_up(plan->rollup->id);
	if (plan->rollup->partition_interval == NULL)
		rollup_merge_retire(plan->merge, rollup_oldest(plan->rollup));
}

void
rollup_add_rows(RollupSet *set, RollupPlan *plan, const Change *change)
{
	Tuplestorestate *states = rollup_without_late(plan->rollup, plan->merge,
												  rollup_states_of_rows(set, plan, change->fresh, change->desc), true);

	if (tuplestore_tuple_count(states) > 0)
		rollup_merge_run(plan->merge, ROLLUP_ADD, states);
	tuplestore_end(states);
	rollup_retire_groups(plan);
}
