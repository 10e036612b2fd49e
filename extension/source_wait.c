/*
 * source_wait.c
 *		wait_for_source: until all that Kafka held at the call is committed here, or the time is up.
 *
 * The call asks each of the source's workers by raising `asked` in its slot; a worker answers once
 * it has committed up to the ends that it asked Kafka for after it saw the question.  A worker that
 * is started again meets the same slot, and so the same question.  Takes no lock that a worker
 * needs, and writes nothing.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "duration.h"
#include "snapshot.h"
#include "source_api.h"
#include "worker_slot.h"

PG_FUNCTION_INFO_V1(clickstream_wait_for_source);

/* as many as source_check.c allows */
#define MOST_WORKERS 64

/* how long at most between two looks at the source itself: paused, dropped, other workers */
#define LOOK_AGAIN_MS 200

/* a question put to one worker */
typedef struct Question
{
	WorkerSlot *slot;
	uint64		ticket;			/* answered when the slot's `answered` has come so far */
} Question;

typedef struct Waiting
{
	int32		source_id;
	char	   *name;
	TimestampTz until;
	Question	questions[MOST_WORKERS];
	int			n;
	bool		told_paused;
} Waiting;

static Question *
question_to(Waiting *waiting, WorkerSlot *slot)
{
	for (int i = 0; i < waiting->n; i++)
		if (waiting->questions[i].slot == slot)
			return &waiting->questions[i];
	if (waiting->n == MOST_WORKERS)
		waiting->n = 0;			/* slots changed hands: to ask again is never wrong */
	waiting->questions[waiting->n] = (Question) {.slot = slot};
	return &waiting->questions[waiting->n++];
}

/* asks if it was not asked yet, or its slot was emptied since; true once it has answered */
static bool
ask(Waiting *waiting, WorkerSlot *slot, int *n_workers)
{
	Question   *question = question_to(waiting, slot);
	bool		asked_now = false,
				answered;

	SpinLockAcquire(&slot->mutex);
	if (question->ticket == 0 || question->ticket > slot->asked)
	{
		question->ticket = ++slot->asked;
		asked_now = true;
	}
	answered = slot->answered >= question->ticket;
	*n_workers = slot->n_workers;
	SpinLockRelease(&slot->mutex);
	if (asked_now)
		worker_wake(slot);
	return answered;
}

/* true when each worker of the source is there and has answered; else one to wait for, or NULL */
static bool
all_answered(Waiting *waiting, WorkerSlot **pending)
{
	WorkerSlot *slots[MOST_WORKERS];
	int			n = worker_slots_of(WORKER_SOURCE, waiting->source_id, slots, MOST_WORKERS);
	bool		all = n > 0;

	*pending = NULL;
	for (int i = 0; i < n; i++)
	{
		int			n_workers;
		bool		answered = ask(waiting, slots[i], &n_workers);

		if (!answered)
			*pending = slots[i];
		if (!answered || n_workers != n)
			all = false;
	}
	return all;
}

static void
sleep_for(WorkerSlot *pending, long ms)
{
	if (pending != NULL)
	{
		(void) ConditionVariableTimedSleep(&pending->changed, ms,
										   compat_wait_event("ClickstreamWaitForSource"));
		return;
	}
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ms,
					 compat_wait_event("ClickstreamWaitForSource"));
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/* what another session did to the source meanwhile; false while it is paused */
static bool
look_at_source(Waiting *waiting)
{
	Source	   *source = catalog_source_by_id(waiting->source_id);

	if (source == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("source \"%s\" was dropped while it was waited for", waiting->name),
				 errhint("Nothing more of it will come.")));
	if (!source->enabled && !waiting->told_paused)
	{
		ereport(NOTICE,
				(errmsg("source \"%s\" is paused", waiting->name),
				 source->paused_because ? errdetail("%s.", source->paused_because) : 0,
				 errhint("Run clickstream.resume_source.")));
		waiting->told_paused = true;
	}
	return source->enabled;
}

static bool
wait_for_workers(Waiting *waiting)
{
	MemoryContext round = AllocSetContextCreate(CurrentMemoryContext, "wait_for_source", ALLOCSET_SMALL_SIZES);
	MemoryContext outer = MemoryContextSwitchTo(round);
	bool		done;

	for (;;)
	{
		WorkerSlot *pending = NULL;
		long		left;
		bool		gave_back;

		MemoryContextReset(round);
		done = look_at_source(waiting) && all_answered(waiting, &pending);
		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), waiting->until);
		if (done || left <= 0)
			break;
		gave_back = snapshot_give_back();
		sleep_for(pending, Min(left, LOOK_AGAIN_MS));
		if (gave_back)
			snapshot_take_again();
	}
	ConditionVariableCancelSleep();
	MemoryContextSwitchTo(outer);
	MemoryContextDelete(round);
	return done;
}

Datum
clickstream_wait_for_source(PG_FUNCTION_ARGS)
{
	Waiting		waiting = {0};
	int64		timeout = duration_of_wait_us(PG_GETARG_INTERVAL_P(1));

	waiting.name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	waiting.source_id = source_of_caller(waiting.name)->id;
	waiting.until = GetCurrentTimestamp() + timeout;
	PG_RETURN_BOOL(wait_for_workers(&waiting));
}
