/*
 * rollup_merge_sql.c
 *		The statements that write states of groups into a rollup's table, as text.
 *
 * Called by rollup_merge.c, which runs them.  States stand in a named tuplestore, `_states`, and go in by one
 * INSERT … ON CONFLICT DO UPDATE, in the order of the keys, so that two of them cannot deadlock:
 *
 *	INSERT INTO rollup AS r (page, views, path_length, _path_length)
 *	SELECT s.page, s.views, _finish(… s._path_length …), s._path_length FROM _states s ORDER BY s.page
 *	ON CONFLICT (page) DO UPDATE SET (views, path_length, _path_length) =
 *		(SELECT s.views, _finish(… s._path_length …), s._path_length
 *		 FROM (SELECT excluded.page, int8pl(r.views, excluded.views) AS views,
 *					  _combine(… r._path_length, excluded._path_length) AS _path_length OFFSET 0) s)
 *
 * The text is made from catalog names alone, never from data, and is for a search_path that only
 * reaches pg_catalog: every other name in it is qualified.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_operator.h"
#include "optimizer/optimizer.h"
#include "optimizer/tlist.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/ruleutils.h"
#include "utils/syscache.h"

#include "rollup_merge_sql.h"
#include "rollup_order.h"
#include "rollup_values.h"
#include "statement.h"

/* ---------------------------------------------------------------- names */

const char *
rollup_merge_column(const RollupMerge *merge, AttrNumber column)
{
	return quote_identifier(get_attname(merge->rollup, column, false));
}

static const char *
equality(const RollupMerge *merge, AttrNumber key)
{
	Oid			operator = InvalidOid;
	HeapTuple	tuple;
	Form_pg_operator form;
	char	   *text;

	if (merge->query->is_single_group)
		operator = BooleanEqualOperator;
	else
	{
		TargetEntry *entry = list_nth_node(TargetEntry, merge->query->query->targetList, key - 1);

		operator = get_sortgroupref_clause(entry->ressortgroupref,
										   merge->query->query->groupClause)->eqop;
	}
	tuple = SearchSysCache1(OPEROID, ObjectIdGetDatum(operator));
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for operator %u", operator);
	form = (Form_pg_operator) GETSTRUCT(tuple);
	text = psprintf("OPERATOR(%s.%s)", quote_identifier(get_namespace_name(form->oprnamespace)),
					NameStr(form->oprname));
	ReleaseSysCache(tuple);
	return text;
}

const char *
rollup_merge_table(const RollupMerge *merge)
{
	return qualified_name(merge->rollup);
}

static void
append_columns(StringInfo sql, const RollupMerge *merge, List *columns, const char *prefix)
{
	ListCell   *cell;

	foreach(cell, columns)
		appendStringInfo(sql, "%s%s%s", foreach_current_index(cell) > 0 ? ", " : "", prefix,
						 rollup_merge_column(merge, lfirst_int(cell)));
}

/* k1, k2, each after the prefix */
static void
append_keys(StringInfo sql, const RollupMerge *merge, const char *prefix)
{
	append_columns(sql, merge, rollup_query_keys(merge->query), prefix);
}

static const char *
columns_of(const RollupMerge *merge, List *columns, const char *alias)
{
	StringInfoData sql;

	initStringInfo(&sql);
	append_columns(&sql, merge, columns, psprintf("%s.", alias));
	return sql.data;
}

const char *
rollup_merge_key_columns(const RollupMerge *merge, const char *alias)
{
	return columns_of(merge, rollup_query_keys(merge->query), alias);
}

const char *
rollup_merge_states_columns(const RollupMerge *merge, const char *alias)
{
	return columns_of(merge, rollup_query_state_columns(merge->query), alias);
}

const char *
rollup_merge_rows_column(const RollupMerge *merge)
{
	RollupAggregate *rows = list_nth(merge->query->aggregates, merge->query->rows);

	return rollup_merge_column(merge, rows->column);
}

