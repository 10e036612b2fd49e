/*
 * sink_slot.c
 *		The replication slot of a sink: made, found unusable, given up.
 *
 * Owns what becomes of a sink whose slot is gone.  One whose index was whole goes on to be compared with its
 * table (phase mending); one that was still copying begins anew.  A log that goes on another timeline, after
 * a failover or a restore, counts as lost as well, whatever slot there is: what the index has of the end of
 * the old one is told by nobody.  Called by sink_build.c, sink_recover.c and sink_follow.c.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "replication/slot.h"
#include "utils/memutils.h"

#include "changes.h"
#include "sink.h"
#include "worker.h"

static const char *
phase_without_slot(const Sink *sink)
{
	return strcmp(sink->phase, "following") == 0 || strcmp(sink->phase, "mending") == 0 ? "mending" : "new";
}

static const char *
what_follows(const Sink *sink)
{
	return strcmp(phase_without_slot(sink), "mending") == 0 ?
		"the index is compared with the table" : "the index is built anew";
}

void
sink_give_up_slot(SinkWorker *worker)
{
	Sink	   *sink = worker->sink;
	uint64		lag = changes_slot_lag(sink->slot);
	char	   *slot;

	if (sink->max_wal_lag == 0 || lag <= (uint64) sink->max_wal_lag)
		return;
	sink_note_lost_slot(worker,
						psprintf("the replication slot was given up: it kept " UINT64_FORMAT
								 " bytes of the write-ahead log, more than max_wal_lag; "
								 "%s once Elasticsearch answers", lag, what_follows(sink)));
	ereport(LOG,
			(errmsg("clickstream sink \"%s\" gives up its replication slot \"%s\"", sink->name,
					sink->slot),
			 errdetail("It kept " UINT64_FORMAT " bytes of the write-ahead log, and max_wal_lag is "
					   INT64_FORMAT ".", lag, sink->max_wal_lag),
			 errhint("By itself %s once Elasticsearch answers.", what_follows(sink))));
	slot = MemoryContextStrdup(TopMemoryContext, sink->slot);
	/* reads the sink anew */
	sink_set_phase(worker, phase_without_slot(sink), NULL, InvalidXLogRecPtr);
	if (MyReplicationSlot)
		ReplicationSlotRelease();
	changes_drop_slot(slot);
	worker_leave();
}

static bool
is_of_this_timeline(const Sink *sink)
{
	return sink->timeline == 0 || sink->timeline == GetWALInsertionTimeLine();
}

bool
sink_slot_is_usable(const Sink *sink)
{
	return is_of_this_timeline(sink) && changes_slot_is_usable(sink->slot);
}

void
sink_lose_slot(SinkWorker *worker)
{
	Sink	   *sink = worker->sink;
	const char *how = is_of_this_timeline(sink) ? "the replication slot was lost" :
		"the write-ahead log goes on another timeline";

	sink_note_lost_slot(worker, psprintf("%s: %s", how, what_follows(sink)));
	ereport(LOG,
			(errmsg("replication slot \"%s\" of clickstream sink \"%s\" was lost: %s", sink->slot,
					sink->name, what_follows(sink)),
			 is_of_this_timeline(sink) ?
			 errhint("If it kept more WAL than max_slot_wal_keep_size allows, that setting may be raised.") :
			 errdetail("The write-ahead log goes on timeline %u, and the sink was on timeline %u.",
					   GetWALInsertionTimeLine(), sink->timeline)));
	sink_set_phase(worker, phase_without_slot(sink), NULL, InvalidXLogRecPtr);
}

void
sink_raise_versions(SinkWorker *worker, uint64 above)
{
	Sink	   *sink = worker->sink;

	worker_begin(worker->slot);
	while (GetXLogInsertRecPtr() + sink->version_base <= above)
		sink->version_base += SINK_VERSION_STEP;
	sink->timeline = GetWALInsertionTimeLine();
	catalog_sink_versions_save(sink->id, sink->version_base, sink->timeline);
	worker_commit();
}

/* Documents may have positions of the old timeline that are yet to come on this one. */
static void
note_timeline(SinkWorker *worker)
{
	Sink	   *sink = worker->sink;

	if (sink->timeline != GetWALInsertionTimeLine())
		sink_raise_versions(worker, is_of_this_timeline(sink) ? 0 :
							GetXLogInsertRecPtr() + sink->version_base);
}

bool
sink_make_slot(SinkWorker *worker, const char *phase)
{
	SinkCopied	nothing = {0};
	XLogRecPtr	position;

	worker_set_state(worker->slot, WORKER_STARTING,
					 "the replication slot is made once all running transactions have ended");
	changes_drop_slot(worker->sink->slot);
	note_timeline(worker);
	position = changes_create_slot(worker->sink->slot, worker->sink->owner);
	worker_commit();
	worker_begin(worker->slot);
	catalog_sink_copied_save(worker->sink->id, &nothing);
	worker_commit();
	sink_set_phase(worker, phase, NULL, position);
	return worker->sink->consistent_point == position;
}
