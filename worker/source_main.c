/*
 * source_main.c
 *		The life of a source worker: fetch -> decode -> write -> delta -> offsets -> commit.
 *
 * Owns the loop, and what happens when a batch fails: it is tried again as it is, at once and with
 * care when a record may be at fault, after a pause when the surroundings are.  The consumer moves
 * on after the commit of a batch and only then.  The transaction itself is in source_batch.c, the
 * source as it is at the moment in source_now.c.
 */
#include "postgres.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "access/xact.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/ps_status.h"
#include "utils/timestamp.h"

#include "dead_letter.h"
#include "duration.h"
#include "partition.h"
#include "source_worker.h"

/* what a batch's records may take of memory */
#define MOST_BATCH_BYTES (28 * 1024 * 1024)

/* how often ps and pg_stat_activity are told */
#define REPORT_EVERY_US USECS_PER_SEC

/* how often partitions are made for the same batch without a pause */
#define MOST_PARTITION_TRIES 3

/* options that librdkafka refuses are tried so often by one process: it keeps what it was told each time */
#define MOST_OPENINGS 20

extern PGDLLEXPORT void clickstream_source_main(Datum main_arg);

/* ---------------------------------------------------------------- a batch */

/* unless some rows still wait for a partition, while others went on */
static void
note_going_on(SourceWorker *worker)
{
	if (!worker->waiting || worker->held_until > GetCurrentTimestamp())
		return;
	consumer_tell_state(worker->consumer);
	ereport(LOG,
			(errmsg("source \"%s\" goes on", worker->source->name)));
	worker->waiting = false;
}

static void
note_commit(SourceWorker *worker)
{
	WorkerSlot *slot = worker->slot;
	TimestampTz now = GetCurrentTimestamp();

	SpinLockAcquire(&slot->mutex);
	slot->last_commit_at = now;
	slot->batches += worker->batch.n > 0 ? 1 : 0;
	SpinLockRelease(&slot->mutex);
	worker->failures = 0;
	source_batch_forget(worker);
	consumer_committed(worker->consumer);
	note_going_on(worker);
}

/* ---------------------------------------------------------------- when it fails */

/* about six seconds: what is mended soon makes no dead letter */
#define TRIES_BEFORE_SUSPICION 6

/* nothing has moved; says why, once, and waits longer each time */
static void
wait_for_surroundings(SourceWorker *worker, const char *reason)
{
	source_leave_if_obsolete(worker);
	source_tell_waiting(worker, reason);
	worker_pause(worker->failures++, "ClickstreamSourceRetry");
}

static void
take_failure(SourceWorker *worker, ErrorData *error)
{
	if (!sqlstate_is_surroundings(error->sqlerrcode) && worker->batch.n > 0 &&
		!worker->care.savepoints)
	{
		writer_learn(&worker->care, error->sqlerrcode);
		return;
	}
	if (worker->failures >= TRIES_BEFORE_SUSPICION && worker->batch.n > 0 &&
		sqlstate_may_be_of_record(error->sqlerrcode))
		writer_suspect(&worker->care);
	wait_for_surroundings(worker, error->detail ?
						  psprintf("%s: %s", error->message, error->detail) : error->message);
}

static void
make_partitions(SourceWorker *worker)
{
	if (worker->partition_tries++ >= MOST_PARTITION_TRIES)
		wait_for_surroundings(worker,
							  "partitions that were made are gone again before rows came in");
	else
		source_make_partitions(worker);
}

