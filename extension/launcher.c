/*
 * launcher.c
 *		Which workers run: starts them, starts them again, ends them.
 *
 * One launcher process serves the whole server.  It is connected to no database, so that it never
 * stands in the way of CREATE or DROP DATABASE; what a database wants is found out by a scout, a
 * process that lives for a moment (scout.c) and writes the wanted workers into the shared slots.
 * A database is looked at when the launcher starts, when a transaction that changed a source or
 * sink commits (launcher_wake_at_commit), and, where it has the extension, once a minute, so that
 * a restored dump or a lost wake-up is seen as well.
 *
 * The launcher then makes the running workers equal to the wanted ones.  A worker that died is
 * started again after a pause that grows while it keeps dying.  After a crash of the server shared
 * memory is empty, and everything begins again from the catalogs.
 *
 * Must never touch a table of the extension, nor run anything of librdkafka or libcurl.
 */
#include "postgres.h"

#include <signal.h>

#include "access/genam.h"
#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_database.h"
#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "background.h"
#include "compat.h"
#include "launcher.h"
#include "worker_slot.h"

/* databases that changed, by OID; more than so many means: look at all */
#define MAX_CHANGED 64

/* commands at a time that need a database without workers (utility_hook.c) */
#define MAX_HOLDS 16

#define LOOK_AGAIN_MS (60 * 1000)
#define PAUSE_FIRST_MS 1000
#define PAUSE_LONGEST_MS (60 * 1000)
#define SCOUT_PAUSE_LONGEST_MS (10 * 1000)
#define RAN_WELL_MS (60 * 1000)
#define TERMINATE_AGAIN_MS (10 * 1000)

typedef struct Hold
{
	Oid			database;		/* InvalidOid: free */
	pid_t		pid;			/* of the backend that holds it */
} Hold;

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

/* a database as the launcher knows it */
typedef struct Database
{
	Oid			oid;
	bool		exists;			/* scratch for the comparison with pg_database */
	int			failures;		/* of scouts, since the last that reached its end */
	TimestampTz look_at;		/* when the next scout is due; DT_NOEND: when told */
} Database;

/* what the launcher remembers of the worker in a slot; same index */
typedef struct Tenant
{
	BackgroundWorkerHandle *handle; /* NULL: none was started by this launcher */
	bool		running;		/* as of the last look */
	bool		after_scout;	/* it left on purpose: the catalog is read before it starts again */
	int			failures;
	TimestampTz started_at;
	TimestampTz start_at;		/* not before this */
	TimestampTz terminated_at;
} Tenant;

/* the launcher's own state, for the life of the process */
typedef struct Launcher
{
	List	   *databases;		/* of Database * */
	TimestampTz list_at;		/* when pg_database is read again */
	BackgroundWorkerHandle *scout;
	Database   *scout_database; /* NULL when no scout runs, or its database has gone */
	WorkerSlot *slots;
	Tenant	   *tenants;
	int			n_slots;
	Hold		holds[MAX_HOLDS];	/* as of this round */
	TimestampTz now;
	TimestampTz wake_at;		/* the earliest moment at which something is due */
} Launcher;

PGDLLEXPORT void clickstream_launcher_main(Datum main_arg);

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

static void
database_changed(Oid database)
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
	database_changed(MyDatabaseId);
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

