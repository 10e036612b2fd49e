/*
 * writer_unique.c
 *		Whether the place of a row is taken, before it is written.
 *
 * Owns the look at unique and exclusion constraints of a leaf.  An index tells of rows that are in the
 * table, also of those that another transaction has not committed yet: that is waited for, as an INSERT
 * would.  Of rows that are only collected it tells nothing; so the hash of each key is kept until they
 * are written, and a row whose hash is among them makes the writer write those first.  Somebody
 * else's row may still come in between: then the index raises the error, and careful writing tries again.
 *
 * Called by writer.c for each row once a batch has met such a violation, or is to ignore them.
 */
#include "postgres.h"

#include "access/genam.h"
#include "catalog/index.h"
#include "common/hashfn.h"
#include "executor/executor.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/typcache.h"

#include "compat.h"
#include "writer_internal.h"

/* what can be looked at; a deferrable constraint cannot, its violation is thrown */
static bool
can_look_at(Relation index, const IndexInfo *info)
{
	return (info->ii_Unique || info->ii_ExclusionOps != NULL) && info->ii_ReadyForInserts &&
		index->rd_index->indimmediate;
}

static void
find_unique(LeafSet *set, Leaf *leaf)
{
	ResultRelInfo *relation = leaf->relation;
	MemoryContext outer = MemoryContextSwitchTo(set->estate->es_query_cxt);

	leaf->unique = palloc(sizeof(LeafIndex) * Max(relation->ri_NumIndices, 1));
	for (int i = 0; i < relation->ri_NumIndices; i++)
	{
		LeafIndex	index = {relation->ri_IndexRelationDescs[i], relation->ri_IndexRelationInfo[i]};

		if (!can_look_at(index.index, index.info))
			continue;
		if (index.info->ii_ExclusionOps == NULL)
			BuildSpeculativeIndexInfo(index.index, index.info);
		index.oid = list_make1_oid(RelationGetRelid(index.index));
		leaf->unique[leaf->n_unique++] = index;
	}
	MemoryContextSwitchTo(outer);
}

/* ---------------------------------------------------------------- rows that are not written yet */

/* false when rows with this key do not stand in each other's way, as NULLs */
static bool
hash_of_key(const LeafIndex *index, const Datum *values, const bool *nulls, uint32 *hash)
{
	TupleDesc	desc = RelationGetDescr(index->index);

	*hash = RelationGetRelid(index->index);
	for (int i = 0; i < index->info->ii_NumIndexKeyAttrs; i++)
	{
		TypeCacheEntry *type;

		if (nulls[i] && !index->info->ii_NullsNotDistinct)
			return false;
		if (nulls[i])
			continue;
		type = lookup_type_cache(TupleDescAttr(desc, i)->atttypid, TYPECACHE_HASH_PROC_FINFO);
		if (!OidIsValid(type->hash_proc_finfo.fn_oid))
			continue;			/* as if all had the same */
		*hash = hash_combine(*hash, DatumGetUInt32(FunctionCall1Coll(&type->hash_proc_finfo,
																	 index->index->rd_indcollation[i],
																	 values[i])));
	}
	return true;
}

/* remembers the key; whether it, or another of the same hash, was there */
static bool
see_key(Writer *writer, const LeafIndex *index, const Datum *values, const bool *nulls)
{
	uint32		hash;
	uint64	   *word;
	uint64		bit;
	bool		was_seen;

	if (index->info->ii_ExclusionOps != NULL)
		hash = RelationGetRelid(index->index);
	else if (!hash_of_key(index, values, nulls, &hash))
		return false;
	hash = murmurhash32(hash) % SEEN_BITS;
	word = &writer->seen[hash / 64];
	bit = UINT64CONST(1) << (hash % 64);
	was_seen = (*word & bit) != 0;
	*word |= bit;
	writer->any_seen = true;
	return was_seen;
}

void
forget_seen_keys(Writer *writer)
{
	if (writer->any_seen)
		memset(writer->seen, 0, sizeof(writer->seen));
	writer->any_seen = false;
}

/* ---------------------------------------------------------------- rows that are there */

static void
tell_conflict(const LeafIndex *index, Datum *values, bool *nulls, MemoryContext memory,
			  DecodeFault *fault)
{
	MemoryContext outer = MemoryContextSwitchTo(memory);
	bool		exclusion = index->info->ii_ExclusionOps != NULL;
	char	   *key = BuildIndexValueDescription(index->index, values, nulls);

	fault->sqlstate = exclusion ? ERRCODE_EXCLUSION_VIOLATION : ERRCODE_UNIQUE_VIOLATION;
	fault->message = psprintf(exclusion ? "conflicting key value violates exclusion constraint \"%s\"%s%s%s" :
							  "duplicate key value violates unique constraint \"%s\"%s%s%s",
							  RelationGetRelationName(index->index), key ? ": Key " : "",
							  key ? key : "", key == NULL ? "" : exclusion ? " conflicts with an existing key" :
							  " already exists.");
	MemoryContextSwitchTo(outer);
}

Oid
unique_key_taken(Writer *writer, Leaf *leaf, TupleTableSlot *row, MemoryContext faults,
				 DecodeFault *fault)
{
	LeafSet    *set = writer->leaves;

	writer->care->since_taken++;
	if (leaf->unique == NULL)
		find_unique(set, leaf);
	for (int i = 0; i < leaf->n_unique; i++)
	{
		LeafIndex  *index = &leaf->unique[i];
		Datum		values[INDEX_MAX_KEYS];
		bool		nulls[INDEX_MAX_KEYS];
		ItemPointerData there;

		GetPerTupleExprContext(set->estate)->ecxt_scantuple = row;
		FormIndexDatum(index->info, row, set->estate, values, nulls);
		if (see_key(writer, index, values, nulls))
			leaf_set_flush(set);
		if (compat_check_index_constraints(leaf->relation, row, set->estate, &there, index->oid))
			continue;
		if (writer->rules.on_conflict != CONFLICT_IGNORE)
			tell_conflict(index, values, nulls, faults, fault);
		note_taken(writer);
		return RelationGetRelid(index->index);
	}
	return InvalidOid;
}
