/*
 * pending.c
 *		Stands in for partition.c, which is not written yet, and goes when it is: makes no partition.
 */
#include "postgres.h"

#include "partition.h"

__attribute__((weak)) bool
partitions_make(WorkerSlot *slot, const Source *source, const TimestampTz *times, int n, char **reason)
{
	*reason = "partitions are not made yet";
	return false;
}

__attribute__((weak)) void
partitions_ahead(WorkerSlot *slot, const Source *source)
{
}

__attribute__((weak)) void
partitions_retire(WorkerSlot *slot, const Source *source)
{
}
