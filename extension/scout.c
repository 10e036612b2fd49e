/*
 * scout.c
 *		A look into one database: which workers it wants, and what must not go on there.
 *
 * A scout is a process that the launcher starts for a moment, one at a time.  It reads sources and
 * sinks, pauses those that were made in another database or cluster (a restored dump, a copied
 * database), drops replication slots that no sink owns any more, and writes the wanted workers into
 * the shared slots.  It waits for no lock longer than a moment, and never reads a user's table.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "replication/slot.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "background.h"
#include "catalog.h"
#include "launcher.h"
#include "rollup_partition.h"
#include "worker_slot.h"

/* a worker that this database wants */
typedef struct Wanted
{
	WorkerKind	kind;
	int32		object_id;
	const char *name;
	int32		worker_no;
	int32		n_workers;
	Oid			owner;
} Wanted;

PGDLLEXPORT void clickstream_scout_main(Datum main_arg);

/* ---------------------------------------------------------------- reading the catalog */

/* a copied source starts paused; returns whether the source may run here */
static bool
source_may_run(Source *source)
{
	if (!source->enabled || !OidIsValid(source->owner))
		return false;
	if (catalog_is_here(source->system_identifier, source->database))
		return true;

	catalog_lock(CATALOG_SOURCE, source->id, ExclusiveLock);
	source = catalog_source_by_id(source->id);
	if (source && source->enabled && !catalog_is_here(source->system_identifier, source->database))
	{
		source->enabled = false;
		source->paused_because = catalog_copied_because("source", source->name, source->system_identifier, source->database);
		catalog_source_update(source);
		ereport(LOG, (errmsg("clickstream source \"%s\" is paused", source->name),
					  errdetail("%s", source->paused_because)));
	}
	return false;
}

static bool
sink_may_run(Sink *sink)
{
	if (!sink->enabled)
		return false;
	if (catalog_is_here(sink->system_identifier, sink->database))
		return true;

	catalog_lock(CATALOG_SINK, sink->id, ExclusiveLock);
	sink = catalog_sink_by_id(sink->id);
	if (sink && sink->enabled && !catalog_is_here(sink->system_identifier, sink->database))
	{
		sink->enabled = false;
		sink->paused_because = catalog_copied_because("sink", sink->name, sink->system_identifier, sink->database);
		catalog_sink_update(sink);
		ereport(LOG, (errmsg("clickstream sink \"%s\" is paused", sink->name),
					  errdetail("%s", sink->paused_because)));
	}
	return false;
}

static List *
want(List *list, WorkerKind kind, int32 id, const char *name, int32 no, int32 n, Oid owner)
{
	Wanted	   *wanted = palloc(sizeof(Wanted));

	wanted->kind = kind;
	wanted->object_id = id;
	wanted->name = name;
	wanted->worker_no = no;
	wanted->n_workers = n;
	wanted->owner = owner;
	return lappend(list, wanted);
}

static List *
read_wanted(void)
{
	List	   *list = NIL;
	ListCell   *cell;
	int			no;

	foreach(cell, catalog_sources())
	{
		Source	   *source = lfirst(cell);

		if (source_may_run(source))
			for (no = 0; no < source->workers; no++)
				list = want(list, WORKER_SOURCE, source->id, source->name, no, source->workers,
							source->owner);
	}
	foreach(cell, catalog_sinks())
	{
		Sink	   *sink = lfirst(cell);

		if (sink_may_run(sink))
			list = want(list, WORKER_SINK, sink->id, sink->name, 0, 1, sink->owner);
	}
	foreach(cell, catalog_rollups())
	{
		Rollup	   *rollup = lfirst(cell);
		char	   *name = get_rel_name(rollup->rollup);

		if (name != NULL && (rollup->phase != ROLLUP_FILLED || rollup_has_old_partition(rollup)))
			list = want(list, WORKER_ROLLUP, rollup->id, name, 0, 1, rollup->owner);
	}
	return list;
}

/* ---------------------------------------------------------------- replication slots left behind */

