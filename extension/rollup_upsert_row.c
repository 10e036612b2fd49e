/*
 * rollup_upsert_row.c
 *		One group added to its row, or made a row.
 *
 * Called by rollup_upsert.c for each group.  A row is read in whatever version is the newest, be it of a transaction
 * under way, by a dirty snapshot.  Then three things can be:
 * - it is nobody's but ours or committed: the update goes to just this version, or is refused by the table
 *	 because there is a newer one by now;
 * - there is a newer one, or somebody is making one: wait in the row's queue, lock the last version, and add
 *	 to that one;
 * - there is none: a speculative insertion, which withdraws if somebody else's was earlier.
 * Under REPEATABLE READ a row that changed after the transaction's snapshot is a serialization failure.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/sysattr.h"
#include "access/transam.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "rollup_upsert_internal.h"

/* a page with less is looked through for old versions */
#define LITTLE_ROOM ((Size) BLCKSZ / 8)

typedef enum Found
{
	NOTHING,
	NEWEST,						/* as far as can be seen */
	BEING_CHANGED
} Found;

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
require_visible(UpsertRun *run)
{
	TupleTableSlot *there = run->upsert->there;
	bool		is_null;

	if (IsolationUsesXactSnapshot() &&
		!table_tuple_satisfies_snapshot(run->table->relation, there, GetActiveSnapshot()) &&
		!TransactionIdIsCurrentTransactionId(DatumGetTransactionId(slot_getsysattr(there,
																				   MinTransactionIdAttributeNumber,
																				   &is_null))))
		could_not_serialize();
}

static void
wait_for_insertion(UpsertRun *run)
{
	TransactionId xid = run->dirty.xmin;
	ItemPointerData tid = run->upsert->there->tts_tid;
	uint32		token = run->dirty.speculativeToken;

	ExecClearTuple(run->upsert->there);
	if (token != 0)
		SpeculativeInsertionWait(xid, token);
	else
		XactLockTableWait(xid, run->table->relation, &tid, XLTW_InsertIndex);
}

/*
 * A fetch by way of the index would prune the page each time, since the pages of a rollup are never filled
 * beyond their fillfactor: that costs more than the rest of the update.  So old versions may gather as long as
 * there is room for new ones.
 */
static void
prune_if_full(UpsertRun *run, Buffer buffer)
{
	if (PageGetHeapFreeSpace(BufferGetPage(buffer)) < Max(LITTLE_ROOM, 2 * run->upsert->longest))
		heap_page_prune_opt(run->table->relation, buffer);
}

