/*
 * rollup_batch.c
 *		New rows of a target in memory, as far as its rollups look at them.
 *
 * Called by the source worker, which adds rows, and by rollup_states.c, whose plans read them.  A row is an
 * array of values ready for use: a tuple would be formed once and taken apart again by each rollup.  Columns
 * that no rollup looks at are not kept, however large they are.  Knows nothing of rollups.
 *
 * A plan reads a batch by a node of our own, put in place of the scan of a named tuplestore for which it
 * was made; where the batch is, the executor's environment says under the same name.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/sysattr.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/extensible.h"
#include "nodes/makefuncs.h"
#include "optimizer/optimizer.h"
#include "rewrite/rewriteManip.h"
#include "utils/memutils.h"
#include "utils/queryenvironment.h"

#include "rollup_batch.h"

/* a batch that has grown to this is to be applied before it grows further */
#define FULL_BYTES (16 * 1024 * 1024)

/* a block of memory for values, and room for rows: small at first, since a statement may write one row */
#define FIRST_ARENA_BYTES (4 * 1024)
#define ARENA_BYTES (256 * 1024)
#define FIRST_ROWS 16

/* a column that is kept */
typedef struct BatchColumn
{
	int			index;
	int16		length;
	bool		by_value;
} BatchColumn;

struct RollupBatch
{
	MemoryContext context;		/* of the batch itself */
	MemoryContext memory;		/* of the rows; child of context */
	TupleDesc	desc;			/* the target's */
	int			n_columns;
	BatchColumn *columns;
	int64		n;
	int64		room;
	Datum	   *values;			/* n_columns of each row */
	bool	   *nulls;
	char	   *arena;			/* where values by reference go: a block at a time */
	size_t		arena_size;
	size_t		arena_used;
	size_t		bytes;
};

/* ---------------------------------------------------------------- rows come in */

RollupBatch *
rollup_batch_create(TupleDesc desc, const Bitmapset *columns)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "new rows for rollups",
												  ALLOCSET_SMALL_SIZES);
	RollupBatch *batch = MemoryContextAllocZero(context, sizeof(RollupBatch));
	int			index = -1;

	batch->context = context;
	batch->desc = desc;
	batch->memory = AllocSetContextCreate(context, "rows", ALLOCSET_DEFAULT_SIZES);
	batch->columns = MemoryContextAlloc(context, sizeof(BatchColumn) * Max(desc->natts, 1));
	while ((index = bms_next_member(columns, index)) >= 0)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, index);

		if (!attribute->attisdropped)
			batch->columns[batch->n_columns++] = (BatchColumn)
			{
				index, attribute->attlen, attribute->attbyval
			};
	}
	return batch;
}

void
rollup_batch_clear(RollupBatch *batch)
{
	MemoryContextReset(batch->memory);
	batch->n = batch->room = 0;
	batch->values = NULL;
	batch->nulls = NULL;
	batch->arena = NULL;
	batch->arena_size = 0;
	batch->arena_used = 0;
	batch->bytes = 0;
}

int64
rollup_batch_count(const RollupBatch *batch)
{
	return batch->n;
}

TupleDesc
rollup_batch_desc(const RollupBatch *batch)
{
	return batch->desc;
}

MemoryContext
rollup_batch_memory(const RollupBatch *batch)
{
	return batch->memory;
}

bool
rollup_batch_is_full(const RollupBatch *batch)
{
	return batch->bytes >= FULL_BYTES;
}

static void
make_room(RollupBatch *batch)
{
	int64		room = Max(batch->room * 2, FIRST_ROWS);
	Size		n = room * Max(batch->n_columns, 1);

	if (batch->values == NULL)
	{
		batch->values = MemoryContextAllocHuge(batch->memory, n * sizeof(Datum));
		batch->nulls = MemoryContextAllocHuge(batch->memory, n * sizeof(bool));
	}
	else
	{
		batch->values = repalloc_huge(batch->values, n * sizeof(Datum));
		batch->nulls = repalloc_huge(batch->nulls, n * sizeof(bool));
	}
	batch->room = room;
}

