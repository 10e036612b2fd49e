/*
 * rollup_lock.c
 *		All writers of a rollup's target kept out for a moment.
 *
 * Called by rollup_api.c and rollup_command.c, for the rest of a transaction, and by rollup_fill.c, over several.  Decides
 * how long others may be held up by that.
 *
 * Whoever waits for a lock makes all wait who come after him, also for one that does not conflict with
 * those held.  So nobody here waits for a long transaction: after a moment all is let go, those who
 * came meanwhile go on, and it is tried again.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_inherits.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "catalog.h"
#include "compat.h"
#include "rollup_lock.h"

/* how long writers may be held up by one try, and how long they have to themselves before the next */
#define TRY_MS 400
#define PAUSE_MS 200

/* keeps everybody out who writes rows or makes triggers, and lets readers in */
#define LOCK_MODE ShareRowExclusiveLock

/* Two who wait for each other are to be told by our giving way, before either is called a deadlock. */
static int
try_ms(void)
{
	return Max(1, Min(TRY_MS, DeadlockTimeout / 2));
}

static int
ms_until(TimestampTz moment)
{
	return Max(1, TimestampDifferenceMilliseconds(GetCurrentTimestamp(), moment));
}

static void
wait_at_most(int ms)
{
	char		value[32];

	snprintf(value, sizeof(value), "%d", ms);
	(void) set_config_option("lock_timeout", value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
							 false);
}

/* the target, all below it, and others, within the time; a lock that is not to be had by then is an error */
static void
lock_each(Oid target, List *others, int ms, void (*lock) (Oid relation, void *argument), void *argument)
{
	TimestampTz until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ms);
	int			level = NewGUCNestLevel();
	ListCell   *cell;

	wait_at_most(ms);
	lock(target, argument);
	foreach(cell, list_concat(find_all_inheritors(target, NoLock, NULL), others))
	{
		if (lfirst_oid(cell) == target)
			continue;
		wait_at_most(ms_until(until));
		lock(lfirst_oid(cell), argument);
	}
	AtEOXact_GUC(true, level);
}

/* ---------------------------------------------------------------- for a transaction */

/* what is wanted of a target and all below it, and of its rollups */
typedef struct Wanted
{
	LOCKMODE	mode;
	List	   *rollups;		/* OIDs; these for the caller alone */
} Wanted;

static void
lock_for_transaction(Oid relation, void *argument)
{
	const Wanted *wanted = argument;

	LockRelationOid(relation, list_member_oid(wanted->rollups, relation) ? AccessExclusiveLock : wanted->mode);
}

/* all of them or none */
static bool
try_to_lock_all(Oid target, const Wanted *wanted, int ms)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool locked = true;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(caller);
	PG_TRY();
	{
		lock_each(target, wanted->rollups, ms, lock_for_transaction, unconstify(Wanted *, wanted));
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		if (error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
			ReThrowError(error);
		FreeErrorData(error);
		locked = false;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = owner;
	return locked;
}

/* Two transactions that both wrote, and both want to lock out the other: the deadlock is to be found. */
static bool
has_written(Oid target)
{
	Relation	relation = table_open(target, AccessShareLock);
	bool		has = CheckRelationLockedByMe(relation, RowExclusiveLock, true);

	table_close(relation, NoLock);
	return has;
}

static void
lock_all_waiting(Oid target, Wanted *wanted)
{
	ListCell   *cell;

	LockRelationOid(target, wanted->mode);
	list_free(find_all_inheritors(target, wanted->mode, NULL));
	foreach(cell, wanted->rollups)
		LockRelationOid(lfirst_oid(cell), AccessExclusiveLock);
}

static void
let_others_pass(void)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, PAUSE_MS,
					 compat_wait_event("ClickstreamRollupLock"));
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/* The caller's own lock_timeout is obeyed as if it were one lock. */
static void
lock_out(Oid target, Wanted *wanted)
{
	int			most = LockTimeout;
	TimestampTz until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), most);

	if (has_written(target))
	{
		lock_all_waiting(target, wanted);
		return;
	}
	while (!try_to_lock_all(target, wanted, most > 0 ? Min(try_ms(), ms_until(until)) : try_ms()))
	{
		if (most > 0 && GetCurrentTimestamp() >= until)
			ereport(ERROR,
					(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
					 errmsg("canceling statement due to lock timeout"),
					 errdetail("Transactions that write to the table are under way.")));
		let_others_pass();
	}
}

void
rollup_lock_out_writers(Oid target)
{
	Wanted		wanted = {.mode = LOCK_MODE};

	lock_out(target, &wanted);
}

/* With its last rollup the target loses its triggers, which nobody may be looking at. */
void
rollup_lock_out_all(Oid target, Oid rollup)
{
	List	   *rollups = catalog_rollups_of_target(target);
	bool		stays = OidIsValid(rollup) && list_length(rollups) > 1;
	Wanted		wanted = {.mode = stays ? LOCK_MODE : AccessExclusiveLock};
	ListCell   *cell;

	foreach(cell, rollups)
	{
		Oid			other = ((Rollup *) lfirst(cell))->rollup;

		if ((!OidIsValid(rollup) || other == rollup) && get_rel_name(other) != NULL)
			wanted.rollups = lappend_oid(wanted.rollups, other);
	}
	lock_out(target, &wanted);
}

/* ---------------------------------------------------------------- over several transactions */

static void
lock_for_session(Oid relation, void *argument)
{
	List	  **held = argument;
	LockRelId  *id = palloc(sizeof(LockRelId));

	id->relId = relation;
	id->dbId = MyDatabaseId;
	LockRelationIdForSession(id, LOCK_MODE);
	*held = lappend(*held, id);
}

void
rollup_hold_writers(Oid target, List **held)
{
	lock_each(target, NIL, try_ms(), lock_for_session, held);
}

void
rollup_release_writers(List **held)
{
	ListCell   *cell;

	foreach(cell, *held)
		UnlockRelationIdForSession(lfirst(cell), LOCK_MODE);
	list_free_deep(*held);
	*held = NIL;
}
