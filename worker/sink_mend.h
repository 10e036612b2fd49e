/*
 * sink_mend.h
 *		Documents are made what their rows are now, by their ids.
 */
#ifndef CLICKSTREAM_SINK_MEND_H
#define CLICKSTREAM_SINK_MEND_H

#include "postgres.h"

#include "sink.h"

typedef struct MendId
{
	const char *id;				/* of the document, zero-terminated */
	XLogRecPtr	version;		/* out: what was sent, for the row or for its absence, 0: nothing */
} MendId;

/* some of the ids are in the index as they should be, but for the refusals of the bulk; outside of a transaction */
typedef void (*Mended) (void *arg, MendId *ids, int n);

/*
 * Outside of a transaction; beside the sink's own worker.  Throws when Elasticsearch does not take it.
 */
extern void sink_mend(SinkWorker *worker, Bulk *bulk, MendId *ids, int n, Mended mended, void *arg);

#endif							/* CLICKSTREAM_SINK_MEND_H */
