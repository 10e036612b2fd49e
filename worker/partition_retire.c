/*
 * partition_retire.c
 *		Partitions whose time is over are dropped or detached, whole.
 *
 * Goes by a partition's upper bound alone: one that may still hold a fresh row, and the default
 * partition, stay.  Both need locks that stop readers, so they are waited for a moment only, one
 * partition a transaction; what is in use goes another time.  Called by source_main.c, outside any
 * transaction.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "partitioning/partbounds.h"
#include "partitioning/partdesc.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "duration.h"
#include "partition_internal.h"
#include "statement.h"

/*
 * How long readers may have to wait behind us, for each of the locks: longer each time that it was not
 * enough, as readers that overlap for ever never leave a moment without any.
 */
#define LOCK_TIMEOUT_MS 100
#define MOST_DOUBLINGS 5

/* one round over the partitions of a target */
typedef struct Retirement
{
	MemoryContext memory;		/* outlives the transactions */
	TimestampTz oldest;			/* what ends before or here goes */
	List	   *tried;			/* OIDs, dropped or not */
	Oid			partition;		/* the last of them */
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

		if (part < 0 || time_range_bound(bounds, at, type) > round->oldest)
			continue;
		if (get_rel_relkind(parts->oids[part]) != RELKIND_FOREIGN_TABLE &&
			!list_member_oid(round->tried, parts->oids[part]))
			return parts->oids[part];
	}
	return InvalidOid;
}

/*
 * All that DROP and DETACH take, down from the table, as a reader does: where one of them reads for
 * long, the others wait behind us for the lock_timeout at most.
 */
static void
lock_all(Relation target, Oid partition)
{
	PartitionDesc parts = RelationGetPartitionDesc(target, true);

	LockRelationOid(RelationGetRelid(target), AccessExclusiveLock);
	if (partition_bound_has_default(parts->boundinfo))
		LockRelationOid(parts->oids[parts->boundinfo->default_index], AccessExclusiveLock);
	LockRelationOid(partition, AccessExclusiveLock);
	(void) find_all_inheritors(partition, AccessExclusiveLock, NULL);
}

static void
retire_one(const Source *source, void *argument)
{
	Retirement *round = argument;
	Relation	target = table_open(source->target, AccessShareLock);
	Oid			partition = find_old(target, round);
	bool		detach = strcmp(source->retention_action, "detach") == 0;
	MemoryContext outer;
	char	   *name;

	round->more = OidIsValid(partition);
	round->partition = partition;
	if (round->more)
	{
		outer = MemoryContextSwitchTo(round->memory);
		round->tried = lappend_oid(round->tried, partition);
		MemoryContextSwitchTo(outer);
		lock_all(target, partition);
	}
	table_close(target, NoLock);
	if (!round->more)
		return;
	name = qualified_name(partition);
	if (detach)
		run_statement(psprintf("ALTER TABLE %s DETACH PARTITION %s", qualified_name(source->target), name));
	else
		run_statement(psprintf("DROP TABLE %s", name));
	ereport(LOG,
			(errmsg("%s partition %s, older than the retention of source \"%s\"", detach ? "detached" : "dropped",
					name, source->name)));
}

void
partitions_retire(WorkerSlot *slot, const Source *source, TimestampTz *last, int *failures)
{
	Retirement	round = {.memory = CurrentMemoryContext, .more = true};
	PartitionLocks locks = {LOCK_TIMEOUT_MS << Min(*failures, MOST_DOUBLINGS), &round.partition};
	bool		failed = false;

	if (source->retention == NULL || !partition_is_due(last))
		return;
	round.oldest = moment_before(GetCurrentTimestamp(), source->retention);
	while (round.more)
	{
		char	   *reason;

		round.more = false;
		reason = partition_run(slot, source, locks, retire_one, &round);
		failed |= reason != NULL;
		if (reason != NULL)
			worker_set_error(slot, psprintf("an old partition could not be retired, and is tried again in a minute: %s", reason));
	}
	*failures = failed ? *failures + 1 : 0;
	list_free(round.tried);
}
