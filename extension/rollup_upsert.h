/*
 * rollup_upsert.h
 *		States of groups -> rows of a rollup's table, without a statement.
 */
#ifndef CLICKSTREAM_ROLLUP_UPSERT_H
#define CLICKSTREAM_ROLLUP_UPSERT_H

#include "postgres.h"

#include "utils/tuplestore.h"

#include "rollup_merge.h"

typedef struct RollupUpsert RollupUpsert;

/*
 * In the current memory context, for as long as the rollup's table stays as it is.  NULL if the table has
 * something that only a statement minds; rollup_merge.c has one that does the same.
 */
extern RollupUpsert *rollup_upsert_create(const RollupMerge *merge);

/* Whether a function that it calls may look for names that search_path decides. */
extern bool rollup_upsert_needs_search_path(const RollupUpsert *upsert);

/*
 * Adds states to what the table has; as the current user, who is the rollup's owner.  With `takes` some of them
 * take rows away: a group of which arithmetic does not know what becomes keeps its values.  False if nothing was
 * done, because a partition has something that only a statement minds.
 */
extern bool rollup_upsert_run(RollupUpsert *upsert, Tuplestorestate *states, bool takes);

#endif							/* CLICKSTREAM_ROLLUP_UPSERT_H */
