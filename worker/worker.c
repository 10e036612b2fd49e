/*
 * worker.c
 *		What every source and sink worker does first and last.
 */
#include "postgres.h"

#include "fmgr.h"

#include "worker.h"

PG_MODULE_MAGIC;
