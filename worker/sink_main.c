/*
 * sink_main.c
 *		The life of a sink worker: write-ahead log -> change -> document -> bulk -> acknowledged -> confirmed.
 *
 * Owns the order of its phases and what is read from and written to the catalog.  A new sink first
 * copies the table (sink_build.c), then follows the log (sink_follow.c); one that lost its place in the log
 * compares first (sink_recover.c).  Never two of these at a time, because
 * Elasticsearch forgets the versions of deleted documents after a minute, and a copy's older document
 * that came later would bring one back.
 *
 * An error ends the process: the launcher starts the next one, which goes on from the catalog, the
 * slot and the index as it finds them.  Nothing else is remembered, so nothing can be remembered wrongly.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "connection.h"
#include "row_values.h"
#include "same.h"
#include "sink.h"
#include "sink_api.h"
#include "sink_index.h"
#include "worker.h"

PGDLLEXPORT void clickstream_sink_main(Datum main_arg);

/* ---------------------------------------------------------------- the catalog */

/*
 * In a transaction: the row and the options of its connection, in the current memory context.
 * *forbidden: why its rows may not be sent, NULL if they may.
 */
static Sink *
read_sink(SinkWorker *worker, List **options, char **forbidden)
{
	Sink	   *sink;

	catalog_lock(CATALOG_SINK, worker->slot->object_id, ShareLock);
	sink = catalog_sink_by_id(worker->slot->object_id);
	if (sink == NULL || !sink->enabled)
		return sink;
	*forbidden = sink_forbidden(sink);
	*options = connection_options(sink->server, CONNECTION_ELASTICSEARCH, sink->owner);
	return sink;
}

/* why nothing may be sent, NULL if it may */
static char *
load(SinkWorker *worker)
{
	MemoryContext old;
	char	   *forbidden = NULL;

	if (worker->context)
		MemoryContextDelete(worker->context);
	worker->client = NULL;
	worker->context = AllocSetContextCreate(TopMemoryContext, "clickstream sink",
											ALLOCSET_DEFAULT_SIZES);
	worker_begin(worker->slot);
	old = MemoryContextSwitchTo(worker->context);
	worker->sink = read_sink(worker, &worker->options, &forbidden);
	MemoryContextSwitchTo(old);
	worker_commit();

	if (worker->sink == NULL || !worker->sink->enabled ||
		worker->sink->owner != worker->slot->owner)
		worker_leave();
	old = MemoryContextSwitchTo(worker->context);
	worker->client = elasticsearch_open(worker->options);
	MemoryContextSwitchTo(old);
	return forbidden;
}

/* waits as long as the owner may not read the table */
void
sink_load(SinkWorker *worker)
{
	char	   *forbidden;

	while ((forbidden = load(worker)) != NULL)
	{
		sink_note_fault(worker, forbidden);
		worker_pause(worker->attempt++, "ClickstreamSinkWait");
		if (worker_should_stop())
			proc_exit(0);
	}
}

/* what a worker works by; not what it writes itself */
static bool
same_sink(const Sink *a, const Sink *b)
{
	return a->enabled == b->enabled && a->owner == b->owner && a->relation == b->relation &&
		a->bulk_bytes == b->bulk_bytes && same_interval(a->bulk_wait, b->bulk_wait) &&
		a->max_wal_lag == b->max_wal_lag && same_text(a->filter, b->filter) && same_text(a->pipeline, b->pipeline) &&
		same_text(a->server, b->server) && same_text(a->index, b->index) &&
		same_text(a->phase, b->phase) && same_text(a->slot, b->slot) &&
		same_text(a->publication, b->publication);
}

bool
sink_has_changed(SinkWorker *worker)
{
	List	   *options = NIL;
	char	   *forbidden = NULL;
	Sink	   *sink;
	bool		changed;

	worker_begin(worker->slot);
	sink = read_sink(worker, &options, &forbidden);
	changed = sink == NULL || forbidden || !same_sink(sink, worker->sink) ||
		!same_options(options, worker->options);
	worker_commit();
	return changed;
}

