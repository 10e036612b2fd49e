/*
 * rollup_states.c
 *		A rollup's query over some rows -> the transition states of their groups.
 *
 * Called by rollup_delta.c and its neighbours; writes nothing and knows nothing of the rollup's table.
 *
 * The query is planned as any other, but for two changes.  In its range table the target is replaced
 * by a named tuplestore that holds just the rows in question, as a trigger's transition table would
 * be: joins, filters and expressions work unchanged, and there is no name to be found or shadowed.
 * And the topmost Agg of the plan is told to do the first half of a parallel aggregate only
 * (AGGSPLIT_INITIAL_SERIAL), so that the executor hands out states, serialised where they are
 * internal.  Nothing may stand above the aggregates then, hence rollup_query_of_states; nor may the
 * planner have split the aggregate itself, except into the two halves of a parallel plan: of these the
 * second is told to hand out what it combined.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "executor/tstoreReceiver.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/planner.h"
#include "optimizer/tlist.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteHandler.h"
#include "tcop/dest.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/queryenvironment.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "rollup_batch.h"
#include "rollup_group.h"
#include "rollup_states.h"
#include "rollup_where.h"
#include "statement.h"

/* what a batch is planned for: a plan is kept, whatever the first one holds */
#define ROWS_OF_BATCH 50000

#define NEW_ROWS "_rows"

/* ---------------------------------------------------------------- plans */

/* The second half of a parallel aggregate, which combines states, hands out what it combined. */
static void
hand_out_combined(Aggref *aggref, AggSplit split)
{
	aggref->aggsplit = split;
	aggref->aggtype = aggref->aggtranstype == INTERNALOID ? BYTEAOID : aggref->aggtranstype;
}

/* Makes a plan hand out states; the top of it is the aggregate over which nothing stands. */
static void
stop_at_states(PlannedStmt *plan)
{
	Agg		   *agg = (Agg *) plan->planTree;
	bool		combines = IsA(agg, Agg) && agg->aggsplit == AGGSPLIT_FINAL_DESERIAL;
	ListCell   *cell;

	if (!IsA(agg, Agg) || (agg->aggsplit != AGGSPLIT_SIMPLE && !combines))
		elog(ERROR, "a rollup's query was planned without an aggregate on top: node %d",
			 (int) nodeTag(agg));
	agg->aggsplit |= AGGSPLIT_INITIAL_SERIAL;
	if (!combines)
		rollup_group_instead_of_sort(agg);
	foreach(cell, agg->plan.targetlist)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, cell);

		if (!IsA(entry->expr, Aggref))
			continue;
		if (combines)
			hand_out_combined((Aggref *) entry->expr, agg->aggsplit);
		else
			mark_partial_aggref((Aggref *) entry->expr, AGGSPLIT_INITIAL_SERIAL);
	}
}

/* The owner can alter the table, or replace the definition: states must never be read as another type. */
static void
require_types(const PlannedStmt *plan, const RollupMerge *merge)
{
	List	   *entries = plan->planTree->targetlist;
	ListCell   *cell;

	foreach(cell, entries)
	{
		int			n = foreach_current_index(cell);

		if (n < merge->states_desc->natts &&
			exprType((Node *) lfirst_node(TargetEntry, cell)->expr) ==
			TupleDescAttr(merge->states_desc, n)->atttypid)
			continue;
		rollup_merge_does_not_fit(merge->rollup);
	}
	if (list_length(entries) != merge->states_desc->natts)
		rollup_merge_does_not_fit(merge->rollup);
}

static PlannedStmt *
plan_states(Query *query, const RollupMerge *merge, const RollupPart *part, int options)
{
	List	   *rewritten;
	Query	   *whole;
	PlannedStmt *plan;

	AcquireRewriteLocks(query, true, false);
	rewritten = QueryRewrite(query);
	if (list_length(rewritten) != 1)
		elog(ERROR, "a rollup's query was rewritten into %d", list_length(rewritten));
	whole = linitial_node(Query, rewritten);
	PushActiveSnapshot(GetTransactionSnapshot());
	plan = pg_plan_query(part == NULL ? whole : rollup_part_of_query(whole, merge->query->target_index, part),
						 "a rollup's query", options, NULL);
	PopActiveSnapshot();
	stop_at_states(plan);
	require_types(plan, merge);
	return plan;
}

PlannedStmt *
rollup_states_plan(const RollupMerge *merge, TupleDesc desc, double n_rows)
{
	Query	   *query = rollup_query_of_states(merge->query);

	rollup_where_named(rt_fetch(merge->query->target_index, query->rtable), NEW_ROWS, desc, n_rows);
	return plan_states(query, merge, NULL, 0);
}

static PlannedStmt *
plan_batch(const RollupMerge *merge, TupleDesc desc, double n_rows, Bitmapset **columns)
{
	PlannedStmt *plan = rollup_states_plan(merge, desc, n_rows);

	if (!rollup_batch_reads(plan, NEW_ROWS, desc, columns))
		elog(ERROR, "the plan of a rollup's query does not read its new rows");
	return plan;
}

