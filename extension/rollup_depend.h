/*
 * rollup_depend.h
 *		A rollup's table depends on its definition, and so on all that its query reads.
 */
#ifndef CLICKSTREAM_ROLLUP_DEPEND_H
#define CLICKSTREAM_ROLLUP_DEPEND_H

#include "postgres.h"

/* Records it where it is not recorded: a dump does not carry it. */
extern void rollup_depend(Oid rollup, Oid definition);

#endif							/* CLICKSTREAM_ROLLUP_DEPEND_H */
