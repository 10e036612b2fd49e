/*
 * rollup_check.c
 *		check_rollup: a rollup held against its query, run now.
 *
 * Reads only.  One statement, so that both sides are seen at the same moment:
 *
 *	SELECT …, e's outputs as jsonb, f's outputs as jsonb
 *	FROM (SELECT true AS here, ROW(keys) AS key, outputs FROM definition WHERE range) e
 *	FULL JOIN (… FROM rollup …) f ON e.key = f.key
 *	WHERE e.here IS NULL OR f.here IS NULL OR an output differs
 *
 * Keys are compared as records, for which NULL equals NULL.  Floats may differ by a relative 1e-9
 * (single ones, which have seven digits, by 1e-5), because their sums depend on the order of the rows.
 * So does a t-digest altogether, and a topk once it has an error: of them only whether there is one is
 * compared.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

#include "rollup_api.h"
#include "rollup_query.h"
#include "statement.h"

PG_FUNCTION_INFO_V1(clickstream_check_rollup);

/* ---------------------------------------------------------------- one output on both sides */

typedef struct Wanted
{
	const RollupQuery *query;
	const char *combine;		/* the name of an aggregate's function */
} Wanted;

static bool
is_combined_by(const Wanted *wanted, const Node *aggref)
{
	ListCell   *cell;

	foreach(cell, wanted->query->aggregates)
	{
		RollupAggregate *aggregate = lfirst(cell);
		const char *combine = get_func_name(aggregate->combine);

		if (equal(aggregate->aggref, aggref))
			return combine != NULL && strcmp(combine, wanted->combine) == 0;
	}
	return false;
}

static bool
has_wanted(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Aggref))
		return is_combined_by(context, node);
	return expression_tree_walker(node, has_wanted, context);
}

static bool
has_aggregate(const RollupQuery *query, Node *node, const char *combine)
{
	Wanted		wanted = {query, combine};

	return has_wanted(node, &wanted);
}

/* the operator of a type that says equal, as OPERATOR(schema.=); NULL if it has none to be trusted */
static const char *
equality(Oid type)
{
	Oid			operator = lookup_type_cache(type, TYPECACHE_EQ_OPR)->eq_opr;
	HeapTuple	tuple;
	char	   *text;

	if (!OidIsValid(operator))
		return NULL;
	tuple = SearchSysCache1(OPEROID, ObjectIdGetDatum(operator));
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for operator %u", operator);
	text = psprintf("OPERATOR(%s.%s)",
					quote_identifier(get_namespace_name(((Form_pg_operator) GETSTRUCT(tuple))->oprnamespace)),
					NameStr(((Form_pg_operator) GETSTRUCT(tuple))->oprname));
	ReleaseSysCache(tuple);
	return text;
}

/* Adds the condition under which output n of e and f are the same. */
static void
append_same(StringInfo sql, RollupQuery *query, int n)
{
	RollupOutput *output = list_nth(query->outputs, n - 1);
	const char *equal_sign = equality(output->type);

	if (IsA(output->value, Aggref) && has_aggregate(query, output->value, "_topk_combine"))
		appendStringInfo(sql, "coalesce(e.c%d OPERATOR(pg_catalog.=) f.c%d "
						 "OR (e.c%d -> 0 ->> 'error') <> '0' OR (f.c%d -> 0 ->> 'error') <> '0', "
						 "(e.c%d IS NULL) = (f.c%d IS NULL))", n, n, n, n, n, n);
	else if (has_aggregate(query, output->value, "tdigest_combine") ||
			 has_aggregate(query, output->value, "_topk_combine"))
		appendStringInfo(sql, "(e.c%d IS NULL) = (f.c%d IS NULL)", n, n);
	else if (output->type == FLOAT4OID || output->type == FLOAT8OID)
		appendStringInfo(sql, "(e.c%d IS NOT DISTINCT FROM f.c%d OR coalesce(abs(e.c%d - f.c%d) < 'infinity' "
						 "AND abs(e.c%d - f.c%d) <= %s * greatest(abs(e.c%d), abs(f.c%d)), false))",
						 n, n, n, n, n, n, output->type == FLOAT4OID ? "1e-5" : "1e-9", n, n);
	else if (equal_sign != NULL)
		appendStringInfo(sql, "coalesce(e.c%d %s f.c%d, (e.c%d IS NULL) = (f.c%d IS NULL))",
						 n, equal_sign, n, n, n);
	else
		appendStringInfo(sql, "e.c%d::text IS NOT DISTINCT FROM f.c%d::text", n, n);
}

/* ---------------------------------------------------------------- the statement */

/* The time key is compared with the arguments as they are, whatever its own type. */
static void
append_range(StringInfo sql, const char *time, const RollupRange *range)
{
	if (range->has_from)
		appendStringInfo(sql, " AND %s >= $1", time);
	if (range->has_to)
		appendStringInfo(sql, " AND %s < $2", time);
}