void
sink_set_phase(SinkWorker *worker, const char *phase, const char *physical_index,
			   XLogRecPtr consistent_point)
{
	Sink	   *sink;
	List	   *options = NIL;
	char	   *forbidden = NULL;

	worker_begin(worker->slot);
	sink = read_sink(worker, &options, &forbidden);
	/* somebody else may have decided meanwhile where to go on */
	if (sink && sink->enabled && same_text(sink->phase, worker->sink->phase) &&
		same_text(sink->slot, worker->sink->slot) && same_text(sink->index, worker->sink->index) &&
		same_text(sink->server, worker->sink->server))
	{
		sink->phase = pstrdup(phase);
		if (physical_index)
			sink->physical_index = pstrdup(physical_index);
		sink->consistent_point = consistent_point;
		catalog_sink_update(sink);
	}
	worker_commit();
	/* wait_for_sink looks at the phase, too */
	ConditionVariableBroadcast(&worker->slot->changed);
	sink_load(worker);
}

void
sink_store_refusals(SinkWorker *worker, Bulk *bulk)
{
	ListCell   *cell;

	if (bulk_refusals(bulk) == NIL)
		return;
	worker_begin(worker->slot);
	catalog_lock(CATALOG_SINK, worker->sink->id, ShareLock);
	if (catalog_sink_by_id(worker->sink->id) == NULL)
		worker_leave();
	foreach(cell, bulk_refusals(bulk))
	{
		Refusal    *refusal = lfirst(cell);

		catalog_sink_dead_letter_put(worker->sink->name, refusal->id, (int64) refusal->version,
									 refusal->document, refusal->status, refusal->type,
									 refusal->reason);
	}
	worker_commit();
	bulk_forget_refusals(bulk);
}

/* ---------------------------------------------------------------- the shared slot */

void
sink_note_fault(SinkWorker *worker, const char *why)
{
	SpinLockAcquire(&worker->slot->mutex);
	worker->slot->retries++;
	SpinLockRelease(&worker->slot->mutex);
	worker_set_error(worker->slot, why);
	worker_set_state(worker->slot, WORKER_WAITING, why);
}

void
sink_wait(SinkWorker *worker, const char *why)
{
	sink_note_fault(worker, why);
	worker_pause(worker->attempt++, "ClickstreamSinkWait");
	if (worker_should_stop())
		proc_exit(0);
	sink_load(worker);
}

/* A portion is interrupted by an error: what it did is done again. */
void
sink_settle(SinkWorker *worker, Bulk *bulk, bool (*settled) (Bulk *bulk))
{
	TimestampTz since = GetCurrentTimestamp();

	while (!settled(bulk))
		if (elasticsearch_refuses_us(worker->client) ||
			TimestampDifferenceExceeds(since, GetCurrentTimestamp(), SINK_LONG_PATIENCE_MS))
			ereport(ERROR,
					(errcode(ERRCODE_CONNECTION_FAILURE),
					 errmsg("Elasticsearch does not take the documents of the table"),
					 errdetail("It goes on where it was.")));
}

void
sink_note_portion(SinkWorker *worker, Bulk *bulk, const SinkCopied *copied)
{
	sink_store_refusals(worker, bulk);
	worker_begin(worker->slot);
	catalog_sink_copied_save(worker->sink->id, copied);
	worker_commit();
	sink_totals_save(worker);
	if (worker_should_stop())
		proc_exit(0);
	if (sink_has_changed(worker))
		worker_leave();
}

void
sink_acknowledge(SinkWorker *worker, XLogRecPtr position)
{
	bool		moved;

	SpinLockAcquire(&worker->slot->mutex);
	moved = position > worker->slot->acknowledged;
	if (moved)
		worker->slot->acknowledged = position;
	SpinLockRelease(&worker->slot->mutex);
	if (moved)
		ConditionVariableBroadcast(&worker->slot->changed);
}

BulkOptions
sink_bulk_options(const Sink *sink, const char *alias, WorkerSlot *slot)
{
	return (BulkOptions) {
		.alias = alias,
		.bytes = sink->bulk_bytes,
		.slot = slot,
		.working_state = WORKER_RUNNING,
		.pipeline = sink->pipeline,
		.version_base = sink->version_base,
		.create_only = sink->create_only,
		.many_indexes = sink->data_stream || strchr(sink->index, '{') != NULL
	};
}

