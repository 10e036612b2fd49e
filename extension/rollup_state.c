/*
 * rollup_state.c
 *		Two transition states of an aggregate -> one; a state -> the aggregate's value.
 *
 * Owns the SQL functions clickstream._combine and clickstream._finish, which the statements of
 * rollup_merge.c call.  They take the aggregate's own combine, serial, deserial and final functions,
 * as nodeAgg does in a parallel query, and must act as it does: each is called with an AggState as
 * its context whose memory is thrown away at the next call, a strict function is not called for a
 * NULL state, and the first state is a copy, because a function may write into it.
 *
 * A deserial function trusts its bytes.  So both refuse whoever does not give them the pass first: a number
 * that this process alone knows.  Our statements and expressions have it as a parameter, so that
 * it is in no text and no plan; a function of the user's that is called in the midst of a merge has it not.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "nodes/execnodes.h"
#include "nodes/params.h"
#include "parser/parse_agg.h"
#include "parser/parse_coerce.h"
#include "utils/array.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "rollup_state.h"

PG_FUNCTION_INFO_V1(clickstream_combine);
PG_FUNCTION_INFO_V1(clickstream_finish);

/* what one call site needs; lives as long as its FmgrInfo */
typedef struct StateCall
{
	Oid			aggregate;
	Oid			collation;
	Oid			transition_type;
	Oid			value_type;		/* of _finish */
	bool		is_internal;
	int16		length;
	bool		by_value;
	int16		value_length;
	bool		value_by_value;
	FmgrInfo	combine;
	FmgrInfo	serial;
	FmgrInfo	deserial;
	FmgrInfo	final;
	int			final_arguments;	/* 0: there is no final function */
	AggState   *state;			/* what the functions take for their executor node */
} StateCall;

/* one argument of a call of the aggregate's functions */
typedef struct StateValue
{
	Datum		value;
	bool		is_null;
} StateValue;

int64
rollup_state_pass(void)
{
	static int64 pass = 0;

	while (pass == 0)
	{
		if (!pg_strong_random(&pass, sizeof(pass)))
			ereport(ERROR,
					(errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not generate a random number")));
	}
	return pass;
}

ParamListInfo
rollup_state_parameters(void)
{
	ParamListInfo parameters = makeParamList(1);

	parameters->params[0].value = Int64GetDatum(rollup_state_pass());
	parameters->params[0].isnull = false;
	parameters->params[0].pflags = 0;
	parameters->params[0].ptype = INT8OID;
	return parameters;
}

static AggState *
pretended_executor_node(void)
{
	AggState   *state = makeNode(AggState);

	state->curaggcontext = CreateStandaloneExprContext();
	return state;
}

static int
aggregated_types(ArrayType *array, Oid *types)
{
	int			n = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));

	if (n > FUNC_MAX_ARGS)
		elog(ERROR, "too many argument types of an aggregate");
	if (n > 0)
		memcpy(types, ARR_DATA_PTR(array), n * sizeof(Oid));
	return n;
}

static void
set_up_combine(StateCall *call, Oid function)
{
	Expr	   *expression;

	fmgr_info_cxt(function, &call->combine, CurrentMemoryContext);
	build_aggregate_transfn_expr(&call->transition_type, 1, 0, false, call->transition_type,
								 call->collation, function, InvalidOid, &expression, NULL);
	fmgr_info_set_expr((Node *) expression, &call->combine);
}

/* Says which types the aggregate has, after the arguments: our own aggregates look for it. */
static void
append_types(FuncExpr *call, const Oid *types, int n)
{
	while (n-- > 0)
	{
		Param	   *argument = makeNode(Param);

		argument->paramkind = PARAM_EXEC;
		argument->paramid = -1;
		argument->paramtype = *types++;
		argument->paramtypmod = -1;
		call->args = lappend(call->args, argument);
	}
}

static void
set_up_serial(StateCall *call, Oid serial, Oid deserial, const Oid *types, int n)
{
	Expr	   *expression;

	fmgr_info_cxt(serial, &call->serial, CurrentMemoryContext);
	build_aggregate_serialfn_expr(serial, &expression);
	fmgr_info_set_expr((Node *) expression, &call->serial);
	fmgr_info_cxt(deserial, &call->deserial, CurrentMemoryContext);
	build_aggregate_deserialfn_expr(deserial, &expression);
	append_types(castNode(FuncExpr, expression), types, n);
	fmgr_info_set_expr((Node *) expression, &call->deserial);
}

