/*
 * rollup_refresh.h
 *		Groups made what the raw rows say, whatever the rollup has.
 *
 * Both as the rollup's owner, in one transaction; writers wait for no more than the groups that change.
 */
#ifndef CLICKSTREAM_ROLLUP_REFRESH_H
#define CLICKSTREAM_ROLLUP_REFRESH_H

#include "postgres.h"

#include "utils/tuplestore.h"

#include "rollup_merge.h"

/* those of a range that differ; returns how many have no raw rows any more, and were left as they are */
extern int64 rollup_refresh_range(RollupMerge *merge, const RollupRange *range);

/* these, each there once */
extern void rollup_refresh_groups(RollupMerge *merge, Tuplestorestate *groups);

/* these, which are locked: from the raw rows as they are now */
extern void rollup_compute_locked(RollupMerge *merge, Tuplestorestate *groups, const bool *null_keys);

#endif							/* CLICKSTREAM_ROLLUP_REFRESH_H */
