/*
 * rollup_states.h
 *		Runs a rollup's query over some rows, and stops short of the values: states of groups.
 */
#ifndef CLICKSTREAM_ROLLUP_STATES_H
#define CLICKSTREAM_ROLLUP_STATES_H

#include "postgres.h"

#include "nodes/plannodes.h"
#include "utils/snapshot.h"
#include "utils/tuplestore.h"

#include "rollup_merge.h"
#include "rollup_part.h"
#include "rollup_progress.h"
#include "rollup_query.h"
#include "rollup_ready.h"
#include "rollup_set.h"

/* which rows of the target, when the query runs over the target itself */
typedef struct RollupRows
{
	Tuplestorestate *touched;	/* only those of the groups in it, or NULL */
	const bool *null_keys;		/* whether touched has NULL in a key */
	List	   *except;			/* not those of partitions with these OIDs */
	const RollupRange *range;	/* only groups within, or NULL */
	const RollupPart *part;		/* only this part of the target, or NULL */
	Snapshot	snapshot;		/* as seen by it, or NULL: as all is now */
	RollupProgress told;		/* how far it is, or NULL */
	void	   *told_argument;
} RollupRows;

/* the plan over a named tuplestore that has the target's row type; may be kept and run again */
extern PlannedStmt *rollup_states_plan(const RollupMerge *merge, TupleDesc desc, double n_rows);

/* the same over a batch; adds the indexes of the columns it needs */
extern PlannedStmt *rollup_states_plan_batch(const RollupMerge *merge, TupleDesc desc, Bitmapset **columns);

/* the same for a batch of few rows, whose plan can mostly be kept set up: NULL where it cannot */
extern PlannedStmt *rollup_states_plan_few(const RollupMerge *merge, TupleDesc desc, Bitmapset **columns);
extern RollupReady *rollup_states_ready(PlannedStmt *plan, RollupBatch *batch);

/* all give tuples of merge->states_desc, in a tuplestore in the current memory context */
extern Tuplestorestate *rollup_states_of(PlannedStmt *plan, Tuplestorestate *rows, TupleDesc desc);
extern Tuplestorestate *rollup_states_of_batch(PlannedStmt *plan, RollupBatch *batch);
extern Tuplestorestate *rollup_states_of_ready(RollupReady *ready);
extern Tuplestorestate *rollup_states_of_target(RollupMerge *merge, const RollupRows *which);

#endif							/* CLICKSTREAM_ROLLUP_STATES_H */