static void
remove_hold(Oid database, pid_t pid)
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
	database_changed(MyDatabaseId);
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
		database_changed(MyDatabaseId);
		wake_workers(MyDatabaseId);
	}
	if (done && OidIsValid(wake_other_at_commit))
		database_changed(wake_other_at_commit);
	if (OidIsValid(held_database))
	{
		remove_hold(held_database, MyProcPid);
		database_changed(held_database);
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

void
launcher_register(void)
{
	BackgroundWorker worker;

	memset(&worker, 0, sizeof(worker));
	strlcpy(worker.bgw_name, "clickstream launcher", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "clickstream launcher", BGW_MAXLEN);
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = 5;
	strlcpy(worker.bgw_library_name, "clickstream", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "clickstream_launcher_main", BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);

	RegisterXactCallback(at_end_of_transaction, NULL);
	previous_object_access_hook = object_access_hook;
	object_access_hook = at_object_access;
}

/* ---------------------------------------------------------------- databases that are held */

static void
due_at(Launcher *launcher, TimestampTz moment)
{
	launcher->wake_at = Min(launcher->wake_at, moment);
}

/* a hold that ended may have ended with the database, so the list of databases is read again */
static void
take_holds(Launcher *launcher)
{
	Hold		before[MAX_HOLDS];
	int			i;

	memcpy(before, launcher->holds, sizeof(before));
	SpinLockAcquire(&shared->mutex);
	memcpy(launcher->holds, shared->holds, sizeof(launcher->holds));
	SpinLockRelease(&shared->mutex);
	if (memcmp(before, launcher->holds, sizeof(before)) != 0)
		launcher->list_at = launcher->now;

	for (i = 0; i < MAX_HOLDS; i++)
	{
		Hold	   *hold = &launcher->holds[i];

		if (OidIsValid(hold->database))
			due_at(launcher, TimestampTzPlusMilliseconds(launcher->now, PAUSE_FIRST_MS));
		if (!OidIsValid(hold->database) || BackendPidGetProc(hold->pid) != NULL)
			continue;
		remove_hold(hold->database, hold->pid);
		hold->database = InvalidOid;
	}
}

static bool
is_held(Launcher *launcher, Oid database)
{
	int			i;

	for (i = 0; i < MAX_HOLDS; i++)
		if (launcher->holds[i].database == database)
			return true;
	return false;
}

/* ---------------------------------------------------------------- databases and scouts */

static TimestampTz
after_failures(Launcher *launcher, int failures, int longest_ms)
{
	int			pause = PAUSE_FIRST_MS << Min(failures - 1, 6);

	return TimestampTzPlusMilliseconds(launcher->now, Min(pause, longest_ms));
}

static Database *
find_database(Launcher *launcher, Oid oid)
{
	ListCell   *cell;

	foreach(cell, launcher->databases)
	{
		Database   *database = lfirst(cell);

		if (database->oid == oid)
			return database;
	}
	return NULL;
}

/* those that can be connected to; a template is left alone, so that it can be copied at any time */
static List *
read_pg_database(void)
{
	MemoryContext keep = CurrentMemoryContext;
	List	   *oids = NIL;
	Relation	relation;
	TableScanDesc scan;
	HeapTuple	tuple;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	relation = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(relation, 0, NULL);
	while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection)))
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);
		MemoryContext old;

		if (!form->datallowconn || form->datistemplate || database_is_invalid_form(form))
			continue;
		old = MemoryContextSwitchTo(keep);
		oids = lappend_oid(oids, form->oid);
		MemoryContextSwitchTo(old);
	}
	table_endscan(scan);
	table_close(relation, AccessShareLock);
	CommitTransactionCommand();
	MemoryContextSwitchTo(keep);
	return oids;
}

/* no worker is wanted in a database that has gone */
static void
forget_gone_databases(Launcher *launcher)
{
	int			i;

	for (i = 0; i < launcher->n_slots; i++)
	{
		WorkerSlot *slot = &launcher->slots[i];

		if (slot->kind == WORKER_NONE || find_database(launcher, slot->database) != NULL)
			continue;
		SpinLockAcquire(&slot->mutex);
		slot->wanted = false;
		SpinLockRelease(&slot->mutex);
	}
}