PlannedStmt *
rollup_states_plan_batch(const RollupMerge *merge, TupleDesc desc, Bitmapset **columns)
{
	return plan_batch(merge, desc, ROWS_OF_BATCH, columns);
}

/* A hash table that has handed out its groups would do so again for the next rows. */
PlannedStmt *
rollup_states_plan_few(const RollupMerge *merge, TupleDesc desc, Bitmapset **columns)
{
	int			level = NewGUCNestLevel();
	PlannedStmt *plan;

	(void) set_config_option("enable_hashagg", "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
							 false);
	plan = plan_batch(merge, desc, 1, columns);
	AtEOXact_GUC(true, level);
	return plan;
}

/* ---------------------------------------------------------------- their execution */

static void
register_tuplestore(QueryEnvironment *environment, const char *name, Tuplestorestate *store,
					TupleDesc desc)
{
	register_ENR(environment, named_rows(name, store, tuplestore_tuple_count(store), desc));
}

/* Runs a plan under the active snapshot.  What outlives that snapshot must not point into a table. */
static Tuplestorestate *
run(PlannedStmt *plan, QueryEnvironment *environment, const RollupRows *which)
{
	bool		outlives = which != NULL && which->snapshot != NULL;
	Tuplestorestate *states = tuplestore_begin_heap(true, false, work_mem);
	DestReceiver *receiver = CreateDestReceiver(DestTuplestore);
	QueryDesc  *query;

	SetTuplestoreDestReceiverParams(receiver, states, CurrentMemoryContext, outlives, NULL, NULL);
	query = CreateQueryDesc(plan, "a rollup's query", GetActiveSnapshot(), InvalidSnapshot, receiver,
							NULL, environment, 0);
	ExecutorStart(query, 0);
	if (which != NULL && which->told != NULL)
		rollup_progress_watch(query, which->told, which->told_argument);
	compat_executor_run(query);
	if (which != NULL && which->told != NULL)
		rollup_progress_end();
	ExecutorFinish(query);
	ExecutorEnd(query);
	FreeQueryDesc(query);
	receiver->rDestroy(receiver);
	return states;
}

Tuplestorestate *
rollup_states_of(PlannedStmt *plan, Tuplestorestate *rows, TupleDesc desc)
{
	QueryEnvironment *environment = create_queryEnv();
	Tuplestorestate *states;

	register_tuplestore(environment, NEW_ROWS, rows, desc);
	PushActiveSnapshot(GetTransactionSnapshot());
	states = run(plan, environment, NULL);
	PopActiveSnapshot();
	return states;
}

Tuplestorestate *
rollup_states_of_batch(PlannedStmt *plan, RollupBatch *batch)
{
	QueryEnvironment *environment = create_queryEnv();
	Tuplestorestate *states;

	register_ENR(environment, named_rows(NEW_ROWS, batch, rollup_batch_count(batch), NULL));
	PushActiveSnapshot(GetTransactionSnapshot());
	states = run(plan, environment, NULL);
	PopActiveSnapshot();
	return states;
}

RollupReady *
rollup_states_ready(PlannedStmt *plan, RollupBatch *batch)
{
	QueryEnvironment *environment;

	if (!rollup_ready_can_keep(plan))
		return NULL;
	environment = create_queryEnv();
	register_ENR(environment, named_rows(NEW_ROWS, batch, 1, NULL));
	return rollup_ready_create(plan, environment);
}

Tuplestorestate *
rollup_states_of_ready(RollupReady *ready)
{
	Tuplestorestate *states = tuplestore_begin_heap(true, false, work_mem);

	rollup_ready_run(ready, states);
	return states;
}

/*
 * The snapshot is new: whoever calls has locked the groups in question before.  Under REPEATABLE
 * READ it is the transaction's, and locking a group that changed since has failed already.
 */
Tuplestorestate *
rollup_states_of_target(RollupMerge *merge, const RollupRows *which)
{
	Query	   *query = rollup_query_of_states(merge->query);
	QueryEnvironment *environment = create_queryEnv();
	Tuplestorestate *states;
	PlannedStmt *plan;

	rollup_where(query, merge, which);
	if (which->touched != NULL)
		register_tuplestore(environment, ROLLUP_TOUCHED, which->touched, merge->states_desc);
	plan = plan_states(query, merge, which->part, which->snapshot != NULL ? CURSOR_OPT_PARALLEL_OK : 0);

	CommandCounterIncrement();
	if (which->snapshot != NULL)
		PushActiveSnapshot(which->snapshot);
	else
		PushActiveSnapshot(which->touched != NULL ? GetTransactionSnapshot() : GetLatestSnapshot());
	states = run(plan, environment, which);
	PopActiveSnapshot();
	return states;
}
