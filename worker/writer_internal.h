/*
 * writer_internal.h
 *		What the files of the writer share: writer.c, writer_decode.c, writer_careful.c, writer_unique.c
 *		and writer_upsert.c; nobody else includes it.
 */
#ifndef CLICKSTREAM_WRITER_INTERNAL_H
#define CLICKSTREAM_WRITER_INTERNAL_H

#include "postgres.h"

#include "utils/resowner.h"

#include "writer.h"
#include "writer_leaf.h"

/* records that are decoded before their rows are written */
#define CHUNK_RECORDS 1000

/* ... and bytes of records, whose values may take several times as much */
#define CHUNK_BYTES (4 * 1024 * 1024)

/* rows that wait in leaves when many leaves take few rows each */
#define MOST_COLLECTED 8000

/* what rows that wait for the end of the batch may take of memory before they go to a file, in kB */
#define WAITING_ROWS_KB 16384

/* hashes of the unique keys of rows that are not written yet, one bit each */
#define SEEN_BITS 65536

/* rows that replace others, in writer_upsert.c */
typedef struct Upsert Upsert;

struct RollupSieve;

/* a row that only has to be written; lives until the chunk's end */
typedef struct ReadyRow
{
	int			record;
	Leaf	   *leaf;
	TupleTableSlot *row;		/* in the leaf's layout; in the target's when triggers come first */
	MinimalTuple kept;			/* what a trigger made of it, for the rollups */
	bool		replaces;		/* another row: it waits for the end of the batch */
} ReadyRow;

struct Writer
{
	Relation	target;
	DecodePlan *plan;
	WriterRules rules;
	WriterCare *care;
	RollupSet  *rollups;
	struct RollupSieve *sieve;	/* NULL as long as it is not needed */
	LeafSet    *leaves;
	Upsert	   *upsert;			/* NULL: a row whose key is taken does not replace another */
	RollupBatch *new_rows;		/* for the rollups; NULL when there are none */
	TupleTableSlot *root_row;	/* a row of a leaf with a layout of its own, as the target has it */
	TupleTableSlot *kept_row;	/* what shows a ReadyRow's `kept` */

	int			n_slots;
	int			slots_used;
	TupleTableSlot *slots[MOST_COLLECTED + CHUNK_RECORDS];
	int			decoded[CHUNK_RECORDS]; /* the records whose rows are in the newest slots */
	int			n_decoded;
	size_t		bytes;			/* of the records whose values are still needed */

	ReadyRow	ready[CHUNK_RECORDS];
	int			n_ready;

	bool		any_seen;
	uint64		seen[SEEN_BITS / 64];

	bool		guarded;		/* inside a savepoint around decoding */
	ResourceOwner outer_owner;

	int			last_suspect;	/* the record that failed last as if the surroundings did; -1 none */
	int			suspect;		/* the place among ready rows where a stretch broke, or -1 */

	int			n_missing;
	int			room_for_missing;
	TimestampTz *missing;
	int		   *missing_records;
};

/* writer.c */
extern void add_fault(Writer *writer, Batch *batch, int record, const DecodeFault *fault);

/* where a row of the target's layout goes; NULL when it is settled, or waits for a partition */
extern Leaf *leaf_of_row(Writer *writer, Batch *batch, int record, TupleTableSlot *row);
extern void keep_for_rollups(Writer *writer, const Leaf *leaf, TupleTableSlot *row);
extern void keep_tuple_for_rollups(Writer *writer, MinimalTuple row);
extern TupleTableSlot *row_of_target(Writer *writer, const Leaf *leaf, TupleTableSlot *row);

/* what became of a row that is as it shall be; one that replaces another is the caller's to keep */
typedef enum RowPlace
{
	ROW_COLLECTED,
	ROW_REPLACES,
	ROW_REFUSED
} RowPlace;

extern RowPlace place_row(Writer *writer, Batch *batch, Leaf *leaf, TupleTableSlot *row, int record);
extern void forget_rows(Writer *writer);
extern void begin_rollups(Writer *writer);
extern void apply_rollups(Writer *writer);	/* and the rows that replace others */

/* writer_decode.c: returns how far it came; rows are in the newest slots then */
extern int	decode_chunk(Writer *writer, Batch *batch, int from, int to);
extern void guard_decoding(Writer *writer);
extern void unguard_decoding(Writer *writer, bool failed);

/* the error in hand as the fault of a record; an error of the surroundings is thrown on */
extern void take_error(Writer *writer, Batch *batch, DecodeFault *fault);

/* below so many rows from one whose key is taken to the next, it is cheaper to look for each row */
#define LOOK_BELOW 40

/* writer_careful.c: and a row whose key is taken was seen, or refused by its index */
extern void write_carefully(Writer *writer, Batch *batch);
extern void note_taken(Writer *writer);

/*
 * writer_unique.c: the index of a unique key of the row that is there already, or waits to be written; InvalidOid
 * when all are free
 */
extern Oid	unique_key_taken(Writer *writer, Leaf *leaf, TupleTableSlot *row, MemoryContext faults,
							 DecodeFault *fault);
extern void forget_seen_keys(Writer *writer);

/* writer_wide.c: or the fault that says which key does not */
extern bool keys_fit(Writer *writer, Leaf *leaf, TupleTableSlot *row, MemoryContext faults,
					 DecodeFault *fault);

/* writer_sieve.c: takes those out of the ready rows that a rollup would refuse */
extern void sieve_chunk(Writer *writer, Batch *batch);

/* writer_upsert.c */
extern Upsert *upsert_open(Relation target);
extern bool upsert_is_key(const Upsert *upsert, Oid index);
extern void upsert_begin(Upsert *upsert);
extern void upsert_add(Upsert *upsert, TupleTableSlot *row);
extern void upsert_run(Upsert *upsert);

#endif							/* CLICKSTREAM_WRITER_INTERNAL_H */
