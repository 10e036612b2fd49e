/*
 * rollup_note.h
 *		Groups of a rollup that is being filled which are to be computed again at the end.
 */
#ifndef CLICKSTREAM_ROLLUP_NOTE_H
#define CLICKSTREAM_ROLLUP_NOTE_H

#include "postgres.h"

#include "executor/tuptable.h"
#include "utils/tuplestore.h"

#include "rollup_merge.h"

/* a note: the keys of a state, and these as a state again */
extern bytea *rollup_note_of(const RollupMerge *merge, TupleTableSlot *state);
extern void rollup_note_read(const bytea *note, TupleTableSlot *state);

/* by a writer: the groups of these states */
extern void rollup_note_groups(const RollupMerge *merge, int32 rollup_id, Tuplestorestate *states);

/*
 * By the worker: takes some of them away, each once, as states that have nothing but keys; none are
 * left when it returns no tuple.  In the current memory context.
 */
extern Tuplestorestate *rollup_note_take(RollupMerge *merge, int32 rollup_id);

#endif							/* CLICKSTREAM_ROLLUP_NOTE_H */
