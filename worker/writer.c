/*
 * writer.c
 *		The records of a batch become rows of the target and changes of its rollups.
 *
 * Owns the order: some records are decoded, their rows are checked and collected by leaf, leaves
 * are written as they fill; then the rollups take all new rows.  Knows nothing of Kafka, offsets or
 * dead letters: it says of each record what became of it.  Called by source_main.c, in a
 * transaction.
 *
 * When a record makes the database raise an error, its neighbours shall not suffer.  The first try
 * of a batch goes without savepoints; after an error the caller comes back `careful`: then
 * stretches
 * of records go in inside a savepoint each.  A stretch that fails is tried again shorter, up to
 * where
 * it broke if that is known, else its first half, until one record fails alone: that is the one.
 * Stretches grow again as they succeed.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/date.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "worker.h"
#include "writer.h"
#include "writer_leaf.h"

/* records that are decoded before their rows are written */
#define CHUNK_RECORDS 1000

/* rows that wait in leaves when many leaves take few rows each */
#define MOST_COLLECTED 8000

/* ... and bytes of records, whose values may take several times as much */
#define CHUNK_BYTES (4 * 1024 * 1024)

/* what the rows for the rollups may take of memory before they go to a file, in kB */
#define ROLLUP_ROWS_KB 16384

struct Writer
{
	Relation	target;
	DecodePlan *plan;
	WriterRules rules;
	RollupSet  *rollups;
	LeafSet    *leaves;
	Tuplestorestate *new_rows;	/* for the rollups; NULL when there are none */
	TupleTableSlot *root_row;	/* a row of a leaf with a layout of its own, as the target has it */

	int			n_slots;
	int			slots_used;
	TupleTableSlot *slots[MOST_COLLECTED + CHUNK_RECORDS];
	int			decoded[CHUNK_RECORDS]; /* the records whose rows are in the newest slots */
	int			n_decoded;
	size_t		bytes;			/* of the records whose values are still needed */

	bool		guarded;		/* inside a savepoint around decoding */
	ResourceOwner outer_owner;

	int			n_missing;
	int			room_for_missing;
	TimestampTz *missing;
};

/* ---------------------------------------------------------------- open and close */

Writer *
writer_open(Relation target, DecodePlan *plan, const WriterRules *rules, RollupSet *rollups)
{
	Writer	   *writer = palloc0(sizeof(Writer));

	writer->target = target;
	writer->plan = plan;
	writer->rules = *rules;
	writer->rollups = rollups;
	writer->leaves = leaf_set_open(target);
	return writer;
}

void
writer_close(Writer *writer)
{
	leaf_set_close(writer->leaves);
}

const TimestampTz *
writer_missing(const Writer *writer, int *n)
{
	*n = writer->n_missing;
	return writer->missing;
}

void
batch_add_fault(Batch *batch, int record, const DecodeFault *fault)
{
	if (batch->n_faults == batch->room_for_faults)
	{
		batch->room_for_faults = Max(batch->room_for_faults * 2, 64);
		if (batch->faults == NULL)
			batch->faults = MemoryContextAlloc(batch->memory,
											   sizeof(RecordFault) * batch->room_for_faults);
		else
			batch->faults = repalloc_huge(batch->faults,
										  sizeof(RecordFault) * batch->room_for_faults);
	}
	batch->faults[batch->n_faults++] = (RecordFault) {.record = record, .fault = *fault};
	batch->outcome[record] = RECORD_DEAD_LETTER;
}

/* ---------------------------------------------------------------- decoding */

static TupleTableSlot *
next_slot(Writer *writer)
{
	TupleTableSlot *slot;

	if (writer->slots_used == writer->n_slots)
	{
		MemoryContext outer = MemoryContextSwitchTo(writer->leaves->estate->es_query_cxt);

		writer->slots[writer->n_slots++] = MakeSingleTupleTableSlot(writer->leaves->desc,
																	&TTSOpsVirtual);
		MemoryContextSwitchTo(outer);
	}
	slot = writer->slots[writer->slots_used];
	ExecClearTuple(slot);
	return slot;
}

static void
guard_decoding(Writer *writer)
{
	MemoryContext context = CurrentMemoryContext;

	if (writer->guarded)
		return;
	writer->outer_owner = CurrentResourceOwner;
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	writer->guarded = true;
}

static void
unguard_decoding(Writer *writer, bool failed)
{
	MemoryContext context = CurrentMemoryContext;

	if (!writer->guarded)
		return;
	if (failed)
		RollbackAndReleaseCurrentSubTransaction();
	else
		ReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = writer->outer_owner;
	writer->guarded = false;
}

