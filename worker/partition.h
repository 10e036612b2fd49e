/*
 * partition.h
 *		Partitions of a source's target: made ahead and on demand, retired when their time is over.
 *
 * All of these run outside a transaction, and use short ones of their own, as the owner.  They do
 * nothing for a target that is not partitioned, or a source without partition_interval or retention,
 * nor once the source has been paused.
 */
#ifndef CLICKSTREAM_PARTITION_H
#define CLICKSTREAM_PARTITION_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "catalog.h"
#include "time_range.h"
#include "worker_slot.h"

/* what came of it; the lists are of TimeRange * */
typedef struct PartitionsMade
{
	List	   *there;			/* have a leaf, made by us or by someone else meanwhile */
	List	   *in_default;		/* the default partition holds rows of that range, so it has the others, too */
	List	   *failed;			/* a lock was not to be had in a moment, or the table would not have it */
	char	   *reason;			/* why; NULL when none failed */
} PartitionsMade;

/*
 * Sees to it that each of these times has a leaf to go to.  Where that fails the caller goes on with
 * other rows and tries again later.  In the current memory context.
 */
extern void partitions_make(WorkerSlot *slot, const Source *source, const TimestampTz *times, int n,
							PartitionsMade *made);
extern bool partition_time_is_in(List *ranges, TimestampTz time);

/* the current interval and the next; looks at most every minute, counted from *last; *failures in a row */
extern void partitions_ahead(WorkerSlot *slot, const Source *source, TimestampTz *last, int *failures);

/* drops or detaches whole partitions whose upper bound is older than the retention; likewise */
extern void partitions_retire(WorkerSlot *slot, const Source *source, TimestampTz *last, int *failures);

#endif							/* CLICKSTREAM_PARTITION_H */
