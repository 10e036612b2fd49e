/*
 * partition_range.c
 *		What a target is partitioned by, and whether a time is among ranges.
 *
 * The ranges themselves are the other library's time_range.c.  Changes nothing.  Called by partition.c and its
 * neighbours.
 */
#include "postgres.h"

#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "partition_internal.h"
#include "writer.h"

bool
partition_time_is_in(List *ranges, TimestampTz time)
{
	ListCell   *cell;

	foreach(cell, ranges)
	{
		const TimeRange *range = lfirst(cell);

		if (time >= range->from && time < range->to)
			return true;
	}
	return false;
}

Oid
partition_time_type(Relation target)
{
	AttrNumber	column = writer_time_column(target);

	if (column == 0)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("table \"%s\" is not partitioned by range of one time column", RelationGetRelationName(target)),
				 errhint("Partition it so, or run clickstream.alter_source with partition_interval => '0'.")));
	return getBaseType(TupleDescAttr(RelationGetDescr(target), column - 1)->atttypid);
}
