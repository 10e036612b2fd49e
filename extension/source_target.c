/*
 * source_target.c
 *		Whether a table can be the target of a source.
 *
 * Owns what is asked of the table: kind, owner, and how it is partitioned where partitions are to
 * be made.  Holds a lock on it until the transaction ends, so that it stays what was looked at.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relation.h"
#include "catalog/catalog.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "partitioning/partdesc.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/partcache.h"
#include "utils/rel.h"
#include "utils/reltrigger.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "source_api.h"

static void
refuse_kind(Relation target, const char *what, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_WRONG_OBJECT_TYPE),
			 errmsg("\"%s\" %s", RelationGetRelationName(target), what),
			 errhint("%s", hint)));
}

static Relation
open_target(Oid oid)
{
	Relation	target = try_relation_open(oid, AccessShareLock);

	if (target == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("the target is not there: no table has the OID %u", oid),
				 errhint("Name the table, as in target => 'clicks'.")));
	return target;
}

static void
check_kind(Relation target)
{
	const char *hint = "Rows go into an ordinary table, or into one that is partitioned by range.";

	switch (target->rd_rel->relkind)
	{
		case RELKIND_RELATION:
			break;
		case RELKIND_PARTITIONED_TABLE:
			if (RelationGetPartitionKey(target)->strategy != PARTITION_STRATEGY_RANGE)
				refuse_kind(target, "is not partitioned by range", hint);
			break;
		case RELKIND_VIEW:
			refuse_kind(target, "is a view", hint);
			break;
		case RELKIND_MATVIEW:
			refuse_kind(target, "is a materialized view", hint);
			break;
		case RELKIND_FOREIGN_TABLE:
			refuse_kind(target, "is a foreign table", hint);
			break;
		default:
			refuse_kind(target, "is not a table", hint);
	}
}

static void
check_place(Relation target)
{
	Oid			id = RelationGetRelid(target);

	if (RELATION_IS_OTHER_TEMP(target))
		refuse_kind(target, "is a temporary table of another session", "Name a table that stays.");
	if (target->rd_rel->relpersistence == RELPERSISTENCE_TEMP)
		refuse_kind(target, "is a temporary table", "A worker cannot see it: name a table that stays.");
	if (target->rd_rel->relispartition)
		refuse_kind(target, "is a partition of another table",
					psprintf("Name \"%s\", and rows find their partition.",
							 get_rel_name(get_partition_parent(id, true))));
	if (IsCatalogRelation(target) || RelationGetNamespace(target) == PG_CATALOG_NAMESPACE ||
		strcmp(get_namespace_name(RelationGetNamespace(target)), "clickstream") == 0)
		refuse_kind(target, "belongs to the system", "Name a table of your own.");
	if (catalog_rollup_by_relation(id) != NULL)
		refuse_kind(target, "is a rollup", "Name the table that the rollup is made of.");
}

static void
check_owner(Relation target)
{
	if (!compat_owns_relation(RelationGetRelid(target), GetUserId()))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be owner of table %s", RelationGetRelationName(target)),
				 errhint("SET ROLE to its owner, or ALTER TABLE %s OWNER TO %s.",
						 quote_identifier(RelationGetRelationName(target)),
						 quote_identifier(GetUserNameFromId(GetUserId(), false)))));
}

static void
refuse_partitioning(Relation target, const char *option, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s needs a target that is partitioned by range on one time column", option),
			 errdetail("\"%s\" %s.", RelationGetRelationName(target), detail),
			 errhint("Make the table with PARTITION BY RANGE (a column of type timestamptz, timestamp or "
					 "date), or leave %s out.", option)));
}

/* the type of the time column by which the target is partitioned */
static Oid
time_key_type(Relation target, const char *option)
{
	PartitionKey key;
	Oid			type;

	if (target->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
		refuse_partitioning(target, option, "is not partitioned");
	key = RelationGetPartitionKey(target);
	if (key->partnatts != 1 || key->partattrs[0] == 0)
		refuse_partitioning(target, option, "is partitioned by more than one column, or by an expression");
	type = key->parttypid[0];
	if (type != TIMESTAMPTZOID && type != TIMESTAMPOID && type != DATEOID)
		refuse_partitioning(target, option,
							psprintf("is partitioned by the column \"%s\" of type %s",
									 get_attname(RelationGetRelid(target), key->partattrs[0], false),
									 format_type_be(key->parttypid[0])));
	return type;
}

static void
check_partitioning(Relation target, const Source *source)
{
	if (source->partition_interval != NULL)
	{
		Oid			type = time_key_type(target, "partition_interval");

		if (type == DATEOID && source->partition_interval->time != 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("partition_interval must be whole days where the table is partitioned by a date"),
					 errhint("Give days or months, such as '1 day'.")));
	}
	if (source->retention != NULL)
		(void) time_key_type(target, "retention");
}

