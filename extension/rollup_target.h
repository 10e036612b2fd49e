/*
 * rollup_target.h
 *		Commands after which rollups would no longer be exact, and nobody would know.
 */
#ifndef CLICKSTREAM_ROLLUP_TARGET_H
#define CLICKSTREAM_ROLLUP_TARGET_H

#include "postgres.h"

#include "nodes/pg_list.h"

/* Whether a command is of those kinds; at its end, with the tables and views to which it has done something. */
extern bool rollup_target_minds(Node *statement);
extern void rollup_target_after_command(Node *statement, List *relations);

/* Tables that are there and have lost a trigger that was not a guard. */
extern void rollup_target_lost_triggers(List *relations);

#endif							/* CLICKSTREAM_ROLLUP_TARGET_H */