/*
 * A side's columns come by position: the rollup's may have been renamed.  As c1 … cn, so that
 * nothing that the user named can be in the way.
 */
static void
append_side(StringInfo sql, const RollupQuery *query, Oid relation, const RollupRange *range)
{
	const char *comma = "";
	AttrNumber	time = rollup_query_time_column(query);
	ListCell   *cell;

	appendStringInfoString(sql, "(SELECT true AS here, ROW(");
	foreach(cell, query->outputs)
	{
		if (!((RollupOutput *) lfirst(cell))->is_key)
			continue;
		appendStringInfo(sql, "%s%s", comma,
						 quote_identifier(get_attname(relation, foreach_current_index(cell) + 1, false)));
		comma = ", ";
	}
	appendStringInfoString(sql, ") AS key");
	foreach(cell, query->outputs)
		appendStringInfo(sql, ", %s AS c%d",
						 quote_identifier(get_attname(relation, foreach_current_index(cell) + 1, false)),
						 foreach_current_index(cell) + 1);
	appendStringInfo(sql, " FROM %s WHERE true", qualified_name(relation));
	if (time != 0)
		append_range(sql, quote_identifier(get_attname(relation, time, false)), range);
	appendStringInfoChar(sql, ')');
}

static void
append_document(StringInfo sql, const RollupQuery *query, Oid rollup, const char *side)
{
	int			n;

	appendStringInfo(sql, "CASE WHEN %s.here THEN pg_catalog.jsonb_build_object(", side);
	for (n = 1; n <= list_length(query->outputs); n++)
		appendStringInfo(sql, "%s%s, %s.c%d", n > 1 ? ", " : "",
						 quote_literal_cstr(get_attname(rollup, n, false)), side, n);
	appendStringInfoString(sql, ") END");
}

static char *
statement(RollupQuery *query, const Rollup *rollup, const RollupRange *range)
{
	StringInfoData sql;
	int			n;

	initStringInfo(&sql);
	appendStringInfoString(&sql, "SELECT CASE WHEN f.here IS NULL THEN 'missing' "
						   "WHEN e.here IS NULL THEN 'extra' ELSE 'different' END, ");
	append_document(&sql, query, rollup->rollup, "e");
	appendStringInfoString(&sql, ", ");
	append_document(&sql, query, rollup->rollup, "f");
	appendStringInfoString(&sql, " FROM ");
	append_side(&sql, query, rollup->definition, range);
	appendStringInfoString(&sql, " e FULL JOIN ");
	append_side(&sql, query, rollup->rollup, range);
	appendStringInfoString(&sql, " f ON e.key = f.key WHERE e.here IS NULL OR f.here IS NULL OR NOT (true");
	for (n = 1; n <= list_length(query->outputs); n++)
	{
		if (((RollupOutput *) list_nth(query->outputs, n - 1))->is_key)
			continue;
		appendStringInfoString(&sql, " AND ");
		append_same(&sql, query, n);
	}
	appendStringInfoString(&sql, ") ORDER BY coalesce(e.key, f.key)");
	return sql.data;
}

/* ---------------------------------------------------------------- the function */

/* The definition runs as the rollup's owner and under its settings, as each delta does. */
static void
run(const char *sql, const RollupRange *range, ReturnSetInfo *result)
{
	static Oid	types[] = {TIMESTAMPTZOID, TIMESTAMPTZOID};
	Datum		values[] = {TimestampTzGetDatum(range->from), TimestampTzGetDatum(range->to)};
	uint64		row;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (SPI_execute_with_args(sql, 2, types, values, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not check a rollup");
	for (row = 0; row < SPI_processed; row++)
	{
		Datum		columns[3];
		bool		nulls[3];

		heap_deform_tuple(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, columns, nulls);
		tuplestore_putvalues(result->setResult, result->setDesc, columns, nulls);
	}
	SPI_finish();
}

Datum
clickstream_check_rollup(PG_FUNCTION_ARGS)
{
	Rollup	   *rollup;
	RollupQuery *query;
	RollupRange range;
	RollupScope scope;

	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("a rollup's name cannot be NULL"),
				 errhint("SELECT rollup FROM clickstream.rollups lists them.")));
	rollup = rollup_by_name(PG_GETARG_TEXT_PP(0), AccessShareLock);
	range = rollup_range_arguments(fcinfo, 1, rollup);
	query = rollup_query_of_definition(rollup->definition, rollup->target);
	rollup_scope_enter(&scope, rollup, query);
	run(statement(query, rollup, &range), &range, (ReturnSetInfo *) fcinfo->resultinfo);
	rollup_scope_leave(&scope);
	PG_RETURN_NULL();
}
