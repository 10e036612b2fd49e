/*
 * partition.c
 *		Partitions of a target by time: made when rows need them or soon will.
 *
 * Owns when one is made, and that it is not where somebody else's partition, or a row in the default
 * partition, has the range already.  partition_create.c makes it, partition_retire.c takes it away.
 * Called by source_main.c, outside any transaction.
 *
 * ShareUpdateExclusive, which attaching takes anyway, is taken first, so that what another worker or
 * a person made meanwhile is seen.  The source is locked and read again before anything is done, so
 * that nothing is made once pause_source has returned.
 */
#include "postgres.h"

#include "access/table.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "partition_internal.h"
#include "statement.h"
#include "worker.h"

/* how long making a partition may wait for a lock, and others behind it */
#define LOCK_TIMEOUT_MS 300

/* a partition that is not needed yet is tried again after this, and so often before it is an error */
#define AHEAD_AGAIN_US (5 * USECS_PER_SEC)
#define AHEAD_FAILURES 3

/* one partition to be made, and what came of it */
typedef struct PartitionTask
{
	TimestampTz time;
	TimeRange	range;			/* where rows have a place now */
	bool		in_default;		/* that is the default partition */
} PartitionTask;

/* ---------------------------------------------------------------- making one */

static bool
default_holds_rows(const PartitionModel *model, const TimeRange *range)
{
	if (!OidIsValid(model->default_partition))
		return false;
	run_statement(psprintf("SELECT FROM %s WHERE %s >= %s AND %s < %s LIMIT 1",
						   qualified_name(model->default_partition),
						   model->column_sql, time_range_literal(range->from, model->type),
						   model->column_sql, time_range_literal(range->to, model->type)));
	return SPI_processed > 0;
}

/* the range that the task's time is to have, and the model of its partition; NULL when it has one */
static PartitionModel *
plan(const Source *source, PartitionTask *task)
{
	Relation	target = table_open(source->target, ShareUpdateExclusiveLock);
	PartitionModel *model = NULL;

	task->range = time_range_around(source->partition_interval, partition_time_type(target), task->time);
	if (time_range_cut_to_gap(target, partition_time_type(target), task->time, &task->range))
		model = partition_model(target, task->range.from);
	table_close(target, NoLock);
	return model;
}

static void
make_if_missing(const Source *source, void *argument)
{
	PartitionTask *task = argument;
	PartitionModel *model;

	if (source->partition_interval == NULL)
		return;					/* not any more */
	model = plan(source, task);
	if (model == NULL)
		return;
	task->in_default = default_holds_rows(model, &task->range);
	if (!task->in_default)
		partition_create(model, source->partition_interval, &task->range);
}

/* ---------------------------------------------------------------- short transactions */

/* in a transaction: the pids of those whose locks are in the way, NULL when they have gone meanwhile */
static char *
holders(const Source *source, PartitionLocks locks)
{
	Oid			partition = locks.partition ? *locks.partition : InvalidOid;

	run_statement(psprintf("SELECT string_agg(DISTINCT l.pid::text, ', ') FROM pg_locks l, pg_partitioned_table p "
						   "WHERE p.partrelid = %u AND l.database = %u AND l.granted AND l.pid <> pg_backend_pid() "
						   "AND (l.relation = p.partdefid OR l.relation IN (SELECT relid FROM pg_partition_tree(%u)) "
						   "OR (l.relation = p.partrelid AND (%u <> 0 "
						   "OR l.mode NOT IN ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock'))))",
						   source->target, MyDatabaseId, partition, partition));
	return SPI_processed == 1 ? SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1) : NULL;
}

