/*
 * sink_alter.c
 *		alter_sink: options of a sink that is there.
 *
 * Owns what a change comes to.  How documents are sent, and what becomes of those of a dropped partition,
 * changes while the sink runs.  What documents are, which rows have one and where each is, is a question to
 * those that are there as well: the index is built anew beside the old one, which serves searches until the
 * alias moves.  Another index or server is a place where the sink has not been: it begins there as when it
 * was made, and what it leaves stays.  In the caller's transaction, as all of sink_api.c, which it belongs to.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"

#include "connection.h"
#include "sink_api.h"

PG_FUNCTION_INFO_V1(clickstream_alter_sink);

/* the arguments in the order of the install script */
enum
{
	ARG_NAME, ARG_BULK, ARG_WHERE = 4, ARG_ON_DROP, ARG_ROUTING, ARG_PIPELINE, ARG_OP_TYPE, ARG_MAPPING,
	ARG_COLUMNS, ARG_ID, ARG_INDEX, ARG_SERVER
};

static char *
text_or_null(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(n));
}

/* '' takes an option away */
static bool
take_text(FunctionCallInfo fcinfo, int n, char **option)
{
	char	   *text = text_or_null(fcinfo, n);

	if (text)
		*option = *text ? text : NULL;
	return text != NULL;
}

static bool
take_jsonb(FunctionCallInfo fcinfo, int n, Jsonb **option)
{
	if (PG_ARGISNULL(n))
		return false;
	*option = PG_GETARG_JSONB_P_COPY(n);
	return true;
}

static bool
take_op_type(FunctionCallInfo fcinfo, Sink *sink)
{
	char	   *op_type = text_or_null(fcinfo, ARG_OP_TYPE);
	bool		before = sink->create_only;

	if (op_type)
		sink->create_only = sink_is_create(op_type, sink->data_stream);
	return before != sink->create_only;
}

/* what documents are, which rows have one, where each is; whether any of it was given */
static bool
take_shape(FunctionCallInfo fcinfo, Sink *sink)
{
	bool		given = take_text(fcinfo, ARG_WHERE, &sink->filter);

	given |= take_text(fcinfo, ARG_ROUTING, &sink->routing);
	given |= take_op_type(fcinfo, sink);
	given |= take_jsonb(fcinfo, ARG_COLUMNS, &sink->columns);
	given |= !PG_ARGISNULL(ARG_ID);
	if (take_jsonb(fcinfo, ARG_MAPPING, &sink->mapping))
	{
		sink_check_mapping(sink->mapping);
		given = true;
	}
	return given;
}

static bool
take_place(FunctionCallInfo fcinfo, Sink *sink)
{
	char	   *index = text_or_null(fcinfo, ARG_INDEX);
	char	   *server = text_or_null(fcinfo, ARG_SERVER);

	if (index)
	{
		sink->index = index;
		sink->alias = sink_check_index(index);
	}
	if (server)
	{
		(void) connection_server(server, CONNECTION_ELASTICSEARCH, sink->owner);
		sink->server = server;
	}
	if (index || server)
		sink_check_index_is_free(sink);
	return index || server;
}

static void
begin_elsewhere(Sink *sink)
{
	ereport(NOTICE,
			(errmsg("sink \"%s\" begins in another index, and leaves its documents where they are", sink->name)));
	sink_build_anew(sink);
	sink->physical_index = NULL;
}

/* A sink that came with a copy of the database has no publication until it is resumed, which makes it. */
static void
publish(Sink *sink, const char *id)
{
	const char *published = sink_check_table(sink, id ? id : sink_id_option(sink));

	if (catalog_is_here(sink->system_identifier, sink->database))
		sink_publish_anew(sink, published);
}

/* the filter in force has followed columns that were renamed */
static Sink *
sink_to_alter(FunctionCallInfo fcinfo)
{
	Sink	   *sink = sink_lock_of_caller(sink_text_argument(fcinfo, ARG_NAME, "the name of a sink"));
	char	   *filter = sink_filter_published(sink);

	if (filter)
		sink->filter = filter;
	return sink;
}

Datum
clickstream_alter_sink(PG_FUNCTION_ARGS)
{
	Sink	   *sink = sink_to_alter(fcinfo);
	char	   *id = text_or_null(fcinfo, ARG_ID);
	bool		has_moved = take_place(fcinfo, sink);
	bool		has_other_shape = take_shape(fcinfo, sink);

	sink_take_bulk(fcinfo, ARG_BULK, sink);
	sink_take_on_drop(fcinfo, ARG_ON_DROP, sink);
	(void) take_text(fcinfo, ARG_PIPELINE, &sink->pipeline);
	if (has_moved || has_other_shape || sink->data_stream)
		publish(sink, id);
	if (has_moved)
		begin_elsewhere(sink);
	else if (has_other_shape)
	{
		ereport(NOTICE,
				(errmsg("the index of sink \"%s\" is built anew", sink->name),
				 errdetail("Searches find the old one until the new one is whole.")));
		sink_build_anew(sink);
	}
	sink_save(sink);
	PG_RETURN_VOID();
}
