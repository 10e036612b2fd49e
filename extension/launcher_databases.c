/*
 * launcher_databases.c
 *		Which databases there are, which of them are held, and when a scout looks at each.
 *
 * Owns the launcher's list of databases and its one scout at a time (scout.c).  Called by launcher.c
 * in each round.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/spin.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "launcher_internal.h"

/* ---------------------------------------------------------------- databases that are held */

/* a hold that ended may have ended with the database, so the list of databases is read again */
void
launcher_take_holds(Launcher *launcher)
{
	Hold		before[MAX_HOLDS];
	int			i;

	memcpy(before, launcher->holds, sizeof(before));
	launcher_shared_holds(launcher->holds);
	if (memcmp(before, launcher->holds, sizeof(before)) != 0)
		launcher->list_at = launcher->now;

	for (i = 0; i < MAX_HOLDS; i++)
	{
		Hold	   *hold = &launcher->holds[i];

		if (OidIsValid(hold->database))
			launcher_due_at(launcher, TimestampTzPlusMilliseconds(launcher->now, PAUSE_FIRST_MS));
		if (!OidIsValid(hold->database) || BackendPidGetProc(hold->pid) != NULL)
			continue;
		launcher_remove_hold(hold->database, hold->pid);
		hold->database = InvalidOid;
	}
}

bool
launcher_is_held(Launcher *launcher, Oid database)
{
	int			i;

	for (i = 0; i < MAX_HOLDS; i++)
		if (launcher->holds[i].database == database)
			return true;
	return false;
}

/* ---------------------------------------------------------------- databases and scouts */

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
void
launcher_take_changes(Launcher *launcher)
{
	Oid			changed[MAX_CHANGED];
	int			n;
	bool		all = launcher_shared_take_changed(changed, &n);
	int			i;
	ListCell   *cell;

	for (i = 0; i < n; i++)
		if (find_database(launcher, changed[i]) == NULL)
			launcher->list_at = launcher->now;
	if (launcher->list_at <= launcher->now)
		list_databases(launcher);
	launcher_due_at(launcher, launcher->list_at);

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

	launcher_shared_expect_scout();
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

	scouted = launcher_shared_scouted(&has_extension);
	if (scouted != database->oid)
	{
		/* it failed; perhaps because its database has gone */
		database->failures++;
		database->look_at = launcher_after_failures(launcher, database->failures, SCOUT_PAUSE_LONGEST_MS);
		launcher->list_at = launcher->now;
		launcher_due_at(launcher, launcher->now);
		return;
	}
	database->failures = 0;
	if (database->look_at == DT_NOEND)
		database->look_at = has_extension ?
			TimestampTzPlusMilliseconds(launcher->now, LOOK_AGAIN_MS) : DT_NOEND;
	release_tenants_of(launcher, database->oid);
}

/* one scout at a time, the most overdue database first */
void
launcher_run_scouts(Launcher *launcher)
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

		if (launcher_is_held(launcher, database->oid))
			continue;
		launcher_due_at(launcher, database->look_at);
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
		next->look_at = launcher_after_failures(launcher, next->failures, SCOUT_PAUSE_LONGEST_MS);
		if (next->failures == 1)
			ereport(LOG, (errmsg("clickstream cannot look for sources and sinks: no background "
								 "worker is free"),
						  errhint("Raise max_worker_processes (now %d) and restart the server.",
								  max_worker_processes)));
	}
	launcher_due_at(launcher, next->look_at);
}
