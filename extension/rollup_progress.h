/*
 * rollup_progress.h
 *		How far a query has read the tables it reads from end to end.
 */
#ifndef CLICKSTREAM_ROLLUP_PROGRESS_H
#define CLICKSTREAM_ROLLUP_PROGRESS_H

#include "postgres.h"

#include "executor/execdesc.h"

/* told again and again while the query runs */
typedef void (*RollupProgress) (int64 blocks_done, int64 blocks_total, void *argument);

/* between ExecutorStart and ExecutorRun, and after it, whether or not it came to its end */
extern void rollup_progress_watch(QueryDesc *query, RollupProgress told, void *argument);
extern void rollup_progress_end(void);

#endif							/* CLICKSTREAM_ROLLUP_PROGRESS_H */
