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
	TimeRange	sibling_range;
} PartitionModel;

extern PartitionModel *partition_model(Relation target, TimestampTz from);
extern void partition_create(const PartitionModel *model, const Interval *width, const TimeRange *range);

/* a name that is not taken, of the stem and the suffix, and one as SQL */
extern char *partition_free_name(const char *stem, const char *suffix, Oid schema);
extern char *partition_in_schema(const PartitionModel *model, const char *name);

/* what follows the columns in CREATE TABLE, for a partition like this one (InvalidOid: like none) */
extern char *partition_storage(const PartitionModel *model, Oid like);

/* ---------------------------------------------------------------- partition_children.c */

/* PARTITION BY as the sibling, which has that range, has it; NULL when that is not taken over */
extern char *partition_split(const PartitionModel *model, Oid sibling, TimeRange range);
extern void partition_create_children(const PartitionModel *model, const char *plain, Oid sibling,
									  TimeRange sibling_range, TimeRange range);

/* ---------------------------------------------------------------- partition.c */

/* a step of work on partitions: in a transaction, connected to SPI, with the source as it is then */
typedef void (*PartitionStep) (const Source *source, void *argument);

/*
 * How long each of its locks may be waited for, and which partition it is about to take from everybody:
 * set by the step; NULL where none is, and those who only read or write the table are in nobody's way.
 */
typedef struct PartitionLocks
{
	int			timeout_ms;
	const Oid  *partition;
} PartitionLocks;

/*
 * Runs a step in a transaction of its own, as the owner, that waits for locks only a moment.  NULL,
 * or why it failed, in the current memory context; nothing has happened then.  Who held a lock is named.
 */
extern char *partition_run(WorkerSlot *slot, const Source *source, PartitionLocks locks, PartitionStep step,
						   void *argument);

/* true at most once a minute for each *last */
extern bool partition_is_due(TimestampTz *last);

#endif							/* CLICKSTREAM_PARTITION_INTERNAL_H */
