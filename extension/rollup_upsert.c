/*
 * rollup_upsert.c
 *		Adds states of groups to the rows of a rollup's table, without a statement.
 *
 * Called by rollup_merge.c, for tables that have nothing but what create_rollup gave them and plain indexes;
 * it does just what INSERT … ON CONFLICT DO UPDATE there does, in the same order of keys, at less than half
 * the cost: a group is looked up in the index of the keys and its row is updated at once.  The statement
 * locks the row first, which writes the page and its log twice, and sets the executor up for each run.
 *
 * A row is read in whatever version is the newest, be it of a transaction under way, by a dirty snapshot.
 * Then three things can be:
 * - it is nobody's but ours or committed: the update goes to just this version, or is refused by the table
 *	 because there is a newer one by now;
 * - there is a newer one, or somebody is making one: wait in the row's queue, lock the last version, and add
 *	 to that one;
 * - there is none: a speculative insertion, which withdraws if somebody else's was earlier.
 * Under REPEATABLE READ a row that changed after the transaction's snapshot is a serialization failure.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/sysattr.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_index.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "rewrite/rewriteManip.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/tuplesort.h"
#include "utils/typcache.h"

#include "compat.h"
#include "rollup_state.h"
#include "rollup_trigger.h"
#include "rollup_upsert.h"
#include "rollup_values.h"

/* a page with less is looked through for old versions */
#define LITTLE_ROOM ((Size) BLCKSZ / 8)

/* a column of the table that is computed */
typedef struct Computed
{
	AttrNumber	column;
	AttrNumber	state;			/* of an aggregate: the number of its new state; else 0 */
	ExprState  *expression;
} Computed;

struct RollupUpsert
{
	Oid			rollup;
	bool		needs_search_path;
	int			n_states;		/* columns of the new states: keys first */
	int			n_keys;
	AttrNumber *columns;		/* where each of them is in the table */
	int			n_aggregates;
	Computed   *aggregates;		/* combined with what is there */
	int			n_derived;
	Computed   *derived;		/* of the row's own keys and states */
	List	   *indexes;		/* unique on the keys; the first is looked into */
	ScanKey		scan_keys;
	int		   *scan_states;	/* the state that each of them takes */
	int			n_sort_keys;
	AttrNumber *sort_columns;
	Oid		   *sort_operators;
	Oid		   *sort_collations;
	bool	   *nulls_first;
	TupleDesc	states_desc;
	TupleDesc	desc;			/* the table's; not the relation cache's, which is pinned for its user */
	ExprContext *context;
	Size		longest;		/* row that was met so far */

	/* of one run: what an error leaves in them belongs to a transaction that is gone */
	TupleTableSlot *fresh;		/* new states */
	TupleTableSlot *there;		/* a row of the table as it is */
	TupleTableSlot *row;		/* the same as it is to be */
};

/* one run; on the stack */
typedef struct Run
{
	RollupUpsert *upsert;
	Relation	table;
	Relation	index;
	IndexScanDesc scan;
	SnapshotData dirty;
	CommandId	command;
	ResultRelInfo *result;		/* made when an index has to get an entry */
	EState	   *estate;
} Run;

typedef enum Found
{
	NOTHING,
	NEWEST,						/* as far as can be seen */
	BEING_CHANGED
} Found;

/* ---------------------------------------------------------------- tables that are plain enough */

static bool
has_only_guards(const TriggerDesc *triggers)
{
	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		if (strncmp(triggers->triggers[i].tgname, ROLLUP_GUARD, strlen(ROLLUP_GUARD)) != 0)
			return false;
	}
	return true;
}

static bool
is_plain(Relation table, const RollupMerge *merge)
{
	TupleDesc	desc = RelationGetDescr(table);
	TupleConstr *constr = desc->constr;

	if (table->rd_tableam != GetHeapamTableAmRoutine() || table->rd_rel->relkind != RELKIND_RELATION || table->rd_rel->relispartition ||
		table->rd_rel->relhassubclass || table->rd_rel->relhasrules || table->rd_rel->relrowsecurity ||
		!has_only_guards(table->trigdesc) || desc->natts != merge->query->n_columns)
		return false;
	return constr == NULL ||
		(constr->num_check == 0 && !constr->has_generated_stored && !compat_has_virtual_columns(desc));
}

/* ---------------------------------------------------------------- setting up */

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

