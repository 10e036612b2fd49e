/*
 * same.h
 *		Whether a worker's copy of what is in the catalog says the same as the catalog does now.
 */
#ifndef CLICKSTREAM_SAME_H
#define CLICKSTREAM_SAME_H

#include "postgres.h"

#include "nodes/pg_list.h"
#include "utils/timestamp.h"

/* NULL is the same as NULL alone */
extern bool same_text(const char *a, const char *b);
extern bool same_interval(const Interval *a, const Interval *b);

/* of a connection: DefElem * with texts, in the same order */
extern bool same_options(List *a, List *b);

#endif							/* CLICKSTREAM_SAME_H */
