/*
 * writer_leaf.c
 *		Rows into the tables that hold them, many at a time.
 *
 * Owns the way to the leaf, and what the executor does for a row that is ready (writer_prepare.c): the table
 * itself, indexes, AFTER row triggers.  Statement triggers do not fire.  Called by writer.c and
 * writer_careful.c, in a transaction of the target's owner.
 *
 * Most rows go to the leaf that the row before went to: so its range is kept and compared first.
 */
#include "postgres.h"

#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "executor/nodeModifyTable.h"
#include "nodes/makefuncs.h"
#include "partitioning/partbounds.h"
#include "partitioning/partdesc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/partcache.h"
#include "utils/rel.h"
#include "utils/resowner.h"

#include "compat.h"
#include "writer.h"
#include "writer_leaf.h"

/* ---------------------------------------------------------------- open and close */

AttrNumber
writer_time_column(Relation target)
{
	PartitionKey key;
	AttrNumber	column;

	if (target->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
		return 0;
	key = RelationGetPartitionKey(target);
	if (key->strategy != PARTITION_STRATEGY_RANGE || key->partnatts != 1 || key->partattrs[0] == 0)
		return 0;
	column = key->partattrs[0];
	switch (TupleDescAttr(RelationGetDescr(target), column - 1)->atttypid)
	{
		case TIMESTAMPTZOID:
		case TIMESTAMPOID:
		case DATEOID:
			return column;
		default:
			return 0;
	}
}

/* all that a leaf opens is held to the end of the transaction, whatever becomes of a savepoint */
static ResourceOwner
as_transaction(void)
{
	ResourceOwner owner = CurrentResourceOwner;

	CurrentResourceOwner = TopTransactionResourceOwner;
	return owner;
}

static void
prepare_checks(LeafSet *set, Leaf *leaf)
{
	TupleConstr *constraints = RelationGetDescr(leaf->relation->ri_RelationDesc)->constr;

	if (constraints == NULL || constraints->num_check == 0)
		return;
	leaf->checks = palloc(sizeof(LeafCheck) * constraints->num_check);
	for (int i = 0; i < constraints->num_check; i++)
	{
		leaf->checks[i].name = constraints->check[i].ccname;
		leaf->checks[i].state = ExecPrepareExpr(stringToNode(constraints->check[i].ccbin),
												set->estate);
	}
	leaf->n_checks = constraints->num_check;
}

static void
prepare_not_null(Leaf *leaf)
{
	TupleDesc	desc = RelationGetDescr(leaf->relation->ri_RelationDesc);

	leaf->not_null = palloc(sizeof(int) * Max(desc->natts, 1));
	for (int i = 0; i < desc->natts; i++)
		if (TupleDescAttr(desc, i)->attnotnull && !TupleDescAttr(desc, i)->attisdropped)
			leaf->not_null[leaf->n_not_null++] = i;
}

/*
 * what AFTER triggers open, and the slot in which they see a row, is made here, for it outlives
 * savepoints
 */
static void
note_triggers(LeafSet *set, Leaf *leaf)
{
	TriggerDesc *triggers = leaf->relation->ri_TrigDesc;
	ResourceOwner owner;

	if (triggers == NULL)
		return;
	leaf->row_by_row = triggers->trig_insert_before_row;
	if (!triggers->trig_insert_after_row)
		return;
	owner = as_transaction();
	leaf->for_triggers = ExecGetTriggerResultRel(set->estate,
												 RelationGetRelid(leaf->relation->ri_RelationDesc), NULL);
	(void) ExecGetTriggerOldSlot(set->estate, leaf->for_triggers);
	CurrentResourceOwner = owner;
}

/*
 * a trigger that failed left its row there, and the end of the savepoint has taken the row's page
 * away
 */
static void
empty_trigger_slot(Leaf *leaf)
{
	TupleTableSlot *slot;

	if (leaf->for_triggers == NULL)
		return;
	slot = leaf->for_triggers->ri_TrigOldSlot;	/* it serves for inserted rows, too */
	if (TTS_IS_BUFFERTUPLE(slot))
		((BufferHeapTupleTableSlot *) slot)->buffer = InvalidBuffer;
	ExecClearTuple(slot);
}

static Leaf *
make_leaf(LeafSet *set, ResultRelInfo *relation)
{
	MemoryContext outer = MemoryContextSwitchTo(set->estate->es_query_cxt);
	Leaf	   *leaf = palloc0(sizeof(Leaf));
	TupleConstr *constraints = RelationGetDescr(relation->ri_RelationDesc)->constr;

	if (relation->ri_FdwRoutine != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("partition \"%s\" is a foreign table, which a source cannot write to",
						RelationGetRelationName(relation->ri_RelationDesc))));
	leaf->relation = relation;
	if (relation != set->root)
	{
		leaf->from_root = compat_root_to_child_map(relation, set->estate);
		leaf->to_root = ExecGetChildToRootMap(relation);
	}
	prepare_checks(set, leaf);
	prepare_not_null(leaf);
	leaf->has_generated = constraints != NULL && constraints->has_generated_stored;
	note_triggers(set, leaf);
	leaf_take_brin(leaf);
	leaf->rows = palloc(sizeof(TupleTableSlot *) * LEAF_ROWS);
	leaf->records = palloc(sizeof(int) * LEAF_ROWS);
	if (leaf->from_root != NULL)
		leaf->own = palloc0(sizeof(TupleTableSlot *) * LEAF_ROWS);
	set->all = lappend(set->all, leaf);
	MemoryContextSwitchTo(outer);
	return leaf;
}

