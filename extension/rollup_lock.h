/*
 * rollup_lock.h
 *		All writers of a rollup's target kept out for a moment.
 */
#ifndef CLICKSTREAM_ROLLUP_LOCK_H
#define CLICKSTREAM_ROLLUP_LOCK_H

#include "postgres.h"

#include "nodes/pg_list.h"

/* until the transaction's end; waits for those that are at work, but lets others pass in between */
extern void rollup_lock_out_writers(Oid target);

/* the same before a rollup is dropped, or the target with all of its rollups (InvalidOid): readers, too */
extern void rollup_lock_out_all(Oid target, Oid rollup);

/*
 * Over the ends of transactions, until they are released: those held are added to *held, in the
 * current memory context.  Throws lock_not_available when some could not be had in a moment; those held
 * until then are in *held.
 */
extern void rollup_hold_writers(Oid target, List **held);
extern void rollup_release_writers(List **held);

#endif							/* CLICKSTREAM_ROLLUP_LOCK_H */
