/*
 * stats.c
 *		The shared slots as rows, under the views stat_sources, stat_sinks and stat_rollups.
 *
 * Shows the workers of this database, and only those whose owner the caller may act for: errors can
 * quote the owner's data.  Reads a slot whole, under its mutex, before it makes a row of it.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/pg_lsn.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "catalog.h"
#include "worker_slot.h"

#define STATS_COLUMNS 19

/* the part of a wait event that tells its class */
#define WAIT_EVENT_CLASS 0xFF000000U

PG_FUNCTION_INFO_V1(clickstream_worker_stats);
PG_FUNCTION_INFO_V1(clickstream_rollup_progress);
PG_FUNCTION_INFO_V1(clickstream_copied_because);

static const char *const state_names[] = {
	[WORKER_STARTING] = "starting",
	[WORKER_CONNECTING] = "connecting",
	[WORKER_COPYING] = "copying",
	[WORKER_MENDING] = "mending",
	[WORKER_RUNNING] = "running",
	[WORKER_WAITING] = "waiting",
	[WORKER_STOPPED] = "stopped",
};

/* the row under construction: values in the order of the function's columns */
typedef struct Row
{
	int			n;
	Datum		values[STATS_COLUMNS];
	bool		nulls[STATS_COLUMNS];
} Row;

static void
add(Row *row, Datum value, bool is_null)
{
	Assert(row->n < STATS_COLUMNS);
	row->values[row->n] = value;
	row->nulls[row->n] = is_null;
	row->n++;
}

static void
add_text(Row *row, const char *text)
{
	bool		is_null = text[0] == '\0';

	add(row, is_null ? (Datum) 0 : CStringGetTextDatum(text), is_null);
}

static void
add_time(Row *row, TimestampTz moment)
{
	add(row, TimestampTzGetDatum(moment), moment == 0);
}

/*
 * Who holds up a worker that waits for a lock, which is also how the start of a replication slot
 * waits for older transactions.
 */
static char *
held_up_by(pid_t pid)
{
	PGPROC	   *process = pid != 0 ? BackendPidGetProc(pid) : NULL;
	ArrayType  *pids;
	Datum	   *blockers;
	int			n;

	if (process == NULL || (process->wait_event_info & WAIT_EVENT_CLASS) != PG_WAIT_LOCK)
		return NULL;
	pids = DatumGetArrayTypeP(DirectFunctionCall1(pg_blocking_pids, Int32GetDatum(pid)));
	deconstruct_array(pids, INT4OID, sizeof(int32), true, TYPALIGN_INT, &blockers, NULL, &n);
	if (n == 0)
		return NULL;
	return psprintf("waits for the transaction of process %d to end", DatumGetInt32(blockers[0]));
}

static void
put_worker(ReturnSetInfo *result, const WorkerSlot *slot)
{
	Row			row = {0};
	char	   *waits = held_up_by(slot->pid);

	add_text(&row, worker_kind_name(slot->kind));
	add(&row, Int32GetDatum(slot->object_id), false);
	add(&row, Int32GetDatum(slot->worker_no), false);
	add(&row, Int32GetDatum(slot->pid), false);
	add_text(&row, state_names[slot->state]);
	add_text(&row, waits ? waits : slot->detail);
	add(&row, Int64GetDatum(slot->batches), false);
	add(&row, Int64GetDatum(slot->lag), slot->lag < 0);
	add_time(&row, slot->last_commit_at);
	add_text(&row, slot->last_error);
	add_time(&row, slot->last_error_at);
	add(&row, Int64GetDatum(slot->documents), false);
	add(&row, Int64GetDatum(slot->deletes), false);
	add(&row, Int64GetDatum(slot->failures), false);
	add(&row, Int64GetDatum(slot->retries), false);
	add(&row, Int64GetDatum(slot->skipped), false);
	add(&row, LSNGetDatum(slot->acknowledged), XLogRecPtrIsInvalid(slot->acknowledged));
	add_time(&row, slot->oldest_commit);
	add_time(&row, slot->current_until);
	tuplestore_putvalues(result->setResult, result->setDesc, row.values, row.nulls);
}

/* a row of each slot of this database that is shown, whose owner the caller may act for; read whole, before */
static void
put_rows(FunctionCallInfo fcinfo, bool (*is_shown) (const WorkerSlot *slot),
		 void (*put) (ReturnSetInfo *result, const WorkerSlot *slot))
{
	WorkerSlot *copy = palloc(sizeof(WorkerSlot));
	int			count;
	WorkerSlot *slots = worker_slots(&count);
	int			i;

	InitMaterializedSRF(fcinfo, 0);
	for (i = 0; i < count; i++)
	{
		SpinLockAcquire(&slots[i].mutex);
		memcpy(copy, &slots[i], sizeof(WorkerSlot));
		SpinLockRelease(&slots[i].mutex);

		if (is_shown(copy) && copy->database == MyDatabaseId &&
			has_privs_of_role(GetUserId(), copy->next_owner))
			put((ReturnSetInfo *) fcinfo->resultinfo, copy);
	}
}

static bool
is_in_use(const WorkerSlot *slot)
{
	return slot->kind != WORKER_NONE;
}

Datum
clickstream_worker_stats(PG_FUNCTION_ARGS)
{
	put_rows(fcinfo, is_in_use, put_worker);
	return (Datum) 0;
}

/* ---------------------------------------------------------------- rollups that are being filled */

static bool
is_of_rollup(const WorkerSlot *slot)
{
	return slot->kind == WORKER_ROLLUP;
}

static void
put_rollup(ReturnSetInfo *result, const WorkerSlot *slot)
{
	Row			row = {0};

	add(&row, Int32GetDatum(slot->object_id), false);
	add(&row, Int32GetDatum(slot->pid), false);
	add_text(&row, slot->detail);
	add_time(&row, slot->begun_at);
	add(&row, Int64GetDatum(slot->blocks_done), false);
	add(&row, Int64GetDatum(slot->blocks_total), false);
	add(&row, Int64GetDatum(slot->groups_done), false);
	add(&row, Int64GetDatum(slot->groups_total), false);
	add_text(&row, slot->last_error);
	add_time(&row, slot->last_error_at);
	tuplestore_putvalues(result->setResult, result->setDesc, row.values, row.nulls);
}

Datum
clickstream_rollup_progress(PG_FUNCTION_ARGS)
{
	put_rows(fcinfo, is_of_rollup, put_rollup);
	return (Datum) 0;
}

/* ---------------------------------------------------------------- copies */

/* a copy is shown as paused from its first moment on, before a scout has paused it */
Datum
clickstream_copied_because(PG_FUNCTION_ARGS)
{
	char	   *because = catalog_copied_because(text_to_cstring(PG_GETARG_TEXT_PP(0)),
												text_to_cstring(PG_GETARG_TEXT_PP(1)),
												(uint64) PG_GETARG_INT64(2), PG_GETARG_OID(3));

	if (because == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(because));
}
