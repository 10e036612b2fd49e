/*
 * source_main.c
 *		The life of a source worker: fetch -> decode -> write -> delta -> offsets -> commit.
 *
 * Owns the transaction of a batch and what happens when it fails.  Rows, dead letters, rollups and
 * offsets are one commit; the consumer moves on after it and only then.  A batch that failed is
 * tried again as it is: at once and with care when a record may be at fault, after a pause when the
 * surroundings are.
 *
 * The row of clickstream.sources is locked and read again in each transaction.  What changed is
 * adopted where that is easy (numbers and intervals); for anything else the worker leaves, and the
 * launcher starts another one.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/rls.h"
#include "utils/timestamp.h"

#include "batch.h"
#include "catalog.h"
#include "connection.h"
#include "consumer.h"
#include "dead_letter.h"
#include "duration.h"
#include "launcher.h"
#include "partition.h"
#include "read_only.h"
#include "rollup_delta.h"
#include "worker.h"
#include "writer.h"

/* what a batch's records may take of memory */
#define MOST_BATCH_BYTES (28 * 1024 * 1024)

/* how long a worker stays that may not write */
#define READ_ONLY_MS 2000

/* how often partitions are made for the same batch without a pause */
#define MOST_PARTITION_TRIES 3

extern PGDLLEXPORT void clickstream_source_main(Datum main_arg);

/* what a worker keeps; lives as long as the process */
typedef struct SourceWorker
{
	WorkerSlot *slot;
	MemoryContext memory;		/* with the worker */
	MemoryContext source_memory;	/* of `source`, replaced with it */
	MemoryContext batch_memory; /* with the batch */
	MemoryContext round_memory; /* with one round of the loop */
	Source	   *source;
	List	   *options;		/* of its connection */
	Consumer   *consumer;
	DecodePlan *plan;
	RollupSet  *rollups;
	Oid			rollups_of;		/* the target they are of */

	Batch		batch;
	WriterCare	care;			/* that the last batches have needed */
	TimestampTz *missing;		/* times whose partitions the batch waits for */
	int			n_missing;
	bool		default_is_fine;	/* they are as good as made */
	int			partition_tries;	/* how often the batch came back for partitions */
	int			failures;		/* in a row, of the surroundings */
	bool		waiting;		/* said so in state and log */
} SourceWorker;

/* how a round's transaction ended */
typedef enum RoundResult
{
	ROUND_COMMITTED,
	ROUND_REWIND,				/* the offsets in the table are others: seek_source */
	ROUND_PARTITIONS			/* rows wait for partitions */
} RoundResult;

/* ---------------------------------------------------------------- the source as it is now */

static bool
same_text(const char *a, const char *b)
{
	return strcmp(a, b) == 0;
}

static bool
same_partitions(const Source *a, const Source *b)
{
	if ((a->partitions == NULL) != (b->partitions == NULL) || a->n_partitions != b->n_partitions)
		return false;
	return a->n_partitions == 0 ||
		memcmp(a->partitions, b->partitions, sizeof(int32) * a->n_partitions) == 0;
}

static bool
same_topics(List *a, List *b)
{
	ListCell   *x,
			   *y;

	if (list_length(a) != list_length(b))
		return false;
	forboth(x, a, y, b)
	{
		if (strcmp(lfirst(x), lfirst(y)) != 0)
			return false;
	}
	return true;
}

/* whether this worker, as it was started, can go on with the source as it is now */
static bool
can_go_on(const SourceWorker *worker, const Source *now)
{
	const Source *before = worker->source;

	return now != NULL && now->enabled && now->owner == worker->slot->owner &&
		now->workers == worker->slot->n_workers &&
		catalog_is_here(now->system_identifier, now->database) &&
		(before == NULL ||
		 (same_text(before->server, now->server) && same_topics(before->topics, now->topics) &&
		  same_text(before->name, now->name) && same_partitions(before, now)));
}

/* in a transaction: ends the process for the launcher to start what is wanted now */
static void
leave(void)
{
	worker_commit();
	launcher_wake_now();
	proc_exit(0);
}

