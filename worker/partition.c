/*
 * partition.c
 *		Partitions of a target by time: made when rows need them or soon will.
 *
 * Owns their ranges, names and settings.  Never makes one where somebody else's partition, or a row
 * in the default partition, has the range already.  partition_retire.c drops them.  Called by
 * source_main.c, outside any transaction.
 *
 * A new partition is made beside the table (LIKE ... INCLUDING ALL) and then attached: that stops
 * neither readers nor writers of the others, where PARTITION OF would.  ShareUpdateExclusive, which
 * attaching takes anyway, is taken first, so that what another worker or a person made meanwhile is
 * seen.  A partition is always a plain table: where others are partitioned again, that is their
 * maker's business.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "commands/tablespace.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "partitioning/partbounds.h"
#include "partitioning/partdesc.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "partition_internal.h"
#include "rollup_trigger.h"
#include "statement.h"
#include "worker.h"
#include "writer.h"

/* how long making or dropping a partition may wait for a lock, and others behind it */
#define LOCK_TIMEOUT "300ms"

/* a Monday, near the beginning of PostgreSQL's time: weeks begin there */
#define A_MONDAY ((int64) 2 * USECS_PER_DAY)

typedef struct TimeRange
{
	TimestampTz from;
	TimestampTz to;
} TimeRange;

/* what a new partition takes from its table: the table itself may not be open while it is altered */
typedef struct PartitionModel
{
	Oid			relid;
	Oid			schema;
	char	   *table;			/* its name, bare */
	char	   *table_sql;		/* and as SQL */
	char	   *column_sql;
	Oid			type;			/* of that column */
	Oid			owner;
	Oid			tablespace;
	bool		unlogged;
	char		replica_identity;
	Oid			replica_index;
	Oid			default_partition;
} PartitionModel;

/* one partition to be made, and what came of it */
typedef struct PartitionTask
{
	TimestampTz time;
	TimeRange	range;			/* where rows have a place now */
} PartitionTask;

/* ---------------------------------------------------------------- ranges */

static int64
floor_divide(int64 number, int64 by)
{
	return number / by - (number % by < 0);
}

static TimestampTz
first_of_month(int64 months)
{
	int			year = 2000 + (int) floor_divide(months, MONTHS_PER_YEAR),
				month = (int) (months - floor_divide(months, MONTHS_PER_YEAR) * MONTHS_PER_YEAR) + 1;

	return (int64) (date2j(year, month, 1) - POSTGRES_EPOCH_JDATE) * USECS_PER_DAY;
}

static TimeRange
range_of_months(int32 width, TimestampTz time)
{
	int			year,
				month,
				day;
	int64		months;

	j2date((int) (floor_divide(time, USECS_PER_DAY) + POSTGRES_EPOCH_JDATE), &year, &month, &day);
	months = floor_divide((int64) (year - 2000) * MONTHS_PER_YEAR + month - 1, width) * width;
	return (TimeRange) {first_of_month(months), first_of_month(months + width)};
}

/* the interval around a time: counted from 2000 on, in UTC; weeks begin on Monday */
static TimeRange
interval_around(const Interval *width, TimestampTz time)
{
	int64		length = width->day * USECS_PER_DAY + width->time,
				origin = length % (7 * USECS_PER_DAY) == 0 ? A_MONDAY : 0;
	TimeRange	range;

	if (width->month > 0)
		range = range_of_months(width->month, time);
	else
	{
		range.from = origin + floor_divide(time - origin, length) * length;
		range.to = range.from + length;
	}
	range.from = Max(range.from, MIN_TIMESTAMP);
	range.to = Min(range.to, END_TIMESTAMP - 1);
	return range;
}

/* ---------------------------------------------------------------- what is there */

Oid
partition_time_type(Relation target)
{
	AttrNumber	column = writer_time_column(target);

	if (column == 0)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("table \"%s\" is not partitioned by range of one time column", RelationGetRelationName(target)),
				 errhint("Partition it so, or run clickstream.alter_source with partition_interval => '0'.")));
	return getBaseType(TupleDescAttr(RelationGetDescr(target), column - 1)->atttypid);
}