/* the number of the key that is this column of the table, from 0, or -1 */
static int
key_of_column(const RollupUpsert *upsert, AttrNumber column)
{
	for (int i = 0; i < upsert->n_keys; i++)
		if (upsert->columns[i] == column)
			return i;
	return -1;
}

static bool
is_on_keys(const RollupUpsert *upsert, Relation index, Relation table)
{
	Form_pg_index form = index->rd_index;

	if (!form->indisunique || !form->indisvalid || !form->indimmediate ||
		form->indnkeyatts != upsert->n_keys || index->rd_rel->relam != BTREE_AM_OID ||
		!heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, NULL))
		return false;
	for (int i = 0; i < upsert->n_keys; i++)
	{
		AttrNumber	column = form->indkey.values[i];

		if (column <= 0 || key_of_column(upsert, column) < 0 ||
			(!form->indnullsnotdistinct && !TupleDescAttr(RelationGetDescr(table), column - 1)->attnotnull))
			return false;
	}
	return true;
}

/* one `=` for each column of the index; values come with each group */
static void
make_scan_keys(RollupUpsert *upsert, Relation index)
{
	upsert->scan_keys = palloc(sizeof(ScanKeyData) * upsert->n_keys);
	upsert->scan_states = palloc(sizeof(int) * upsert->n_keys);
	for (int i = 0; i < upsert->n_keys; i++)
	{
		Oid			operator = get_opfamily_member(index->rd_opfamily[i], index->rd_opcintype[i],
												   index->rd_opcintype[i], BTEqualStrategyNumber);

		upsert->scan_states[i] = key_of_column(upsert, index->rd_index->indkey.values[i]);
		ScanKeyEntryInitialize(&upsert->scan_keys[i], 0, i + 1, BTEqualStrategyNumber, InvalidOid,
							   index->rd_indcollation[i], get_opcode(operator), (Datum) 0);
	}
}

static bool
find_indexes(RollupUpsert *upsert, Relation table)
{
	ListCell   *cell;

	foreach(cell, RelationGetIndexList(table))
	{
		Relation	index = index_open(lfirst_oid(cell), AccessShareLock);

		if (is_on_keys(upsert, index, table))
		{
			if (upsert->indexes == NIL)
				make_scan_keys(upsert, index);
			upsert->indexes = lappend_oid(upsert->indexes, lfirst_oid(cell));
		}
		index_close(index, AccessShareLock);
	}
	return upsert->indexes != NIL;
}

/* as ORDER BY of the statement has it: all who write must agree on it */
static void
make_order(RollupUpsert *upsert, const RollupMerge *merge)
{
	int			n = upsert->n_keys;

	upsert->sort_columns = palloc(sizeof(AttrNumber) * n);
	upsert->sort_operators = palloc(sizeof(Oid) * n);
	upsert->sort_collations = palloc(sizeof(Oid) * n);
	upsert->nulls_first = palloc0(sizeof(bool) * n);
	for (int i = 0; i < n; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(merge->states_desc, i);

		upsert->sort_columns[i] = i + 1;
		upsert->sort_operators[i] = lookup_type_cache(attribute->atttypid, TYPECACHE_LT_OPR)->lt_opr;
		upsert->sort_collations[i] = rollup_merge_order_collation(merge, upsert->columns[i]);
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

RollupUpsert *
rollup_upsert_create(const RollupMerge *merge)
{
	RollupUpsert *upsert = palloc0(sizeof(RollupUpsert));
	Relation	table = table_open(merge->rollup, NoLock);
	bool		fits;

	upsert->rollup = merge->rollup;
	list_columns(upsert, merge);
	fits = is_plain(table, merge) && !has_sub_select(merge->query) && find_indexes(upsert, table);
	if (fits)
	{
		upsert->needs_search_path = merge->query->needs_search_path;
		make_order(upsert, merge);
		upsert->states_desc = merge->states_desc;
		upsert->desc = CreateTupleDescCopy(RelationGetDescr(table));
		upsert->context = CreateStandaloneExprContext();
		upsert->context->ecxt_param_list_info = rollup_state_parameters();
		make_expressions(upsert, merge);
	}
	table_close(table, NoLock);
	return fits ? upsert : NULL;
}

bool
rollup_upsert_needs_search_path(const RollupUpsert *upsert)
{
	return upsert->needs_search_path;
}

/* ---------------------------------------------------------------- finding a group's row */

pg_noreturn static void
could_not_serialize(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("could not serialize access due to concurrent update")));
}

