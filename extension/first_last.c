/*
 * first_last.c
 *		The aggregates clickstream.first(value, at) and last(value, at): the value of the earliest, of the
 *		latest row.
 *
 * Of any type, by any time (or number, or text) that has an order.  Rows whose time is NULL do not count;
 * a value that is NULL does.  The outcome never depends on the order of the rows: of several values at the
 * same time, first takes the least and last the greatest, NULL only if there is nothing else.  So
 * states can be merged in any order, in a parallel plan as in a rollup.
 */
#include "postgres.h"

#include "fmgr.h"
#include "lib/stringinfo.h"
#include "libpq/pqformat.h"
#include "utils/builtins.h"

#include "portable.h"

PG_FUNCTION_INFO_V1(clickstream_first_step);
PG_FUNCTION_INFO_V1(clickstream_last_step);
PG_FUNCTION_INFO_V1(clickstream_first_combine);
PG_FUNCTION_INFO_V1(clickstream_last_combine);
PG_FUNCTION_INFO_V1(clickstream_edge_serial);
PG_FUNCTION_INFO_V1(clickstream_edge_deserial);
PG_FUNCTION_INFO_V1(clickstream_edge_end);

/* what it takes to handle the values of one aggregate; lives as long as a call site */
typedef struct EdgeTypes
{
	PortableType value;
	PortableType at;
} EdgeTypes;

/* a row at the edge; as a state, its values are copies */
typedef struct Edge
{
	Oid			value_type;
	Oid			at_type;
	Datum		value;
	Datum		at;
	bool		value_is_null;
} Edge;

static MemoryContext
aggregate_context(FunctionCallInfo fcinfo)
{
	MemoryContext context;

	if (!AggCheckCallContext(fcinfo, &context))
		elog(ERROR, "a function of clickstream.first or last was called outside an aggregate");
	return context;
}

static EdgeTypes *
types_of(FunctionCallInfo fcinfo, Oid value, Oid at)
{
	EdgeTypes  *types = fcinfo->flinfo->fn_extra;
	MemoryContext caller;

	if (types != NULL)
		return types;
	if (!OidIsValid(value) || !OidIsValid(at))
		elog(ERROR, "could not determine the types of clickstream.first or last");
	caller = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);
	types = palloc(sizeof(EdgeTypes));
	portable_set_up(&types->value, value);
	portable_set_up(&types->at, at);
	MemoryContextSwitchTo(caller);
	if (types->at.order == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("clickstream.first and last cannot sort by type %s", format_type_be(at)),
				 errhint("Give a time, a number or a text as the second argument.")));
	fcinfo->flinfo->fn_extra = types;
	return types;
}

/* ---------------------------------------------------------------- which of two rows it is */

/* Whether a row replaces the state; sign is that of a row that comes later: -1 for first, 1 for last. */
static bool
is_nearer(const EdgeTypes *types, Oid collation, int sign, const Edge *state, const Edge *row)
{
	int			order = portable_compare(&types->at, collation, row->at, state->at);

	if (order != 0)
		return (order > 0) == (sign > 0);
	if (row->value_is_null || state->value_is_null)
		return state->value_is_null && !row->value_is_null;
	order = portable_compare(&types->value, collation, row->value, state->value);
	return order != 0 && (order > 0) == (sign > 0);
}

static void
put(const EdgeTypes *types, Edge *state, const Edge *row, MemoryContext context)
{
	MemoryContext caller = MemoryContextSwitchTo(context);

	*state = *row;
	state->at = portable_copy(&types->at, row->at);
	if (!row->value_is_null)
		state->value = portable_copy(&types->value, row->value);
	MemoryContextSwitchTo(caller);
}

static void
forget(const EdgeTypes *types, Edge *state)
{
	portable_free(&types->at, state->at);
	if (!state->value_is_null)
		portable_free(&types->value, state->value);
}

/* The state may be NULL: then it is made of the row. */
static Edge *
take(FunctionCallInfo fcinfo, int sign, EdgeTypes *types, Edge *state, const Edge *row)
{
	MemoryContext context = aggregate_context(fcinfo);

	if (state == NULL)
		state = MemoryContextAlloc(context, sizeof(Edge));
	else if (is_nearer(types, PG_GET_COLLATION(), sign, state, row))
		forget(types, state);
	else
		return state;
	put(types, state, row, context);
	return state;
}

