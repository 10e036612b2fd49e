/*
 * rollup_trigger.c
 *		All writers but the source worker: what the triggers on a rollup's target and its partitions do.
 *
 * Owns the trigger functions; which triggers there are is in rollup_trigger_install.c, what a change does to a
 * rollup is decided in rollup_delta.c.
 *
 * A statement trigger fires for the table that the statement named, alone: on the parent for a row
 * that lands in a leaf, on the leaf for a row put straight into it.  So the target and everything
 * below it have the same triggers, and no row is seen twice.  TRUNCATE fires for each table that it
 * empties, before any is empty.  There are no transition tables then, so a leaf's trigger reads the
 * leaf first.
 *
 * None of these fires for changes that logical replication applies, nor under session_replication_role =
 * replica.  A row trigger that is enabled for just those cases does; it takes one row at a time.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/tupconvert.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "rollup_merge.h"
#include "rollup_set.h"
#include "rollup_trigger.h"
#include "statement.h"

PG_FUNCTION_INFO_V1(clickstream_rollup_trigger);
PG_FUNCTION_INFO_V1(clickstream_rollup_guard);

/*
 * Backend-local, and only valid within the transaction named in it: the TRUNCATE of a whole target
 * under way.
 */
static struct
{
	Oid			target;
	TransactionId transaction;
}			truncating;

/*
 * The same of partitions: those that this TRUNCATE has told of, and that still have their rows.  One
 * that comes later must not count them.
 */
static struct
{
	TransactionId transaction;
	List	   *partitions;		/* in that transaction's memory */
}			emptying;

/* ---------------------------------------------------------------- rows in the target's shape */

static void
append_rows(Tuplestorestate *to, Tuplestorestate *from, TupleTableSlot *slot,
			TupleConversionMap *map)
{
	tuplestore_select_read_pointer(from, tuplestore_alloc_read_pointer(from, EXEC_FLAG_REWIND));
	tuplestore_rescan(from);
	while (tuplestore_gettupleslot(from, true, false, slot))
	{
		bool		should_free;
		HeapTuple	tuple = ExecFetchSlotHeapTuple(slot, false, &should_free);
		HeapTuple	converted = execute_attr_map_tuple(tuple, map);

		tuplestore_puttuple(to, converted);
		heap_freetuple(converted);
		if (should_free)
			heap_freetuple(tuple);
		CHECK_FOR_INTERRUPTS();
	}
}

/* The rows of a transition table (NULL if it has none), as rows of the target. */
static Tuplestorestate *
rows_for_target(Relation relation, Relation target, Tuplestorestate *rows)
{
	TupleConversionMap *map = convert_tuples_by_name(RelationGetDescr(relation),
													 RelationGetDescr(target));
	Tuplestorestate *converted;
	TupleTableSlot *slot;

	if (map == NULL || rows == NULL)
		return rows;
	converted = tuplestore_begin_heap(true, false, work_mem);
	slot = MakeSingleTupleTableSlot(RelationGetDescr(relation), &TTSOpsMinimalTuple);
	append_rows(converted, rows, slot, map);
	ExecDropSingleTupleTableSlot(slot);
	return converted;
}

/* what a table holds now, under a snapshot of its own: nobody else can write it */
static Tuplestorestate *
rows_of_table(Relation relation)
{
	Tuplestorestate *rows = tuplestore_begin_heap(true, false, work_mem);
	TupleTableSlot *slot = table_slot_create(relation, NULL);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan(relation, snapshot, 0, NULL);

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		tuplestore_puttupleslot(rows, slot);
		CHECK_FOR_INTERRUPTS();
	}
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	ExecDropSingleTupleTableSlot(slot);
	return rows;
}

/* ---------------------------------------------------------------- what a statement did */

static bool
is_truncating(Oid target)
{
	return truncating.target == target && truncating.transaction == GetCurrentTransactionIdIfAny();
}

/* this one, too, and all of them so far */
static List *
partitions_to_empty(Oid partition)
{
	MemoryContext caller = MemoryContextSwitchTo(TopTransactionContext);

	if (emptying.transaction != GetCurrentTransactionId())
		emptying.partitions = NIL;
	emptying.transaction = GetCurrentTransactionId();
	emptying.partitions = list_append_unique_oid(emptying.partitions, partition);
	MemoryContextSwitchTo(caller);
	return emptying.partitions;
}

static void
before_truncate_partition(RollupSet *set, Relation partition, Relation target)
{
	Tuplestorestate *all = rows_of_table(partition);
	Tuplestorestate *rows = rows_for_target(partition, target, all);

	rollup_set_recompute(set, rows, NULL, RelationGetDescr(target),
						 partitions_to_empty(RelationGetRelid(partition)));
	if (rows != all)
		tuplestore_end(rows);
	tuplestore_end(all);
}