/* As ON CONFLICT DO UPDATE: what this transaction itself wrote after its snapshot is no conflict. */
static void
require_visible(Run *run)
{
	TupleTableSlot *there = run->upsert->there;
	bool		is_null;

	if (IsolationUsesXactSnapshot() &&
		!table_tuple_satisfies_snapshot(run->table, there, GetActiveSnapshot()) &&
		!TransactionIdIsCurrentTransactionId(DatumGetTransactionId(slot_getsysattr(there,
																				   MinTransactionIdAttributeNumber,
																				   &is_null))))
		could_not_serialize();
}

static void
wait_for_insertion(Run *run)
{
	TransactionId xid = run->dirty.xmin;
	ItemPointerData tid = run->upsert->there->tts_tid;
	uint32		token = run->dirty.speculativeToken;

	ExecClearTuple(run->upsert->there);
	if (token != 0)
		SpeculativeInsertionWait(xid, token);
	else
		XactLockTableWait(xid, run->table, &tid, XLTW_InsertIndex);
}

/*
 * A fetch by way of the index would prune the page each time, since the pages of a rollup are never filled
 * beyond their fillfactor: that costs more than the rest of the update.  So old versions may gather as long as
 * there is room for new ones.
 */
static void
prune_if_full(Run *run, Buffer buffer)
{
	if (PageGetHeapFreeSpace(BufferGetPage(buffer)) < Max(LITTLE_ROOM, 2 * run->upsert->longest))
		heap_page_prune_opt(run->table, buffer);
}

/* the version of a row that counts, of those that an index entry leads to */
static bool
fetch_version(Run *run, ItemPointerData tid)
{
	TupleTableSlot *there = run->upsert->there;
	HeapTuple	tuple = &((BufferHeapTupleTableSlot *) there)->base.tupdata;
	Buffer		buffer = ReadBuffer(run->table, ItemPointerGetBlockNumber(&tid));
	bool		found;

	prune_if_full(run, buffer);
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	found = heap_hot_search_buffer(&tid, run->table, buffer, &run->dirty, tuple, NULL, true);
	LockBuffer(buffer, BUFFER_LOCK_UNLOCK);
	if (found)
	{
		tuple->t_self = tid;
		run->upsert->longest = Max(run->upsert->longest, tuple->t_len);
		ExecStoreBufferHeapTuple(tuple, there, buffer);
	}
	ReleaseBuffer(buffer);
	return found;
}

/* Pages are let go before anything is waited for. */
static bool
look_up(Run *run)
{
	bool		found = false;
	ItemPointer tid;

	ExecClearTuple(run->upsert->there);
	index_rescan(run->scan, run->upsert->scan_keys, run->upsert->n_keys, NULL, 0);
	while (!found && (tid = index_getnext_tid(run->scan, ForwardScanDirection)) != NULL)
		found = fetch_version(run, *tid);
	index_rescan(run->scan, NULL, run->upsert->n_keys, NULL, 0);
	return found;
}

/* the row of the group in fresh */
static Found
find_row(Run *run)
{
	RollupUpsert *upsert = run->upsert;

	for (int i = 0; i < upsert->n_keys; i++)
	{
		int			state = upsert->scan_states[i];
		bool		is_null = upsert->fresh->tts_isnull[state];

		upsert->scan_keys[i].sk_argument = upsert->fresh->tts_values[state];
		upsert->scan_keys[i].sk_flags = is_null ? SK_ISNULL | SK_SEARCHNULL : 0;
	}
	while (look_up(run))
	{
		if (!TransactionIdIsValid(run->dirty.xmin))
			return TransactionIdIsValid(run->dirty.xmax) ? BEING_CHANGED : NEWEST;
		wait_for_insertion(run);
		CHECK_FOR_INTERRUPTS();
	}
	return NOTHING;
}

/* whether the row is still there; its last version is then ours */
static bool
lock_row(Run *run)
{
	TupleTableSlot *there = run->upsert->there;
	ItemPointerData tid = there->tts_tid;
	uint8		flags = IsolationUsesXactSnapshot() ? 0 : TUPLE_LOCK_FLAG_FIND_LAST_VERSION;
	TM_FailureData failure;
	TM_Result	result = table_tuple_lock(run->table, &tid, GetActiveSnapshot(), there, run->command,
										  LockTupleNoKeyExclusive, LockWaitBlock, flags, &failure);

	if (result == TM_Ok)
		return true;
	if (result != TM_Updated && result != TM_Deleted)
		elog(ERROR, "could not lock a row of rollup \"%s\": %d", RelationGetRelationName(run->table),
			 (int) result);
	if (IsolationUsesXactSnapshot())
		could_not_serialize();
	return false;
}

