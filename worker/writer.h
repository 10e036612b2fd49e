/*
 * writer.h
 *		The records of a batch become rows of the target and changes of its rollups.
 */
#ifndef CLICKSTREAM_WRITER_H
#define CLICKSTREAM_WRITER_H

#include "postgres.h"

#include "batch.h"
#include "catalog.h"
#include "decode.h"
#include "rollup_delta.h"

/* for one transaction */
typedef struct Writer Writer;

/* what becomes of a row whose unique key is taken */
typedef enum WriterConflict
{
	CONFLICT_ERROR,				/* a dead letter */
	CONFLICT_IGNORE,			/* a skip */
	CONFLICT_UPDATE				/* it replaces the row that is there */
} WriterConflict;

/*
 * The care that a source's last batches have needed; all zero to begin with.  Kept by the caller
 * from batch to batch.
 */
typedef struct WriterCare
{
	bool		savepoints;		/* some record may make the database raise an error */
	bool		look_first;		/* unique keys may be taken: look before rows are written */
	bool		measure_keys;	/* they may be too wide for an index: measure before rows are written */
	bool		sieve;			/* rollups may refuse rows: try their expressions before rows are written */

	bool		suspects;		/* what looks like a fault of the surroundings may be that of one record */

	bool		in_rollups;		/* set when an error was raised while the rollups took the rows */
	bool		needed;			/* the batch at hand */
	int			calm;			/* batches in a row that needed none */
	double		distance;		/* rows from one fault of writing to the next, about; 0 not known */
	double		since_fault;	/* rows since the last */
	double		key_distance;	/* the same of rows whose key is taken */
	double		since_taken;
} WriterCare;

/* what a writer needs to know of a source; times are microseconds since 2000 */
typedef struct WriterRules
{
	const char *source;
	TimestampTz oldest;			/* DT_NOBEGIN: any */
	TimestampTz newest;			/* DT_NOEND: any */
	WriterConflict on_conflict;

	/* whether a time outside all partitions may go to the default partition; NULL: it must */
	bool		(*may_use_default) (void *argument, TimestampTz time);
	void	   *argument;
} WriterRules;

/* what the source accepts at this moment; may_use_default is left to the caller */
extern WriterRules writer_rules_of(const Source *source);

/*
 * Locks and opens the target, in a transaction of its owner.  Ended by writer_close or by an
 * abort.
 */
extern Writer *writer_open(Relation target, DecodePlan *plan, const WriterRules *rules,
						   RollupSet *rollups);

/*
 * Writes every record that can be a row; each has its outcome then.  Without savepoints in `care` the error
 * of a record is thrown: abort, tell writer_learn, and come back.  With them it makes a dead letter of just
 * that record; errors of the surroundings are thrown in any case.
 *
 * False when rows need partitions that are not there: their times, and the records that have them, are in
 * writer_missing; abort and make them.
 */
extern bool writer_write(Writer *writer, Batch *batch, WriterCare *care);

/* once more for an error that looks like the surroundings', but may be a record's that stays at fault */
extern void writer_suspect(WriterCare *care);

/* an error ended the batch, for which one of its records may be at fault */
extern void writer_learn(WriterCare *care, int sqlstate);

/* times of which each needs a partition of its own */
extern const TimestampTz *writer_missing(const Writer *writer, const int **records, int *n);

extern void writer_close(Writer *writer);

/*
 * whether the target is partitioned by range of one column of a time type; the column's number or
 * 0
 */
extern AttrNumber writer_time_column(Relation target);

#endif							/* CLICKSTREAM_WRITER_H */
