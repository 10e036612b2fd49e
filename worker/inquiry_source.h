/*
 * inquiry_source.h
 *		A source as an inquiry works on it: for its owner, in transactions of the inquiry's own.
 */
#ifndef CLICKSTREAM_INQUIRY_SOURCE_H
#define CLICKSTREAM_INQUIRY_SOURCE_H

#include "postgres.h"

#include "catalog.h"
#include "inquiry_kinds.h"
#include "worker.h"
#include "writer.h"

typedef struct InquirySource
{
	WorkerSlot	slot;			/* nobody else's: says who the owner is */
	int32		id;
} InquirySource;

/* reads whose source it is; throws when it is not there */
extern void inquiry_source_open(InquirySource *inquired, const Inquiry *inquiry);

/*
 * A transaction as the owner, with the source locked in that mode and read after it, into the memory
 * that was current before.
 */
extern Source *inquiry_source_begin(InquirySource *inquired, LOCKMODE mode);

#endif							/* CLICKSTREAM_INQUIRY_SOURCE_H */
