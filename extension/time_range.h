/*
 * time_range.h
 *		Ranges of time, as partitions have them.
 */
#ifndef CLICKSTREAM_TIME_RANGE_H
#define CLICKSTREAM_TIME_RANGE_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "partitioning/partdefs.h"
#include "utils/relcache.h"

typedef struct TimeRange
{
	TimestampTz from;
	TimestampTz to;
} TimeRange;

/* the range of a width around a time: counted from 2000 on, in UTC; weeks begin on Monday */
extern PGDLLEXPORT TimeRange time_range_around(const Interval *width, Oid type, TimestampTz time);

/* bound number `at` of a table partitioned by a column of that type, as a time */
extern PGDLLEXPORT TimestampTz time_range_bound(PartitionBoundInfo bounds, int at, Oid type);

/* the range between two bounds that has the time, and whether it is a partition's, but the default one's */
extern PGDLLEXPORT bool time_range_around_in(Relation table, Oid type, TimestampTz time, TimeRange *range);

/* false when a partition but the default one has the time; else the range is cut to the gap around it */
extern PGDLLEXPORT bool time_range_cut_to_gap(Relation table, Oid type, TimestampTz time, TimeRange *range);

/* as SQL and as the end of a name; the time zone is UTC */
extern PGDLLEXPORT char *time_range_literal(TimestampTz time, Oid type);
extern PGDLLEXPORT char *time_range_suffix(const Interval *width, TimestampTz from);

#endif							/* CLICKSTREAM_TIME_RANGE_H */
