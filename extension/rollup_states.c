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

#include "access/sysattr.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "executor/tstoreReceiver.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/planner.h"
#include "optimizer/tlist.h"
#include "parser/parse_coerce.h"
#include "parser/parse_relation.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteHandler.h"
#include "tcop/dest.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/queryenvironment.h"
#include "utils/snapmgr.h"
#include "utils/typcache.h"

#include "compat.h"
#include "rollup_batch.h"
#include "rollup_bounds.h"
#include "rollup_group.h"
#include "rollup_states.h"
#include "statement.h"

/* what a batch is planned for: a plan is kept, whatever the first one holds */
#define ROWS_OF_BATCH 50000

#define NEW_ROWS "_rows"
#define TOUCHED "_touched"

/* ---------------------------------------------------------------- plans */

/* A named tuplestore's range table entry: as addRangeTableEntryForENR makes it. */
static void
make_named_tuplestore(RangeTblEntry *rte, const char *name, TupleDesc desc, double n_rows)
{
	int			i;

	rte->rtekind = RTE_NAMEDTUPLESTORE;
	rte->relid = InvalidOid;
	rte->relkind = 0;
	rte->rellockmode = 0;
	rte->inh = false;
	rte->enrname = pstrdup(name);
	rte->enrtuples = Max(n_rows, 1);
	rte->coltypes = rte->coltypmods = rte->colcollations = NIL;
	compat_forget_permissions(rte);
	for (i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);
		bool		dropped = attribute->attisdropped;

		rte->coltypes = lappend_oid(rte->coltypes, dropped ? InvalidOid : attribute->atttypid);
		rte->coltypmods = lappend_int(rte->coltypmods, dropped ? 0 : attribute->atttypmod);
		rte->colcollations = lappend_oid(rte->colcollations,
										 dropped ? InvalidOid : attribute->attcollation);
	}
}

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

	make_named_tuplestore(rt_fetch(merge->query->target_index, query->rtable), NEW_ROWS, desc, n_rows);
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

/* ---------------------------------------------------------------- conditions on the target itself */

/* an operand, as the operator wants it: varchar as text, for example */
static Expr *
operand(Node *node, Oid wanted)
{
	Oid			type = exprType(node);

	if (type == wanted || IsPolymorphicType(wanted))
		return (Expr *) node;
	return (Expr *) makeRelabelType((Expr *) node, wanted, -1, exprCollation(node),
									COERCE_IMPLICIT_CAST);
}

static Expr *
comparison(Oid operator, Node *left, Node *right)
{
	Oid			left_type;
	Oid			right_type;
	Expr	   *clause;

	op_input_types(operator, &left_type, &right_type);
	clause = make_opclause(operator, BOOLOID, false, operand(left, left_type),
						   operand(right, right_type), InvalidOid, exprCollation(left));
	set_opfuncid((OpExpr *) clause);
	return clause;
}

static Node *
is_null(Node *node)
{
	NullTest   *test = makeNode(NullTest);

	test->arg = (Expr *) node;
	test->nulltesttype = IS_NULL;
	test->argisrow = false;
	test->location = -1;
	return (Node *) test;
}

static void
add_condition(Query *query, Node *condition)
{
	query->jointree->quals = make_and_qual(query->jointree->quals, condition);
}

/* key = touched.key, or both NULL; each alone can be hashed when no NULL is there */
static void
add_touched_key(Query *query, SortGroupClause *clause, Node *key, Node *touched, bool nulls)
{
	Node	   *condition = (Node *) comparison(clause->eqop, key, touched);

	if (nulls)
		condition = (Node *) makeBoolExpr(OR_EXPR,
										  list_make2(condition,
													 makeBoolExpr(AND_EXPR,
																  list_make2(is_null(copyObject(key)),
																			 is_null(copyObject(touched))),
																  -1)),
										  -1);
	add_condition(query, condition);
}

static int
add_touched_relation(Query *query, TupleDesc desc, double n_rows)
{
	RangeTblEntry *rte = makeNode(RangeTblEntry);
	RangeTblRef *ref = makeNode(RangeTblRef);
	int			i;

	make_named_tuplestore(rte, TOUCHED, desc, n_rows);
	rte->eref = makeAlias(TOUCHED, NIL);
	for (i = 0; i < desc->natts; i++)
		rte->eref->colnames = lappend(rte->eref->colnames,
									  makeString(pstrdup(NameStr(TupleDescAttr(desc, i)->attname))));
	rte->inFromCl = true;
	query->rtable = lappend(query->rtable, rte);
	ref->rtindex = list_length(query->rtable);
	query->jointree->fromlist = lappend(query->jointree->fromlist, ref);
	return ref->rtindex;
}

/* A group of touched is there once, so joining it multiplies nothing. */
static void
add_touched(Query *query, const RollupMerge *merge, const RollupRows *which)
{
	TupleDesc	desc = merge->states_desc;
	int			index;
	ListCell   *cell;

	if (merge->query->is_single_group)
		return;
	index = add_touched_relation(query, desc, tuplestore_tuple_count(which->touched));
	foreach(cell, rollup_query_keys(merge->query))
	{
		int			n = foreach_current_index(cell);
		TargetEntry *entry = list_nth_node(TargetEntry, merge->query->query->targetList,
										   lfirst_int(cell) - 1);
		Form_pg_attribute attribute = TupleDescAttr(desc, n);

		add_touched_key(query,
						get_sortgroupref_clause(entry->ressortgroupref, query->groupClause),
						copyObject((Node *) entry->expr),
						(Node *) makeVar(index, n + 1, attribute->atttypid, attribute->atttypmod,
										 attribute->attcollation, 0),
						which->null_keys[n]);
	}
}

