/*
 * writer_sieve.c
 *		Rows that a rollup would refuse are found before they are written.
 *
 * Owns the savepoints around rollup_sieve.c: one until the first row fails, as in decoding.  Called by
 * writer_careful.c for each chunk, once a rollup has refused a batch.  Rows that BEFORE triggers may change
 * are left out, for they are not yet what they will be.
 */
#include "postgres.h"

#include "executor/executor.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "rollup_sieve.h"
#include "writer_internal.h"

/* the rows of a chunk, as the target has them */
typedef struct SieveRows
{
	int			n;
	TupleTableSlot *row[CHUNK_RECORDS];
	int			ready[CHUNK_RECORDS];	/* the place of each among the writer's ready rows */
} SieveRows;

static void
collect_rows(Writer *writer, SieveRows *rows)
{
	rows->n = 0;
	for (int i = 0; i < writer->n_ready; i++)
	{
		ReadyRow   *ready = &writer->ready[i];
		TupleTableSlot *row = ready->row;

		if (ready->leaf->row_by_row)
			continue;
		if (ready->leaf->to_root != NULL)
			row = execute_attr_map_slot(ready->leaf->to_root->attrMap, row,
										MakeTupleTableSlot(writer->leaves->desc, &TTSOpsVirtual));
		rows->ready[rows->n] = i;
		rows->row[rows->n++] = row;
	}
}

static void
refuse_row(Writer *writer, Batch *batch, SieveRows *rows, int i, const DecodeFault *fault)
{
	add_fault(writer, batch, writer->ready[rows->ready[i]].record, fault);
	rows->row[i] = NULL;
	writer->care->needed = true;
}

/* the plan of the rollup's delta over some rows; false when it fails for the sake of one of them */
static bool
ask(Writer *writer, Batch *batch, int rollup, TupleTableSlot **rows, int n, DecodeFault *fault)
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool passed = false;

	guard_decoding(writer);
	PG_TRY();
	{
		rollup_sieve_ask(writer->sieve, rollup, rows, n);
		passed = true;
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		unguard_decoding(writer, true);
		take_error(writer, batch, fault);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	return passed;
}

/* what refuse_too_wide needs to know */
typedef struct TooWide
{
	Writer	   *writer;
	Batch	   *batch;
	SieveRows  *rows;
} TooWide;

static void
refuse_too_wide(void *argument, int at, const char *message)
{
	TooWide    *it = argument;
	DecodeFault fault = {ERRCODE_PROGRAM_LIMIT_EXCEEDED, MemoryContextStrdup(it->batch->memory, message)};

	refuse_row(it->writer, it->batch, it->rows, at, &fault);
}

static void
sieve_expressions(Writer *writer, Batch *batch, int rollup, SieveRows *rows)
{
	MemoryContext context = CurrentMemoryContext;
	TooWide		too_wide = {writer, batch, rows};
	volatile int at = 0;

	while (at < rows->n)
	{
		DecodeFault fault;
		volatile bool failed = false;

		guard_decoding(writer);
		PG_TRY();
		{
			rollup_sieve_rows(writer->sieve, rollup, rows->row, rows->n, &at,
							  refuse_too_wide, &too_wide);
		}
		PG_CATCH();
		{
			MemoryContextSwitchTo(context);
			unguard_decoding(writer, true);
			take_error(writer, batch, &fault);
			failed = true;
		}
		PG_END_TRY();
		if (failed && (rollup_sieve_is_sure(writer->sieve, rollup) ||
					   !ask(writer, batch, rollup, &rows->row[at], 1, &fault)))
			refuse_row(writer, batch, rows, at, &fault);
		at += failed;
	}
}

/* by halves: what is more than an expression of one row, such as a join */
static void
sieve_by_halves(Writer *writer, Batch *batch, int rollup, SieveRows *rows)
{
	int			length = rows->n,
				at = 0;

	while (at < rows->n)
	{
		DecodeFault fault;

		length = Min(length, rows->n - at);
		if (ask(writer, batch, rollup, &rows->row[at], length, &fault))
		{
			at += length;
			length *= 2;
		}
		else if (length == 1)
			refuse_row(writer, batch, rows, at++, &fault);
		else
			length /= 2;
	}
}

static void
drop_refused(SieveRows *rows)
{
	int			n = 0;

	for (int i = 0; i < rows->n; i++)
		if (rows->row[i] != NULL)
		{
			rows->ready[n] = rows->ready[i];
			rows->row[n++] = rows->row[i];
		}
	rows->n = n;
}

/* the rest of the ready rows keep their order */
static void
drop_refused_ready(Writer *writer, const Batch *batch)
{
	int			n = 0;

	for (int i = 0; i < writer->n_ready; i++)
		if (batch->outcome[writer->ready[i].record] != RECORD_DEAD_LETTER)
			writer->ready[n++] = writer->ready[i];
	writer->n_ready = n;
}

void
sieve_chunk(Writer *writer, Batch *batch)
{
	MemoryContext outer = MemoryContextSwitchTo(writer->leaves->rows);
	SieveRows	rows;

	if (writer->sieve == NULL)
	{
		MemoryContextSwitchTo(writer->leaves->estate->es_query_cxt);
		writer->sieve = rollup_sieve_open(writer->rollups, writer->leaves->desc);
		MemoryContextSwitchTo(writer->leaves->rows);
	}
	collect_rows(writer, &rows);
	for (int i = 0; i < rollup_sieve_count(writer->sieve); i++)
	{
		sieve_expressions(writer, batch, i, &rows);
		drop_refused(&rows);
		if (!rollup_sieve_is_complete(writer->sieve, i))
			sieve_by_halves(writer, batch, i, &rows);
		drop_refused(&rows);
	}
	unguard_decoding(writer, false);
	drop_refused_ready(writer, batch);
	MemoryContextSwitchTo(outer);
}
