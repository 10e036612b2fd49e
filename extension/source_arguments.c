/*
 * source_arguments.c
 *		The arguments of create_source and alter_source as fields of a Source, and what they are by default.
 *
 * Owns the order of the arguments, as in the install script.  Whether their values make sense is
 * decided in source_check.c.  Called by source_api.c.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "source_api.h"

/* where the arguments of create_source are that alter_source has not, or has elsewhere */
#define CREATE_SERVER 1
#define CREATE_TOPIC 2
#define CREATE_TARGET 3
#define CREATE_FIRST_OPTION 4
#define CREATE_START_AT 7
#define ALTER_TOPIC 1
#define ALTER_FIRST_OPTION 2
#define ALTER_SERVER 14
#define ALTER_TARGET 15

/* what an option is when NULL is given for it, as in the install script */
#define DEFAULT_WORKERS 1
#define DEFAULT_BATCH_ROWS 100000
#define DEFAULT_BATCH_WAIT_US (50 * 1000)
#define DEFAULT_FUTURE_DAYS 1

/* ---------------------------------------------------------------- arguments */

char *
source_text_argument(FunctionCallInfo fcinfo, int n, const char *name)
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
take_text(FunctionCallInfo fcinfo, int n, char **option)
{
	if (!PG_ARGISNULL(n))
		*option = text_to_cstring(PG_GETARG_TEXT_PP(n));
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

void
source_defaults(Source *source)
{
	source->columns = no_columns();
	source->workers = DEFAULT_WORKERS;
	source->max_future = new_interval(DEFAULT_FUTURE_DAYS, 0);
	source->max_batch_rows = DEFAULT_BATCH_ROWS;
	source->max_batch_wait = new_interval(0, DEFAULT_BATCH_WAIT_US);
	source->on_conflict = "error";
	source->retention_action = "drop";
	source->enabled = true;
	source->system_identifier = GetSystemIdentifier();
	source->database = MyDatabaseId;
}

/* ---------------------------------------------------------------- what both take */

/* from the argument n on: all options but topic and start_at */
static void
read_options(FunctionCallInfo fcinfo, int n, Source *source)
{
	take_columns(fcinfo, n++, &source->columns);
	take_interval(fcinfo, n++, &source->partition_interval);
	take_interval(fcinfo, n++, &source->retention);
	if (n == CREATE_START_AT)
		n++;
	take_number(fcinfo, n++, &source->workers);
	take_interval(fcinfo, n++, &source->max_future);
	take_number(fcinfo, n++, &source->max_batch_rows);
	take_interval(fcinfo, n++, &source->max_batch_wait);
	take_partitions(fcinfo, n++, source);
	take_text(fcinfo, n++, &source->on_conflict);
	take_text(fcinfo, n++, &source->consumer_group);
	take_interval(fcinfo, n++, &source->dead_letter_retention);
	take_text(fcinfo, n++, &source->retention_action);
}

/* one text, or a list of names and patterns, by the overload that was called */
static List *
read_topics(FunctionCallInfo fcinfo, int n, bool as_list)
{
	Datum	   *elements;
	bool	   *nulls;
	int			count;
	List	   *topics = NIL;

	if (!as_list)
		return source_topics_parse(text_to_cstring(PG_GETARG_TEXT_PP(n)));
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(n), TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &count);
	for (int i = 0; i < count; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("a topic cannot be NULL"),
					 errhint("Such as ARRAY['clicks', '^views-.*'].")));
		topics = lappend(topics, TextDatumGetCString(elements[i]));
	}
	return topics;
}

/* ---------------------------------------------------------------- create_source */

void
source_read_create(FunctionCallInfo fcinfo, bool topics_as_list, Source *source)
{
	source->name = source_text_argument(fcinfo, 0, "the name of a source");
	source->server = source_text_argument(fcinfo, CREATE_SERVER, "server");
	if (PG_ARGISNULL(CREATE_TOPIC))
		(void) source_text_argument(fcinfo, CREATE_TOPIC, "topic");
	source->topics = read_topics(fcinfo, CREATE_TOPIC, topics_as_list);
	if (PG_ARGISNULL(CREATE_TARGET))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("target cannot be NULL"),
				 errhint("Name the table that the rows go into.")));
	source->target = PG_GETARG_OID(CREATE_TARGET);
	read_options(fcinfo, CREATE_FIRST_OPTION, source);
}

SourcePosition *
source_read_start(FunctionCallInfo fcinfo)
{
	return source_position_parse(PG_ARGISNULL(CREATE_START_AT) ? "earliest" :
								 text_to_cstring(PG_GETARG_TEXT_PP(CREATE_START_AT)), "start_at");
}

/* ---------------------------------------------------------------- alter_source */

/* an interval of zero takes the option away, as NULL at creation: NULL here means "as it is" */
static void
zero_is_none(Interval **option)
{
	Interval   *given = *option;

	if (given != NULL && given->month == 0 && given->day == 0 && given->time == 0)
		*option = NULL;
}

void
source_read_alter(FunctionCallInfo fcinfo, bool topics_as_list, Source *source)
{
	if (!PG_ARGISNULL(ALTER_TOPIC))
		source->topics = read_topics(fcinfo, ALTER_TOPIC, topics_as_list);
	read_options(fcinfo, ALTER_FIRST_OPTION, source);
	take_text(fcinfo, ALTER_SERVER, &source->server);
	if (!PG_ARGISNULL(ALTER_TARGET))
		source->target = PG_GETARG_OID(ALTER_TARGET);
	zero_is_none(&source->partition_interval);
	zero_is_none(&source->retention);
	zero_is_none(&source->dead_letter_retention);
	if (source->n_partitions == 0)
		source->partitions = NULL;	/* '{}': all of them */
}
