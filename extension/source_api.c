/*
 * source_api.c
 *		create_source, alter_source and drop_source: arguments into a row of clickstream.sources.
 *
 * Owns who may command a source and the order of things: check, ask Kafka, record, wake.  What is
 * checked is in source_check.c and its neighbours.  All of it is in the caller's transaction: a
 * rollback leaves nothing, and workers see it when that commits.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "caller.h"
#include "connection.h"
#include "launcher.h"
#include "source_api.h"

PG_FUNCTION_INFO_V1(clickstream_create_source);
PG_FUNCTION_INFO_V1(clickstream_alter_source);
PG_FUNCTION_INFO_V1(clickstream_drop_source);

/* what an option is when NULL is given for it, as in the install script */
#define DEFAULT_WORKERS 1
#define DEFAULT_BATCH_ROWS 100000
#define DEFAULT_BATCH_WAIT_US (50 * 1000)
#define DEFAULT_FUTURE_DAYS 1

/* ---------------------------------------------------------------- arguments */

static char *
text_argument(FunctionCallInfo fcinfo, int n, const char *name)
{
	if (PG_ARGISNULL(n))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s cannot be NULL", name),
				 errhint("Give it a value: name, server, topic and target have no default.")));
	return text_to_cstring(PG_GETARG_TEXT_PP(n));
}

static void
take_interval(FunctionCallInfo fcinfo, int n, Interval **option)
{
	if (PG_ARGISNULL(n))
		return;
	*option = palloc(sizeof(Interval));
	**option = *PG_GETARG_INTERVAL_P(n);
}

static void
take_number(FunctionCallInfo fcinfo, int n, int32 *option)
{
	if (!PG_ARGISNULL(n))
		*option = PG_GETARG_INT32(n);
}

static void
take_columns(FunctionCallInfo fcinfo, int n, Jsonb **option)
{
	if (!PG_ARGISNULL(n))
		*option = PG_GETARG_JSONB_P_COPY(n);
}

static void
take_partitions(FunctionCallInfo fcinfo, int n, Source *source)
{
	ArrayType  *array;

	if (PG_ARGISNULL(n))
		return;
	array = PG_GETARG_ARRAYTYPE_P(n);
	if (ARR_NDIM(array) > 1 || array_contains_nulls(array))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("partitions must be a plain list of numbers, without NULL"),
				 errhint("Such as '{0, 2}'.")));
	source->n_partitions = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
	source->partitions = palloc(sizeof(int32) * Max(source->n_partitions, 1));
	memcpy(source->partitions, ARR_DATA_PTR(array), sizeof(int32) * source->n_partitions);
}

static Jsonb *
no_columns(void)
{
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")));
}

static Interval *
new_interval(int32 days, int64 microseconds)
{
	Interval   *interval = palloc0(sizeof(Interval));

	interval->day = days;
	interval->time = microseconds;
	return interval;
}

static void
set_defaults(Source *source)
{
	source->owner = GetUserId();
	source->columns = no_columns();
	source->workers = DEFAULT_WORKERS;
	source->max_future = new_interval(DEFAULT_FUTURE_DAYS, 0);
	source->max_batch_rows = DEFAULT_BATCH_ROWS;
	source->max_batch_wait = new_interval(0, DEFAULT_BATCH_WAIT_US);
	source->enabled = true;
	source->system_identifier = GetSystemIdentifier();
	source->database = MyDatabaseId;
}

/* ---------------------------------------------------------------- who may */

static void
refuse_unknown(const char *name)
{
	CallersNames names = {0};
	ListCell   *cell;

	foreach(cell, catalog_sources())
	{
		Source	   *source = lfirst(cell);

		caller_may_name(&names, source->name, source->owner);
	}
	caller_refuse_unknown("source", name, &names);
}

Source *
source_of_caller(const char *name)
{
	Source	   *source = catalog_source_by_name(name);

	if (source == NULL)
		refuse_unknown(name);
	caller_must_own("source", name, source->owner);
	return source;
}

/* Returns when the batch under way has ended; none begins before this transaction ends. */
Source *
source_lock_of_caller(const char *name)
{
	Source	   *source = source_of_caller(name);

	catalog_lock(CATALOG_SOURCE, source->id, ExclusiveLock);
	source = catalog_source_by_id(source->id);
	if (source == NULL)
		refuse_unknown(name);
	return source;
}

/* ---------------------------------------------------------------- create */

static void
read_create_arguments(FunctionCallInfo fcinfo, Source *source)
{
	source->name = text_argument(fcinfo, 0, "the name of a source");
	source->server = text_argument(fcinfo, 1, "server");
	source->topic = text_argument(fcinfo, 2, "topic");
	if (PG_ARGISNULL(3))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("target cannot be NULL"),
				 errhint("Name the table that the rows go into.")));
	source->target = PG_GETARG_OID(3);
	take_columns(fcinfo, 4, &source->columns);
	take_interval(fcinfo, 5, &source->partition_interval);
	take_interval(fcinfo, 6, &source->retention);
	take_number(fcinfo, 8, &source->workers);
	take_interval(fcinfo, 9, &source->max_future);
	take_number(fcinfo, 10, &source->max_batch_rows);
	take_interval(fcinfo, 11, &source->max_batch_wait);
	take_partitions(fcinfo, 12, source);
}

