/*
 * rollup_merge.c
 *		Writes states of groups into a rollup's table.
 *
 * Called by rollup_delta.c and its neighbours, which compute those states and know nothing of the table; this file
 * knows nothing of where they come from.  Where the table allows it they are added without a statement, by
 * rollup_upsert.c; else by the statements of rollup_merge_sql.c, which see them as a relation, `_states`.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "catalog/namespace.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_func.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "rollup_merge.h"
#include "rollup_merge_sql.h"
#include "rollup_partition.h"
#include "rollup_state.h"
#include "rollup_upsert.h"
#include "rollup_values.h"
#include "statement.h"

/*
 * Backend-local: the statement of ours that is about to run, and which events of the guard trigger on its
 * table are still to come from it.  Each comes once, before a row is looked at, so before any function of the
 * user's runs; who comes later, or instead, is somebody else.
 */
static struct
{
	Oid			rollup;
	bool		inserts;
	bool		updates;
	bool		deletes;
}			expected;

static bool
take_expected(bool *event)
{
	bool		was = *event;

	*event = false;
	return was;
}

bool
rollup_merge_expects(Oid relation, TriggerEvent event)
{
	if (relation != expected.rollup || !OidIsValid(relation))
		return false;
	if (TRIGGER_FIRED_BY_INSERT(event))
		return take_expected(&expected.inserts);
	if (TRIGGER_FIRED_BY_UPDATE(event))
		return take_expected(&expected.updates);
	return TRIGGER_FIRED_BY_DELETE(event) && take_expected(&expected.deletes);
}

/* ---------------------------------------------------------------- their execution */

void
rollup_merge_does_not_fit(Oid rollup)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("the columns of \"%s\" do not fit its definition", get_rel_name(rollup)),
			 errhint("Drop the rollup with clickstream.drop_rollup, and make it again.")));
}

static void
require_columns(const RollupMerge *merge)
{
	int			n;

	for (n = 1; n <= merge->query->n_columns; n++)
	{
		HeapTuple	tuple = SearchSysCache2(ATTNUM, ObjectIdGetDatum(merge->rollup), Int16GetDatum(n));
		bool		there = HeapTupleIsValid(tuple) &&
			!((Form_pg_attribute) GETSTRUCT(tuple))->attisdropped;

		if (HeapTupleIsValid(tuple))
			ReleaseSysCache(tuple);
		if (!there)
			rollup_merge_does_not_fit(merge->rollup);
	}
}

/* the keys and states, under the names of the table's columns */
static TupleDesc
describe_states(const RollupMerge *merge)
{
	List	   *columns = rollup_query_state_columns(merge->query);
	TupleDesc	desc = CreateTemplateTupleDesc(list_length(columns));
	ListCell   *cell;

	foreach(cell, columns)
	{
		AttrNumber	n = foreach_current_index(cell) + 1;
		Oid			type;
		int32		typmod;
		Oid			collation;

		get_atttypetypmodcoll(merge->rollup, lfirst_int(cell), &type, &typmod, &collation);
		TupleDescInitEntry(desc, n, get_attname(merge->rollup, lfirst_int(cell), false), type, typmod,
						   0);
		TupleDescInitEntryCollation(desc, n, collation);
	}
	return desc;
}

RollupMerge *
rollup_merge_create(const RollupQuery *query, Oid rollup)
{
	RollupMerge *merge = palloc0(sizeof(RollupMerge));

	merge->query = query;
	merge->rollup = rollup;
	require_columns(merge);
	merge->states_desc = describe_states(merge);
	return merge;
}

void
rollup_merge_free(RollupMerge *merge)
{
	int			i;

	for (i = 0; i < ROLLUP_N_MERGES; i++)
	{
		if (merge->plans[i] != NULL)
			SPI_freeplan(merge->plans[i]);
		merge->plans[i] = NULL;
	}
}

static void
register_states(const RollupMerge *merge, const char *name, Tuplestorestate *states)
{
	show_rows(name, states, merge->states_desc);
}

