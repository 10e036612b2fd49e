/*
 * partition.h
 *		Partitions of a source's target: made ahead and on demand, retired when their time is over.
 *
 * All of these run outside a transaction, and use short ones of their own, as the owner.  They do
 * nothing for a target that is not partitioned, or a source without partition_interval or retention.
 */
#ifndef CLICKSTREAM_PARTITION_H
#define CLICKSTREAM_PARTITION_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "catalog.h"
#include "worker_slot.h"

/*
 * Sees to it that each of these times has a leaf to go to.  True when all have one now: made by us,
 * by someone else meanwhile, or the default partition because it holds rows of that range.  False
 * when a lock was not to be had in a moment or the table would not have it: *reason (in the current
 * memory context) says why, the caller goes on with other rows and tries again later.
 */
extern bool partitions_make(WorkerSlot *slot, const Source *source, const TimestampTz *times, int n,
							char **reason);

/* the current interval and the next; call now and then, it looks at most every minute */
extern void partitions_ahead(WorkerSlot *slot, const Source *source);

/* drops whole partitions whose upper bound is older than the retention; it looks at most every minute */
extern void partitions_retire(WorkerSlot *slot, const Source *source);

#endif							/* CLICKSTREAM_PARTITION_H */
