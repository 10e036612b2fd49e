/*
 * rollup_query.c
 *		A rollup's query taken apart: what is a group key, which aggregates are in it, where each has
 *		its state.
 *
 * Called by rollup_rules.c when a rollup is made, and by rollup_set.c whenever one is used.
 * Decides only by the query and the system catalogs; reads and writes no table of ours.  The query
 * has passed the rules, so nothing is checked here.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/tlist.h"
#include "parser/parse_agg.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteHandler.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "compat.h"
#include "rollup_query.h"

/* ---------------------------------------------------------------- what it reads and calls */

static bool looks_for_names(Oid function, void *context);

/* An aggregate does what its functions do. */
static bool
aggregate_looks_for_names(Oid aggregate)
{
	HeapTuple	tuple = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(aggregate));
	Form_pg_aggregate form;
	bool		looks;

	if (!HeapTupleIsValid(tuple))
		return true;
	form = (Form_pg_aggregate) GETSTRUCT(tuple);
	looks = looks_for_names(form->aggtransfn, NULL) || looks_for_names(form->aggfinalfn, NULL) ||
		looks_for_names(form->aggcombinefn, NULL) || looks_for_names(form->aggserialfn, NULL) ||
		looks_for_names(form->aggdeserialfn, NULL);
	ReleaseSysCache(tuple);
	return looks;
}

/* Built-in functions and those in C are taken not to look for names that search_path decides. */
static bool
looks_for_names(Oid function, void *context)
{
	HeapTuple	tuple;
	bool		looks;

	if (function < FirstNormalObjectId)
		return false;
	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	if (!HeapTupleIsValid(tuple))
		return true;
	looks = ((Form_pg_proc) GETSTRUCT(tuple))->prokind == PROKIND_AGGREGATE ?
		aggregate_looks_for_names(function) :
		((Form_pg_proc) GETSTRUCT(tuple))->prolang != ClanguageId;
	ReleaseSysCache(tuple);
	return looks;
}

static bool
calls_lookups(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, calls_lookups, context, 0);
	if (check_functions_in_node(node, looks_for_names, context))
		return true;
	return expression_tree_walker(node, calls_lookups, context);
}

/* the range table indexes of all tables in FROM, in order; not those in sub-queries */
List *
rollup_query_tables(const Query *query, Node *node, bool nullable, List **nullable_ones)
{
	List	   *found = NIL;
	ListCell   *cell;

	if (node == NULL)
		return NIL;
	if (IsA(node, FromExpr))
	{
		foreach(cell, ((FromExpr *) node)->fromlist)
			found = list_concat(found, rollup_query_tables(query, lfirst(cell), nullable, nullable_ones));
	}
	else if (IsA(node, JoinExpr))
	{
		JoinExpr   *join = (JoinExpr *) node;
		bool		left = join->jointype == JOIN_RIGHT || join->jointype == JOIN_FULL;
		bool		right = join->jointype == JOIN_LEFT || join->jointype == JOIN_FULL;

		found = rollup_query_tables(query, join->larg, nullable || left, nullable_ones);
		found = list_concat(found, rollup_query_tables(query, join->rarg, nullable || right, nullable_ones));
	}
	else if (IsA(node, RangeTblRef))
	{
		int			index = ((RangeTblRef *) node)->rtindex;

		if (rt_fetch(index, query->rtable)->rtekind == RTE_RELATION)
		{
			found = list_make1_int(index);
			if (nullable)
				*nullable_ones = lappend_int(*nullable_ones, index);
		}
	}
	return found;
}

/* ---------------------------------------------------------------- keys */

static bool
never_null_function(Oid function)
{
	switch (function)
	{
		case F_DATE_BIN_INTERVAL_TIMESTAMPTZ_TIMESTAMPTZ:
		case F_DATE_BIN_INTERVAL_TIMESTAMP_TIMESTAMP:
		case F_DATE_TRUNC_TEXT_TIMESTAMPTZ:
		case F_DATE_TRUNC_TEXT_TIMESTAMPTZ_TEXT:
		case F_DATE_TRUNC_TEXT_TIMESTAMP:
		case F_TIMEZONE_TEXT_TIMESTAMPTZ:
		case F_TIMEZONE_TEXT_TIMESTAMP:
		case F_TIMEZONE_INTERVAL_TIMESTAMPTZ:
		case F_TIMEZONE_INTERVAL_TIMESTAMP:
		case F_DATE_TIMESTAMPTZ:
		case F_DATE_TIMESTAMP:
		case F_TIMESTAMPTZ_TIMESTAMP:
		case F_TIMESTAMP_TIMESTAMPTZ:
		case F_LOWER_TEXT:
		case F_UPPER_TEXT:
		case F_LENGTH_TEXT:
			return true;
		default:
			return false;
	}
}

