/*
 * rollup_partition.h
 *		The partitions of a rollup's table: made when a group needs one, dropped when their time is over.
 */
#ifndef CLICKSTREAM_ROLLUP_PARTITION_H
#define CLICKSTREAM_ROLLUP_PARTITION_H

#include "postgres.h"

#include "utils/tuplestore.h"

#include "catalog.h"
#include "rollup_merge.h"

/* how the table of a rollup, or each of its partitions, is stored */
#define ROLLUP_STORAGE "fillfactor = 50, toast_tuple_target = 8160, autovacuum_vacuum_scale_factor = 0.05"

/*
 * Sees to it that each of the groups has a partition; does nothing for a table that is not partitioned.
 * As the rollup's owner, before any of the groups is locked.
 */
extern void rollup_partitions_make(RollupMerge *merge, Tuplestorestate *states);

/* Whether we are at it: else nobody attaches anything. */
extern bool rollup_partition_is_being_made(void);

/* A look without waiting: whether a partition's time is over. */
extern bool rollup_has_old_partition(const Rollup *rollup);

/* Drops one such partition: false when there is none.  Waits for readers no longer than lock_timeout. */
extern PGDLLEXPORT bool rollup_drop_old_partition(int32 rollup_id);

#endif							/* CLICKSTREAM_ROLLUP_PARTITION_H */
