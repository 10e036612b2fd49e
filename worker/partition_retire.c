/*
 * partition_retire.c
 *		Partitions whose time is over are dropped, whole.
 *
 * Goes by a partition's upper bound alone: one that may still hold a fresh row, and the default
 * partition, stay.  Dropping needs locks that stop readers, so it is done only when they are free at
 * that moment, one partition a transaction; what is in use goes another time.  Called by
 * source_main.c, outside any transaction.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_class.h"
#include "partitioning/partbounds.h"
#include "partitioning/partdesc.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "partition_internal.h"
#include "statement.h"

/* one round over the partitions of a target */
typedef struct Retirement
{
	MemoryContext memory;		/* outlives the transactions */
	TimestampTz oldest;			/* what ends before or here goes */
	List	   *tried;			/* OIDs, dropped or not */
	bool		more;			/* one was found: look again */
} Retirement;

static Oid
find_old(Relation target, const Retirement *round)
{
	PartitionDesc parts = RelationGetPartitionDesc(target, true);
	PartitionBoundInfo bounds = parts->boundinfo;
	Oid			type = partition_time_type(target);

	for (int at = 0; bounds != NULL && at < bounds->ndatums; at++)
	{
		int			part = bounds->indexes[at]; /* the one that ends at this bound */

		if (part < 0 || partition_bound_time(bounds, at, type) > round->oldest)
			continue;
		if (get_rel_relkind(parts->oids[part]) != RELKIND_FOREIGN_TABLE &&
			!list_member_oid(round->tried, parts->oids[part]))
			return parts->oids[part];
	}
	return InvalidOid;
}

/* all that DROP TABLE takes, so that it cannot wait */
static bool
locks_are_free(Relation target, Oid partition)
{
	PartitionDesc parts = RelationGetPartitionDesc(target, true);

	if (!ConditionalLockRelationOid(RelationGetRelid(target), AccessExclusiveLock) ||
		!ConditionalLockRelationOid(partition, AccessExclusiveLock))
		return false;
	return !partition_bound_has_default(parts->boundinfo) ||
		ConditionalLockRelationOid(parts->oids[parts->boundinfo->default_index], AccessExclusiveLock);
}

static void
drop_one(const Source *source, void *argument)
{
	Retirement *round = argument;
	Relation	target = table_open(source->target, AccessShareLock);
	Oid			partition = find_old(target, round);
	MemoryContext outer;
	bool		free = false;
	char	   *name;

	round->more = OidIsValid(partition);
	if (round->more)
	{
		outer = MemoryContextSwitchTo(round->memory);
		round->tried = lappend_oid(round->tried, partition);
		MemoryContextSwitchTo(outer);
		free = locks_are_free(target, partition);
	}
	table_close(target, NoLock);
	if (!free)
		return;
	name = qualified_name(partition);
	run_statement(psprintf("DROP TABLE %s", name));
	ereport(LOG,
			(errmsg("dropped partition %s, older than the retention of source \"%s\"", name, source->name)));
}

void
partitions_retire(WorkerSlot *slot, const Source *source)
{
	static TimestampTz last = 0;
	Retirement	round = {.memory = CurrentMemoryContext, .more = true};

	if (source->retention == NULL || !partition_is_due(&last))
		return;
	round.oldest = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_mi_interval,
														   TimestampTzGetDatum(GetCurrentTimestamp()),
														   PointerGetDatum(source->retention)));
	while (round.more)
	{
		char	   *reason;

		round.more = false;
		reason = partition_run(slot, source, drop_one, &round);
		if (reason != NULL)
		{
			worker_set_error(slot, psprintf("an old partition could not be dropped: %s", reason));
			ereport(LOG,
					(errmsg("source \"%s\" could not drop an old partition: %s", source->name, reason)));
		}
	}
	list_free(round.tried);
}
