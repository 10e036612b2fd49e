/*
 * sink_wait.c
 *		wait_for_sink: until Elasticsearch has acknowledged all that was committed at the call.
 *
 * The sink's worker says how far that is in its shared slot, and broadcasts whenever it moves.  While an
 * index is built, nothing has arrived: what is acknowledged then is not yet, or no longer, what a search
 * under the alias will find.  Takes
 * no lock that the worker needs, and writes nothing.  Sends no refresh: a search finds what was
 * acknowledged once the index has been refreshed, by itself within a second or when asked to.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/pg_lsn.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "duration.h"
#include "sink_api.h"
#include "snapshot.h"
#include "worker_slot.h"

PG_FUNCTION_INFO_V1(clickstream_wait_for_sink);

/* how long at most between two looks at the sink itself: paused, dropped, begun anew */
#define LOOK_AGAIN_MS 200

typedef struct Waiting
{
	int32		sink_id;
	char	   *name;
	XLogRecPtr	target;
	TimestampTz until;
	bool		follows;		/* its index is behind the alias, and not one that is being built */
	bool		told_paused;
} Waiting;

/* As a reader of the log sees its end: what is inserted next begins behind a page's header. */
XLogRecPtr
sink_end_of_log(void)
{
	XLogRecPtr	end = GetXLogInsertRecPtr();

	if (XLogSegmentOffset(end, wal_segment_size) == SizeOfXLogLongPHD)
		end -= SizeOfXLogLongPHD;
	else if (end % XLOG_BLCKSZ == SizeOfXLogShortPHD)
		end -= SizeOfXLogShortPHD;
	/* a commit that is not on disk yet is not decoded either */
	XLogFlush(end);
	return end;
}

/* what another session did to the sink meanwhile */
static void
look_at_sink(Waiting *waiting)
{
	Sink	   *sink = catalog_sink_by_id(waiting->sink_id);

	if (sink == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("sink \"%s\" was dropped while it was waited for", waiting->name),
				 errhint("Nothing more of it will come.")));
	waiting->follows = strcmp(sink->phase, "following") == 0;
	if (sink->enabled || waiting->told_paused)
		return;
	ereport(NOTICE,
			(errmsg("sink \"%s\" is paused", waiting->name),
			 sink->paused_because ? errdetail("%s.", sink->paused_because) : 0,
			 errhint("Run clickstream.resume_sink.")));
	waiting->told_paused = true;
}

/* asks the worker not to wait for company in its requests; true when it has come far enough */
static bool
has_arrived(const Waiting *waiting, WorkerSlot *slot, bool ask)
{
	bool		arrived;

	SpinLockAcquire(&slot->mutex);
	arrived = slot->acknowledged >= waiting->target;
	if (!arrived && ask)
		slot->asked++;
	SpinLockRelease(&slot->mutex);
	if (!arrived && ask)
		worker_wake(slot);
	return arrived;
}

static void
sleep_for(WorkerSlot *slot, long ms)
{
	if (slot != NULL)
	{
		(void) ConditionVariableTimedSleep(&slot->changed, ms, compat_wait_event("ClickstreamWaitForSink"));
		return;
	}
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ms, compat_wait_event("ClickstreamWaitForSink"));
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

static bool
wait_for_worker(Waiting *waiting)
{
	MemoryContext round = AllocSetContextCreate(CurrentMemoryContext, "wait_for_sink", ALLOCSET_SMALL_SIZES);
	MemoryContext outer = MemoryContextSwitchTo(round);
	WorkerSlot *asked = NULL;
	bool		done;

	for (;;)
	{
		WorkerSlot *slot = NULL;
		long		left;
		bool		gave_back;

		MemoryContextReset(round);
		look_at_sink(waiting);
		if (worker_slots_of(WORKER_SINK, waiting->sink_id, &slot, 1) == 0)
			slot = NULL;
		done = slot && has_arrived(waiting, slot, slot != asked) && waiting->follows;
		asked = slot;
		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), waiting->until);
		if (done || left <= 0)
			break;
		gave_back = snapshot_give_back();
		sleep_for(slot, Min(left, LOOK_AGAIN_MS));
		if (gave_back)
			snapshot_take_again();
	}
	ConditionVariableCancelSleep();
	MemoryContextSwitchTo(outer);
	MemoryContextDelete(round);
	return done;
}

Datum
clickstream_wait_for_sink(PG_FUNCTION_ARGS)
{
	Waiting		waiting = {0};
	Interval	minute = {.time = USECS_PER_MINUTE};

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("sinks do not run on a standby"),
				 errhint("Ask the primary server.")));
	waiting.name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	waiting.sink_id = sink_of_caller(waiting.name)->id;
	waiting.until = GetCurrentTimestamp() +
		duration_of_wait_us(PG_ARGISNULL(1) ? &minute : PG_GETARG_INTERVAL_P(1));
	waiting.target = PG_ARGISNULL(2) ? sink_end_of_log() : PG_GETARG_LSN(2);
	PG_RETURN_BOOL(wait_for_worker(&waiting));
}