/* room for a value, aligned for any type */
static char *
place(RollupBatch *batch, size_t size)
{
	char	   *at;

	batch->bytes += size;
	size = MAXALIGN(size);
	if (size > ARENA_BYTES / 4)
		return MemoryContextAllocHuge(batch->memory, size);
	if (batch->arena_used + size > batch->arena_size)
	{
		batch->arena_size = Max(FIRST_ARENA_BYTES, Max(size, Min(batch->arena_size * 4, ARENA_BYTES)));
		batch->arena = MemoryContextAlloc(batch->memory, batch->arena_size);
		batch->arena_used = 0;
	}
	at = batch->arena + batch->arena_used;
	batch->arena_used += size;
	return at;
}

static Datum
keep(RollupBatch *batch, const BatchColumn *column, Datum value)
{
	char	   *from = DatumGetPointer(value);
	size_t		size;
	char	   *to;

	if (column->length == -1 && VARATT_IS_EXTERNAL(from))
		from = (char *) detoast_attr((struct varlena *) from);
	size = column->length == -1 ? VARSIZE_ANY(from) :
		column->length == -2 ? strlen(from) + 1 : (size_t) column->length;
	to = place(batch, size);
	memcpy(to, from, size);
	return PointerGetDatum(to);
}

void
rollup_batch_add(RollupBatch *batch, TupleTableSlot *row)
{
	Datum	   *values;
	bool	   *nulls;

	slot_getallattrs(row);
	if (batch->n == batch->room)
		make_room(batch);
	values = batch->values + batch->n * batch->n_columns;
	nulls = batch->nulls + batch->n * batch->n_columns;
	for (int i = 0; i < batch->n_columns; i++)
	{
		const BatchColumn *column = &batch->columns[i];

		nulls[i] = row->tts_isnull[column->index];
		values[i] = row->tts_values[column->index];
		if (!column->by_value && !nulls[i])
			values[i] = keep(batch, column, values[i]);
	}
	batch->bytes += batch->n_columns * (sizeof(Datum) + sizeof(bool));
	batch->n++;
}

/* ---------------------------------------------------------------- rows go out */

/* the slot is empty, and all its columns that are not kept are NULL */
static TupleTableSlot *
put_row(const RollupBatch *batch, int64 row, TupleTableSlot *slot)
{
	const Datum *values = batch->values + row * batch->n_columns;
	const bool *nulls = batch->nulls + row * batch->n_columns;

	for (int i = 0; i < batch->n_columns; i++)
	{
		slot->tts_values[batch->columns[i].index] = values[i];
		slot->tts_isnull[batch->columns[i].index] = nulls[i];
	}
	return ExecStoreVirtualTuple(slot);
}

Tuplestorestate *
rollup_batch_rows(const RollupBatch *batch)
{
	Tuplestorestate *rows = tuplestore_begin_heap(true, false, work_mem);
	TupleTableSlot *slot = MakeSingleTupleTableSlot(batch->desc, &TTSOpsVirtual);

	memset(slot->tts_isnull, true, batch->desc->natts);
	for (int64 i = 0; i < batch->n; i++)
	{
		ExecClearTuple(slot);
		tuplestore_puttupleslot(rows, put_row(batch, i, slot));
	}
	ExecDropSingleTupleTableSlot(slot);
	return rows;
}

/* ---------------------------------------------------------------- the node that reads them */

typedef struct BatchScan
{
	CustomScanState custom;
	EphemeralNamedRelation relation;	/* says which batch: a plan that is kept reads one after the other */
	const RollupBatch *batch;
	int64		next;
} BatchScan;

static TupleTableSlot *
next_row(ScanState *node)
{
	BatchScan  *scan = (BatchScan *) node;

	ExecClearTuple(node->ss_ScanTupleSlot);
	if (scan->next == 0)
		scan->batch = (const RollupBatch *) scan->relation->reldata;
	if (scan->next >= scan->batch->n)
		return node->ss_ScanTupleSlot;
	return put_row(scan->batch, scan->next++, node->ss_ScanTupleSlot);
}

static bool
recheck_row(ScanState *node, TupleTableSlot *slot)
{
	return true;
}

static void
begin_scan(CustomScanState *node, EState *estate, int eflags)
{
	BatchScan  *scan = (BatchScan *) node;
	CustomScan *plan = (CustomScan *) node->ss.ps.plan;

	scan->relation = get_ENR(estate->es_queryEnv, strVal(linitial(plan->custom_private)));
	if (scan->relation == NULL)
		elog(ERROR, "no rows are registered for a rollup");
	scan->next = 0;
	memset(node->ss.ss_ScanTupleSlot->tts_isnull, true,
		   node->ss.ss_ScanTupleSlot->tts_tupleDescriptor->natts);
}

