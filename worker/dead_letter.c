/*
 * dead_letter.c
 *		Records that cannot become rows are kept, whole and with the reason.
 *
 * Owns the way from a batch's faults to rows of clickstream.dead_letters, in the order of the
 * records, and that those are dropped whose time is over.  Called by source_batch.c, source_main.c and by
 * replay.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "catalog.h"
#include "dead_letter.h"
#include "duration.h"
#include "worker.h"

/* letters are made and saved by portions, for their headers take memory */
#define PORTION 1000

/* of old letters, so many are dropped before the worker looks after its batches again */
#define MOST_EXPIRED 10000

static int
compare_faults(const void *a, const void *b)
{
	return ((const RecordFault *) a)->record - ((const RecordFault *) b)->record;
}

static void
fill_letter(DeadLetter *letter, const Batch *batch, const RecordFault *fault)
{
	Record		record;

	batch_record(batch, fault->record, &record);
	letter->topic = record.topic;
	letter->partition = record.partition;
	letter->offset = record.offset;
	letter->timestamp = record_time(&record);
	letter->key = record.key;
	letter->key_length = record.key_length;
	letter->value = record.value;
	letter->value_length = record.value_length;
	letter->headers = record_headers(&record);
	letter->sqlstate = fault->fault.sqlstate;
	letter->error = fault->fault.message;
}

void
dead_letters_save(const char *source, const Batch *batch)
{
	DeadLetter *letters;

	if (batch->n_faults == 0)
		return;
	qsort(batch->faults, batch->n_faults, sizeof(RecordFault), compare_faults);
	letters = palloc(sizeof(DeadLetter) * Min(batch->n_faults, PORTION));
	for (int from = 0; from < batch->n_faults; from += PORTION)
	{
		int			n = Min(batch->n_faults - from, PORTION);

		for (int i = 0; i < n; i++)
			fill_letter(&letters[i], batch, &batch->faults[from + i]);
		catalog_dead_letters_insert(source, letters, n);
	}
}

/* ---------------------------------------------------------------- retention */

/* a portion in a transaction of its own; -1 when it failed, for a reason that the next time may not be there */
static int64
expire_portion(WorkerSlot *slot, const Source *source, TimestampTz before)
{
	MemoryContext context = CurrentMemoryContext;
	volatile int64 n = -1;

	PG_TRY();
	{
		Source	   *now;

		worker_begin(slot);
		catalog_lock(CATALOG_SOURCE, source->id, ShareLock);
		now = catalog_source_by_id(source->id);
		/* once pause_source has returned nothing goes any more */
		n = now == NULL || !now->enabled ? 0 : catalog_dead_letters_expire(source->name, before);
		worker_commit();
	}
	PG_CATCH();
	{
		ErrorData  *error = worker_end_failed(context);

		ereport(LOG,
				(errmsg("source \"%s\" could not drop old dead letters: %s", source->name, error->message)));
		n = -1;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	return n;
}

/* a tenth of the retention, from a second to a minute */
static int64
time_between(const Source *source)
{
	return Min(Max(duration_us(source->dead_letter_retention) / 10, USECS_PER_SEC), USECS_PER_MINUTE);
}

void
dead_letters_expire(WorkerSlot *slot, const Source *source)
{
	static TimestampTz last = 0;
	TimestampTz now = GetCurrentTimestamp(),
				before;
	int64		n,
				all = 0;

	if (source->dead_letter_retention == NULL || now - last < time_between(source))
		return;
	last = now;
	before = moment_before(now, source->dead_letter_retention);
	do
	{
		n = expire_portion(slot, source, before);
		all += Max(n, 0);
	} while (n > 0 && all < MOST_EXPIRED);
	if (all > 0)
		ereport(LOG,
				(errmsg("source \"%s\" dropped " INT64_FORMAT " dead letters, older than its dead_letter_retention",
						source->name, all)));
}
