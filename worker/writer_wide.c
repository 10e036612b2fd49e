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

/* the condition is made ready once, where the executor keeps it, too */
static bool
counts_in_index(LeafSet *set, IndexInfo *info)
{
	if (info->ii_Predicate == NIL)
		return true;
	if (info->ii_PredicateState == NULL)
		info->ii_PredicateState = ExecPrepareQual(info->ii_Predicate, set->estate);
	return ExecQual(info->ii_PredicateState, GetPerTupleExprContext(set->estate));
}

/* the fault of an entry that does not fit; false when it fits */
static bool
is_too_wide(LeafSet *set, Relation index, IndexInfo *info, TupleTableSlot *row, MemoryContext faults,
			DecodeFault *fault)
{
	MemoryContext outer = MemoryContextSwitchTo(GetPerTupleMemoryContext(set->estate));
	Datum		values[INDEX_MAX_KEYS];
	bool		nulls[INDEX_MAX_KEYS];
	char	   *excess;

	FormIndexDatum(info, row, set->estate, values, nulls);
	excess = index_excess(index, values, nulls);
	MemoryContextSwitchTo(outer);
	if (excess == NULL)
		return false;
	fault->sqlstate = ERRCODE_PROGRAM_LIMIT_EXCEEDED;
	fault->message = MemoryContextStrdup(faults, excess);
	return true;
}

bool
keys_fit(Writer *writer, Leaf *leaf, TupleTableSlot *row, MemoryContext faults, DecodeFault *fault)
{
	ResultRelInfo *relation = leaf->relation;
	LeafSet    *set = writer->leaves;

	GetPerTupleExprContext(set->estate)->ecxt_scantuple = row;
	for (int i = 0; i < relation->ri_NumIndices; i++)
	{
		IndexInfo  *info = relation->ri_IndexRelationInfo[i];

		if (!counts_in_index(set, info) ||
			!is_too_wide(set, relation->ri_IndexRelationDescs[i], info, row, faults, fault))
			continue;
		writer->care->needed = true;
		return false;
	}
	return true;
}
