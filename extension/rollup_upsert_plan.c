/*
 * rollup_upsert_plan.c
 *		What a merge without a statement needs to know of a rollup's table, made once.
 *
 * Called by rollup_merge.c.  Reads the catalog, writes nothing.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "rewrite/rewriteManip.h"
#include "utils/partcache.h"
#include "utils/rel.h"

#include "rollup_state.h"
#include "rollup_upsert_internal.h"
#include "rollup_values.h"

/* ---------------------------------------------------------------- columns */

static void
list_columns(RollupUpsert *upsert, const RollupMerge *merge)
{
	List	   *columns = rollup_query_state_columns(merge->query);
	ListCell   *cell;

	upsert->n_keys = list_length(rollup_query_keys(merge->query));
	upsert->n_states = list_length(columns);
	upsert->columns = palloc(sizeof(AttrNumber) * upsert->n_states);
	foreach(cell, columns)
		upsert->columns[foreach_current_index(cell)] = lfirst_int(cell);
}

/* what says that arithmetic does not know the outcome */
static void
list_doubts(RollupUpsert *upsert, const RollupQuery *query)
{
	ListCell   *cell;

	upsert->is_single_group = query->is_single_group;
	upsert->rows_column = ((RollupAggregate *) list_nth(query->aggregates, query->rows))->column;
	foreach(cell, query->aggregates)
	{
		const RollupAggregate *aggregate = lfirst(cell);

		if (rollup_query_is_sum_of_integers(aggregate))
			upsert->sums = bms_add_member(upsert->sums, aggregate->column);
	}
}

static ExprState *
ready(Node *expression)
{
	return ExecInitExpr(expression_planner((Expr *) expression), NULL);
}

static void
make_expressions(RollupUpsert *upsert, const RollupMerge *merge)
{
	ListCell   *cell;

	upsert->aggregates = palloc0(sizeof(Computed) * Max(upsert->n_states, 1));
	foreach(cell, merge->query->aggregates)
	{
		const RollupAggregate *aggregate = lfirst(cell);
		Computed   *computed = &upsert->aggregates[upsert->n_aggregates++];

		computed->column = aggregate->column;
		computed->state = upsert->n_keys + upsert->n_aggregates;
		computed->expression = ready(rollup_combined(merge, aggregate, computed->state));
	}
	upsert->derived = palloc0(sizeof(Computed) * Max(list_length(merge->query->outputs), 1));
	foreach(cell, merge->query->outputs)
	{
		const RollupOutput *output = lfirst(cell);
		Computed   *computed = &upsert->derived[upsert->n_derived];

		if (output->is_key || output->is_state)
			continue;
		computed->column = foreach_current_index(cell) + 1;
		computed->expression = ready(rollup_value_of(merge, output->value));
		upsert->n_derived++;
	}
}

static bool
has_sub_select(const RollupQuery *query)
{
	ListCell   *cell;

	foreach(cell, query->outputs)
	{
		if (checkExprHasSubLink(((RollupOutput *) lfirst(cell))->value))
			return true;
	}
	return false;
}

/* ---------------------------------------------------------------- the whole */

/* how a partition is chosen: by a range of the time key, and nothing else */
static bool
is_partitioned_by_time(RollupUpsert *upsert, const RollupMerge *merge, Relation table)
{
	PartitionKey key = RelationGetPartitionKey(table);
	AttrNumber	time = rollup_query_time_column(merge->query);
	ListCell   *cell;

	if (key->strategy != PARTITION_STRATEGY_RANGE || key->partnatts != 1 || key->partattrs[0] != time)
		return false;
	foreach(cell, rollup_query_keys(merge->query))
	{
		if (lfirst_int(cell) == time)
			upsert->time_state = foreach_current_index(cell);
	}
	return true;
}

static bool
fits(RollupUpsert *upsert, const RollupMerge *merge, Relation table)
{
	if (has_sub_select(merge->query))
		return false;
	upsert->is_partitioned = table->rd_rel->relkind == RELKIND_PARTITIONED_TABLE;
	if (!upsert_table_is_plain(table, merge->query->n_columns))
		return false;
	return upsert->is_partitioned ? is_partitioned_by_time(upsert, merge, table) :
		upsert_index_find(&upsert->index, upsert, table);
}

RollupUpsert *
rollup_upsert_create(const RollupMerge *merge)
{
	RollupUpsert *upsert = palloc0(sizeof(RollupUpsert));
	Relation	table = table_open(merge->rollup, NoLock);
	bool		can;

	upsert->rollup = merge->rollup;
	list_columns(upsert, merge);
	can = fits(upsert, merge, table);
	if (can)
	{
		upsert->needs_search_path = merge->query->needs_search_path;
		upsert->order = rollup_order_of(merge);
		list_doubts(upsert, merge->query);
		upsert->states_desc = merge->states_desc;
		upsert->desc = CreateTupleDescCopy(RelationGetDescr(table));
		upsert->context = CreateStandaloneExprContext();
		upsert->context->ecxt_param_list_info = rollup_state_parameters();
		make_expressions(upsert, merge);
	}
	table_close(table, NoLock);
	return can ? upsert : NULL;
}

bool
rollup_upsert_needs_search_path(const RollupUpsert *upsert)
{
	return upsert->needs_search_path;
}
