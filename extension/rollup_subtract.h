/*
 * rollup_subtract.h
 *		Deleted and changed rows taken out of their groups by arithmetic, without the raw rows.
 */
#ifndef CLICKSTREAM_ROLLUP_SUBTRACT_H
#define CLICKSTREAM_ROLLUP_SUBTRACT_H

#include "postgres.h"

#include "utils/tuplestore.h"

#include "rollup_merge.h"
#include "rollup_recompute.h"

/* whether all of a rollup's aggregates can be subtracted, exactly */
extern bool rollup_can_subtract(const RollupQuery *query);

/*
 * Takes touched->old out and adds touched->fresh.  Returns whether some groups had to be computed again from the raw
 * rows after all.
 */
extern bool rollup_subtract(RollupMerge *merge, const RollupTouched *touched);

#endif							/* CLICKSTREAM_ROLLUP_SUBTRACT_H */
