/*
 * sink_table.c
 *		Whether a table can be followed: its kind, its columns, the _id of its documents, its replica identity.
 *
 * Owns the choice of the id columns and of what is published.  A publication of updates makes UPDATE
 * and DELETE fail on a table without a usable replica identity; so where one is missing, in the table
 * or in any of its partitions, only inserts and truncates are published, and a NOTICE says so.
 * Called by create_sink.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/catalog.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/rls.h"
#include "utils/varlena.h"

#include "compat.h"
#include "index_pattern.h"
#include "sink_api.h"
#include "statement.h"

/* ---------------------------------------------------------------- the kind of table */

static void
refuse_relation(Relation relation, const char *why, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_WRONG_OBJECT_TYPE),
			 errmsg("\"%s\" cannot be followed by a sink", RelationGetRelationName(relation)),
			 errdetail("%s", why),
			 errhint("%s", hint)));
}

static void
check_kind(Relation relation)
{
	if (relation->rd_rel->relkind != RELKIND_RELATION &&
		relation->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
		refuse_relation(relation, "It is not a table.", "Take the table under it, or a rollup.");
	if (IsCatalogRelation(relation))
		refuse_relation(relation, "It is a system catalog.", "Take a table of your own.");
	if (relation->rd_rel->relpersistence != RELPERSISTENCE_PERMANENT)
		refuse_relation(relation, "Its changes are not in the write-ahead log.",
						"A temporary table cannot be followed; ALTER TABLE … SET LOGGED makes an unlogged one permanent.");
	if (!compat_owns_relation(RelationGetRelid(relation), GetUserId()))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be owner of table \"%s\"", RelationGetRelationName(relation)),
				 errhint("A sink sends every row of it: its owner makes the sink, or a member of that role.")));
}

/* owners and policies change while a sink runs */
char *
sink_forbidden(const Sink *sink)
{
	char	   *table = get_rel_name(sink->relation);
	char	   *owner = GetUserNameFromId(sink->owner, true);

	if (table == NULL)
		return "its table has been dropped";
	if (!compat_owns_relation(sink->relation, sink->owner))
		return psprintf("role \"%s\" does not own table \"%s\" any more", owner ? owner : "?", table);
	if (check_enable_rls(sink->relation, sink->owner, true) == RLS_ENABLED)
		return psprintf("row security of table \"%s\" hides rows from role \"%s\", and a sink sends all of them",
						table, owner ? owner : "?");
	return NULL;
}

/* ---------------------------------------------------------------- columns */

static Form_pg_attribute
find_column(Relation relation, const char *name)
{
	int			i;

	for (i = 0; i < relation->rd_att->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(relation->rd_att, i);

		if (!attribute->attisdropped && strcmp(NameStr(attribute->attname), name) == 0)
			return attribute;
	}
	return NULL;
}

static void
require_column(Relation relation, const char *name, const char *option)
{
	Form_pg_attribute attribute = find_column(relation, name);

	if (attribute == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("column \"%s\" in %s is not in table \"%s\"", name, option,
						RelationGetRelationName(relation)),
				 errhint("Name columns as the table does, in lower case unless they were quoted.")));
	if (!compat_is_published(attribute))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("column \"%s\" in %s is generated", name, option),
				 errdetail("Generated columns are not in the write-ahead log's changes."),
				 errhint("Name other columns.")));
}

/* fields that Elasticsearch keeps to itself */
static void
check_field(const char *field, const char *column)
{
	static const char *const reserved[] = {
		"_id", "_index", "_source", "_routing", "_field_names", "_ignored", "_type", "_version",
		"_seq_no", "_doc_count", "_tier", "_nested_path"
	};
	size_t		length = strlen(field);
	int			i;

	for (i = 0; i < lengthof(reserved); i++)
		if (strcmp(field, reserved[i]) == 0)
			break;
	if (i == lengthof(reserved) && length > 0 && field[0] != '.' && field[length - 1] != '.')
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_NAME),
			 errmsg("\"%s\" cannot be the name of a field", field),
			 errdetail("Elasticsearch keeps such names to itself, and none is empty or begins or ends with a dot."),
			 errhint("Give the column another name in the index: columns => '{\"%s\": \"…\"}'.", column)));
}

static char *
value_text(const JsonbValue *value)
{
	return pnstrdup(value->val.string.val, value->val.string.len);
}

static void
refuse_columns(const char *why)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("columns does not say which column goes into which field"),
			 errdetail("%s", why),
			 errhint("Give '{\"column\": \"field\"}' to rename, '{\"column\": null}' to leave out, or '[\"column\"]' "
					 "for all that shall go in.")));
}