bool
source_is_conflict_key(Relation index)
{
	Form_pg_index form = index->rd_index;

	return form->indisunique && form->indisvalid && form->indisready && form->indimmediate &&
		!form->indisexclusion && RelationGetIndexPredicate(index) == NIL &&
		RelationGetIndexExpressions(index) == NIL;
}

static void
check_key_for_update(Relation target)
{
	int			n = 0;
	ListCell   *cell;

	foreach(cell, RelationGetIndexList(target))
	{
		Relation	index = index_open(lfirst_oid(cell), AccessShareLock);

		n += source_is_conflict_key(index);
		index_close(index, AccessShareLock);
	}
	if (n != 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("on_conflict => 'update' needs a target with one unique key"),
				 errdetail_plural("\"%s\" has %d: a key counts that is not deferrable, partial or over an expression.",
								  "\"%s\" has %d: keys count that are not deferrable, partial or over an expression.",
								  n, RelationGetRelationName(target), n),
				 errhint("Make one PRIMARY KEY or UNIQUE constraint, or say 'ignore' or 'error'.")));
}

static void
note_without_partition(Relation target)
{
	if (target->rd_rel->relkind == RELKIND_PARTITIONED_TABLE &&
		RelationGetPartitionDesc(target, true)->nparts == 0)
		ereport(NOTICE,
				(errmsg("\"%s\" has no partition yet, and the source makes none",
						RelationGetRelationName(target)),
				 errhint("Give partition_interval, or make partitions yourself: until then every record "
						 "is a dead letter.")));
}

static void
warn_unlogged(Relation target)
{
	if (target->rd_rel->relpersistence == RELPERSISTENCE_UNLOGGED)
		ereport(WARNING,
				(errmsg("\"%s\" is unlogged: a crash empties it, and the source does not read its records again",
						RelationGetRelationName(target)),
				 errhint("Run ALTER TABLE ... SET LOGGED, or seek the source to where it shall begin "
						 "again after a crash.")));
}

static bool
is_of_extension(const Trigger *trigger)
{
	return strncmp(trigger->tgname, "clickstream_", strlen("clickstream_")) == 0;
}

/* rows come as by COPY into each partition: nobody says INSERT INTO the table */
static void
tell_statement_triggers(Relation target)
{
	TriggerDesc *triggers = target->trigdesc;

	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		const Trigger *trigger = &triggers->triggers[i];

		if (TRIGGER_FOR_ROW(trigger->tgtype) || !TRIGGER_FOR_INSERT(trigger->tgtype) ||
			is_of_extension(trigger))
			continue;
		ereport(NOTICE,
				(errmsg("trigger \"%s\" of \"%s\" will not fire for the source's rows", trigger->tgname,
						RelationGetRelationName(target)),
				 errdetail("It is FOR EACH STATEMENT, and a source writes rows without one."),
				 errhint("Make it FOR EACH ROW if it must see them.")));
	}
}

void
source_check_target(Source *source)
{
	Relation	target = open_target(source->target);

	check_kind(target);
	check_owner(target);
	source->owner = target->rd_rel->relowner;
	check_place(target);
	check_partitioning(target, source);
	if (strcmp(source->on_conflict, "update") == 0)
		check_key_for_update(target);
	source->columns = source_check_columns(target, source->columns);
	relation_close(target, NoLock);
}

void
source_note_target(const Source *source)
{
	Relation	target = open_target(source->target);

	if (source->partition_interval == NULL)
		note_without_partition(target);
	warn_unlogged(target);
	tell_statement_triggers(target);
	relation_close(target, NoLock);
}