const char *
rollup_merge_match(const RollupMerge *merge, const char *left, const char *right,
				   const bool *null_keys)
{
	StringInfoData sql;
	ListCell   *cell;

	initStringInfo(&sql);
	foreach(cell, rollup_query_keys(merge->query))
	{
		const char *column = rollup_merge_column(merge, lfirst_int(cell));

		appendStringInfo(&sql, "%s(%s.%s %s %s.%s", foreach_current_index(cell) > 0 ? " AND " : "",
						 left, column, equality(merge, lfirst_int(cell)), right, column);
		if (null_keys[foreach_current_index(cell)])
			appendStringInfo(&sql, " OR (%s.%s IS NULL AND %s.%s IS NULL)", left, column, right, column);
		appendStringInfoChar(&sql, ')');
	}
	return sql.data;
}

/* ---------------------------------------------------------------- the statements */

/* the value of each column of the table, from a relation `s` that has the keys and states */
static const char **
column_values(const RollupMerge *merge)
{
	const char **values = palloc0(sizeof(char *) * (merge->query->n_columns + 1));
	List	   *context = deparse_context_for("s", merge->rollup);
	ListCell   *cell;

	foreach(cell, rollup_query_state_columns(merge->query))
		values[lfirst_int(cell)] = psprintf("s.%s", rollup_merge_column(merge, lfirst_int(cell)));
	foreach(cell, merge->query->outputs)
	{
		RollupOutput *output = lfirst(cell);
		AttrNumber	column = foreach_current_index(cell) + 1;

		if (values[column] == NULL)
			values[column] = deparse_expression(rollup_value_of(merge, output->value), context, true,
												false);
	}
	return values;
}

static void
append_combined(StringInfo sql, const RollupMerge *merge, const RollupAggregate *aggregate)
{
	const char *column = rollup_merge_column(merge, aggregate->column);
	int			i;

	if (rollup_combines_plain_values(aggregate))
	{
		appendStringInfo(sql, "coalesce(pg_catalog.%s(r.%s, excluded.%s), r.%s, excluded.%s)",
						 quote_identifier(get_func_name(aggregate->combine)), column, column, column,
						 column);
		return;
	}
	/* a row that was made to be locked has no states */
	if (rollup_merge_defers(merge))
		appendStringInfo(sql, "CASE WHEN r.%s = 0 THEN excluded.%s ELSE ", rollup_merge_rows_column(merge), column);
	appendStringInfo(sql, "clickstream._combine($1, %u, '{", aggregate->aggref->aggfnoid);
	for (i = 0; i < aggregate->n_arguments; i++)
		appendStringInfo(sql, "%s%u", i > 0 ? "," : "", aggregate->argument_types[i]);
	appendStringInfo(sql, "}', %u, r.%s, excluded.%s)%s", aggregate->aggref->inputcollid, column, column,
					 rollup_merge_defers(merge) ? " END" : "");
}

/* a column that has to be computed from the states, beyond the states themselves */
static bool
is_derived(const RollupOutput *output)
{
	return !output->is_key && !output->is_state;
}

static bool
has_derived_columns(const RollupMerge *merge)
{
	ListCell   *cell;

	foreach(cell, merge->query->outputs)
	{
		if (is_derived(lfirst(cell)))
			return true;
	}
	return false;
}

static bool
may_be_null(Oid relation, AttrNumber column)
{
	HeapTuple	tuple = SearchSysCache2(ATTNUM, ObjectIdGetDatum(relation), Int16GetDatum(column));
	bool		may = HeapTupleIsValid(tuple) && !((Form_pg_attribute) GETSTRUCT(tuple))->attnotnull;

	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	return may;
}

/* An owner who said NOT NULL of a value wants one from the start. */
bool
rollup_merge_defers(const RollupMerge *merge)
{
	bool		defers = false;
	ListCell   *cell;

	foreach(cell, merge->query->outputs)
	{
		const RollupOutput *output = lfirst(cell);

		if (output->is_key)
			continue;
		if (!may_be_null(merge->rollup, foreach_current_index(cell) + 1))
			return false;
		defers |= is_derived(output) && !IsA(output->value, Aggref);
	}
	return defers;
}

