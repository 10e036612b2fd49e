/*
 * rollup_trigger.h
 *		The triggers that make every writer of a rollup's target keep the rollup exact.
 */
#ifndef CLICKSTREAM_ROLLUP_TRIGGER_H
#define CLICKSTREAM_ROLLUP_TRIGGER_H

#include "postgres.h"

#include "nodes/pg_list.h"

/*
 * Whoever makes a partition calls this in the same transaction: if the partition's ancestors have
 * rollups, the partition (and what is below it) gets its triggers.  The caller owns it and holds a
 * lock on it that keeps writers out.
 */
extern PGDLLEXPORT void rollup_prepare_partition(Oid partition);

/* the target and all below it; the second when its last rollup went */
extern void rollup_triggers_install(Oid target);

/* says which foreign tables are below it, whose changes nobody tells */
extern void rollup_tell_of_foreign(Oid target);
extern void rollup_triggers_remove(Oid target);
extern bool rollup_triggers_are_installed(Oid target);

/* whether a trigger of that name is one of them */
extern bool rollup_trigger_is_ours(const char *name);

/* Of a table and all below it: whether one of them is off; those that are on are made to fire when they should. */
extern bool rollup_triggers_are_off(Oid table);
extern void rollup_triggers_mend(Oid table);

/* one partition; returns whether it had no triggers before */
extern bool rollup_trigger_install_on(Oid partition);
extern void rollup_trigger_remove_from(Oid relation);

/* tables that have such triggers and are neither a rollup's target nor a partition */
extern List *rollup_trigger_strays(void);

/* the trigger that refuses everybody else's INSERT, UPDATE, DELETE and TRUNCATE of a rollup's table */
#define ROLLUP_GUARD "clickstream_rollup_guard"
extern void rollup_guard_install(Oid rollup, int n_columns);
extern void rollup_guard_install_on_partition(Oid partition);

/* tables that have that trigger and are neither a rollup nor a partition of one; and what makes them ordinary ones */
extern List *rollup_guard_strays(void);
extern void rollup_guard_remove_from(Oid table);

#endif							/* CLICKSTREAM_ROLLUP_TRIGGER_H */
