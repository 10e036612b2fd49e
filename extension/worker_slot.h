/*
 * worker_slot.h
 *		What launcher, workers and SQL functions share: a fixed array of slots in shared memory,
 *		one for each source or sink worker that runs or shall run.
 *
 * Everything in a slot may be lost in a crash: whatever has to be exact is in a table.
 */
#ifndef CLICKSTREAM_WORKER_SLOT_H
#define CLICKSTREAM_WORKER_SLOT_H

#include "postgres.h"

#include "access/xlogdefs.h"
#include "datatype/timestamp.h"
#include "storage/condition_variable.h"
#include "storage/latch.h"
#include "storage/spin.h"
#include "utils/elog.h"

typedef enum WorkerKind
{
	WORKER_NONE,				/* the slot is free */
	WORKER_SOURCE,
	WORKER_SINK
} WorkerKind;

typedef enum WorkerState
{
	WORKER_STARTING,			/* wanted, and not yet at work: detail says why if it lasts */
	WORKER_CONNECTING,			/* looking for the broker or Elasticsearch */
	WORKER_COPYING,				/* a sink's first copy */
	WORKER_RUNNING,
	WORKER_WAITING,				/* the surroundings fail; tries again by itself */
	WORKER_STOPPED				/* needs a person: last_error says what to do */
} WorkerState;

#define WORKER_TEXT_LENGTH 1024

typedef struct WorkerSlot
{
	slock_t		mutex;			/* guards all that follows */

	/* written by the launcher */
	WorkerKind	kind;
	Oid			database;
	int32		object_id;		/* of the source or sink */
	int32		worker_no;		/* 0 .. n_workers - 1 */
	int32		n_workers;
	Oid			owner;

	/* written by the worker */
	pid_t		pid;			/* 0 while none runs */
	Latch	   *latch;			/* to wake it; NULL while none runs */
	WorkerState state;
	char		detail[WORKER_TEXT_LENGTH];
	char		last_error[WORKER_TEXT_LENGTH];
	TimestampTz last_error_at;	/* 0: none yet */
	TimestampTz last_commit_at;
	int64		batches;
	int64		lag;			/* records of Kafka not yet committed here; -1 unknown */
	int64		documents;
	int64		deletes;
	int64		failures;
	int64		retries;
	XLogRecPtr	acknowledged;	/* a sink: everything before it is in Elasticsearch */

	/*
	 * wait_for_source and wait_for_sink: the caller raises `asked` and wakes the worker; the worker
	 * asks Kafka how far it goes, and once all that is committed sets `answered` to the `asked` it
	 * saw and broadcasts `changed`.  A sink broadcasts whenever `acknowledged` moves.
	 */
	uint64		asked;
	uint64		answered;
	ConditionVariable changed;
} WorkerSlot;

/* settings */
extern PGDLLEXPORT int clickstream_max_workers;

/* in the postmaster, from _PG_init */
extern Size worker_slots_size(void);
extern void worker_slots_init(void);

/* for all: the array, and its length (clickstream.max_workers); a slot is read under its mutex */
extern PGDLLEXPORT WorkerSlot *worker_slots(int *count);

/* for SQL functions: the running workers of an object in this database (0 when none) */
extern PGDLLEXPORT int worker_slots_of(WorkerKind kind, int32 object_id, WorkerSlot **slots, int max);
extern PGDLLEXPORT void worker_wake(WorkerSlot *slot);

/* for the worker itself */
extern PGDLLEXPORT void worker_set_state(WorkerSlot *slot, WorkerState state, const char *detail); /* detail may be NULL */
extern PGDLLEXPORT void worker_set_error(WorkerSlot *slot, const char *error);

#endif							/* CLICKSTREAM_WORKER_SLOT_H */