/* values of which none is computed */
static const char **
without_derived(const RollupMerge *merge, const char **values)
{
	const char **kept = palloc0(sizeof(char *) * (merge->query->n_columns + 1));
	ListCell   *cell;

	memcpy(kept, values, sizeof(char *) * (merge->query->n_columns + 1));
	foreach(cell, merge->query->outputs)
	{
		if (is_derived(lfirst(cell)))
			kept[foreach_current_index(cell) + 1] = "NULL";
	}
	return kept;
}

/* values that stay as they are in the row where arithmetic does not know the outcome */
static const char **
unless_doubtful(const RollupMerge *merge, const char **values)
{
	const char **kept = palloc0(sizeof(char *) * (merge->query->n_columns + 1));
	ListCell   *cell;

	memcpy(kept, values, sizeof(char *) * (merge->query->n_columns + 1));
	foreach(cell, merge->query->outputs)
	{
		AttrNumber	column = foreach_current_index(cell) + 1;

		if (is_derived(lfirst(cell)))
			kept[column] = psprintf("CASE WHEN s.%s <= 0%s THEN r.%s ELSE %s END", rollup_merge_rows_column(merge),
									rollup_merge_zero_sums(merge, "s"), rollup_merge_column(merge, column),
									values[column]);
	}
	return kept;
}

const char *
rollup_merge_zero_sums(const RollupMerge *merge, const char *alias)
{
	StringInfoData sql;
	ListCell   *cell;

	initStringInfo(&sql);
	foreach(cell, merge->query->aggregates)
	{
		const RollupAggregate *aggregate = lfirst(cell);

		if (rollup_query_is_sum_of_integers(aggregate))
			appendStringInfo(&sql, " OR %s.%s = 0", alias, rollup_merge_column(merge, aggregate->column));
	}
	return sql.data;
}

/* INSERT INTO rollup AS r (all columns) SELECT their values FROM _states s */
static void
append_insert(StringInfo sql, const RollupMerge *merge, const char **values)
{
	int			i;

	appendStringInfoString(sql, "INSERT INTO ");
	appendStringInfoString(sql, rollup_merge_table(merge));
	appendStringInfoString(sql, " AS r (");
	for (i = 1; i <= merge->query->n_columns; i++)
		appendStringInfo(sql, "%s%s", i > 1 ? ", " : "", rollup_merge_column(merge, i));
	appendStringInfoString(sql, ") SELECT ");
	for (i = 1; i <= merge->query->n_columns; i++)
		appendStringInfo(sql, "%s%s", i > 1 ? ", " : "", values[i]);
	appendStringInfoString(sql, " FROM _states s");
	rollup_order_append(sql, merge);
	appendStringInfoString(sql, " ON CONFLICT (");
	append_keys(sql, merge, "");
	appendStringInfoString(sql, ") DO UPDATE SET ");
}

static void
append_set_states(StringInfo sql, const RollupMerge *merge)
{
	ListCell   *cell;

	foreach(cell, merge->query->aggregates)
	{
		RollupAggregate *aggregate = lfirst(cell);

		appendStringInfo(sql, "%s%s = ", foreach_current_index(cell) > 0 ? ", " : "",
						 rollup_merge_column(merge, aggregate->column));
		append_combined(sql, merge, aggregate);
	}
}

/* (columns) = (SELECT their values FROM (SELECT keys and combined states OFFSET 0) s) */
static void
append_set_all(StringInfo sql, const RollupMerge *merge, const char **values)
{
	List	   *keys = rollup_query_keys(merge->query);
	StringInfoData select;
	const char *comma = "";
	ListCell   *cell;
	int			i;

	initStringInfo(&select);
	appendStringInfoChar(sql, '(');
	for (i = 1; i <= merge->query->n_columns; i++)
	{
		if (list_member_int(keys, i))
			continue;
		appendStringInfo(sql, "%s%s", comma, rollup_merge_column(merge, i));
		appendStringInfo(&select, "%s%s", comma, values[i]);
		comma = ", ";
	}
	appendStringInfo(sql, ") = (SELECT %s FROM (SELECT ", select.data);
	append_keys(sql, merge, "excluded.");
	foreach(cell, merge->query->aggregates)
	{
		RollupAggregate *aggregate = lfirst(cell);

		appendStringInfoString(sql, ", ");
		append_combined(sql, merge, aggregate);
		appendStringInfo(sql, " AS %s", rollup_merge_column(merge, aggregate->column));
	}
	appendStringInfoString(sql, " OFFSET 0) s)");
}