static void
add_except(Query *query, int target_index, Oid partition)
{
	Var		   *tableoid = makeVar(target_index, TableOidAttributeNumber, OIDOID, -1, InvalidOid, 0);
	Const	   *value = makeConst(OIDOID, -1, InvalidOid, sizeof(Oid), ObjectIdGetDatum(partition),
								  false, true);
	Oid			operator = OpernameGetOprid(list_make2(makeString("pg_catalog"), makeString("<>")),
											OIDOID, OIDOID);

	add_condition(query, (Node *) comparison(operator, (Node *) tableoid, (Node *) value));
}

static Const *
time_const(TimestampTz value)
{
	return makeConst(TIMESTAMPTZOID, -1, InvalidOid, sizeof(TimestampTz), TimestampTzGetDatum(value),
					 false, FLOAT8PASSBYVAL);
}

static Const *
key_const(Form_pg_attribute attribute, Datum value)
{
	return makeConst(attribute->atttypid, -1, InvalidOid, attribute->attlen, value, false,
					 attribute->attbyval);
}

static void
add_bound(Query *query, Node *key, const char *operator_name, TimestampTz bound)
{
	Oid			operator = OpernameGetOprid(list_make2(makeString("pg_catalog"),
													   makeString(pstrdup(operator_name))),
											exprType(key), TIMESTAMPTZOID);

	add_condition(query, (Node *) comparison(operator, key, (Node *) time_const(bound)));
}

static void
add_range(Query *query, const RollupQuery *rollup, const RollupRange *range)
{
	AttrNumber	column = rollup_query_time_column(rollup);
	TargetEntry *entry;

	if (!range->has_from && !range->has_to)
		return;
	entry = list_nth_node(TargetEntry, rollup->query->targetList, column - 1);
	if (range->has_from)
		add_bound(query, copyObject((Node *) entry->expr), ">=", range->from);
	if (range->has_to)
		add_bound(query, copyObject((Node *) entry->expr), "<", range->to);
}

/* the least and the greatest value of a key among groups */
static void
find_extremes(Tuplestorestate *groups, TupleDesc desc, int n, Datum *least, Datum *greatest)
{
	TypeCacheEntry *type = lookup_type_cache(TupleDescAttr(desc, n)->atttypid,
											 TYPECACHE_CMP_PROC_FINFO);
	TupleTableSlot *slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	bool		first = true;

	tuplestore_rescan(groups);
	while (tuplestore_gettupleslot(groups, true, false, slot))
	{
		bool		is_null;
		Datum		value = slot_getattr(slot, n + 1, &is_null);

		if (first || DatumGetInt32(FunctionCall2(&type->cmp_proc_finfo, value, *least)) < 0)
			*least = value;
		if (first || DatumGetInt32(FunctionCall2(&type->cmp_proc_finfo, value, *greatest)) > 0)
			*greatest = value;
		first = false;
	}
	tuplestore_rescan(groups);
	ExecDropSingleTupleTableSlot(slot);
}

/* The keys of touched groups, which are times and so passed by value, bound the time of their rows. */
static void
bound_by_touched(Query *query, const RollupMerge *merge, const RollupRows *which)
{
	ListCell   *cell;

	foreach(cell, rollup_query_keys(merge->query))
	{
		int			n = foreach_current_index(cell);
		Form_pg_attribute attribute = TupleDescAttr(merge->states_desc, n);
		Node	   *key;
		Var		   *column;
		Interval	span;
		Datum		ends[2] = {0, 0};

		if (merge->query->is_single_group || which->null_keys[n] || !attribute->attbyval)
			continue;
		key = (Node *) list_nth_node(TargetEntry, merge->query->query->targetList,
									 lfirst_int(cell) - 1)->expr;
		if (!rollup_bounds_of_key(key, merge->query->target_index, &column, &span))
			continue;
		find_extremes(which->touched, merge->states_desc, n, &ends[0], &ends[1]);
		add_condition(query, (Node *) rollup_bounds_from(column, key_const(attribute, ends[0])));
		add_condition(query, (Node *) rollup_bounds_to(column, key_const(attribute, ends[1]), &span));
	}
}

/* The same for a range of the time key. */
static void
bound_by_range(Query *query, const RollupQuery *rollup, const RollupRange *range)
{
	AttrNumber	number = rollup_query_time_column(rollup);
	Var		   *column;
	Interval	span;

	if (number == 0 ||
		!rollup_bounds_of_key((Node *) list_nth_node(TargetEntry, rollup->query->targetList,
													 number - 1)->expr,
							  rollup->target_index, &column, &span))
		return;
	if (range->has_from)
		add_condition(query, (Node *) rollup_bounds_from(column, time_const(range->from)));
	if (range->has_to)
		add_condition(query, (Node *) rollup_bounds_to(column, time_const(range->to), &span));
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
	ListCell   *cell;

	if (which->touched != NULL)
	{
		add_touched(query, merge, which);
		bound_by_touched(query, merge, which);
		register_tuplestore(environment, TOUCHED, which->touched, merge->states_desc);
	}
	foreach(cell, which->except)
		add_except(query, merge->query->target_index, lfirst_oid(cell));
	if (which->range != NULL)
	{
		add_range(query, merge->query, which->range);
		bound_by_range(query, merge->query, which->range);
	}
	foreach(cell, which->part == NULL ? NIL : rollup_part_conditions(merge->query->target_index, which->part))
		add_condition(query, lfirst(cell));
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