static void
open_partitions(LeafSet *set)
{
	set->estate->es_partition_directory = CreatePartitionDirectory(set->estate->es_query_cxt, true);
	set->routing = ExecSetupPartitionTupleRouting(set->estate, set->target);
	set->parts = PartitionDirectoryLookup(set->estate->es_partition_directory, set->target);
	set->key = RelationGetPartitionKey(set->target);
	set->time_column = writer_time_column(set->target);
	if (set->time_column > 0)
		set->time_type = TupleDescAttr(RelationGetDescr(set->target),
									   set->time_column - 1)->atttypid;
	set->by_part = palloc0(sizeof(Leaf *) * Max(set->parts->nparts, 1));
}

LeafSet *
leaf_set_open(Relation target)
{
	EState	   *estate = CreateExecutorState();
	MemoryContext outer = MemoryContextSwitchTo(estate->es_query_cxt);
	LeafSet    *set = palloc0(sizeof(LeafSet));

	set->estate = estate;
	set->target = target;
	set->desc = CreateTupleDescCopyConstr(RelationGetDescr(target));
	set->rows = AllocSetContextCreate(estate->es_query_cxt, "clickstream rows",
									  ALLOCSET_DEFAULT_SIZES);
	set->root = makeNode(ResultRelInfo);
	set->at_record = -1;
	set->last_part = -1;
	InitResultRelInfo(set->root, target, 0, NULL, 0);
	compat_check_insert_target(set->root);
	estate->es_opened_result_relations = list_make1(set->root);
	estate->es_output_cid = GetCurrentCommandId(true);

	set->state = makeNode(ModifyTableState);
	set->state->ps.state = estate;
	set->state->operation = CMD_INSERT;
	set->state->mt_nrels = 1;
	set->state->resultRelInfo = set->root;
	set->state->rootResultRelInfo = set->root;

	if (target->rd_rel->relkind == RELKIND_PARTITIONED_TABLE)
		open_partitions(set);
	else
	{
		ExecOpenIndices(set->root, false);
		set->last = make_leaf(set, set->root);
	}
	MemoryContextSwitchTo(outer);
	return set;
}

static void
close_for_triggers(LeafSet *set)
{
	ListCell   *cell;

	foreach(cell, set->estate->es_trig_target_relations)
		table_close(((ResultRelInfo *) lfirst(cell))->ri_RelationDesc, NoLock);
	set->estate->es_trig_target_relations = NIL;
}