static TupleTableSlot *
run_scan(CustomScanState *node)
{
	return ExecScan(&node->ss, next_row, recheck_row);
}

static void
end_scan(CustomScanState *node)
{
}

static void
rescan(CustomScanState *node)
{
	((BatchScan *) node)->next = 0;
	ExecScanReScan(&node->ss);
}

static const CustomExecMethods scan_methods = {
	.CustomName = "clickstream new rows",
	.BeginCustomScan = begin_scan,
	.ExecCustomScan = run_scan,
	.EndCustomScan = end_scan,
	.ReScanCustomScan = rescan,
};

static Node *
create_scan(CustomScan *plan)
{
	BatchScan  *scan = palloc0(sizeof(BatchScan));

	NodeSetTag(scan, T_CustomScanState);
	scan->custom.methods = &scan_methods;
	return (Node *) scan;
}

static const CustomScanMethods plan_methods = {
	.CustomName = "clickstream new rows",
	.CreateCustomScanState = create_scan,
};

/* ---------------------------------------------------------------- in place of a tuplestore's scan */

/* only the types matter: the values come from elsewhere */
static List *
types_of(TupleDesc desc)
{
	List	   *entries = NIL;

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);
		Const	   *value = attribute->attisdropped ? makeNullConst(INT4OID, -1, InvalidOid) :
			makeNullConst(attribute->atttypid, attribute->atttypmod, attribute->attcollation);

		entries = lappend(entries, makeTargetEntry((Expr *) value, i + 1,
												   pstrdup(NameStr(attribute->attname)), false));
	}
	return entries;
}

/* a node without a relation has the columns of its custom_scan_tlist, by that name */
static List *
of_own_rows(const NamedTuplestoreScan *scan, List *expressions)
{
	List	   *copy = copyObject(expressions);

	ChangeVarNodes((Node *) copy, scan->scan.scanrelid, INDEX_VAR, 0);
	return copy;
}

static Plan *
batch_scan(const NamedTuplestoreScan *scan, TupleDesc desc)
{
	CustomScan *custom = makeNode(CustomScan);

	custom->scan.plan = scan->scan.plan;
	custom->scan.plan.type = T_CustomScan;
	custom->scan.plan.targetlist = of_own_rows(scan, scan->scan.plan.targetlist);
	custom->scan.plan.qual = of_own_rows(scan, scan->scan.plan.qual);
	custom->scan.scanrelid = 0;
	custom->custom_scan_tlist = types_of(desc);
	custom->custom_private = list_make1(makeString(pstrdup(scan->enrname)));
	custom->methods = &plan_methods;
	return (Plan *) custom;
}

static void
note_columns(const NamedTuplestoreScan *scan, TupleDesc desc, Bitmapset **columns)
{
	Bitmapset  *found = NULL;
	int			member = -1;

	pull_varattnos((Node *) scan->scan.plan.targetlist, scan->scan.scanrelid, &found);
	pull_varattnos((Node *) scan->scan.plan.qual, scan->scan.scanrelid, &found);
	while ((member = bms_next_member(found, member)) >= 0)
	{
		AttrNumber	number = member + FirstLowInvalidHeapAttributeNumber;

		if (number > 0)
			*columns = bms_add_member(*columns, number - 1);
		else if (number == 0 && desc->natts > 0)
			*columns = bms_add_range(*columns, 0, desc->natts - 1);
	}
}

/* a table of FROM is reached by way of joins alone */
static Plan **
find_scan(Plan **node, const char *name)
{
	Plan	  **found;

	if (*node == NULL)
		return NULL;
	if (IsA(*node, NamedTuplestoreScan) && strcmp(((NamedTuplestoreScan *) *node)->enrname, name) == 0)
		return node;
	found = find_scan(&(*node)->lefttree, name);
	return found != NULL ? found : find_scan(&(*node)->righttree, name);
}

bool
rollup_batch_reads(PlannedStmt *plan, const char *name, TupleDesc desc, Bitmapset **columns)
{
	Plan	  **found = find_scan(&plan->planTree, name);
	NamedTuplestoreScan *scan;

	if (found == NULL)
		return false;
	scan = (NamedTuplestoreScan *) *found;
	note_columns(scan, desc, columns);
	*found = batch_scan(scan, desc);
	return true;
}