/* the error in hand as the fault of a record; an error of the surroundings is thrown on */
static void
take_error(Batch *batch, DecodeFault *fault)
{
	ErrorData  *error;
	MemoryContext outer = MemoryContextSwitchTo(batch->memory);

	error = CopyErrorData();
	FlushErrorState();
	if (sqlstate_is_surroundings(error->sqlerrcode))
	{
		MemoryContextSwitchTo(outer);
		ReThrowError(error);
	}
	fault->sqlstate = error->sqlerrcode;
	fault->message = error->detail ? psprintf("%s: %s", error->message,
											  error->detail) : pstrdup(error->message);
	FreeErrorData(error);
	MemoryContextSwitchTo(outer);
}

/* by the types' own input functions, which may throw: in a savepoint that the chunk shares */
static DecodeOutcome
decode_guarded(Writer *writer, Batch *batch, const Record *record, TupleTableSlot *slot,
			   DecodeFault *fault)
{
	MemoryContext context = CurrentMemoryContext;
	volatile DecodeOutcome outcome = DECODED_DEAD_LETTER;

	guard_decoding(writer);
	PG_TRY();
	{
		outcome = decode_record(writer->plan, record, true, slot->tts_values, slot->tts_isnull,
								fault);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		unguard_decoding(writer, true);
		take_error(batch, fault);
	}
	PG_END_TRY();
	return outcome;
}

static void
decode_one(Writer *writer, Batch *batch, int i)
{
	TupleTableSlot *slot = next_slot(writer);
	Record		record;
	DecodeFault fault;
	DecodeOutcome outcome = DECODED_LATER;

	batch_record(batch, i, &record);
	writer->bytes += record.value_length + record.key_length;
	if (batch->partition != NULL)
		batch->partition[i] = record.partition;
	if (!writer->guarded)
		outcome = decode_record(writer->plan, &record, false, slot->tts_values, slot->tts_isnull,
								&fault);
	if (outcome == DECODED_LATER)
		outcome = decode_guarded(writer, batch, &record, slot, &fault);
	switch (outcome)
	{
		case DECODED_ROW:
			ExecStoreVirtualTuple(slot);
			writer->slots_used++;
			writer->decoded[writer->n_decoded++] = i;
			break;
		case DECODED_SKIP:
			batch->outcome[i] = RECORD_SKIPPED;
			break;
		default:
			batch_add_fault(batch, i, &fault);
			break;
	}
}

/* returns how far it came */
static int
decode_chunk(Writer *writer, Batch *batch, int from, int to)
{
	MemoryContext outer = MemoryContextSwitchTo(writer->leaves->rows);
	int			i;

	writer->n_decoded = 0;
	for (i = from; i < to && writer->bytes < CHUNK_BYTES; i++)
	{
		writer->leaves->at_record = i;
		batch_prefetch(batch, i);
		if (batch->outcome[i] == RECORD_PENDING)
			decode_one(writer, batch, i);
	}
	unguard_decoding(writer, false);
	MemoryContextSwitchTo(outer);
	return i;
}

/* ---------------------------------------------------------------- rows */

static void
fault_of_time(Writer *writer, Batch *batch, int record, TimestampTz time)
{
	MemoryContext outer = MemoryContextSwitchTo(batch->memory);
	DecodeFault fault = {.sqlstate = ERRCODE_DATETIME_VALUE_OUT_OF_RANGE};
	const char *column = NameStr(TupleDescAttr(RelationGetDescr(writer->target),
											   writer->leaves->time_column - 1)->attname);

	if (time > writer->rules.newest)
		fault.message = psprintf("%s %s is further ahead than max_future of source \"%s\" allows",
								 column, pstrdup(timestamptz_to_str(time)), writer->rules.source);
	else
		fault.message = psprintf("%s %s is older than retention of source \"%s\" allows",
								 column, pstrdup(timestamptz_to_str(time)), writer->rules.source);
	batch_add_fault(batch, record, &fault);
	MemoryContextSwitchTo(outer);
}

static TimestampTz
time_of_row(const Writer *writer, const TupleTableSlot *row)
{
	Datum		value = row->tts_values[writer->leaves->time_column - 1];

	if (writer->leaves->time_type == DATEOID)
	{
		DateADT		date = DatumGetDateADT(value);

		if (DATE_IS_NOBEGIN(date))
			return DT_NOBEGIN;
		if (DATE_IS_NOEND(date))
			return DT_NOEND;
		return (TimestampTz) date * USECS_PER_DAY;
	}
	return DatumGetTimestampTz(value);
}

