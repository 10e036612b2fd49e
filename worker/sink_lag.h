/*
 * sink_lag.h
 *		The commits that Elasticsearch has not acknowledged yet, and so the age of the oldest.
 */
#ifndef CLICKSTREAM_SINK_LAG_H
#define CLICKSTREAM_SINK_LAG_H

#include "postgres.h"

#include "access/xlogdefs.h"
#include "datatype/timestamp.h"

typedef struct SinkCommit
{
	XLogRecPtr	position;		/* where its record begins */
	TimestampTz committed_at;
} SinkCommit;

#define SINK_COMMITS_KEPT 1024

/* In order.  What finds no room is one entry, `rest`, until all before it are acknowledged. */
typedef struct SinkLag
{
	SinkCommit	commits[SINK_COMMITS_KEPT];
	int			first;
	int			n;
	SinkCommit	rest;			/* the oldest that found no room; position 0: none */
	XLogRecPtr	last;			/* the newest that was put in */
} SinkLag;

/* true when it is the oldest of all */
extern bool sink_lag_put(SinkLag *lag, XLogRecPtr position, TimestampTz committed_at);

/* all that begin before this position are acknowledged */
extern void sink_lag_acknowledged(SinkLag *lag, XLogRecPtr position);

/* when the oldest was committed, 0 when there is none */
extern TimestampTz sink_lag_oldest(const SinkLag *lag);

#endif							/* CLICKSTREAM_SINK_LAG_H */