static void
set_up_final(StateCall *call, Oid function, bool extra, Oid *types, int n)
{
	Expr	   *expression;

	call->final_arguments = extra ? n + 1 : 1;
	fmgr_info_cxt(function, &call->final, CurrentMemoryContext);
	build_aggregate_finalfn_expr(types, call->final_arguments, call->transition_type, call->value_type,
								 call->collation, function, &expression);
	fmgr_info_set_expr((Node *) expression, &call->final);
}

static void
set_up(StateCall *call, ArrayType *argument_types)
{
	HeapTuple	tuple = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(call->aggregate));
	FormData_pg_aggregate form;
	Oid			types[FUNC_MAX_ARGS];
	int			n = aggregated_types(argument_types, types);

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for aggregate %u", call->aggregate);
	form = *(Form_pg_aggregate) GETSTRUCT(tuple);
	ReleaseSysCache(tuple);

	call->transition_type = resolve_aggregate_transtype(call->aggregate, form.aggtranstype, types, n);
	call->is_internal = call->transition_type == INTERNALOID;
	get_typlenbyval(call->transition_type, &call->length, &call->by_value);
	if (OidIsValid(call->value_type))
		get_typlenbyval(call->value_type, &call->value_length, &call->value_by_value);
	set_up_combine(call, form.aggcombinefn);
	if (call->is_internal)
		set_up_serial(call, form.aggserialfn, form.aggdeserialfn, types, n);
	if (OidIsValid(call->value_type) && OidIsValid(form.aggfinalfn))
		set_up_final(call, form.aggfinalfn, form.aggfinalextra, types, n);
	call->state = pretended_executor_node();
}

/*
 * A function that a rollup's query calls could call us, too, while its rollup is written: with a
 * number where an aggregate expects a pointer.
 */
static void
require_types(const StateCall *call, FmgrInfo *flinfo, ArrayType *argument_types)
{
	Oid			state = call->is_internal ? BYTEAOID : call->transition_type;
	Oid			types[FUNC_MAX_ARGS];
	int			n = aggregated_types(argument_types, types);
	Oid		   *declared;
	int			n_declared;
	Oid			value = get_func_signature(call->aggregate, &declared, &n_declared);
	bool		fits = IsBinaryCoercible(get_fn_expr_argtype(flinfo, 4), state);

	if (!OidIsValid(call->value_type))
		fits &= IsBinaryCoercible(get_fn_expr_argtype(flinfo, 5), state);
	else if (n == n_declared)
		fits &= call->value_type == (IsPolymorphicType(value) ?
									 enforce_generic_type_consistency(types, declared, n, value, true) : value);
	if (!fits)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("this is no state of aggregate %s", get_func_name(call->aggregate))));
}

/* After the pass, three arguments of both functions say which aggregate; they are constants. */
static StateCall *
state_call(FunctionCallInfo fcinfo, Oid value_type)
{
	StateCall  *call = fcinfo->flinfo->fn_extra;

	if (PG_ARGISNULL(0) || PG_GETARG_INT64(0) != rollup_state_pass())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("aggregate states are combined only by clickstream itself"),
				 errhint("Read the finished values; to aggregate them further, use the aggregate over them.")));
	if (call == NULL)
	{
		MemoryContext caller = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);

		call = palloc0(sizeof(StateCall));
		call->aggregate = PG_GETARG_OID(1);
		call->collation = PG_GETARG_OID(3);
		call->value_type = value_type;
		set_up(call, PG_GETARG_ARRAYTYPE_P(2));
		require_types(call, fcinfo->flinfo, PG_GETARG_ARRAYTYPE_P(2));
		fcinfo->flinfo->fn_extra = call;
		MemoryContextSwitchTo(caller);
	}
	ResetExprContext(call->state->curaggcontext);
	return call;
}

