/*
 * rollup_tame.h
 *		A query whose aggregates are given nothing that they cannot end with.
 */
#ifndef CLICKSTREAM_ROLLUP_TAME_H
#define CLICKSTREAM_ROLLUP_TAME_H

#include "postgres.h"

#include "nodes/parsenodes.h"

/* Puts such a query in place of one just analyzed; whether it is another. */
extern bool rollup_tame(Query **query);

#endif							/* CLICKSTREAM_ROLLUP_TAME_H */
