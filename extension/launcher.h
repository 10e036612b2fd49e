/*
 * launcher.h
 *		Which workers run: the launcher process and how it is told that something changed.
 */
#ifndef CLICKSTREAM_LAUNCHER_H
#define CLICKSTREAM_LAUNCHER_H

#include "postgres.h"

/* in the postmaster, from _PG_init: registers the launcher and what it listens to */
extern void launcher_register(void);

/* from the hooks that ask for and fill shared memory */
extern Size launcher_shared_size(void);
extern void launcher_shared_init(void);

/* at the commit of this transaction the launcher looks again at this database's sources and sinks */
extern PGDLLEXPORT void launcher_wake_at_commit(void);

/* a worker is about to leave on purpose (paused, dropped, altered): start it again without a pause if it is wanted */
extern PGDLLEXPORT void launcher_wake_now(void);

/* a worker has ended: the launcher looks at its slot */
extern PGDLLEXPORT void launcher_notice(void);

/* the same for another database, that this transaction made */
extern void launcher_wake_at_commit_in(Oid database);

/* at once, for this database */
extern void launcher_wake_database(void);

/*
 * Until the end of this transaction the database has neither workers nor scouts.  False when no more
 * databases can be held.
 */
extern bool launcher_hold(Oid database);

/* a scout has looked at its database; has_extension says whether there is anything to look at again */
extern void launcher_scouted(Oid database, bool has_extension);

#endif							/* CLICKSTREAM_LAUNCHER_H */
