/*
 * inquiry_preview.c
 *		The inquiry "preview": what would become of a source's next records, of which nothing stays.
 *
 * Request: {"source": 5, "count": 10}.  Answer: [{"topic", "partition", "offset", "outcome", "row", "sqlstate",
 * "error", "value"}, …], value in hexadecimal.  The records go through the worker's own decoder and writer, so
 * constraints, triggers and rollups have their say; then the transaction is rolled back.  Only the
 * numbers that a sequence has given are gone.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "executor/nodeModifyTable.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"

#include "batch.h"
#include "decode.h"
#include "inquiry_fetch.h"
#include "inquiry_source.h"
#include "rollup_delta.h"
#include "writer.h"

typedef struct Preview
{
	InquirySource inquired;
	Fetch		fetch;
	Batch		batch;
	MemoryContext memory;		/* lives as long as the inquiry */
} Preview;

static void
make_batch(Preview *preview)
{
	Batch	   *batch = &preview->batch;

	batch->n = preview->fetch.n;
	batch->messages = preview->fetch.messages;
	batch->outcome = palloc0(Max(batch->n, 1));
	batch->memory = preview->memory;
}

/* a record is written as the worker would, with its savepoint; one that needs a partition stays pending */
static void
try_record(Preview *preview, Relation target, DecodePlan *plan, const WriterRules *rules,
		   RollupSet *rollups, int i)
{
	Batch		one = {.n = 1, .messages = &preview->batch.messages[i], .memory = preview->memory};
	uint8		outcome = RECORD_PENDING;
	Writer	   *writer = writer_open(target, plan, rules, rollups);
	WriterCare	care = {.savepoints = true, .look_first = true};

	one.outcome = &outcome;
	if (!writer_write(writer, &one, &care))
		outcome = RECORD_PENDING;
	preview->batch.outcome[i] = outcome;
	if (outcome == RECORD_DEAD_LETTER)
		batch_add_fault(&preview->batch, i, &one.faults[one.n_faults - 1].fault);
	writer_close(writer);
}

/* no partition is made for a preview */
static bool
never_default(void *argument, TimestampTz time)
{
	return false;
}

static void
try_records(Preview *preview, Relation target, DecodePlan *plan, const Source *source)
{
	WriterRules rules = writer_rules_of(source);
	RollupSet  *rollups = rollup_set_open(source->target);

	if (source->partition_interval != NULL)
		rules.may_use_default = never_default;
	for (int i = 0; i < preview->batch.n; i++)
	{
		MemoryContext one = AllocSetContextCreate(CurrentMemoryContext, "preview", ALLOCSET_DEFAULT_SIZES);
		MemoryContext outer = MemoryContextSwitchTo(one);

		try_record(preview, target, plan, &rules, rollups, i);
		MemoryContextSwitchTo(outer);
		MemoryContextDelete(one);
		CHECK_FOR_INTERRUPTS();
	}
	rollup_set_close(rollups);
}

/* ---------------------------------------------------------------- the answer */

/* what is needed to show a row */
typedef struct Showing
{
	Relation	target;
	DecodePlan *plan;
	EState	   *estate;
	ResultRelInfo *relation;
	TupleTableSlot *slot;
} Showing;

/*
 * The row as it is decoded, with its generated columns; what triggers make of it is not shown.  Of one
 * that was not written for want of a partition the constraints are checked here.
 */
static char *
row_text(Showing *show, const Record *record, bool check)
{
	TupleDesc	desc = RelationGetDescr(show->target);
	TupleTableSlot *slot = ExecClearTuple(show->slot);
	DecodeFault fault;

	if (decode_record(show->plan, record, true, slot->tts_values, slot->tts_isnull, &fault) != DECODED_ROW)
		return "null";
	ExecStoreVirtualTuple(slot);
	slot->tts_tableOid = RelationGetRelid(show->target);
	if (desc->constr && desc->constr->has_generated_stored)
		ExecComputeStoredGenerated(show->relation, show->estate, slot, CMD_INSERT);
	if (check && desc->constr)
		ExecConstraints(show->relation, slot, show->estate);
	return text_to_cstring(DatumGetTextPP(DirectFunctionCall1(row_to_json, ExecFetchSlotHeapTupleDatum(slot))));
}

/* the same in a savepoint: an error is the record's fault */
static char *
row_text_if_good(Showing *show, const Record *record, DecodeFault *fault)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	char	   *volatile text = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		text = row_text(show, record, true);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		fault->sqlstate = error->sqlerrcode;
		fault->message = error->message;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return text;
}

static const DecodeFault *
fault_of(const Batch *batch, int record)
{
	for (int i = batch->n_faults - 1; i >= 0; i--)
		if (batch->faults[i].record == record)
			return &batch->faults[i].fault;
	return NULL;
}

static void
append_field(StringInfo answer, const char *name, const char *text)
{
	appendStringInfo(answer, ", \"%s\": ", name);
	escape_json(answer, text);
}