static void
keep_source(SourceWorker *worker)
{
	MemoryContext context = AllocSetContextCreate(CurTransactionContext, "clickstream source",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext outer = MemoryContextSwitchTo(context);
	Source	   *source = catalog_source_by_id(worker->slot->object_id);

	MemoryContextSwitchTo(outer);
	if (!can_go_on(worker, source))
		leave();
	if (worker->source_memory != NULL)
		MemoryContextDelete(worker->source_memory);
	MemoryContextSetParent(context, worker->memory);
	worker->source_memory = context;
	worker->source = source;
}

static bool
same_options(List *a, List *b)
{
	ListCell   *x,
			   *y;

	if (list_length(a) != list_length(b))
		return false;
	forboth(x, a, y, b)
	{
		DefElem    *one = lfirst_node(DefElem, x),
				   *other = lfirst_node(DefElem, y);

		if (!same_text(one->defname, other->defname) ||
			!same_text(strVal(one->arg), strVal(other->arg)))
			return false;
	}
	return true;
}

static List *
read_options(SourceWorker *worker)
{
	return connection_options(worker->source->server, CONNECTION_KAFKA, worker->slot->owner);
}

/*
 * default_transaction_read_only pauses a source.  What ALTER DATABASE says of it reaches a session
 * at its start only: so after a while the worker leaves, and the next one looks again.
 */
static void
pause_while_read_only(SourceWorker *worker)
{
	if (!DefaultXactReadOnly && !read_only_by_alter(worker->slot->owner))
		return;
	worker_commit();
	worker_set_state(worker->slot, WORKER_WAITING, "default_transaction_read_only is on");
	worker_sleep(READ_ONLY_MS, "ClickstreamSourceReadOnly");
	launcher_wake_now();
	proc_exit(0);
}

/*
 * begins a transaction in which the source stands still: pause, alter, seek and drop wait for its
 * end
 */
static void
begin_with_source(SourceWorker *worker)
{
	/* while partitions are shared out anew, the source's other workers stand still, too */
	bool		alone = worker->consumer != NULL && consumer_shares_out(worker->consumer);

	worker_begin(worker->slot);
	catalog_lock(CATALOG_SOURCE, worker->slot->object_id, alone ? ExclusiveLock : ShareLock);
	keep_source(worker);
	pause_while_read_only(worker);
}

/* ---------------------------------------------------------------- rules for rows */

static TimestampTz
now_and(const Interval *interval, bool ahead, TimestampTz otherwise)
{
	PGFunction	add = ahead ? timestamptz_pl_interval : timestamptz_mi_interval;

	if (interval == NULL)
		return otherwise;
	return DatumGetTimestampTz(DirectFunctionCall2(add, TimestampTzGetDatum(GetCurrentTimestamp()),
												   PointerGetDatum(interval)));
}

static bool
default_is_fine(void *argument, TimestampTz time)
{
	return ((SourceWorker *) argument)->default_is_fine;
}

static WriterRules
rules_of(SourceWorker *worker)
{
	WriterRules rules = {
		.source = worker->source->name,
		.oldest = now_and(worker->source->retention, false, DT_NOBEGIN),
		.newest = now_and(worker->source->max_future, true, DT_NOEND),
		.on_conflict = writer_conflict_of(worker->source->on_conflict),
		.may_use_default = worker->source->partition_interval != NULL ? default_is_fine : NULL,
		.argument = worker,
	};

	return rules;
}

static Relation
open_target(SourceWorker *worker)
{
	Relation	target = try_table_open(worker->source->target, RowExclusiveLock);

	if (target == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("the table of source \"%s\" does not exist any more", worker->source->name),
				 errhint("Run clickstream.drop_source, and create it again with another target.")));
	if (pg_class_aclcheck(RelationGetRelid(target), worker->slot->owner, ACL_INSERT) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE, RelationGetRelationName(target));
	if (check_enable_rls(RelationGetRelid(target), worker->slot->owner, true) == RLS_ENABLED)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" forces row security on its owner, which a source cannot apply",
						RelationGetRelationName(target)),
				 errhint("Run ALTER TABLE ... NO FORCE ROW LEVEL SECURITY.")));
	return target;
}

