/*
 * rollup_sorted.h
 *		States of groups in the order in which they are put in place, and kept over transactions.
 */
#ifndef CLICKSTREAM_ROLLUP_SORTED_H
#define CLICKSTREAM_ROLLUP_SORTED_H

#include "postgres.h"

#include "utils/tuplestore.h"

#include "rollup_merge.h"

/*
 * In the current memory context, and in a place that outlives the transaction.  Without those up to and with
 * the group `after`, a note (rollup_note.h), unless that is NULL.
 */
extern Tuplestorestate *rollup_sorted(const RollupMerge *merge, Tuplestorestate *states, TupleDesc desc,
									  const bytea *after);

#endif							/* CLICKSTREAM_ROLLUP_SORTED_H */
