/*
 * worker.h
 *		What every source and sink worker does first and last, and the shape of its life.
 */
#ifndef CLICKSTREAM_WORKER_H
#define CLICKSTREAM_WORKER_H

#include "postgres.h"

#include "worker_slot.h"

/*
 * Called first in a worker's main function with its bgw_main_arg (the index of its slot): signals,
 * connection to the slot's database, the owner's identity (SetUserIdAndSecContext in each
 * transaction, see worker_begin), all settings that change meaning pinned (TimeZone UTC, DateStyle
 * ISO, IntervalStyle, extra_float_digits, bytea_output, time-outs, session_replication_role,
 * row_security, search_path), slot filled in, exit callback registered.
 */
extern WorkerSlot *worker_attach(Datum main_arg);

/* a transaction as the owner, with snapshot pushed; worker_commit ends it and reports idle */
extern void worker_begin(WorkerSlot *slot);
extern void worker_commit(void);
extern void worker_rollback(void);

/* true once the postmaster or an operator wants it to end; also handles SIGHUP and barriers */
extern bool worker_should_stop(void);

/* what kind of fault an SQLSTATE is: the record's own, or the surroundings' (08 25 40 42 53 55 57 58 XX) */
extern bool sqlstate_is_surroundings(int sqlerrcode);

/* sleeps on the latch for at most ms under the named wait event; growing, jittered pauses for retries */
extern void worker_pause(int attempt, const char *wait_event);

#endif							/* CLICKSTREAM_WORKER_H */
