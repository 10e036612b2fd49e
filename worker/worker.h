/*
 * worker.h
 *		What every source and sink worker does first and last, and the shape of its life.
 */
#ifndef CLICKSTREAM_WORKER_H
#define CLICKSTREAM_WORKER_H

#include "postgres.h"

#include "compat.h"
#include "worker_slot.h"

/*
 * Called first in a worker's main function with its bgw_main_arg (the index of its slot): signals,
 * connection to the slot's database, all settings that change meaning pinned (background.c), slot
 * filled in, exit callback registered.  Ends the process when the slot is not this worker's to have.
 * The slot's n_workers, worker_no and owner stand still while the worker lives: compare n_workers
 * with the row in each transaction, and leave (launcher_wake_now, proc_exit) when it differs.
 */
extern WorkerSlot *worker_attach(Datum main_arg);

/*
 * A transaction as the owner, with snapshot pushed; worker_commit ends it and reports idle.  A caught
 * error needs worker_rollback before anything else.  Settings made inside end with it.  worker_begin
 * ends the process instead when that was asked for, and throws when the owner has been dropped.
 */
extern void worker_begin(WorkerSlot *slot);
extern void worker_commit(void);
extern void worker_rollback(void);

/*
 * A cached description of a table is that of the moment it was read, and a table's shape in the log may
 * be an older one.  Nothing tells the two apart, so whoever turns from the one to the other says so
 * here, in a transaction or under a resource owner; worker_begin does.
 */
typedef enum WorkerCatalogs
{
	CATALOGS_NOW,
	CATALOGS_OF_THE_LOG
} WorkerCatalogs;

extern void worker_look_at(WorkerCatalogs wanted);

/* In a PG_CATCH: the error, in that context, which is current then; its transaction is rolled back. */
extern ErrorData *worker_end_failed(MemoryContext context);

/* the same where a lock was not to be had in time; any other error is thrown on */
extern void worker_end_busy(MemoryContext context);

/*
 * True once the postmaster or an operator wants it to end; also handles SIGHUP and barriers.  Ask
 * outside a transaction; inside, CHECK_FOR_INTERRUPTS ends the process with a FATAL error.
 */
extern bool worker_should_stop(void);

/* what kind of fault an SQLSTATE is: the record's own, or the surroundings' (08 25 40 42 53 55 57 58 XX) */
extern bool sqlstate_is_surroundings(int sqlerrcode);

/*
 * whether such a fault of the surroundings may yet be that of one record, on which a function stumbles: internal
 * errors, and what is not there or not allowed.  Locks, disks, memory and shutdowns never are.
 */
extern bool sqlstate_may_be_of_record(int sqlerrcode);

/* sleeps until the latch is set, at most ms, under the named wait event; clears the latch */
extern void worker_sleep(int ms, const char *wait_event);

/* the pause before a next try: from 0.1 s at attempt 0, doubled, jittered, to 15 s; the latch ends it early */
extern void worker_pause(int attempt, const char *wait_event);

/* outside a transaction: ends the process, for the launcher to start what is wanted now */
pg_noreturn extern void worker_leave(void);

#endif							/* CLICKSTREAM_WORKER_H */
