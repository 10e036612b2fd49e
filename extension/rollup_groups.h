/*
 * rollup_groups.h
 *		Some groups of a rollup, as their states in a tuplestore: chosen among others, put in place.
 */
#ifndef CLICKSTREAM_ROLLUP_GROUPS_H
#define CLICKSTREAM_ROLLUP_GROUPS_H

#include "postgres.h"

#include "rollup_merge.h"

/* the states of those groups that are among others, or are not; in a tuplestore in the current memory context */
extern Tuplestorestate *rollup_groups_filter(RollupMerge *merge, Tuplestorestate *states, bool among,
											 Tuplestorestate *others, const bool *null_keys);

/* The groups are what `now` says; those that it does not have are removed.  They are locked. */
extern void rollup_groups_put_in_place(RollupMerge *merge, Tuplestorestate *groups, Tuplestorestate *now);

#endif							/* CLICKSTREAM_ROLLUP_GROUPS_H */
