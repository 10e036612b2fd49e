/*
 * rollup_api.h
 *		What the SQL functions about rollups share.
 */
#ifndef CLICKSTREAM_ROLLUP_API_H
#define CLICKSTREAM_ROLLUP_API_H

#include "postgres.h"

#include "fmgr.h"
#include "storage/lockdefs.h"

#include "catalog.h"
#include "rollup_set.h"

/* setting: tables up to this size, in KB, are read within create_rollup; -1: all */
extern int	clickstream_fill_at_once;

/* the rollup of that name, whose owner the caller acts for; else an error */
extern Rollup *rollup_by_name(text *name, LOCKMODE lock);

/* the arguments from and to; an error if they are given to a rollup that knows no time */
extern RollupRange rollup_range_arguments(FunctionCallInfo fcinfo, int argument, const Rollup *rollup);

/* removes the catalog's row, and the target's triggers with its last rollup */
extern void rollup_forget(const Rollup *rollup);

#endif							/* CLICKSTREAM_ROLLUP_API_H */