/* reads pg_database: new databases are due for a scout, gone ones are forgotten */
static void
list_databases(Launcher *launcher)
{
	List	   *oids = read_pg_database();
	ListCell   *cell;

	foreach(cell, launcher->databases)
		((Database *) lfirst(cell))->exists = false;

	foreach(cell, oids)
	{
		Database   *database = find_database(launcher, lfirst_oid(cell));

		if (database == NULL)
		{
			database = palloc0(sizeof(Database));
			database->oid = lfirst_oid(cell);
			database->look_at = launcher->now;
			launcher->databases = lappend(launcher->databases, database);
		}
		database->exists = true;
	}

	foreach(cell, launcher->databases)
	{
		Database   *database = lfirst(cell);

		if (database->exists)
			continue;
		if (launcher->scout_database == database)
			launcher->scout_database = NULL;
		launcher->databases = foreach_delete_current(launcher->databases, cell);
		pfree(database);
	}
	list_free(oids);
	forget_gone_databases(launcher);
	launcher->list_at = TimestampTzPlusMilliseconds(launcher->now, LOOK_AGAIN_MS);
}

static void
look_now(Launcher *launcher, Database *database)
{
	database->failures = 0;
	database->look_at = launcher->now;
}

/* takes what backends said since the last time */
static void
take_changes(Launcher *launcher)
{
	Oid			changed[MAX_CHANGED];
	int			n;
	bool		all;
	int			i;
	ListCell   *cell;

	SpinLockAcquire(&shared->mutex);
	n = shared->n_changed;
	memcpy(changed, shared->changed, sizeof(Oid) * n);
	all = shared->all_changed;
	shared->n_changed = 0;
	shared->all_changed = false;
	SpinLockRelease(&shared->mutex);

	for (i = 0; i < n; i++)
		if (find_database(launcher, changed[i]) == NULL)
			launcher->list_at = launcher->now;
	if (launcher->list_at <= launcher->now)
		list_databases(launcher);
	due_at(launcher, launcher->list_at);

	for (i = 0; i < n; i++)
	{
		Database   *database = find_database(launcher, changed[i]);

		if (database)
			look_now(launcher, database);
	}
	if (all)
		foreach(cell, launcher->databases)
			look_now(launcher, lfirst(cell));
}

static bool
start_scout(Launcher *launcher, Database *database)
{
	BackgroundWorker worker;

	memset(&worker, 0, sizeof(worker));
	snprintf(worker.bgw_name, BGW_MAXLEN, "clickstream scout for database %u", database->oid);
	strlcpy(worker.bgw_type, "clickstream scout", BGW_MAXLEN);
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker.bgw_library_name, "clickstream", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "clickstream_scout_main", BGW_MAXLEN);
	worker.bgw_main_arg = ObjectIdGetDatum(database->oid);
	worker.bgw_notify_pid = MyProcPid;

	SpinLockAcquire(&shared->mutex);
	shared->scouted = InvalidOid;
	SpinLockRelease(&shared->mutex);
	if (!RegisterDynamicBackgroundWorker(&worker, &launcher->scout))
	{
		launcher->scout = NULL;
		return false;
	}
	launcher->scout_database = database;
	return true;
}

/* the workers that left on purpose may start again: what they are to do is now known */
static void
release_tenants_of(Launcher *launcher, Oid database)
{
	int			i;

	for (i = 0; i < launcher->n_slots; i++)
		if (launcher->slots[i].database == database)
			launcher->tenants[i].after_scout = false;
}

static void
end_scout(Launcher *launcher)
{
	Database   *database = launcher->scout_database;
	Oid			scouted;
	bool		has_extension;

	pfree(launcher->scout);
	launcher->scout = NULL;
	launcher->scout_database = NULL;
	if (database == NULL)
		return;

	SpinLockAcquire(&shared->mutex);
	scouted = shared->scouted;
	has_extension = shared->scouted_has_extension;
	SpinLockRelease(&shared->mutex);

	if (scouted != database->oid)
	{
		/* it failed; perhaps because its database has gone */
		database->failures++;
		database->look_at = after_failures(launcher, database->failures, SCOUT_PAUSE_LONGEST_MS);
		launcher->list_at = launcher->now;
		due_at(launcher, launcher->now);
		return;
	}
	database->failures = 0;
	if (database->look_at == DT_NOEND)
		database->look_at = has_extension ?
			TimestampTzPlusMilliseconds(launcher->now, LOOK_AGAIN_MS) : DT_NOEND;
	release_tenants_of(launcher, database->oid);
}