static void
add_missing(Writer *writer, TimestampTz time)
{
	MemoryContext outer = MemoryContextSwitchTo(writer->leaves->estate->es_query_cxt);

	if (writer->n_missing == writer->room_for_missing)
	{
		writer->room_for_missing = Max(writer->room_for_missing * 2, 64);
		writer->missing = writer->missing == NULL ?
			palloc(sizeof(TimestampTz) * writer->room_for_missing) :
			repalloc(writer->missing, sizeof(TimestampTz) * writer->room_for_missing);
	}
	writer->missing[writer->n_missing++] = time;
	MemoryContextSwitchTo(outer);
}

/*
 * whether the time is in the window, and some partition there for it; else the record is settled
 * or waits
 */
static bool
time_is_good(Writer *writer, Batch *batch, int record, const TupleTableSlot *row)
{
	LeafSet    *leaves = writer->leaves;
	TimestampTz time;
	bool		has_default;
	Datum		value = row->tts_values[leaves->time_column - 1];

	if (row->tts_isnull[leaves->time_column - 1])
		return true;
	time = time_of_row(writer, row);
	if (unlikely(time > writer->rules.newest || time < writer->rules.oldest))
	{
		fault_of_time(writer, batch, record, time);
		return false;
	}
	if (leaves->last_part >= 0 && leaves->time_type != DATEOID && time >= leaves->last_from &&
		time < leaves->last_to)
		return true;
	if (writer->rules.may_use_default == NULL || leaf_set_covers(leaves, value, &has_default) ||
		TIMESTAMP_NOT_FINITE(time) ||
		(has_default && writer->rules.may_use_default(writer->rules.argument, time)))
		return true;
	add_missing(writer, time);
	return false;
}

/* a range key that is NULL finds no partition: say rather which constraint it breaks */
static bool
time_is_there(Writer *writer, Batch *batch, int record, const TupleTableSlot *row)
{
	LeafSet    *leaves = writer->leaves;
	Form_pg_attribute column = TupleDescAttr(RelationGetDescr(writer->target),
											 leaves->time_column - 1);
	DecodeFault fault = {.sqlstate = ERRCODE_NOT_NULL_VIOLATION};

	if (!row->tts_isnull[leaves->time_column - 1] || !column->attnotnull)
		return true;
	fault.message = MemoryContextStrdup(batch->memory,
										psprintf("null value in column \"%s\" of relation \"%s\" violates not-null constraint",
												 NameStr(column->attname), RelationGetRelationName(writer->target)));
	batch_add_fault(batch, record, &fault);
	return false;
}

static void
keep_for_rollups(Writer *writer, const Leaf *leaf, TupleTableSlot *row)
{
	if (writer->new_rows == NULL)
		return;
	if (leaf->to_root != NULL)
	{
		if (writer->root_row == NULL)
			writer->root_row = MakeSingleTupleTableSlot(writer->leaves->desc, &TTSOpsVirtual);
		row = execute_attr_map_slot(leaf->to_root->attrMap, row, writer->root_row);
	}
	tuplestore_puttupleslot(writer->new_rows, row);
}

static void
write_row(Writer *writer, Batch *batch, int record, TupleTableSlot *slot)
{
	LeafSet    *leaves = writer->leaves;
	Leaf	   *leaf;
	TupleTableSlot *row;
	DecodeFault fault;

	leaves->at_record = record;
	if (leaves->time_column > 0 &&
		(!time_is_there(writer, batch, record, slot) || !time_is_good(writer, batch, record, slot)))
		return;
	if (writer->n_missing > 0)
		return;					/* nothing of this try will stay */
	leaf = leaf_for(leaves, slot);
	row = leaf_prepare(leaves, leaf, slot, batch->memory, &fault);
	if (row != NULL)
	{
		batch->outcome[record] = RECORD_ROW;
		keep_for_rollups(writer, leaf, row);
		leaf_collect(leaves, leaf, row, record);
	}
	else if (fault.sqlstate != 0)
		batch_add_fault(batch, record, &fault);
	else
		batch->outcome[record] = RECORD_SKIPPED;
	ResetPerTupleExprContext(leaves->estate);
}

