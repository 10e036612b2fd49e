/*
 * inquiry_replay.c
 *		The inquiry "replay": the dead letters of a source once more, after their cause was mended.
 *
 * Request: {"source": 5}, and {"letters": [1, 2]} when only these are meant, by their ids in order.  Answer:
 * how many became rows.  All of it is one transaction, with
 * the source locked: letters that pass become rows and changes of rollups, are deleted, and move from
 * one counter to the other; those that fail again stay and say why.  Partitions that are missing are
 * made in transactions of their own, as the source's worker makes them, and the replay begins again.
 */
#include "postgres.h"

#include "access/table.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "batch.h"
#include "decode.h"
#include "inquiry_source.h"
#include "partition.h"
#include "rollup_delta.h"
#include "writer.h"

/* each try makes the partitions that it found missing: so many tries without end are no progress */
#define MOST_TRIES 1000

typedef struct Replay
{
	InquirySource inquired;
	Source	   *source;			/* of this try */
	List	   *offsets;		/* of SourceOffset * */
	Writer	   *writer;
	MemoryContext portion;		/* letters that are in work */
	int64	   *only;			/* ids in order; NULL: all of the source */
	int			n_only;
	int			at_only;		/* the first that was not looked at */
	int64		last_id;
	int64		rows;
} Replay;

static void
make_batch(Batch *batch, List *letters)
{
	Record	   *records = palloc0(sizeof(Record) * list_length(letters));
	ListCell   *cell;

	memset(batch, 0, sizeof(*batch));
	foreach(cell, letters)
	{
		const DeadLetter *letter = &((StoredLetter *) lfirst(cell))->letter;

		records[batch->n++] = (Record) {
			.topic = letter->topic,
			.partition = letter->partition,
			.offset = letter->offset,
			.key = letter->key,
			.key_length = letter->key_length,
			.value = letter->value,
			.value_length = letter->value_length,
			.time = letter->timestamp,
			.headers = letter->headers,
		};
	}
	batch->records = records;
	batch->outcome = palloc0(batch->n);
	batch->memory = CurrentMemoryContext;
}

static void
count_passed(Replay *replay, const Record *record, RecordOutcome outcome)
{
	ListCell   *cell;

	foreach(cell, replay->offsets)
	{
		SourceOffset *offset = lfirst(cell);

		if (offset->partition != record->partition || strcmp(offset->topic, record->topic) != 0)
			continue;
		offset->dead_letters--;
		if (outcome == RECORD_ROW)
			offset->rows++;
		else
			offset->skipped++;
		offset->changed = true;
	}
	if (outcome == RECORD_ROW)
		replay->rows++;
}

static void
settle_letters(Replay *replay, const Batch *batch, List *letters)
{
	int64	   *ids = palloc(sizeof(int64) * batch->n);
	int			n = 0;

	for (int i = 0; i < batch->n; i++)
	{
		if (batch->outcome[i] == RECORD_DEAD_LETTER)
			continue;
		ids[n++] = ((StoredLetter *) list_nth(letters, i))->id;
		count_passed(replay, &batch->records[i], batch->outcome[i]);
	}
	catalog_dead_letters_delete(ids, n);
	for (int i = 0; i < batch->n_faults; i++)
	{
		const RecordFault *fault = &batch->faults[i];

		if (batch->outcome[fault->record] == RECORD_DEAD_LETTER)
			catalog_dead_letter_fault(((StoredLetter *) list_nth(letters, fault->record))->id,
									  fault->fault.sqlstate, fault->fault.message);
	}
}

/* false when rows need partitions that are not there */
static bool
replay_portion(Replay *replay, List *letters)
{
	Batch		batch;
	WriterCare	care = {.savepoints = true, .look_first = true, .sieve = true};

	make_batch(&batch, letters);
	if (!writer_write(replay->writer, &batch, &care))
		return false;
	settle_letters(replay, &batch, letters);
	replay->last_id = ((StoredLetter *) llast(letters))->id;
	while (replay->at_only < replay->n_only && replay->only[replay->at_only] <= replay->last_id)
		replay->at_only++;
	return true;
}

