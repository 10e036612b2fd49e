/*
 * writer_careful.c
 *		A batch in which some record makes the database raise an error: its neighbours shall not suffer.
 *
 * Owns the savepoints.  Called by writer.c.  What a bad record costs decides how fast a stream flows
 * that has many, so nothing is repeated that did not fail:
 *
 *	 1. A chunk is decoded, and its rows are made ready: times, partitions, generated columns,
 *		constraints, the rollups' expressions.  Nothing is written, so one savepoint serves until the
 *		first error, which is the fault of the record at hand; its neighbours' values stay as they are.
 *	 2. Rows that are ready are written, with indexes and AFTER triggers, by stretches in a savepoint each.
 *		A stretch that fails is written up to the row where it broke, if that is known, else its first half;
 *		a row that fails alone is the one.  Stretches are as long as the distance between faults makes
 *		worth it: a savepoint costs as much as writing a few rows.
 *	 3. The rollups take the rows of all stretches at the end.  Should they fail in spite of (1), for
 *		a sum that overflows as an example, the batch is written by halves, rollups included.
 *
 * A row that BEFORE triggers may change is made ready in its stretch, for they may look at the rows before.
 */
#include "postgres.h"

#include <math.h>

#include "access/xact.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "writer_internal.h"

/* ---------------------------------------------------------------- savepoints */

/* what is done in a savepoint with those from .. to - 1, and what is undone besides when that has failed */
typedef struct Attempt
{
	void		(*write) (Writer *writer, Batch *batch, int from, int to);
	void		(*reopen) (Writer *writer, Batch *batch, int from, int to);
} Attempt;

/* false when it failed for the sake of some record */
static bool
in_savepoint(Writer *writer, Batch *batch, int from, int to, const Attempt *attempt, DecodeFault *fault)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	int			n_faults = batch->n_faults;
	volatile bool done = false;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		attempt->write(writer, batch, from, to);
		ReleaseCurrentSubTransaction();
		done = true;
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		unguard_decoding(writer, true);
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
		leaf_set_settle(writer->leaves, true);
		forget_seen_keys(writer);
		batch->n_faults = n_faults;
		attempt->reopen(writer, batch, from, to);
		take_error(writer, batch, fault);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return done;
}

/* ---------------------------------------------------------------- rows made ready */

static void
add_ready(Writer *writer, int record, Leaf *leaf, TupleTableSlot *row)
{
	writer->ready[writer->n_ready++] = (ReadyRow) {record, leaf, row};
	leaf->at_own = (leaf->at_own + 1) % LEAF_ROWS;
}

static void
make_ready(Writer *writer, Batch *batch, int record, TupleTableSlot *slot)
{
	LeafSet    *leaves = writer->leaves;
	Leaf	   *leaf = leaf_of_row(writer, batch, record, slot);
	TupleTableSlot *row;
	DecodeFault fault;

	if (leaf == NULL)
		return;
	if (leaf->row_by_row)
		add_ready(writer, record, leaf, slot);
	else if ((row = leaf_prepare(leaves, leaf, slot, batch->memory, &fault)) != NULL &&
			 (!writer->care->measure_keys || keys_fit(writer, leaf, row, batch->memory, &fault)))
		add_ready(writer, record, leaf, row);
	else
		batch_add_fault(batch, record, &fault);
	ResetPerTupleExprContext(leaves->estate);
}

static void
make_chunk_ready(Writer *writer, Batch *batch)
{
	TupleTableSlot **slots = writer->slots + writer->slots_used - writer->n_decoded;
	MemoryContext outer = MemoryContextSwitchTo(writer->leaves->rows);
	volatile int i = 0;

	writer->n_ready = 0;
	while (i < writer->n_decoded)
	{
		guard_decoding(writer);
		PG_TRY();
		{
			for (; i < writer->n_decoded; i++)
				make_ready(writer, batch, writer->decoded[i], slots[i]);
		}
		PG_CATCH();
		{
			DecodeFault fault;

			MemoryContextSwitchTo(writer->leaves->rows);
			unguard_decoding(writer, true);
			take_error(writer, batch, &fault);
			add_fault(writer, batch, writer->decoded[i++], &fault);
			writer->care->needed = true;
		}
		PG_END_TRY();
	}
	unguard_decoding(writer, false);
	MemoryContextSwitchTo(outer);
}

/* ---------------------------------------------------------------- stretches */

