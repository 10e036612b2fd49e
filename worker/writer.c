/*
 * writer.c
 *		The records of a batch become rows of the target and changes of its rollups.
 *
 * Owns the order: some records are decoded, their rows are checked and collected by leaf, leaves
 * are written as they fill; then the rollups take all new rows.  Knows nothing of Kafka, offsets or
 * dead letters: it says of each record what became of it.  Called by source_main.c, in a
 * transaction.
 *
 * As long as all goes well there is no savepoint.  An error that one of the records may be at fault
 * for ends the transaction, is noted in WriterCare, and the batch is written again with the care
 * that it asks for (writer_careful.c).  Care is kept from batch to batch, for bad records seldom
 * come alone, and given up after some batches that did not need it.
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
#include "utils/timestamp.h"

#include "compat.h"
#include "duration.h"
#include "worker.h"
#include "writer_internal.h"

/* batches in a row that did not need care before it is given up */
#define CALM_BATCHES 20

/* ---------------------------------------------------------------- open and close */

static WriterConflict
conflict_of(const char *name)
{
	return strcmp(name, "update") == 0 ? CONFLICT_UPDATE :
		strcmp(name, "ignore") == 0 ? CONFLICT_IGNORE : CONFLICT_ERROR;
}

WriterRules
writer_rules_of(const Source *source)
{
	TimestampTz now = GetCurrentTimestamp();
	WriterRules rules = {
		.source = source->name,
		.oldest = source->retention == NULL ? DT_NOBEGIN : moment_before(now, source->retention),
		.newest = source->max_future == NULL ? DT_NOEND : moment_after(now, source->max_future),
		.on_conflict = conflict_of(source->on_conflict),
	};

	return rules;
}

Writer *
writer_open(Relation target, DecodePlan *plan, const WriterRules *rules, RollupSet *rollups)
{
	Writer	   *writer = palloc0(sizeof(Writer));

	writer->target = target;
	writer->plan = plan;
	writer->rules = *rules;
	writer->rollups = rollups;
	writer->leaves = leaf_set_open(target);
	if (rules->on_conflict == CONFLICT_UPDATE)
		writer->upsert = upsert_open(target);
	if (!rollup_set_is_empty(rollups))
		writer->new_rows = rollup_set_begin_batch(rollups, writer->leaves->desc);
	return writer;
}

void
writer_close(Writer *writer)
{
	leaf_set_close(writer->leaves);
}

