/*
 * decode_nested.c
 *		A JSON object or array becomes a value of an array, a composite type, or a domain over one.
 *
 * PostgreSQL does that for the columns of a row, in json_populate_record; so a row type with just
 * this column is made, and its one value taken out.  May throw.  Called by decode_value.c.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/tupdesc.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "funcapi.h"
#include "nodes/makefuncs.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"

#include "decode_plan.h"

/* lives in the plan */
struct PopulateCall
{
	FmgrInfo	function;
	TupleDesc	desc;
	Datum		base;			/* a row of that type, all NULL */
};

static struct PopulateCall *
make_call(DecodePlan *plan, PlanColumn *column)
{
	MemoryContext outer = MemoryContextSwitchTo(plan->context);
	struct PopulateCall *call = palloc0(sizeof(struct PopulateCall));
	List	   *arguments = list_make3(makeNullConst(RECORDOID, -1, InvalidOid),
									   makeNullConst(JSONOID, -1, InvalidOid),
									   makeBoolConst(false, false));
	Datum		value = (Datum) 0;
	bool		is_null = true;

	fmgr_info_cxt(F_JSON_POPULATE_RECORD, &call->function, plan->context);
	fmgr_info_set_expr((Node *) makeFuncExpr(F_JSON_POPULATE_RECORD, RECORDOID, arguments, InvalidOid,
											 InvalidOid, COERCE_EXPLICIT_CALL), &call->function);
	call->desc = CreateTemplateTupleDesc(1);
	TupleDescInitEntry(call->desc, 1, "value", column->type, column->typmod, 0);
	call->desc = BlessTupleDesc(call->desc);
	call->base = HeapTupleHeaderGetDatum(heap_form_tuple(call->desc, &value, &is_null)->t_data);
	MemoryContextSwitchTo(outer);
	return call;
}

Datum
decode_nested(DecodePlan *plan, PlanColumn *column, const JsonValueText *value, bool *is_null)
{
	static const char before[] = "{\"value\":";
	size_t		length = value->end - value->start,
				at = sizeof(before) - 1;
	text	   *json = decode_alloc(plan, VARHDRSZ + at + length + 1);
	Datum		row;

	SET_VARSIZE(json, VARHDRSZ + at + length + 1);
	memcpy(VARDATA(json), before, at);
	memcpy(VARDATA(json) + at, value->start, length);
	VARDATA(json)[at + length] = '}';
	if (column->populate == NULL)
		column->populate = make_call(plan, column);
	row = FunctionCall3(&column->populate->function, column->populate->base, PointerGetDatum(json),
						BoolGetDatum(false));
	return GetAttributeByNum(DatumGetHeapTupleHeader(row), 1, is_null);
}
