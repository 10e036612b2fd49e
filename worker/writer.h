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

/* what a writer needs to know of a source; times are microseconds since 2000 */
typedef struct WriterRules
{
	const char *source;
	TimestampTz oldest;			/* DT_NOBEGIN: any */
	TimestampTz newest;			/* DT_NOEND: any */

	/* whether a time outside all partitions may go to the default partition; NULL: it must */
	bool		(*may_use_default) (void *argument, TimestampTz time);
	void	   *argument;
} WriterRules;

/*
 * Locks and opens the target, in a transaction of its owner.  Ended by writer_close or by an
 * abort.
 */
extern Writer *writer_open(Relation target, DecodePlan *plan, const WriterRules *rules,
						   RollupSet *rollups);

/*
 * Writes every record that can be a row; each has its outcome then.  The error of a record is
 * thrown
 * when not careful: abort, and come back careful.  Careful, it makes a dead letter of that record,
 * found by halving inside savepoints; errors of the surroundings are thrown in any case.
 *
 * False when rows need partitions that are not there: their times are in writer_missing, abort and
 * make them.
 */
extern bool writer_write(Writer *writer, Batch *batch, bool careful);

/* times of which each needs a partition of its own */
extern const TimestampTz *writer_missing(const Writer *writer, int *n);

extern void writer_close(Writer *writer);

/*
 * whether the target is partitioned by range of one column of a time type; the column's number or
 * 0
 */
extern AttrNumber writer_time_column(Relation target);

#endif							/* CLICKSTREAM_WRITER_H */
