/*
 * launcher_internal.h
 *		What the launcher knows, and what its files ask of each other.
 *
 * Included by launcher*.c alone.
 */
#ifndef CLICKSTREAM_LAUNCHER_INTERNAL_H
#define CLICKSTREAM_LAUNCHER_INTERNAL_H

#include "postgres.h"

#include "nodes/pg_list.h"
#include "postmaster/bgworker.h"
#include "storage/latch.h"

#include "worker_slot.h"

/* databases that changed, by OID; more than so many means: look at all */
#define MAX_CHANGED 64

/* commands at a time that need a database without workers (utility_hook.c) */
#define MAX_HOLDS 16

#define LOOK_AGAIN_MS (60 * 1000)
#define PAUSE_FIRST_MS 1000
#define PAUSE_LONGEST_MS (60 * 1000)
#define SCOUT_PAUSE_LONGEST_MS (10 * 1000)
#define RAN_WELL_MS (60 * 1000)
#define TERMINATE_AGAIN_MS (10 * 1000)

typedef struct Hold
{
	Oid			database;		/* InvalidOid: free */
	pid_t		pid;			/* of the backend that holds it */
} Hold;

/* a database as the launcher knows it */
typedef struct Database
{
	Oid			oid;
	bool		exists;			/* scratch for the comparison with pg_database */
	int			failures;		/* of scouts, since the last that reached its end */
	TimestampTz look_at;		/* when the next scout is due; DT_NOEND: when told */
} Database;

/* what the launcher remembers of the worker in a slot; same index */
typedef struct Tenant
{
	BackgroundWorkerHandle *handle; /* NULL: none was started by this launcher */
	bool		running;		/* as of the last look */
	bool		after_scout;	/* it left on purpose: the catalog is read before it starts again */
	int			failures;
	TimestampTz started_at;
	TimestampTz start_at;		/* not before this */
	TimestampTz terminated_at;
} Tenant;

/* the launcher's own state, for the life of the process */
typedef struct Launcher
{
	List	   *databases;		/* of Database * */
	TimestampTz list_at;		/* when pg_database is read again */
	BackgroundWorkerHandle *scout;
	Database   *scout_database; /* NULL when no scout runs, or its database has gone */
	WorkerSlot *slots;
	Tenant	   *tenants;
	int			n_slots;
	Hold		holds[MAX_HOLDS];	/* as of this round */
	TimestampTz now;
	TimestampTz wake_at;		/* the earliest moment at which something is due */
} Launcher;

/* launcher_shared.c */
extern void launcher_shared_listen(void);
extern void launcher_shared_set_latch(Latch *latch);	/* NULL: no launcher runs */
extern void launcher_shared_holds(Hold *holds);	/* a copy of all MAX_HOLDS */
extern void launcher_remove_hold(Oid database, pid_t pid);
extern void launcher_database_changed(Oid database);

/* at most MAX_CHANGED databases that changed since the last call; true: all did */
extern bool launcher_shared_take_changed(Oid *changed, int *n);

/* a scout is about to start; and what it has looked at to the end, InvalidOid when it did not get there */
extern void launcher_shared_expect_scout(void);
extern Oid	launcher_shared_scouted(bool *has_extension);

/* launcher_databases.c */
extern void launcher_take_holds(Launcher *launcher);
extern void launcher_take_changes(Launcher *launcher);
extern void launcher_run_scouts(Launcher *launcher);
extern bool launcher_is_held(Launcher *launcher, Oid database);

/* launcher_workers.c */
extern void launcher_run_workers(Launcher *launcher);

/* launcher.c: the launcher wakes at this moment, or before; and when to try again after so many failures */
extern void launcher_due_at(Launcher *launcher, TimestampTz moment);
extern TimestampTz launcher_after_failures(Launcher *launcher, int failures, int longest_ms);

#endif							/* CLICKSTREAM_LAUNCHER_INTERNAL_H */