/* ---------------------------------------------------------------- the aggregates' functions */

/* (state internal, value, at) */
static Datum
step(FunctionCallInfo fcinfo, int sign)
{
	Edge	   *state = PG_ARGISNULL(0) ? NULL : (Edge *) PG_GETARG_POINTER(0);
	EdgeTypes  *types;
	Edge		row;

	if (!PG_ARGISNULL(2))
	{
		row.value_type = get_fn_expr_argtype(fcinfo->flinfo, 1);
		row.at_type = get_fn_expr_argtype(fcinfo->flinfo, 2);
		row.value_is_null = PG_ARGISNULL(1);
		row.value = row.value_is_null ? (Datum) 0 : PG_GETARG_DATUM(1);
		row.at = PG_GETARG_DATUM(2);
		types = types_of(fcinfo, row.value_type, row.at_type);
		state = take(fcinfo, sign, types, state, &row);
	}
	if (state == NULL)
		PG_RETURN_NULL();
	PG_RETURN_POINTER(state);
}

Datum
clickstream_first_step(PG_FUNCTION_ARGS)
{
	return step(fcinfo, -1);
}

Datum
clickstream_last_step(PG_FUNCTION_ARGS)
{
	return step(fcinfo, 1);
}

static Datum
combine(FunctionCallInfo fcinfo, int sign)
{
	Edge	   *state = PG_ARGISNULL(0) ? NULL : (Edge *) PG_GETARG_POINTER(0);

	if (!PG_ARGISNULL(1))
	{
		Edge	   *other = (Edge *) PG_GETARG_POINTER(1);

		state = take(fcinfo, sign, types_of(fcinfo, other->value_type, other->at_type), state, other);
	}
	if (state == NULL)
		PG_RETURN_NULL();
	PG_RETURN_POINTER(state);
}

Datum
clickstream_first_combine(PG_FUNCTION_ARGS)
{
	return combine(fcinfo, -1);
}

Datum
clickstream_last_combine(PG_FUNCTION_ARGS)
{
	return combine(fcinfo, 1);
}

Datum
clickstream_edge_serial(PG_FUNCTION_ARGS)
{
	Edge	   *state = (Edge *) PG_GETARG_POINTER(0);
	EdgeTypes  *types = types_of(fcinfo, state->value_type, state->at_type);
	StringInfoData bytes;

	pq_begintypsend(&bytes);
	portable_send_type(&bytes, state->value_type);
	portable_send_type(&bytes, state->at_type);
	pq_sendbyte(&bytes, state->value_is_null);
	portable_send(&bytes, &types->at, state->at);
	if (!state->value_is_null)
		portable_send(&bytes, &types->value, state->value);
	PG_RETURN_BYTEA_P(pq_endtypsend(&bytes));
}

/* Whoever keeps states says after the two arguments which types the aggregate has. */
Datum
clickstream_edge_deserial(PG_FUNCTION_ARGS)
{
	StringInfoData bytes;
	Edge	   *state;
	EdgeTypes  *types;
	MemoryContext caller = MemoryContextSwitchTo(aggregate_context(fcinfo));

	portable_open(&bytes, PG_GETARG_DATUM(0));
	state = palloc0(sizeof(Edge));
	state->value_type = portable_receive_type(&bytes, get_fn_expr_argtype(fcinfo->flinfo, 2));
	state->at_type = portable_receive_type(&bytes, get_fn_expr_argtype(fcinfo->flinfo, 3));
	types = types_of(fcinfo, state->value_type, state->at_type);
	state->value_is_null = pq_getmsgbyte(&bytes) != 0;
	state->at = portable_receive(&bytes, &types->at);
	if (!state->value_is_null)
		state->value = portable_receive(&bytes, &types->value);
	pq_getmsgend(&bytes);
	MemoryContextSwitchTo(caller);
	PG_RETURN_POINTER(state);
}

Datum
clickstream_edge_end(PG_FUNCTION_ARGS)
{
	Edge	   *state = PG_ARGISNULL(0) ? NULL : (Edge *) PG_GETARG_POINTER(0);

	if (state == NULL || state->value_is_null)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(state->value);
}
