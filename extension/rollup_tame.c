/*
 * rollup_tame.c
 *		Keeps from an aggregate of another extension what would never let it end.
 *
 * tdigest sorts and merges centroids by loops that count on numbers having an order and a sum: over NaN
 * they run for ever and cannot be cancelled, be it in a session or in a source's worker.  Infinities
 * and the largest numbers become NaN in there when they are added up.  So wherever a query calls one of
 * tdigest's aggregates over numbers, the number goes through clickstream._digestible, which refuses those:
 * an error for a statement, a dead letter for a source.
 *
 * Called when a rollup is made.  What is stored is the query so changed, so that check_rollup and whoever
 * reads the definition are as safe.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/dependency.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/parse_func.h"
#include "utils/builtins.h"

#include "rollup_tame.h"

/* so many of them can be added up that no table has more rows */
#define LARGEST 1e290

PG_FUNCTION_INFO_V1(clickstream_digestible);

Datum
clickstream_digestible(PG_FUNCTION_ARGS)
{
	float8		value = PG_GETARG_FLOAT8(0);

	if (isnan(value) || fabs(value) > LARGEST)
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("a t-digest cannot take %s", isnan(value) ? "NaN" : isinf(value) ? "infinity" :
						"a number that large"),
				 errdetail("Its aggregates would never end."),
				 errhint("Leave such rows out: FILTER (WHERE abs(x) < 1e290).")));
	PG_RETURN_FLOAT8(value);
}

typedef struct Taming
{
	Oid			function;		/* clickstream._digestible */
	bool		changed;
} Taming;

static bool
is_of_tdigest(Oid aggregate)
{
	Oid			extension = getExtensionOfObject(ProcedureRelationId, aggregate);
	const char *name = OidIsValid(extension) ? get_extension_name(extension) : NULL;

	return name != NULL && strcmp(name, "tdigest") == 0;
}

/* the number is the first argument; others are weights, sizes and quantiles */
static void
tame_argument(Aggref *aggref, Taming *taming)
{
	TargetEntry *first = aggref->args == NIL ? NULL : linitial_node(TargetEntry, aggref->args);

	if (first == NULL || exprType((Node *) first->expr) != FLOAT8OID ||
		(IsA(first->expr, FuncExpr) && ((FuncExpr *) first->expr)->funcid == taming->function))
		return;
	first->expr = (Expr *) makeFuncExpr(taming->function, FLOAT8OID, list_make1(first->expr), InvalidOid,
										InvalidOid, COERCE_EXPLICIT_CALL);
	taming->changed = true;
}

static Node *
tame(Node *node, void *context)
{
	Node	   *copy;

	if (node == NULL)
		return NULL;
	if (IsA(node, Query))
		return (Node *) query_tree_mutator((Query *) node, tame, context, 0);
	copy = expression_tree_mutator(node, tame, context);
	if (IsA(copy, Aggref) && is_of_tdigest(((Aggref *) copy)->aggfnoid))
		tame_argument((Aggref *) copy, context);
	return copy;
}

bool
rollup_tame(Query **query)
{
	static const Oid arguments[] = {FLOAT8OID};
	Taming		taming = {0};

	taming.function = LookupFuncName(list_make2(makeString("clickstream"), makeString("_digestible")), 1,
									 arguments, false);
	*query = castNode(Query, tame((Node *) *query, &taming));
	return taming.changed;
}
