/*
 * rollup_ready.h
 *		A plan over new rows that stays set up from one statement to the next.
 */
#ifndef CLICKSTREAM_ROLLUP_READY_H
#define CLICKSTREAM_ROLLUP_READY_H

#include "postgres.h"

#include "nodes/plannodes.h"
#include "utils/queryenvironment.h"
#include "utils/tuplestore.h"

typedef struct RollupReady RollupReady;

/* whether a plan has nothing that lives no longer than a statement, such as an open table */
extern bool rollup_ready_can_keep(const PlannedStmt *plan);

/* In the current memory context; the plan and what is in the environment must live as long. */
extern RollupReady *rollup_ready_create(PlannedStmt *plan, QueryEnvironment *environment);

/* Adds the plan's rows to states, as the current user. */
extern void rollup_ready_run(RollupReady *ready, Tuplestorestate *states);

#endif							/* CLICKSTREAM_ROLLUP_READY_H */
