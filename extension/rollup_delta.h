/*
 * rollup_delta.h
 *		Applies a set of new rows of a table to every rollup over it, in the caller's transaction.
 */
#ifndef CLICKSTREAM_ROLLUP_DELTA_H
#define CLICKSTREAM_ROLLUP_DELTA_H

#include "postgres.h"

#include "access/tupdesc.h"
#include "executor/tuptable.h"
#include "utils/tuplestore.h"

/*
 * All rollups over one target with their plans, kept between transactions by a worker (in the
 * memory context that is current at the open), or for one statement by a trigger.
 */
typedef struct RollupSet RollupSet;

/* Needs a transaction.  Cheap when the target has no rollups. */
extern PGDLLEXPORT RollupSet *rollup_set_open(Oid target);

/* Call at the start of each transaction: looks whether rollups were made, dropped or altered since. */
extern PGDLLEXPORT void rollup_set_refresh(RollupSet *set);

/* Whether there is anything to apply: else the caller need not collect the new rows. */
extern PGDLLEXPORT bool rollup_set_is_empty(const RollupSet *set);

/*
 * Adds the rows in `rows` to each rollup.  Its tuples have the target's own row type `desc` (dropped columns
 * included).  Throws, naming the rollup, when a rollup cannot hold what the rows ask of it.
 */
extern PGDLLEXPORT void rollup_set_apply_insert(RollupSet *set, Tuplestorestate *rows, TupleDesc desc);

/*
 * The same for a worker, which adds new rows one by one, in slots of the target's layout.  The
 * batch lives in the memory context that is current at its beginning; it is to be applied when it is full, and is empty
 * then.  It fits the set until the end of the transaction.
 */
typedef struct RollupBatch RollupBatch;

extern PGDLLEXPORT RollupBatch *rollup_set_begin_batch(RollupSet *set, TupleDesc desc);
extern PGDLLEXPORT void rollup_batch_add(RollupBatch *batch, TupleTableSlot *row);
extern PGDLLEXPORT bool rollup_batch_is_full(const RollupBatch *batch);
extern PGDLLEXPORT void rollup_batch_clear(RollupBatch *batch);
extern PGDLLEXPORT void rollup_set_apply_batch(RollupSet *set, RollupBatch *batch);

extern PGDLLEXPORT void rollup_set_close(RollupSet *set);

#endif							/* CLICKSTREAM_ROLLUP_DELTA_H */
