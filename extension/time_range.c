/*
 * time_range.c
 *		The range of time that a partition has: by its width, cut to where nobody else's is.
 *
 * Owns how ranges are counted, read from bounds, and written as SQL and in names.  Changes nothing.
 * Called for the partitions of a source's target and for those of a rollup.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "partitioning/partbounds.h"
#include "partitioning/partdesc.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "time_range.h"

/* a Monday, near the beginning of PostgreSQL's time: weeks begin there */
#define A_MONDAY ((int64) 2 * USECS_PER_DAY)

/* ---------------------------------------------------------------- ranges */

static int64
floor_divide(int64 number, int64 by)
{
	return number / by - (number % by < 0);
}

static TimestampTz
first_of_month(int64 months)
{
	int			year = 2000 + (int) floor_divide(months, MONTHS_PER_YEAR),
				month = (int) (months - floor_divide(months, MONTHS_PER_YEAR) * MONTHS_PER_YEAR) + 1;

	return (int64) (date2j(year, month, 1) - POSTGRES_EPOCH_JDATE) * USECS_PER_DAY;
}

static TimeRange
range_of_months(int32 width, TimestampTz time)
{
	int			year,
				month,
				day;
	int64		months;

	j2date((int) (floor_divide(time, USECS_PER_DAY) + POSTGRES_EPOCH_JDATE), &year, &month, &day);
	months = floor_divide((int64) (year - 2000) * MONTHS_PER_YEAR + month - 1, width) * width;
	return (TimeRange) {first_of_month(months), first_of_month(months + width)};
}

static TimeRange
to_whole_days(TimeRange range)
{
	range.from = floor_divide(range.from, USECS_PER_DAY) * USECS_PER_DAY;
	range.to = floor_divide(range.to + USECS_PER_DAY - 1, USECS_PER_DAY) * USECS_PER_DAY;
	return range;
}

TimeRange
time_range_around(const Interval *width, Oid type, TimestampTz time)
{
	int64		length = width->day * USECS_PER_DAY + width->time,
				origin = length % (7 * USECS_PER_DAY) == 0 ? A_MONDAY : 0;
	TimeRange	range;

	if (width->month > 0)
		range = range_of_months(width->month, time);
	else
	{
		range.from = origin + floor_divide(time - origin, length) * length;
		range.to = range.from + length;
	}
	range.from = Max(range.from, MIN_TIMESTAMP);
	range.to = Min(range.to, END_TIMESTAMP - 1);
	return type == DATEOID ? to_whole_days(range) : range;
}

/* ---------------------------------------------------------------- what is there */

TimestampTz
time_range_bound(PartitionBoundInfo bounds, int at, Oid type)
{
	switch (bounds->kind[at][0])
	{
		case PARTITION_RANGE_DATUM_MINVALUE:
			return DT_NOBEGIN;
		case PARTITION_RANGE_DATUM_MAXVALUE:
			return DT_NOEND;
		default:
			if (type != DATEOID)
				return DatumGetTimestampTz(bounds->datums[at][0]);
			if (DATE_NOT_FINITE(DatumGetDateADT(bounds->datums[at][0])))
				return DATE_IS_NOBEGIN(DatumGetDateADT(bounds->datums[at][0])) ? DT_NOBEGIN : DT_NOEND;
			return DatumGetDateADT(bounds->datums[at][0]) * USECS_PER_DAY;
	}
}

bool
time_range_around_in(Relation table, Oid type, TimestampTz time, TimeRange *range)
{
	PartitionBoundInfo bounds = RelationGetPartitionDesc(table, true)->boundinfo;

	for (int at = 0; bounds != NULL && at <= bounds->ndatums; at++)
	{
		range->from = at == 0 ? DT_NOBEGIN : time_range_bound(bounds, at - 1, type);
		range->to = at == bounds->ndatums ? DT_NOEND : time_range_bound(bounds, at, type);
		if (time >= range->from && time < range->to)
			return bounds->indexes[at] >= 0;
	}
	*range = (TimeRange) {DT_NOBEGIN, DT_NOEND};
	return false;
}

bool
time_range_cut_to_gap(Relation table, Oid type, TimestampTz time, TimeRange *range)
{
	TimeRange	around;

	if (time_range_around_in(table, type, time, &around))
		return false;
	range->from = Max(range->from, around.from);
	range->to = Min(range->to, around.to);
	return true;
}

/* ---------------------------------------------------------------- as text */

/* Under the time zone UTC: ISO with +00, which a column without a zone leaves out. */
char *
time_range_literal(TimestampTz time, Oid type)
{
	const char *text = type == DATEOID ?
		DatumGetCString(DirectFunctionCall1(date_out, DateADTGetDatum((DateADT) floor_divide(time, USECS_PER_DAY)))) :
		timestamptz_to_str(time);

	return quote_literal_cstr(text);
}

/* as much of the beginning of the range as tells it: 2025, 202506, 20250604, 20250604_12, 20250604_1230 */
char *
time_range_suffix(const Interval *width, TimestampTz from)
{
	struct pg_tm tm;
	fsec_t		fraction;

	if (timestamp2tm(from, NULL, &tm, &fraction, NULL, NULL) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp out of range")));
	if (tm.tm_min != 0 || tm.tm_sec != 0)
		return psprintf("_p%04d%02d%02d_%02d%02d%s", tm.tm_year, tm.tm_mon, tm.tm_mday, tm.tm_hour, tm.tm_min,
						tm.tm_sec != 0 ? psprintf("%02d", tm.tm_sec) : "");
	if (tm.tm_hour != 0 || width->time != 0)
		return psprintf("_p%04d%02d%02d_%02d", tm.tm_year, tm.tm_mon, tm.tm_mday, tm.tm_hour);
	if (tm.tm_mday != 1 || width->month == 0)
		return psprintf("_p%04d%02d%02d", tm.tm_year, tm.tm_mon, tm.tm_mday);
	if (tm.tm_mon != 1 || width->month % MONTHS_PER_YEAR != 0)
		return psprintf("_p%04d%02d", tm.tm_year, tm.tm_mon);
	return psprintf("_p%04d", tm.tm_year);
}
