/*
 * worker.c
 *		What every source and sink worker does first and last.
 *
 * Owns the process: its connection, its identity, its transactions, its pauses.  Knows nothing of
 * Kafka or Elasticsearch.  Called by source_main.c and sink_main.c.
 *
 * A role without LOGIN cannot be connected as (before PostgreSQL 17), and such owners are common.
 * So a worker connects as nobody in particular and becomes the owner inside each transaction, with
 * SECURITY_LOCAL_USERID_CHANGE, under which no trigger of the owner can SET ROLE its way out.
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/pg_prng.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/procsignal.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "background.h"
#include "compat.h"
#include "launcher.h"
#include "worker.h"

PG_MODULE_MAGIC;

void		_PG_init(void);

#define PAUSE_FIRST_MS 100
#define PAUSE_LONGEST_MS 15000

static emit_log_hook_type previous_emit_log_hook = NULL;

/* ---------------------------------------------------------------- first and last */

/*
 * Files of another build were installed, and the server still has the old clickstream.so in memory: what the two
 * share may have another shape in each.
 */
void
_PG_init(void)
{
	if (strcmp(clickstream_headers, CLICKSTREAM_HEADERS) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the installed clickstream_worker does not go with the clickstream that this server has loaded"),
				 errhint("Restart the server.")));
}

/* An error that reaches the server's log reaches the views, too: also the last one, that ends us. */
static void
keep_error(ErrorData *error)
{
	WorkerSlot *slot = worker_slot_mine();

	if (previous_emit_log_hook)
		previous_emit_log_hook(error);
	if (slot && error->elevel >= ERROR && error->message)
		worker_set_error(slot, error->message);
}

static void
leave_slot(int code, Datum arg)
{
	WorkerSlot *slot = (WorkerSlot *) DatumGetPointer(arg);

	SpinLockAcquire(&slot->mutex);
	slot->pid = 0;
	slot->latch = NULL;
	slot->lag = -1;
	SpinLockRelease(&slot->mutex);
	ConditionVariableBroadcast(&slot->changed);
	launcher_notice();
}

/* another worker may have it: one whose launcher died, so that the next one knew nothing of it */
static bool
take_slot(WorkerSlot *slot)
{
	bool		taken;

	SpinLockAcquire(&slot->mutex);
	taken = slot->kind != WORKER_NONE && slot->wanted && slot->pid == 0;
	if (taken)
	{
		slot->pid = MyProcPid;
		slot->latch = MyLatch;
		slot->left_on_purpose = false;
		slot->lag = -1;
		slot->current_until = 0;
		slot->oldest_commit = 0;
		if (slot->state == WORKER_STARTING)
			slot->detail[0] = '\0';
	}
	SpinLockRelease(&slot->mutex);
	return taken;
}

WorkerSlot *
worker_attach(Datum main_arg)
{
	int			count;
	WorkerSlot *slots = worker_slots(&count);
	int			index = DatumGetInt32(main_arg);
	WorkerSlot *slot;

	background_handle_signals();
	if (index < 0 || index >= count)
		elog(ERROR, "there is no worker slot %d", index);
	slot = &slots[index];
	if (!take_slot(slot))
		proc_exit(0);
	before_shmem_exit(leave_slot, PointerGetDatum(slot));
	previous_emit_log_hook = emit_log_hook;
	emit_log_hook = keep_error;

	BackgroundWorkerInitializeConnectionByOid(slot->database, InvalidOid, 0);
	background_pin_settings();
	pgstat_report_activity(STATE_IDLE, NULL);
	return slot;
}

/* ---------------------------------------------------------------- transactions */

/* what the caches of this process hold: the catalogs as they are, or as the log left them somewhere */
static WorkerCatalogs catalogs = CATALOGS_NOW;

void
worker_look_at(WorkerCatalogs wanted)
{
	if (catalogs != wanted)
		InvalidateSystemCaches();
	catalogs = wanted;
}

/* the level at which a transaction's own settings are kept, and undone before it commits */
static int	settings_level = 0;

static bool
role_exists(Oid role)
{
	return SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(role));
}

void
worker_begin(WorkerSlot *slot)
{
	/* there is nothing under way: no better moment to end, and no FATAL line for it */
	if (ShutdownRequestPending)
		proc_exit(0);
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	worker_look_at(CATALOGS_NOW);
	if (!role_exists(slot->owner))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("the owner of %s \"%s\" has been dropped",
						worker_kind_name(slot->kind), slot->name),
				 errdetail("The role with OID %u does not exist.", slot->owner),
				 errhint("Drop it and create it again as a role that owns the table.")));
	SetUserIdAndSecContext(slot->owner, SECURITY_LOCAL_USERID_CHANGE);
	settings_level = NewGUCNestLevel();
	PushActiveSnapshot(GetTransactionSnapshot());
	pgstat_report_activity(STATE_RUNNING, NULL);
}

/* back to nobody in particular: what runs outside a transaction is not the owner's */
static void
become_nobody(void)
{
	SetUserIdAndSecContext(GetSessionUserId(), 0);
	pgstat_report_activity(STATE_IDLE, NULL);
}

/*
 * What a trigger of the owner SET is undone, lest the next batch be read under it.  Deferred
 * triggers still run as the owner.
 */
void
worker_commit(void)
{
	if (ActiveSnapshotSet())
		PopActiveSnapshot();
	AtEOXact_GUC(false, settings_level);
	CommitTransactionCommand();
	become_nobody();
	(void) pgstat_report_stat(false);
}

void
worker_rollback(void)
{
	AbortCurrentTransaction();
	become_nobody();
	(void) pgstat_report_stat(false);
}

ErrorData *
worker_end_failed(MemoryContext context)
{
	ErrorData  *error;

	MemoryContextSwitchTo(context);
	error = CopyErrorData();
	FlushErrorState();
	worker_rollback();
	MemoryContextSwitchTo(context);
	return error;
}

void
worker_end_busy(MemoryContext context)
{
	MemoryContextSwitchTo(context);
	if (geterrcode() != ERRCODE_LOCK_NOT_AVAILABLE)
		PG_RE_THROW();
	FlushErrorState();
	worker_rollback();
}

/* ---------------------------------------------------------------- between transactions */

bool
worker_should_stop(void)
{
	if (ShutdownRequestPending)
		return true;
	CHECK_FOR_INTERRUPTS();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
	return ShutdownRequestPending;
}

void
worker_sleep(int ms, const char *wait_event)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ms,
					 compat_wait_event(wait_event));
	ResetLatch(MyLatch);
}

void
worker_pause(int attempt, const char *wait_event)
{
	double		ms = Min((double) PAUSE_FIRST_MS * (1 << Min(Max(attempt, 0), 10)),
						 PAUSE_LONGEST_MS);

	ms *= 0.75 + 0.5 * pg_prng_double(&pg_global_prng_state);
	worker_sleep((int) ms, wait_event);
}

void
worker_leave(void)
{
	launcher_wake_now();
	proc_exit(0);
}

bool
sqlstate_is_surroundings(int sqlerrcode)
{
	static const char *const classes[] = {
		"08", "25", "40", "42", "53", "55", "57", "58", "XX"
	};
	const char *text = unpack_sql_state(sqlerrcode);
	int			i;

	for (i = 0; i < lengthof(classes); i++)
		if (strncmp(text, classes[i], 2) == 0)
			return true;
	return false;
}

bool
sqlstate_may_be_of_record(int sqlerrcode)
{
	return sqlerrcode == ERRCODE_INTERNAL_ERROR ||
		ERRCODE_TO_CATEGORY(sqlerrcode) == ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION;
}