/* Whether the expression is certain not to be NULL; false when in doubt. */
static bool
is_never_null(Node *node, const RollupQuery *rollup)
{
	List	   *arguments;
	ListCell   *cell;

	if (IsA(node, Const))
		return !((Const *) node)->constisnull;
	if (IsA(node, RelabelType))
		return is_never_null((Node *) ((RelabelType *) node)->arg, rollup);
	if (IsA(node, Var))
	{
		Var		   *var = (Var *) node;
		HeapTuple	tuple;
		bool		not_null;

		if (var->varno != rollup->target_index || var->varlevelsup != 0 || var->varattno <= 0)
			return false;
		tuple = SearchSysCache2(ATTNUM, ObjectIdGetDatum(rollup->target), Int16GetDatum(var->varattno));
		not_null = HeapTupleIsValid(tuple) && ((Form_pg_attribute) GETSTRUCT(tuple))->attnotnull;
		if (HeapTupleIsValid(tuple))
			ReleaseSysCache(tuple);
		return not_null;
	}
	if (!IsA(node, FuncExpr) || !never_null_function(((FuncExpr *) node)->funcid))
		return false;
	arguments = ((FuncExpr *) node)->args;
	foreach(cell, arguments)
	{
		if (!is_never_null(lfirst(cell), rollup))
			return false;
	}
	return true;
}

static void
mark_keys(RollupQuery *rollup)
{
	ListCell   *cell;

	foreach(cell, rollup->query->groupClause)
	{
		SortGroupClause *clause = lfirst_node(SortGroupClause, cell);
		TargetEntry *entry = get_sortgroupclause_tle(clause, rollup->query->targetList);
		RollupOutput *output = list_nth(rollup->outputs, entry->resno - 1);

		output->is_key = true;
		output->may_be_null = !is_never_null(output->value, rollup);
	}
	rollup->is_single_group = rollup->query->groupClause == NIL;
}

/* ---------------------------------------------------------------- aggregates */

static void
describe_aggregate(RollupAggregate *aggregate)
{
	Aggref	   *aggref = aggregate->aggref;
	HeapTuple	tuple = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(aggref->aggfnoid));
	Form_pg_aggregate form;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for aggregate %u", aggref->aggfnoid);
	form = (Form_pg_aggregate) GETSTRUCT(tuple);
	aggregate->n_arguments = get_aggregate_argtypes(aggref, aggregate->argument_types);
	aggregate->transition_type = resolve_aggregate_transtype(aggref->aggfnoid, form->aggtranstype,
															 aggregate->argument_types,
															 aggregate->n_arguments);
	aggregate->combine = form->aggcombinefn;
	aggregate->final = form->aggfinalfn;
	aggregate->can_be_merged = OidIsValid(form->aggcombinefn) &&
		(aggregate->transition_type != INTERNALOID ||
		 (OidIsValid(form->aggserialfn) && OidIsValid(form->aggdeserialfn)));
	ReleaseSysCache(tuple);

	aggregate->state_type = aggregate->transition_type == INTERNALOID ?
		BYTEAOID : aggregate->transition_type;
	if (OidIsValid(get_typcollation(aggregate->state_type)))
		aggregate->state_collation = OidIsValid(aggref->inputcollid) ?
			aggref->inputcollid : get_typcollation(aggregate->state_type);
}

typedef struct Collector
{
	RollupQuery *rollup;
	const char *output;			/* whose expression it is */
	int			nth;			/* of its new aggregates */
} Collector;

static bool
is_plain_count(const Aggref *aggref)
{
	return aggref->aggfnoid == F_COUNT_ && aggref->aggfilter == NULL;
}

static RollupAggregate *
add_aggregate(RollupQuery *rollup, Aggref *aggref)
{
	RollupAggregate *aggregate;
	ListCell   *cell;

	foreach(cell, rollup->aggregates)
	{
		aggregate = lfirst(cell);
		if (equal(aggregate->aggref, aggref))
			return aggregate;
	}
	aggregate = palloc0(sizeof(RollupAggregate));
	aggregate->aggref = aggref;
	describe_aggregate(aggregate);
	if (is_plain_count(aggref))
		rollup->rows = list_length(rollup->aggregates);
	rollup->aggregates = lappend(rollup->aggregates, aggregate);
	return aggregate;
}

