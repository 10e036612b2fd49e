/*
 * rollup_wait.c
 *		wait_for_rollup, and how far the rollups are that are being filled.
 *
 * Only reads: the catalog, and the slots of the workers that fill.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "duration.h"
#include "rollup_api.h"
#include "worker_slot.h"

#define LOOK_AGAIN_MS 50

PG_FUNCTION_INFO_V1(clickstream_wait_for_rollup);
PG_FUNCTION_INFO_V1(clickstream_rollup_progress);

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

static void
put_text(Datum *value, bool *is_null, const char *text)
{
	*is_null = text[0] == '\0';
	if (!*is_null)
		*value = CStringGetTextDatum(text);
}

static void
put_row(ReturnSetInfo *result, const WorkerSlot *slot)
{
	Datum		values[10] = {0};
	bool		nulls[10] = {0};

	values[0] = Int32GetDatum(slot->object_id);
	values[1] = Int32GetDatum(slot->pid);
	put_text(&values[2], &nulls[2], slot->detail);
	values[3] = TimestampTzGetDatum(slot->begun_at);
	nulls[3] = slot->begun_at == 0;
	values[4] = Int64GetDatum(slot->blocks_done);
	values[5] = Int64GetDatum(slot->blocks_total);
	values[6] = Int64GetDatum(slot->groups_done);
	values[7] = Int64GetDatum(slot->groups_total);
	put_text(&values[8], &nulls[8], slot->last_error);
	values[9] = TimestampTzGetDatum(slot->last_error_at);
	nulls[9] = slot->last_error_at == 0;
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

Datum
clickstream_rollup_progress(PG_FUNCTION_ARGS)
{
	WorkerSlot *copy = palloc(sizeof(WorkerSlot));
	int			count;
	WorkerSlot *slots = worker_slots(&count);
	int			i;

	InitMaterializedSRF(fcinfo, 0);
	for (i = 0; i < count; i++)
	{
		SpinLockAcquire(&slots[i].mutex);
		memcpy(copy, &slots[i], sizeof(WorkerSlot));
		SpinLockRelease(&slots[i].mutex);
		if (copy->kind == WORKER_ROLLUP && copy->database == MyDatabaseId &&
			has_privs_of_role(GetUserId(), copy->next_owner))
			put_row((ReturnSetInfo *) fcinfo->resultinfo, copy);
	}
	return (Datum) 0;
}
