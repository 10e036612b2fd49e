/*
 * rollup_portions.c
 *		A large table divided into portions, from which a rollup is filled one after the other.
 *
 * Called by rollup_fill.c, which puts each in place, and keeps in the catalog how far it is.  Decides what a portion
 * is: a leaf of the target, or some blocks of a large one, with the rows in it that were there when the filling
 * began.  So no snapshot is held for long, what is done is done, and any process can go on.
 *
 * Whether a row was there is told by the transaction that wrote it (rollup_part.c).  For that its number must be
 * known for certain.  Where it is not, the table is read as a whole:
 *	- a snapshot with more subtransactions than fit does not tell which were running;
 *	- after 2^32 transactions their numbers come again, and a row that was frozen does not tell which one it means;
 *	- rows of foreign tables, and of other kinds of storage, need not have one.
 * A leaf that has been written anew since (by VACUUM FULL, TRUNCATE, or ALTER TABLE) has its rows in other places, or
 * by other transactions: all begins again.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "rollup_portions.h"
#include "rollup_set.h"

/* KB; a setting, see clickstream.c */
int			clickstream_fill_portion = 2 * 1024 * 1024;

static int64
portion_blocks(void)
{
	return Max(1, (int64) clickstream_fill_portion * 1024 / BLCKSZ);
}

/* ---------------------------------------------------------------- the moment */

/* no number of a transaction stands for two */
static bool
numbers_are_unique(void)
{
	return EpochFromFullTransactionId(ReadNextFullTransactionId()) == 0;
}

static int
compare(const void *a, const void *b)
{
	int64		left = *(const int64 *) a;
	int64		right = *(const int64 *) b;

	return left < right ? -1 : left > right;
}

static bool
take_moment(Fill *fill)
{
	Snapshot	snapshot = GetLatestSnapshot();
	int			i;

	if (snapshot->suboverflowed || snapshot->takenDuringRecovery || !numbers_are_unique())
		return false;
	fill->begun_at = GetCurrentTimestamp();
	fill->horizon = snapshot->xmax;
	fill->running = palloc(sizeof(int64) * Max(snapshot->xcnt + snapshot->subxcnt, 1));
	for (i = 0; i < snapshot->xcnt; i++)
		fill->running[fill->n_running++] = snapshot->xip[i];
	for (i = 0; i < snapshot->subxcnt; i++)
		fill->running[fill->n_running++] = snapshot->subxip[i];
	qsort(fill->running, fill->n_running, sizeof(int64), compare);
	return true;
}

/* ---------------------------------------------------------------- what is there */

/* False for a table whose rows do not tell who wrote them. */
static bool
add_leaf(Fill *fill, Relation relation)
{
	FillLeaf   *leaf = &fill->leaves[fill->n_leaves];

	if (relation->rd_rel->relkind == RELKIND_PARTITIONED_TABLE)
		return true;
	if (relation->rd_rel->relkind != RELKIND_RELATION || relation->rd_tableam != GetHeapamTableAmRoutine())
		return false;
	leaf->leaf = RelationGetRelid(relation);
	leaf->file = relation->rd_rel->relfilenode;
	leaf->blocks = RelationGetNumberOfBlocks(relation);
	if (leaf->blocks > 0)
		fill->n_leaves++;
	return true;
}

static bool
add_leaves(Fill *fill, Oid target)
{
	List	   *relations = find_all_inheritors(target, AccessShareLock, NULL);
	ListCell   *cell;

	fill->leaves = palloc0(sizeof(FillLeaf) * list_length(relations));
	foreach(cell, relations)
	{
		Relation	relation = table_open(lfirst_oid(cell), NoLock);
		bool		added = add_leaf(fill, relation);

		table_close(relation, NoLock);
		if (!added)
			return false;
	}
	return true;
}

int64
rollup_portions_total(const Fill *fill)
{
	int64		total = 0;
	int			i;

	for (i = 0; i < fill->n_leaves; i++)
		total += fill->leaves[i].blocks;
	return total;
}

int64
rollup_portions_read(const Fill *fill)
{
	int64		read = fill->blocks;
	int			i;

	for (i = 0; i < fill->leaf; i++)
		read += fill->leaves[i].blocks;
	return read;
}

/* What a crash empties cannot go on from where it was. */
Fill *
rollup_portions_plan(const Rollup *rollup)
{
	Fill	   *fill = palloc0(sizeof(Fill));

	if (get_rel_persistence(rollup->rollup) != RELPERSISTENCE_PERMANENT || !take_moment(fill) ||
		!add_leaves(fill, rollup->target) || rollup_portions_total(fill) <= portion_blocks())
		return NULL;
	fill->oldest = rollup_oldest(rollup);
	fill->portion = portion_blocks();
	return fill;
}

/* ---------------------------------------------------------------- one after the other */

typedef enum Leaf
{
	LEAF_AS_IT_WAS,
	LEAF_GONE,
	LEAF_WRITTEN_ANEW
} Leaf;

static Leaf
look_for_leaf(const FillLeaf *wanted, List *relations)
{
	Relation	relation;
	Leaf		leaf;

	if (!list_member_oid(relations, wanted->leaf))
		return LEAF_GONE;
	LockRelationOid(wanted->leaf, AccessShareLock);
	relation = try_relation_open(wanted->leaf, NoLock);
	if (relation == NULL)
		return LEAF_GONE;
	leaf = relation->rd_rel->relfilenode == wanted->file ? LEAF_AS_IT_WAS : LEAF_WRITTEN_ANEW;
	relation_close(relation, NoLock);
	return leaf;
}

/* what is read of a leaf at once: all, unless it is large */
static void
take_part(const Fill *fill, RollupPart *part)
{
	const FillLeaf *leaf = &fill->leaves[fill->leaf];

	part->moment = fill;
	part->leaf = leaf->leaf;
	part->is_whole = leaf->blocks <= fill->portion;
	part->from = fill->blocks;
	part->to = part->is_whole ? leaf->blocks : Min(leaf->blocks, fill->blocks + fill->portion);
}

static void
next_leaf(Fill *fill)
{
	fill->leaf++;
	fill->blocks = 0;
	fill->merged = NULL;
}

/*
 * Rows that went with their partition before they were read are not counted, as if the rollup had been made after
 * that.  A leaf that is counted by half is not to be told from one that was never more.
 */
RollupPortion
rollup_portions_next(const Rollup *rollup, Fill *fill, RollupPart *part)
{
	List	   *relations = find_all_inheritors(rollup->target, NoLock, NULL);

	if (!numbers_are_unique())
		return PORTIONS_LOST;
	for (; fill->leaf < fill->n_leaves; next_leaf(fill))
	{
		bool		untouched = fill->blocks == 0 && fill->merged == NULL;

		switch (look_for_leaf(&fill->leaves[fill->leaf], relations))
		{
			case LEAF_AS_IT_WAS:
				take_part(fill, part);
				return PORTION_FOUND;
			case LEAF_GONE:
				if (!untouched)
					return PORTIONS_LOST;
				break;
			case LEAF_WRITTEN_ANEW:
				return PORTIONS_LOST;
		}
	}
	return PORTIONS_OVER;
}

void
rollup_portions_done(Fill *fill, const RollupPart *part)
{
	fill->blocks = part->to;
	fill->merged = NULL;
	if (fill->blocks >= fill->leaves[fill->leaf].blocks)
		next_leaf(fill);
}