/* plan and rollups are kept from batch to batch, and made anew when the table is another */
static void
prepare_for(SourceWorker *worker, Relation target)
{
	MemoryContext outer = MemoryContextSwitchTo(worker->memory);

	if (worker->plan != NULL && !decode_plan_fits(worker->plan, target, worker->source->columns))
	{
		decode_plan_free(worker->plan);
		worker->plan = NULL;
	}
	if (worker->plan == NULL)
		worker->plan = decode_plan_build(target, worker->source->columns);
	if (worker->rollups != NULL && worker->rollups_of != RelationGetRelid(target))
	{
		rollup_set_close(worker->rollups);
		worker->rollups = NULL;
	}
	if (worker->rollups == NULL)
		worker->rollups = rollup_set_open(RelationGetRelid(target));
	else
		rollup_set_refresh(worker->rollups);
	worker->rollups_of = RelationGetRelid(target);
	MemoryContextSwitchTo(outer);
}

/* ---------------------------------------------------------------- a batch */

static void
take_batch(SourceWorker *worker, rd_kafka_message_t **messages, const int32 *slots, int n)
{
	if (worker->batch.n == n && worker->batch.messages == messages && n > 0)
		return;					/* the one that is tried again */
	MemoryContextReset(worker->batch_memory);
	memset(&worker->batch, 0, sizeof(Batch));
	worker->batch.n = n;
	worker->batch.messages = messages;
	worker->batch.memory = worker->batch_memory;
	worker->batch.outcome = MemoryContextAllocZero(worker->batch_memory, Max(n, 1));
	worker->batch.slots = slots;
	worker->default_is_fine = false;
	worker->partition_tries = 0;
}

static void
forget_batch(SourceWorker *worker)
{
	worker->batch.n = 0;
	worker->batch.messages = NULL;
}

/*
 * rows, dead letters and skips of each partition; records of one come in a row more often than
 * not
 */
static void
count_outcomes(SourceWorker *worker)
{
	const Batch *batch = &worker->batch;
	SourceOffset *offset = NULL;

	for (int i = 0; i < batch->n; i++)
	{
		if (i == 0 || batch->slots[i] != batch->slots[i - 1])
			offset = consumer_offset(worker->consumer, batch->slots[i]);
		switch (batch->outcome[i])
		{
			case RECORD_ROW:
				offset->rows++;
				break;
			case RECORD_DEAD_LETTER:
				offset->dead_letters++;
				break;
			case RECORD_SKIPPED:
				offset->skipped++;
				break;
			default:
				elog(ERROR, "record %d of a batch has no outcome", i);
		}
	}
}

/* false when partitions are missing: their times are in worker->missing then */
static bool
write_batch(SourceWorker *worker)
{
	Relation	target = open_target(worker);
	WriterRules rules = rules_of(worker);
	Writer	   *writer;

	prepare_for(worker, target);
	writer = writer_open(target, worker->plan, &rules, worker->rollups);
	if (!writer_write(writer, &worker->batch, &worker->care))
	{
		const TimestampTz *times = writer_missing(writer, &worker->n_missing);

		worker->missing = MemoryContextAllocHuge(worker->batch_memory,
												 sizeof(TimestampTz) * worker->n_missing);
		memcpy(worker->missing, times, sizeof(TimestampTz) * worker->n_missing);
		return false;
	}
	writer_close(writer);
	table_close(target, NoLock);
	dead_letters_save(worker->source->name, &worker->batch);
	return true;
}

static RoundResult
run_transaction(SourceWorker *worker)
{
	List	   *offsets;

	begin_with_source(worker);
	offsets = catalog_offsets(worker->source->name);
	if (!consumer_agrees(worker->consumer, offsets))
	{
		MemoryContext outer = CurrentMemoryContext;

		forget_batch(worker);
		consumer_rewind(worker->consumer, offsets);
		MemoryContextSwitchTo(outer);
		worker_commit();
		return ROUND_REWIND;
	}
	if (worker->batch.n > 0)
	{
		if (!write_batch(worker))
		{
			worker_rollback();
			return ROUND_PARTITIONS;
		}
		count_outcomes(worker);
	}
	catalog_offsets_save(worker->source->name,
						 consumer_record(worker->consumer, worker->source->name, offsets));
	worker_commit();
	return ROUND_COMMITTED;
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
	if (worker->waiting)
	{
		worker_set_state(slot, WORKER_RUNNING, NULL);
		ereport(LOG,
				(errmsg("source \"%s\" goes on", worker->source->name)));
	}
	worker->waiting = false;
	worker->failures = 0;
	forget_batch(worker);
	consumer_committed(worker->consumer);
}