/* one scout at a time, the most overdue database first */
static void
run_scouts(Launcher *launcher)
{
	pid_t		pid;
	Database   *next = NULL;
	ListCell   *cell;

	if (launcher->scout)
	{
		if (GetBackgroundWorkerPid(launcher->scout, &pid) != BGWH_STOPPED)
			return;
		end_scout(launcher);
	}

	foreach(cell, launcher->databases)
	{
		Database   *database = lfirst(cell);

		if (is_held(launcher, database->oid))
			continue;
		due_at(launcher, database->look_at);
		if (database->look_at <= launcher->now &&
			(next == NULL || database->look_at < next->look_at))
			next = database;
	}
	if (next == NULL)
		return;

	/* a change that comes while the scout runs sets another date */
	next->look_at = DT_NOEND;
	if (!start_scout(launcher, next))
	{
		next->failures++;
		next->look_at = after_failures(launcher, next->failures, SCOUT_PAUSE_LONGEST_MS);
		if (next->failures == 1)
			ereport(LOG, (errmsg("clickstream cannot look for sources and sinks: no background "
								 "worker is free"),
						  errhint("Raise max_worker_processes (now %d) and restart the server.",
								  max_worker_processes)));
	}
	due_at(launcher, next->look_at);
}

/* ---------------------------------------------------------------- workers */

/* a copy of a slot's words, taken under its mutex; the texts are left out */
typedef struct SlotView
{
	WorkerKind	kind;
	Oid			database;
	int32		worker_no;
	bool		wanted;
	bool		outdated;		/* runs with other terms than those wanted */
	bool		left_on_purpose;
	pid_t		pid;
	WorkerState state;
	TimestampTz last_error_at;
	char		name[NAMEDATALEN];
} SlotView;

static SlotView
view_slot(WorkerSlot *slot)
{
	SlotView	view;

	SpinLockAcquire(&slot->mutex);
	view.kind = slot->kind;
	view.database = slot->database;
	view.worker_no = slot->worker_no;
	view.wanted = slot->wanted;
	view.outdated = slot->n_workers != slot->next_n_workers || slot->owner != slot->next_owner;
	view.left_on_purpose = slot->left_on_purpose;
	view.pid = slot->pid;
	view.state = slot->state;
	view.last_error_at = slot->last_error_at;
	memcpy(view.name, slot->name, NAMEDATALEN);
	SpinLockRelease(&slot->mutex);
	return view;
}

static bool
is_running(Tenant *tenant, const SlotView *view)
{
	pid_t		pid;

	if (tenant->handle)
	{
		if (GetBackgroundWorkerPid(tenant->handle, &pid) != BGWH_STOPPED)
			return true;
		pfree(tenant->handle);
		tenant->handle = NULL;
	}
	return view->pid != 0;		/* started by a launcher before this one */
}

static void
terminate(Launcher *launcher, Tenant *tenant, const SlotView *view)
{
	TimestampTz again = TimestampTzPlusMilliseconds(tenant->terminated_at, TERMINATE_AGAIN_MS);

	if (tenant->terminated_at == 0 || again <= launcher->now)
	{
		if (tenant->handle)
			TerminateBackgroundWorker(tenant->handle);
		else if (view->pid != 0)
			kill(view->pid, SIGTERM);
		tenant->terminated_at = launcher->now;
		again = TimestampTzPlusMilliseconds(launcher->now, TERMINATE_AGAIN_MS);
	}
	due_at(launcher, again);
}

