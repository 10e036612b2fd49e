/*
 * rollup_wait.c
 *		wait_for_rollup.
 *
 * Only reads the catalog; how far a rollup is that is being filled, stats.c shows.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "duration.h"
#include "rollup_api.h"

#define LOOK_AGAIN_MS 50

PG_FUNCTION_INFO_V1(clickstream_wait_for_rollup);

static void
sleep_for(long ms)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ms,
					 compat_wait_event("ClickstreamWaitForRollup"));
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/* whether there is nothing to wait for; false when nobody fills it, and it stays incomplete */
static bool
has_ended(int32 id, const char *name, bool *complete)
{
	Rollup	   *rollup = catalog_rollup_by_id(id);

	if (rollup == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("rollup \"%s\" was dropped while it was waited for", name),
				 errhint("Nothing more of it will come.")));
	*complete = rollup->complete;
	if (!rollup->complete && rollup->phase == ROLLUP_FILLED)
		ereport(NOTICE,
				(errmsg("rollup \"%s\" was made without the rows that were there before", name),
				 errhint("clickstream.refresh_rollup takes them in.")));
	return rollup->phase == ROLLUP_FILLED;
}

Datum
clickstream_wait_for_rollup(PG_FUNCTION_ARGS)
{
	int64		timeout = duration_of_wait_us(PG_GETARG_INTERVAL_P(1));
	TimestampTz until = GetCurrentTimestamp() + timeout;
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	int32		id = rollup_by_name(PG_GETARG_TEXT_PP(0), NoLock)->id;
	MemoryContext round = AllocSetContextCreate(CurrentMemoryContext, "wait_for_rollup", ALLOCSET_SMALL_SIZES);
	MemoryContext outer = MemoryContextSwitchTo(round);
	bool		complete;
	long		left;

	while (!has_ended(id, name, &complete) &&
		   (left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until)) > 0)
	{
		sleep_for(Min(left, LOOK_AGAIN_MS));
		MemoryContextReset(round);
	}
	MemoryContextSwitchTo(outer);
	MemoryContextDelete(round);
	PG_RETURN_BOOL(complete);
}
