/*
 * sink.h
 *		What the parts of a sink worker share: sink_main.c (life), sink_slot.c, sink_build.c (first copy), sink_recover.c,
 *		sink_follow.c.
 */
#ifndef CLICKSTREAM_SINK_H
#define CLICKSTREAM_SINK_H

#include "postgres.h"

#include "bulk.h"
#include "catalog.h"
#include "compat.h"
#include "document.h"
#include "elasticsearch.h"
#include "worker_slot.h"

typedef struct SinkWorker
{
	WorkerSlot *slot;
	MemoryContext context;		/* the row, the options and the client: until they change */
	Sink	   *sink;
	List	   *options;		/* of the connection; holds secrets */
	Elasticsearch *client;
	int			attempt;		/* failures in a row to reach Elasticsearch or to find it in order */
	SinkTotals	saved;			/* as the catalog has them */
} SinkWorker;

/* Reads the sink's row anew; ends the process when it is not to run, or runs as another. */
extern void sink_load(SinkWorker *worker);

/* whether the row or the connection have changed since sink_load */
extern bool sink_has_changed(SinkWorker *worker);

/* Changes the phase, and what goes with it, in a transaction; physical_index may be NULL for as it is. */
extern void sink_set_phase(SinkWorker *worker, const char *phase, const char *physical_index,
						   XLogRecPtr consistent_point);

/* stores refusals as dead letters, and forgets them; outside of a transaction */
extern void sink_store_refusals(SinkWorker *worker, Bulk *bulk);

/* a fault of the surroundings, that is tried again: for the views */
extern void sink_note_fault(SinkWorker *worker, const char *why);

/* something in the surroundings is not as it should be: says so, waits, and looks at the catalog again */
extern void sink_wait(SinkWorker *worker, const char *why);

/* until the index is looked at, and the catalog again; the same, where a transaction is in the way of that */
#define SINK_PATIENCE_MS 5000
#define SINK_LONG_PATIENCE_MS 60000

/* in the middle of a portion of a table: throws when Elasticsearch does not take it for long, or refuses us */
extern void sink_settle(SinkWorker *worker, Bulk *bulk, bool (*settled) (Bulk *bulk));

/* What a portion had to do is settled: how far that is goes into the catalog. */
extern void sink_note_portion(SinkWorker *worker, Bulk *bulk, const SinkCopied *copied);

/* waits until Elasticsearch answers; false when there is no index of ours, and the phase is now another */
extern bool sink_index_is_there(SinkWorker *worker);

extern void sink_acknowledge(SinkWorker *worker, XLogRecPtr position);

/* sink_totals.c: the counters of all workers so far; outside of a transaction */
extern void sink_totals_load(SinkWorker *worker);	/* from then on also saved at the end of the process */
extern void sink_totals_save(SinkWorker *worker);	/* if they changed */
extern void sink_note_lost_slot(SinkWorker *worker, const char *because);

/* sink_slot.c.  Past the sink's bound on the log kept for it the slot is given up, and the process ends. */
extern void sink_give_up_slot(SinkWorker *worker);

/* whether the log can be followed from where the slot is */
extern bool sink_slot_is_usable(const Sink *sink);

/* It cannot: says so, and the phase is another. */
extern void sink_lose_slot(SinkWorker *worker);

/*
 * What commits before its position is to be seen by every snapshot from now on, what commits after it comes in
 * the log.  The position is then the sink's consistent point, and the phase this one; false when the sink changed.
 */
extern bool sink_make_slot(SinkWorker *worker, const char *phase);

/* From now on all versions are above this one.  What is collected in bulks has lower ones. */
extern void sink_raise_versions(SinkWorker *worker, uint64 above);

/* settings beyond background.c's, for whoever reads a sink's table */
extern void sink_pin_settings(void);

/* phase new or copying: an index is built and swapped in; afterwards the phase is another */
extern void sink_build(SinkWorker *worker);

/* phase mending: index and table are compared, and what differs is sent; afterwards the phase is another */
extern void sink_recover(SinkWorker *worker);

/* phase following: until told to stop, or until the phase is another */
extern void sink_follow(SinkWorker *worker);

/* what a bulk has to know of the sink, beside its alias and where its states are shown */
extern BulkOptions sink_bulk_options(const Sink *sink, const char *alias, WorkerSlot *slot);

/* puts a row into a bulk under its id; a row whose id is all NULL is refused */
extern void sink_put_row(Bulk *bulk, const DocumentPlan *plan, const ColumnValue *values,
						 XLogRecPtr version, StringInfo id);

/* the same for a row that is larger than any document may be: a dead letter, without the document */
extern void sink_refuse_large(Bulk *bulk, const DocumentPlan *plan, const ColumnValue *values,
							  XLogRecPtr version, StringInfo id);

#endif							/* CLICKSTREAM_SINK_H */
