/*
 * rollup_forgery.c
 *		Commands by which the owner of a rollup's table could put rows or states of his own making into it.
 *
 * Called by rollup_events.c, at the end of each such command, and when triggers were dropped.  The guard
 * trigger refuses INSERT and its like by anybody but clickstream.  An owner could put it out of force, have
 * a trigger or a rule change what clickstream writes, or bring in rows by another table.  A state is trusted
 * by functions of other extensions that do not check its bytes; so all of that is refused.  A superuser, who can
 * do anything to a server, is not held up: pg_restore --disable-triggers needs it.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "catalog/pg_trigger.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/lsyscache.h"

#include "catalog.h"
#include "rollup_forgery.h"
#include "rollup_partition.h"
#include "rollup_trigger.h"

static bool
is_table_of_rollup(Oid relation)
{
	ListCell   *cell;

	if (!OidIsValid(relation))
		return false;
	if (catalog_rollup_by_relation(relation) != NULL)
		return true;
	if (!get_rel_relispartition(relation))
		return false;
	foreach(cell, get_partition_ancestors(relation))
	{
		if (catalog_rollup_by_relation(lfirst_oid(cell)) != NULL)
			return true;
	}
	return false;
}

static bool
is_named(const RangeVar *name)
{
	return name != NULL && is_table_of_rollup(RangeVarGetRelid(name, NoLock, true));
}

static bool
is_guard(const char *trigger)
{
	return trigger != NULL && strncmp(trigger, ROLLUP_GUARD, strlen(ROLLUP_GUARD)) == 0;
}

/* a change of the table itself; of its columns only what fills them otherwise than clickstream does */
static bool
forges_in_place(const AlterTableCmd *command)
{
	switch (command->subtype)
	{
		case AT_DisableTrig:
		case AT_EnableReplicaTrig:
			return is_guard(command->name);
		case AT_DisableTrigAll:
		case AT_DisableTrigUser:
		case AT_EnableRule:
		case AT_EnableAlwaysRule:
		case AT_EnableReplicaRule:
		case AT_ColumnDefault:
		case AT_AddIdentity:
		case AT_AttachPartition:
			return true;
		default:
			return false;
	}
}

static bool
alters(const AlterTableStmt *statement)
{
	ListCell   *cell;

	foreach(cell, statement->cmds)
	{
		AlterTableCmd *command = lfirst_node(AlterTableCmd, cell);

		if (forges_in_place(command) && is_named(statement->relation))
			return true;
		if (command->subtype == AT_AddInherit && is_named((RangeVar *) command->def))
			return true;
	}
	return false;
}

static bool
inherits(const CreateStmt *statement)
{
	ListCell   *cell;

	foreach(cell, statement->inhRelations)
	{
		if (is_named(lfirst(cell)))
			return true;
	}
	return false;
}

static bool
forges(Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_AlterTableStmt:
			return alters((AlterTableStmt *) statement);
		case T_CreateStmt:
			return inherits((CreateStmt *) statement);
		case T_RuleStmt:
			return is_named(((RuleStmt *) statement)->relation);
		case T_CreateTrigStmt:
			return ((CreateTrigStmt *) statement)->row && ((CreateTrigStmt *) statement)->timing == TRIGGER_TYPE_BEFORE &&
				is_named(((CreateTrigStmt *) statement)->relation);
		default:
			return false;
	}
}

static void
refuse(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("the rows of a rollup's table are written by clickstream alone"),
			 errdetail("This command would let others write or change them."),
			 errhint("Indexes, statistics, policies and AFTER triggers can be added; for columns of your own make a view over it.")));
}

void
rollup_refuse_forgery(Node *statement)
{
	if (!superuser() && !rollup_partition_is_being_made() && forges(statement))
		refuse();
}

void
rollup_refuse_lost_guards(List *relations)
{
	ListCell   *cell;

	foreach(cell, superuser() ? NIL : relations)
	{
		if (is_table_of_rollup(lfirst_oid(cell)))
			refuse();
	}
}