/* of the ids that are asked for some may be gone */
static List *
next_letters(Replay *replay)
{
	List	   *letters = NIL;

	if (replay->only == NULL)
		return catalog_dead_letters_lock(replay->source->name, replay->last_id, NULL, 0);
	while (letters == NIL && replay->at_only < replay->n_only)
	{
		letters = catalog_dead_letters_lock(replay->source->name, replay->last_id,
											replay->only + replay->at_only,
											replay->n_only - replay->at_only);
		if (letters == NIL)
			replay->at_only += CATALOG_LETTERS_AT_ONCE;
	}
	return letters;
}

static bool
replay_all(Replay *replay)
{
	bool		complete = true;

	while (complete)
	{
		MemoryContext outer = MemoryContextSwitchTo(replay->portion);
		List	   *letters;

		MemoryContextReset(replay->portion);
		letters = next_letters(replay);
		if (letters != NIL)
			complete = replay_portion(replay, letters);
		MemoryContextSwitchTo(outer);
		CHECK_FOR_INTERRUPTS();
		if (letters == NIL)
			break;
	}
	return complete;
}

/* in the first try no partition was tried to be made yet; after that the default one may have to do */
static bool
default_after_first_try(void *first_try, TimestampTz time)
{
	return !*(bool *) first_try;
}

/* the times that need partitions, in memory that outlives the transaction */
static TimestampTz *
copy_missing(const Writer *writer, MemoryContext memory, int *n)
{
	const int  *records;
	const TimestampTz *times = writer_missing(writer, &records, n);
	TimestampTz *copy = MemoryContextAlloc(memory, sizeof(TimestampTz) * Max(*n, 1));

	memcpy(copy, times, sizeof(TimestampTz) * *n);
	return copy;
}

/* in its transaction; NULL when all is written, else the times that need partitions */
static TimestampTz *
replay_once(Replay *replay, bool first_try, MemoryContext memory, int *n_missing)
{
	const Source *source = replay->source;
	Relation	target = table_open(source->target, RowExclusiveLock);
	WriterRules rules = writer_rules_of(source);
	DecodePlan *plan = decode_plan_build(target, source->columns);
	RollupSet  *rollups = rollup_set_open(source->target);
	TimestampTz *missing = NULL;

	if (source->partition_interval != NULL)
	{
		rules.may_use_default = default_after_first_try;
		rules.argument = &first_try;
	}
	replay->portion = AllocSetContextCreate(CurrentMemoryContext, "replay", ALLOCSET_DEFAULT_SIZES);
	replay->last_id = 0;
	replay->at_only = 0;
	replay->rows = 0;
	replay->offsets = catalog_offsets(source->name);
	replay->writer = writer_open(target, plan, &rules, rollups);
	if (replay_all(replay))
		catalog_offsets_save(source->name, replay->offsets);
	else
		missing = copy_missing(replay->writer, memory, n_missing);
	writer_close(replay->writer);
	rollup_set_close(rollups);
	decode_plan_free(plan);
	table_close(target, NoLock);
	return missing;
}

static void
make_partitions(Replay *replay, const TimestampTz *times, int n)
{
	PartitionsMade made;

	partitions_make(&replay->inquired.slot, replay->source, times, n, &made);
	if (made.reason != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("partitions that the dead letters need could not be made"),
				 errdetail("%s.", made.reason),
				 errhint("Mend that, and try again.")));
}

InquiryResult
inquiry_replay(const Inquiry *inquiry, StringInfo answer)
{
	MemoryContext memory = CurrentMemoryContext;
	Replay		replay = {0};

	inquiry_source_open(&replay.inquired, inquiry);
	replay.only = inquiry_numbers(inquiry, "letters", &replay.n_only);
	for (int try = 0; try < MOST_TRIES; try++)
	{
		TimestampTz *missing;
		int			n;

		MemoryContextSwitchTo(memory);
		replay.source = inquiry_source_begin(&replay.inquired, ExclusiveLock);
		missing = replay_once(&replay, try == 0, memory, &n);
		if (missing == NULL)
		{
			worker_commit();
			appendStringInfo(answer, INT64_FORMAT, replay.rows);
			return INQUIRY_ANSWERED;
		}
		worker_rollback();
		MemoryContextSwitchTo(memory);
		make_partitions(&replay, missing, n);
	}
	elog(ERROR, "partitions are missing again and again");
}
