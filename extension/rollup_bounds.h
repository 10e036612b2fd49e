/*
 * rollup_bounds.h
 *		From a group key that rounds a time down: which times the rows of some groups can have.
 */
#ifndef CLICKSTREAM_ROLLUP_BOUNDS_H
#define CLICKSTREAM_ROLLUP_BOUNDS_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/primnodes.h"

/*
 * If the key is a time column of the table, or rounds one down: the column, and how far a time may be
 * after its key.
 */
extern bool rollup_bounds_of_key(Node *key, int table_index, Var **column, Interval *span);

/* conditions for the column, both NULL-safe and a little generous; `bound` is of any time type */
extern Expr *rollup_bounds_from(Var *column, Const *bound);
extern Expr *rollup_bounds_to(Var *column, Const *bound, const Interval *span);

#endif							/* CLICKSTREAM_ROLLUP_BOUNDS_H */
