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
	WORKER_SINK,
	WORKER_ROLLUP				/* lives while a rollup is filled */
} WorkerKind;

typedef enum WorkerState
{
	WORKER_STARTING,			/* wanted, and not yet at work: detail says why if it lasts */
	WORKER_CONNECTING,			/* looking for the broker or Elasticsearch */
	WORKER_COPYING,				/* a sink's first copy */
	WORKER_MENDING,				/* a sink's index is compared with its table */
	WORKER_RUNNING,
	WORKER_WAITING,				/* the surroundings fail; tries again by itself */
	WORKER_STOPPED				/* needs a person: last_error says what to do */
} WorkerState;

#define WORKER_TEXT_LENGTH 1024

typedef struct WorkerSlot
{
	slock_t		mutex;			/* guards all that follows */

	/* written by the launcher and its scouts; stand still while a worker runs, but for those below */
	WorkerKind	kind;
	Oid			database;
	int32		object_id;		/* of the source or sink */
	char		name[NAMEDATALEN];	/* of the source or sink, cut, for ps */
	int32		worker_no;		/* 0 .. n_workers - 1 */
	int32		n_workers;
	Oid			owner;

	/* what the last look at the catalog asked for; the launcher ends a worker that differs */
	bool		wanted;
	int32		next_n_workers;
	Oid			next_owner;

	/* written by the worker */
	pid_t		pid;			/* 0 while none runs */
	Latch	   *latch;			/* to wake it; NULL while none runs */
	bool		left_on_purpose;	/* it ended to be started again as the catalog then says */
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
	int64		skipped;		/* changes that a sink which follows inserts alone has left out */
	XLogRecPtr	acknowledged;	/* a sink: everything before it is in Elasticsearch */
	TimestampTz current_until;	/* a sink: so is all that was committed before; 0: does not follow the log */
	TimestampTz oldest_commit;	/* a sink: of those that are not yet; 0: none is known */

	/* a rollup: how far it is filled */
	TimestampTz begun_at;		/* 0: not yet */
	int64		blocks_done;
	int64		blocks_total;
	int64		groups_done;
	int64		groups_total;

	/*
	 * wait_for_source and wait_for_sink: the caller raises `asked` and wakes the worker; the worker
	 * asks Kafka how far it goes, and once all that is committed sets `answered` to the `asked` it
	 * saw and broadcasts `changed`.  A sink broadcasts whenever `acknowledged` moves.
	 */
	uint64		asked;
	uint64		answered;
	ConditionVariable changed;
} WorkerSlot;

/* which headers this library was built with */
extern PGDLLEXPORT const char clickstream_headers[];

/* source, sink or rollup */
extern PGDLLEXPORT const char *worker_kind_name(WorkerKind kind);

/* settings */
extern PGDLLEXPORT int clickstream_max_workers;
extern PGDLLEXPORT bool clickstream_enabled;

/* from the hooks that ask for and fill shared memory */
extern Size worker_slots_size(void);
extern void worker_slots_init(void);

/*
 * For all: the array, and its length (more than clickstream.max_workers, so that a worker that
 * waits for its turn can be seen waiting).  A slot is read under its mutex.  Throws when the
 * library is not preloaded.
 */
extern PGDLLEXPORT WorkerSlot *worker_slots(int *count);

/* for SQL functions: the slots of an object in this database, running or not (0 when none) */
extern PGDLLEXPORT int worker_slots_of(WorkerKind kind, int32 object_id, WorkerSlot **slots, int max);
extern PGDLLEXPORT void worker_wake(WorkerSlot *slot);

/* for the launcher and its scouts: the slot of this worker, a new one if there was none; NULL when all are in use */
extern WorkerSlot *worker_slot_claim(WorkerKind kind, Oid database, int32 object_id,
									 int32 worker_no);
extern void worker_slot_free(WorkerSlot *slot);
extern void worker_set_detail(WorkerSlot *slot, const char *detail);

/* for the worker itself */
extern PGDLLEXPORT WorkerSlot *worker_slot_mine(void);	/* NULL in any other process */
extern PGDLLEXPORT void worker_set_state(WorkerSlot *slot, WorkerState state, const char *detail); /* detail may be NULL */
extern PGDLLEXPORT void worker_set_error(WorkerSlot *slot, const char *error);

#endif							/* CLICKSTREAM_WORKER_SLOT_H */
