/*
 * rollup_command.c
 *		Commands that drop or empty tables, before they run: what they need to know, and in which order they lock.
 *
 * Called by utility_hook.c.  Must never change a command nor its outcome; it does two things.
 *
 * Order of locks.  A writer holds the target, or just a leaf of it, and goes on to its rollups, by way of
 * the target.  DROP TABLE of a rollup locks that first, and the target when the rollup is forgotten; DROP and
 * TRUNCATE of a target or a leaf lock the target first, then its leaves.  Each can meet a writer that comes
 * the other way.  So all that the command will come to is locked beforehand, at once or not at all.
 *
 * Dependencies.  A dump does not carry that a rollup's table depends on its definition and on its
 * columns.  Who uses the rollup records it (rollup_depend.c); a command that asks for it must not come before.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"

#include "catalog.h"
#include "compat.h"
#include "rollup_command.h"
#include "rollup_depend.h"
#include "rollup_lock.h"

/* ---------------------------------------------------------------- what a command is about */

static List *
relations_named(List *names)
{
	List	   *relations = NIL;
	ListCell   *cell;

	foreach(cell, names)
	{
		RangeVar   *name = IsA(lfirst(cell), RangeVar) ? lfirst(cell) : makeRangeVarFromNameList(lfirst(cell));
		Oid			relation = RangeVarGetRelid(name, NoLock, true);

		if (OidIsValid(relation))
			relations = lappend_oid(relations, relation);
	}
	return relations;
}

static bool
detaches(const AlterTableStmt *statement)
{
	ListCell   *cell;

	foreach(cell, statement->cmds)
	{
		AlterTableCmd *command = lfirst_node(AlterTableCmd, cell);

		if (command->subtype == AT_DetachPartition && !((PartitionCmd *) command->def)->concurrent)
			return true;
	}
	return false;
}

/* the tables that a command drops, empties or takes apart */
static List *
relations_of(Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_DropStmt:
			switch (((DropStmt *) statement)->removeType)
			{
				case OBJECT_TABLE:
				case OBJECT_VIEW:
					return relations_named(((DropStmt *) statement)->objects);
				default:
					return NIL;
			}
		case T_TruncateStmt:
			return relations_named(((TruncateStmt *) statement)->relations);
		case T_AlterTableStmt:
			return detaches((AlterTableStmt *) statement) ?
				relations_named(list_make1(((AlterTableStmt *) statement)->relation)) : NIL;
		default:
			return NIL;
	}
}

/* ---------------------------------------------------------------- locks */

static bool
is_rollup_of_schemas(const Rollup *rollup, List *schemas)
{
	ListCell   *cell;

	foreach(cell, schemas)
	{
		Oid			schema = get_namespace_oid(strVal(lfirst(cell)), true);

		if (OidIsValid(schema) && (schema == get_rel_namespace(rollup->rollup) ||
								   schema == get_rel_namespace(rollup->target)))
			return true;
	}
	return false;
}

/* whether one of these is below a table, as a partition is */
static bool
has_below(List *relations, Oid relation)
{
	ListCell   *cell;

	foreach(cell, relations)
	{
		if (get_rel_relispartition(lfirst_oid(cell)) &&
			list_member_oid(get_partition_ancestors(lfirst_oid(cell)), relation))
			return true;
	}
	return false;
}

/* whoever may not run the command locks nobody out */
static bool
may_lock(const Rollup *rollup)
{
	return compat_owns_relation(rollup->target, GetUserId()) || compat_owns_relation(rollup->rollup, GetUserId()) ||
		pg_class_aclcheck(rollup->target, GetUserId(), ACL_TRUNCATE) == ACLCHECK_OK;
}

/* A target that is emptied, or loses a leaf, keeps its rollups: only its writers are in the way. */
static void
lock_for_one(const Rollup *rollup, Node *statement, List *relations, List *schemas)
{
	bool		drops = IsA(statement, DropStmt);

	if (drops && (list_member_oid(relations, rollup->target) || is_rollup_of_schemas(rollup, schemas)))
		rollup_lock_out_all(rollup->target, InvalidOid);
	else if (drops && (list_member_oid(relations, rollup->rollup) || list_member_oid(relations, rollup->definition)))
		rollup_lock_out_all(rollup->target, rollup->rollup);
	else if (list_member_oid(relations, rollup->target) || has_below(relations, rollup->target))
		rollup_lock_out_writers(rollup->target);
}

static void
lock_for(Node *statement, List *rollups, List *relations)
{
	List	   *schemas = IsA(statement, DropStmt) && ((DropStmt *) statement)->removeType == OBJECT_SCHEMA ?
		((DropStmt *) statement)->objects : NIL;
	ListCell   *cell;

	foreach(cell, relations == NIL && schemas == NIL ? NIL : rollups)
	{
		Rollup	   *rollup = lfirst(cell);

		if (get_rel_name(rollup->target) != NULL && may_lock(rollup))
			lock_for_one(rollup, statement, relations, schemas);
	}
}

/* ---------------------------------------------------------------- dependencies */

static bool
asks_for_dependencies(Node *statement)
{
	return IsA(statement, DropStmt) || IsA(statement, DropOwnedStmt) || IsA(statement, AlterTableStmt);
}

static void
record_dependencies(List *rollups)
{
	ListCell   *cell;

	foreach(cell, rollups)
	{
		Rollup	   *rollup = lfirst(cell);

		if (get_rel_name(rollup->rollup) != NULL && get_rel_name(rollup->definition) != NULL)
			rollup_depend(rollup->rollup, rollup->definition);
	}
}

/* ---------------------------------------------------------------- the whole */

/* the extension's own commands, while it is made or dropped, are nobody's concern */
static bool
is_to_be_looked_at(Node *statement)
{
	if (!IsTransactionState() || RecoveryInProgress() || XactReadOnly || creating_extension)
		return false;
	if (IsA(statement, DropStmt))
		return ((DropStmt *) statement)->removeType != OBJECT_EXTENSION;
	return IsA(statement, TruncateStmt) || IsA(statement, AlterTableStmt) || IsA(statement, DropOwnedStmt);
}

void
rollup_before_command(Node *statement)
{
	List	   *rollups;

	if (!is_to_be_looked_at(statement) || !catalog_extension_exists())
		return;
	rollups = catalog_rollups();
	if (rollups == NIL)
		return;
	lock_for(statement, rollups, relations_of(statement));
	if (asks_for_dependencies(statement))
		record_dependencies(rollups);
}
