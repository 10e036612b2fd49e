/*
 * partition_internal.h
 *		What making partitions and dropping them have in common: bounds as times, short transactions.
 */
#ifndef CLICKSTREAM_PARTITION_INTERNAL_H
#define CLICKSTREAM_PARTITION_INTERNAL_H

#include "postgres.h"

#include "partitioning/partdefs.h"
#include "utils/relcache.h"

#include "partition.h"

/* a step of work on partitions: in a transaction, connected to SPI */
typedef void (*PartitionStep) (const Source *source, void *argument);

/* the type of the one time column by which the target is partitioned; throws when there is none */
extern Oid	partition_time_type(Relation target);

/* bound number `at` of the target as a time */
extern TimestampTz partition_bound_time(PartitionBoundInfo bounds, int at, Oid type);

/*
 * Runs a step in a transaction of its own, as the owner, that waits for locks only a moment.  NULL,
 * or why it failed, in the current memory context; nothing has happened then.
 */
extern char *partition_run(WorkerSlot *slot, const Source *source, PartitionStep step, void *argument);

/* true at most once a minute for each *last */
extern bool partition_is_due(TimestampTz *last);

#endif							/* CLICKSTREAM_PARTITION_INTERNAL_H */
