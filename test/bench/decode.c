/*
 * decode.c
 *		How long the worker's decoder takes for a message: bench_decode(target, columns, messages, rounds) returns
 *		microseconds a message, of the fastest round.
 *
 * Built by decode.t together with the worker's files, for a server of its own: never installed.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "portability/instr_time.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/rel.h"

#include "decode.h"

PG_MODULE_MAGIC;
PG_FUNCTION_INFO_V1(bench_decode);

/* as many as the worker decodes before it writes them */
#define CHUNK 1000

typedef struct Bench
{
	DecodePlan *plan;
	Record	   *records;
	int			n;
	TupleTableSlot *slots[CHUNK];
} Bench;

static void
decode_one(Bench *bench, int i)
{
	TupleTableSlot *slot = bench->slots[i % CHUNK];
	DecodeFault fault;

	ExecClearTuple(slot);
	if (decode_record(bench->plan, &bench->records[i], false, slot->tts_values, slot->tts_isnull,
					  &fault) != DECODED_ROW)
		elog(ERROR, "message %d was not decoded", i);
	ExecStoreVirtualTuple(slot);
}

static double
run_round(Bench *bench)
{
	instr_time	start,
				end;

	INSTR_TIME_SET_CURRENT(start);
	for (int i = 0; i < bench->n; i++)
	{
		decode_one(bench, i);
		if (i % CHUNK == CHUNK - 1)
			decode_forget(bench->plan);
	}
	INSTR_TIME_SET_CURRENT(end);
	INSTR_TIME_SUBTRACT(end, start);
	decode_forget(bench->plan);
	return INSTR_TIME_GET_DOUBLE(end) * 1e6 / bench->n;
}

static void
take_messages(Bench *bench, ArrayType *array)
{
	Datum	   *texts;
	bool	   *nulls;

	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &texts, &nulls, &bench->n);
	bench->records = palloc0(sizeof(Record) * bench->n);
	for (int i = 0; i < bench->n; i++)
		bench->records[i] = (Record)
	{
		.topic = "bench", .partition = i % 4, .offset = i,
			.value = VARDATA_ANY(DatumGetPointer(texts[i])),
			.value_length = VARSIZE_ANY_EXHDR(DatumGetPointer(texts[i]))
	};
}

Datum
bench_decode(PG_FUNCTION_ARGS)
{
	Relation	target = table_open(PG_GETARG_OID(0), AccessShareLock);
	EState	   *estate = CreateExecutorState();
	Bench		bench = {.plan = decode_plan_build(target, PG_GETARG_JSONB_P(1))};
	double		best = 1e9;

	take_messages(&bench, PG_GETARG_ARRAYTYPE_P(2));
	for (int i = 0; i < CHUNK; i++)
		bench.slots[i] = MakeSingleTupleTableSlot(CreateTupleDescCopy(RelationGetDescr(target)), &TTSOpsVirtual);
	decode_begin(bench.plan, estate, CurrentMemoryContext);
	for (int round = 0; round < PG_GETARG_INT32(3); round++)
		best = Min(best, run_round(&bench));
	decode_plan_free(bench.plan);
	FreeExecutorState(estate);
	table_close(target, AccessShareLock);
	PG_RETURN_FLOAT8(best);
}
