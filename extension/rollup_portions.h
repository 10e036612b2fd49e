/*
 * rollup_portions.h
 *		A large table divided into portions, from which a rollup is filled one after the other.
 */
#ifndef CLICKSTREAM_ROLLUP_PORTIONS_H
#define CLICKSTREAM_ROLLUP_PORTIONS_H

#include "postgres.h"

#include "catalog.h"
#include "rollup_part.h"

extern int	clickstream_fill_portion;	/* kB; a setting */

/* While no transaction that wrote to the target is under way: what is there now.  NULL: it is to be read as a whole. */
extern Fill *rollup_portions_plan(const Rollup *rollup);

typedef enum RollupPortion
{
	PORTION_FOUND,				/* *part is locked */
	PORTIONS_OVER,
	PORTIONS_LOST				/* what was there is not to be found any more */
} RollupPortion;

/* Looks for the next one; goes past leaves that have gone before anything of them was read. */
extern RollupPortion rollup_portions_next(const Rollup *rollup, Fill *fill, RollupPart *part);

/* That one is in place. */
extern void rollup_portions_done(Fill *fill, const RollupPart *part);

/* in blocks */
extern int64 rollup_portions_total(const Fill *fill);
extern int64 rollup_portions_read(const Fill *fill);

#endif							/* CLICKSTREAM_ROLLUP_PORTIONS_H */