/* a row that BEFORE triggers have a say in; what they make of it is kept for the rollups */
static void
write_triggered(Writer *writer, Batch *batch, ReadyRow *ready)
{
	DecodeFault fault;
	TupleTableSlot *row = leaf_prepare(writer->leaves, ready->leaf, ready->row, batch->memory, &fault);

	ready->kept = NULL;
	if (row == NULL && fault.sqlstate != 0)
		batch_add_fault(batch, ready->record, &fault);
	else if (row == NULL)
		batch->outcome[ready->record] = RECORD_SKIPPED;
	else if (place_row(writer, batch, ready->leaf, row, ready->record) == ROW_COLLECTED &&
			 writer->new_rows != NULL)
		ready->kept = ExecCopySlotMinimalTuple(row_of_target(writer, ready->leaf, row));
	ResetPerTupleExprContext(writer->leaves->estate);
}

static void
write_ready(Writer *writer, Batch *batch, int from, int to)
{
	for (int i = from; i < to; i++)
	{
		ReadyRow   *ready = &writer->ready[i];

		writer->leaves->at_record = ready->record;
		if (ready->leaf->row_by_row)
			write_triggered(writer, batch, ready);
		else
			ready->replaces = place_row(writer, batch, ready->leaf, ready->row,
										ready->record) == ROW_REPLACES;
	}
	leaf_set_flush(writer->leaves);
	forget_seen_keys(writer);
}

static void
write_stretch(Writer *writer, Batch *batch, int from, int to)
{
	MemoryContextSwitchTo(writer->leaves->rows);
	write_ready(writer, batch, from, to);
	leaf_set_settle(writer->leaves, false);
}

/* what a failed try found out about its rows is not known any more */
static void
reopen_stretch(Writer *writer, Batch *batch, int from, int to)
{
	for (int i = from; i < to; i++)
		batch->outcome[writer->ready[i].record] = RECORD_PENDING;
	writer_learn(writer->care, geterrcode());
}

/* rows in a savepoint; false when it failed for the sake of some record of them */
static bool
try_stretch(Writer *writer, Batch *batch, int from, int to, DecodeFault *fault)
{
	static const Attempt attempt = {write_stretch, reopen_stretch};

	return in_savepoint(writer, batch, from, to, &attempt, fault);
}

static void
keep_stretch(Writer *writer, const Batch *batch, int from, int to)
{
	if (writer->new_rows == NULL && writer->upsert == NULL)
		return;
	for (int i = from; i < to; i++)
	{
		ReadyRow   *ready = &writer->ready[i];

		if (batch->outcome[ready->record] != RECORD_ROW)
			continue;
		if (ready->replaces)
			upsert_add(writer->upsert, row_of_target(writer, ready->leaf, ready->row));
		else if (ready->kept == NULL)
			keep_for_rollups(writer, ready->leaf, ready->row);
		else
			keep_tuple_for_rollups(writer, ready->kept);
	}
}

/*
 * With a fault every n rows, stretches of sqrt(2n) cost least: shorter ones need more savepoints,
 * longer ones more rows written twice.
 */
static int
stretch_length(const WriterCare *care)
{
	double		distance = Max(care->distance, care->since_fault);

	return distance <= 0 ? CHUNK_RECORDS : (int) Min(Max(sqrt(2 * distance), 1), CHUNK_RECORDS);
}

static void
note_passed(WriterCare *care, int n)
{
	care->since_fault += n;
	if (!care->look_first)
		care->since_taken += n;
}

/* the mean distance, in which the newest counts a quarter */
static double
distance_now(double before, double since)
{
	return before <= 0 ? since + 1 : (3 * before + since + 1) / 4;
}

static void
note_fault(WriterCare *care)
{
	care->distance = distance_now(care->distance, care->since_fault);
	care->since_fault = 0;
	care->needed = true;
}

/*
 * To look costs something for each row, to break something for each row whose key is taken.  What
 * is not to be a fault must be seen before it is one.
 */
void
note_taken(Writer *writer)
{
	WriterCare *care = writer->care;

	care->key_distance = distance_now(care->key_distance, care->since_taken);
	care->since_taken = 0;
	care->look_first = writer->rules.on_conflict != CONFLICT_ERROR || care->key_distance < LOOK_BELOW;
	care->needed = true;
}

/* the place among ready rows where a stretch broke, or -1 */
static int
broke_at(const Writer *writer, int from, int to)
{
	for (int i = from; i < to; i++)
		if (writer->ready[i].record == writer->leaves->at_record)
			return i;
	return -1;
}

static bool
is_conflict(const DecodeFault *fault)
{
	return fault->sqlstate == ERRCODE_UNIQUE_VIOLATION ||
		fault->sqlstate == ERRCODE_EXCLUSION_VIOLATION;
}

/* the way through the ready rows of a chunk, stretch by stretch */
typedef struct Walk
{
	int			at;				/* what is before is settled */
	int			end;			/* of what to try next; 0: as long as is worth it */
	int			looked;			/* the row that was tried again because its key was taken */
	int			broken;			/* the row that an index refused, or -1 */
	DecodeFault why;
} Walk;

