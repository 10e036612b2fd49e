/*
 * writer_wide.c
 *		Whether the keys of a row fit into the indexes of its leaf, before it is written.
 *
 * Called by writer_careful.c once a key was too wide: an index says so only after all rows of the call are
 * in the table, for each of which it is too late then.
 */
#include "postgres.h"

#include "catalog/index.h"
#include "executor/executor.h"
#include "utils/rel.h"

#include "index_width.h"
#include "writer_internal.h"

static bool
counts_in_index(LeafSet *set, const IndexInfo *info)
{
	if (info->ii_Predicate == NIL)
		return true;
	return ExecQual(ExecPrepareQual(info->ii_Predicate, set->estate), GetPerTupleExprContext(set->estate));
}

bool
keys_fit(Writer *writer, Leaf *leaf, TupleTableSlot *row, MemoryContext faults, DecodeFault *fault)
{
	ResultRelInfo *relation = leaf->relation;
	LeafSet    *set = writer->leaves;

	GetPerTupleExprContext(set->estate)->ecxt_scantuple = row;
	for (int i = 0; i < relation->ri_NumIndices; i++)
	{
		Relation	index = relation->ri_IndexRelationDescs[i];
		IndexInfo  *info = relation->ri_IndexRelationInfo[i];
		Datum		values[INDEX_MAX_KEYS];
		bool		nulls[INDEX_MAX_KEYS];
		Size		size;
		MemoryContext outer;

		if (!counts_in_index(set, info))
			continue;
		outer = MemoryContextSwitchTo(GetPerTupleMemoryContext(set->estate));
		FormIndexDatum(info, row, set->estate, values, nulls);
		size = index_excess_width(index, values, nulls);
		MemoryContextSwitchTo(faults);
		if (size > 0)
		{
			fault->sqlstate = ERRCODE_PROGRAM_LIMIT_EXCEEDED;
			fault->message = psprintf("index row size %zu exceeds maximum %zu for index \"%s\"", size,
									  (Size) INDEX_WIDEST_ENTRY, RelationGetRelationName(index));
		}
		MemoryContextSwitchTo(outer);
		writer->care->needed |= size > 0;
		if (size > 0)
			return false;
	}
	return true;
}
