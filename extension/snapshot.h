/*
 * snapshot.h
 *		The snapshot of a statement that does nothing but wait.
 */
#ifndef CLICKSTREAM_SNAPSHOT_H
#define CLICKSTREAM_SNAPSHOT_H

/*
 * For a function that waits, around each sleep.  The statement's snapshot is given back, where the statement is a
 * SELECT that reads no table, and a new one taken afterwards; true when it was, and then the end has to be told.
 */
extern bool snapshot_give_back(void);
extern void snapshot_take_again(void);

#endif							/* CLICKSTREAM_SNAPSHOT_H */
