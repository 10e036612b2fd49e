/*
 * rollup_net.h
 *		What a statement took away from groups and what it put there -> one state for each of them.
 */
#ifndef CLICKSTREAM_ROLLUP_NET_H
#define CLICKSTREAM_ROLLUP_NET_H

#include "postgres.h"

#include "utils/tuplestore.h"

#include "rollup_merge.h"

/*
 * The states that add `fresh` and take `old` away at once, one for each group; either may be NULL.  What cannot be
 * taken away exactly is only added.  A group that comes out as it was is left out.
 */
extern Tuplestorestate *rollup_net_states(const RollupMerge *merge, Tuplestorestate *old, Tuplestorestate *fresh);

#endif							/* CLICKSTREAM_ROLLUP_NET_H */
