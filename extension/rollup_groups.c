/*
 * rollup_groups.c
 *		Some groups of a rollup, as their states in a tuplestore: chosen among others, put in place.
 *
 * What rollup_recompute.c, rollup_refresh.c and rollup_subtract.c have in common.  Reads no raw rows, and
 * decides nothing about locks or snapshots.
 */
#include "postgres.h"

#include "rollup_groups.h"

Tuplestorestate *
rollup_groups_filter(RollupMerge *merge, Tuplestorestate *states, bool among, Tuplestorestate *others,
					 const bool *null_keys)
{
	RollupRelation relations[] = {{"_states", states}, {"_others", others}};

	return rollup_merge_select(merge,
							   psprintf("SELECT %s FROM _states s WHERE %s (SELECT FROM _others o WHERE %s)",
										rollup_merge_states_columns(merge, "s"),
										among ? "EXISTS" : "NOT EXISTS",
										rollup_merge_match(merge, "o", "s", null_keys)),
							   relations, lengthof(relations));
}

void
rollup_groups_put_in_place(RollupMerge *merge, Tuplestorestate *groups, Tuplestorestate *now)
{
	if (tuplestore_tuple_count(now) > 0)
		rollup_merge_run(merge, ROLLUP_REPLACE, now);
	if (tuplestore_tuple_count(now) < tuplestore_tuple_count(groups))
		rollup_merge_remove(merge, groups, now);
}
