/*
 * partition_internal.h
 *		What making partitions and retiring them have in common: ranges, bounds as times, short transactions.
 */
#ifndef CLICKSTREAM_PARTITION_INTERNAL_H
#define CLICKSTREAM_PARTITION_INTERNAL_H

#include "postgres.h"

#include "access/attnum.h"
#include "catalog/pg_type_d.h"
#include "partitioning/partdefs.h"
#include "utils/relcache.h"

#include "partition.h"

/* ---------------------------------------------------------------- partition_range.c */

/* the type of the one time column by which the target is partitioned; throws when there is none */
extern Oid	partition_time_type(Relation target);

/* bound number `at` of the target as a time */
extern TimestampTz partition_bound_time(PartitionBoundInfo bounds, int at, Oid type);

/* the interval around a time: counted from 2000 on, in UTC; weeks begin on Monday */
extern TimeRange partition_interval_around(const Interval *width, Oid type, TimestampTz time);

/* false when a partition but the default one has the time; else the range is cut to the gap around it */
extern bool partition_cut_to_gap(Relation target, TimestampTz time, TimeRange *range);

/* as SQL and as the end of a name */
extern char *partition_bound_literal(TimestampTz time, Oid type);
extern char *partition_suffix(const Interval *width, TimestampTz from);

/* ---------------------------------------------------------------- partition_create.c */

/* what a new partition takes from its table: the table itself may not be open while it is altered */
typedef struct PartitionModel
{
	Oid			relid;
	Oid			schema;
	char	   *table;			/* its name, bare */
	char	   *table_sql;		/* and as SQL */
	AttrNumber	column;			/* by which it is partitioned */
	char	   *column_sql;
	Oid			type;			/* of that column */
	Oid			tablespace;
	bool		unlogged;
	bool		row_security;
	char		replica_identity;
	Oid			replica_index;
	Oid			default_partition;
	Oid			sibling;		/* the partition that it is to be like, or InvalidOid */
} PartitionModel;

extern PartitionModel *partition_model(Relation target, TimestampTz from);
extern void partition_create(const PartitionModel *model, const Interval *width, const TimeRange *range);

/* ---------------------------------------------------------------- partition.c */

/* a step of work on partitions: in a transaction, connected to SPI, with the source as it is then */
typedef void (*PartitionStep) (const Source *source, void *argument);

/*
 * Runs a step in a transaction of its own, as the owner, that waits for locks only a moment.  NULL,
 * or why it failed, in the current memory context; nothing has happened then.
 */
extern char *partition_run(WorkerSlot *slot, const Source *source, const char *lock_timeout, PartitionStep step,
						   void *argument);

/* true at most once a minute for each *last */
extern bool partition_is_due(TimestampTz *last);

#endif							/* CLICKSTREAM_PARTITION_INTERNAL_H */
