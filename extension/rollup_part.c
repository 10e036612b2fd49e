/*
 * rollup_part.c
 *		A rollup's query over a part of its target: some blocks of one leaf, as they were at a moment.
 *
 * Called by rollup_states.c.  Knows nothing of how a target is divided (rollup_portions.c).
 *
 * A snapshot cannot be kept for another process, nor by one that ends.  What a snapshot saw, though, can be told later
 * from who wrote a row: that is in the row.  What has been deleted since is not seen any more, but whoever deleted it
 * has noted its group (rollup_note.c).
 */
#include "postgres.h"

#include "access/attmap.h"
#include "access/sysattr.h"
#include "access/table.h"
#include "access/transam.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/parse_func.h"
#include "parser/parse_relation.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteManip.h"
#include "storage/itemptr.h"
#include "utils/array.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "compat.h"
#include "rollup_part.h"

PG_FUNCTION_INFO_V1(clickstream_written_before);

/* ---------------------------------------------------------------- who wrote a row */

static bool
is_among(int64 value, const int64 *sorted, int n)
{
	int			low = 0;

	while (n > 0)
	{
		int			half = n / 2;

		if (sorted[low + half] == value)
			return true;
		if (sorted[low + half] < value)
		{
			low += half + 1;
			n -= half + 1;
		}
		else
			n = half;
	}
	return false;
}

/*
 * _written_before(writer, horizon, running): whether that transaction had ended at the moment.  Numbers of transactions
 * are compared as they are: rollup_portions.c sees to it that none has been given twice.
 */
Datum
clickstream_written_before(PG_FUNCTION_ARGS)
{
	int64		writer = PG_GETARG_TRANSACTIONID(0);
	ArrayType  *running;

	if (writer >= PG_GETARG_INT64(1))
		PG_RETURN_BOOL(false);
	running = PG_GETARG_ARRAYTYPE_P(2);
	if (ARR_HASNULL(running) || ARR_ELEMTYPE(running) != INT8OID)
		elog(ERROR, "not an array of transactions");
	PG_RETURN_BOOL(!is_among(writer, (const int64 *) ARR_DATA_PTR(running),
							 ArrayGetNItems(ARR_NDIM(running), ARR_DIMS(running))));
}

static Const *
running_const(const Fill *moment)
{
	Datum	   *values = palloc(sizeof(Datum) * Max(moment->n_running, 1));
	int			i;

	for (i = 0; i < moment->n_running; i++)
		values[i] = Int64GetDatum(moment->running[i]);
	return makeConst(INT8ARRAYOID, -1, InvalidOid, -1,
					 PointerGetDatum(construct_array(values, moment->n_running, INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
													 TYPALIGN_DOUBLE)),
					 false, false);
}

static Node *
written_before(int target_index, const Fill *moment)
{
	Oid			types[] = {XIDOID, INT8OID, INT8ARRAYOID};
	Oid			function = LookupFuncName(list_make2(makeString("clickstream"), makeString("_written_before")),
										  lengthof(types), types, false);
	Var		   *writer = makeVar(target_index, MinTransactionIdAttributeNumber, XIDOID, -1, InvalidOid, 0);
	Const	   *horizon = makeConst(INT8OID, -1, InvalidOid, sizeof(int64), Int64GetDatum(moment->horizon), false,
									FLOAT8PASSBYVAL);

	return (Node *) makeFuncExpr(function, BOOLOID, list_make3(writer, horizon, running_const(moment)), InvalidOid,
								 InvalidOid, COERCE_EXPLICIT_CALL);
}

/* ---------------------------------------------------------------- where it is */

static Node *
compared_with_block(int target_index, Oid operator, int64 block)
{
	ItemPointer place = palloc0(sizeof(ItemPointerData));
	Expr	   *clause;

	ItemPointerSet(place, (BlockNumber) block, 0);
	clause = make_opclause(operator, BOOLOID, false,
						   (Expr *) makeVar(target_index, SelfItemPointerAttributeNumber, TIDOID, -1, InvalidOid, 0),
						   (Expr *) makeConst(TIDOID, -1, InvalidOid, sizeof(ItemPointerData), PointerGetDatum(place),
											  false, false),
						   InvalidOid, InvalidOid);
	set_opfuncid((OpExpr *) clause);
	return (Node *) clause;
}

List *
rollup_part_conditions(int target_index, const RollupPart *part)
{
	List	   *conditions = list_make1(written_before(target_index, part->moment));

	if (part->is_whole)
		return conditions;
	return lappend(lappend(conditions, compared_with_block(target_index, TIDGreaterEqOperator, part->from)),
				   compared_with_block(target_index, TIDLessOperator, part->to));
}

/* ---------------------------------------------------------------- the leaf instead of the target */

static Query *
with_columns_of_leaf(Query *query, int target_index, Oid target, Oid leaf)
{
	Relation	from = table_open(target, NoLock);
	Relation	to = table_open(leaf, NoLock);
	AttrMap    *map = compat_build_attrmap_by_name(RelationGetDescr(to), RelationGetDescr(from));
	bool		whole_row;

	query = (Query *) map_variable_attnos((Node *) query, target_index, 0, map, RelationGetForm(to)->reltype, &whole_row);
	free_attrmap(map);
	table_close(to, NoLock);
	table_close(from, NoLock);
	return query;
}

static Oid
owner_of(Oid table)
{
	Relation	relation = table_open(table, NoLock);
	Oid			owner = relation->rd_rel->relowner;

	table_close(relation, NoLock);
	return owner;
}

/*
 * Rights are those on the target, not on the leaf, as for any query over the target; the entry that asks for them
 * stays, and is read by nobody.
 */
Query *
rollup_part_of_query(Query *query, int target_index, const RollupPart *part)
{
	RangeTblEntry *rte = rt_fetch(target_index, query->rtable);
	RangeTblEntry *asking = copyObject(rte);

	if (rte->relid != part->leaf)
		query = with_columns_of_leaf(query, target_index, rte->relid, part->leaf);
	rte = rt_fetch(target_index, query->rtable);
	rte->relid = part->leaf;
	rte->relkind = get_rel_relkind(part->leaf);
	rte->inh = false;
	compat_ask_as_owner(query, rte, owner_of(part->leaf));
	asking->inh = false;
	asking->securityQuals = NIL;
	query->rtable = lappend(query->rtable, asking);
	return query;
}