TimestampTz
partition_bound_time(PartitionBoundInfo bounds, int at, Oid type)
{
	switch (bounds->kind[at][0])
	{
		case PARTITION_RANGE_DATUM_MINVALUE:
			return DT_NOBEGIN;
		case PARTITION_RANGE_DATUM_MAXVALUE:
			return DT_NOEND;
		default:
			if (type != DATEOID)
				return DatumGetTimestampTz(bounds->datums[at][0]);
			if (DATE_NOT_FINITE(DatumGetDateADT(bounds->datums[at][0])))
				return DATE_IS_NOBEGIN(DatumGetDateADT(bounds->datums[at][0])) ? DT_NOBEGIN : DT_NOEND;
			return DatumGetDateADT(bounds->datums[at][0]) * USECS_PER_DAY;
	}
}

/* false when a partition but the default one has the time; else the range is cut to the gap around it */
static bool
cut_to_gap(Relation target, TimestampTz time, TimeRange *range)
{
	PartitionBoundInfo bounds = RelationGetPartitionDesc(target, true)->boundinfo;
	Oid			type = partition_time_type(target);

	for (int at = 0; bounds != NULL && at <= bounds->ndatums; at++)
	{
		TimestampTz low = at == 0 ? DT_NOBEGIN : partition_bound_time(bounds, at - 1, type),
					high = at == bounds->ndatums ? DT_NOEND : partition_bound_time(bounds, at, type);

		if (time < low || time >= high)
			continue;
		range->from = Max(range->from, low);
		range->to = Min(range->to, high);
		return bounds->indexes[at] < 0;
	}
	return true;
}

static Oid
default_of(Relation target)
{
	PartitionDesc parts = RelationGetPartitionDesc(target, true);

	if (parts->boundinfo == NULL || !partition_bound_has_default(parts->boundinfo))
		return InvalidOid;
	return parts->oids[parts->boundinfo->default_index];
}

static PartitionModel *
model_of(Relation target)
{
	PartitionModel *model = palloc0(sizeof(PartitionModel));
	AttrNumber	column = writer_time_column(target);

	model->relid = RelationGetRelid(target);
	model->schema = RelationGetNamespace(target);
	model->table = pstrdup(RelationGetRelationName(target));
	model->table_sql = qualified_name(model->relid);
	model->type = partition_time_type(target);
	model->column_sql = pstrdup(quote_identifier(NameStr(TupleDescAttr(RelationGetDescr(target), column - 1)->attname)));
	model->owner = target->rd_rel->relowner;
	model->tablespace = target->rd_rel->reltablespace;
	model->unlogged = target->rd_rel->relpersistence == RELPERSISTENCE_UNLOGGED;
	model->replica_identity = target->rd_rel->relreplident;
	model->replica_index = RelationGetReplicaIndex(target);
	model->default_partition = default_of(target);
	return model;
}

/* ---------------------------------------------------------------- SQL */

/* Workers' DateStyle and TimeZone are pinned: ISO with +00, which a column without a zone leaves out. */
static char *
bound_literal(TimestampTz time, Oid type)
{
	const char *text = type == DATEOID ?
		DatumGetCString(DirectFunctionCall1(date_out, DateADTGetDatum((DateADT) floor_divide(time, USECS_PER_DAY)))) :
		timestamptz_to_str(time);

	return quote_literal_cstr(text);
}

static bool
default_holds_rows(const PartitionModel *model, const TimeRange *range)
{
	if (!OidIsValid(model->default_partition))
		return false;
	run_statement(psprintf("SELECT FROM %s WHERE %s >= %s AND %s < %s LIMIT 1",
						   qualified_name(model->default_partition),
						   model->column_sql, bound_literal(range->from, model->type),
						   model->column_sql, bound_literal(range->to, model->type)));
	return SPI_processed > 0;
}

