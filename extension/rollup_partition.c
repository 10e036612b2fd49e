/*
 * rollup_partition.c
 *		The partitions of a rollup's table: made when a group needs one, dropped when their time is over.
 *
 * Made by whoever writes the group, in that transaction: by rollup_merge.c, before it writes.  Two who want
 * one at the same time come after each other by the lock that attaching takes; the second sees the first
 * one's partition once that is committed.  Each takes the lock before it locks groups of this rollup, and
 * rollups are written in the order of their ids, so statements cannot wait for each other in a circle.
 *
 * A partition is made beside the table and attached: that stops neither readers nor writers of the others.
 * There is no default partition, which attaching would have to lock and to read; a time that is infinite
 * has a partition of its own at either end, and no key is NULL.
 *
 * To drop one needs a lock that stops readers.  That is no business of a writer, whose transaction may
 * take long: a worker does it (rollup_main.c), which the database's scout asks for once a minute.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "executor/executor.h"
#include "partitioning/partbounds.h"
#include "partitioning/partdesc.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/partcache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "rollup_partition.h"
#include "rollup_trigger.h"
#include "statement.h"
#include "time_range.h"

/* backend-local: while one is being made */
static bool is_being_made = false;

bool
rollup_partition_is_being_made(void)
{
	return is_being_made;
}

/* ---------------------------------------------------------------- times of groups */

/* where the time key stands among the columns of a state, and its type */
static int
time_of_states(const RollupMerge *merge, Oid *type)
{
	AttrNumber	column = rollup_query_time_column(merge->query);
	ListCell   *cell;

	foreach(cell, rollup_query_keys(merge->query))
	{
		if (lfirst_int(cell) == column)
		{
			*type = TupleDescAttr(merge->states_desc, foreach_current_index(cell))->atttypid;
			return foreach_current_index(cell);
		}
	}
	elog(ERROR, "a partitioned rollup has no time key");
}

/* as it stands, whatever the time zone: bounds are compared so, too */
static TimestampTz
time_of_key(Datum key, Oid type)
{
	DateADT		date;

	if (type != DATEOID)
		return DatumGetTimestampTz(key);
	date = DatumGetDateADT(key);
	if (DATE_IS_NOBEGIN(date))
		return DT_NOBEGIN;
	if (DATE_IS_NOEND(date))
		return DT_NOEND;
	return date2timestamp_opt_overflow(date, NULL);
}

/* whether a partition has the time, and the range around it that is between two bounds */
static bool
has_partition(Relation table, Oid type, TimestampTz time, TimeRange *range)
{
	PartitionBoundInfo bounds = RelationGetPartitionDesc(table, true)->boundinfo;

	if (!TIMESTAMP_NOT_FINITE(time))
		return time_range_around_in(table, type, time, range);
	*range = (TimeRange) {time, time};
	if (bounds == NULL || bounds->ndatums == 0)
		return false;
	return TIMESTAMP_IS_NOEND(time) ?
		bounds->kind[bounds->ndatums - 1][0] == PARTITION_RANGE_DATUM_MAXVALUE :
		bounds->kind[0][0] == PARTITION_RANGE_DATUM_MINVALUE;
}

static bool
is_in(const TimeRange *range, TimestampTz time)
{
	return time == range->from || (time > range->from && time < range->to);
}

