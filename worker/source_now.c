/*
 * source_now.c
 *		The source of a worker as it is at the moment: locked, read again, and gone on with or not.
 *
 * The row of clickstream._sources is locked and read again in each transaction.  What changed is
 * adopted where that is easy (numbers, intervals and words); for anything else the worker leaves,
 * and the launcher starts another one.  Called by source_main.c and its neighbours.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "connection.h"
#include "read_only.h"
#include "same.h"
#include "source_worker.h"

/* how long a worker stays that may not write */
#define READ_ONLY_MS 2000

#define OPTIONS_EVERY_MS 500

static bool
same_partitions(const Source *a, const Source *b)
{
	if ((a->partitions == NULL) != (b->partitions == NULL) || a->n_partitions != b->n_partitions)
		return false;
	return a->n_partitions == 0 ||
		memcmp(a->partitions, b->partitions, sizeof(int32) * a->n_partitions) == 0;
}

static bool
same_topics(List *a, List *b)
{
	ListCell   *x,
			   *y;

	if (list_length(a) != list_length(b))
		return false;
	forboth(x, a, y, b)
	{
		if (strcmp(lfirst(x), lfirst(y)) != 0)
			return false;
	}
	return true;
}

/* whether this worker, as it was started, can go on with the source as it is now */
static bool
can_go_on(const SourceWorker *worker, const Source *now)
{
	const Source *before = worker->source;

	return now != NULL && now->enabled && now->owner == worker->slot->owner &&
		now->workers == worker->slot->n_workers &&
		catalog_is_here(now->system_identifier, now->database) &&
		(before == NULL ||
		 (same_text(before->server, now->server) && same_topics(before->topics, now->topics) &&
		  same_text(before->name, now->name) && same_partitions(before, now) &&
		  same_text(before->consumer_group, now->consumer_group)));
}

static void
leave(void)
{
	worker_commit();
	worker_leave();
}

void
source_leave_if_obsolete(SourceWorker *worker)
{
	bool		obsolete;

	StartTransactionCommand();
	obsolete = !catalog_extension_exists() ||
		!SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(worker->slot->owner));
	CommitTransactionCommand();
	MemoryContextSwitchTo(worker->round_memory);
	if (!obsolete)
		return;
	worker_leave();
}

/* what is done about partitions now and then is done at once when it was altered */
static void
note_changes(SourceWorker *worker, const Source *before, const Source *now)
{
	if (!same_interval(before->partition_interval, now->partition_interval))
		worker->ahead_at = 0;
	if (!same_interval(before->retention, now->retention) ||
		!same_text(before->retention_action, now->retention_action))
		worker->retired_at = 0;
}

static void
keep_source(SourceWorker *worker)
{
	MemoryContext context = AllocSetContextCreate(CurTransactionContext, "clickstream source",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext outer = MemoryContextSwitchTo(context);
	Source	   *source = catalog_source_by_id(worker->slot->object_id);

	MemoryContextSwitchTo(outer);
	if (!can_go_on(worker, source))
		leave();
	if (worker->source != NULL)
		note_changes(worker, worker->source, source);
	if (worker->source_memory != NULL)
		MemoryContextDelete(worker->source_memory);
	MemoryContextSetParent(context, worker->memory);
	worker->source_memory = context;
	worker->source = source;
}

List *
source_options(SourceWorker *worker)
{
	return connection_options(worker->source->server, CONNECTION_KAFKA, worker->slot->owner);
}

/* a connection that was altered is noticed also while records flow */
static void
leave_if_options_changed(SourceWorker *worker)
{
	TimestampTz now = GetCurrentTimestamp();

	if (worker->consumer == NULL || now < worker->next_options)
		return;
	worker->next_options = now + OPTIONS_EVERY_MS * 1000;
	if (!same_options(worker->options, source_options(worker)))
		leave();
}

/*
 * default_transaction_read_only pauses a source.  What ALTER DATABASE says of it reaches a session
 * at its start only: so after a while the worker leaves, and the next one looks again.
 */
static void
pause_while_read_only(SourceWorker *worker)
{
	if (!DefaultXactReadOnly && !read_only_by_alter(worker->slot->owner))
		return;
	worker_commit();
	worker_set_state(worker->slot, WORKER_WAITING, "default_transaction_read_only is on");
	worker_sleep(READ_ONLY_MS, "ClickstreamSourceReadOnly");
	worker_leave();
}

/* in the log once, until it goes on */
void
source_tell_waiting(SourceWorker *worker, const char *reason)
{
	worker_set_error(worker->slot, reason);
	worker_set_state(worker->slot, WORKER_WAITING, reason);
	if (!worker->waiting)
		ereport(LOG,
				(errmsg("source \"%s\" waits: %s", worker->source ? worker->source->name : "?",
						reason)));
	worker->waiting = true;
}

void
source_begin(SourceWorker *worker)
{
	/* while partitions are shared out anew, the source's other workers stand still, too */
	bool		alone = worker->consumer != NULL && consumer_shares_out(worker->consumer);

	worker_begin(worker->slot);
	catalog_lock(CATALOG_SOURCE, worker->slot->object_id, alone ? ExclusiveLock : ShareLock);
	keep_source(worker);
	pause_while_read_only(worker);
	leave_if_options_changed(worker);
}
