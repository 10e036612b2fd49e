/*
 * rollup_events.c
 *		What DDL does to rollups: partitions that come and go, tables that are dropped.
 *
 * Owns the two event triggers.  A partition made or attached by anyone gets the triggers of its
 * ancestors' rollups; one detached loses them, and one detached from a rollup loses its guard.  When a rollup's table is dropped, alone or with what
 * it was made over, nothing of the rollup stays behind.
 *
 * They run for each CREATE TABLE, ALTER TABLE and DROP of the database, so they must be quick where
 * there are no rollups, and must not lock a partition that is as it should be.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/dependency.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "commands/event_trigger.h"
#include "commands/tablecmds.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "catalog.h"
#include "rollup_api.h"
#include "rollup_forgery.h"
#include "rollup_query.h"
#include "rollup_set.h"
#include "rollup_target.h"
#include "rollup_trigger.h"
#include "statement.h"

PG_FUNCTION_INFO_V1(clickstream_rollup_ddl);
PG_FUNCTION_INFO_V1(clickstream_rollup_drop);

/* ---------------------------------------------------------------- partitions */

static bool
has_rows(Oid relation)
{
	Relation	table = table_open(relation, AccessShareLock);
	bool		found = false;

	if (table->rd_rel->relkind == RELKIND_RELATION)
	{
		TupleTableSlot *slot = table_slot_create(table, NULL);
		Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
		TableScanDesc scan = table_beginscan(table, snapshot, 0, NULL);

		found = table_scan_getnextslot(scan, ForwardScanDirection, slot);
		table_endscan(scan);
		UnregisterSnapshot(snapshot);
		ExecDropSingleTupleTableSlot(slot);
	}
	table_close(table, NoLock);
	return found;
}

/* the table above a partition, or itself, over which there are rollups */
static Oid
target_above(Oid relation)
{
	ListCell   *cell;

	if (catalog_rollups_of_target(relation) != NIL)
		return relation;
	if (get_rel_relispartition(relation))
	{
		foreach(cell, get_partition_ancestors(relation))
		{
			if (catalog_rollups_of_target(lfirst_oid(cell)) != NIL)
				return lfirst_oid(cell);
		}
	}
	return InvalidOid;
}

static void
refuse_targets_below(Oid relation)
{
	ListCell   *cell;

	foreach(cell, find_all_inheritors(relation, NoLock, NULL))
	{
		Oid			below = lfirst_oid(cell);

		if (get_rel_relispartition(below) && catalog_rollups_of_target(below) != NIL)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("\"%s\" has rollups and cannot become a partition", get_rel_name(below)),
					 errdetail("Rows that come in through its parent would not be seen."),
					 errhint("Drop its rollups, and make them over the parent.")));
	}
}

static void
arm_partitions(Oid target, Oid relation)
{
	ListCell   *cell;

	foreach(cell, find_all_inheritors(relation, NoLock, NULL))
	{
		Oid			partition = lfirst_oid(cell);

		if (partition != target && rollup_trigger_install_on(partition) && has_rows(partition))
			ereport(NOTICE,
					(errmsg("rows that \"%s\" had before are not in the rollups of \"%s\"",
							get_rel_name(partition), get_rel_name(target)),
					 errhint("clickstream.check_rollup shows them, clickstream.refresh_rollup takes them in.")));
	}
}

static void
disarm_detached(Oid target)
{
	ListCell   *cell;

	foreach(cell, rollup_trigger_strays())
	{
		Oid			relation = lfirst_oid(cell);

		rollup_trigger_remove_from(relation);
		ereport(NOTICE,
				(errmsg("rows of \"%s\" stay in the rollups of \"%s\"", get_rel_name(relation),
						get_rel_name(target)),
				 errhint("clickstream.check_rollup shows them.")));
	}
}

/* A partition that leaves a rollup becomes a table like any other. */
static void
release_detached(Oid rollup)
{
	ListCell   *cell;

	foreach(cell, rollup_guard_strays())
	{
		rollup_guard_remove_from(lfirst_oid(cell));
		ereport(NOTICE,
				(errmsg("the groups in \"%s\" are no longer in rollup \"%s\"", get_rel_name(lfirst_oid(cell)),
						get_rel_name(rollup)),
				 errhint("clickstream.refresh_rollup computes them again from the rows that are there.")));
	}
}

/* ---------------------------------------------------------------- renamed columns */

/* The catalog has the keys by their names. */
static void
follow_renamed_keys(Oid relation)
{
	Rollup	   *rollup = catalog_rollup_by_relation(relation);
	ListCell   *cell;

	if (rollup == NULL)
		return;
	rollup->keys = NIL;
	foreach(cell, rollup_query_keys(rollup_query_of_definition(rollup->definition, rollup->target)))
		rollup->keys = lappend(rollup->keys, get_attname(relation, lfirst_int(cell), false));
	catalog_rollup_update(rollup);
}

static bool
renames_column(Node *statement)
{
	return IsA(statement, RenameStmt) && ((RenameStmt *) statement)->renameType == OBJECT_COLUMN;
}

/* ---------------------------------------------------------------- owners */

static bool
changes_owner(Node *statement)
{
	ListCell   *cell;

	if (!IsA(statement, AlterTableStmt))
		return false;
	foreach(cell, ((AlterTableStmt *) statement)->cmds)
	{
		if (lfirst_node(AlterTableCmd, cell)->subtype == AT_ChangeOwner)
			return true;
	}
	return false;
}