static StateValue
call_function(StateCall *call, FmgrInfo *function, int n, const StateValue *arguments)
{
	LOCAL_FCINFO(fcinfo, FUNC_MAX_ARGS);
	StateValue	result = {0, true};
	bool		any_null = false;
	int			i;

	InitFunctionCallInfoData(*fcinfo, function, n, call->collation, (Node *) call->state, NULL);
	for (i = 0; i < n; i++)
	{
		fcinfo->args[i].value = arguments[i].value;
		fcinfo->args[i].isnull = arguments[i].is_null;
		any_null |= arguments[i].is_null;
	}
	if (function->fn_strict && any_null)
		return result;
	result.value = FunctionCallInvoke(fcinfo);
	result.is_null = fcinfo->isnull;
	return result;
}

/*
 * A state as a table or tuplestore has it, to one that the aggregate's functions take, in memory of
 * its own.  It may come compressed or with a short header, which deserial functions do not expect.
 */
static StateValue
to_working_state(StateCall *call, Datum value, bool is_null)
{
	StateValue	arguments[2] = {{value, is_null}, {0, false}};

	if (is_null)
		return arguments[0];
	if (call->is_internal)
	{
		arguments[0].value = PointerGetDatum(PG_DETOAST_DATUM(value));
		return call_function(call, &call->deserial, 2, arguments);
	}
	if (call->length == -1)
		arguments[0].value = PointerGetDatum(PG_DETOAST_DATUM_COPY(value));
	else
		arguments[0].value = datumCopy(value, call->by_value, call->length);
	return arguments[0];
}

/*
 * As advance_combine_function of nodeAgg.c.  Some functions return no state of two that are none as a null pointer
 * and do not say that it is NULL: final functions expect that, serial functions do not.
 */
static StateValue
combine_states(StateCall *call, const StateValue *states)
{
	StateValue	combined;

	if (call->combine.fn_strict && states[1].is_null)
		return states[0];
	if (call->combine.fn_strict && states[0].is_null)
		return states[1];
	combined = call_function(call, &call->combine, 2, states);
	combined.is_null |= call->is_internal && DatumGetPointer(combined.value) == NULL;
	return combined;
}

/* _combine(pass bigint, aggregate oid, argument_types oid[], collation oid, a anyelement, b anyelement) */
Datum
clickstream_combine(PG_FUNCTION_ARGS)
{
	StateCall  *call = state_call(fcinfo, InvalidOid);
	MemoryContext caller = MemoryContextSwitchTo(call->state->curaggcontext->ecxt_per_tuple_memory);
	StateValue	states[2];
	StateValue	result;

	states[0] = to_working_state(call, PG_GETARG_DATUM(4), PG_ARGISNULL(4));
	states[1] = to_working_state(call, PG_GETARG_DATUM(5), PG_ARGISNULL(5));
	result = combine_states(call, states);
	MemoryContextSwitchTo(caller);
	if (call->is_internal)
		result = call_function(call, &call->serial, 1, &result);
	else if (!result.is_null)
		result.value = datumCopy(result.value, call->by_value, call->length);
	if (result.is_null)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(result.value);
}

/* _finish(pass bigint, aggregate oid, argument_types oid[], collation oid, state "any", type anyelement) */
Datum
clickstream_finish(PG_FUNCTION_ARGS)
{
	StateCall  *call = state_call(fcinfo, get_fn_expr_rettype(fcinfo->flinfo));
	MemoryContext caller = MemoryContextSwitchTo(call->state->curaggcontext->ecxt_per_tuple_memory);
	StateValue	arguments[FUNC_MAX_ARGS];
	StateValue	result;
	int			i;

	arguments[0] = to_working_state(call, PG_GETARG_DATUM(4), PG_ARGISNULL(4));
	for (i = 1; i < call->final_arguments; i++)
		arguments[i] = (StateValue) {0, true};
	result = call->final_arguments == 0 ? arguments[0] :
		call_function(call, &call->final, call->final_arguments, arguments);
	MemoryContextSwitchTo(caller);
	if (result.is_null)
		PG_RETURN_NULL();
	result.value = datumCopy(result.value, call->value_by_value, call->value_length);
	PG_RETURN_DATUM(result.value);
}