/* the times of groups that have no partition, one for each range between two bounds at least */
static List *
times_without(RollupMerge *merge, Tuplestorestate *states, Relation table)
{
	TupleTableSlot *slot = MakeSingleTupleTableSlot(merge->states_desc, &TTSOpsMinimalTuple);
	Oid			type;
	int			at = time_of_states(merge, &type);
	TimeRange	last = {0, 0};
	bool		last_is_set = false;
	List	   *times = NIL;

	tuplestore_rescan(states);
	while (tuplestore_gettupleslot(states, true, false, slot))
	{
		bool		is_null;
		TimestampTz time = time_of_key(slot_getattr(slot, at + 1, &is_null), type);

		if (last_is_set && is_in(&last, time))
			continue;
		if (has_partition(table, type, time, &last))
			last_is_set = true;
		else
		{
			TimestampTz *copy = palloc(sizeof(TimestampTz));

			*copy = time;
			times = lappend(times, copy);
			last = TIMESTAMP_NOT_FINITE(time) ? (TimeRange) {time, time} :
				time_range_around(merge->partition_interval, type, time);
			last_is_set = true;
		}
	}
	tuplestore_rescan(states);
	ExecDropSingleTupleTableSlot(slot);
	return times;
}

/* ---------------------------------------------------------------- making one */

/* what stands in FROM (…) TO (…) */
static char *
bounds_sql(const TimeRange *range, Oid type)
{
	if (TIMESTAMP_IS_NOEND(range->from))
		return "FROM ('infinity') TO (MAXVALUE)";
	if (TIMESTAMP_IS_NOBEGIN(range->from))
		return psprintf("FROM (MINVALUE) TO (%s)", time_range_literal(range->to, type));
	return psprintf("FROM (%s) TO (%s)", time_range_literal(range->from, type), time_range_literal(range->to, type));
}

static char *
free_name(Relation table, const Interval *width, const TimeRange *range)
{
	const char *suffix = TIMESTAMP_IS_NOEND(range->from) ? "infinity" : TIMESTAMP_IS_NOBEGIN(range->from) ? "past" :
		time_range_suffix(width, range->from) + 1;

	return ChooseRelationName(RelationGetRelationName(table), NULL, suffix, RelationGetNamespace(table), false);
}

static void
create(Relation table, const Interval *width, const TimeRange *range, Oid type)
{
	const char *parent = qualified_name(RelationGetRelid(table));
	char	   *name = free_name(table, width, range);
	const char *partition = quote_qualified_identifier(get_namespace_name(RelationGetNamespace(table)), name);
	Oid			schema = RelationGetNamespace(table);
	bool		unlogged = table->rd_rel->relpersistence == RELPERSISTENCE_UNLOGGED;
	char		identity = table->rd_rel->relreplident;

	table_close(table, NoLock);
	run_ddl(psprintf("CREATE %sTABLE %s (LIKE %s INCLUDING ALL) WITH (" ROLLUP_STORAGE ")", unlogged ? "UNLOGGED " : "",
					 partition, parent));
	if (identity == REPLICA_IDENTITY_FULL || identity == REPLICA_IDENTITY_NOTHING)
		run_ddl(psprintf("ALTER TABLE %s REPLICA IDENTITY %s", partition,
						 identity == REPLICA_IDENTITY_FULL ? "FULL" : "NOTHING"));
	rollup_guard_install_on_partition(get_relname_relid(name, schema));
	run_ddl(psprintf("ALTER TABLE %s ATTACH PARTITION %s FOR VALUES %s", parent, partition, bounds_sql(range, type)));
}

/* Under the lock there may be one by now. */
static void
make_one(RollupMerge *merge, TimestampTz time)
{
	Relation	table = table_open(merge->rollup, NoLock);
	Oid			type;
	TimeRange	around,
				range;

	(void) time_of_states(merge, &type);
	if (has_partition(table, type, time, &around))
	{
		table_close(table, NoLock);
		return;
	}
	if (TIMESTAMP_IS_NOEND(time))
		range = (TimeRange) {DT_NOEND, DT_NOEND};
	else if (TIMESTAMP_IS_NOBEGIN(time))
		range = (TimeRange) {DT_NOBEGIN, type == DATEOID ?
							 MIN_TIMESTAMP - MIN_TIMESTAMP % USECS_PER_DAY : MIN_TIMESTAMP};
	else
	{
		range = time_range_around(merge->partition_interval, type, time);
		(void) time_range_cut_to_gap(table, type, time, &range);
	}
	create(table, merge->partition_interval, &range, type);
}

