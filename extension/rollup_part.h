/*
 * rollup_part.h
 *		A rollup's query over a part of its target: some blocks of one leaf, as they were at a moment.
 */
#ifndef CLICKSTREAM_ROLLUP_PART_H
#define CLICKSTREAM_ROLLUP_PART_H

#include "postgres.h"

#include "nodes/parsenodes.h"

#include "catalog.h"

typedef struct RollupPart
{
	const Fill *moment;
	Oid			leaf;			/* locked by the caller */
	bool		is_whole;		/* all of the leaf */
	int64		from;			/* its blocks: from <= block < to */
	int64		to;
} RollupPart;

/* conditions on the target, by its range table index */
extern List *rollup_part_conditions(int target_index, const RollupPart *part);

/* The same query, already rewritten, with the leaf in place of the target; the rights are asked for as before. */
extern Query *rollup_part_of_query(Query *query, int target_index, const RollupPart *part);

#endif							/* CLICKSTREAM_ROLLUP_PART_H */
