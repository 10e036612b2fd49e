/*
 * inquiry_sink.h
 *		A sink as an inquiry works on it: for its owner, beside the sink's own worker.
 */
#ifndef CLICKSTREAM_INQUIRY_SINK_H
#define CLICKSTREAM_INQUIRY_SINK_H

#include "postgres.h"

#include "inquiry_kinds.h"
#include "sink.h"

typedef struct InquirySink
{
	SinkWorker	worker;			/* no worker: what its functions need */
	WorkerSlot	slot;			/* nobody else's: says who the owner is */
} InquirySink;

/* reads the sink; throws when it is not there */
extern void inquiry_sink_open(InquirySink *inquired, const Inquiry *inquiry);

/* for requests of its own, under the alias */
extern Bulk *inquiry_sink_bulk(InquirySink *inquired);

#endif							/* CLICKSTREAM_INQUIRY_SINK_H */