static void
register_all(const RollupMerge *merge, const RollupRelation *relations, int n)
{
	int			i;

	for (i = 0; i < n; i++)
	{
		if (relations[i].states != NULL)
			show_rows(relations[i].name, relations[i].states,
					  relations[i].desc != NULL ? relations[i].desc : merge->states_desc);
	}
}

static SPIPlanPtr
prepare(const char *sql)
{
	SPIPlanPtr	plan = SPI_prepare(sql, 0, NULL);

	if (plan == NULL)
		elog(ERROR, "could not prepare \"%s\": %s", sql, SPI_result_code_string(SPI_result));
	return plan;
}

/* $1 is no part of the plan: whoever could see that would have it */
static SPIPlanPtr
prepare_with_pass(const char *sql)
{
	Oid			type = INT8OID;
	SPIPlanPtr	plan = SPI_prepare_cursor(sql, 1, &type, CURSOR_OPT_GENERIC_PLAN);

	if (plan == NULL)
		elog(ERROR, "could not prepare \"%s\": %s", sql, SPI_result_code_string(SPI_result));
	return plan;
}

static void
pin_search_path(void)
{
	if (strcmp(namespace_search_path, ROLLUP_SEARCH_PATH) != 0)
		(void) set_config_option("search_path", ROLLUP_SEARCH_PATH, PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
}

static int
begin_statement(void)
{
	int			level = NewGUCNestLevel();

	pin_search_path();
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	return level;
}

static void
expect(Oid rollup, bool inserts)
{
	expected.rollup = rollup;
	expected.inserts = expected.updates = inserts;
	expected.deletes = !inserts;
}

/* an INSERT with ON CONFLICT, or a DELETE */
static void
execute(const RollupMerge *merge, bool inserts, SPIPlanPtr plan, Datum *values, int level)
{
	int			result;

	expect(merge->rollup, inserts);
	PG_TRY();
	{
		result = SPI_execute_plan(plan, values, NULL, false, 0);
	}
	PG_FINALLY();
	{
		expect(InvalidOid, false);
	}
	PG_END_TRY();
	if (result < 0)
		elog(ERROR, "could not write a rollup: %s", SPI_result_code_string(result));
	SPI_finish();
	AtEOXact_GUC(true, level);
}

/* ---------------------------------------------------------------- states into the table */

/* An owner who took a right from himself gets the statement's error. */
static bool
may_write(Oid rollup)
{
	const AclMode needed = ACL_SELECT | ACL_INSERT | ACL_UPDATE;

	return pg_class_aclmask(rollup, GetUserId(), needed, ACLMASK_ALL) == needed;
}

bool
rollup_merge_adds_without_statement(RollupMerge *merge)
{
	if (!merge->looked_for_upsert)
	{
		MemoryContext caller = MemoryContextSwitchTo(GetMemoryChunkContext(merge));

		merge->upsert = rollup_upsert_create(merge);
		merge->looked_for_upsert = true;
		MemoryContextSwitchTo(caller);
	}
	return merge->upsert != NULL;
}

/* false if nothing was done */
static bool
run_upsert(RollupMerge *merge, Tuplestorestate *states, bool takes)
{
	int			level = NewGUCNestLevel();
	bool		done;

	if (rollup_upsert_needs_search_path(merge->upsert))
		pin_search_path();
	done = rollup_upsert_run(merge->upsert, states, takes);
	AtEOXact_GUC(true, level);
	return done;
}

static void
run_statement_of(RollupMerge *merge, RollupMergeKind kind, Tuplestorestate *states)
{
	int			level = begin_statement();
	Datum		pass;

	register_states(merge, "_states", states);
	if (merge->plans[kind] == NULL)
	{
		SPIPlanPtr	plan = prepare_with_pass(rollup_merge_statement(merge, kind));

		if (SPI_keepplan(plan) != 0)
			elog(ERROR, "could not keep a rollup's plan");
		merge->plans[kind] = plan;
	}
	pass = Int64GetDatum(rollup_state_pass());
	execute(merge, true, merge->plans[kind], &pass, level);
}

static bool
runs_without_statement(RollupMerge *merge, RollupMergeKind kind, Tuplestorestate *states)
{
	return (kind == ROLLUP_ADD || kind == ROLLUP_TAKE) && rollup_merge_adds_without_statement(merge) &&
		may_write(merge->rollup) && run_upsert(merge, states, kind == ROLLUP_TAKE);
}

void
rollup_merge_run(RollupMerge *merge, RollupMergeKind kind, Tuplestorestate *states)
{
	rollup_partitions_make(merge, states);
	if (runs_without_statement(merge, kind, states))
		return;
	if (kind != ROLLUP_REPLACE && kind != ROLLUP_LOCK && rollup_merge_defers(merge))
		run_statement_of(merge, ROLLUP_LOCK, states);
	run_statement_of(merge, kind, states);
}

void
rollup_merge_remove(RollupMerge *merge, Tuplestorestate *touched, Tuplestorestate *left)
{
	bool	   *null_keys = rollup_merge_null_keys(merge, touched);
	int			level = begin_statement();

	register_states(merge, "_states", touched);
	register_states(merge, "_left", left);
	execute(merge, false, prepare(rollup_merge_removal(merge, null_keys)), NULL, level);
}

Tuplestorestate *
rollup_merge_select(RollupMerge *merge, const char *sql, const RollupRelation *relations, int n)
{
	Tuplestorestate *states = tuplestore_begin_heap(true, false, work_mem);
	int			level = begin_statement();
	uint64		row;

	register_all(merge, relations, n);
	if (SPI_execute_plan(prepare(sql), NULL, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not execute \"%s\"", sql);
	for (row = 0; row < SPI_processed; row++)
		tuplestore_puttuple(states, SPI_tuptable->vals[row]);
	SPI_finish();
	AtEOXact_GUC(true, level);
	return states;
}

/* Not TRUNCATE: readers go on. */
void
rollup_merge_truncate(RollupMerge *merge)
{
	int			level = begin_statement();
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfoString(&sql, "DELETE FROM ");
	appendStringInfoString(&sql, rollup_merge_table(merge));
	execute(merge, false, prepare(sql.data), NULL, level);
}

void
rollup_merge_append_range(StringInfo sql, const RollupMerge *merge, const RollupRange *range)
{
	AttrNumber	time = rollup_query_time_column(merge->query);

	if (range != NULL && range->has_from)
		appendStringInfo(sql, " AND r.%s >= $1", rollup_merge_column(merge, time));
	if (range != NULL && range->has_to)
		appendStringInfo(sql, " AND r.%s < $2", rollup_merge_column(merge, time));
}

static void
execute_over_range(const char *sql, const RollupRange *range)
{
	Oid			types[] = {TIMESTAMPTZOID, TIMESTAMPTZOID};
	Datum		values[2] = {0, 0};

	if (range != NULL)
	{
		values[0] = TimestampTzGetDatum(range->from);
		values[1] = TimestampTzGetDatum(range->to);
	}
	if (SPI_execute_with_args(sql, 2, types, values, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not execute \"%s\"", sql);
}

RollupTotals
rollup_merge_totals(RollupMerge *merge, const RollupRange *range)
{
	RollupTotals totals;
	StringInfoData sql;
	int			level = begin_statement();
	bool		is_null;

	initStringInfo(&sql);
	appendStringInfo(&sql, "SELECT count(*), coalesce(sum(r.%s), 0)::int8 FROM %s r WHERE true",
					 rollup_merge_rows_column(merge), rollup_merge_table(merge));
	rollup_merge_append_range(&sql, merge, range);
	execute_over_range(sql.data, range);
	totals.groups = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1,
												&is_null));
	totals.rows = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2,
											  &is_null));
	SPI_finish();
	AtEOXact_GUC(true, level);
	return totals;
}

