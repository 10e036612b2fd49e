/*
 * rollup_main.c
 *		The life of a rollup worker: fills one rollup while others write to its table, drops its partitions whose
 *		time is over, and ends.
 *
 * Owns the order of the steps and their transactions; what a step does is in the other library's
 * rollup_fill.c.  Called by the launcher, for as long as the catalog has a phase for the rollup.
 *
 * An error ends the process: the launcher starts the next one, which goes on where it can, or begins again.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "rollup_fill.h"
#include "rollup_partition.h"
#include "worker.h"

/* how long a writer has to mend what could not be read */
#define PAUSE_AFTER_ERROR_MS 5000

/* how long readers may have to wait behind us; what is in use goes another time */
#define RETIRE_LOCK_TIMEOUT "100ms"

PGDLLEXPORT void clickstream_rollup_main(Datum main_arg);

/* There is nothing that a crash may not undo: what is in place and what is said of it are undone together. */
static void
begin(WorkerSlot *slot)
{
	worker_begin(slot);
	(void) set_config_option("synchronous_commit", "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
							 true, 0, false);
}

static RollupPhase
phase_now(WorkerSlot *slot, RollupFill *fill)
{
	RollupPhase phase;

	begin(slot);
	phase = rollup_fill_phase(fill);
	worker_commit();
	return phase;
}

/* One try; a caught error that says that writers do not stop is none. */
static bool
try_to_enter(WorkerSlot *slot, RollupFill *fill, RollupPhase from, RollupPhase to, bool *busy)
{
	MemoryContext caller = CurrentMemoryContext;
	volatile bool entered = false;

	*busy = false;
	PG_TRY();
	{
		begin(slot);
		entered = rollup_fill_enter(fill, from, to);
		worker_commit();
	}
	PG_CATCH();
	{
		worker_end_busy(caller);
		*busy = true;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	if (!entered)
		rollup_fill_let_go(fill);
	return entered;
}

/* Tries until writers have stopped for a moment.  They are still kept out when it returns true. */
static bool
enter(WorkerSlot *slot, RollupFill *fill, RollupPhase from, RollupPhase to)
{
	bool		busy;
	int			attempt = 0;

	while (!try_to_enter(slot, fill, from, to, &busy))
	{
		if (!busy)
			return false;
		worker_set_state(slot, WORKER_WAITING, "waits for a moment without transactions that write to the table");
		worker_pause(Min(attempt++, 4), "ClickstreamRollupWait");
		if (worker_should_stop())
			proc_exit(0);
	}
	worker_set_state(slot, WORKER_RUNNING, NULL);
	return true;
}

/* a transaction of a step that is taken until it returns false */
static bool
take(WorkerSlot *slot, RollupFill *fill, bool (*step) (RollupFill *fill))
{
	bool		more;

	begin(slot);
	more = step(fill);
	worker_commit();
	return more;
}

/*
 * A row that the rollup cannot hold is there: until it has gone, or is another, no writer is to mind the
 * rollup, least of all the one who deletes the row.  What passes by itself does not undo what is in place.
 */
static void
wait_after_error(WorkerSlot *slot, RollupFill *fill, bool passes)
{
	if (!passes && enter(slot, fill, ROLLUP_FILLING, ROLLUP_WAITING))
		rollup_fill_let_go(fill);
	worker_set_state(slot, WORKER_WAITING, "the table could not be read, and is read again after a pause");
	worker_sleep(PAUSE_AFTER_ERROR_MS, "ClickstreamRollupWait");
}

/* A disk that is full, or a lock that is not to be had: not a row that the rollup cannot hold. */
static bool
is_of_surroundings(void)
{
	return sqlstate_is_surroundings(geterrcode()) && !sqlstate_may_be_of_record(geterrcode());
}

/* The first snapshot is taken while nobody writes; false, after a pause, when there was an error. */
static bool
read_next(WorkerSlot *slot, RollupFill *fill, RollupRead *read)
{
	MemoryContext caller = CurrentMemoryContext;
	volatile bool done = false,
				passes = false;

	PG_TRY();
	{
		begin(slot);
		rollup_fill_let_go(fill);
		*read = rollup_fill_read(fill);
		worker_commit();
		done = true;
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(caller);
		passes = is_of_surroundings();
		EmitErrorReport();
		FlushErrorState();
		worker_rollback();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	if (!done)
		wait_after_error(slot, fill, passes);
	return done;
}

static void
begin_again(WorkerSlot *slot, RollupFill *fill, RollupPhase phase)
{
	if (enter(slot, fill, phase, ROLLUP_WAITING))
		rollup_fill_let_go(fill);
}

static void
settle_all(WorkerSlot *slot, RollupFill *fill)
{
	while (take(slot, fill, rollup_fill_settle))
		;
}

/* Returns early when the catalog has another phase: it is looked at again. */
static void
fill_rest(WorkerSlot *slot, RollupFill *fill)
{
	RollupRead	read;

	do
	{
		if (!read_next(slot, fill, &read))
			return;
		while (read == ROLLUP_READ && take(slot, fill, rollup_fill_merge))
			;
	} while (read == ROLLUP_READ);

	if (read == ROLLUP_READ_AGAIN)
		begin_again(slot, fill, ROLLUP_FILLING);
	else if (enter(slot, fill, ROLLUP_FILLING, ROLLUP_SETTLING))
	{
		rollup_fill_let_go(fill);
		settle_all(slot, fill);
	}
}

static void
fill_all(WorkerSlot *slot, RollupFill *fill)
{
	begin(slot);
	rollup_fill_clear(fill);
	worker_commit();
	if (enter(slot, fill, ROLLUP_WAITING, ROLLUP_FILLING))
		fill_rest(slot, fill);
}

/* Another worker has not come to its end, or this one to go on after an error. */
static void
go_on(WorkerSlot *slot, RollupFill *fill, RollupPhase phase)
{
	bool		can;

	worker_set_state(slot, WORKER_RUNNING, NULL);
	begin(slot);
	can = rollup_fill_go_on(fill);
	worker_commit();
	if (!can)
		begin_again(slot, fill, phase);
	else if (phase == ROLLUP_FILLING)
		fill_rest(slot, fill);
	else
		settle_all(slot, fill);
}

/* One partition in a transaction of its own; false when there is none.  Where somebody reads for long, after a pause. */
static bool
retire_one(WorkerSlot *slot)
{
	MemoryContext caller = CurrentMemoryContext;
	volatile bool more = false,
				busy = false;

	PG_TRY();
	{
		begin(slot);
		(void) set_config_option("lock_timeout", RETIRE_LOCK_TIMEOUT, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true,
								 0, false);
		more = rollup_drop_old_partition(slot->object_id);
		worker_commit();
	}
	PG_CATCH();
	{
		worker_end_busy(caller);
		busy = true;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	if (busy)
		worker_sleep(PAUSE_AFTER_ERROR_MS, "ClickstreamRollupWait");
	return more || busy;
}

void
clickstream_rollup_main(Datum main_arg)
{
	WorkerSlot *slot = worker_attach(main_arg);
	RollupFill *fill = rollup_fill_of(slot);
	RollupPhase phase;

	MemoryContextSwitchTo(AllocSetContextCreate(TopMemoryContext, "clickstream rollup worker", ALLOCSET_DEFAULT_SIZES));
	while (!worker_should_stop() && (phase = phase_now(slot, fill)) != ROLLUP_FILLED)
	{
		if (phase == ROLLUP_WAITING)
			fill_all(slot, fill);
		else
			go_on(slot, fill, phase);
	}
	while (!worker_should_stop() && retire_one(slot))
		;
	worker_leave();
}
