/*
 * sink_totals.c
 *		What a sink has done beyond the life of its worker: counters, until when the index is current, why
 *		a slot was lost.
 *
 * The counters are counted in the shared slot (bulk.c).  Here they are taken over from the catalog when a
 * worker starts, and saved there while it runs and when it ends in good order; after a crash what was
 * counted since the last save is missing, and what is sent again counts again.  An idle sink saves nothing:
 * a save is itself a commit in the log that it follows.  Called by sink_main.c, sink_build.c, sink_follow.c.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "catalog.h"
#include "changes.h"
#include "sink.h"
#include "worker.h"

static void
take(WorkerSlot *slot, SinkTotals *totals)
{
	SpinLockAcquire(&slot->mutex);
	totals->documents = slot->documents;
	totals->deletes = slot->deletes;
	totals->failures = slot->failures;
	totals->retries = slot->retries;
	totals->skipped = slot->skipped;
	totals->current_until = slot->oldest_commit ? slot->oldest_commit : slot->current_until;
	SpinLockRelease(&slot->mutex);
}

static bool
are_equal(const SinkTotals *a, const SinkTotals *b)
{
	return a->documents == b->documents && a->deletes == b->deletes && a->failures == b->failures &&
		a->retries == b->retries && a->skipped == b->skipped;
}

/* Not worker_begin: that ends the process when it is told to end, and this is called then, too. */
static void
save(SinkWorker *worker, const SinkTotals *totals)
{
	StartTransactionCommand();
	worker_look_at(CATALOGS_NOW);
	PushActiveSnapshot(GetTransactionSnapshot());
	if (catalog_extension_exists())
		catalog_sink_totals_save(worker->slot->object_id, totals);
	PopActiveSnapshot();
	CommitTransactionCommand();
	worker->saved = *totals;
}

void
sink_totals_save(SinkWorker *worker)
{
	MemoryContext here = CurrentMemoryContext;
	SinkTotals	totals;

	take(worker->slot, &totals);
	if (are_equal(&totals, &worker->saved))
		return;
	save(worker, &totals);
	MemoryContextSwitchTo(here);
}

/* also until when the index is current: nobody tells from now on */
static void
save_at_exit(int code, Datum argument)
{
	SinkWorker *worker = (SinkWorker *) DatumGetPointer(argument);
	SinkTotals	totals;

	if (code != 0 || IsTransactionState())
		return;
	changes_save_position();
	take(worker->slot, &totals);
	if (!are_equal(&totals, &worker->saved) || totals.current_until != 0)
		save(worker, &totals);
}

void
sink_totals_load(SinkWorker *worker)
{
	WorkerSlot *slot = worker->slot;
	SinkTotals *totals;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	totals = catalog_sink_totals(slot->object_id);
	if (totals)
	{
		worker->saved = *totals;
		SpinLockAcquire(&slot->mutex);
		slot->documents = Max(slot->documents, totals->documents);
		slot->deletes = Max(slot->deletes, totals->deletes);
		slot->failures = Max(slot->failures, totals->failures);
		slot->retries = Max(slot->retries, totals->retries);
		slot->skipped = Max(slot->skipped, totals->skipped);
		SpinLockRelease(&slot->mutex);
	}
	PopActiveSnapshot();
	CommitTransactionCommand();
	before_shmem_exit(save_at_exit, PointerGetDatum(worker));
}

void
sink_note_lost_slot(SinkWorker *worker, const char *because)
{
	worker_set_error(worker->slot, because);
	worker_begin(worker->slot);
	catalog_sink_slot_lost(worker->slot->object_id, because);
	worker_commit();
}
