/*
 * duration.h
 *		Intervals that users give as how long something may take.
 */
#ifndef CLICKSTREAM_DURATION_H
#define CLICKSTREAM_DURATION_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "fmgr.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

/* in microseconds, a month as 30 days, no more than a hundred years either way */
static inline int64
duration_us(const Interval *interval)
{
	double		total = interval->time +
		((double) interval->month * DAYS_PER_MONTH + interval->day) * (double) USECS_PER_DAY;
	double		most = (double) USECS_PER_DAY * DAYS_PER_YEAR * 100;

	return (int64) Max(-most, Min(total, most));
}

/* as the calendar counts, in UTC or the session's zone */
static inline TimestampTz
moment_before(TimestampTz moment, const Interval *interval)
{
	return DatumGetTimestampTz(DirectFunctionCall2(timestamptz_mi_interval, TimestampTzGetDatum(moment),
												   IntervalPGetDatum(interval)));
}

static inline TimestampTz
moment_after(TimestampTz moment, const Interval *interval)
{
	return DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval, TimestampTzGetDatum(moment),
												   IntervalPGetDatum(interval)));
}

/* how long a wait may take; an error for less than nothing */
static inline int64
duration_of_wait_us(const Interval *timeout)
{
	int64		us = duration_us(timeout);

	if (us < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("timeout cannot be negative"),
				 errhint("Give how long to wait, such as '1 minute'.")));
	return us;
}

#endif							/* CLICKSTREAM_DURATION_H */
