/*
 * launcher.h
 *		Which workers run: the launcher process and how it is told that something changed.
 */
#ifndef CLICKSTREAM_LAUNCHER_H
#define CLICKSTREAM_LAUNCHER_H

#include "postgres.h"

/* in the postmaster, from _PG_init: registers the launcher */
extern void launcher_register(void);

/* at the commit of this transaction the launcher looks again at this database's sources and sinks */
extern PGDLLEXPORT void launcher_wake_at_commit(void);

/* a worker is about to leave on purpose (paused, dropped, altered): start it again without a pause if it is wanted */
extern PGDLLEXPORT void launcher_wake_now(void);

#endif							/* CLICKSTREAM_LAUNCHER_H */
