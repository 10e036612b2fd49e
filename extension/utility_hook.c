/*
 * utility_hook.c
 *		Commands on a whole database that its workers would stand in the way of.
 *
 * DROP DATABASE, ALTER DATABASE … RENAME or SET TABLESPACE, and CREATE DATABASE … TEMPLATE refuse a
 * database that somebody is connected to, and DROP also one with an active replication slot, even
 * WITH (FORCE).  So the workers of that database are sent away first, and kept away until the
 * transaction has ended; then they come back, if the database is still there.  The launcher also
 * looks at once at a database that was copied, and again at one after COMMIT PREPARED, as either may
 * have brought a source or sink.
 *
 * Before tables are dropped or emptied, rollup_command.c is told.
 *
 * Must never change a command nor its outcome: who may not run it gets PostgreSQL's own answer.
 */
#include "postgres.h"

#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "storage/latch.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "launcher.h"
#include "rollup_command.h"
#include "sink_api.h"
#include "utility_hook.h"
#include "worker_slot.h"

/* workers that need longer are left to PostgreSQL, which waits five seconds more */
#define WAIT_AT_MOST_MS 10000

static ProcessUtility_hook_type previous_hook = NULL;

static const char *
option_text(List *options, const char *name)
{
	ListCell   *cell;

	foreach(cell, options)
	{
		DefElem    *option = lfirst_node(DefElem, cell);

		if (strcmp(option->defname, name) == 0 && option->arg)
			return defGetString(option);
	}
	return NULL;
}

/* the database that the command needs for itself, or NULL */
static const char *
database_needed(Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_DropdbStmt:
			return ((DropdbStmt *) statement)->dbname;
		case T_CreatedbStmt:
			return option_text(((CreatedbStmt *) statement)->options, "template");
		case T_AlterDatabaseStmt:
			if (option_text(((AlterDatabaseStmt *) statement)->options, "tablespace"))
				return ((AlterDatabaseStmt *) statement)->dbname;
			return NULL;
		case T_RenameStmt:
			if (((RenameStmt *) statement)->renameType == OBJECT_DATABASE)
				return ((RenameStmt *) statement)->subname;
			return NULL;
		default:
			return NULL;
	}
}

static bool
has_running_worker(Oid database)
{
	int			count;
	WorkerSlot *slots = worker_slots(&count);
	bool		found = false;
	int			i;

	for (i = 0; i < count && !found; i++)
	{
		SpinLockAcquire(&slots[i].mutex);
		found = slots[i].kind != WORKER_NONE && slots[i].database == database && slots[i].pid != 0;
		SpinLockRelease(&slots[i].mutex);
	}
	return found;
}

static void
wait_for_workers_to_leave(Oid database)
{
	TimestampTz end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), WAIT_AT_MOST_MS);

	while (has_running_worker(database) && GetCurrentTimestamp() < end)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 10,
						 compat_wait_event("ClickstreamWorkersLeave"));
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/* only for who owns the database: nobody else's attempt shall disturb its workers */
static Oid
database_to_hold(Node *statement)
{
	const char *name = database_needed(statement);
	Oid			database = name ? get_database_oid(name, true) : InvalidOid;

	if (!OidIsValid(database) || database == MyDatabaseId ||
		!compat_database_ownercheck(database, GetUserId()))
		return InvalidOid;
	return database;
}

static void
run_utility(PlannedStmt *statement, const char *query, bool read_only_tree,
			ProcessUtilityContext context, ParamListInfo parameters, QueryEnvironment *environment,
			DestReceiver *destination, QueryCompletion *completion)
{
	if (previous_hook)
		previous_hook(statement, query, read_only_tree, context, parameters, environment,
					  destination, completion);
	else
		standard_ProcessUtility(statement, query, read_only_tree, context, parameters, environment,
								destination, completion);
}

static void
on_utility(PlannedStmt *statement, const char *query, bool read_only_tree,
		   ProcessUtilityContext context, ParamListInfo parameters, QueryEnvironment *environment,
		   DestReceiver *destination, QueryCompletion *completion)
{
	Node	   *parsed = statement->utilityStmt;
	bool		commits_prepared = IsA(parsed, TransactionStmt) &&
		((TransactionStmt *) parsed)->kind == TRANS_STMT_COMMIT_PREPARED;
	bool		creates = IsA(parsed, CreatedbStmt);
	Oid			held = database_to_hold(parsed);

	if (OidIsValid(held) && launcher_hold(held))
		wait_for_workers_to_leave(held);
	rollup_before_command(parsed);
	sink_before_command(parsed);
	run_utility(statement, query, read_only_tree, context, parameters, environment, destination,
				completion);
	/* a ROLLBACK may have freed the statement: only of those that cannot is it looked at again */
	if (commits_prepared)
		launcher_wake_database();
	if (OidIsValid(held) && creates)
		launcher_wake_at_commit_in(get_database_oid(((CreatedbStmt *) parsed)->dbname, true));
}

void
utility_hook_register(void)
{
	previous_hook = ProcessUtility_hook;
	ProcessUtility_hook = on_utility;
}