/* Bounds are written and read as UTC. */
static void
make_all(RollupMerge *merge, List *times)
{
	int			level = NewGUCNestLevel();
	ListCell   *cell;

	(void) set_config_option("TimeZone", "UTC", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("client_min_messages", "warning", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
							 false);
	is_being_made = true;
	PG_TRY();
	{
		foreach(cell, times)
			make_one(merge, *(TimestampTz *) lfirst(cell));
	}
	PG_FINALLY();
	{
		is_being_made = false;
	}
	PG_END_TRY();
	AtEOXact_GUC(true, level);
}

/* The table is open once by ourselves; who else has it open reads it, and cannot be shown another set of partitions. */
static void
refuse_while_read(Relation table)
{
	if (table->rd_refcnt > 1)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("a new partition is needed while this session reads the table"),
				 errdetail("Nothing can be attached to \"%s\" while an open cursor, or the statement itself, is reading it.",
						   RelationGetRelationName(table)),
				 errhint("Close the cursor first, or read the rollup into a temporary table and write from that.")));
}

void
rollup_partitions_make(RollupMerge *merge, Tuplestorestate *states)
{
	Relation	table;
	List	   *times;

	if (merge->partition_interval == NULL)
		return;
	table = table_open(merge->rollup, RowExclusiveLock);
	times = times_without(merge, states, table);
	if (times != NIL)
		refuse_while_read(table);
	table_close(table, NoLock);
	if (times == NIL)
		return;
	LockRelationOid(merge->rollup, ShareUpdateExclusiveLock);
	make_all(merge, times);
}

/* ---------------------------------------------------------------- dropping one */

/* the first that ends at or before a time, or InvalidOid; a key without a zone may mean any */
static Oid
old_partition(Relation table, TimestampTz oldest)
{
	PartitionDesc parts = RelationGetPartitionDesc(table, true);
	PartitionBoundInfo bounds = parts->boundinfo;
	Oid			type = RelationGetPartitionKey(table)->parttypid[0];

	if (type != TIMESTAMPTZOID)
		oldest -= USECS_PER_DAY;
	for (int at = 0; bounds != NULL && at < bounds->ndatums; at++)
	{
		if (bounds->indexes[at] >= 0 && time_range_bound(bounds, at, type) <= oldest)
			return parts->oids[bounds->indexes[at]];
	}
	return InvalidOid;
}

static bool
retires_partitions(const Rollup *rollup)
{
	return rollup != NULL && rollup->partition_interval != NULL && rollup->retention != NULL &&
		rollup->phase == ROLLUP_FILLED && get_rel_relkind(rollup->rollup) == RELKIND_PARTITIONED_TABLE;
}

bool
rollup_has_old_partition(const Rollup *rollup)
{
	Relation	table;
	bool		has;

	if (!retires_partitions(rollup) || !ConditionalLockRelationOid(rollup->rollup, AccessShareLock))
		return false;
	table = try_relation_open(rollup->rollup, NoLock);
	if (table == NULL)
		return false;
	has = OidIsValid(old_partition(table, rollup_oldest(rollup)));
	relation_close(table, NoLock);
	return has;
}

bool
rollup_drop_old_partition(int32 rollup_id)
{
	Rollup	   *rollup = catalog_rollup_by_id(rollup_id);
	Relation	table;
	Oid			partition;

	if (!retires_partitions(rollup) || !rollup_has_old_partition(rollup))
		return false;
	table = table_open(rollup->rollup, AccessExclusiveLock);
	partition = old_partition(table, rollup_oldest(rollup));
	table_close(table, NoLock);
	if (!OidIsValid(partition))
		return false;
	run_ddl(psprintf("DROP TABLE %s", qualified_name(partition)));
	ereport(LOG,
			(errmsg("dropped a partition of rollup %s that is older than its retention", qualified_name(rollup->rollup))));
	return true;
}
