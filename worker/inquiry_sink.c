/*
 * inquiry_sink.c
 *		A sink as an inquiry works on it: for its owner, beside the sink's own worker.
 *
 * Called by inquiry_check_sink.c and inquiry_replay_sink.c.
 */
#include "postgres.h"

#include "access/xact.h"
#include "storage/spin.h"
#include "utils/snapmgr.h"

#include "background.h"
#include "inquiry_sink.h"
#include "worker.h"

#define REQUEST_BYTES (4 * 1024 * 1024)

/* shorter than Elasticsearch remembers a deletion: no document of before comes after that */
#define PATIENCE_MS (30 * 1000)

static Sink *
read_sink(const Inquiry *inquiry)
{
	MemoryContext here = CurrentMemoryContext;
	Sink	   *sink;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	MemoryContextSwitchTo(here);
	sink = catalog_sink_by_id((int32) inquiry_number(inquiry, "sink"));
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(here);
	if (sink == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("the sink is not there for others yet, or no longer"),
				 errhint("Commit what made it, and try again.")));
	return sink;
}

void
inquiry_sink_open(InquirySink *inquired, const Inquiry *inquiry)
{
	WorkerSlot *slot = &inquired->slot;
	Sink	   *sink;

	background_pin_settings();
	sink_pin_settings();
	sink = read_sink(inquiry);
	SpinLockInit(&slot->mutex);
	ConditionVariableInit(&slot->changed);
	slot->kind = WORKER_SINK;
	slot->owner = sink->owner;
	slot->object_id = sink->id;
	strlcpy(slot->name, sink->name, sizeof(slot->name));
	inquired->worker.slot = slot;
	inquired->worker.sink = sink;
	inquired->worker.client = elasticsearch_open(inquiry->options);
}

Bulk *
inquiry_sink_bulk(InquirySink *inquired)
{
	BulkOptions options = sink_bulk_options(inquired->worker.sink, inquired->worker.sink->alias,
											&inquired->slot);

	options.bytes = REQUEST_BYTES;
	options.patience_ms = PATIENCE_MS;
	return bulk_open(inquired->worker.client, &options);
}