/* every name in the option is a column, and every value a field's name */
static void
check_columns_option(Relation relation, Jsonb *columns)
{
	JsonbIterator *iterator = JsonbIteratorInit(&columns->root);
	JsonbIteratorToken token;
	JsonbValue	value;
	int			depth = 0;

	if (JB_ROOT_IS_SCALAR(columns))
		refuse_columns("It is a single value.");
	while ((token = JsonbIteratorNext(&iterator, &value, false)) != WJB_DONE)
	{
		if (token == WJB_BEGIN_OBJECT || token == WJB_BEGIN_ARRAY)
		{
			if (++depth > 1)
				refuse_columns("It holds an object or array within.");
		}
		else if (token == WJB_KEY)
			require_column(relation, value_text(&value), "columns");
		else if (token == WJB_ELEM)
		{
			if (value.type != jbvString)
				refuse_columns("The array holds something that is not a name.");
			require_column(relation, value_text(&value), "columns");
		}
		else if (token == WJB_VALUE && value.type != jbvString && value.type != jbvNull)
			refuse_columns("A value is neither a field's name nor null.");
	}
}

char *
sink_field_of(Jsonb *columns, const char *column)
{
	JsonbValue	key;
	JsonbValue *found;

	key.type = jbvString;
	key.val.string.val = unconstify(char *, column);
	key.val.string.len = strlen(column);
	found = findJsonbValueFromContainer(&columns->root, JB_FOBJECT | JB_FARRAY, &key);
	if (JB_ROOT_IS_ARRAY(columns))
		return found ? pstrdup(column) : NULL;
	if (found == NULL)
		return pstrdup(column);
	return found->type == jbvString ? value_text(found) : NULL;
}

static void
check_fields(Relation relation, Jsonb *columns)
{
	List	   *fields = NIL;
	ListCell   *cell;
	int			i;

	for (i = 0; i < relation->rd_att->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(relation->rd_att, i);
		char	   *field;

		if (attribute->attisdropped)
			continue;
		field = sink_field_of(columns, NameStr(attribute->attname));
		if (field == NULL)
			continue;
		if (!compat_is_published(attribute))
		{
			ereport(NOTICE,
					(errmsg("generated column \"%s\" is left out of the index", NameStr(attribute->attname)),
					 errdetail("Generated columns are not in the write-ahead log's changes.")));
			continue;
		}
		check_field(field, NameStr(attribute->attname));
		foreach(cell, fields)
			if (strcmp(lfirst(cell), field) == 0)
				refuse_columns(psprintf("Two columns go into the field \"%s\".", field));
		fields = lappend(fields, field);
	}
}

/* the hidden state columns of a rollup stay out: columns of the table that its query does not have */
static Jsonb *
hide_state_columns(Relation relation, const Rollup *rollup, Jsonb *columns)
{
	JsonbParseState *state = NULL;
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	value;
	int			i;

	if (JB_ROOT_IS_ARRAY(columns))
		return columns;
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (i = 0; i < relation->rd_att->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(relation->rd_att, i);

		if (attribute->attisdropped ||
			get_attnum(rollup->definition, NameStr(attribute->attname)) != InvalidAttrNumber)
			continue;
		value.type = jbvString;
		value.val.string.val = NameStr(attribute->attname);
		value.val.string.len = strlen(NameStr(attribute->attname));
		pushJsonbValue(&state, WJB_KEY, &value);
		value.type = jbvNull;
		pushJsonbValue(&state, WJB_VALUE, &value);
	}
	iterator = JsonbIteratorInit(&columns->root);
	while ((token = JsonbIteratorNext(&iterator, &value, false)) != WJB_DONE)
		if (token == WJB_KEY || token == WJB_VALUE)
			pushJsonbValue(&state, token, &value);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/* ---------------------------------------------------------------- the id */

/* "column" or "one, other" */
static List *
split_id(const char *id)
{
	List	   *names;
	ListCell   *cell;
	List	   *copies = NIL;

	if (!SplitIdentifierString(pstrdup(id), ',', &names) || names == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"%s\" does not name the columns of an id", id),
				 errhint("Give a column, or several with commas between: 'user_id, occurred_at'.")));
	foreach(cell, names)
		copies = lappend(copies, pstrdup(lfirst(cell)));
	return copies;
}

char *
sink_column_fed_by(const Source *source, const char *from)
{
	JsonbIterator *iterator = JsonbIteratorInit(&source->columns->root);
	JsonbIteratorToken token;
	JsonbValue	value;
	char	   *column = NULL;

	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			column = value_text(&value);
		else if (token == WJB_VALUE && value.type == jbvString &&
				 strcmp(value_text(&value), from) == 0)
			return column;
	}
	return NULL;
}

/* a message's partition and offset; its topic too, where more than one flows into the table */
static List *
columns_of_source(Oid relation)
{
	List	   *sources = catalog_sources_of_target(relation);
	Source	   *source;
	char	   *topic;
	char	   *partition;
	char	   *offset;

	if (sources == NIL)
		return NIL;
	source = linitial(sources);
	partition = sink_column_fed_by(source, "@partition");
	offset = sink_column_fed_by(source, "@offset");
	topic = sink_column_fed_by(source, "@topic");
	if (partition == NULL || offset == NULL || (list_length(sources) > 1 && topic == NULL))
		return NIL;
	return list_length(sources) > 1 ? list_make3(topic, partition, offset) :
		list_make2(partition, offset);
}