void
leaf_set_close(LeafSet *set)
{
	ListCell   *cell;

	foreach(cell, set->all)
	{
		Leaf	   *leaf = lfirst(cell);

		if (leaf->bulk != NULL)
			FreeBulkInsertState(leaf->bulk);
		leaf_give_back_brin(leaf);
	}
	ExecResetTupleTable(set->estate->es_tupleTable, false);
	if (set->routing != NULL)
		ExecCleanupTupleRouting(set->state, set->routing);
	else
		ExecCloseIndices(set->root);
	close_for_triggers(set);
	FreeExecutorState(set->estate);
}

TupleTableSlot *
leaf_set_slot(LeafSet *set, TupleDesc desc, const TupleTableSlotOps *ops)
{
	MemoryContext outer = MemoryContextSwitchTo(set->estate->es_query_cxt);
	TupleTableSlot *slot = MakeSingleTupleTableSlot(desc, ops);

	MemoryContextSwitchTo(outer);
	return slot;
}

/* ---------------------------------------------------------------- the way to the leaf */

/*
 * the number of the partition that takes the time, -1 for none; the default one only if none else
 * does
 */
static int
part_for_time(LeafSet *set, Datum time)
{
	PartitionBoundInfo bounds = set->parts->boundinfo;
	bool		equal;
	int			at;

	if (bounds == NULL)
		return -1;
	at = partition_range_datum_bsearch(set->key->partsupfunc, set->key->partcollation, bounds, 1,
									   &time, &equal);
	return bounds->indexes[at + 1];
}

bool
leaf_set_covers(LeafSet *set, Datum time, bool *has_default)
{
	*has_default = set->parts->boundinfo != NULL &&
		partition_bound_has_default(set->parts->boundinfo);
	return part_for_time(set, time) >= 0;
}

static int64
time_of_datum(const LeafSet *set, Datum value)
{
	return set->time_type == DATEOID ? (int64) DatumGetInt32(value) : DatumGetInt64(value);
}

static int64
bound_of(const LeafSet *set, int at, int64 below, int64 above)
{
	PartitionBoundInfo bounds = set->parts->boundinfo;

	if (at < 0)
		return below;
	if (at >= bounds->ndatums)
		return above;
	switch (bounds->kind[at][0])
	{
		case PARTITION_RANGE_DATUM_MINVALUE:
			return below;
		case PARTITION_RANGE_DATUM_MAXVALUE:
			return above;
		default:
			return time_of_datum(set, bounds->datums[at][0]);
	}
}

/* remembers a direct leaf with its range, so that the next row finds it at once */
static void
remember_leaf(LeafSet *set, int part, Datum time)
{
	bool		equal;
	int			at = partition_range_datum_bsearch(set->key->partsupfunc, set->key->partcollation,
												   set->parts->boundinfo, 1, &time, &equal);

	set->last = set->by_part[part];
	set->last_part = part;
	set->last_from = bound_of(set, at, PG_INT64_MIN, PG_INT64_MAX);
	set->last_to = bound_of(set, at + 1, PG_INT64_MIN, PG_INT64_MAX);
}

static Leaf *
known_leaf(LeafSet *set, ResultRelInfo *relation)
{
	ListCell   *cell;

	foreach(cell, set->all)
	{
		Leaf	   *leaf = lfirst(cell);

		if (leaf->relation == relation)
			return leaf;
	}
	return NULL;
}

/* the executor finds it, and opens it if it is the first row for it */
static Leaf *
find_leaf(LeafSet *set, TupleTableSlot *row)
{
	ResourceOwner owner = as_transaction();
	ResultRelInfo *relation = NULL;
	Leaf	   *leaf;

	PG_TRY();
	{
		relation = ExecFindPartition(set->state, set->root, set->routing, row, set->estate);
	}
	PG_FINALLY();
	{
		CurrentResourceOwner = owner;
	}
	PG_END_TRY();
	leaf = known_leaf(set, relation);
	return leaf != NULL ? leaf : make_leaf(set, relation);
}

