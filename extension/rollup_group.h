/*
 * rollup_group.h
 *		A plan node that brings the rows of each group together, without an order among groups.
 */
#ifndef CLICKSTREAM_ROLLUP_GROUP_H
#define CLICKSTREAM_ROLLUP_GROUP_H

#include "postgres.h"

#include "nodes/plannodes.h"

/* Puts it in place of the Sort below an aggregate that takes sorted rows, where keys can be hashed. */
extern void rollup_group_instead_of_sort(Agg *agg);

#endif							/* CLICKSTREAM_ROLLUP_GROUP_H */
