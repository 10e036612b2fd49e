/*
 * snapshot.c
 *		The snapshot of a statement that does nothing but wait.
 *
 * Called by wait_for_source and wait_for_sink.  A statement keeps its snapshot until it ends, and as long as
 * it is kept no row that was dead later can be removed, anywhere in the database.  A rollup's rows change
 * many times a second: while somebody waits for a backlog, they would leave their pages for want of room and
 * the table would grow.  So the snapshot of SELECT clickstream.wait_for_source(…) is given back for each
 * sleep.  That is safe where the statement reads no table: nothing depends on which snapshot it has, as
 * long as it has one when anything runs.
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/execdesc.h"
#include "nodes/execnodes.h"
#include "nodes/plannodes.h"
#include "tcop/pquery.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"

#include "snapshot.h"

static bool
reads_no_table(const PlannedStmt *statement)
{
	ListCell   *cell;

	if (statement->commandType != CMD_SELECT || !IsA(statement->planTree, Result) ||
		statement->subplans != NIL || outerPlan(statement->planTree) != NULL)
		return false;
	foreach(cell, statement->rtable)
		if (lfirst_node(RangeTblEntry, cell)->rtekind != RTE_RESULT)
			return false;
	return true;
}

/* the client's own statement, and the function called by it, not by another function */
static QueryDesc *
waiting_statement(void)
{
	QueryDesc  *query;

	if (IsolationUsesXactSnapshot() || ActivePortal == NULL || ActivePortal->strategy != PORTAL_ONE_SELECT ||
		ActivePortal->queryDesc == NULL || !ActiveSnapshotSet())
		return NULL;
	query = ActivePortal->queryDesc;
	if (query->estate == NULL || query->estate->es_snapshot != query->snapshot ||
		!reads_no_table(query->plannedstmt))
		return NULL;
	return query;
}

bool
snapshot_give_back(void)
{
	QueryDesc  *query = waiting_statement();
	Snapshot	snapshot;

	if (query == NULL || GetActiveSnapshot() != query->snapshot)
		return false;
	snapshot = query->snapshot;
	query->snapshot = query->estate->es_snapshot = InvalidSnapshot;
	PopActiveSnapshot();
	UnregisterSnapshotFromOwner(snapshot, ActivePortal->resowner);
	UnregisterSnapshotFromOwner(snapshot, ActivePortal->resowner);
	InvalidateCatalogSnapshot();
	return true;
}

void
snapshot_take_again(void)
{
	QueryDesc  *query = ActivePortal->queryDesc;
	Snapshot	snapshot = RegisterSnapshotOnOwner(GetTransactionSnapshot(), ActivePortal->resowner);

	query->snapshot = snapshot;
	query->estate->es_snapshot = RegisterSnapshotOnOwner(snapshot, ActivePortal->resowner);
	PushActiveSnapshot(snapshot);
}
