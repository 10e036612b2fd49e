/*
 * rollup_group.c
 *		A plan node that brings the rows of each group together, without an order among groups.
 *
 * Called by rollup_states.c for plans of its own.  The planner sorts rows below an aggregate whose states
 * are large, such as those of hll, of which only one is in memory then.  But an aggregate needs no order,
 * only all rows of a group in a row: so rows are kept as they come, those of a group in a chain that a
 * hash table finds, and handed out chain by chain.  That costs a fraction of a sort by text.
 *
 * Rows stay in memory: they are as many as a batch has, or a statement has changed; more than work_mem
 * allows are sorted as planned.
 */
#include "postgres.h"

#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/extensible.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "compat.h"
#include "rollup_group.h"

/* what may be kept in memory in any case, in kB */
#define ALWAYS_KB 32768

#define NO_ROW (-1)
#define FIRST_ROWS 1024

/* the rows of a group, by their numbers */
typedef struct Chain
{
	int64		first;
	int64		last;
} Chain;

typedef struct GroupScan
{
	CustomScanState custom;
	TupleTableSlot *slot;		/* handed out */
	MemoryContext memory;		/* of all that follows */
	TupleHashTable table;
	int			n_keys;
	AttrNumber *keys;
	Oid		   *equal;
	FmgrInfo   *hash;
	Oid		   *collations;
	bool		is_loaded;
	size_t		bytes;

	int64		first_room;		/* for rows and chains */
	int64		n;				/* rows */
	int64		room;
	MinimalTuple *rows;
	int64	   *next;			/* the one after, in its chain */
	int64		n_chains;
	int64		room_for_chains;
	Chain	  **chains;
	int64		at_chain;		/* handing out */
	int64		at_row;
	Tuplesortstate *sort;		/* when they became too many */
} GroupScan;

/* ---------------------------------------------------------------- rows come in */

static void
make_room(GroupScan *scan)
{
	int64		room = Max(scan->room * 2, scan->first_room);

	if (scan->rows == NULL)
	{
		scan->rows = palloc(room * sizeof(MinimalTuple));
		scan->next = palloc(room * sizeof(int64));
	}
	else
	{
		scan->rows = repalloc_huge(scan->rows, room * sizeof(MinimalTuple));
		scan->next = repalloc_huge(scan->next, room * sizeof(int64));
	}
	scan->room = room;
}

static void
add_chain(GroupScan *scan, Chain *chain)
{
	if (scan->n_chains == scan->room_for_chains)
	{
		scan->room_for_chains = Max(scan->room_for_chains * 2, scan->first_room);
		scan->chains = scan->chains == NULL ?
			palloc(scan->room_for_chains * sizeof(Chain *)) :
			repalloc_huge(scan->chains, scan->room_for_chains * sizeof(Chain *));
	}
	scan->chains[scan->n_chains++] = chain;
	chain->first = chain->last = NO_ROW;
}

static void
add_row(GroupScan *scan, TupleTableSlot *slot)
{
	bool		is_new;
	TupleHashEntry entry = LookupTupleHashEntry(scan->table, slot, &is_new, NULL);
	Chain	   *chain = compat_hash_entry_additional(scan->table, entry, is_new, sizeof(Chain));

	if (is_new)
		add_chain(scan, chain);
	if (scan->n == scan->room)
		make_room(scan);
	scan->rows[scan->n] = ExecCopySlotMinimalTuple(slot);
	scan->next[scan->n] = NO_ROW;
	scan->bytes += scan->rows[scan->n]->t_len;
	if (chain->first == NO_ROW)
		chain->first = scan->n;
	else
		scan->next[chain->last] = scan->n;
	chain->last = scan->n++;
}

/* ---------------------------------------------------------------- too many rows */

static const Sort *
planned_sort(const GroupScan *scan)
{
	return llast_node(Sort, ((CustomScan *) scan->custom.ss.ps.plan)->custom_private);
}

