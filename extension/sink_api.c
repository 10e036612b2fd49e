/*
 * sink_api.c
 *		create_sink, drop_sink, and what is done with a sink that is there (but for alter_sink, sink_alter.c).
 *
 * Owns who may command a sink and the order of things: check, record, publish, wake.  All of it is in
 * the caller's transaction: a rollback leaves nothing.  The replication slot and the index are the
 * worker's, which comes after the commit.  Asks Elasticsearch nothing but whether it is there.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "caller.h"
#include "connection.h"
#include "inquiry.h"
#include "launcher.h"
#include "sink_api.h"
#include "worker_slot.h"

PG_FUNCTION_INFO_V1(clickstream_create_sink);
PG_FUNCTION_INFO_V1(clickstream_drop_sink);
PG_FUNCTION_INFO_V1(clickstream_pause_sink);
PG_FUNCTION_INFO_V1(clickstream_resume_sink);
PG_FUNCTION_INFO_V1(clickstream_resync_sink);

/* what an option is when NULL is given for it, as in the install script */
#define DEFAULT_BULK_BYTES 8388608
#define DEFAULT_BULK_WAIT_US (100 * 1000)

/* for an answer of Elasticsearch, when a sink is made */
#define LOOK_TIMEOUT_MS 5000

/* ---------------------------------------------------------------- who may */

static void
refuse_unknown(const char *name)
{
	CallersNames names = {0};
	ListCell   *cell;

	foreach(cell, catalog_sinks())
	{
		Sink	   *sink = lfirst(cell);

		caller_may_name(&names, sink->name, sink->owner);
	}
	caller_refuse_unknown("sink", name, &names);
}

Sink *
sink_of_caller(const char *name)
{
	Sink	   *sink = catalog_sink_by_name(name);

	if (sink == NULL)
		refuse_unknown(name);
	caller_must_own("sink", name, sink->owner);
	return sink;
}

Sink *
sink_lock_of_caller(const char *name)
{
	Sink	   *sink = sink_of_caller(name);

	catalog_lock(CATALOG_SINK, sink->id, ExclusiveLock);
	sink = catalog_sink_by_id(sink->id);
	if (sink == NULL)
		refuse_unknown(name);
	return sink;
}

/* ---------------------------------------------------------------- create */

char *
sink_text_argument(FunctionCallInfo fcinfo, int n, const char *name)
{
	if (PG_ARGISNULL(n))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s cannot be NULL", name),
				 errhint("Give it as clickstream.create_sink's other arguments.")));
	return text_to_cstring(PG_GETARG_TEXT_PP(n));
}

void
sink_take_bulk(FunctionCallInfo fcinfo, int first, Sink *sink)
{
	if (!PG_ARGISNULL(first))
		sink->bulk_bytes = PG_GETARG_INT32(first);
	if (!PG_ARGISNULL(first + 1))
	{
		sink->bulk_wait = palloc(sizeof(Interval));
		*sink->bulk_wait = *PG_GETARG_INTERVAL_P(first + 1);
	}
	if (!PG_ARGISNULL(first + 2))
		sink->max_wal_lag = sink_check_wal_lag(PG_GETARG_DATUM(first + 2));
	sink_check_bulk(sink);
}

void
sink_take_on_drop(FunctionCallInfo fcinfo, int n, Sink *sink)
{
	if (PG_ARGISNULL(n))
		return;
	sink->on_drop = text_to_cstring(PG_GETARG_TEXT_PP(n));
	sink_check_on_drop(sink->on_drop);
}

static void
set_defaults(Sink *sink)
{
	sink->on_drop = "keep";
	sink->owner = GetUserId();
	sink->columns = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")));
	sink->bulk_bytes = DEFAULT_BULK_BYTES;
	sink->bulk_wait = palloc0(sizeof(Interval));
	sink->bulk_wait->time = DEFAULT_BULK_WAIT_US;
	sink->mapping = sink->columns;
	sink->enabled = true;
	sink->system_identifier = GetSystemIdentifier();
	sink->database = MyDatabaseId;
}

/* two sinks into one index would undo each other's documents */
void
sink_check_index_is_free(const Sink *sink)
{
	ListCell   *cell;

	foreach(cell, catalog_sinks())
	{
		Sink	   *other = lfirst(cell);

		if (other->id != sink->id && strcmp(other->server, sink->server) == 0 && strcmp(other->alias, sink->alias) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_DUPLICATE_OBJECT),
					 errmsg("index \"%s\" of server \"%s\" is another sink's", sink->alias, sink->server),
					 errhint("Name another index: one index follows one table.")));
	}
}

static void
read_create_arguments(FunctionCallInfo fcinfo, Sink *sink)
{
	sink->name = sink_text_argument(fcinfo, 0, "the name of a sink");
	sink->server = sink_text_argument(fcinfo, 1, "server");
	if (PG_ARGISNULL(2))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("relation cannot be NULL"),
				 errhint("Name the table to follow.")));
	sink->relation = PG_GETARG_OID(2);
	sink->index = sink_text_argument(fcinfo, 3, "index");
	if (!PG_ARGISNULL(5))
		sink->columns = PG_GETARG_JSONB_P_COPY(5);
	if (!PG_ARGISNULL(9))
		sink->filter = text_to_cstring(PG_GETARG_TEXT_PP(9));
	sink_take_on_drop(fcinfo, 10, sink);
	if (!PG_ARGISNULL(11))
		sink->routing = text_to_cstring(PG_GETARG_TEXT_PP(11));
	if (!PG_ARGISNULL(12))
		sink->pipeline = text_to_cstring(PG_GETARG_TEXT_PP(12));
	sink->data_stream = !PG_ARGISNULL(15) && PG_GETARG_BOOL(15);
	sink->create_only = sink_is_create(PG_ARGISNULL(13) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(13)),
									   sink->data_stream);
	if (!PG_ARGISNULL(14))
		sink->mapping = PG_GETARG_JSONB_P_COPY(14);
}