static bool
collect_aggregates(Node *node, void *context)
{
	Collector  *collector = context;

	if (node == NULL)
		return false;
	if (IsA(node, Aggref) && ((Aggref *) node)->agglevelsup == 0)
	{
		int			before = list_length(collector->rollup->aggregates);
		RollupAggregate *aggregate = add_aggregate(collector->rollup, (Aggref *) node);

		if (list_length(collector->rollup->aggregates) > before)
		{
			const char *number = ++collector->nth > 1 ? psprintf("%d", collector->nth) : NULL;

			aggregate->name = is_plain_count((Aggref *) node) ? ROLLUP_ROWS_COLUMN :
				makeObjectName("", collector->output, number);
		}
		return false;
	}
	return expression_tree_walker(node, collect_aggregates, context);
}

static Aggref *
plain_count(void)
{
	Aggref	   *aggref = makeNode(Aggref);

	aggref->aggfnoid = F_COUNT_;
	aggref->aggtype = INT8OID;
	aggref->aggstar = true;
	aggref->aggkind = AGGKIND_NORMAL;
	aggref->aggsplit = AGGSPLIT_SIMPLE;
	aggref->aggno = -1;
	aggref->aggtransno = -1;
	aggref->location = -1;
	return aggref;
}

/* An output that is an aggregate whose state is its value holds that state itself. */
static void
share_columns(RollupQuery *rollup)
{
	ListCell   *cell;

	foreach(cell, rollup->outputs)
	{
		RollupOutput *output = lfirst(cell);
		ListCell   *inner;

		if (!IsA(output->value, Aggref))
			continue;
		foreach(inner, rollup->aggregates)
		{
			RollupAggregate *aggregate = lfirst(inner);

			if (!aggregate->is_output && !OidIsValid(aggregate->final) &&
				aggregate->state_type == output->type &&
				aggregate->transition_type != INTERNALOID &&
				equal(aggregate->aggref, output->value))
			{
				aggregate->is_output = true;
				aggregate->column = foreach_current_index(cell) + 1;
				aggregate->name = output->name;
				output->is_state = true;
			}
		}
	}
}

static bool
is_output_name(const RollupQuery *rollup, const char *name)
{
	ListCell   *cell;

	foreach(cell, rollup->outputs)
	{
		if (strcmp(((RollupOutput *) lfirst(cell))->name, name) == 0)
			return true;
	}
	return false;
}

static void
add_key_column(RollupQuery *rollup, AttrNumber column)
{
	int			n = 1;

	rollup->key_column = column;
	rollup->key_name = ROLLUP_KEY_COLUMN;
	while (is_output_name(rollup, rollup->key_name))
		rollup->key_name = makeObjectName(ROLLUP_KEY_COLUMN, psprintf("%d", ++n), NULL);
}

static bool
name_is_taken(const RollupQuery *rollup, const RollupAggregate *except, const char *name)
{
	ListCell   *cell;

	if (is_output_name(rollup, name))
		return true;
	foreach(cell, rollup->aggregates)
	{
		RollupAggregate *other = lfirst(cell);

		if (other == except)
			break;
		if (strcmp(other->name, name) == 0)
			return true;
	}
	return rollup->is_single_group && strcmp(rollup->key_name, name) == 0;
}

/* The hidden columns come after the outputs: the key of a single group, then states in order. */
static void
number_columns(RollupQuery *rollup)
{
	AttrNumber	next = list_length(rollup->outputs) + 1;
	ListCell   *cell;

	if (rollup->is_single_group)
		add_key_column(rollup, next++);
	foreach(cell, rollup->aggregates)
	{
		RollupAggregate *aggregate = lfirst(cell);
		const char *wanted = aggregate->name;
		int			n = 1;

		if (aggregate->is_output)
			continue;
		while (name_is_taken(rollup, aggregate, aggregate->name))
			aggregate->name = makeObjectName(wanted, psprintf("%d", ++n), NULL);
		aggregate->column = next++;
	}
	rollup->n_columns = next - 1;
}

static void
find_aggregates(RollupQuery *rollup)
{
	ListCell   *cell;

	rollup->rows = -1;
	foreach(cell, rollup->outputs)
	{
		RollupOutput *output = lfirst(cell);
		Collector	collector = {rollup, output->name, 0};

		if (!output->is_key)
			(void) collect_aggregates(output->value, &collector);
	}
	if (rollup->rows < 0)
		add_aggregate(rollup, plain_count())->name = ROLLUP_ROWS_COLUMN;
	share_columns(rollup);
	number_columns(rollup);
}

/* ---------------------------------------------------------------- outputs */

