/*
 * same.c
 *		Whether a worker's copy of what is in the catalog says the same as the catalog does now.
 *
 * A worker that finds a difference adopts it or leaves; which, is for source_now.c and sink_main.c to say.
 */
#include "postgres.h"

#include "nodes/parsenodes.h"

#include "same.h"

bool
same_text(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

bool
same_interval(const Interval *a, const Interval *b)
{
	return a == b || (a && b && a->time == b->time && a->day == b->day && a->month == b->month);
}

bool
same_options(List *a, List *b)
{
	ListCell   *x,
			   *y;

	if (list_length(a) != list_length(b))
		return false;
	forboth(x, a, y, b)
	{
		DefElem    *one = lfirst_node(DefElem, x),
				   *other = lfirst_node(DefElem, y);

		if (!same_text(one->defname, other->defname) ||
			!same_text(strVal(one->arg), strVal(other->arg)))
			return false;
	}
	return true;
}
