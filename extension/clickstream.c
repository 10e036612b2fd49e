/*
 * clickstream.c
 *		Entry point of the preloaded library: settings, shared memory, the launcher.
 *
 * Owns nothing else.  Must stay small: it is loaded in every backend.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(clickstream_check_preloaded);

void		_PG_init(void);

void
_PG_init(void)
{
}

/* CREATE EXTENSION calls this first */
Datum
clickstream_check_preloaded(PG_FUNCTION_ARGS)
{
	PG_RETURN_VOID();
}
