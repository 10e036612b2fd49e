/*
 * rollup_progress.c
 *		How far a query has read the tables it reads from end to end.
 *
 * Called by rollup_states.c around the one long query of a rollup that is filled.  Only looks: at each
 * row that this process reads from a table it counts one, and once in a while it adds up the blocks
 * that the scans have come to.  Of a parallel scan that is what all processes together have taken.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/relscan.h"
#include "access/tableam.h"
#include "executor/executor.h"
#include "nodes/nodeFuncs.h"
#include "storage/bufmgr.h"
#include "utils/rel.h"

#include "rollup_progress.h"

#define LOOK_AFTER_ROWS 4096

/* Backend-local: the query that is watched, of which there is one at a time. */
static struct
{
	RollupProgress told;		/* NULL: none */
	void	   *argument;
	List	   *scans;			/* of SeqScanState * */
	uint32		rows;
	int64		total;
}			watched;

/* where the scan of a heap is, in blocks from where it began; 0 when it is at its end or not begun */
static BlockNumber
position_in_heap(const HeapScanDescData *heap)
{
	if (!heap->rs_inited || heap->rs_cblock == InvalidBlockNumber)
		return 0;
	return (heap->rs_cblock + heap->rs_nblocks - heap->rs_startblock) % heap->rs_nblocks;
}

static int64
blocks_read(const SeqScanState *node)
{
	TableScanDesc scan = node->ss.ss_currentScanDesc;

	if (scan == NULL)
		return 0;
	if (scan->rs_parallel != NULL)
	{
		ParallelBlockTableScanDesc shared = (ParallelBlockTableScanDesc) scan->rs_parallel;

		return Min(pg_atomic_read_u64(&shared->phs_nallocated), shared->phs_nblocks);
	}
	return position_in_heap((HeapScanDesc) scan);
}

static void
tell(void)
{
	int64		done = 0;
	ListCell   *cell;

	foreach(cell, watched.scans)
		done += blocks_read(lfirst(cell));
	watched.told(done, watched.total, watched.argument);
}

/* in place of the node's own function, which it then calls */
static TupleTableSlot *
next_row(PlanState *node)
{
	if (++watched.rows % LOOK_AFTER_ROWS == 0)
		tell();
	return node->ExecProcNodeReal(node);
}

static bool
watch_scans(PlanState *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, SeqScanState))
	{
		SeqScanState *scan = (SeqScanState *) node;
		Relation	relation = scan->ss.ss_currentRelation;

		if (relation->rd_tableam == GetHeapamTableAmRoutine())
		{
			watched.scans = lappend(watched.scans, scan);
			watched.total += RelationGetNumberOfBlocks(relation);
			node->ExecProcNode = next_row;
		}
	}
	return planstate_tree_walker(node, watch_scans, context);
}

void
rollup_progress_watch(QueryDesc *query, RollupProgress told, void *argument)
{
	memset(&watched, 0, sizeof(watched));
	watched.told = told;
	watched.argument = argument;
	(void) watch_scans(query->planstate, NULL);
	told(0, watched.total, argument);
}

void
rollup_progress_end(void)
{
	if (watched.told != NULL)
		watched.told(watched.total, watched.total, watched.argument);
	memset(&watched, 0, sizeof(watched));
}