/* the idle logical slots of this database that carry our names */
static List *
idle_replication_slots(void)
{
	char		prefix[NAMEDATALEN];
	List	   *names = NIL;
	int			i;

	snprintf(prefix, sizeof(prefix), "clickstream_%u_", MyDatabaseId);
	LWLockAcquire(ReplicationSlotControlLock, LW_SHARED);
	for (i = 0; i < max_replication_slots; i++)
	{
		ReplicationSlot *slot = &ReplicationSlotCtl->replication_slots[i];
		bool		idle;
		NameData	name;

		if (!slot->in_use)
			continue;
		SpinLockAcquire(&slot->mutex);
		idle = slot->active_pid == 0 && slot->data.database == MyDatabaseId;
		name = slot->data.name;
		SpinLockRelease(&slot->mutex);
		if (idle && strncmp(NameStr(name), prefix, strlen(prefix)) == 0)
			names = lappend(names, pstrdup(NameStr(name)));
	}
	LWLockRelease(ReplicationSlotControlLock);
	return names;
}

static bool
is_owned(const char *slot_name, List *sinks)
{
	ListCell   *cell;

	foreach(cell, sinks)
		if (strcmp(((Sink *) lfirst(cell))->slot, slot_name) == 0)
			return true;
	return false;
}

/*
 * A slot is made after the row of its sink is committed.  So the slots are listed first and the
 * sinks read after: a slot without a row then is one whose sink was dropped.
 */
static void
drop_orphaned_slots(bool has_extension)
{
	List	   *names = idle_replication_slots();
	List	   *sinks;
	ListCell   *cell;

	if (names == NIL)
		return;
	sinks = has_extension ? catalog_sinks() : NIL;
	foreach(cell, names)
	{
		const char *name = lfirst(cell);

		if (is_owned(name, sinks))
			continue;
		ReplicationSlotDrop(name, true);
		ereport(LOG, (errmsg("replication slot \"%s\" of a dropped clickstream sink is dropped",
							 name)));
	}
}

/* ---------------------------------------------------------------- telling the launcher */

static void
fill_slot(WorkerSlot *slot, const Wanted *wanted)
{
	SpinLockAcquire(&slot->mutex);
	slot->wanted = true;
	slot->next_n_workers = wanted->n_workers;
	slot->next_owner = wanted->owner;
	strlcpy(slot->name, wanted->name, NAMEDATALEN);
	SpinLockRelease(&slot->mutex);
}

static bool
is_wanted(const WorkerSlot *slot, List *list)
{
	ListCell   *cell;

	foreach(cell, list)
	{
		Wanted	   *wanted = lfirst(cell);

		if (wanted->kind == slot->kind && wanted->object_id == slot->object_id &&
			wanted->worker_no == slot->worker_no)
			return true;
	}
	return false;
}

/* While a scout runs the launcher frees no slot, so the keys of the slots stand still. */
static void
write_slots(List *list)
{
	int			count;
	WorkerSlot *slots = worker_slots(&count);
	ListCell   *cell;
	int			i;

	for (i = 0; i < count; i++)
	{
		WorkerSlot *slot = &slots[i];

		if (slot->kind == WORKER_NONE || slot->database != MyDatabaseId || is_wanted(slot, list))
			continue;
		SpinLockAcquire(&slot->mutex);
		slot->wanted = false;
		SpinLockRelease(&slot->mutex);
	}

	foreach(cell, list)
	{
		Wanted	   *wanted = lfirst(cell);
		WorkerSlot *slot = worker_slot_claim(wanted->kind, MyDatabaseId, wanted->object_id,
											 wanted->worker_no);

		if (slot)
			fill_slot(slot, wanted);
		else
			ereport(LOG, (errmsg("no room for a worker of clickstream %s \"%s\"",
								 worker_kind_name(wanted->kind), wanted->name),
						  errhint("Raise clickstream.max_workers and restart the server.")));
	}
}

static void
scout_pin_settings(void)
{
	background_pin_settings();
	SetConfigOption("lock_timeout", "2s", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("default_transaction_read_only", "off", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("synchronous_commit", "off", PGC_SUSET, PGC_S_OVERRIDE);
}

void
clickstream_scout_main(Datum main_arg)
{
	MemoryContext keep;
	List	   *list = NIL;
	bool		has_extension;

	background_handle_signals();
	BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(main_arg), InvalidOid, 0);
	scout_pin_settings();
	keep = AllocSetContextCreate(TopMemoryContext, "clickstream scout", ALLOCSET_DEFAULT_SIZES);

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	pgstat_report_activity(STATE_RUNNING, "looking for sources and sinks");
	MemoryContextSwitchTo(keep);
	has_extension = catalog_extension_exists();
	if (has_extension)
		list = read_wanted();
	drop_orphaned_slots(has_extension);
	PopActiveSnapshot();
	CommitTransactionCommand();

	write_slots(list);
	launcher_scouted(MyDatabaseId, has_extension);
	proc_exit(0);
}
