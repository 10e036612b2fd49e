/*
 * portion.h
 *		A table read by portions, each in a transaction of its own.
 */
#ifndef CLICKSTREAM_PORTION_H
#define CLICKSTREAM_PORTION_H

#include "postgres.h"

#include "catalog.h"
#include "changes.h"
#include "copy.h"

/*
 * In a transaction: the rows of the next blocks, as many as hold some bytes; `copied` says how far that has
 * come, and is kept by the caller.  False when all is read.
 */
extern bool portion_read(const Sink *sink, const RelationDescription *relation, SinkCopied *copied,
						 CopyRow row, void *arg);

#endif							/* CLICKSTREAM_PORTION_H */
