/*
 * sink_lag.c
 *		The commits that Elasticsearch has not acknowledged yet, and so the age of the oldest.
 *
 * A short queue: as many as a request or two hold at a usual rate.  Where more wait, those that found no
 * room count as one, as old as its oldest.  Called by sink_follow.c.
 */
#include "postgres.h"

#include "sink_lag.h"

bool
sink_lag_put(SinkLag *lag, XLogRecPtr position, TimestampTz committed_at)
{
	SinkCommit	commit = {position, committed_at};

	if (position <= lag->last)
		return false;
	lag->last = position;
	if (lag->rest.position == 0 && lag->n < SINK_COMMITS_KEPT)
		lag->commits[(lag->first + lag->n++) % SINK_COMMITS_KEPT] = commit;
	else if (lag->rest.position == 0)
		lag->rest = commit;
	return lag->n == 1 && lag->rest.position == 0;
}

void
sink_lag_acknowledged(SinkLag *lag, XLogRecPtr position)
{
	while (lag->n > 0 && lag->commits[lag->first].position < position)
	{
		lag->first = (lag->first + 1) % SINK_COMMITS_KEPT;
		lag->n--;
	}
	if (lag->n == 0 && lag->last < position)
		lag->rest.position = 0;
}

TimestampTz
sink_lag_oldest(const SinkLag *lag)
{
	if (lag->n > 0)
		return lag->commits[lag->first].committed_at;
	return lag->rest.position != 0 ? lag->rest.committed_at : 0;
}
