/*
 * source_partitions.c
 *		Rows that wait for a partition of the table, and the others, which do not wait for them.
 *
 * Owns what is remembered of the default partition, and what becomes of records whose partition is
 * not to be had: they go back to the consumer, which reads them again after a pause, and the batch
 * goes on with what is left.  Called by source_main.c and source_batch.c.
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "partition.h"
#include "source_worker.h"

/* what the default partition held this long ago it is taken to hold still */
#define DEFAULT_KNOWN_US (60 * USECS_PER_SEC)

#define HOLD_FIRST_MS 200
#define HOLD_LONGEST_MS 3200

/* the next try has been made by then */
#define HOLD_GRACE_MS 2000

/* ---------------------------------------------------------------- the default partition */

bool
source_default_takes(void *worker, TimestampTz time)
{
	return partition_time_is_in(((SourceWorker *) worker)->in_default, time);
}

void
source_forget_default(SourceWorker *worker)
{
	if (worker->in_default == NIL || worker->default_until > GetCurrentTimestamp())
		return;
	worker->in_default = NIL;
	MemoryContextReset(worker->default_memory);
}

/* so that the next batch with such rows goes in at once */
static void
remember_default(SourceWorker *worker, List *ranges)
{
	MemoryContext outer = MemoryContextSwitchTo(worker->default_memory);
	ListCell   *cell;

	if (worker->in_default == NIL)
		worker->default_until = GetCurrentTimestamp() + DEFAULT_KNOWN_US;
	foreach(cell, ranges)
	{
		TimeRange  *copy = palloc(sizeof(TimeRange));

		*copy = *(TimeRange *) lfirst(cell);
		worker->in_default = lappend(worker->in_default, copy);
	}
	MemoryContextSwitchTo(outer);
}

/* ---------------------------------------------------------------- partitions that are not to be had */

static void
hold(SourceWorker *worker, const PartitionsMade *made)
{
	int		   *records = palloc(sizeof(int) * worker->n_missing);
	int			n = 0;
	int			pause_ms = Min(HOLD_FIRST_MS << Min(worker->holds, 8), HOLD_LONGEST_MS);

	for (int i = 0; i < worker->n_missing; i++)
		if (partition_time_is_in(made->failed, worker->missing[i]))
			records[n++] = worker->missing_records[i];
	consumer_give_back(worker->consumer, records, n, pause_ms);
	source_batch_forget(worker);
	worker->holds++;
	worker->held_until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), pause_ms + HOLD_GRACE_MS);
}

void
source_make_partitions(SourceWorker *worker)
{
	PartitionsMade made;

	partitions_make(worker->slot, worker->source, worker->missing, worker->n_missing, &made);
	remember_default(worker, made.in_default);
	if (made.reason == NULL)
	{
		worker->holds = 0;
		worker->held_until = 0;
		return;
	}
	hold(worker, &made);
	source_tell_waiting(worker, psprintf("a partition could not be made, and rows that need it wait: %s", made.reason));
}