static void
begin_sort(GroupScan *scan)
{
	const Sort *sort = planned_sort(scan);

	scan->sort = tuplesort_begin_heap(scan->slot->tts_tupleDescriptor, sort->numCols, sort->sortColIdx,
									  sort->sortOperators, sort->collations, sort->nullsFirst, work_mem,
									  NULL, TUPLESORT_NONE);
	for (int64 i = 0; i < scan->n; i++)
	{
		ExecStoreMinimalTuple(scan->rows[i], scan->slot, false);
		tuplesort_puttupleslot(scan->sort, scan->slot);
	}
	ExecClearTuple(scan->slot);
}

/* ---------------------------------------------------------------- the node */

static void
load(GroupScan *scan)
{
	PlanState  *child = outerPlanState(&scan->custom);
	ExprContext *econtext = scan->custom.ss.ps.ps_ExprContext;
	size_t		most = ((size_t) work_mem + ALWAYS_KB) * 1024;
	MemoryContext caller = MemoryContextSwitchTo(scan->memory);

	for (;;)
	{
		TupleTableSlot *slot = ExecProcNode(child);

		if (TupIsNull(slot))
			break;
		if (scan->sort == NULL && scan->bytes > most)
			begin_sort(scan);
		if (scan->sort != NULL)
			tuplesort_puttupleslot(scan->sort, slot);
		else
			add_row(scan, slot);
		ResetExprContext(econtext);
	}
	if (scan->sort != NULL)
		tuplesort_performsort(scan->sort);
	scan->at_chain = 0;
	scan->at_row = scan->n_chains > 0 ? scan->chains[0]->first : NO_ROW;
	scan->is_loaded = true;
	MemoryContextSwitchTo(caller);
}

static TupleTableSlot *
run_group(CustomScanState *node)
{
	GroupScan  *scan = (GroupScan *) node;
	int64		row;

	if (!scan->is_loaded)
		load(scan);
	if (scan->sort != NULL)
		return tuplesort_gettupleslot(scan->sort, true, false, scan->slot, NULL) ? scan->slot : NULL;
	row = scan->at_row;
	if (row == NO_ROW)
		return NULL;
	scan->at_row = scan->next[row];
	if (scan->at_row == NO_ROW && ++scan->at_chain < scan->n_chains)
		scan->at_row = scan->chains[scan->at_chain]->first;
	return ExecStoreMinimalTuple(scan->rows[row], scan->slot, false);
}

/* The table grows; one that is made for a row or two is emptied sooner. */
static long
expected_groups(const CustomScan *plan)
{
	return (long) Max(16, Min(FIRST_ROWS, plan->scan.plan.plan_rows));
}

static void
begin_group(CustomScanState *node, EState *estate, int eflags)
{
	GroupScan  *scan = (GroupScan *) node;
	CustomScan *plan = (CustomScan *) node->ss.ps.plan;
	List	   *keys = (List *) linitial(plan->custom_private);		/* of integers, and the others of OIDs */
	List	   *operators = (List *) lsecond(plan->custom_private);
	List	   *collations = (List *) lthird(plan->custom_private);
	Oid		   *equal_operators;
	ListCell   *cell;

	outerPlanState(node) = ExecInitNode(outerPlan(plan), estate, eflags);
	scan->first_room = expected_groups(plan);
	scan->n_keys = list_length(keys);
	scan->keys = palloc(sizeof(AttrNumber) * scan->n_keys);
	scan->collations = palloc(sizeof(Oid) * scan->n_keys);
	equal_operators = palloc(sizeof(Oid) * scan->n_keys);
	foreach(cell, keys)
	{
		int			n = foreach_current_index(cell);

		scan->keys[n] = lfirst_int(cell);
		equal_operators[n] = list_nth_oid(operators, n);
		scan->collations[n] = list_nth_oid(collations, n);
	}
	execTuplesHashPrepare(scan->n_keys, equal_operators, &scan->equal, &scan->hash);
	scan->memory = AllocSetContextCreate(CurrentMemoryContext, "rows by group", ALLOCSET_DEFAULT_SIZES);
	scan->table = compat_build_tuple_hash_table(&node->ss.ps, node->ss.ss_ScanTupleSlot->tts_tupleDescriptor,
												scan->n_keys, scan->keys, scan->equal, scan->hash,
												scan->collations, scan->first_room, sizeof(Chain),
												CurrentMemoryContext, scan->memory,
												node->ss.ps.ps_ExprContext->ecxt_per_tuple_memory);

	/* rows are handed out as they are kept: whoever is above us shall expect that */
	scan->slot = ExecInitExtraTupleSlot(estate, node->ss.ss_ScanTupleSlot->tts_tupleDescriptor,
										&TTSOpsMinimalTuple);
	node->ss.ps.resultops = &TTSOpsMinimalTuple;
	node->ss.ps.resultopsfixed = true;
	node->ss.ps.resultopsset = true;
}

