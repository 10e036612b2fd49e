/*
 * rollup_set.c
 *		All rollups over one target, with their plans: made, kept between transactions, made anew when stale.
 *
 * Called by the source worker, by rollup_trigger.c and by rollup_api.c, which then have something applied to
 * the set.  Writes nothing and runs no query of a rollup.
 *
 * A set is marked stale by an invalidation of any relation in it, or of any function or type, and is
 * then made anew as a whole: this is rare, and takes a few milliseconds.
 */
#include "postgres.h"

#include "access/xact.h"
#include "storage/lmgr.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "rollup_depend.h"
#include "rollup_set_internal.h"

/*
 * Backend-local: what relation cache invalidations are to mark.  A set leaves the list when its
 * memory goes.
 */
static dlist_head all_sets = DLIST_STATIC_INIT(all_sets);

/* ---------------------------------------------------------------- when a set is stale */

static bool
depends_on(const RollupSet *set, Oid relation)
{
	ListCell   *cell;

	if (relation == InvalidOid || relation == set->target)
		return true;
	foreach(cell, set->plans)
	{
		RollupPlan *plan = lfirst(cell);

		if (relation == plan->rollup->rollup || relation == plan->rollup->definition)
			return true;
		if (plan->delta != NULL && list_member_oid(plan->delta->relationOids, relation))
			return true;
		if (plan->delta_of_batch != NULL && list_member_oid(plan->delta_of_batch->relationOids, relation))
			return true;
		if (plan->delta_of_few != NULL && list_member_oid(plan->delta_of_few->relationOids, relation))
			return true;
	}
	return false;
}

static void
note_relation_change(Datum argument, Oid relation)
{
	dlist_iter	iter;

	dlist_foreach(iter, &all_sets)
	{
		RollupSet  *set = dlist_container(RollupSet, node, iter.cur);

		if (!set->is_stale && depends_on(set, relation))
			set->is_stale = true;
	}
}

static void
note_object_change(Datum argument, int cache, uint32 hash)
{
	dlist_iter	iter;

	dlist_foreach(iter, &all_sets)
		dlist_container(RollupSet, node, iter.cur)->is_stale = true;
}

static void
watch_changes(void)
{
	static bool watching = false;

	if (watching)
		return;
	watching = true;
	CacheRegisterRelcacheCallback(note_relation_change, (Datum) 0);
	CacheRegisterSyscacheCallback(PROCOID, note_object_change, (Datum) 0);
	CacheRegisterSyscacheCallback(TYPEOID, note_object_change, (Datum) 0);
	CacheRegisterSyscacheCallback(AGGFNOID, note_object_change, (Datum) 0);
	/* what stays set up has looked at rights */
	CacheRegisterSyscacheCallback(AUTHOID, note_object_change, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, note_object_change, (Datum) 0);
}

void
rollup_set_changed(Oid target)
{
	CacheInvalidateRelcacheByRelid(target);
}

/* ---------------------------------------------------------------- making a set */

/*
 * The plans' memory is about to go, by us or with the set.  Of two contexts the child's callback comes
 * first, so the set is still there.
 */
static void
free_plans(void *argument)
{
	RollupSet  *set = argument;
	ListCell   *cell;

	foreach(cell, set->plans)
		rollup_merge_free(((RollupPlan *) lfirst(cell))->merge);
	set->plans = NIL;
	set->few = NULL;
}

/* Nothing below the set's own context may be touched: it is gone. */
static void
forget_set(void *argument)
{
	RollupSet  *set = argument;

	dlist_delete(&set->node);
}

static RollupSet *
make_set(Oid target, LOCKMODE lock, MemoryContext parent)
{
	MemoryContext context = AllocSetContextCreate(parent, "clickstream rollups of a table",
												  ALLOCSET_SMALL_SIZES);
	RollupSet  *set = MemoryContextAllocZero(context, sizeof(RollupSet));

	watch_changes();
	set->target = target;
	set->lock = lock;
	set->context = context;
	set->loaded = AllocSetContextCreate(context, "plans", ALLOCSET_DEFAULT_SIZES);
	set->is_stale = true;
	dlist_push_head(&all_sets, &set->node);
	set->forget.func = forget_set;
	set->forget.arg = set;
	MemoryContextRegisterResetCallback(context, &set->forget);
	return set;
}

static RollupPlan *
make_plan(Rollup *rollup)
{
	RollupPlan *plan = palloc0(sizeof(RollupPlan));

	plan->rollup = rollup;
	plan->name = get_rel_name(rollup->rollup);
	plan->query = rollup_query_of_definition(rollup->definition, rollup->target);
	plan->merge = rollup_merge_create(plan->query, rollup->rollup);
	plan->merge->partition_interval = rollup->partition_interval;
	return plan;
}

