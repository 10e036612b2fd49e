/*
 * rollup_values.c
 *		Expressions over a row of a rollup's table: an aggregate's value, an output column, two states
 *		combined.
 *
 * Called by rollup_merge.c, which writes them into its statements, and by rollup_upsert.c, which evaluates
 * them itself.  Both must say the same.
 */
#include "postgres.h"

#include "access/transam.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/parse_func.h"
#include "utils/array.h"
#include "utils/lsyscache.h"

#include "compat.h"
#include "rollup_values.h"

/* the range table index of the rollup's table in an expression */
#define TABLE_ROW 1

static Const *
argument_types_const(const RollupAggregate *aggregate)
{
	Datum		types[FUNC_MAX_ARGS];
	int			i;

	for (i = 0; i < aggregate->n_arguments; i++)
		types[i] = ObjectIdGetDatum(aggregate->argument_types[i]);
	return makeConst(OIDARRAYOID, -1, InvalidOid, -1,
					 PointerGetDatum(construct_array(types, aggregate->n_arguments, OIDOID,
													 sizeof(Oid), true, TYPALIGN_INT)),
					 false, false);
}

static Const *
oid_const(Oid value)
{
	return makeConst(OIDOID, -1, InvalidOid, sizeof(Oid), ObjectIdGetDatum(value), false, true);
}

/* $1: what lets the functions that take states know that it is us who call them; see rollup_state.c */
static Param *
pass(void)
{
	Param	   *param = makeNode(Param);

	param->paramkind = PARAM_EXTERN;
	param->paramid = 1;
	param->paramtype = INT8OID;
	param->paramtypmod = -1;
	param->location = -1;
	return param;
}

static Node *
column_var(const RollupMerge *merge, AttrNumber column)
{
	Oid			type;
	int32		typmod;
	Oid			collation;

	get_atttypetypmodcoll(merge->rollup, column, &type, &typmod, &collation);
	return (Node *) makeVar(TABLE_ROW, column, type, typmod, collation, 0);
}

/* the value of an aggregate, of the state in the table's column */
static Node *
finished_value(const RollupMerge *merge, const RollupAggregate *aggregate)
{
	static const Oid argument_types[] = {INT8OID, OIDOID, OIDARRAYOID, OIDOID, ANYOID, ANYELEMENTOID};
	Node	   *state = column_var(merge, aggregate->column);
	Oid			type = aggregate->aggref->aggtype;
	List	   *names = list_make2(makeString("clickstream"), makeString("_finish"));
	List	   *arguments;

	if (!OidIsValid(aggregate->final) && aggregate->transition_type == type)
		return state;
	arguments = lcons(pass(), list_make5(oid_const(aggregate->aggref->aggfnoid), argument_types_const(aggregate),
										 oid_const(aggregate->aggref->inputcollid), state,
										 makeNullConst(type, -1, get_typcollation(type))));
	return (Node *) makeFuncExpr(LookupFuncName(names, 6, argument_types, false), type, arguments,
								 aggregate->aggref->aggcollid, InvalidOid, COERCE_EXPLICIT_CALL);
}

/* An output's expression, with columns of the table in place of group keys and aggregates. */
static Node *
over_columns(Node *node, void *context)
{
	const RollupMerge *merge = context;
	ListCell   *cell;

	if (node == NULL)
		return NULL;
	foreach(cell, merge->query->outputs)
	{
		RollupOutput *output = lfirst(cell);

		if (output->is_key && equal(output->value, node))
			return column_var(merge, foreach_current_index(cell) + 1);
	}
	if (IsA(node, Aggref))
	{
		foreach(cell, merge->query->aggregates)
		{
			RollupAggregate *aggregate = lfirst(cell);

			if (equal(aggregate->aggref, node))
				return finished_value(merge, aggregate);
		}
	}
	return expression_tree_mutator(node, over_columns, context);
}

Node *
rollup_value_of(const RollupMerge *merge, Node *value)
{
	return over_columns(value, (void *) merge);
}

/* ---------------------------------------------------------------- two states */

/*
 * A built-in function of plain values needs none of our care: it is called as it is, which makes it
 * part of the expression.
 */
bool
rollup_combines_plain_values(const RollupAggregate *aggregate)
{
	return aggregate->combine < FirstGenbkiObjectId && func_strict(aggregate->combine) &&
		aggregate->transition_type != INTERNALOID &&
		!OidIsValid(get_element_type(aggregate->transition_type));
}

static Node *
state_var(const RollupMerge *merge, const RollupAggregate *aggregate, int varno, AttrNumber number)
{
	Oid			type;
	int32		typmod;
	Oid			collation;

	get_atttypetypmodcoll(merge->rollup, aggregate->column, &type, &typmod, &collation);
	return (Node *) makeVar(varno, number, type, typmod, collation, 0);
}

/* coalesce(combine(there, fresh), there, fresh) */
static Node *
plain_combined(const RollupAggregate *aggregate, Node *there, Node *fresh)
{
	Oid			type = exprType(there);
	CoalesceExpr *coalesce = makeNode(CoalesceExpr);
	FuncExpr   *call = makeFuncExpr(aggregate->combine, type, list_make2(there, fresh),
									exprCollation(there), exprCollation(there), COERCE_EXPLICIT_CALL);

	coalesce->coalescetype = type;
	coalesce->coalescecollid = exprCollation(there);
	coalesce->args = list_make3(call, copyObject(there), copyObject(fresh));
	coalesce->location = -1;
	return (Node *) coalesce;
}

Node *
rollup_combined(const RollupMerge *merge, const RollupAggregate *aggregate, AttrNumber state)
{
	static const Oid argument_types[] = {INT8OID, OIDOID, OIDARRAYOID, OIDOID, ANYELEMENTOID, ANYELEMENTOID};
	Node	   *there = state_var(merge, aggregate, OUTER_VAR, aggregate->column);
	Node	   *fresh = state_var(merge, aggregate, INNER_VAR, state);
	List	   *names = list_make2(makeString("clickstream"), makeString("_combine"));

	if (rollup_combines_plain_values(aggregate))
		return plain_combined(aggregate, there, fresh);
	return (Node *) makeFuncExpr(LookupFuncName(names, 6, argument_types, false), exprType(there),
								 lcons(pass(), list_make5(oid_const(aggregate->aggref->aggfnoid),
														  argument_types_const(aggregate),
														  oid_const(aggregate->aggref->inputcollid), there, fresh)),
								 exprCollation(there), InvalidOid, COERCE_EXPLICIT_CALL);
}