/* ---------------------------------------------------------------- when it fails */

/* nothing has moved; says why, once, and waits longer each time */
static void
wait_for_surroundings(SourceWorker *worker, const char *reason)
{
	worker_set_error(worker->slot, reason);
	worker_set_state(worker->slot, WORKER_WAITING, reason);
	if (!worker->waiting)
		ereport(LOG,
				(errmsg("source \"%s\" waits: %s", worker->source ? worker->source->name : "?",
						reason)));
	worker->waiting = true;
	worker_pause(worker->failures++, "ClickstreamSourceRetry");
}

/* the error in hand, outside a transaction then */
static ErrorData *
end_failed_transaction(SourceWorker *worker)
{
	ErrorData  *error;

	MemoryContextSwitchTo(worker->round_memory);
	error = CopyErrorData();
	FlushErrorState();
	worker_rollback();
	MemoryContextSwitchTo(worker->round_memory);
	return error;
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
	wait_for_surroundings(worker, error->detail ?
						  psprintf("%s: %s", error->message, error->detail) : error->message);
}

static void
make_partitions(SourceWorker *worker)
{
	char	   *reason;

	if (worker->partition_tries++ >= MOST_PARTITION_TRIES)
		wait_for_surroundings(worker,
							  "partitions that were made are gone again before rows came in");
	else if (partitions_make(worker->slot, worker->source, worker->missing, worker->n_missing,
							 &reason))
		worker->default_is_fine = true;
	else
		wait_for_surroundings(worker, reason);
}

static void
write_round(SourceWorker *worker)
{
	volatile RoundResult result = ROUND_REWIND;
	ErrorData  *volatile error = NULL;

	PG_TRY();
	{
		result = run_transaction(worker);
	}
	PG_CATCH();
	{
		error = end_failed_transaction(worker);
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

		begin_with_source(worker);
		if (!same_options(worker->options, read_options(worker)))
			leave();
		offsets = catalog_offsets(worker->source->name);
		if (!consumer_agrees(worker->consumer, offsets))
			consumer_rewind(worker->consumer, offsets);
		worker_commit();
	}
	PG_CATCH();
	{
		error = end_failed_transaction(worker);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(worker->round_memory);
	if (error != NULL)
		wait_for_surroundings(worker, error->message);
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
		take_batch(worker, messages, slots, n);
		write_round(worker);
	}
	else
		look_around(worker);
	MemoryContextSwitchTo(worker->round_memory);
	if (worker->slot->worker_no == 0)
	{
		partitions_ahead(worker->slot, worker->source);
		partitions_retire(worker->slot, worker->source);
	}
}

static void
open_source(SourceWorker *worker)
{
	List	   *offsets;
	MemoryContext outer;

	begin_with_source(worker);
	if (GetDatabaseEncoding() != PG_UTF8)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("source \"%s\" needs a database with encoding UTF8",
						worker->source->name)));
	outer = MemoryContextSwitchTo(worker->memory);
	worker->options = copyObject(read_options(worker));
	MemoryContextSwitchTo(outer);
	offsets = catalog_offsets(worker->source->name);
	worker->consumer = consumer_open(worker->slot, worker->source, worker->options, offsets);
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
			error = end_failed_transaction(worker);
		}
		PG_END_TRY();
		MemoryContextSwitchTo(worker->round_memory);
		if (error == NULL && worker->consumer != NULL)
			return true;
		if (error != NULL)
			wait_for_surroundings(worker, error->message);
		else
			worker_pause(worker->failures++, "ClickstreamSourceRetry");
	}
	return false;
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
	MemoryContextSwitchTo(worker.round_memory);

	/* offsets are lost with the rows they count: no commit has to wait for the disk */
	SetConfigOption("synchronous_commit", "off", PGC_SUSET, PGC_S_OVERRIDE);

	if (start(&worker))
		while (!worker_should_stop())
		{
			MemoryContextReset(worker.round_memory);
			MemoryContextSwitchTo(worker.round_memory);
			run_round(&worker);
		}
	proc_exit(0);
}