static void
end_group(CustomScanState *node)
{
	GroupScan  *scan = (GroupScan *) node;

	if (scan->sort != NULL)
		tuplesort_end(scan->sort);
	ExecEndNode(outerPlanState(node));
}

/* for other rows: those of a batch are read once */
static void
rescan_group(CustomScanState *node)
{
	GroupScan  *scan = (GroupScan *) node;

	if (scan->sort != NULL)
		tuplesort_end(scan->sort);
	scan->sort = NULL;
	ExecClearTuple(scan->slot);
	ResetTupleHashTable(scan->table);
	MemoryContextReset(scan->memory);
	scan->rows = NULL;
	scan->next = NULL;
	scan->chains = NULL;
	scan->n = scan->room = scan->n_chains = scan->room_for_chains = 0;
	scan->bytes = 0;
	scan->is_loaded = false;
	if (outerPlanState(node)->chgParam == NULL)
		ExecReScan(outerPlanState(node));
}

static const CustomExecMethods group_methods = {
	.CustomName = "clickstream group",
	.BeginCustomScan = begin_group,
	.ExecCustomScan = run_group,
	.EndCustomScan = end_group,
	.ReScanCustomScan = rescan_group,
};

static Node *
create_group(CustomScan *plan)
{
	GroupScan  *scan = palloc0(sizeof(GroupScan));

	NodeSetTag(scan, T_CustomScanState);
	scan->custom.methods = &group_methods;
	return (Node *) scan;
}

static const CustomScanMethods plan_methods = {
	.CustomName = "clickstream group",
	.CreateCustomScanState = create_group,
};

/* ---------------------------------------------------------------- in place of a sort */

static bool
can_be_hashed(const Agg *agg)
{
	RegProcedure left,
				right;

	for (int i = 0; i < agg->numCols; i++)
		if (!get_op_hash_functions(agg->grpOperators[i], &left, &right))
			return false;
	return agg->numCols > 0;
}

/* all columns as they come */
static List *
pass_on(List *below)
{
	List	   *entries = NIL;
	ListCell   *cell;

	foreach(cell, below)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, cell);
		Var		   *var = makeVar(INDEX_VAR, entry->resno, exprType((Node *) entry->expr),
								  exprTypmod((Node *) entry->expr), exprCollation((Node *) entry->expr), 0);

		entries = lappend(entries, makeTargetEntry((Expr *) var, entry->resno, entry->resname, false));
	}
	return entries;
}

void
rollup_group_instead_of_sort(Agg *agg)
{
	Sort	   *sort = (Sort *) outerPlan(agg);
	CustomScan *custom;
	List	   *keys = NIL,
			   *operators = NIL,
			   *collations = NIL;

	/* a sort by more than the keys is there for an aggregate that wants its rows in order */
	if (agg->aggstrategy != AGG_SORTED || sort == NULL || !IsA(sort, Sort) || sort->numCols != agg->numCols ||
		!can_be_hashed(agg))
		return;
	for (int i = 0; i < agg->numCols; i++)
	{
		keys = lappend_int(keys, agg->grpColIdx[i]);
		operators = lappend_oid(operators, agg->grpOperators[i]);
		collations = lappend_oid(collations, agg->grpCollations[i]);
	}
	custom = makeNode(CustomScan);
	custom->scan.plan = sort->plan;
	custom->scan.plan.type = T_CustomScan;
	custom->scan.plan.targetlist = pass_on(sort->plan.targetlist);
	custom->custom_scan_tlist = sort->plan.targetlist;
	custom->custom_private = list_make4(keys, operators, collations, sort);
	custom->methods = &plan_methods;
	outerPlan(agg) = (Plan *) custom;
}