static void
blame(Writer *writer, Batch *batch, Walk *walk, const DecodeFault *fault)
{
	add_fault(writer, batch, writer->ready[walk->at++].record, fault);
	note_fault(writer->care);
	if (is_conflict(fault))
		note_taken(writer);
	walk->end = 0;
	walk->broken = -1;
}

/*
 * After the rows before the one where a stretch broke comes that one.  An index has told what is wrong
 * with it, and as all before it is as it was then, need not be asked again.
 */
static void
stretch_passed(Writer *writer, Batch *batch, Walk *walk, int to, int n_faults)
{
	bool		before_broken = to == walk->end && writer->suspect == to;
	bool		same = batch->n_faults == n_faults;

	keep_stretch(writer, batch, walk->at, to);
	note_passed(writer->care, to - walk->at);
	walk->at = to;
	walk->end = before_broken ? to + 1 : 0;
	if (before_broken && walk->broken == to && same)
		blame(writer, batch, walk, &walk->why);
}

static void
stretch_failed(Writer *writer, Batch *batch, Walk *walk, int to, const DecodeFault *fault)
{
	int			at = walk->at;
	bool		taken = is_conflict(fault);

	if (to - at == 1 && taken && writer->rules.on_conflict != CONFLICT_ERROR && walk->looked != at)
	{
		/* by somebody since it was looked at, or nobody had looked yet: now it will be seen */
		note_taken(writer);
		walk->looked = at;
		walk->end = to;
		return;
	}
	if (to - at == 1)
	{
		blame(writer, batch, walk, fault);
		return;
	}
	writer->suspect = broke_at(writer, at, to);
	walk->broken = taken && writer->rules.on_conflict == CONFLICT_ERROR ? writer->suspect : -1;
	walk->why = *fault;
	if (walk->broken == at)
		blame(writer, batch, walk, fault);
	else if (writer->suspect > at)
		walk->end = writer->suspect;
	else
		walk->end = writer->suspect == at ? at + 1 : at + (to - at) / 2;
}

static void
write_chunk(Writer *writer, Batch *batch)
{
	Walk		walk = {.looked = -1,.broken = -1};

	while (walk.at < writer->n_ready)
	{
		DecodeFault fault;
		int			n_faults = batch->n_faults;
		int			to = walk.end > walk.at ? walk.end :
			Min(walk.at + stretch_length(writer->care), writer->n_ready);

		if (try_stretch(writer, batch, walk.at, to, &fault))
			stretch_passed(writer, batch, &walk, to, n_faults);
		else
			stretch_failed(writer, batch, &walk, to, &fault);
	}
}

/* ---------------------------------------------------------------- the batch */

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
write_range(Writer *writer, Batch *batch, int from, int to)
{
	begin_rollups(writer);
	for (int at = from; at < to;)
	{
		at = decode_chunk(writer, batch, at, Min(at + CHUNK_RECORDS, to));
		make_chunk_ready(writer, batch);
		if (writer->care->sieve && writer->n_missing == 0)
			sieve_chunk(writer, batch);
		if (writer->n_missing == 0)
			write_chunk(writer, batch);
		forget_rows(writer);
		CHECK_FOR_INTERRUPTS();
	}
	if (writer->n_missing == 0)
		apply_rollups(writer);
}

static void
reopen_range(Writer *writer, Batch *batch, int from, int to)
{
	forget_rows(writer);
	memset(batch->outcome + from, RECORD_PENDING, to - from);
}

/* some records in a savepoint, rollups included; false when these failed for the sake of some record */
static bool
try_range(Writer *writer, Batch *batch, int from, int to, DecodeFault *fault)
{
	static const Attempt attempt = {write_range, reopen_range};

	return in_savepoint(writer, batch, from, to, &attempt, fault);
}

void
write_carefully(Writer *writer, Batch *batch)
{
	WriterCare *care = writer->care;
	int			length = batch->n,
				at = 0;

	writer->leaves->one_by_one = true;
	make_constraints_immediate();
	while (at < batch->n && writer->n_missing == 0)
	{
		DecodeFault fault;

		length = Min(length, batch->n - at);
		if (try_range(writer, batch, at, at + length, &fault))
		{
			at += length;
			length *= 2;
			continue;
		}
		care->needed = true;
		if (care->in_rollups && !care->sieve)
			care->sieve = true; /* once more, with it */
		else if (length == 1)
			add_fault(writer, batch, at++, &fault);
		else
			length = Max(length / 2, 1);
		care->in_rollups = false;
	}
}