static void
write_round(SourceWorker *worker)
{
	volatile RoundResult result = ROUND_REWIND;
	ErrorData  *volatile error = NULL;

	PG_TRY();
	{
		result = source_batch_run(worker);
	}
	PG_CATCH();
	{
		error = worker_end_failed(worker->round_memory);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(worker->round_memory);
	if (error != NULL)
		take_failure(worker, error);
	else if (result == ROUND_PARTITIONS)
		make_partitions(worker);
	else if (result == ROUND_COMMITTED)
		note_commit(worker);
}

/* ---------------------------------------------------------------- a round without records */

/*
 * paused, altered, dropped, moved, or a connection with other options: noticed also when nothing
 * comes
 */
static void
look_around(SourceWorker *worker)
{
	ErrorData  *volatile error = NULL;

	PG_TRY();
	{
		List	   *offsets;

		source_begin(worker);
		offsets = catalog_offsets(worker->source->name);
		if (!consumer_agrees(worker->consumer, offsets))
			consumer_rewind(worker->consumer, offsets);
		source_count_messages(worker, offsets);
		worker_commit();
	}
	PG_CATCH();
	{
		error = worker_end_failed(worker->round_memory);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(worker->round_memory);
	if (error != NULL)
		wait_for_surroundings(worker, error->message);
	else
		note_going_on(worker);
}

/* ---------------------------------------------------------------- what can be seen of it */

/* 1234567 as 1,234,567 */
static char *
grouped(int64 number)
{
	return number < 1000 ? psprintf(INT64_FORMAT, number) :
		psprintf("%s,%03d", grouped(number / 1000), (int) (number % 1000));
}

/* ps and pg_stat_activity say what the worker is at: now and then, for it costs system calls */
static void
report_progress(SourceWorker *worker)
{
	TimestampTz now = GetCurrentTimestamp();
	int64		lag;
	WorkerState state;
	char	   *progress;

	if (now - worker->reported_at < REPORT_EVERY_US)
		return;
	worker->reported_at = now;
	SpinLockAcquire(&worker->slot->mutex);
	lag = worker->slot->lag;
	state = worker->slot->state;
	SpinLockRelease(&worker->slot->mutex);
	progress = psprintf("%s messages, lag %s%s", grouped(worker->n_messages), lag < 0 ? "unknown" : grouped(lag),
						state == WORKER_WAITING ? ", waiting" : state == WORKER_CONNECTING ? ", connecting" :
						state == WORKER_STOPPED ? ", stopped" : "");
	set_ps_display(progress);
	pgstat_report_activity(STATE_IDLE, psprintf("source %s: %s", worker->source->name, progress));
}

/* ---------------------------------------------------------------- the worker */

static void
run_round(SourceWorker *worker)
{
	rd_kafka_message_t **messages;
	const int32 *slots;
	int			wait_ms = (int) Max(1, Min(duration_us(worker->source->max_batch_wait) / 1000, 600000));
	int			n = consumer_fetch(worker->consumer, &messages, &slots, worker->source->max_batch_rows,
								   MOST_BATCH_BYTES, wait_ms);

	if (n > 0 || consumer_has_news(worker->consumer))
	{
		source_batch_take(worker, messages, slots, n);
		write_round(worker);
	}
	else
		look_around(worker);
	MemoryContextSwitchTo(worker->round_memory);
	report_progress(worker);
	if (worker->slot->worker_no == 0)
	{
		partitions_ahead(worker->slot, worker->source, &worker->ahead_at, &worker->ahead_failures);
		partitions_retire(worker->slot, worker->source, &worker->retired_at, &worker->retire_failures);
		dead_letters_expire(worker->slot, worker->source);
	}
}

static void
open_source(SourceWorker *worker)
{
	List	   *offsets;
	MemoryContext outer;

	source_begin(worker);
	if (GetDatabaseEncoding() != PG_UTF8)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("source \"%s\" needs a database with encoding UTF8",
						worker->source->name)));
	offsets = catalog_offsets(worker->source->name);
	if (worker->consumer == NULL)
	{
		outer = MemoryContextSwitchTo(worker->memory);
		worker->options = copyObject(source_options(worker));
		MemoryContextSwitchTo(outer);
		worker->consumer = consumer_open(worker->slot, worker->source, worker->options, offsets);
	}
	else
		consumer_rewind(worker->consumer, offsets); /* the commit failed after it was opened */
	worker_commit();
}

/* tries until the source can be read and its connection opened */
static bool
start(SourceWorker *worker)
{
	while (!worker_should_stop())
	{
		ErrorData  *volatile error = NULL;

		PG_TRY();
		{
			open_source(worker);
		}
		PG_CATCH();
		{
			error = worker_end_failed(worker->round_memory);
		}
		PG_END_TRY();
		MemoryContextSwitchTo(worker->round_memory);
		if (error == NULL && worker->consumer != NULL)
			return true;
		if (error != NULL)
			wait_for_surroundings(worker, error->message);
		else if (worker->failures >= MOST_OPENINGS)
			worker_leave();
		else
			worker_pause(worker->failures++, "ClickstreamSourceRetry");
	}
	return false;
}

/*
 * A batch asks for the same memory as the one before.  Given back to the system and asked for anew it would
 * come a page at a time, emptied each time; some aggregates even take and free 128 kB for each group.
 */
static void
keep_freed_memory(void)
{
#ifdef M_MMAP_THRESHOLD
	mallopt(M_MMAP_THRESHOLD, 4 * 1024 * 1024);
	mallopt(M_TRIM_THRESHOLD, 64 * 1024 * 1024);
#endif
}

void
clickstream_source_main(Datum main_arg)
{
	SourceWorker worker = {.slot = worker_attach(main_arg)};

	worker.memory = AllocSetContextCreate(TopMemoryContext, "clickstream source worker",
										  ALLOCSET_DEFAULT_SIZES);
	worker.batch_memory = AllocSetContextCreate(worker.memory, "clickstream batch",
												ALLOCSET_DEFAULT_SIZES);
	worker.round_memory = AllocSetContextCreate(worker.memory, "clickstream round",
												ALLOCSET_DEFAULT_SIZES);
	worker.default_memory = AllocSetContextCreate(worker.memory, "clickstream default partition",
												  ALLOCSET_SMALL_SIZES);
	MemoryContextSwitchTo(worker.round_memory);

	/* offsets are lost with the rows they count: no commit has to wait for the disk */
	SetConfigOption("synchronous_commit", "off", PGC_SUSET, PGC_S_OVERRIDE);
	keep_freed_memory();

	if (start(&worker))
		while (!worker_should_stop())
		{
			MemoryContextReset(worker.round_memory);
			MemoryContextSwitchTo(worker.round_memory);
			run_round(&worker);
		}
	proc_exit(0);
}