void
rollup_merge_retire(RollupMerge *merge, TimestampTz before)
{
	Oid			types[] = {TIMESTAMPTZOID};
	Datum		values[] = {TimestampTzGetDatum(before)};
	const char *table = rollup_merge_table(merge);
	int			level = begin_statement();
	StringInfoData sql;
	SPIPlanPtr	plan;

	initStringInfo(&sql);
	appendStringInfo(&sql, "DELETE FROM %s WHERE ctid = ANY (ARRAY(SELECT ctid FROM %s WHERE %s < $1 FOR UPDATE SKIP LOCKED))",
					 table, table, rollup_merge_column(merge, rollup_query_time_column(merge->query)));
	plan = SPI_prepare(sql.data, 1, types);
	if (plan == NULL)
		elog(ERROR, "could not prepare \"%s\"", sql.data);
	execute(merge, false, plan, values, level);
}

Tuplestorestate *
rollup_merge_groups(RollupMerge *merge, const RollupRange *range)
{
	Tuplestorestate *groups = tuplestore_begin_heap(true, false, work_mem);
	int			level = begin_statement();
	StringInfoData sql;
	uint64		row;

	initStringInfo(&sql);
	appendStringInfo(&sql, "SELECT %s FROM %s r WHERE true", rollup_merge_states_columns(merge, "r"),
					 rollup_merge_table(merge));
	rollup_merge_append_range(&sql, merge, range);
	execute_over_range(sql.data, range);
	for (row = 0; row < SPI_processed; row++)
		tuplestore_puttuple(groups, SPI_tuptable->vals[row]);
	SPI_finish();
	AtEOXact_GUC(true, level);
	return groups;
}

