/*
 * rollup_batch.h
 *		New rows of a target in memory, as far as its rollups look at them, and the plan node that reads them.
 */
#ifndef CLICKSTREAM_ROLLUP_BATCH_H
#define CLICKSTREAM_ROLLUP_BATCH_H

#include "postgres.h"

#include "access/tupdesc.h"
#include "nodes/bitmapset.h"
#include "nodes/plannodes.h"

#include "rollup_delta.h"

/* Empty, in a memory context of its own below the current one; `columns` are indexes. */
extern RollupBatch *rollup_batch_create(TupleDesc desc, const Bitmapset *columns);
extern int64 rollup_batch_count(const RollupBatch *batch);
extern TupleDesc rollup_batch_desc(const RollupBatch *batch);

/* what lives until the batch is cleared */
extern MemoryContext rollup_batch_memory(const RollupBatch *batch);

/* the rows as tuples, with NULL in the columns that are not kept; in the current memory context */
extern Tuplestorestate *rollup_batch_rows(const RollupBatch *batch);

/*
 * Makes a plan read a batch where it reads the tuplestore of that name: the batch is then registered under
 * the name.  Adds the indexes of the columns it needs.  False, with nothing done, where that cannot be.
 */
extern bool rollup_batch_reads(PlannedStmt *plan, const char *name, TupleDesc desc, Bitmapset **columns);

#endif							/* CLICKSTREAM_ROLLUP_BATCH_H */
