/*
 * boundary.h
 *		A position of the write-ahead log that divides transactions as the snapshots after it do.
 */
#ifndef CLICKSTREAM_BOUNDARY_H
#define CLICKSTREAM_BOUNDARY_H

#include "postgres.h"

#include "access/xlogdefs.h"

/*
 * Every transaction whose commit stands before the position that is returned can be seen by each
 * snapshot that is taken afterwards.  In a transaction; waits for commits that are under way.
 */
extern XLogRecPtr boundary_of_log(void);

#endif							/* CLICKSTREAM_BOUNDARY_H */
