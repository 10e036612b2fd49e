/*
 * writer_leaf.h
 *		The tables that rows land in: the target itself, or the leaves below it.  For writer.c.
 */
#ifndef CLICKSTREAM_WRITER_LEAF_H
#define CLICKSTREAM_WRITER_LEAF_H

#include "postgres.h"

#include "access/heapam.h"
#include "access/tupconvert.h"
#include "executor/execPartition.h"
#include "executor/tuptable.h"
#include "nodes/execnodes.h"
#include "partitioning/partdefs.h"

#include "decode.h"

/* rows that go to one table in one call; as COPY */
#define LEAF_ROWS 1000

/* a CHECK constraint, ready to run */
typedef struct LeafCheck
{
	const char *name;
	ExprState  *state;
} LeafCheck;

/* an index that is open for writing */
typedef struct LeafIndex
{
	Relation	index;
	IndexInfo  *info;
	List	   *oid;			/* the index alone, as writer_unique.c asks for it */
} LeafIndex;

/* a table that rows are collected for */
typedef struct Leaf
{
	ResultRelInfo *relation;
	ResultRelInfo *for_triggers;	/* the same table as AFTER triggers see it; NULL without any */
	TupleConversionMap *from_root;	/* NULL: laid out as the target is */
	TupleConversionMap *to_root;
	int			n_not_null;
	int		   *not_null;		/* indexes of columns */
	int			n_checks;
	LeafCheck  *checks;
	bool		has_generated;
	bool		row_by_row;		/* a BEFORE trigger may look at the rows before */
	BulkInsertState bulk;
	int			n_indexes;		/* all of them */
	int			n_brin;			/* those that writer_brin.c writes */
	LeafIndex  *brin;
	int			n_unique;		/* those that writer_unique.c looks at; found when it first does */
	LeafIndex  *unique;

	int			n;				/* rows collected */
	TupleTableSlot **rows;
	int		   *records;		/* the record each comes from */
	TupleTableSlot **own;		/* slots of its own layout, made as needed */
	int			at_own;			/* the one for the next row, round and round */
} Leaf;

/* the target and its leaves, in one transaction */
typedef struct LeafSet
{
	EState	   *estate;
	MemoryContext rows;			/* what lives until the collected rows are written */
	Relation	target;
	TupleDesc	desc;			/* the target's, a copy: slots outlive savepoints, what they pin does not */
	ResultRelInfo *root;
	AttrNumber	time_column;	/* range partitioned by it alone, or 0 */
	Oid			time_type;
	ModifyTableState *state;
	PartitionTupleRouting *routing; /* NULL for a plain table */
	PartitionDesc parts;
	PartitionKey key;
	Leaf	  **by_part;		/* direct leaves by their number in `parts` */
	List	   *all;			/* of Leaf * */
	Leaf	   *last;
	int			last_part;
	int64		last_from,		/* the range of the last one, as Datum of the key's type */
				last_to;
	int			collected;		/* rows in all leaves */
	int			at_record;		/* which record is being worked on; -1 several */
	bool		one_by_one;		/* AFTER triggers of a row fire before those of the next are known */
	TupleTableSlot *scratch;	/* a row that BEFORE triggers may change */
} LeafSet;

extern LeafSet *leaf_set_open(Relation target);
extern void leaf_set_close(LeafSet *set);

/* lives as long as the set: rows come and go in a memory of their own, in which a caller may be */
extern TupleTableSlot *leaf_set_slot(LeafSet *set, TupleDesc desc, const TupleTableSlotOps *ops);

/* whether there is a partition for the time but the default one */
extern bool leaf_set_covers(LeafSet *set, Datum time, bool *has_default);

/* the leaf for a row of the target's layout; throws when there is none */
extern Leaf *leaf_for(LeafSet *set, TupleTableSlot *row);

/*
 * writer_prepare.c.  Takes a row for a leaf: triggers that come before, generated columns, constraints.  Returns the
 * row as it will be, in the leaf's layout; NULL when it shall not be: *fault tells why, or is all
 * zero when a trigger left it out.
 */
extern TupleTableSlot *leaf_prepare(LeafSet *set, Leaf *leaf, TupleTableSlot *row,
									MemoryContext faults, DecodeFault *fault);

/* keeps a prepared row; writes the leaf's rows when there are enough */
extern void leaf_collect(LeafSet *set, Leaf *leaf, TupleTableSlot *row, int record);

/* writes all that is collected */
extern void leaf_set_flush(LeafSet *set);

/*
 * after the end of a subtransaction: forgets collected rows, and pins that are gone when it
 * failed
 */
extern void leaf_set_settle(LeafSet *set, bool failed);

/*
 * writer_brin.c: block range indexes out of the executor's list and back, and the leaf's rows
 * into them
 */
extern void leaf_take_brin(Leaf *leaf);
extern void leaf_give_back_brin(Leaf *leaf);
extern void leaf_write_brin(Leaf *leaf, EState *estate);
extern void leaf_settle_brin(Leaf *leaf, bool failed);

#endif							/* CLICKSTREAM_WRITER_LEAF_H */