/* ---------------------------------------------------------------- what it is to be */

static void
compute(RollupUpsert *upsert, const Computed *computed, int n)
{
	TupleTableSlot *row = upsert->row;

	for (int i = 0; i < n; i++)
	{
		int			at = computed[i].column - 1;

		row->tts_values[at] = ExecEvalExprSwitchContext(computed[i].expression, upsert->context,
														&row->tts_isnull[at]);
	}
}

/* the group as it came */
static void
make_row(RollupUpsert *upsert)
{
	TupleTableSlot *row = upsert->row;

	ExecClearTuple(row);
	memset(row->tts_isnull, true, row->tts_tupleDescriptor->natts);
	for (int i = 0; i < upsert->n_states; i++)
	{
		row->tts_values[upsert->columns[i] - 1] = upsert->fresh->tts_values[i];
		row->tts_isnull[upsert->columns[i] - 1] = upsert->fresh->tts_isnull[i];
	}
	ExecStoreVirtualTuple(row);
	compute(upsert, upsert->derived, upsert->n_derived);
}

/* the row that is there, and the group: keys stay as they are, to the byte */
static void
make_combined_row(RollupUpsert *upsert)
{
	TupleTableSlot *row = upsert->row;

	ExecClearTuple(row);
	slot_getallattrs(upsert->there);
	for (int i = 0; i < upsert->n_keys; i++)
	{
		int			at = upsert->columns[i] - 1;

		row->tts_values[at] = upsert->there->tts_values[at];
		row->tts_isnull[at] = upsert->there->tts_isnull[at];
	}
	ExecStoreVirtualTuple(row);
	compute(upsert, upsert->aggregates, upsert->n_aggregates);
	compute(upsert, upsert->derived, upsert->n_derived);
}

/* ---------------------------------------------------------------- writing it */

/* what indexes and constraints want to know; most rows need none of it */
static void
prepare_result(Run *run)
{
	if (run->result != NULL)
		return;
	run->estate = CreateExecutorState();
	run->result = makeNode(ResultRelInfo);
	InitResultRelInfo(run->result, run->table, 0, NULL, 0);
	ExecOpenIndices(run->result, true);
}

static void
close_result(Run *run)
{
	if (run->result == NULL)
		return;
	ExecCloseIndices(run->result);
	FreeExecutorState(run->estate);
}

/* An owner may have said NOT NULL of a value. */
static void
require_not_null(Run *run)
{
	TupleTableSlot *row = run->upsert->row;
	TupleDesc	desc = RelationGetDescr(run->table);

	if (desc->constr == NULL)
		return;
	for (int i = 0; i < desc->natts; i++)
	{
		if (row->tts_isnull[i] && TupleDescAttr(desc, i)->attnotnull)
		{
			prepare_result(run);
			ExecConstraints(run->result, row, run->estate);
		}
	}
}

/* false: there is a newer version by now, or none */
static bool
update_row(Run *run)
{
	RollupUpsert *upsert = run->upsert;
	ItemPointerData tid = upsert->there->tts_tid;
	LockTupleMode mode;
	TM_FailureData failure;
	compat_update_indexes update_indexes;
	TM_Result	result;

	make_combined_row(upsert);
	require_not_null(run);
	result = table_tuple_update(run->table, &tid, upsert->row, run->command, GetActiveSnapshot(),
								InvalidSnapshot, true, &failure, &mode, &update_indexes);
	if (result == TM_Ok)
	{
		if (compat_needs_index_entries(update_indexes))
		{
			prepare_result(run);
			compat_update_index_tuples(run->result, upsert->row, run->estate, update_indexes);
			ResetPerTupleExprContext(run->estate);
		}
		return true;
	}
	if (result == TM_SelfModified || result == TM_Invisible)
		ereport(ERROR,
				(errcode(ERRCODE_CARDINALITY_VIOLATION),
				 errmsg("rollup \"%s\" was given a group twice", RelationGetRelationName(run->table))));
	if (IsolationUsesXactSnapshot())
		could_not_serialize();
	return false;
}

