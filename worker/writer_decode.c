/*
 * writer_decode.c
 *		Records of a batch become rows in slots, a chunk at a time.
 *
 * Owns the savepoint in which the types' own input functions run: one for as many records as it
 * holds, ended by the first error, so that a record that cannot be decoded costs the end of one
 * savepoint and nothing of its neighbours.  Nothing is written in it.  Called by writer.c and
 * writer_careful.c.
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/executor.h"
#include "utils/memutils.h"

#include "worker.h"
#include "writer_internal.h"

static TupleTableSlot *
next_slot(Writer *writer)
{
	TupleTableSlot *slot;

	if (writer->slots_used == writer->n_slots)
		writer->slots[writer->n_slots++] = leaf_set_slot(writer->leaves, writer->leaves->desc, &TTSOpsVirtual);
	slot = writer->slots[writer->slots_used];
	ExecClearTuple(slot);
	return slot;
}

void
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

void
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

static bool
is_of_surroundings(const Writer *writer, int sqlstate)
{
	return sqlstate_is_surroundings(sqlstate) &&
		!decode_owns_error(writer->plan, sqlstate) &&
		!(writer->care->suspects && sqlstate_may_be_of_record(sqlstate));
}

void
take_error(Writer *writer, Batch *batch, DecodeFault *fault)
{
	ErrorData  *error;
	MemoryContext outer = MemoryContextSwitchTo(batch->memory);

	error = CopyErrorData();
	FlushErrorState();
	if (is_of_surroundings(writer, error->sqlerrcode))
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
		take_error(writer, batch, fault);
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
			if (decode_owns_error(writer->plan, fault.sqlstate))
				batch_add_fault(batch, i, &fault);
			else
				add_fault(writer, batch, i, &fault);
			decode_error_taken(writer->plan);
			break;
	}
}

int
decode_chunk(Writer *writer, Batch *batch, int from, int to)
{
	MemoryContext outer = MemoryContextSwitchTo(writer->leaves->rows);
	int			i;

	writer->n_decoded = 0;
	for (i = from; i < to && writer->bytes < CHUNK_BYTES; i++)
	{
		batch_prefetch(batch, i);
		decode_one(writer, batch, i);
	}
	unguard_decoding(writer, false);
	MemoryContextSwitchTo(outer);
	return i;
}