/* A sink may well be made first: but its maker is told at once that nothing will come of it yet. */
static void
warn_unless_there(const Sink *sink)
{
	List	   *options = connection_options(sink->server, CONNECTION_ELASTICSEARCH, sink->owner);
	Jsonb	   *request = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")));
	char	   *answer;

	switch (inquiry_ask("elasticsearch", request, options, LOOK_TIMEOUT_MS, &answer))
	{
		case INQUIRY_ANSWERED:
			break;
		case INQUIRY_REFUSED:
			ereport(WARNING,
					(errmsg("Elasticsearch at server \"%s\" refuses: %s", sink->server, answer),
					 errdetail("The sink is made, and begins by itself once it is let in."),
					 errhint("Look at the server's url and at the USER MAPPING of its owner.")));
			break;
		case INQUIRY_UNREACHABLE:
			ereport(WARNING,
					(errmsg("Elasticsearch at server \"%s\" does not answer", sink->server),
					 errdetail("The sink is made, and begins by itself once it does."),
					 errdetail_log("%s.", answer),
					 errhint("clickstream.stat_sinks shows why it waits.")));
			break;
	}
}

Datum
clickstream_create_sink(PG_FUNCTION_ARGS)
{
	Sink		sink = {0};
	const char *published;

	PreventCommandIfReadOnly("create_sink");
	set_defaults(&sink);
	read_create_arguments(fcinfo, &sink);
	sink_check_name(sink.name);
	sink_check_server_settings();
	(void) connection_server(sink.server, CONNECTION_ELASTICSEARCH, sink.owner);
	sink.alias = sink_check_index(sink.index);
	sink_check_mapping(sink.mapping);
	sink_check_index_is_free(&sink);
	sink_take_bulk(fcinfo, 6, &sink);
	published = sink_check_table(&sink, PG_ARGISNULL(4) ? NULL :
								 text_to_cstring(PG_GETARG_TEXT_PP(4)));

	sink.id = catalog_sink_insert(&sink);
	sink_publish(catalog_sink_by_id(sink.id), published);
	launcher_wake_at_commit();
	warn_unless_there(&sink);
	PG_RETURN_VOID();
}

/* ---------------------------------------------------------------- what is done with one */

/* a running worker compares the row with its own at its next look */
void
sink_save(const Sink *sink)
{
	catalog_sink_update(sink);
	launcher_wake_at_commit();
}

/* the option id, in words again */
char *
sink_id_option(const Sink *sink)
{
	char	   *id = NULL;
	ListCell   *cell;

	foreach(cell, sink->id_columns)
		id = id ? psprintf("%s, %s", id, quote_identifier(lfirst(cell))) :
			pstrdup(quote_identifier(lfirst(cell)));
	return id;
}

/* the next look of the worker finds that a new index is to be built beside the old one */
void
sink_build_anew(Sink *sink)
{
	sink->phase = "new";
	sink->consistent_point = InvalidXLogRecPtr;
	/* an index of before says that the alias may be taken over */
	if (sink->physical_index == NULL)
		sink->physical_index = psprintf("%s-000000", sink->alias);
}

Datum
clickstream_drop_sink(PG_FUNCTION_ARGS)
{
	Sink	   *sink = sink_lock_of_caller(text_to_cstring(PG_GETARG_TEXT_PP(0)));

	catalog_sink_delete(sink->id);
	sink_unpublish(sink->publication);
	launcher_wake_at_commit();
	PG_RETURN_VOID();
}

Datum
clickstream_pause_sink(PG_FUNCTION_ARGS)
{
	Sink	   *sink = sink_lock_of_caller(text_to_cstring(PG_GETARG_TEXT_PP(0)));

	sink->enabled = false;
	sink->paused_because = NULL;
	sink_save(sink);
	PG_RETURN_VOID();
}

/* a restored or copied database has its own log, so its sink begins with a slot and a copy of its own */
static void
adopt(Sink *sink)
{
	const char *name = psprintf("clickstream_%u_%d", MyDatabaseId, sink->id);
	char	   *filter = sink_filter_published(sink);
	const char *published;

	if (filter)
		sink->filter = filter;	/* it has followed columns that were renamed since */
	published = sink_check_table(sink, sink_id_option(sink));
	sink_unpublish(sink->publication);
	sink_unpublish(name);
	sink->system_identifier = GetSystemIdentifier();
	sink->database = MyDatabaseId;
	sink->slot = pstrdup(name);
	sink->publication = pstrdup(name);
	sink->phase = "new";
	sink->physical_index = NULL;
	sink->consistent_point = InvalidXLogRecPtr;
	sink_publish(sink, published);
}

Datum
clickstream_resume_sink(PG_FUNCTION_ARGS)
{
	Sink	   *sink = sink_lock_of_caller(text_to_cstring(PG_GETARG_TEXT_PP(0)));

	sink_check_server_settings();
	if (!catalog_is_here(sink->system_identifier, sink->database))
		adopt(sink);
	sink->enabled = true;
	sink->paused_because = NULL;
	sink_save(sink);
	PG_RETURN_VOID();
}

/* the worker builds a new index beside the old one, which serves searches until then */
Datum
clickstream_resync_sink(PG_FUNCTION_ARGS)
{
	Sink	   *sink = sink_lock_of_caller(text_to_cstring(PG_GETARG_TEXT_PP(0)));

	sink_build_anew(sink);
	sink_save(sink);
	PG_RETURN_VOID();
}
