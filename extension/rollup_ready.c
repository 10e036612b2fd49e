/*
 * rollup_ready.c
 *		A plan over new rows that stays set up from one statement to the next.
 *
 * Called by rollup_states.c, for rows of statements that write few.  To set a plan up and to take it down costs
 * several times what one row does in it.  So where nothing of a plan lives no longer than a statement, its
 * nodes are kept, and only started anew: an aggregate over new rows opens no table, holds no snapshot and no
 * file.  Who keeps it drops it when a function or type in it changes, and when the rights of a role do: they
 * are looked at when the plan is set up.
 */
#include "postgres.h"

#include <malloc.h>

#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "rollup_ready.h"

/* nodes that have grown to this, by whatever a function leaves behind, are made anew */
#define MOST_BYTES (8 * 1024 * 1024)
#define LOOK_EVERY 1000

/* states that take so much while rows are added */
#define LARGE_STATES (100 * 1024)

struct RollupReady
{
	PlannedStmt *plan;
	QueryEnvironment *environment;
	EState	   *estate;			/* with memory of its own; NULL before the first run */
	PlanState  *top;
	int			n_runs;
	bool		is_running;		/* still so at the next run: an error ended that one */
};

static bool
is_kind_to_keep(const Plan *plan)
{
	if (plan == NULL)
		return true;
	if (plan->initPlan != NIL || plan->righttree != NULL)
		return false;
	switch (nodeTag(plan))
	{
		case T_Agg:
			/* the other kinds may hand out again what they had */
			if (((const Agg *) plan)->aggstrategy != AGG_PLAIN && ((const Agg *) plan)->aggstrategy != AGG_SORTED)
				return false;
			break;
		case T_CustomScan:
			if (((const CustomScan *) plan)->scan.scanrelid != 0)
				return false;
			break;
		case T_Sort:
			break;
		default:
			return false;
	}
	return is_kind_to_keep(plan->lefttree);
}

/* of a table that the planner found no need to read, for example */
static bool
asks_for_rights(const PlannedStmt *plan)
{
	ListCell   *cell;

	foreach(cell, compat_rights_of_plan(plan))
	{
		if (compat_rights_in(lfirst(cell)) != 0)
			return true;
	}
	return false;
}

bool
rollup_ready_can_keep(const PlannedStmt *plan)
{
	return !asks_for_rights(plan) && plan->subplans == NIL && plan->paramExecTypes == NIL &&
		!expression_returns_set((Node *) plan->planTree->targetlist) && is_kind_to_keep(plan->planTree);
}

RollupReady *
rollup_ready_create(PlannedStmt *plan, QueryEnvironment *environment)
{
	RollupReady *ready = palloc0(sizeof(RollupReady));

	ready->plan = plan;
	ready->environment = environment;
	return ready;
}

static void
set_up(RollupReady *ready)
{
	MemoryContext caller = MemoryContextSwitchTo(GetMemoryChunkContext(ready));

	ready->estate = CreateExecutorState();
	MemoryContextSwitchTo(ready->estate->es_query_cxt);
	ready->estate->es_plannedstmt = ready->plan;
	ready->estate->es_queryEnv = ready->environment;
	ready->top = ExecInitNode(ready->plan->planTree, ready->estate, 0);
	MemoryContextSwitchTo(caller);
}

/* What an error has left in the nodes may point to what is gone. */
static void
make_ready(RollupReady *ready)
{
	bool		is_worn = ++ready->n_runs % LOOK_EVERY == 0 && ready->estate != NULL &&
		MemoryContextMemAllocated(ready->estate->es_query_cxt, true) > MOST_BYTES;

	if (ready->estate != NULL && (ready->is_running || is_worn))
	{
		MemoryContextDelete(ready->estate->es_query_cxt);
		ready->estate = NULL;
	}
	ready->is_running = true;
	if (ready->estate == NULL)
		set_up(ready);
}

/*
 * Some aggregates take and free 128 kB for each group.  Given back to the system it would come anew a page at a
 * time, emptied each time, and that costs more than the row.  So a session that has such a rollup keeps some.
 */
static void
keep_freed_memory(const RollupReady *ready)
{
	static bool keeping = false;

	if (keeping || MyBackendType != B_BACKEND || ready->n_runs % LOOK_EVERY != 1 ||
		MemoryContextMemAllocated(ready->estate->es_query_cxt, true) < LARGE_STATES)
		return;
	keeping = true;
#ifdef M_MMAP_THRESHOLD
	mallopt(M_MMAP_THRESHOLD, 1024 * 1024);
	mallopt(M_TRIM_THRESHOLD, 4 * 1024 * 1024);
#endif
}

/* Nodes are started anew at the end: what they hold of these rows goes now. */
void
rollup_ready_run(RollupReady *ready, Tuplestorestate *states)
{
	MemoryContext caller = CurrentMemoryContext;

	make_ready(ready);
	PushActiveSnapshot(GetTransactionSnapshot());
	MemoryContextSwitchTo(ready->estate->es_query_cxt);
	for (;;)
	{
		TupleTableSlot *slot = ExecProcNode(ready->top);

		if (TupIsNull(slot))
			break;
		tuplestore_puttupleslot(states, slot);
	}
	keep_freed_memory(ready);
	ExecReScan(ready->top);
	MemoryContextSwitchTo(caller);
	PopActiveSnapshot();
	ready->is_running = false;
}