static void
append_value(StringInfo answer, const Record *record)
{
	char	   *hex;

	if (record->value == NULL)
		return;
	hex = palloc(record->value_length * 2 + 1);
	hex[hex_encode(record->value, record->value_length, hex)] = '\0';
	appendStringInfo(answer, ", \"value\": \"%s\"", hex);
}

static void
append_record(StringInfo answer, const Preview *preview, int i, const char *row)
{
	static const char *const outcomes[] = {
		[RECORD_PENDING] = "row", [RECORD_ROW] = "row", [RECORD_DEAD_LETTER] = "dead letter", [RECORD_SKIPPED] = "skip"
	};
	const DecodeFault *fault = fault_of(&preview->batch, i);
	int			outcome = preview->batch.outcome[i];
	Record		record;

	batch_record(&preview->batch, i, &record);
	appendStringInfo(answer, "%s{\"partition\": %d, \"offset\": " INT64_FORMAT, i > 0 ? ", " : "",
					 record.partition, record.offset);
	append_field(answer, "topic", record.topic);
	append_field(answer, "outcome", outcomes[outcome]);
	if (outcome == RECORD_DEAD_LETTER && fault != NULL)
	{
		append_field(answer, "sqlstate", unpack_sql_state(fault->sqlstate));
		append_field(answer, "error", fault->message);
	}
	else if (row != NULL)
		appendStringInfo(answer, ", \"row\": %s", row);
	append_value(answer, &record);
	appendStringInfoChar(answer, '}');
}

static void
show_record(StringInfo answer, Preview *preview, Showing *show, int i)
{
	Record		record;
	DecodeFault fault;
	char	   *row = NULL;

	batch_record(&preview->batch, i, &record);
	if (preview->batch.outcome[i] == RECORD_ROW)
		row = row_text(show, &record, false);
	else if (preview->batch.outcome[i] == RECORD_PENDING)
	{
		row = row_text_if_good(show, &record, &fault);
		if (row == NULL)
			batch_add_fault(&preview->batch, i, &fault);
	}
	append_record(answer, preview, i, row);
}

/* once the records were tried */
static void
show_records(StringInfo answer, Preview *preview, Relation target, DecodePlan *plan)
{
	Showing		show = {.target = target, .plan = plan, .estate = CreateExecutorState()};

	show.relation = makeNode(ResultRelInfo);
	InitResultRelInfo(show.relation, target, 0, NULL, 0);
	show.slot = ExecInitExtraTupleSlot(show.estate, RelationGetDescr(target), &TTSOpsVirtual);
	decode_begin(plan, show.estate, preview->memory);
	appendStringInfoChar(answer, '[');
	for (int i = 0; i < preview->batch.n; i++)
		show_record(answer, preview, &show, i);
	appendStringInfoChar(answer, ']');
	ExecResetTupleTable(show.estate->es_tupleTable, true);
	FreeExecutorState(show.estate);
}

/* ---------------------------------------------------------------- the question */

static void
preview_fetched(Preview *preview, StringInfo answer)
{
	Source	   *source = inquiry_source_begin(&preview->inquired, ShareLock);
	Relation	target = table_open(source->target, RowExclusiveLock);
	DecodePlan *plan = decode_plan_build(target, source->columns);

	try_records(preview, target, plan, source);
	show_records(answer, preview, target, plan);
	decode_plan_free(plan);
	table_close(target, NoLock);
	worker_rollback();
}

/* where the source reads next, in memory that outlives the transaction */
static List *
next_offsets(Preview *preview)
{
	Source	   *source = inquiry_source_begin(&preview->inquired, ShareLock);
	List	   *offsets;

	MemoryContextSwitchTo(preview->memory);
	offsets = catalog_offsets(source->name);
	worker_commit();
	MemoryContextSwitchTo(preview->memory);
	return offsets;
}

static void
close_fetch(int code, Datum fetch)
{
	fetch_close((Fetch *) DatumGetPointer(fetch));
}

InquiryResult
inquiry_preview(const Inquiry *inquiry, StringInfo answer)
{
	Preview    *preview = palloc0(sizeof(Preview));
	int			count = (int) inquiry_number(inquiry, "count");
	List	   *offsets;
	bool		fetched;

	preview->memory = CurrentMemoryContext;
	inquiry_source_open(&preview->inquired, inquiry);
	offsets = next_offsets(preview);
	if (offsets == NIL)
	{
		appendStringInfoString(answer, "Kafka has not answered yet, so it is not known where the source begins");
		return INQUIRY_UNREACHABLE;
	}
	before_shmem_exit(close_fetch, PointerGetDatum(&preview->fetch));
	fetched = fetch_records(&preview->fetch, inquiry, offsets, count);
	if (fetched)
	{
		make_batch(preview);
		preview_fetched(preview, answer);
	}
	else
		appendStringInfoString(answer, kafka_client_reason(&preview->fetch.client, "Kafka gave no record in time"));
	fetch_close(&preview->fetch);
	return fetched ? INQUIRY_ANSWERED : INQUIRY_UNREACHABLE;
}