/*
 * The query runs as the owner of the rollup's table, who must be able to look at the definition, and to drop
 * partitions; neither follows by itself.
 */
static void
follow_owner(Oid relation)
{
	Rollup	   *rollup = catalog_rollup_by_relation(relation);
	ListCell   *cell;

	if (rollup == NULL || get_rel_name(rollup->definition) == NULL)
		return;
	ATExecChangeOwner(rollup->definition, rollup->owner, true, AccessExclusiveLock);
	foreach(cell, find_all_inheritors(relation, AccessExclusiveLock, NULL))
		ATExecChangeOwner(lfirst_oid(cell), rollup->owner, true, AccessExclusiveLock);
	catalog_rollup_update(rollup);
	rollup_set_changed(rollup->target);
}

/*
 * Anything else is left alone: pg_restore alters tables before it makes the triggers that the dump
 * has, and must not find them there.
 */
static bool
moves_partitions(Node *statement)
{
	ListCell   *cell;

	if (IsA(statement, CreateStmt))
		return ((CreateStmt *) statement)->partbound != NULL;
	if (!IsA(statement, AlterTableStmt))
		return false;
	foreach(cell, ((AlterTableStmt *) statement)->cmds)
	{
		AlterTableType type = lfirst_node(AlterTableCmd, cell)->subtype;

		if (type == AT_AttachPartition || type == AT_DetachPartition || type == AT_DetachPartitionFinalize)
			return true;
	}
	return false;
}

Datum
clickstream_rollup_ddl(PG_FUNCTION_ARGS)
{
	Node	   *statement;
	List	   *relations;
	ListCell   *cell;

	if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
		elog(ERROR, "not called by the event trigger manager");
	statement = ((EventTriggerData *) fcinfo->context)->parsetree;
	rollup_refuse_forgery(statement);
	if (!rollup_target_minds(statement) && !moves_partitions(statement) && !renames_column(statement) &&
		!changes_owner(statement))
		PG_RETURN_NULL();
	relations = oids_of("SELECT objid FROM pg_catalog.pg_event_trigger_ddl_commands() "
						"WHERE classid = 'pg_catalog.pg_class'::pg_catalog.regclass");
	rollup_target_after_command(statement, relations);
	if (changes_owner(statement))
		foreach(cell, relations)
			follow_owner(lfirst_oid(cell));
	if (!moves_partitions(statement) && !renames_column(statement))
		PG_RETURN_NULL();
	foreach(cell, relations)
	{
		Oid			relation = lfirst_oid(cell);
		char		kind = get_rel_relkind(relation);
		Oid			target;

		if (renames_column(statement))
		{
			follow_renamed_keys(relation);
			continue;
		}
		if (kind != RELKIND_PARTITIONED_TABLE && !get_rel_relispartition(relation))
			continue;
		if (catalog_rollup_by_relation(relation) != NULL)
			release_detached(relation);
		refuse_targets_below(relation);
		target = target_above(relation);
		if (!OidIsValid(target))
			continue;
		arm_partitions(target, relation);
		disarm_detached(target);
	}
	PG_RETURN_NULL();
}

/* ---------------------------------------------------------------- drops */

static void
drop_definition(const Rollup *rollup)
{
	ObjectAddress view;

	if (get_rel_name(rollup->definition) == NULL)
		return;
	ObjectAddressSet(view, RelationRelationId, rollup->definition);
	performDeletion(&view, DROP_RESTRICT, PERFORM_DELETION_INTERNAL);
}

/* Tables that are there and have lost a trigger whose name is like that; the query still sees those that went, too. */
static List *
tables_that_lost(const char *like)
{
	List	   *there = NIL;
	ListCell   *cell;

	foreach(cell, oids_of(psprintf("SELECT c.oid FROM pg_catalog.pg_event_trigger_dropped_objects() d "
								   "JOIN pg_catalog.pg_namespace n ON n.nspname OPERATOR(pg_catalog.=) d.address_names[1] "
								   "JOIN pg_catalog.pg_class c ON c.relname OPERATOR(pg_catalog.=) d.address_names[2] "
								   "AND c.relnamespace OPERATOR(pg_catalog.=) n.oid "
								   "WHERE d.object_type OPERATOR(pg_catalog.=) 'trigger' AND d.address_names[3] %s", like)))
	{
		if (get_rel_name(lfirst_oid(cell)) != NULL)
			there = lappend_oid(there, lfirst_oid(cell));
	}
	return there;
}

Datum
clickstream_rollup_drop(PG_FUNCTION_ARGS)
{
	ListCell   *cell;

	if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
		elog(ERROR, "not called by the event trigger manager");
	rollup_refuse_lost_guards(tables_that_lost("OPERATOR(pg_catalog.~~) '" ROLLUP_GUARD "%'"));
	rollup_target_lost_triggers(tables_that_lost("OPERATOR(pg_catalog.~~) 'clickstream_rollup_%' AND d.address_names[3] OPERATOR(pg_catalog.!~~) '" ROLLUP_GUARD "%'"));
	foreach(cell, oids_of("SELECT objid FROM pg_catalog.pg_event_trigger_dropped_objects() "
						  "WHERE classid = 'pg_catalog.pg_class'::pg_catalog.regclass "
						  "AND objsubid = 0 AND object_type = 'table'"))
	{
		Rollup	   *rollup = catalog_rollup_by_relation(lfirst_oid(cell));

		if (rollup == NULL)
			continue;
		rollup_forget(rollup);
		drop_definition(rollup);
	}
	PG_RETURN_NULL();
}