/* A whole target: the rollup is emptied afterwards, and its partitions have nothing to do before. */
static void
around_truncate(RollupSet *set, TriggerData *data, Relation target)
{
	Relation	relation = data->tg_relation;

	if (TRIGGER_FIRED_AFTER(data->tg_event))
		emptying.transaction = InvalidTransactionId;
	if (RelationGetRelid(relation) == RelationGetRelid(target))
	{
		if (TRIGGER_FIRED_BEFORE(data->tg_event))
		{
			truncating.target = RelationGetRelid(target);
			truncating.transaction = GetCurrentTransactionId();
		}
		else
		{
			truncating.target = InvalidOid;
			rollup_set_truncate(set);
		}
	}
	else if (TRIGGER_FIRED_BEFORE(data->tg_event) && relation->rd_rel->relkind == RELKIND_RELATION &&
			 !is_truncating(RelationGetRelid(target)))
		before_truncate_partition(set, relation, target);
}

static void
after_statement(RollupSet *set, TriggerData *data, Relation target)
{
	Relation	relation = data->tg_relation;
	Tuplestorestate *old = rows_for_target(relation, target, data->tg_oldtable);
	Tuplestorestate *fresh = rows_for_target(relation, target, data->tg_newtable);

	if (old == NULL)
		rollup_set_apply_insert(set, fresh, RelationGetDescr(target));
	else
		rollup_set_recompute(set, old, fresh, RelationGetDescr(target), NIL);
	if (old != data->tg_oldtable)
		tuplestore_end(old);
	if (fresh != data->tg_newtable)
		tuplestore_end(fresh);
}

/* the one row of a row trigger; small enough not to leave memory */
static Tuplestorestate *
row_for_target(Relation relation, Relation target, TupleTableSlot *slot)
{
	Tuplestorestate *row = tuplestore_begin_heap(true, false, work_mem);

	tuplestore_puttupleslot(row, slot);
	return rows_for_target(relation, target, row);
}

static void
after_row(RollupSet *set, TriggerData *data, Relation target)
{
	Relation	relation = data->tg_relation;
	Tuplestorestate *row = row_for_target(relation, target, data->tg_trigslot);

	if (TRIGGER_FIRED_BY_INSERT(data->tg_event))
		rollup_set_apply_insert(set, row, RelationGetDescr(target));
	else if (TRIGGER_FIRED_BY_DELETE(data->tg_event))
		rollup_set_recompute(set, row, NULL, RelationGetDescr(target), NIL);
	else
		rollup_set_recompute(set, row, row_for_target(relation, target, data->tg_newslot),
							 RelationGetDescr(target), NIL);
}

static void
tell_rollups_of(Oid target_oid, TriggerData *data)
{
	RollupSet  *set = rollup_set_of_session(target_oid);
	Relation	target;

	if (set == NULL)
		return;
	target = table_open(target_oid, NoLock);
	if (TRIGGER_FIRED_FOR_ROW(data->tg_event))
		after_row(set, data, target);
	else if (TRIGGER_FIRED_BY_TRUNCATE(data->tg_event))
		around_truncate(set, data, target);
	else
		after_statement(set, data, target);
	table_close(target, NoLock);
}

/* Whoever may make a trigger on the table can make one that calls us, of any kind. */
static void
require_rows(const TriggerData *data)
{
	bool		in_place = TRIGGER_FIRED_FOR_ROW(data->tg_event) ?
		TRIGGER_FIRED_AFTER(data->tg_event) :
		TRIGGER_FIRED_BY_TRUNCATE(data->tg_event) ||
		((TRIGGER_FIRED_BY_INSERT(data->tg_event) || data->tg_oldtable != NULL) &&
		 (TRIGGER_FIRED_BY_DELETE(data->tg_event) || data->tg_newtable != NULL));

	if (!in_place || !rollup_trigger_is_ours(data->tg_trigger->tgname))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("trigger \"%s\" of table \"%s\" is not one that create_rollup makes",
						data->tg_trigger->tgname, RelationGetRelationName(data->tg_relation)),
				 errhint("Drop it.")));
}

Datum
clickstream_rollup_trigger(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	Relation	relation;
	ListCell   *cell;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("clickstream's rollup trigger is made by create_rollup alone"),
				 errhint("Do not create or call it yourself.")));
	require_rows(data);
	relation = data->tg_relation;
	tell_rollups_of(RelationGetRelid(relation), data);
	if (relation->rd_rel->relispartition)
	{
		foreach(cell, get_partition_ancestors(RelationGetRelid(relation)))
			tell_rollups_of(lfirst_oid(cell), data);
	}
	return PointerGetDatum(NULL);
}

/* BEFORE any change of a rollup's table */
Datum
clickstream_rollup_guard(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("clickstream's guard of rollups must be called as a trigger")));
	if (!rollup_merge_expects(RelationGetRelid(data->tg_relation), data->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("cannot change rollup \"%s\"", RelationGetRelationName(data->tg_relation)),
				 errdetail("Its rows follow from those of the table it was made over."),
				 errhint("Change that table; clickstream.refresh_rollup computes groups again from it.")));
	return PointerGetDatum(NULL);
}
