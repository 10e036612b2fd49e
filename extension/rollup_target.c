/*
 * rollup_target.c
 *		Commands after which rollups would no longer be exact, and nobody would know.
 *
 * Called by rollup_events.c at the end of such commands.  Rows that go into a table that inherits from a target
 * belong to the rollup's query, and no trigger of the target sees them; a definition that is replaced says something
 * else than the table holds: both are refused.  A target's triggers can be switched off and on with those of its owner:
 * switched on, each must fire when it should and at no other time, or rows are counted twice.  Switched off or dropped,
 * by name or with all others, the rollup stands still; that is for a superuser to do, who is told.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/lsyscache.h"

#include "catalog.h"
#include "rollup_target.h"
#include "rollup_trigger.h"
#include "statement.h"

/* the target of rollups that a table is, or is a partition of; else InvalidOid */
static Oid
target_of(Oid relation)
{
	ListCell   *cell;

	if (catalog_rollups_of_target(relation) != NIL)
		return relation;
	if (!get_rel_relispartition(relation))
		return InvalidOid;
	foreach(cell, get_partition_ancestors(relation))
	{
		if (catalog_rollups_of_target(lfirst_oid(cell)) != NIL)
			return lfirst_oid(cell);
	}
	return InvalidOid;
}

/* ---------------------------------------------------------------- tables that inherit */

static void
refuse_heir(const RangeVar *parent)
{
	Oid			relation = RangeVarGetRelid(parent, NoLock, true);

	if (OidIsValid(relation) && OidIsValid(target_of(relation)))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("\"%s\" has rollups and cannot be inherited from", parent->relname),
				 errdetail("Rows that come into the new table would not be seen."),
				 errhint("Make it a table of its own, or use declarative partitioning.")));
}

static void
refuse_heirs(Node *statement)
{
	ListCell   *cell;

	if (IsA(statement, CreateStmt) && ((CreateStmt *) statement)->partbound == NULL)
	{
		foreach(cell, ((CreateStmt *) statement)->inhRelations)
			refuse_heir(lfirst_node(RangeVar, cell));
	}
	else if (IsA(statement, AlterTableStmt))
	{
		foreach(cell, ((AlterTableStmt *) statement)->cmds)
		{
			AlterTableCmd *command = lfirst_node(AlterTableCmd, cell);

			if (command->subtype == AT_AddInherit)
				refuse_heir((RangeVar *) command->def);
		}
	}
}

/* ---------------------------------------------------------------- definitions */

static void
refuse_replaced(List *views)
{
	ListCell   *view,
			   *cell;

	foreach(view, views)
	{
		foreach(cell, catalog_rollups())
		{
			const Rollup *rollup = lfirst(cell);

			if (rollup->definition == lfirst_oid(view))
				ereport(ERROR,
						(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						 errmsg("view \"%s\" is the definition of rollup \"%s\"", get_rel_name(rollup->definition),
								get_rel_name(rollup->rollup)),
						 errdetail("Its groups were computed by the query as it was."),
						 errhint("Drop the rollup with clickstream.drop_rollup, and make it with the new query.")));
		}
	}
}

/* ---------------------------------------------------------------- triggers */

static bool
is_switch(AlterTableType type)
{
	switch (type)
	{
		case AT_EnableTrig:
		case AT_EnableAlwaysTrig:
		case AT_EnableReplicaTrig:
		case AT_EnableTrigAll:
		case AT_EnableTrigUser:
		case AT_DisableTrig:
		case AT_DisableTrigAll:
		case AT_DisableTrigUser:
			return true;
		default:
			return false;
	}
}

static bool
alters(Node *statement, bool (*by) (AlterTableType type))
{
	ListCell   *cell;

	foreach(cell, IsA(statement, AlterTableStmt) ? ((AlterTableStmt *) statement)->cmds : NIL)
	{
		if (by(lfirst_node(AlterTableCmd, cell)->subtype))
			return true;
	}
	return false;
}