/* as much of the beginning of the range as tells it: 2025, 202506, 20250604, 20250604_12, 20250604_1230 */
static char *
suffix_of(const Interval *width, TimestampTz from)
{
	struct pg_tm tm;
	fsec_t		fraction;

	if (timestamp2tm(from, NULL, &tm, &fraction, NULL, NULL) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp out of range")));
	if (tm.tm_min != 0 || tm.tm_sec != 0)
		return psprintf("_p%04d%02d%02d_%02d%02d%s", tm.tm_year, tm.tm_mon, tm.tm_mday, tm.tm_hour, tm.tm_min,
						tm.tm_sec != 0 ? psprintf("%02d", tm.tm_sec) : "");
	if (tm.tm_hour != 0 || width->time != 0)
		return psprintf("_p%04d%02d%02d_%02d", tm.tm_year, tm.tm_mon, tm.tm_mday, tm.tm_hour);
	if (tm.tm_mday != 1 || width->month == 0)
		return psprintf("_p%04d%02d%02d", tm.tm_year, tm.tm_mon, tm.tm_mday);
	if (tm.tm_mon != 1 || width->month % MONTHS_PER_YEAR != 0)
		return psprintf("_p%04d%02d", tm.tm_year, tm.tm_mon);
	return psprintf("_p%04d", tm.tm_year);
}

static bool
name_is_taken(const char *name, Oid schema)
{
	return OidIsValid(get_relname_relid(name, schema)) ||
		SearchSysCacheExists2(TYPENAMENSP, CStringGetDatum(name), ObjectIdGetDatum(schema));
}

/* the table's name is cut, at a whole character, where the suffix needs the room */
static char *
free_name(const PartitionModel *model, const Interval *width, TimestampTz from)
{
	char	   *suffix = suffix_of(width, from);

	for (int n = 0;; n++)
	{
		char	   *end = n == 0 ? suffix : psprintf("%s_%d", suffix, n);
		int			room = NAMEDATALEN - 1 - strlen(end);
		char	   *name = psprintf("%.*s%s", pg_mbcliplen(model->table, strlen(model->table), room), model->table, end);

		if (!name_is_taken(name, model->schema))
			return name;
	}
}

/* ---------------------------------------------------------------- making one */

static void
create_table(const PartitionModel *model, const char *name)
{
	run_statement(psprintf("CREATE %sTABLE %s (LIKE %s INCLUDING ALL EXCLUDING IDENTITY)%s%s",
						   model->unlogged ? "UNLOGGED " : "", name, model->table_sql,
						   OidIsValid(model->tablespace) ? " TABLESPACE " : "",
						   OidIsValid(model->tablespace) ? quote_identifier(get_tablespace_name(model->tablespace)) : ""));
	if (model->owner != GetUserId())
		run_statement(psprintf("ALTER TABLE %s OWNER TO %s", name,
							   quote_identifier(GetUserNameFromId(model->owner, false))));
}

static void
attach(const PartitionModel *model, const char *name, const TimeRange *range)
{
	run_statement(psprintf("ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (%s) TO (%s)", model->table_sql, name,
						   bound_literal(range->from, model->type), bound_literal(range->to, model->type)));
}

/* the partition's index that belongs to an index of the target */
static Oid
index_of_partition(Oid index, Oid partition)
{
	ListCell   *cell;

	foreach(cell, find_inheritance_children(index, NoLock))
		if (IndexGetRelation(lfirst_oid(cell), true) == partition)
			return lfirst_oid(cell);
	return InvalidOid;
}

/* REPLICA IDENTITY is not inherited: the partition gets the one of its table */
static void
copy_replica_identity(const PartitionModel *model, const char *name, Oid partition)
{
	Oid			index;

	switch (model->replica_identity)
	{
		case REPLICA_IDENTITY_FULL:
			run_statement(psprintf("ALTER TABLE %s REPLICA IDENTITY FULL", name));
			break;
		case REPLICA_IDENTITY_NOTHING:
			run_statement(psprintf("ALTER TABLE %s REPLICA IDENTITY NOTHING", name));
			break;
		case REPLICA_IDENTITY_INDEX:
			index = index_of_partition(model->replica_index, partition);
			if (OidIsValid(index))
				run_statement(psprintf("ALTER TABLE %s REPLICA IDENTITY USING INDEX %s", name,
									   quote_identifier(get_rel_name(index))));
			break;
		default:
			break;
	}
}

static void
make(const PartitionModel *model, const Interval *width, const TimeRange *range)
{
	char	   *plain = free_name(model, width, range->from);
	char	   *name = quote_qualified_identifier(get_namespace_name(model->schema), plain);
	Oid			partition;

	create_table(model, name);
	attach(model, name, range);
	partition = get_relname_relid(plain, model->schema);
	copy_replica_identity(model, name, partition);
	rollup_prepare_partition(partition);
	ereport(LOG,
			(errmsg("made partition %s of %s", name, model->table_sql)));
}

/* the range that the task's time is to have, and the model of its partition; NULL when it has one */
static PartitionModel *
plan(const Source *source, PartitionTask *task)
{
	Relation	target = table_open(source->target, ShareUpdateExclusiveLock);
	PartitionModel *model = NULL;

	task->range = interval_around(source->partition_interval, task->time);
	if (partition_time_type(target) == DATEOID)
	{
		task->range.from = floor_divide(task->range.from, USECS_PER_DAY) * USECS_PER_DAY;
		task->range.to = floor_divide(task->range.to + USECS_PER_DAY - 1, USECS_PER_DAY) * USECS_PER_DAY;
	}
	if (cut_to_gap(target, task->time, &task->range))
		model = model_of(target);
	table_close(target, NoLock);
	return model;
}

static void
make_if_missing(const Source *source, void *argument)
{
	PartitionTask *task = argument;
	PartitionModel *model = plan(source, task);

	if (model != NULL && !default_holds_rows(model, &task->range))
		make(model, source->partition_interval, &task->range);
}

/* ---------------------------------------------------------------- short transactions */

/* after an error in a transaction of ours: why */
static char *
end_failed(MemoryContext context)
{
	ErrorData  *error;

	MemoryContextSwitchTo(context);
	error = CopyErrorData();
	FlushErrorState();
	worker_rollback();
	MemoryContextSwitchTo(context);
	return error->detail == NULL ? error->message : psprintf("%s: %s", error->message, error->detail);
}

char *
partition_run(WorkerSlot *slot, const Source *source, PartitionStep step, void *argument)
{
	MemoryContext context = CurrentMemoryContext;
	char	   *volatile reason = NULL;

	PG_TRY();
	{
		worker_begin(slot);
		(void) set_config_option("lock_timeout", LOCK_TIMEOUT, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
		if (SPI_connect() != SPI_OK_CONNECT)
			elog(ERROR, "SPI_connect failed");
		step(source, argument);
		SPI_finish();
		worker_commit();
	}
	PG_CATCH();
	{
		reason = end_failed(context);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	return reason;
}

bool
partition_is_due(TimestampTz *last)
{
	TimestampTz now = GetCurrentTimestamp();

	if (now - *last < USECS_PER_MINUTE)
		return false;
	*last = now;
	return true;
}

/* ---------------------------------------------------------------- for the caller */

bool
partitions_make(WorkerSlot *slot, const Source *source, const TimestampTz *times, int n, char **reason)
{
	PartitionTask task = {0};

	*reason = NULL;
	if (source->partition_interval == NULL)
		return true;
	for (int i = 0; i < n; i++)
	{
		if (times[i] >= task.range.from && times[i] < task.range.to)
			continue;			/* the same one as the last time's */
		task.time = times[i];
		*reason = partition_run(slot, source, make_if_missing, &task);
		if (*reason != NULL)
			return false;
	}
	return true;
}

void
partitions_ahead(WorkerSlot *slot, const Source *source)
{
	static TimestampTz last = 0;
	TimestampTz times[2] = {GetCurrentTimestamp()};
	char	   *reason;

	if (source->partition_interval == NULL || !partition_is_due(&last))
		return;
	times[1] = interval_around(source->partition_interval, times[0]).to;
	if (!partitions_make(slot, source, times, 2, &reason))
	{
		worker_set_error(slot, psprintf("a partition could not be made ahead: %s", reason));
		ereport(LOG,
				(errmsg("source \"%s\" could not make a partition ahead: %s", source->name, reason)));
	}
}
