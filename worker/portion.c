/*
 * portion.c
 *		A table read by portions, each in a transaction of its own.
 *
 * Owns the order: partition after partition by OID, block after block.  A row that moves meanwhile can be
 * met twice or not at all: whoever reads so follows the log from a position before the first portion.
 * Called by sink_build.c and sink_recover.c.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "storage/bufmgr.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "portion.h"

/* what so many requests hold is read under one snapshot, and noted as read after it */
#define PORTION_REQUESTS 8

static List *
leaves_of(Oid relation)
{
	List	   *leaves = get_rel_relkind(relation) == RELKIND_PARTITIONED_TABLE ?
		find_all_inheritors(relation, NoLock, NULL) : list_make1_oid(relation);

	list_sort(leaves, list_oid_cmp);
	return leaves;
}

/* some of its blocks, as many as there is room for; how many */
static int64
read_leaf(const Sink *sink, const RelationDescription *relation, SinkCopied *copied, Oid leaf_id,
		  int64 room, CopyRow row, void *arg)
{
	Relation	leaf = try_relation_open(leaf_id, AccessShareLock);
	int64		blocks = 0;

	if (leaf == NULL)
		return 0;
	if (copied->leaf != leaf_id || copied->file != leaf->rd_rel->relfilenode)
		copied->blocks = 0;
	copied->leaf = leaf_id;
	copied->file = leaf->rd_rel->relfilenode;
	if (RELKIND_HAS_STORAGE(leaf->rd_rel->relkind))
	{
		blocks = Min(room, (int64) RelationGetNumberOfBlocks(leaf) - copied->blocks);
		if (blocks > 0)
			copy_blocks(relation, leaf_id, copied->blocks, copied->blocks + blocks, copy_filter(sink),
						row, arg);
		copied->blocks += Max(blocks, 0);
	}
	else if (leaf->rd_rel->relkind == RELKIND_FOREIGN_TABLE)
		copy_blocks(relation, leaf_id, -1, -1, copy_filter(sink), row, arg);
	relation_close(leaf, AccessShareLock);
	return Max(blocks, 0);
}

bool
portion_read(const Sink *sink, const RelationDescription *relation, SinkCopied *copied, CopyRow row,
			 void *arg)
{
	List	   *leaves = leaves_of(relation->relation);
	int64		room = Max((int64) sink->bulk_bytes * PORTION_REQUESTS / BLCKSZ, 1);
	ListCell   *cell;

	foreach(cell, leaves)
	{
		if (lfirst_oid(cell) < copied->leaf)
			continue;
		room -= read_leaf(sink, relation, copied, lfirst_oid(cell), room, row, arg);
		if (room <= 0)
			return true;
	}
	return false;
}