static void
tell_not_kept(Oid relation, Oid target)
{
	ereport(superuser() ? WARNING : ERROR,
			(errcode(superuser() ? ERRCODE_WARNING : ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("the rollups of \"%s\" are not kept up to date without the triggers of \"%s\"", get_rel_name(target),
					get_rel_name(relation)),
			 errhint(superuser() ? "Enable them again; then clickstream.refresh_rollup takes in what came meanwhile." :
					 "Disable triggers of your own by their names, or drop the rollups first.")));
}

/* backend-local: our own commands must not be mended in the midst */
static bool is_mending = false;

static void
mend(Oid target)
{
	is_mending = true;
	PG_TRY();
	{
		rollup_triggers_mend(target);
	}
	PG_FINALLY();
	{
		is_mending = false;
	}
	PG_END_TRY();
}

static void
keep_triggers(Oid relation)
{
	Oid			target = target_of(relation);

	if (!OidIsValid(target))
		return;
	if (rollup_triggers_are_off(relation))
		tell_not_kept(relation, target);
	mend(relation);
}

/* ---------------------------------------------------------------- what a crash leaves */

static bool
changes_persistence(AlterTableType type)
{
	return type == AT_SetLogged || type == AT_SetUnLogged;
}

/* A crash empties an unlogged table, and not what was computed of it. */
static void
tell_persistence(Oid target)
{
	ListCell   *cell;

	foreach(cell, catalog_rollups_of_target(target))
	{
		Oid			rollup = ((Rollup *) lfirst(cell))->rollup;
		bool		unlogged = get_rel_persistence(target) == RELPERSISTENCE_UNLOGGED;

		if (get_rel_persistence(rollup) != get_rel_persistence(target))
			ereport(NOTICE,
					(errmsg("rollup \"%s\" is %s", get_rel_name(rollup), unlogged ? "still logged" : "still unlogged"),
					 errdetail("A crash empties the one and not the other."),
					 errhint("ALTER TABLE %s SET %s.", qualified_name(rollup), unlogged ? "UNLOGGED" : "LOGGED")));
	}
}

/* ---------------------------------------------------------------- what policies hide */

static bool
begins_to_hide(AlterTableType type)
{
	return type == AT_EnableRowSecurity;
}

static void
tell_hidden(Oid relation)
{
	if (OidIsValid(target_of(relation)))
		ereport(NOTICE,
				(errmsg("the rollups of \"%s\" show groups of all its rows, whatever its policies hide", get_rel_name(relation)),
				 errhint("Give the rollups' tables policies of their own.")));
}

/* ---------------------------------------------------------------- the whole */

static bool
is_minded(AlterTableType type)
{
	return type == AT_AddInherit || is_switch(type) || changes_persistence(type) || begins_to_hide(type);
}

bool
rollup_target_minds(Node *statement)
{
	return IsA(statement, ViewStmt) || (IsA(statement, CreateStmt) && ((CreateStmt *) statement)->inhRelations != NIL) ||
		alters(statement, is_minded);
}

void
rollup_target_after_command(Node *statement, List *relations)
{
	ListCell   *cell;

	refuse_heirs(statement);
	if (IsA(statement, ViewStmt))
		refuse_replaced(relations);
	foreach(cell, relations)
	{
		if (!is_mending && alters(statement, is_switch))
			keep_triggers(lfirst_oid(cell));
		if (alters(statement, begins_to_hide))
			tell_hidden(lfirst_oid(cell));
		if (alters(statement, changes_persistence))
			tell_persistence(lfirst_oid(cell));
	}
}

void
rollup_target_lost_triggers(List *relations)
{
	ListCell   *cell;

	foreach(cell, relations)
	{
		Oid			target = target_of(lfirst_oid(cell));

		if (OidIsValid(target))
			tell_not_kept(lfirst_oid(cell), target);
	}
}