static List *
choose_id(Relation relation, const Rollup *rollup, const char *id)
{
	Oid			primary_key;
	List	   *columns;

	if (id)
		return split_id(id);
	if (rollup && rollup->keys != NIL)
		return rollup->keys;
	(void) RelationGetIndexList(relation);
	primary_key = relation->rd_pkindex;
	if (OidIsValid(primary_key))
		return sink_index_columns(relation, primary_key);
	if (OidIsValid(RelationGetReplicaIndex(relation)))
		return sink_index_columns(relation, RelationGetReplicaIndex(relation));
	columns = columns_of_source(RelationGetRelid(relation));
	if (columns == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TABLE_DEFINITION),
				 errmsg("nothing says what the _id of a document of table \"%s\" is",
						RelationGetRelationName(relation)),
				 errdetail("It has no primary key, no replica identity index, and no source that fills columns "
						   "from @partition and @offset."),
				 errhint("Name the columns that tell one row from another: id => 'column, …'.")));
	return columns;
}

/* ---------------------------------------------------------------- what is published */

static void
refuse_outside_identity(const char *option, Oid table)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s of table \"%s\" has columns outside its replica identity", option,
					get_rel_name(table)),
			 errdetail("A DELETE would not tell which document is to go."),
			 errhint("Run ALTER TABLE %s REPLICA IDENTITY FULL, or take columns of its key alone.",
					 qualified_name(table))));
}

/* what decides whether a row has a document, and which, must be in the log of its deletion */
static void
require_in_identity(const char *option, Relation relation, List *columns)
{
	Oid			member = InvalidOid;

	if (columns != NIL && sink_worst_identity(relation, columns, &member) == IDENTITY_OTHER)
		refuse_outside_identity(option, member);
}

static void
check_date_column(Relation relation, const char *name)
{
	Oid			type;

	require_column(relation, name, "index");
	type = getBaseType(find_column(relation, name)->atttypid);
	if (type != DATEOID && type != TIMESTAMPOID && type != TIMESTAMPTZOID)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column \"%s\" in index has the type %s", name, format_type_be(type)),
				 errhint("Name a column of the type date, timestamp or timestamptz.")));
}

static void
check_placing_columns(Relation relation, const Sink *sink)
{
	IndexPattern *pattern = index_pattern(sink->index);

	if (pattern)
		check_date_column(relation, pattern->column);
	if (sink->routing)
		require_column(relation, sink->routing, "routing");
}

/* what an update or delete has to tell for the publication to take it, and for its document to be found */
static List *
columns_told(Relation relation, const Sink *sink)
{
	List	   *columns = list_concat_copy(sink->id_columns, sink_placing_columns(sink));

	return sink->filter ? list_concat(columns, sink_filter_columns(relation, sink->filter)) : columns;
}

static const char *
choose_published(Relation relation, const Sink *sink)
{
	Oid			member = InvalidOid;
	Identity	worst = sink_worst_identity(relation, sink->id_columns, &member);

	if (sink->create_only)
		return sink_published_for_inserts(relation, sink, columns_told(relation, sink));
	switch (worst)
	{
		case IDENTITY_COVERS:
			break;
		case IDENTITY_OTHER:
			refuse_outside_identity("the id", member);
			break;
		case IDENTITY_MISSING:
			ereport(NOTICE,
					(errmsg("updates and deletes of table \"%s\" will not reach the index",
							RelationGetRelationName(relation)),
					 errdetail("Table \"%s\" has no replica identity, so only inserts and truncates are followed.",
							   get_rel_name(member)),
					 errhint("Run ALTER TABLE %s REPLICA IDENTITY FULL, then create the sink again.",
							 qualified_name(member))));
			return "insert, truncate";
	}
	if (sink->filter)
		require_in_identity("the filter", relation, sink_filter_columns(relation, sink->filter));
	require_in_identity("the place of documents (index, routing)", relation, sink_placing_columns(sink));
	return "insert, update, delete, truncate";
}

const char *
sink_check_table(Sink *sink, const char *id)
{
	/* no row changes between what is looked at here and the publication */
	Relation	relation = try_relation_open(sink->relation, ShareUpdateExclusiveLock);
	Rollup	   *rollup;
	const char *published;
	ListCell   *cell;

	if (relation == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", sink->relation),
				 errhint("Name the table to follow.")));
	check_kind(relation);
	if (check_enable_rls(sink->relation, sink->owner, true) == RLS_ENABLED)
		refuse_relation(relation, "Its row security hides rows from you, and a sink sends all of them.",
						"Let a role that it does not bind make the sink.");
	rollup = catalog_rollup_by_relation(sink->relation);
	check_columns_option(relation, sink->columns);
	if (rollup)
		sink->columns = hide_state_columns(relation, rollup, sink->columns);
	check_fields(relation, sink->columns);

	sink->id_columns = choose_id(relation, rollup, id);
	foreach(cell, sink->id_columns)
		require_column(relation, lfirst(cell), "id");
	if (sink->filter)
		sink->filter = sink_filter_check(relation, sink->filter);
	check_placing_columns(relation, sink);
	sink_check_inserts(relation, sink, rollup != NULL);
	published = choose_published(relation, sink);
	relation_close(relation, NoLock);
	return published;
}