/* decides when a worker that was seen running and has ended starts again */
static void
worker_ended(Launcher *launcher, WorkerSlot *slot, Tenant *tenant, const SlotView *view)
{
	TimestampTz ran_well = TimestampTzPlusMilliseconds(tenant->started_at, RAN_WELL_MS);
	bool		on_request = tenant->terminated_at != 0;

	tenant->running = false;
	tenant->terminated_at = 0;
	tenant->start_at = launcher->now;
	if (view->left_on_purpose)
	{
		SpinLockAcquire(&slot->mutex);
		slot->left_on_purpose = false;
		SpinLockRelease(&slot->mutex);
		tenant->failures = 0;
		tenant->after_scout = true;
		database_changed(view->database);
		return;
	}
	if (on_request || !view->wanted)
		return;

	if (ran_well <= launcher->now)
		tenant->failures = 0;
	tenant->failures++;
	tenant->start_at = after_failures(launcher, tenant->failures, PAUSE_LONGEST_MS);
	if (view->last_error_at < tenant->started_at)
		worker_set_error(slot, "the worker ended: the server's log says why");
	if (view->state != WORKER_STOPPED)
		worker_set_state(slot, WORKER_WAITING, "the worker ended and is about to be started again");
}

static void
register_worker(Launcher *launcher, int index, const SlotView *view)
{
	Tenant	   *tenant = &launcher->tenants[index];
	WorkerSlot *slot = &launcher->slots[index];
	const char *kind = view->kind == WORKER_SOURCE ? "source" : "sink";
	BackgroundWorker worker;

	memset(&worker, 0, sizeof(worker));
	if (view->worker_no > 0)
		snprintf(worker.bgw_name, BGW_MAXLEN, "clickstream %s %s #%d", kind, view->name,
				 view->worker_no);
	else
		snprintf(worker.bgw_name, BGW_MAXLEN, "clickstream %s %s", kind, view->name);
	snprintf(worker.bgw_type, BGW_MAXLEN, "clickstream %s", kind);
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker.bgw_library_name, "clickstream_worker", BGW_MAXLEN);
	snprintf(worker.bgw_function_name, BGW_MAXLEN, "clickstream_%s_main", kind);
	worker.bgw_main_arg = Int32GetDatum(index);
	worker.bgw_notify_pid = MyProcPid;

	if (!RegisterDynamicBackgroundWorker(&worker, &tenant->handle))
	{
		char		detail[128];

		tenant->handle = NULL;
		tenant->start_at = TimestampTzPlusMilliseconds(launcher->now, 5 * PAUSE_FIRST_MS);
		due_at(launcher, tenant->start_at);
		snprintf(detail, sizeof(detail), "no background worker is free: raise max_worker_processes "
				 "(now %d) and restart the server", max_worker_processes);
		worker_set_detail(slot, detail);
		return;
	}
	tenant->running = true;
	tenant->started_at = launcher->now;
}

/* gives the slot the terms that are wanted now; nobody runs in it */
static void
renew_terms(WorkerSlot *slot)
{
	SpinLockAcquire(&slot->mutex);
	slot->n_workers = slot->next_n_workers;
	slot->owner = slot->next_owner;
	if (slot->state != WORKER_STOPPED && slot->state != WORKER_WAITING)
		slot->state = WORKER_STARTING;
	SpinLockRelease(&slot->mutex);
}

static void
start_worker(Launcher *launcher, int index, const SlotView *view, int n_running)
{
	Tenant	   *tenant = &launcher->tenants[index];
	WorkerSlot *slot = &launcher->slots[index];
	char		detail[160];

	if (tenant->after_scout || is_held(launcher, view->database))
		return;
	if (tenant->start_at > launcher->now)
	{
		due_at(launcher, tenant->start_at);
		return;
	}
	renew_terms(slot);
	if (!clickstream_enabled)
		worker_set_state(slot, WORKER_STARTING, "clickstream.enabled is off in this server");
	else if (n_running >= clickstream_max_workers)
	{
		snprintf(detail, sizeof(detail), "all %d workers of this server are in use: raise "
				 "clickstream.max_workers and restart the server", clickstream_max_workers);
		worker_set_state(slot, WORKER_STARTING, detail);
	}
	else
		register_worker(launcher, index, view);
}