static char *
name_holders(WorkerSlot *slot, const Source *source, PartitionLocks locks, char *reason)
{
	MemoryContext context = CurrentMemoryContext;
	char	   *volatile named = reason;

	PG_TRY();
	{
		char	   *pids;

		worker_begin(slot);
		if (SPI_connect() != SPI_OK_CONNECT)
			elog(ERROR, "SPI_connect failed");
		pids = holders(source, locks);
		if (pids != NULL)
			named = MemoryContextStrdup(context, psprintf("%s; pid %s is in the way", reason, pids));
		SPI_finish();
		worker_commit();
	}
	PG_CATCH();
	{
		(void) worker_end_failed(context);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	return named;
}

/*
 * The source as it is now, which stands still then.  NULL when it was paused, dropped or moved since:
 * the caller's next look at it sees that, too.  A source that was paused all along is read on request.
 */
static Source *
source_now(WorkerSlot *slot, const Source *source)
{
	Source	   *now;

	catalog_lock(CATALOG_SOURCE, source->id, ShareLock);
	now = catalog_source_by_id(source->id);
	if (now == NULL || (source->enabled && !now->enabled) || now->target != source->target || now->owner != slot->owner)
		return NULL;
	return now;
}

char *
partition_run(WorkerSlot *slot, const Source *source, PartitionLocks locks, PartitionStep step, void *argument)
{
	MemoryContext context = CurrentMemoryContext;
	ErrorData  *volatile error = NULL;
	char	   *reason;

	PG_TRY();
	{
		Source	   *now;

		worker_begin(slot);
		now = source_now(slot, source);
		(void) set_config_option("lock_timeout", psprintf("%dms", locks.timeout_ms), PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
		if (SPI_connect() != SPI_OK_CONNECT)
			elog(ERROR, "SPI_connect failed");
		if (now != NULL)
			step(now, argument);
		SPI_finish();
		worker_commit();
	}
	PG_CATCH();
	{
		error = worker_end_failed(context);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	if (error == NULL)
		return NULL;
	reason = error->detail == NULL ? error->message : psprintf("%s: %s", error->message, error->detail);
	return error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ? name_holders(slot, source, locks, reason) : reason;
}

/* ---------------------------------------------------------------- for the caller */

static void
keep_range(List **ranges, TimeRange range)
{
	TimeRange  *copy = palloc(sizeof(TimeRange));

	*copy = range;
	*ranges = lappend(*ranges, copy);
}

/* once one could not be made, the others are not tried: they would wait as long for the same lock */
static void
settle(WorkerSlot *slot, const Source *source, TimestampTz time, PartitionsMade *made)
{
	PartitionTask task = {.time = time};
	char	   *reason = NULL;

	if (made->reason == NULL)
		reason = partition_run(slot, source, (PartitionLocks) {LOCK_TIMEOUT_MS, NULL}, make_if_missing, &task);
	if (reason != NULL)
		made->reason = reason;
	if (made->reason == NULL && task.range.to > task.range.from)
		keep_range(task.in_default ? &made->in_default : &made->there, task.range);
	else if (made->reason != NULL)
		keep_range(&made->failed, task.range.to > task.range.from ? task.range : (TimeRange) {time, time + 1});
}

void
partitions_make(WorkerSlot *slot, const Source *source, const TimestampTz *times, int n, PartitionsMade *made)
{
	memset(made, 0, sizeof(PartitionsMade));
	if (source->partition_interval == NULL)
		return;
	for (int i = 0; i < n; i++)
		if (!partition_time_is_in(made->there, times[i]) && !partition_time_is_in(made->in_default, times[i]) &&
			!partition_time_is_in(made->failed, times[i]))
			settle(slot, source, times[i], made);
}

bool
partition_is_due(TimestampTz *last)
{
	TimestampTz now = GetCurrentTimestamp();

	if (now - *last < USECS_PER_MINUTE)
		return false;
	*last = now;
	return true;
}

/* a lock that is not to be had just now is no news: it is tried again soon, and rows do not wait for it */
static void
note_ahead(WorkerSlot *slot, const Source *source, const char *reason, TimestampTz *last, int *failures)
{
	if (++*failures < AHEAD_FAILURES)
	{
		*last -= USECS_PER_MINUTE - AHEAD_AGAIN_US;
		return;
	}
	worker_set_error(slot, psprintf("a partition could not be made ahead: %s", reason));
	ereport(LOG,
			(errmsg("source \"%s\" could not make a partition ahead: %s", source->name, reason)));
}

void
partitions_ahead(WorkerSlot *slot, const Source *source, TimestampTz *last, int *failures)
{
	TimestampTz times[2] = {GetCurrentTimestamp()};
	PartitionsMade made;

	if (source->partition_interval == NULL || !partition_is_due(last))
		return;
	times[1] = time_range_around(source->partition_interval, TIMESTAMPTZOID, times[0]).to;
	partitions_make(slot, source, times, 2, &made);
	if (made.reason == NULL)
		*failures = 0;
	else
		note_ahead(slot, source, made.reason, last, failures);
}
