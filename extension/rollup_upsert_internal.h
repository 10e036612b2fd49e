/*
 * rollup_upsert_internal.h
 *		What the files of the merge without a statement share.
 *
 * rollup_upsert_plan.c makes a RollupUpsert, which is kept; rollup_upsert.c goes through the groups of one run;
 * rollup_upsert_table.c knows the tables of it, rollup_upsert_row.c finds and writes one row.
 */
#ifndef CLICKSTREAM_ROLLUP_UPSERT_INTERNAL_H
#define CLICKSTREAM_ROLLUP_UPSERT_INTERNAL_H

#include "postgres.h"

#include "access/genam.h"
#include "access/relscan.h"
#include "access/skey.h"
#include "access/tableam.h"
#include "executor/executor.h"
#include "utils/rel.h"
#include "utils/snapshot.h"

#include "rollup_order.h"
#include "rollup_upsert.h"

/* a column of the table that is computed */
typedef struct Computed
{
	AttrNumber	column;
	AttrNumber	state;			/* of an aggregate: the number of its new state; else 0 */
	ExprState  *expression;
} Computed;

/* how a table's rows are found by their keys */
typedef struct UpsertIndex
{
	List	   *indexes;		/* unique on the keys; the first is looked into */
	ScanKey		scan_keys;
	int		   *scan_states;	/* the state that each of them takes */
} UpsertIndex;

struct RollupUpsert
{
	Oid			rollup;
	bool		needs_search_path;
	bool		is_partitioned;
	int			time_state;		/* of a partitioned one: the state that says which partition */
	int			n_states;		/* columns of the new states: keys first */
	int			n_keys;
	AttrNumber *columns;		/* where each of them is in the table */
	int			n_aggregates;
	Computed   *aggregates;		/* combined with what is there */
	int			n_derived;
	Computed   *derived;		/* of the row's own keys and states */
	AttrNumber	rows_column;
	bool		is_single_group;
	Bitmapset  *sums;			/* columns whose 0 may be that of no values */
	UpsertIndex index;			/* of a table that is not partitioned */
	RollupOrder *order;
	TupleDesc	states_desc;
	TupleDesc	desc;			/* the table's; not the relation cache's, which is pinned for its user */
	ExprContext *context;
	Size		longest;		/* row that was met so far */

	/* of one run: what an error leaves in them belongs to a transaction that is gone */
	TupleTableSlot *fresh;		/* new states */
	TupleTableSlot *there;		/* a row of the table as it is */
	TupleTableSlot *row;		/* the same as it is to be */
};

/* a table that has rows, open for a run: the rollup's own, or one of its partitions */
typedef struct UpsertTable
{
	Relation	relation;
	Relation	looked_into;	/* the index */
	UpsertIndex index;
	IndexScanDesc scan;
	ResultRelInfo *result;		/* made when an index has to get an entry */
} UpsertTable;

/* one run; on the stack */
typedef struct UpsertRun
{
	RollupUpsert *upsert;
	Relation	rollup;
	bool		takes;
	SnapshotData dirty;
	CommandId	command;
	List	   *tables;			/* of UpsertTable * */
	UpsertTable *table;			/* where the group at hand belongs */
	EState	   *estate;			/* made with the first result */
} UpsertRun;

/* ---------------------------------------------------------------- rollup_upsert_table.c */

/* whether a table has nothing that only a statement minds; its columns are the first n_columns */
extern bool upsert_table_is_plain(Relation table, int n_columns);

/* false: it has no index that is unique on the keys */
extern bool upsert_index_find(UpsertIndex *index, const RollupUpsert *upsert, Relation table);

/* Opens what all of the states need; false if one of the tables is not plain. */
extern bool upsert_tables_open(UpsertRun *run, Tuplestorestate *states);
extern void upsert_tables_close(UpsertRun *run);

/* turns to the table where the group in upsert->fresh belongs */
extern void upsert_table_choose(UpsertRun *run);

/* for indexes and constraints; most rows need none of it */
extern void upsert_table_prepare_result(UpsertRun *run);

/* ---------------------------------------------------------------- rollup_upsert_row.c */

/* Adds the group in upsert->fresh to its row, or makes one. */
extern void upsert_row_add(UpsertRun *run);

#endif							/* CLICKSTREAM_ROLLUP_UPSERT_INTERNAL_H */