/* the version of a row that counts, of those that an index entry leads to */
static bool
fetch_version(UpsertRun *run, ItemPointerData tid)
{
	TupleTableSlot *there = run->upsert->there;
	HeapTuple	tuple = &((BufferHeapTupleTableSlot *) there)->base.tupdata;
	Buffer		buffer = ReadBuffer(run->table->relation, ItemPointerGetBlockNumber(&tid));
	bool		found;

	prune_if_full(run, buffer);
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	found = heap_hot_search_buffer(&tid, run->table->relation, buffer, &run->dirty, tuple, NULL, true);
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
look_up(UpsertRun *run)
{
	bool		found = false;
	ItemPointer tid;

	ExecClearTuple(run->upsert->there);
	index_rescan(run->table->scan, run->table->index.scan_keys, run->upsert->n_keys, NULL, 0);
	while (!found && (tid = index_getnext_tid(run->table->scan, ForwardScanDirection)) != NULL)
		found = fetch_version(run, *tid);
	index_rescan(run->table->scan, NULL, run->upsert->n_keys, NULL, 0);
	return found;
}

/* the row of the group in fresh */
static Found
find_row(UpsertRun *run)
{
	RollupUpsert *upsert = run->upsert;
	const UpsertIndex *index = &run->table->index;

	for (int i = 0; i < upsert->n_keys; i++)
	{
		int			state = index->scan_states[i];
		bool		is_null = upsert->fresh->tts_isnull[state];

		index->scan_keys[i].sk_argument = upsert->fresh->tts_values[state];
		index->scan_keys[i].sk_flags = is_null ? SK_ISNULL | SK_SEARCHNULL : 0;
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
lock_row(UpsertRun *run)
{
	TupleTableSlot *there = run->upsert->there;
	ItemPointerData tid = there->tts_tid;
	uint8		flags = IsolationUsesXactSnapshot() ? 0 : TUPLE_LOCK_FLAG_FIND_LAST_VERSION;
	TM_FailureData failure;
	TM_Result	result = table_tuple_lock(run->table->relation, &tid, GetActiveSnapshot(), there, run->command,
										  LockTupleNoKeyExclusive, LockWaitBlock, flags, &failure);

	if (result == TM_Ok)
		return true;
	if (result != TM_Updated && result != TM_Deleted)
		elog(ERROR, "could not lock a row of rollup \"%s\": %d", RelationGetRelationName(run->table->relation),
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

/*
 * Whether arithmetic does not know what becomes of a group when rows are taken away: there are none left, or a sum
 * of 0 may be that of nothing, which is NULL.  Its values may not even be computable.
 */
static bool
is_doubtful(const RollupUpsert *upsert)
{
	const TupleTableSlot *row = upsert->row;
	int64		rows = DatumGetInt64(row->tts_values[upsert->rows_column - 1]);
	int			column = -1;

	if (rows <= 0)
		return true;
	while ((column = bms_next_member(upsert->sums, column)) >= 0)
	{
		if (!row->tts_isnull[column - 1] && DatumGetInt64(row->tts_values[column - 1]) == 0)
			return true;
	}
	return false;
}

/* the values of a doubtful group stay what they are in a row, until it is computed anew or removed */
static void
derive(UpsertRun *run, const TupleTableSlot *there)
{
	RollupUpsert *upsert = run->upsert;

	if (!run->takes || !is_doubtful(upsert))
	{
		compute(upsert, upsert->derived, upsert->n_derived);
		return;
	}
	for (int i = 0; there != NULL && i < upsert->n_derived; i++)
	{
		int			at = upsert->derived[i].column - 1;

		upsert->row->tts_values[at] = there->tts_values[at];
		upsert->row->tts_isnull[at] = there->tts_isnull[at];
	}
}

/* the group as it came */
static void
make_row(UpsertRun *run)
{
	RollupUpsert *upsert = run->upsert;
	TupleTableSlot *row = upsert->row;

	ExecClearTuple(row);
	memset(row->tts_isnull, true, row->tts_tupleDescriptor->natts);
	for (int i = 0; i < upsert->n_states; i++)
	{
		row->tts_values[upsert->columns[i] - 1] = upsert->fresh->tts_values[i];
		row->tts_isnull[upsert->columns[i] - 1] = upsert->fresh->tts_isnull[i];
	}
	ExecStoreVirtualTuple(row);
	derive(run, NULL);
}

/* the row that is there, and the group: keys stay as they are, to the byte */
static void
make_combined_row(UpsertRun *run)
{
	RollupUpsert *upsert = run->upsert;
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
	derive(run, upsert->there);
}

/* ---------------------------------------------------------------- writing it */

static bool
breaks_not_null(const TupleTableSlot *row, TupleDesc desc)
{
	for (int i = 0; i < desc->natts; i++)
	{
		if (row->tts_isnull[i] && TupleDescAttr(desc, i)->attnotnull)
			return true;
	}
	return false;
}

/* An owner may have said NOT NULL of a value, or made a check. */
static void
keep_constraints(UpsertRun *run)
{
	TupleDesc	desc = RelationGetDescr(run->table->relation);

	if (desc->constr == NULL || (desc->constr->num_check == 0 && !breaks_not_null(run->upsert->row, desc)))
		return;
	upsert_table_prepare_result(run);
	ExecConstraints(run->table->result, run->upsert->row, run->estate);
	ResetPerTupleExprContext(run->estate);
}

/* false: there is a newer version by now, or none */
static bool
update_row(UpsertRun *run)
{
	RollupUpsert *upsert = run->upsert;
	ItemPointerData tid = upsert->there->tts_tid;
	LockTupleMode mode;
	TM_FailureData failure;
	compat_update_indexes update_indexes;
	TM_Result	result;

	make_combined_row(run);
	keep_constraints(run);
	result = table_tuple_update(run->table->relation, &tid, upsert->row, run->command, GetActiveSnapshot(),
								InvalidSnapshot, true, &failure, &mode, &update_indexes);
	if (result == TM_Ok)
	{
		if (compat_needs_index_entries(update_indexes))
		{
			upsert_table_prepare_result(run);
			compat_update_index_tuples(run->table->result, upsert->row, run->estate, update_indexes);
			ResetPerTupleExprContext(run->estate);
		}
		return true;
	}
	if (result == TM_SelfModified || result == TM_Invisible)
		ereport(ERROR,
				(errcode(ERRCODE_CARDINALITY_VIOLATION),
				 errmsg("rollup \"%s\" was given a group twice", RelationGetRelationName(run->table->relation))));
	if (IsolationUsesXactSnapshot())
		could_not_serialize();
	return false;
}

/* false: somebody else was earlier */
static bool
insert_row(UpsertRun *run)
{
	TransactionId xid = GetCurrentTransactionId();
	UpsertTable *table = run->table;
	TupleTableSlot *row = run->upsert->row;
	bool		conflict = false;
	uint32		token;

	make_row(run);
	keep_constraints(run);
	upsert_table_prepare_result(run);
	token = SpeculativeInsertionLockAcquire(xid);
	table_tuple_insert_speculative(table->relation, row, run->command, 0, NULL, token);
	list_free(compat_insert_speculative_index_tuples(table->result, row, run->estate, &conflict,
													 table->index.indexes));
	table_tuple_complete_speculative(table->relation, row, token, !conflict);
	SpeculativeInsertionLockRelease(xid);
	ResetPerTupleExprContext(run->estate);
	return !conflict;
}

/* false: it has to be looked for anew */
static bool
add_to_row(UpsertRun *run, Found found)
{
	bool		done = false;

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
	return done;
}

void
upsert_row_add(UpsertRun *run)
{
	bool		done = false;

	slot_getallattrs(run->upsert->fresh);
	while (!done)
	{
		Found		found = find_row(run);

		ResetExprContext(run->upsert->context);
		done = found == NOTHING ? insert_row(run) : add_to_row(run, found);
		CHECK_FOR_INTERRUPTS();
	}
	ExecClearTuple(run->upsert->there);
	ExecClearTuple(run->upsert->row);
}
