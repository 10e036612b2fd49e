/*
 * rollup_order.h
 *		The order in which groups are locked and written: the same for everybody, so that nobody waits in a circle.
 */
#ifndef CLICKSTREAM_ROLLUP_ORDER_H
#define CLICKSTREAM_ROLLUP_ORDER_H

#include "postgres.h"

#include "executor/tuptable.h"
#include "utils/tuplesort.h"

#include "rollup_merge.h"

/* by the keys, which come first among the columns of a state */
typedef struct RollupOrder
{
	int			n_keys;
	AttrNumber *columns;
	Oid		   *operators;
	Oid		   *collations;
	bool	   *nulls_first;
} RollupOrder;

/* in the current memory context */
extern RollupOrder *rollup_order_of(const RollupMerge *merge);

/* takes states, and gives them in order */
extern Tuplesortstate *rollup_order_begin(const RollupOrder *order, TupleDesc states_desc);

/* the same for a statement: ` ORDER BY s.k1, s.k2 COLLATE …` */
extern void rollup_order_append(StringInfo sql, const RollupMerge *merge);

/* whether two states are of one group */
extern bool rollup_order_same_group(const RollupOrder *order, TupleTableSlot *one, TupleTableSlot *other);

#endif							/* CLICKSTREAM_ROLLUP_ORDER_H */
