/*
 * launcher_workers.c
 *		Makes the workers that run equal to those that are wanted.
 *
 * Owns when a worker starts, starts again and ends; what it shall do is in its slot.  Called by
 * launcher.c in each round.
 */
#include "postgres.h"

#include <signal.h>
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "utils/timestamp.h"

#include "launcher_internal.h"

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
	launcher_due_at(launcher, again);
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
		launcher_database_changed(view->database);
		return;
	}
	if (on_request || !view->wanted)
		return;

	if (ran_well <= launcher->now)
		tenant->failures = 0;
	tenant->failures++;
	tenant->start_at = launcher_after_failures(launcher, tenant->failures, PAUSE_LONGEST_MS);
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
	const char *kind = worker_kind_name(view->kind);
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
		launcher_due_at(launcher, tenant->start_at);
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

	if (tenant->after_scout || launcher_is_held(launcher, view->database))
		return;
	if (tenant->start_at > launcher->now)
	{
		launcher_due_at(launcher, tenant->start_at);
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
		launcher_database_changed(view->database);
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
void
launcher_run_workers(Launcher *launcher)
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
								launcher_is_held(launcher, view.database)))
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