/* false: somebody else was earlier */
static bool
insert_row(Run *run)
{
	TransactionId xid = GetCurrentTransactionId();
	bool		conflict = false;
	uint32		token;

	make_row(run->upsert);
	require_not_null(run);
	prepare_result(run);
	token = SpeculativeInsertionLockAcquire(xid);
	table_tuple_insert_speculative(run->table, run->upsert->row, run->command, 0, NULL, token);
	list_free(compat_insert_speculative_index_tuples(run->result, run->upsert->row, run->estate, &conflict,
													 run->upsert->indexes));
	table_tuple_complete_speculative(run->table, run->upsert->row, token, !conflict);
	SpeculativeInsertionLockRelease(xid);
	ResetPerTupleExprContext(run->estate);
	return !conflict;
}

static void
add_group(Run *run)
{
	bool		done = false;

	slot_getallattrs(run->upsert->fresh);
	while (!done)
	{
		Found		found = find_row(run);

		ResetExprContext(run->upsert->context);
		if (found == NOTHING)
			done = insert_row(run);
		else
		{
			if (found == NEWEST)
			{
				require_visible(run);
				done = update_row(run);
			}
			if (!done && lock_row(run))
			{
				require_visible(run);
				done = update_row(run);
			}
		}
		CHECK_FOR_INTERRUPTS();
	}
	ExecClearTuple(run->upsert->there);
	ExecClearTuple(run->upsert->row);
}

/* ---------------------------------------------------------------- all groups in order */

static void
add_sorted(Run *run, Tuplestorestate *states)
{
	RollupUpsert *upsert = run->upsert;
	TupleTableSlot *fresh = upsert->fresh;
	Tuplesortstate *sort = tuplesort_begin_heap(upsert->states_desc, upsert->n_keys,
												upsert->sort_columns, upsert->sort_operators,
												upsert->sort_collations, upsert->nulls_first, work_mem,
												NULL, TUPLESORT_NONE);

	while (tuplestore_gettupleslot(states, true, false, fresh))
		tuplesort_puttupleslot(sort, fresh);
	tuplesort_performsort(sort);
	while (tuplesort_gettupleslot(sort, true, false, fresh, NULL))
		add_group(run);
	tuplesort_end(sort);
}

static void
add_all(Run *run, Tuplestorestate *states)
{
	tuplestore_rescan(states);
	if (tuplestore_tuple_count(states) > 1)
		add_sorted(run, states);
	else if (tuplestore_gettupleslot(states, true, false, run->upsert->fresh))
		add_group(run);
	ExecClearTuple(run->upsert->fresh);
}

static void
make_slots(Run *run)
{
	RollupUpsert *upsert = run->upsert;

	upsert->fresh = MakeSingleTupleTableSlot(upsert->states_desc, &TTSOpsMinimalTuple);
	upsert->there = MakeSingleTupleTableSlot(upsert->desc, table_slot_callbacks(run->table));
	upsert->row = MakeSingleTupleTableSlot(upsert->desc, &TTSOpsVirtual);
	upsert->context->ecxt_innertuple = upsert->fresh;
	upsert->context->ecxt_outertuple = upsert->there;
	upsert->context->ecxt_scantuple = upsert->row;
}

static void
drop_slots(RollupUpsert *upsert)
{
	ExecDropSingleTupleTableSlot(upsert->fresh);
	ExecDropSingleTupleTableSlot(upsert->there);
	ExecDropSingleTupleTableSlot(upsert->row);
	ResetExprContext(upsert->context);
}

void
rollup_upsert_run(RollupUpsert *upsert, Tuplestorestate *states)
{
	Run			run = {.upsert = upsert};

	run.table = table_open(upsert->rollup, RowExclusiveLock);
	CheckCmdReplicaIdentity(run.table, CMD_UPDATE);
	run.index = index_open(linitial_oid(upsert->indexes), RowExclusiveLock);
	make_slots(&run);
	InitDirtySnapshot(run.dirty);
	run.scan = compat_index_beginscan(run.table, run.index, &run.dirty, upsert->n_keys);
	run.command = GetCurrentCommandId(true);
	PushActiveSnapshot(GetTransactionSnapshot());
	add_all(&run, states);
	PopActiveSnapshot();
	drop_slots(upsert);
	close_result(&run);
	index_endscan(run.scan);
	index_close(run.index, NoLock);
	table_close(run.table, NoLock);
	CommandCounterIncrement();
}