static void
write_decoded(Writer *writer, Batch *batch)
{
	TupleTableSlot **slots = writer->slots + writer->slots_used - writer->n_decoded;
	MemoryContext outer = MemoryContextSwitchTo(writer->leaves->rows);

	for (int i = 0; i < writer->n_decoded; i++)
		write_row(writer, batch, writer->decoded[i], slots[i]);
	MemoryContextSwitchTo(outer);
}

static void
forget_rows(Writer *writer)
{
	writer->slots_used = 0;
	writer->bytes = 0;
	decode_forget(writer->plan);
	MemoryContextReset(writer->leaves->rows);
}

/* writes what is collected when it is enough, or all of it goes to one leaf */
static void
flush_if_worth_it(Writer *writer)
{
	if (list_length(writer->leaves->all) > 1 &&
		writer->leaves->collected < MOST_COLLECTED - CHUNK_RECORDS &&
		writer->slots_used <= MOST_COLLECTED && writer->bytes < CHUNK_BYTES)
		return;
	leaf_set_flush(writer->leaves);
	forget_rows(writer);
}

static void
apply_rollups(Writer *writer)
{
	if (writer->new_rows == NULL)
		return;
	writer->leaves->at_record = -1;
	rollup_set_apply_insert(writer->rollups, writer->new_rows, RelationGetDescr(writer->target));
	tuplestore_end(writer->new_rows);
	writer->new_rows = NULL;
}

static void
write_stretch(Writer *writer, Batch *batch, int from, int to)
{
	bool		rollups = !rollup_set_is_empty(writer->rollups);

	writer->new_rows = rollups ? tuplestore_begin_heap(false, false, ROLLUP_ROWS_KB) : NULL;
	AfterTriggerBeginQuery();
	for (int at = from; at < to;)
	{
		at = decode_chunk(writer, batch, at, Min(at + CHUNK_RECORDS, to));
		write_decoded(writer, batch);
		flush_if_worth_it(writer);
		CHECK_FOR_INTERRUPTS();
	}
	if (writer->n_missing == 0)
		leaf_set_flush(writer->leaves);
	forget_rows(writer);
	writer->leaves->at_record = -1;
	AfterTriggerEndQuery(writer->leaves->estate);
	if (writer->n_missing == 0)
		apply_rollups(writer);
}

/* ---------------------------------------------------------------- with care */

/* a stretch in a savepoint; false when it failed for the sake of some record of it */
static bool
try_stretch(Writer *writer, Batch *batch, int from, int to, DecodeFault *fault)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool done = false;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		write_stretch(writer, batch, from, to);
		leaf_set_settle(writer->leaves, false);
		ReleaseCurrentSubTransaction();
		done = true;
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		if (writer->guarded)
			unguard_decoding(writer, true);
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
		leaf_set_settle(writer->leaves, true);
		writer->new_rows = NULL;
		take_error(batch, fault);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	forget_rows(writer);
	return done;
}

/* rows and skips of a try that failed are open again; dead letters are not */
static void
reopen(Batch *batch, int from, int to)
{
	for (int i = from; i < to; i++)
		if (batch->outcome[i] != RECORD_DEAD_LETTER)
			batch->outcome[i] = RECORD_PENDING;
}

/* how many records to try after `length` of them failed */
static int
shorter(int from, int length, int broke_at)
{
	if (broke_at >= from && broke_at < from + length)
		return Max(broke_at - from, 1);
	return Max(length / 2, 1);
}

/*
 * what a deferred constraint would only find at the commit is found in the savepoint of its
 * record
 */
static void
make_constraints_immediate(void)
{
	ConstraintsSetStmt *all = makeNode(ConstraintsSetStmt);

	all->constraints = NIL;
	all->deferred = false;
	AfterTriggerSetState(all);
}

static void
write_carefully(Writer *writer, Batch *batch)
{
	int			length = batch->n,
				at = 0;

	make_constraints_immediate();
	while (at < batch->n && writer->n_missing == 0)
	{
		DecodeFault fault;

		length = Min(length, batch->n - at);
		if (try_stretch(writer, batch, at, at + length, &fault))
		{
			at += length;
			length *= 2;
			continue;
		}
		reopen(batch, at, at + length);
		if (length == 1)
			batch_add_fault(batch, at++, &fault);
		else
			length = shorter(at, length, writer->leaves->at_record);
	}
}

bool
writer_write(Writer *writer, Batch *batch, bool careful)
{
	reopen(batch, 0, batch->n);
	decode_begin(writer->plan, writer->leaves->estate, batch->memory);
	if (careful)
		write_carefully(writer, batch);
	else
		write_stretch(writer, batch, 0, batch->n);
	return writer->n_missing == 0;
}
