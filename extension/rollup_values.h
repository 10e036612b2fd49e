/*
 * rollup_values.h
 *		Expressions over a row of a rollup's table.
 */
#ifndef CLICKSTREAM_ROLLUP_VALUES_H
#define CLICKSTREAM_ROLLUP_VALUES_H

#include "postgres.h"

#include "rollup_merge.h"
#include "rollup_query.h"

/* An output's value, over columns of the table (range table index 1) in place of keys and aggregates. */
extern Node *rollup_value_of(const RollupMerge *merge, Node *value);

/* whether an aggregate's combine function may be called like any other */
extern bool rollup_combines_plain_values(const RollupAggregate *aggregate);

/* The state in the table's row (OUTER_VAR), and the one in that column of new states (INNER_VAR), combined. */
extern Node *rollup_combined(const RollupMerge *merge, const RollupAggregate *aggregate, AttrNumber state);

#endif							/* CLICKSTREAM_ROLLUP_VALUES_H */