static void
warn_unreachable(const Source *source, const char *reason)
{
	ereport(WARNING,
			(errmsg("Kafka could not be asked; source \"%s\" is recorded all the same", source->name),
			 errdetail("%s.", reason),
			 errhint("Its worker tries again by itself, and start_at counts from its first answer: "
					 "see clickstream.stat_sources.")));
}

/* two at once: the name was free when we looked */
static int32
insert_source(const Source *source)
{
	MemoryContext context = CurrentMemoryContext;
	int32		id = 0;

	PG_TRY();
	{
		id = catalog_source_insert(source);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		if (error->sqlerrcode != ERRCODE_UNIQUE_VIOLATION)
			PG_RE_THROW();
		FlushErrorState();
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("source \"%s\" already exists", source->name),
				 errdetail("Another transaction made it a moment ago."),
				 errhint("Choose another name.")));
	}
	PG_END_TRY();
	return id;
}

/* where to start is decided here, once, for each partition that is there */
static void
save_starts(const Source *source, List *partitions)
{
	List	   *offsets = NIL;
	ListCell   *cell;

	foreach(cell, partitions)
	{
		TopicPartition *partition = lfirst(cell);
		SourceOffset *offset = palloc0(sizeof(SourceOffset));

		offset->topic = source->topic;
		offset->partition = partition->partition;
		offset->start_offset = partition->start;
		offset->next_offset = partition->start;
		offset->changed = true;
		offsets = lappend(offsets, offset);
	}
	catalog_offsets_save(source->name, offsets);
}

Datum
clickstream_create_source(PG_FUNCTION_ARGS)
{
	Source		source = {0};
	SourcePosition *position;
	List	   *partitions;
	char	   *unreachable;

	PreventCommandIfReadOnly("create_source");
	set_defaults(&source);
	read_create_arguments(fcinfo, &source);
	source_check_name(source.name);
	(void) connection_server(source.server, CONNECTION_KAFKA, source.owner);
	source_check(&source);
	position = source_position_parse(PG_ARGISNULL(7) ? "earliest" :
									 text_to_cstring(PG_GETARG_TEXT_PP(7)), "start_at");
	source.start_at = source_position_text(position);

	/* while Kafka is asked, nothing is written yet that others would wait for */
	partitions = source_ask_topic(&source, position, &unreachable);
	if (unreachable != NULL)
		warn_unreachable(&source, unreachable);
	source.id = insert_source(&source);
	save_starts(&source, partitions);
	launcher_wake_at_commit();
	PG_RETURN_VOID();
}

/* ---------------------------------------------------------------- alter and drop */

/* an interval of zero takes the option away, as NULL at creation: NULL here means "as it is" */
static void
zero_is_none(Interval **option)
{
	Interval   *given = *option;

	if (given != NULL && given->month == 0 && given->day == 0 && given->time == 0)
		*option = NULL;
}

static void
read_alter_arguments(FunctionCallInfo fcinfo, Source *source)
{
	take_columns(fcinfo, 1, &source->columns);
	take_interval(fcinfo, 2, &source->partition_interval);
	zero_is_none(&source->partition_interval);
	take_interval(fcinfo, 3, &source->retention);
	zero_is_none(&source->retention);
	take_number(fcinfo, 4, &source->workers);
	take_interval(fcinfo, 5, &source->max_future);
	take_number(fcinfo, 6, &source->max_batch_rows);
	take_interval(fcinfo, 7, &source->max_batch_wait);
	take_partitions(fcinfo, 8, source);
	if (source->n_partitions == 0)
		source->partitions = NULL;	/* '{}': all of them */
}

/* partitions that the topic does not have are refused at the call, as at creation */
static void
check_new_partitions(const Source *source)
{
	SourcePosition earliest = {POSITION_EARLIEST};
	char	   *unreachable;

	(void) source_ask_topic(source, &earliest, &unreachable);
	if (unreachable != NULL)
		ereport(WARNING,
				(errmsg("Kafka could not be asked; the partitions of source \"%s\" are recorded all the same", source->name),
				 errdetail("%s.", unreachable)));
}

Datum
clickstream_alter_source(PG_FUNCTION_ARGS)
{
	Source	   *source = source_lock_of_caller(text_argument(fcinfo, 0, "the name of a source"));

	read_alter_arguments(fcinfo, source);
	source_check(source);
	if (!PG_ARGISNULL(8) && source->partitions != NULL)
		check_new_partitions(source);
	catalog_source_update(source);
	launcher_wake_at_commit();
	PG_RETURN_VOID();
}

Datum
clickstream_drop_source(PG_FUNCTION_ARGS)
{
	Source	   *source = source_lock_of_caller(text_to_cstring(PG_GETARG_TEXT_PP(0)));

	catalog_source_delete(source->id);
	launcher_wake_at_commit();
	PG_RETURN_VOID();
}
