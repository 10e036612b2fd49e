/*
 * rollup_bounds.c
 *		Spares a group that is computed again the reading of partitions that cannot hold its rows.
 *
 * Called by rollup_states.c.  `date_bin('1 minute', occurred_at, 'epoch') = key` tells the planner nothing
 * about occurred_at; that it lies in [key, key + 1 minute) does: partitions are pruned, and an index
 * on the time is used.  The bounds are only ever too wide, never too narrow, and the condition on the
 * key itself still decides.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "rollup_bounds.h"

static bool
is_time(Oid type)
{
	return type == TIMESTAMPTZOID || type == TIMESTAMPOID || type == DATEOID;
}

static bool
is_column(Node *node, int table_index, Var **column)
{
	Var		   *var = (Var *) node;

	if (!IsA(node, Var) || var->varno != table_index || var->varlevelsup != 0 || var->varattno <= 0 ||
		!is_time(var->vartype))
		return false;
	*column = var;
	return true;
}

static bool
is_constant(Node *node)
{
	return IsA(node, Const) && !((Const *) node)->constisnull;
}

/* A day more than the unit: days are 23 to 25 hours long, and a zone's offset may change. */
static bool
unit_span(Node *unit, Interval *span)
{
	static const char *const units[][2] = {
		{"microsecond", "1 microsecond"}, {"millisecond", "1 millisecond"}, {"second", "1 second"},
		{"minute", "1 minute"}, {"hour", "1 hour"}, {"day", "1 day"}, {"week", "1 week"},
		{"month", "1 month"}, {"quarter", "3 months"}, {"year", "1 year"}
	};
	char	   *name;
	int			i;

	if (!is_constant(unit))
		return false;
	name = TextDatumGetCString(((Const *) unit)->constvalue);
	for (i = 0; i < lengthof(units); i++)
	{
		if (pg_strcasecmp(name, units[i][0]) != 0)
			continue;
		*span = *DatumGetIntervalP(DirectFunctionCall3(interval_in, CStringGetDatum(units[i][1]),
													   ObjectIdGetDatum(InvalidOid),
													   Int32GetDatum(-1)));
		span->day += 1;
		return true;
	}
	return false;
}

bool
rollup_bounds_of_key(Node *key, int table_index, Var **column, Interval *span)
{
	FuncExpr   *call = (FuncExpr *) key;

	memset(span, 0, sizeof(Interval));
	if (is_column(key, table_index, column))
		return true;
	if (!IsA(key, FuncExpr))
		return false;
	switch (call->funcid)
	{
		case F_DATE_BIN_INTERVAL_TIMESTAMPTZ_TIMESTAMPTZ:
		case F_DATE_BIN_INTERVAL_TIMESTAMP_TIMESTAMP:
			if (!is_constant(linitial(call->args)) || !is_constant(lthird(call->args)))
				return false;
			*span = *DatumGetIntervalP(((Const *) linitial(call->args))->constvalue);
			return is_column(lsecond(call->args), table_index, column);
		case F_DATE_TRUNC_TEXT_TIMESTAMPTZ:
		case F_DATE_TRUNC_TEXT_TIMESTAMP:
		case F_DATE_TRUNC_TEXT_TIMESTAMPTZ_TEXT:
			return unit_span(linitial(call->args), span) &&
				is_column(lsecond(call->args), table_index, column);
		case F_DATE_TIMESTAMPTZ:
		case F_DATE_TIMESTAMP:
			span->day = 2;
			return is_column(linitial(call->args), table_index, column);
		default:
			return false;
	}
}

static Oid
operator_of(const char *name, Oid left, Oid right)
{
	Oid			operator = OpernameGetOprid(list_make2(makeString("pg_catalog"),
													   makeString(pstrdup(name))),
											left, right);

	if (!OidIsValid(operator))
		elog(ERROR, "operator %s of %u and %u not found", name, left, right);
	return operator;
}

static Expr *
operation(const char *name, Oid result, Node *left, Node *right)
{
	Expr	   *expression = make_opclause(operator_of(name, exprType(left), exprType(right)), result,
										   false, (Expr *) left, (Expr *) right, InvalidOid, InvalidOid);

	set_opfuncid((OpExpr *) expression);
	return expression;
}

Expr *
rollup_bounds_from(Var *column, Const *bound)
{
	return operation(">=", BOOLOID, (Node *) copyObject(column), (Node *) bound);
}

/* At the end and not before it: infinity is a time, too. */
Expr *
rollup_bounds_to(Var *column, Const *bound, const Interval *span)
{
	Interval   *copy = palloc(sizeof(Interval));
	Const	   *width;
	Oid			sum = bound->consttype == DATEOID ? TIMESTAMPOID : bound->consttype;

	*copy = *span;
	width = makeConst(INTERVALOID, -1, InvalidOid, sizeof(Interval), IntervalPGetDatum(copy), false,
					  false);
	return operation("<=", BOOLOID, (Node *) copyObject(column),
					 (Node *) operation("+", sum, (Node *) bound, (Node *) width));
}
