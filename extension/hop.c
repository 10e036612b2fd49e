/*
 * hop.c
 *		clickstream.hop: the windows of a fixed size, begun at regular times, that hold a point in time.
 *
 * For `FROM clicks, clickstream.hop(occurred_at, '10 min', '1 min') AS w … GROUP BY w`: one row for each
 * window, which is named by its start.  Immutable, so that it can stand in a rollup.  Windows are aligned
 * to an origin and their widths are fixed lengths of time, as those of date_bin are.  A window holds its
 * start and not its end.  Knows nothing of rollups.
 */
#include "postgres.h"

#include "common/int.h"
#include "funcapi.h"
#include "nodes/nodeFuncs.h"
#include "nodes/supportnodes.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#define MOST_WINDOWS 10000		/* that may hold one point in time */

PG_FUNCTION_INFO_V1(clickstream_hop);
PG_FUNCTION_INFO_V1(clickstream_hop_support);

/* the windows still to be returned; both ends are starts of windows */
typedef struct Windows
{
	int64		next;
	int64		last;
	int64		slide;
} Windows;

/* in microseconds; false if it is not a fixed length of time, is not positive, or is out of range */
static bool
fixed_length(const Interval *interval, int64 *length)
{
	int64		days;

	return interval->month == 0 &&
		!pg_mul_s64_overflow(interval->day, USECS_PER_DAY, &days) &&
		!pg_add_s64_overflow(days, interval->time, length) &&
		*length > 0;
}

static int64
require_length(const Interval *interval, const char *name)
{
	int64		length;

	if (!fixed_length(interval, &length))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the %s of hopping windows must be a fixed length of time, longer than nothing", name),
				 errhint("Write for example '10 minutes' or '7 days'; months and years have no fixed length.")));
	return length;
}

static void
out_of_range(void)
{
	ereport(ERROR, (errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE), errmsg("timestamp out of range"),
					errdetail("A window around it would begin before or end after all times.")));
}

/* the last start of a window at or before a time */
static int64
start_before(int64 time, int64 origin, int64 slide)
{
	int64		since;
	int64		start;

	if (pg_sub_s64_overflow(time, origin, &since))
		out_of_range();
	start = time - since % slide;
	if (since % slide < 0 && pg_sub_s64_overflow(start, slide, &start))
		out_of_range();
	return start;
}

static void
find_windows(Windows *windows, int64 time, int64 size, int64 slide, int64 origin)
{
	int64		end;

	if (size / slide >= MOST_WINDOWS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a point in time would be in more than %d hopping windows", MOST_WINDOWS),
				 errhint("Let windows begin less often, or make them shorter.")));
	windows->slide = slide;
	if (TIMESTAMP_NOT_FINITE(time))
	{
		windows->next = windows->last = time;
		return;
	}
	windows->last = start_before(time, origin, slide);
	if (pg_sub_s64_overflow(time, size, &end))
		out_of_range();
	windows->next = start_before(end, origin, slide) + slide;
	if (windows->next <= windows->last && !IS_VALID_TIMESTAMP(windows->next))
		out_of_range();
}

/* hop(at, size, slide, origin), for timestamp as for timestamptz */
Datum
clickstream_hop(PG_FUNCTION_ARGS)
{
	FuncCallContext *call;
	Windows    *windows;

	if (SRF_IS_FIRSTCALL())
	{
		call = SRF_FIRSTCALL_INIT();
		windows = MemoryContextAlloc(call->multi_call_memory_ctx, sizeof(Windows));
		find_windows(windows, PG_GETARG_INT64(0), require_length(PG_GETARG_INTERVAL_P(1), "size"),
					 require_length(PG_GETARG_INTERVAL_P(2), "slide"), PG_GETARG_INT64(3));
		call->user_fctx = windows;
	}
	call = SRF_PERCALL_SETUP();
	windows = call->user_fctx;
	if (windows->next > windows->last)
		SRF_RETURN_DONE(call);
	else
	{
		int64		start = windows->next;

		/* the infinities are windows of their own */
		if (start == windows->last)
			windows->last = PG_INT64_MIN;
		else
			windows->next += windows->slide;
		SRF_RETURN_NEXT(call, Int64GetDatum(start));
	}
}

/* for the planner: so many windows hold a time */
static bool
number_of_windows(Node *node, double *rows)
{
	List	   *arguments;
	int64		size;
	int64		slide;

	if (!is_funcclause(node))
		return false;
	arguments = ((FuncExpr *) node)->args;
	if (!IsA(lsecond(arguments), Const) || !IsA(lthird(arguments), Const) ||
		lsecond_node(Const, arguments)->constisnull || lthird_node(Const, arguments)->constisnull ||
		!fixed_length(DatumGetIntervalP(lsecond_node(Const, arguments)->constvalue), &size) ||
		!fixed_length(DatumGetIntervalP(lthird_node(Const, arguments)->constvalue), &slide))
		return false;
	*rows = Max(1, (double) size / slide);
	return true;
}

Datum
clickstream_hop_support(PG_FUNCTION_ARGS)
{
	Node	   *request = (Node *) PG_GETARG_POINTER(0);

	if (IsA(request, SupportRequestRows) &&
		number_of_windows(((SupportRequestRows *) request)->node, &((SupportRequestRows *) request)->rows))
		PG_RETURN_POINTER(request);
	PG_RETURN_POINTER(NULL);
}