static void
append_set_excluded(StringInfo sql, const RollupMerge *merge)
{
	List	   *keys = rollup_query_keys(merge->query);
	const char *comma = "";
	int			i;

	for (i = 1; i <= merge->query->n_columns; i++)
	{
		const char *column = rollup_merge_column(merge, i);

		if (list_member_int(keys, i))
			continue;
		appendStringInfo(sql, "%s%s = excluded.%s", comma, column, column);
		comma = ", ";
	}
}

/* values that an owner wants from the start: those of the new states must do until others take their place */
static void
append_wanted(StringInfo names, StringInfo values, const RollupMerge *merge)
{
	const char **all = column_values(merge);
	List	   *keys = rollup_query_keys(merge->query);
	AttrNumber	rows = ((RollupAggregate *) list_nth(merge->query->aggregates, merge->query->rows))->column;

	for (int i = 1; i <= merge->query->n_columns; i++)
	{
		if (list_member_int(keys, i) || i == rows || may_be_null(merge->rollup, i))
			continue;
		appendStringInfo(names, ", %s", rollup_merge_column(merge, i));
		appendStringInfo(values, ", %s", all[i]);
	}
}

/* INSERT INTO rollup AS r (keys, rows) SELECT keys, 0 FROM _states s, where they are not there */
static void
append_lock(StringInfo sql, const RollupMerge *merge)
{
	const char *rows_column = rollup_merge_rows_column(merge);
	StringInfoData values;

	initStringInfo(&values);
	append_keys(&values, merge, "s.");
	appendStringInfoString(&values, ", 0");
	appendStringInfo(sql, "INSERT INTO %s AS r (", rollup_merge_table(merge));
	append_keys(sql, merge, "");
	appendStringInfo(sql, ", %s", rows_column);
	append_wanted(sql, &values, merge);
	appendStringInfo(sql, ") SELECT %s FROM _states s", values.data);
	rollup_order_append(sql, merge);
	appendStringInfoString(sql, " ON CONFLICT (");
	append_keys(sql, merge, "");
	appendStringInfo(sql, ") DO UPDATE SET %s = r.%s WHERE false", rows_column, rows_column);
}

static void
append_addition(StringInfo sql, const RollupMerge *merge, bool takes)
{
	const char **values = column_values(merge);

	append_insert(sql, merge, rollup_merge_defers(merge) ? without_derived(merge, values) : values);
	if (!has_derived_columns(merge))
		append_set_states(sql, merge);
	else
		append_set_all(sql, merge, takes ? unless_doubtful(merge, values) : values);
}

const char *
rollup_merge_statement(const RollupMerge *merge, RollupMergeKind kind)
{
	StringInfoData sql;

	initStringInfo(&sql);
	switch (kind)
	{
		case ROLLUP_ADD:
		case ROLLUP_TAKE:
			append_addition(&sql, merge, kind == ROLLUP_TAKE);
			break;
		case ROLLUP_REPLACE:
			append_insert(&sql, merge, column_values(merge));
			append_set_excluded(&sql, merge);
			break;
		default:
			append_lock(&sql, merge);
	}
	return sql.data;
}

/* DELETE of the groups in _states that are not in _left */
const char *
rollup_merge_removal(const RollupMerge *merge, const bool *null_keys)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfoString(&sql, "DELETE FROM ");
	appendStringInfoString(&sql, rollup_merge_table(merge));
	appendStringInfoString(&sql, " r USING (SELECT ");
	append_keys(&sql, merge, "");
	appendStringInfoString(&sql, " FROM _states EXCEPT SELECT ");
	append_keys(&sql, merge, "");
	appendStringInfo(&sql, " FROM _left) s WHERE %s", rollup_merge_match(merge, "r", "s", null_keys));
	return sql.data;
}
