/*
 * rollup_where.c
 *		Which of the target's rows a rollup's query is to see: conditions put into it.
 *
 * Called by rollup_states.c before it plans the query over the target itself: for some groups, for a range of the time
 * key, for a part of the table, or without partitions that are about to go.  Changes the query that it is given, and reads
 * nothing but catalogs and the groups.
 */
#include "postgres.h"

#include "access/sysattr.h"
#include "catalog/namespace.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/tlist.h"
#include "parser/parse_coerce.h"
#include "parser/parse_relation.h"
#include "parser/parsetree.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

#include "compat.h"
#include "rollup_bounds.h"
#include "rollup_part.h"
#include "rollup_where.h"

/* ---------------------------------------------------------------- rows in memory in the query */

/* A named tuplestore's range table entry: as addRangeTableEntryForENR makes it. */
void
rollup_where_named(RangeTblEntry *rte, const char *name, TupleDesc desc, double n_rows)
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

/* ---------------------------------------------------------------- conditions */

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

	rollup_where_named(rte, ROLLUP_TOUCHED, desc, n_rows);
	rte->eref = makeAlias(ROLLUP_TOUCHED, NIL);
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

/* ---------------------------------------------------------------- all of them */

void
rollup_where(Query *query, const RollupMerge *merge, const RollupRows *which)
{
	ListCell   *cell;

	if (which->touched != NULL)
	{
		add_touched(query, merge, which);
		bound_by_touched(query, merge, which);
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
}