Leaf *
leaf_for(LeafSet *set, TupleTableSlot *row)
{
	Datum		time;
	int			part;

	if (set->routing == NULL)
		return set->last;
	if (set->time_column == 0 || row->tts_isnull[set->time_column - 1])
		return find_leaf(set, row);

	time = row->tts_values[set->time_column - 1];
	if (set->last_part >= 0 && time_of_datum(set, time) >= set->last_from &&
		time_of_datum(set, time) < set->last_to)
		return set->last;
	part = part_for_time(set, time);
	if (part < 0 || !set->parts->is_leaf[part])
		return find_leaf(set, row);
	if (set->by_part[part] == NULL)
		set->by_part[part] = find_leaf(set, row);
	remember_leaf(set, part, time);
	return set->last;
}

/* ---------------------------------------------------------------- writing */

/* AFTER triggers of the leaf's rows wait for the end of the batch, or fire now, so that it is known whose fail */
static void
queue_triggers(LeafSet *set, Leaf *leaf, List **recheck)
{
	for (int i = 0; i < leaf->n; i++)
	{
		set->at_record = leaf->records[i];
		if (set->one_by_one)
			AfterTriggerBeginQuery();
		ExecARInsertTriggers(set->estate, leaf->relation, leaf->rows[i], recheck[i], NULL);
		if (set->one_by_one)
			AfterTriggerEndQuery(set->estate);
		list_free(recheck[i]);
		ResetPerTupleExprContext(set->estate);
	}
}

static void
write_index_entries(LeafSet *set, Leaf *leaf)
{
	ResultRelInfo *relation = leaf->relation;
	bool		after = relation->ri_TrigDesc != NULL &&
		relation->ri_TrigDesc->trig_insert_after_row;
	List	   *recheck[LEAF_ROWS];

	leaf_write_brin(leaf, set->estate);
	for (int i = 0; i < leaf->n && (relation->ri_NumIndices > 0 || after); i++)
	{
		recheck[i] = NIL;
		if (relation->ri_NumIndices == 0)
			continue;
		set->at_record = leaf->records[i];
		recheck[i] = compat_insert_index_tuples(relation, leaf->rows[i], set->estate);
		ResetPerTupleExprContext(set->estate);
	}
	if (after)
		queue_triggers(set, leaf, recheck);
	set->at_record = -1;
}

static void
flush_leaf(LeafSet *set, Leaf *leaf)
{
	MemoryContext outer;

	if (leaf->n == 0)
		return;
	outer = MemoryContextSwitchTo(set->rows);
	if (leaf->bulk == NULL)
	{
		MemoryContextSwitchTo(set->estate->es_query_cxt);
		leaf->bulk = GetBulkInsertState();
		MemoryContextSwitchTo(set->rows);
	}
	set->at_record = leaf->n == 1 ? leaf->records[0] : -1;
	table_multi_insert(leaf->relation->ri_RelationDesc, leaf->rows, leaf->n,
					   set->estate->es_output_cid, 0, leaf->bulk);
	write_index_entries(set, leaf);
	MemoryContextSwitchTo(outer);
	set->collected -= leaf->n;
	leaf->n = 0;
}

void
leaf_collect(LeafSet *set, Leaf *leaf, TupleTableSlot *row, int record)
{
	leaf->rows[leaf->n] = row;
	leaf->records[leaf->n] = record;
	leaf->n++;
	set->collected++;
	if (leaf->n == LEAF_ROWS || leaf->row_by_row)
		flush_leaf(set, leaf);
	if (!set->one_by_one)
		leaf->at_own = (leaf->at_own + 1) % LEAF_ROWS;
}

void
leaf_set_flush(LeafSet *set)
{
	ListCell   *cell;

	if (set->collected > 0)
		foreach(cell, set->all)
			flush_leaf(set, lfirst(cell));
	set->at_record = -1;
}

void
leaf_set_settle(LeafSet *set, bool failed)
{
	ListCell   *cell;

	foreach(cell, set->all)
	{
		Leaf	   *leaf = lfirst(cell);

		leaf->n = 0;
		if (leaf->bulk != NULL && !failed)
			FreeBulkInsertState(leaf->bulk);
		leaf->bulk = NULL;
		leaf_settle_brin(leaf, failed);
		if (failed)
			empty_trigger_slot(leaf);
	}
	set->collected = 0;
}
