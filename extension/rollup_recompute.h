/*
 * rollup_recompute.h
 *		Groups computed again from the raw rows, beside everybody else who writes.
 */
#ifndef CLICKSTREAM_ROLLUP_RECOMPUTE_H
#define CLICKSTREAM_ROLLUP_RECOMPUTE_H

#include "postgres.h"

#include "utils/tuplestore.h"

#include "rollup_merge.h"

/* States, by the rollup's query, of the rows that a statement took away and put there. */
typedef struct RollupTouched
{
	Tuplestorestate *groups;	/* each group of old and fresh once; may be one of them */
	Tuplestorestate *old;		/* or NULL: none */
	Tuplestorestate *fresh;		/* or NULL: none */
	bool		again;			/* the same client's statement has had groups computed again */
	List	   *except;			/* OIDs of partitions whose rows no longer count */
} RollupTouched;

extern void rollup_recompute(RollupMerge *merge, const RollupTouched *touched);

#endif							/* CLICKSTREAM_ROLLUP_RECOMPUTE_H */