/* the number of the first that has the same scope, or the next one */
static int
scope_of(const RollupSet *set, const RollupPlan *plan)
{
	ListCell   *cell;

	foreach(cell, set->plans)
	{
		const RollupPlan *other = lfirst(cell);

		if (rollup_scope_is_same(plan->rollup, plan->query, other->rollup, other->query))
			return other->scope;
	}
	return list_length(set->plans);
}

static void
require_definition(const Rollup *rollup)
{
	const char *name = get_rel_name(rollup->rollup);

	if (get_rel_name(rollup->definition) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the definition of rollup \"%s\" is gone", name),
				 errhint("Run SELECT clickstream.drop_rollup('%s'), and make it again.", name)));
}

/* The locks come first: what is read then stays as it is until the transaction's end. */
static void
load(RollupSet *set)
{
	MemoryContext caller = MemoryContextSwitchTo(set->loaded);
	ListCell   *cell;

	set->free.func = free_plans;
	set->free.arg = set;
	MemoryContextRegisterResetCallback(set->loaded, &set->free);
	foreach(cell, catalog_rollups_of_target(set->target))
	{
		Rollup	   *rollup = lfirst(cell);
		RollupPlan *plan;

		LockRelationOid(rollup->rollup, RowExclusiveLock);
		LockRelationOid(rollup->definition, AccessShareLock);
		if (get_rel_name(rollup->rollup) == NULL)
			continue;			/* it is being dropped */
		require_definition(rollup);
		rollup_depend(rollup->rollup, rollup->definition);
		plan = make_plan(rollup);
		plan->scope = scope_of(set, plan);
		set->plans = lappend(set->plans, plan);
	}
	MemoryContextSwitchTo(caller);
}

/* What becomes stale in the meantime is seen; what fails midway is made anew the next time. */
static void
reload(RollupSet *set)
{
	MemoryContextReset(set->loaded);
	set->is_stale = false;
	PG_TRY();
	{
		load(set);
	}
	PG_CATCH();
	{
		set->is_stale = true;
		PG_RE_THROW();
	}
	PG_END_TRY();
}

static void
lock_what_is_read(const PlannedStmt *plan)
{
	ListCell   *cell;

	if (plan != NULL)
		foreach(cell, plan->relationOids)
			LockRelationOid(lfirst_oid(cell), AccessShareLock);
}

static void
lock_relations(RollupSet *set)
{
	ListCell   *cell;

	foreach(cell, set->plans)
	{
		RollupPlan *plan = lfirst(cell);

		LockRelationOid(plan->rollup->rollup, RowExclusiveLock);
		LockRelationOid(plan->rollup->definition, AccessShareLock);
		lock_what_is_read(plan->delta);
		lock_what_is_read(plan->delta_of_batch);
		lock_what_is_read(plan->delta_of_few);
	}
}

/* Brings the set up to date, and locks all that it stands on until the end of the transaction. */
static void
make_current(RollupSet *set)
{
	int			tries;

	LockRelationOid(set->target, set->lock);
	for (tries = 0;; tries++)
	{
		if (set->is_stale)
		{
			if (tries > 100)
				elog(ERROR, "the rollups of \"%s\" keep changing", get_rel_name(set->target));
			reload(set);
		}
		else
		{
			lock_relations(set);
			if (!set->is_stale)
				return;
		}
	}
}

RollupSet *
rollup_set_open(Oid target)
{
	RollupSet  *set = make_set(target, RowExclusiveLock, CurrentMemoryContext);

	make_current(set);
	return set;
}

void
rollup_set_refresh(RollupSet *set)
{
	make_current(set);
}

bool
rollup_set_is_empty(const RollupSet *set)
{
	return set->plans == NIL;
}

void
rollup_set_close(RollupSet *set)
{
	MemoryContextDelete(set->context);
}

RollupSet *
rollup_set_of_session(Oid target)
{
	RollupSet  *set = NULL;
	dlist_iter	iter;

	dlist_foreach(iter, &all_sets)
	{
		RollupSet  *other = dlist_container(RollupSet, node, iter.cur);

		/* one that is in use may not change under its user */
		if (other->target == target && other->lock == AccessShareLock && other->in_use == 0)
			set = other;
	}
	if (set == NULL)
		set = make_set(target, AccessShareLock, CacheMemoryContext);
	make_current(set);
	return set->plans == NIL ? NULL : set;
}

/* ---------------------------------------------------------------- what is in it */

int
rollup_set_count(const RollupSet *set)
{
	return list_length(set->plans);
}

void
rollup_set_show(const RollupSet *set, int n, const Rollup **rollup, const RollupQuery **query,
				const char **name)
{
	const RollupPlan *plan = list_nth(set->plans, n);

	*rollup = plan->rollup;
	*query = plan->query;
	*name = plan->name;
}
