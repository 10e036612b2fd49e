/*
 * rollup_merge_sql.h
 *		The statements that write states of groups into a rollup's table, as text.
 */
#ifndef CLICKSTREAM_ROLLUP_MERGE_SQL_H
#define CLICKSTREAM_ROLLUP_MERGE_SQL_H

#include "rollup_merge.h"

/*
 * Of the states in _states, by kind.  $1 is the pass of rollup_state.c.  With rollup_merge_defers the groups
 * have been locked before: their rows are there.
 */
extern const char *rollup_merge_statement(const RollupMerge *merge, RollupMergeKind kind);

/* whether an expression over aggregates is not to be computed of new states alone, where it may fail */
extern bool rollup_merge_defers(const RollupMerge *merge);

/* DELETE of the groups in _states that are not in _left */
extern const char *rollup_merge_removal(const RollupMerge *merge, const bool *null_keys);

#endif							/* CLICKSTREAM_ROLLUP_MERGE_SQL_H */