void
sink_refuse_large(Bulk *bulk, const DocumentPlan *plan, const ColumnValue *values,
				  XLogRecPtr version, StringInfo id)
{
	if (!document_id(plan, values, id))
		appendStringInfo(id, "(null) %X/%X", LSN_FORMAT_ARGS(version));
	bulk_refuse(bulk, id->data, version, NULL, "row_too_large",
				psprintf("the row has more than %d MB, and no document can hold it",
						 (int) (LARGEST_ROW / (1024 * 1024))));
}

void
sink_put_row(Bulk *bulk, const DocumentPlan *plan, const ColumnValue *values, XLogRecPtr version,
			 StringInfo id)
{
	if (!document_address(plan, values, id))
	{
		StringInfoData document;

		initStringInfo(&document);
		document_append(plan, values, &document);
		bulk_refuse(bulk, psprintf("(null) %X/%X", LSN_FORMAT_ARGS(version)), version, document.data,
					"null_id", "every column of the id is NULL");
		pfree(document.data);
		return;
	}
	document_append(plan, values, bulk_begin_index(bulk, id->data, id->len, version));
	bulk_end_index(bulk);
}

bool
sink_index_is_there(SinkWorker *worker)
{
	char	   *phase = MemoryContextStrdup(TopMemoryContext, worker->sink->phase);

	for (;;)
	{
		char	   *why = NULL;

		worker_set_state(worker->slot, WORKER_CONNECTING, NULL);
		switch (sink_index_look(worker->client, worker->sink, &why))
		{
			case INDEX_OURS:
				worker->attempt = 0;
				return true;
			case INDEX_MISSING:
				ereport(LOG,
						(errmsg("the index of clickstream sink \"%s\" is gone, and is built anew",
								worker->sink->name)));
				sink_set_phase(worker, "new", NULL, InvalidXLogRecPtr);
				return false;
			case INDEX_FOREIGN:
				worker_set_error(worker->slot, why);
				sink_set_phase(worker, "diverged", NULL, InvalidXLogRecPtr);
				return false;
			case INDEX_NO_ALIAS:
			case INDEX_NO_ANSWER:
				sink_give_up_slot(worker);
				sink_wait(worker, why);
				if (strcmp(worker->sink->phase, phase) != 0)
					return false;
				break;
		}
	}
}

/* ---------------------------------------------------------------- the life */

void
sink_pin_settings(void)
{
	/* a filtered copy would not be the table: an error instead */
	SetConfigOption("row_security", "off", PGC_SUSET, PGC_S_OVERRIDE);
	/* a dead letter must be on disk before its change is confirmed */
	SetConfigOption("synchronous_commit", "local", PGC_SUSET, PGC_S_OVERRIDE);
}

/* nothing moves until check_sink or resync_sink */
static void
rest(SinkWorker *worker)
{
	worker_set_state(worker->slot, WORKER_STOPPED,
					 "the index is not what this sink wrote: clickstream.check_sink(repair => true) mends it, "
					 "clickstream.resync_sink builds one anew");
	while (!worker_should_stop() && !sink_has_changed(worker))
		worker_sleep(1000, "ClickstreamSinkDiverged");
	if (!worker_should_stop())
		sink_load(worker);
}

static void
live(SinkWorker *worker)
{
	sink_load(worker);
	while (!worker_should_stop())
	{
		const char *phase = worker->sink->phase;

		if (strcmp(phase, "following") == 0)
			sink_follow(worker);
		else if (strcmp(phase, "diverged") == 0)
			rest(worker);
		else if (strcmp(phase, "mending") == 0)
			sink_recover(worker);
		else
			sink_build(worker);
	}
}

void
clickstream_sink_main(Datum main_arg)
{
	SinkWorker	worker = {worker_attach(main_arg)};

	sink_pin_settings();
	sink_totals_load(&worker);
	live(&worker);
	proc_exit(0);
}
