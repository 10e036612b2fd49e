/*
 * writer_prepare.c
 *		A row is made what it will be in its leaf: layout, BEFORE triggers, generated columns, constraints.
 *
 * Constraints are looked at here without an error thrown, so that a row that breaks one costs no savepoint.
 * Called by writer.c and writer_careful.c, before writer_leaf.c collects the row.
 */
#include "postgres.h"

#include "commands/trigger.h"
#include "executor/executor.h"
#include "executor/nodeModifyTable.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "compat.h"
#include "writer_leaf.h"

static TupleTableSlot *
in_layout_of_leaf(LeafSet *set, Leaf *leaf, TupleTableSlot *row)
{
	TupleTableSlot **own;

	if (leaf->from_root == NULL)
		return row;
	own = &leaf->own[leaf->at_own];
	if (*own == NULL)
	{
		MemoryContext outer = MemoryContextSwitchTo(set->estate->es_query_cxt);

		*own = MakeSingleTupleTableSlot(CreateTupleDescCopyConstr(leaf->from_root->outdesc),
										&TTSOpsVirtual);
		MemoryContextSwitchTo(outer);
	}
	return execute_attr_map_slot(leaf->from_root->attrMap, row, *own);
}

/* a row that triggers may change, for it is made ready again when its stretch fails */
static TupleTableSlot *
copy_of_row(LeafSet *set, TupleTableSlot *row)
{
	if (set->scratch == NULL)
		set->scratch = leaf_set_slot(set, set->desc, &TTSOpsVirtual);
	return ExecCopySlot(set->scratch, row);
}

static void
set_fault(MemoryContext faults, DecodeFault *fault, int sqlstate, const char *format,
		  const char *first, Relation relation)
{
	MemoryContext outer = MemoryContextSwitchTo(faults);

	fault->sqlstate = sqlstate;
	fault->message = psprintf(format, first, RelationGetRelationName(relation));
	MemoryContextSwitchTo(outer);
}

static bool
constraints_hold(LeafSet *set, Leaf *leaf, TupleTableSlot *row, MemoryContext faults,
				 DecodeFault *fault)
{
	Relation	relation = leaf->relation->ri_RelationDesc;
	ExprContext *econtext = GetPerTupleExprContext(set->estate);

	for (int i = 0; i < leaf->n_not_null; i++)
		if (unlikely(row->tts_isnull[leaf->not_null[i]]))
		{
			set_fault(faults, fault, ERRCODE_NOT_NULL_VIOLATION,
					  "null value in column \"%s\" of relation \"%s\" violates not-null constraint",
					  NameStr(TupleDescAttr(RelationGetDescr(relation),
											leaf->not_null[i])->attname), relation);
			return false;
		}
	econtext->ecxt_scantuple = row;
	for (int i = 0; i < leaf->n_checks; i++)
		if (!ExecCheck(leaf->checks[i].state, econtext))
		{
			set_fault(faults, fault, ERRCODE_CHECK_VIOLATION,
					  "check constraint \"%s\" of relation \"%s\" is violated", leaf->checks[i].name, relation);
			return false;
		}
	return true;
}

TupleTableSlot *
leaf_prepare(LeafSet *set, Leaf *leaf, TupleTableSlot *row, MemoryContext faults,
			 DecodeFault *fault)
{
	if (leaf->row_by_row && leaf->from_root == NULL)
		row = copy_of_row(set, row);
	else
		row = in_layout_of_leaf(set, leaf, row);
	fault->sqlstate = 0;
	if (leaf->row_by_row)
	{
		row->tts_tableOid = RelationGetRelid(leaf->relation->ri_RelationDesc);
		if (!ExecBRInsertTriggers(set->estate, leaf->relation, row))
			return NULL;
		slot_getallattrs(row);
	}
	if (leaf->has_generated)
		ExecComputeStoredGenerated(leaf->relation, set->estate, row, CMD_INSERT);
	if (!constraints_hold(set, leaf, row, faults, fault))
		return NULL;
	if (leaf->row_by_row && leaf->relation->ri_RelationDesc->rd_rel->relispartition)
		ExecPartitionCheck(leaf->relation, row, set->estate, true);
	return row;
}
