/*
 * rollup_order.c
 *		The order in which groups are locked and written: the same for everybody, so that nobody waits in a circle.
 *
 * Called by whoever writes groups, by a statement (rollup_merge_sql.c) or without one (rollup_upsert.c): both
 * must agree.  Decides by the catalog alone; reads no rows.
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

#include "rollup_order.h"

/* That of bytes is cheaper than a language's, where they tell the same values apart. */
static bool
is_by_bytes(const RollupMerge *merge, AttrNumber key, Oid *collation)
{
	Oid			type;
	int32		typmod;

	get_atttypetypmodcoll(merge->rollup, key, &type, &typmod, collation);
	return type == TEXTOID && get_collation_isdeterministic(*collation);
}

RollupOrder *
rollup_order_of(const RollupMerge *merge)
{
	List	   *keys = rollup_query_keys(merge->query);
	RollupOrder *order = palloc(sizeof(RollupOrder));
	int			n = list_length(keys);
	ListCell   *cell;

	order->n_keys = n;
	order->columns = palloc(sizeof(AttrNumber) * n);
	order->operators = palloc(sizeof(Oid) * n);
	order->collations = palloc(sizeof(Oid) * n);
	order->nulls_first = palloc0(sizeof(bool) * n);
	foreach(cell, keys)
	{
		int			i = foreach_current_index(cell);
		Oid			type = TupleDescAttr(merge->states_desc, i)->atttypid;

		order->columns[i] = i + 1;
		order->operators[i] = lookup_type_cache(type, TYPECACHE_LT_OPR)->lt_opr;
		if (is_by_bytes(merge, lfirst_int(cell), &order->collations[i]))
			order->collations[i] = C_COLLATION_OID;
	}
	return order;
}

Tuplesortstate *
rollup_order_begin(const RollupOrder *order, TupleDesc states_desc)
{
	return tuplesort_begin_heap(states_desc, order->n_keys, order->columns, order->operators, order->collations,
								order->nulls_first, work_mem, NULL, TUPLESORT_NONE);
}

void
rollup_order_append(StringInfo sql, const RollupMerge *merge)
{
	ListCell   *cell;

	appendStringInfoString(sql, " ORDER BY ");
	foreach(cell, rollup_query_keys(merge->query))
	{
		Oid			collation;

		appendStringInfo(sql, "%ss.%s%s", foreach_current_index(cell) > 0 ? ", " : "",
						 rollup_merge_column(merge, lfirst_int(cell)),
						 is_by_bytes(merge, lfirst_int(cell), &collation) ? " COLLATE pg_catalog.\"C\"" : "");
	}
}

bool
rollup_order_same_group(const RollupOrder *order, TupleTableSlot *one, TupleTableSlot *other)
{
	for (int i = 0; i < order->n_keys; i++)
	{
		Oid			type = TupleDescAttr(one->tts_tupleDescriptor, i)->atttypid;
		bool		is_null,
					other_is_null;
		Datum		value = slot_getattr(one, i + 1, &is_null),
					other_value = slot_getattr(other, i + 1, &other_is_null);

		if (is_null != other_is_null)
			return false;
		if (!is_null &&
			DatumGetInt32(FunctionCall2Coll(&lookup_type_cache(type, TYPECACHE_CMP_PROC_FINFO)->cmp_proc_finfo,
											order->collations[i], value, other_value)) != 0)
			return false;
	}
	return true;
}
