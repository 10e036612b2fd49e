/*
 * rollup_fill.h
 *		The steps by which a worker fills a rollup while others write to its target.
 *
 * Each is one transaction, which the caller begins and commits.
 */
#ifndef CLICKSTREAM_ROLLUP_FILL_H
#define CLICKSTREAM_ROLLUP_FILL_H

#include "postgres.h"

#include "catalog.h"
#include "worker_slot.h"

typedef struct RollupFill RollupFill;

/* in memory that lives as long as the worker */
extern PGDLLEXPORT RollupFill *rollup_fill_of(WorkerSlot *slot);

/* how the catalog has it; ROLLUP_FILLED as well when the rollup is gone */
extern PGDLLEXPORT RollupPhase rollup_fill_phase(RollupFill *fill);

/*
 * Keeps writers out, over transactions, and goes from one phase to the next.  False, with writers let go,
 * when they do not stop for a moment, or when the phase is not `from`.
 */
extern PGDLLEXPORT bool rollup_fill_enter(RollupFill *fill, RollupPhase from, RollupPhase to);
extern PGDLLEXPORT void rollup_fill_let_go(RollupFill *fill);

/* takes all out of the table that came in before it was begun */
extern PGDLLEXPORT void rollup_fill_clear(RollupFill *fill);

/* Takes over what a process that has ended left: true if that can be gone on with, in its phase. */
extern PGDLLEXPORT bool rollup_fill_go_on(RollupFill *fill);

typedef enum RollupRead
{
	ROLLUP_READ,				/* there are groups to be put in place */
	ROLLUP_READ_ALL,			/* there is nothing more, or another phase has begun */
	ROLLUP_READ_AGAIN			/* it has to begin again */
} RollupRead;

/* Reads the next portion, or all as the active snapshot sees it. */
extern PGDLLEXPORT RollupRead rollup_fill_read(RollupFill *fill);

/* puts some groups in place: false after the last */
extern PGDLLEXPORT bool rollup_fill_merge(RollupFill *fill);

/* computes some of the groups that others have noted: false when there are none, and the rollup complete */
extern PGDLLEXPORT bool rollup_fill_settle(RollupFill *fill);

#endif							/* CLICKSTREAM_ROLLUP_FILL_H */