Tuplestorestate *
rollup_merge_select_at(RollupMerge *merge, const char *sql, const RollupRelation *relations, int n,
					   const RollupRange *range, Snapshot snapshot, TupleDesc *desc)
{
	MemoryContext caller = CurrentMemoryContext;
	Tuplestorestate *tuples = tuplestore_begin_heap(true, false, work_mem);
	int			level = begin_statement();
	Oid			types[] = {TIMESTAMPTZOID, TIMESTAMPTZOID};
	Datum		values[] = {TimestampTzGetDatum(range->from), TimestampTzGetDatum(range->to)};
	SPIPlanPtr	plan;
	uint64		row;

	register_all(merge, relations, n);
	plan = SPI_prepare(sql, 2, types);
	if (plan == NULL ||
		SPI_execute_snapshot(plan, values, NULL, snapshot, InvalidSnapshot, true, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not execute \"%s\"", sql);
	for (row = 0; row < SPI_processed; row++)
		tuplestore_puttuple(tuples, SPI_tuptable->vals[row]);
	MemoryContextSwitchTo(caller);
	*desc = CreateTupleDescCopy(SPI_tuptable->tupdesc);
	SPI_finish();
	AtEOXact_GUC(true, level);
	return tuples;
}

int64
rollup_merge_rows_of(RollupMerge *merge, Tuplestorestate *states)
{
	TupleTableSlot *slot = MakeSingleTupleTableSlot(merge->states_desc, &TTSOpsMinimalTuple);
	int			rows = list_length(rollup_query_keys(merge->query)) + merge->query->rows + 1;
	int64		sum = 0;
	bool		is_null;

	tuplestore_rescan(states);
	while (tuplestore_gettupleslot(states, true, false, slot))
		sum += DatumGetInt64(slot_getattr(slot, rows, &is_null));
	tuplestore_rescan(states);
	ExecDropSingleTupleTableSlot(slot);
	return sum;
}

bool *
rollup_merge_null_keys(RollupMerge *merge, Tuplestorestate *states)
{
	int			n = list_length(rollup_query_keys(merge->query));
	bool	   *nulls = palloc0(sizeof(bool) * n);
	TupleTableSlot *slot = MakeSingleTupleTableSlot(merge->states_desc, &TTSOpsMinimalTuple);
	int			i;

	tuplestore_rescan(states);
	while (tuplestore_gettupleslot(states, true, false, slot))
	{
		for (i = 0; i < n; i++)
			nulls[i] |= slot_attisnull(slot, i + 1);
	}
	tuplestore_rescan(states);
	ExecDropSingleTupleTableSlot(slot);
	return nulls;
}