static void
list_outputs(RollupQuery *rollup)
{
	ListCell   *cell;

	foreach(cell, rollup->query->targetList)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, cell);
		RollupOutput *output;

		if (entry->resjunk)
			continue;
		output = palloc0(sizeof(RollupOutput));
		output->name = entry->resname;
		output->value = (Node *) entry->expr;
		output->type = exprType(output->value);
		output->typmod = exprTypmod(output->value);
		output->collation = exprCollation(output->value);
		rollup->outputs = lappend(rollup->outputs, output);
	}
}

RollupQuery *
rollup_query_take_apart(Query *query, int target_index)
{
	RollupQuery *rollup = palloc0(sizeof(RollupQuery));

	compat_put_group_keys_back(query);
	rollup->query = query;
	rollup->target_index = target_index;
	rollup->target = rt_fetch(target_index, query->rtable)->relid;
	list_outputs(rollup);
	mark_keys(rollup);
	find_aggregates(rollup);
	rollup->needs_search_path = calls_lookups((Node *) query, NULL);
	return rollup;
}

/* ---------------------------------------------------------------- what others call */

RollupQuery *
rollup_query_of_definition(Oid definition, Oid target)
{
	Relation	view = try_relation_open(definition, AccessShareLock);
	Query	   *query;
	List	   *nullable = NIL;
	ListCell   *cell;

	if (view == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the definition of a rollup over \"%s\" is gone", get_rel_name(target)),
				 errhint("Drop the rollup with clickstream.drop_rollup, and make it again.")));
	query = copyObject(get_view_query(view));
	relation_close(view, NoLock);
	foreach(cell, rollup_query_tables(query, (Node *) query->jointree, false, &nullable))
	{
		if (rt_fetch(lfirst_int(cell), query->rtable)->relid == target)
			return rollup_query_take_apart(query, lfirst_int(cell));
	}
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("view \"%s\" is no longer the definition of a rollup over \"%s\"",
					get_rel_name(definition), get_rel_name(target)),
			 errhint("Drop the rollup with clickstream.drop_rollup and make it again.")));
}

List *
rollup_query_keys(const RollupQuery *rollup)
{
	List	   *keys = NIL;
	ListCell   *cell;

	if (rollup->is_single_group)
		return list_make1_int(rollup->key_column);
	foreach(cell, rollup->outputs)
	{
		if (((RollupOutput *) lfirst(cell))->is_key)
			keys = lappend_int(keys, foreach_current_index(cell) + 1);
	}
	return keys;
}

List *
rollup_query_state_columns(const RollupQuery *rollup)
{
	List	   *columns = rollup_query_keys(rollup);
	ListCell   *cell;

	foreach(cell, rollup->aggregates)
		columns = lappend_int(columns, ((RollupAggregate *) lfirst(cell))->column);
	return columns;
}

/* The rules let DISTINCT pass only where it changes nothing; states cannot be merged with it. */
static Expr *
without_distinct(const Aggref *aggref)
{
	Aggref	   *copy = copyObject((Aggref *) aggref);
	ListCell   *cell;

	if (copy->aggdistinct != NIL)
	{
		copy->aggdistinct = NIL;
		foreach(cell, copy->args)
			lfirst_node(TargetEntry, cell)->ressortgroupref = 0;
	}
	return (Expr *) copy;
}

Query *
rollup_query_of_states(const RollupQuery *rollup)
{
	Query	   *query = copyObject(rollup->query);
	List	   *entries = NIL;
	ListCell   *cell;

	if (rollup->is_single_group)
		entries = list_make1(makeTargetEntry((Expr *) makeBoolConst(true, false), 1,
											 pstrdup(rollup->key_name), false));
	foreach(cell, query->targetList)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, cell);

		if (entry->ressortgroupref == 0 || entry->resjunk)
			continue;
		entry->resno = list_length(entries) + 1;
		entries = lappend(entries, entry);
	}
	foreach(cell, rollup->aggregates)
	{
		RollupAggregate *aggregate = lfirst(cell);

		entries = lappend(entries, makeTargetEntry(without_distinct(aggregate->aggref),
												   list_length(entries) + 1,
												   pstrdup(aggregate->name), false));
	}
	query->targetList = entries;
	query->hasAggs = true;
	return query;
}

AttrNumber
rollup_query_time_column(const RollupQuery *rollup)
{
	ListCell   *cell;

	foreach(cell, rollup->outputs)
	{
		RollupOutput *output = lfirst(cell);

		if (output->is_key && (output->type == TIMESTAMPTZOID || output->type == TIMESTAMPOID ||
							   output->type == DATEOID))
			return foreach_current_index(cell) + 1;
	}
	return 0;
}

bool
rollup_query_is_sum_of_integers(const RollupAggregate *aggregate)
{
	return aggregate->aggref->aggfnoid == F_SUM_INT2 || aggregate->aggref->aggfnoid == F_SUM_INT4;
}
