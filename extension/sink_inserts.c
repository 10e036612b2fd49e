/*
 * sink_inserts.c
 *		Sinks that follow inserts alone: op_type create, and data streams, which take nothing else.
 *
 * Owns what such a sink cannot be asked for and what it publishes.  Its documents stay as they were
 * first.  Updates and deletes are published as well where the table can tell them without harm, only so
 * that the worker counts what it leaves out (stat_sinks.skipped); where it cannot, a NOTICE says that they
 * are not counted.  Called by sink_api.c and sink_table.c.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "compat.h"
#include "index_pattern.h"
#include "sink_api.h"

/* the field that a data stream goes by */
#define TIME_FIELD "@timestamp"

bool
sink_is_create(const char *op_type, bool data_stream)
{
	if (op_type == NULL)
		return data_stream;
	if (strcmp(op_type, "create") != 0 && strcmp(op_type, "index") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("op_type cannot be \"%s\"", op_type),
				 errhint("It is 'index', or 'create' for inserts alone.")));
	if (data_stream && strcmp(op_type, "index") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("op_type cannot be \"index\" with a data stream"),
				 errdetail("A data stream takes new documents alone."),
				 errhint("Leave op_type out, or give 'create'.")));
	return strcmp(op_type, "create") == 0;
}

static void
refuse_with_stream(const char *what, const char *why, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s cannot be had with a data stream", what),
			 errdetail("%s", why),
			 errhint("%s", hint)));
}

static bool
is_time(Oid type)
{
	type = getBaseType(type);
	return type == DATEOID || type == TIMESTAMPOID || type == TIMESTAMPTZOID;
}

static bool
has_time_field(Relation relation, const Sink *sink)
{
	for (int i = 0; i < relation->rd_att->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(relation->rd_att, i);
		char	   *field;

		if (attribute->attisdropped || !compat_is_published(attribute) || !is_time(attribute->atttypid))
			continue;
		field = sink_field_of(sink->columns, NameStr(attribute->attname));
		if (field && strcmp(field, TIME_FIELD) == 0)
			return true;
	}
	return false;
}

static void
check_stream(Relation relation, const Sink *sink)
{
	if (index_pattern(sink->index))
		refuse_with_stream("an index by date", "A data stream has indexes of its own, by age and size.",
						   "Give index as a plain name.");
	if (sink->routing)
		refuse_with_stream("routing", "A data stream spreads documents over its shards by itself.",
						   "Leave routing out, or leave data_stream out.");
	if (strcmp(sink->on_drop, "keep") != 0)
		refuse_with_stream("on_drop => 'delete'", "Documents of a data stream go with its oldest index, by its lifecycle.",
						   "Leave on_drop out, or take an index by date.");
	if (!has_time_field(relation, sink))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("no column of table \"%s\" goes into the field %s", RelationGetRelationName(relation), TIME_FIELD),
				 errdetail("A data stream goes by that field, which has to be a time."),
				 errhint("Name a column of the type date, timestamp or timestamptz: columns => '{\"occurred_at\": \"%s\"}'.",
						 TIME_FIELD)));
}

void
sink_check_inserts(Relation relation, const Sink *sink, bool is_rollup)
{
	if (!sink->create_only)
		return;
	if (is_rollup)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("rollup \"%s\" cannot be followed for inserts alone", RelationGetRelationName(relation)),
				 errdetail("The rows of a rollup change with each batch, and documents would stay as they were first."),
				 errhint("Leave op_type and data_stream out, or follow the table under the rollup.")));
	if (sink->data_stream)
		check_stream(relation, sink);
}

const char *
sink_published_for_inserts(Relation relation, const Sink *sink, List *told)
{
	Oid			member = InvalidOid;
	bool		counted = sink_worst_identity(relation, told, &member) == IDENTITY_COVERS;

	ereport(NOTICE,
			(errmsg("updates and deletes of table \"%s\" will not reach the index",
					RelationGetRelationName(relation)),
			 errdetail("With %s documents stay as they were first. %s",
					   sink->data_stream ? "a data stream" : "op_type create",
					   counted ? "What is not followed is counted: clickstream.stat_sinks.skipped." :
					   "Without a replica identity what is not followed is not counted either.")));
	return counted ? "insert, update, delete, truncate" : "insert, truncate";
}
