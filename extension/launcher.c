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
 * What is told it is in launcher_shared.c, databases and scouts in launcher_databases.c, workers in
 * launcher_workers.c; here is the process.
 *
 * The launcher then makes the running workers equal to the wanted ones.  A worker that died is
 * started again after a pause that grows while it keeps dying.  After a crash of the server shared
 * memory is empty, and everything begins again from the catalogs.
 *
 * Must never touch a table of the extension, nor run anything of librdkafka or libcurl.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "background.h"
#include "compat.h"
#include "launcher.h"
#include "launcher_internal.h"

PGDLLEXPORT void clickstream_launcher_main(Datum main_arg);

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
	launcher_shared_listen();
}

void
launcher_due_at(Launcher *launcher, TimestampTz moment)
{
	launcher->wake_at = Min(launcher->wake_at, moment);
}

TimestampTz
launcher_after_failures(Launcher *launcher, int failures, int longest_ms)
{
	int			pause = PAUSE_FIRST_MS << Min(failures - 1, 6);

	return TimestampTzPlusMilliseconds(launcher->now, Min(pause, longest_ms));
}

/* ---------------------------------------------------------------- the process */

static void
at_exit(int code, Datum arg)
{
	launcher_shared_set_latch(NULL);
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
	launcher_shared_set_latch(MyLatch);
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
		launcher_take_holds(launcher);
		launcher_take_changes(launcher);
		launcher_run_scouts(launcher);
		launcher_run_workers(launcher);
		launcher_sleep(launcher);
	}
}
