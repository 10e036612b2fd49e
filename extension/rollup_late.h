/*
 * rollup_late.h
 *		Groups that are older than a rollup's retention when rows for them come.
 */
#ifndef CLICKSTREAM_ROLLUP_LATE_H
#define CLICKSTREAM_ROLLUP_LATE_H

#include "postgres.h"

#include "utils/tuplestore.h"

#include "catalog.h"
#include "rollup_merge.h"

/*
 * The states, or those of them that are not too old: then in a new tuplestore, and the other is ended.  Under
 * the rollup's settings.  `count`: the rows of the others are counted as late.
 */
extern Tuplestorestate *rollup_without_late(const Rollup *rollup, const RollupMerge *merge, Tuplestorestate *states,
											bool count);

#endif							/* CLICKSTREAM_ROLLUP_LATE_H */
