/*
 * launcher_shared.c
 *		What backends, scouts and workers tell the launcher, in shared memory, at commit or at once.
 *
 * Owns that piece of memory: which databases changed, and which are held free of workers for a
 * command.  A transaction that rolls back tells nothing.  Must never wait for the launcher.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "storage/spin.h"

#include "launcher.h"
#include "launcher_internal.h"

/* what backends and scouts tell the launcher */
typedef struct LauncherShared
{
	slock_t		mutex;
	Latch	   *latch;			/* the launcher's, NULL while none runs */
	bool		all_changed;
	int			n_changed;
	Oid			changed[MAX_CHANGED];
	Hold		holds[MAX_HOLDS];
	Oid			scouted;		/* the database that a scout has looked at to the end */
	bool		scouted_has_extension;
} LauncherShared;

static LauncherShared *shared = NULL;

static object_access_hook_type previous_object_access_hook = NULL;

/* what is to be told at the end of this transaction */
static bool wake_at_commit = false;
static Oid	wake_other_at_commit = InvalidOid;
static Oid	held_database = InvalidOid;

/* ---------------------------------------------------------------- told by others */

Size
launcher_shared_size(void)
{
	return sizeof(LauncherShared);
}

void
launcher_shared_init(void)
{
	bool		found;

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct("clickstream launcher", launcher_shared_size(), &found);
	if (!found)
	{
		memset(shared, 0, sizeof(LauncherShared));
		SpinLockInit(&shared->mutex);
	}
	LWLockRelease(AddinShmemInitLock);
}

void
launcher_notice(void)
{
	Latch	   *latch;

	if (shared == NULL)
		return;
	SpinLockAcquire(&shared->mutex);
	latch = shared->latch;
	SpinLockRelease(&shared->mutex);
	if (latch)
		SetLatch(latch);
}

void
launcher_database_changed(Oid database)
{
	int			i;

	if (shared == NULL)
		return;
	SpinLockAcquire(&shared->mutex);
	for (i = 0; i < shared->n_changed; i++)
		if (shared->changed[i] == database)
			break;
	if (i == MAX_CHANGED)
		shared->all_changed = true;
	else if (i == shared->n_changed)
		shared->changed[shared->n_changed++] = database;
	SpinLockRelease(&shared->mutex);
	launcher_notice();
}

void
launcher_wake_at_commit(void)
{
	wake_at_commit = true;
}

void
launcher_wake_at_commit_in(Oid database)
{
	wake_other_at_commit = database;
}

void
launcher_wake_database(void)
{
	launcher_database_changed(MyDatabaseId);
}

bool
launcher_hold(Oid database)
{
	int			i;

	if (shared == NULL || OidIsValid(held_database))
		return false;
	SpinLockAcquire(&shared->mutex);
	for (i = 0; i < MAX_HOLDS; i++)
		if (!OidIsValid(shared->holds[i].database))
		{
			shared->holds[i].database = database;
			shared->holds[i].pid = MyProcPid;
			break;
		}
	SpinLockRelease(&shared->mutex);
	if (i == MAX_HOLDS)
		return false;
	held_database = database;
	launcher_notice();
	return true;
}

void
launcher_remove_hold(Oid database, pid_t pid)
{
	int			i;

	SpinLockAcquire(&shared->mutex);
	for (i = 0; i < MAX_HOLDS; i++)
		if (shared->holds[i].database == database && shared->holds[i].pid == pid)
			shared->holds[i].database = InvalidOid;
	SpinLockRelease(&shared->mutex);
}

/* Its slot says that it left on purpose; the commit that made it leave has woken the launcher. */
void
launcher_wake_now(void)
{
	WorkerSlot *slot = worker_slot_mine();

	if (slot)
	{
		SpinLockAcquire(&slot->mutex);
		slot->left_on_purpose = true;
		SpinLockRelease(&slot->mutex);
	}
	launcher_database_changed(MyDatabaseId);
}

void
launcher_scouted(Oid database, bool has_extension)
{
	SpinLockAcquire(&shared->mutex);
	shared->scouted = database;
	shared->scouted_has_extension = has_extension;
	SpinLockRelease(&shared->mutex);
}

/* those that run look at their source or sink again, also when there is nothing else to do */
static void
wake_workers(Oid database)
{
	int			count;
	WorkerSlot *slots = worker_slots(&count);

	for (int i = 0; i < count; i++)
	{
		bool		ours;

		SpinLockAcquire(&slots[i].mutex);
		ours = slots[i].kind != WORKER_NONE && slots[i].database == database;
		SpinLockRelease(&slots[i].mutex);
		if (ours)
			worker_wake(&slots[i]);
	}
}

static void
at_end_of_transaction(XactEvent event, void *arg)
{
	bool		done = event == XACT_EVENT_COMMIT || event == XACT_EVENT_PREPARE;

	if (!done && event != XACT_EVENT_ABORT)
		return;
	if (done && wake_at_commit)
	{
		launcher_database_changed(MyDatabaseId);
		wake_workers(MyDatabaseId);
	}
	if (done && OidIsValid(wake_other_at_commit))
		launcher_database_changed(wake_other_at_commit);
	if (OidIsValid(held_database))
	{
		launcher_remove_hold(held_database, MyProcPid);
		launcher_database_changed(held_database);
	}
	wake_at_commit = false;
	wake_other_at_commit = InvalidOid;
	held_database = InvalidOid;
}

/* DROP EXTENSION, also by CASCADE: the workers end, and the slots of sinks go */
static void
at_object_access(ObjectAccessType access, Oid class_id, Oid object_id, int sub_id, void *arg)
{
	if (previous_object_access_hook)
		previous_object_access_hook(access, class_id, object_id, sub_id, arg);
	if (access == OAT_DROP && class_id == ExtensionRelationId)
	{
		char	   *name = get_extension_name(object_id);

		if (name && strcmp(name, "clickstream") == 0)
			launcher_wake_at_commit();
	}
}

/* in the postmaster: what every backend then listens to */
void
launcher_shared_listen(void)
{
	RegisterXactCallback(at_end_of_transaction, NULL);
	previous_object_access_hook = object_access_hook;
	object_access_hook = at_object_access;
}

/* ---------------------------------------------------------------- for the launcher */

void
launcher_shared_set_latch(Latch *latch)
{
	SpinLockAcquire(&shared->mutex);
	shared->latch = latch;
	SpinLockRelease(&shared->mutex);
}

void
launcher_shared_holds(Hold *holds)
{
	SpinLockAcquire(&shared->mutex);
	memcpy(holds, shared->holds, sizeof(shared->holds));
	SpinLockRelease(&shared->mutex);
}

bool
launcher_shared_take_changed(Oid *changed, int *n)
{
	bool		all;

	SpinLockAcquire(&shared->mutex);
	*n = shared->n_changed;
	memcpy(changed, shared->changed, sizeof(Oid) * *n);
	all = shared->all_changed;
	shared->n_changed = 0;
	shared->all_changed = false;
	SpinLockRelease(&shared->mutex);
	return all;
}

void
launcher_shared_expect_scout(void)
{
	SpinLockAcquire(&shared->mutex);
	shared->scouted = InvalidOid;
	SpinLockRelease(&shared->mutex);
}

Oid
launcher_shared_scouted(bool *has_extension)
{
	Oid			database;

	SpinLockAcquire(&shared->mutex);
	database = shared->scouted;
	*has_extension = shared->scouted_has_extension;
	SpinLockRelease(&shared->mutex);
	return database;
}