static void
free_slot(Launcher *launcher, int index, const SlotView *view)
{
	/* what a sink leaves behind can go now that nothing holds it */
	if (view->kind == WORKER_SINK)
		database_changed(view->database);
	worker_slot_free(&launcher->slots[index]);
	memset(&launcher->tenants[index], 0, sizeof(Tenant));
}

static int
count_running(Launcher *launcher)
{
	int			n = 0;
	int			i;

	for (i = 0; i < launcher->n_slots; i++)
	{
		SlotView	view = view_slot(&launcher->slots[i]);
		Tenant	   *tenant = &launcher->tenants[i];
		bool		running = view.kind != WORKER_NONE && is_running(tenant, &view);

		if (running)
			n++;
		if (running && !tenant->running)
			tenant->started_at = launcher->now;
		if (!running && tenant->running)
			worker_ended(launcher, &launcher->slots[i], tenant, &view);
		tenant->running = running;
	}
	return n;
}

/* makes the workers that run equal to those that are wanted */
static void
run_workers(Launcher *launcher)
{
	int			n_running = count_running(launcher);
	int			i;

	for (i = 0; i < launcher->n_slots; i++)
	{
		SlotView	view = view_slot(&launcher->slots[i]);
		Tenant	   *tenant = &launcher->tenants[i];

		if (view.kind == WORKER_NONE)
			continue;
		if (tenant->running && (!view.wanted || view.outdated || !clickstream_enabled ||
								is_held(launcher, view.database)))
			terminate(launcher, tenant, &view);
		else if (!tenant->running && view.wanted)
		{
			start_worker(launcher, i, &view, n_running);
			if (tenant->running)
				n_running++;
		}
		else if (!tenant->running && launcher->scout == NULL)
			free_slot(launcher, i, &view);
	}
}

/* ---------------------------------------------------------------- the process */

static void
at_exit(int code, Datum arg)
{
	SpinLockAcquire(&shared->mutex);
	shared->latch = NULL;
	SpinLockRelease(&shared->mutex);
}

static Launcher *
launcher_start(void)
{
	Launcher   *launcher;

	background_handle_signals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	MemoryContextSwitchTo(AllocSetContextCreate(TopMemoryContext, "clickstream launcher",
												ALLOCSET_DEFAULT_SIZES));
	launcher = palloc0(sizeof(Launcher));
	launcher->slots = worker_slots(&launcher->n_slots);
	launcher->tenants = palloc0(sizeof(Tenant) * launcher->n_slots);

	before_shmem_exit(at_exit, (Datum) 0);
	SpinLockAcquire(&shared->mutex);
	shared->latch = MyLatch;
	SpinLockRelease(&shared->mutex);
	return launcher;
}

static void
launcher_sleep(Launcher *launcher)
{
	long		ms = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), launcher->wake_at);

	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, Max(ms, 10),
					 compat_wait_event("ClickstreamLauncher"));
	ResetLatch(MyLatch);
	/* with 1, so that the postmaster starts it again unless it is itself about to end */
	if (ShutdownRequestPending)
		proc_exit(1);
	CHECK_FOR_INTERRUPTS();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
}

void
clickstream_launcher_main(Datum main_arg)
{
	Launcher   *launcher = launcher_start();

	ereport(LOG, (errmsg("clickstream launcher started")));
	for (;;)
	{
		launcher->now = GetCurrentTimestamp();
		launcher->wake_at = TimestampTzPlusMilliseconds(launcher->now, LOOK_AGAIN_MS);
		take_holds(launcher);
		take_changes(launcher);
		run_scouts(launcher);
		run_workers(launcher);
		launcher_sleep(launcher);
	}
}