const TimestampTz *
writer_missing(const Writer *writer, const int **records, int *n)
{
	*n = writer->n_missing;
	*records = writer->missing_records;
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
add_missing(Writer *writer, int record, TimestampTz time)
{
	MemoryContext outer = MemoryContextSwitchTo(writer->leaves->estate->es_query_cxt);

	if (writer->n_missing == writer->room_for_missing)
	{
		writer->room_for_missing = Max(writer->room_for_missing * 2, 64);
		writer->missing = writer->missing == NULL ?
			palloc(sizeof(TimestampTz) * writer->room_for_missing) :
			repalloc_huge(writer->missing, sizeof(TimestampTz) * writer->room_for_missing);
		writer->missing_records = writer->missing_records == NULL ?
			palloc(sizeof(int) * writer->room_for_missing) :
			repalloc_huge(writer->missing_records, sizeof(int) * writer->room_for_missing);
	}
	writer->missing_records[writer->n_missing] = record;
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
	add_missing(writer, record, time);
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

TupleTableSlot *
row_of_target(Writer *writer, const Leaf *leaf, TupleTableSlot *row)
{
	if (leaf->to_root == NULL)
		return row;
	if (writer->root_row == NULL)
		writer->root_row = leaf_set_slot(writer->leaves, writer->leaves->desc, &TTSOpsVirtual);
	return execute_attr_map_slot(leaf->to_root->attrMap, row, writer->root_row);
}

void
keep_for_rollups(Writer *writer, const Leaf *leaf, TupleTableSlot *row)
{
	if (writer->new_rows != NULL)
		rollup_batch_add(writer->new_rows, row_of_target(writer, leaf, row));
}

void
keep_tuple_for_rollups(Writer *writer, MinimalTuple row)
{
	if (writer->kept_row == NULL)
		writer->kept_row = leaf_set_slot(writer->leaves, writer->leaves->desc, &TTSOpsMinimalTuple);
	ExecStoreMinimalTuple(row, writer->kept_row, false);
	rollup_batch_add(writer->new_rows, writer->kept_row);
	ExecClearTuple(writer->kept_row);
}

static bool
row_is_in_time(Writer *writer, Batch *batch, int record, const TupleTableSlot *row)
{
	return writer->leaves->time_column == 0 ||
		(time_is_there(writer, batch, record, row) && time_is_good(writer, batch, record, row));
}

/* triggers that come before decide what the key is: they run in the statement that replaces rows */
static bool
goes_to_executor(const Writer *writer, const Leaf *leaf)
{
	return writer->upsert != NULL && leaf->row_by_row;
}

/* a row that is as it shall be goes to its leaf, unless its place is taken */
RowPlace
place_row(Writer *writer, Batch *batch, Leaf *leaf, TupleTableSlot *row, int record)
{
	DecodeFault fault;
	Oid			taken = writer->care->look_first ?
		unique_key_taken(writer, leaf, row, batch->memory, &fault) : InvalidOid;

	batch->outcome[record] = RECORD_ROW;
	if (!OidIsValid(taken))
	{
		leaf_collect(writer->leaves, leaf, row, record);
		return ROW_COLLECTED;
	}
	if (writer->upsert != NULL && upsert_is_key(writer->upsert, taken))
		return ROW_REPLACES;
	if (writer->rules.on_conflict == CONFLICT_IGNORE)
		batch->outcome[record] = RECORD_SKIPPED;
	else
		batch_add_fault(batch, record, &fault);
	return ROW_REFUSED;
}

static void
place_and_keep(Writer *writer, Batch *batch, Leaf *leaf, TupleTableSlot *row, int record)
{
	switch (place_row(writer, batch, leaf, row, record))
	{
		case ROW_COLLECTED:
			keep_for_rollups(writer, leaf, row);
			break;
		case ROW_REPLACES:
			upsert_add(writer->upsert, row_of_target(writer, leaf, row));
			break;
		case ROW_REFUSED:
			break;
	}
}

Leaf *
leaf_of_row(Writer *writer, Batch *batch, int record, TupleTableSlot *row)
{
	Leaf	   *leaf;

	if (!row_is_in_time(writer, batch, record, row))
		return NULL;
	if (writer->n_missing > 0)
		return NULL;			/* nothing of this try will stay */
	leaf = leaf_for(writer->leaves, row);
	if (!goes_to_executor(writer, leaf))
		return leaf;
	batch->outcome[record] = RECORD_ROW;
	upsert_add(writer->upsert, row);
	return NULL;
}

static void
write_row(Writer *writer, Batch *batch, int record, TupleTableSlot *slot)
{
	LeafSet    *leaves = writer->leaves;
	Leaf	   *leaf = leaf_of_row(writer, batch, record, slot);
	TupleTableSlot *row;
	DecodeFault fault;

	if (leaf == NULL)
		return;
	if ((row = leaf_prepare(leaves, leaf, slot, batch->memory, &fault)) != NULL)
		place_and_keep(writer, batch, leaf, row, record);
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

void
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

void
begin_rollups(Writer *writer)
{
	if (writer->new_rows != NULL)
		rollup_batch_clear(writer->new_rows);
	if (writer->upsert != NULL)
		upsert_begin(writer->upsert);
}

static void
apply_new_rows(Writer *writer)
{
	writer->care->in_rollups = true;
	rollup_set_apply_batch(writer->rollups, writer->new_rows);
	writer->care->in_rollups = false;
}

/*
 * The rows that replace others come last: a group that the rollups compute again for them is computed
 * with all rows of the batch, and must not be given any of them once more.
 */
void
apply_rollups(Writer *writer)
{
	if (writer->new_rows != NULL)
		apply_new_rows(writer);
	if (writer->upsert != NULL)
	{
		upsert_run(writer->upsert);
		/* rows that come after this are new to those groups */
		SetCurrentStatementStartTimestamp();
	}
}

/* rows that a rollup has counted are in the table: who computes a group again finds them there */
static void
apply_when_full(Writer *writer)
{
	if (writer->new_rows == NULL || !rollup_batch_is_full(writer->new_rows) || writer->n_missing > 0)
		return;
	leaf_set_flush(writer->leaves);
	forget_rows(writer);
	apply_new_rows(writer);
}

static void
write_at_once(Writer *writer, Batch *batch)
{
	begin_rollups(writer);
	AfterTriggerBeginQuery();
	for (int at = 0; at < batch->n;)
	{
		at = decode_chunk(writer, batch, at, Min(at + CHUNK_RECORDS, batch->n));
		write_decoded(writer, batch);
		flush_if_worth_it(writer);
		apply_when_full(writer);
		CHECK_FOR_INTERRUPTS();
	}
	if (writer->n_missing == 0)
		leaf_set_flush(writer->leaves);
	forget_rows(writer);
	AfterTriggerEndQuery(writer->leaves->estate);
	if (writer->n_missing == 0)
		apply_rollups(writer);
}

/* ---------------------------------------------------------------- care */

/* the neighbours fail, too, or there is none that passes: then it is the surroundings after all */
pg_noreturn static void
blame_surroundings(Writer *writer, const DecodeFault *fault)
{
	writer->care->suspects = false;
	ereport(ERROR,
			(errcode(fault->sqlstate),
			 errmsg_internal("%s", fault->message)));
}

/* the fault of a record that failed alone */
void
add_fault(Writer *writer, Batch *batch, int record, const DecodeFault *fault)
{
	batch_add_fault(batch, record, fault);
	if (!sqlstate_is_surroundings(fault->sqlstate))
		return;
	if (writer->last_suspect >= 0 && writer->last_suspect == record - 1)
		blame_surroundings(writer, fault);
	writer->last_suspect = record;
}

static void
judge_suspects(Writer *writer, const Batch *batch)
{
	if (writer->last_suspect < 0 || memchr(batch->outcome, RECORD_ROW, batch->n) != NULL)
		return;
	for (int i = batch->n_faults - 1; i >= 0; i--)
		if (batch->faults[i].record == writer->last_suspect)
			blame_surroundings(writer, &batch->faults[i].fault);
}

void
writer_suspect(WriterCare *care)
{
	care->savepoints = true;
	care->suspects = true;
	care->calm = 0;
}

void
writer_learn(WriterCare *care, int sqlstate)
{
	care->savepoints = true;
	care->calm = 0;
	if (care->in_rollups)
		care->sieve = true;
	if ((sqlstate == ERRCODE_UNIQUE_VIOLATION || sqlstate == ERRCODE_EXCLUSION_VIOLATION) &&
		care->key_distance < LOOK_BELOW)
		care->look_first = true;
	if (sqlstate == ERRCODE_PROGRAM_LIMIT_EXCEEDED)
		care->measure_keys = true;
}

/* what no batch has needed for a while is given up */
static void
note_batch(WriterCare *care)
{
	if (care->needed)
		care->calm = 0;
	else if (++care->calm >= CALM_BATCHES)
		*care = (WriterCare) {0};
	care->needed = false;
	care->suspects = false;
}

bool
writer_write(Writer *writer, Batch *batch, WriterCare *care)
{
	memset(batch->outcome, RECORD_PENDING, batch->n);
	batch->n_faults = 0;
	care->in_rollups = false;
	writer->care = care;
	writer->last_suspect = -1;
	if (writer->upsert != NULL)
		care->look_first = true;
	decode_begin(writer->plan, writer->leaves->estate, batch->memory);
	if (care->savepoints)
		write_carefully(writer, batch);
	else
		write_at_once(writer, batch);
	judge_suspects(writer, batch);
	note_batch(care);
	return writer->n_missing == 0;
}
