/*
 * writer_brin.c
 *		Entries of new rows in block range indexes, for fewer calls than there are rows.
 *
 * A block range index holds one summary for each range of pages.  Once all rows of a call are in
 * the table, a range without a summary needs nothing: whoever summarises it from now on will see
 * them.  And a value that has just been added to a range's summary adds nothing a second time.
 * So of
 * a thousand rows a few reach the index.  Called by writer_leaf.c, which takes such indexes out of
 * the executor's list and puts them back before it closes them.
 */
#include "postgres.h"

#include "access/brin.h"
#include "access/brin_revmap.h"
#include "access/genam.h"
#include "catalog/index.h"
#include "catalog/pg_am.h"
#include "executor/executor.h"
#include "storage/bufmgr.h"
#include "utils/rel.h"

#include "compat.h"
#include "writer_leaf.h"

/* what was last added to the summary of a range */
typedef struct LastAdded
{
	BlockNumber range;
	bool		summarised;
	bool		any;
	Datum		values[INDEX_MAX_KEYS];
	bool		nulls[INDEX_MAX_KEYS];
} LastAdded;

/* plain columns only: the executor knows best about expressions and predicates */
static bool
is_simple_brin(Relation index, const IndexInfo *info)
{
	return index->rd_rel->relam == BRIN_AM_OID && info->ii_Expressions == NIL &&
		info->ii_Predicate == NIL &&
		info->ii_ReadyForInserts;
}

void
leaf_take_brin(Leaf *leaf)
{
	ResultRelInfo *relation = leaf->relation;
	int			kept = 0;

	leaf->n_indexes = relation->ri_NumIndices;
	if (leaf->n_indexes == 0)
		return;
	leaf->brin = palloc(sizeof(LeafIndex) * leaf->n_indexes);
	for (int i = 0; i < leaf->n_indexes; i++)
	{
		LeafIndex	index = {relation->ri_IndexRelationDescs[i], relation->ri_IndexRelationInfo[i]};

		if (is_simple_brin(index.index, index.info))
		{
			leaf->brin[leaf->n_brin++] = index;
			continue;
		}
		relation->ri_IndexRelationDescs[kept] = index.index;
		relation->ri_IndexRelationInfo[kept] = index.info;
		kept++;
	}
	relation->ri_NumIndices = kept;
}

void
leaf_give_back_brin(Leaf *leaf)
{
	ResultRelInfo *relation = leaf->relation;

	for (int i = 0; i < leaf->n_brin; i++)
	{
		relation->ri_IndexRelationDescs[relation->ri_NumIndices] = leaf->brin[i].index;
		relation->ri_IndexRelationInfo[relation->ri_NumIndices] = leaf->brin[i].info;
		relation->ri_NumIndices++;
	}
	leaf->n_brin = 0;
}

static bool
is_summarised(Relation index, BlockNumber block)
{
	BlockNumber pages_per_range;
	BrinRevmap *revmap = compat_brin_revmap(index, &pages_per_range);
	Buffer		buffer = InvalidBuffer;
	OffsetNumber offset;
	bool		found = compat_brin_tuple(revmap, block / pages_per_range * pages_per_range,
										  &buffer, &offset) != NULL;

	if (found)
		LockBuffer(buffer, BUFFER_LOCK_UNLOCK);
	if (BufferIsValid(buffer))
		ReleaseBuffer(buffer);
	brinRevmapTerminate(revmap);
	return found;
}

/* bit for bit: a value by reference is another one unless it is the same place */
static bool
same_values(const LastAdded *last, const Datum *values, const bool *nulls, int n)
{
	for (int i = 0; i < n; i++)
		if (last->nulls[i] != nulls[i] || (!nulls[i] && last->values[i] != values[i]))
			return false;
	return last->any;
}

static void
add_row(const LeafIndex *brin, Leaf *leaf, TupleTableSlot *row, LastAdded *last, EState *estate)
{
	Datum		values[INDEX_MAX_KEYS];
	bool		nulls[INDEX_MAX_KEYS];
	int			n = brin->info->ii_NumIndexAttrs;

	FormIndexDatum(brin->info, row, estate, values, nulls);
	if (same_values(last, values, nulls, n))
		return;
	index_insert(brin->index, values, nulls, &row->tts_tid, leaf->relation->ri_RelationDesc,
				 UNIQUE_CHECK_NO, false,
				 brin->info);
	memcpy(last->values, values, sizeof(Datum) * n);
	memcpy(last->nulls, nulls, sizeof(bool) * n);
	last->any = true;
}

/*
 * the first row of a page always goes to the index, which may then ask for the range before to be
 * summarised
 */
static void
add_rows(const LeafIndex *brin, Leaf *leaf, EState *estate)
{
	BlockNumber pages_per_range = BrinGetPagesPerRange(brin->index);
	LastAdded	last = {.range = InvalidBlockNumber};

	for (int i = 0; i < leaf->n; i++)
	{
		TupleTableSlot *row = leaf->rows[i];
		BlockNumber block = ItemPointerGetBlockNumber(&row->tts_tid);

		if (block / pages_per_range != last.range)
		{
			last.range = block / pages_per_range;
			last.summarised = is_summarised(brin->index, block);
			last.any = false;
		}
		if (ItemPointerGetOffsetNumber(&row->tts_tid) == FirstOffsetNumber)
			last.any = false;
		else if (!last.summarised)
			continue;
		add_row(brin, leaf, row, &last, estate);
	}
}

void
leaf_write_brin(Leaf *leaf, EState *estate)
{
	for (int i = 0; i < leaf->n_brin; i++)
		add_rows(&leaf->brin[i], leaf, estate);
}

void
leaf_settle_brin(Leaf *leaf, bool failed)
{
	for (int i = 0; i < leaf->n_brin; i++)
		compat_end_inserts(leaf->brin[i].index, leaf->brin[i].info, failed);
}
