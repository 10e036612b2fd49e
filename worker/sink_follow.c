/*
 * sink_follow.c
 *		Following the write-ahead log: the loop, and what each kind of change does to the index.
 *
 * Owns the order in which things are read, sent, stored and confirmed.  The position of the slot moves
 * only over what Elasticsearch has acknowledged or what is stored as a dead letter.  Called by
 * sink_main.c; is told changes by changes.c, under whose historic snapshot it must read no table:
 * what needs one (dead letters, rows with an untouched TOAST value) waits until the transaction that
 * is being decoded has been told to its end.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "changes.h"
#include "copy.h"
#include "duration.h"
#include "sink.h"
#include "sink_dates.h"
#include "sink_index.h"
#include "sink_lag.h"
#include "sink_mend.h"
#include "sink_swap.h"
#include "worker.h"

#define READ_BYTES ((uint64) 1024 * 1024)
#define IDLE_FIRST_MS 5
#define IDLE_LONGEST_MS 200
#define LOOK_AGAIN_MS 1000		/* at the catalog */
#define OLD_INDEX_MS 2000		/* until an index that was swapped out is deleted, if nobody reads it */
#define OLD_INDEX_LONGEST_MS (5 * 60 * 1000)	/* or if somebody does: as long as its scrolls may last */

/* a row to be read from the table, as its change left a large value out */
typedef struct Reread
{
	XLogRecPtr	version;
	char	   *texts[FLEXIBLE_ARRAY_MEMBER];	/* of the id columns, NULL for NULL */
} Reread;

typedef struct Following
{
	SinkWorker *worker;
	Sink	   *sink;
	MemoryContext context;		/* all of this */
	Bulk	   *bulk;
	ChangeStream *stream;
	MemoryContext plan_context;
	DocumentPlan *plan;			/* NULL until the relation is described */
	StringInfoData id;
	StringInfoData old_id;
	SinkDates  *dates;			/* NULL without a date pattern */
	StringInfoData index;
	XLogRecPtr	covered;		/* all commits before it have been put into bulks */
	SinkLag		lag;			/* commits put into bulks and not acknowledged */
	MemoryContext reread_context;
	List	   *rereads;
	XLogRecPtr	reread_version;	/* of the row that is being read again */
	HTAB	   *arrivals;		/* of the transaction being told, or NULL */
	XLogRecPtr	arrivals_version;
	bool		key_is_deferrable;	/* some unique key of the table is */
	char	   *filter;			/* only rows that satisfy it are told, or NULL */
	int			bulk_wait_ms;
	int			idle_ms;
	TimestampTz looked_at;		/* when the catalog was compared last */
	TimestampTz begun_at;
	bool		cleared;		/* nothing is left of an index before this one */
} Following;

/* ---------------------------------------------------------------- sending */

/* an index that was there has been deleted */
static bool
a_date_is_lost(Following *follow, char **why)
{
	char	   *lost;

	if (follow->dates == NULL || sink_dates_look(follow->dates, &lost) != NULL || lost == NULL)
		return false;
	*why = psprintf("index \"%s\" has been deleted", lost);
	return true;
}

/* the surroundings stay broken: has the sink changed, is the index still there? */
static void
look_around(Following *follow)
{
	char	   *why = NULL;

	if (worker_should_stop())
		proc_exit(0);
	if (sink_has_changed(follow->worker))
		worker_leave();
	sink_give_up_slot(follow->worker);
	if (sink_index_look(follow->worker->client, follow->sink, &why) != INDEX_MISSING &&
		!a_date_is_lost(follow, &why))
		return;
	ereport(LOG,
			(errmsg("the index of clickstream sink \"%s\" is gone, and is built anew",
					follow->sink->name),
			 errdetail("%s.", why)));
	sink_set_phase(follow->worker, "new", NULL, InvalidXLogRecPtr);
	worker_leave();
}

static void
build_anew(Following *follow, const char *why)
{
	ereport(LOG,
			(errmsg("the index of clickstream sink \"%s\" is built anew", follow->sink->name),
			 errdetail("%s.", why)));
	sink_set_phase(follow->worker, "new", NULL, InvalidXLogRecPtr);
	worker_leave();
}

/*
 * While a transaction is being told the catalog cannot be looked at: the next process does it.  Soon, where
 * what is wrong is most likely in the catalog.
 */
static void
leave_after_patience(Following *follow, TimestampTz since)
{
	int			patience = elasticsearch_refuses_us(follow->worker->client) ? SINK_PATIENCE_MS :
		SINK_LONG_PATIENCE_MS;

	if (TimestampDifferenceExceeds(since, GetCurrentTimestamp(), patience))
		worker_leave();
}

static void
settle_by(Following *follow, bool (*settled) (Bulk *bulk))
{
	TimestampTz since = GetCurrentTimestamp();

	while (!settled(follow->bulk))
	{
		if (!changes_in_transaction(follow->stream))
			look_around(follow);
		else
			leave_after_patience(follow, since);
	}
}

static void
settle(Following *follow)
{
	settle_by(follow, bulk_settle);
}

/* a request that has no bulk failed: waited out; the state is as it was when it is tried again */
static void
wait_a_moment(Following *follow, const char *why, TimestampTz since)
{
	sink_note_fault(follow->worker, why);
	worker_pause(follow->worker->attempt++, "ClickstreamElasticsearchRetry");
	CHECK_FOR_INTERRUPTS();
	leave_after_patience(follow, since);
}

static void
request_went_well(Following *follow)
{
	if (follow->worker->attempt > 0)
		worker_set_state(follow->worker->slot, WORKER_RUNNING, NULL);
	follow->worker->attempt = 0;
}

static void
send_bulk(Following *follow)
{
	settle_by(follow, bulk_make_room);
	bulk_send(follow->bulk, follow->covered);
}

static void
send_if_full(Following *follow)
{
	if (bulk_is_full(follow->bulk))
		send_bulk(follow);
}

/* ---------------------------------------------------------------- changes */

/* new columns of the table reach the index's mapping before a document that has them */
static void
extend_mapping(Following *follow)
{
	TimestampTz since = GetCurrentTimestamp();
	bool		refused = false;
	char	   *why;

	settle(follow);
	while ((why = sink_index_extend(follow->worker->client, follow->sink, follow->plan,
									&refused)) != NULL)
	{
		if (refused)
			ereport(ERROR,
					(errcode(ERRCODE_FDW_ERROR),
					 errmsg("the index \"%s\" does not take the table's columns: %s",
							follow->sink->alias, why),
					 errhint("If a column's type changed, clickstream.resync_sink builds a new index.")));
		wait_a_moment(follow, why, since);
	}
	request_went_well(follow);
}

/* a row may be the first of its date, or leave one that was never there */
static void
make_index_of(Following *follow, const ColumnValue *values)
{
	TimestampTz since = GetCurrentTimestamp();
	char	   *why;

	if (!document_index(follow->plan, values, &follow->index) ||
		sink_dates_has(follow->dates, follow->index.data, follow->index.len))
		return;
	while (!bulk_settle(follow->bulk))
		leave_after_patience(follow, since);
	while ((why = sink_dates_make(follow->dates, follow->plan, follow->index.data)) != NULL)
		wait_a_moment(follow, why, since);
	request_went_well(follow);
}

static void
described(void *arg, const RelationDescription *relation)
{
	Following  *follow = arg;
	MemoryContext old;

	if (follow->plan && document_plan_fits(follow->plan, relation))
		return;
	MemoryContextReset(follow->plan_context);
	old = MemoryContextSwitchTo(follow->plan_context);
	follow->plan = document_plan(relation, follow->sink);
	MemoryContextSwitchTo(old);

	extend_mapping(follow);
}

static void
note_reread(Following *follow, const ColumnValue *values, XLogRecPtr version)
{
	MemoryContext old = MemoryContextSwitchTo(follow->reread_context);
	const int  *columns;
	int			n = document_id_columns(follow->plan, &columns);
	Reread	   *reread = palloc(offsetof(Reread, texts) + sizeof(char *) * n);
	int			i;

	reread->version = version;
	for (i = 0; i < n; i++)
	{
		const ColumnValue *value = &values[columns[i]];

		reread->texts[i] = value->text ? pnstrdup(value->text, value->length) : NULL;
	}
	follow->rereads = lappend(follow->rereads, reread);
	MemoryContextSwitchTo(old);
}

/* ---- ids that rows came to in the transaction being told */

/* beyond so many no note is kept, and each departure of the transaction is looked at */
#define MOST_ARRIVALS 500000

typedef struct Arrival
{
	uint64		hash;			/* of the id */
} Arrival;

static uint64
hash_of_id(const StringInfoData *id)
{
	return hash_bytes_extended((const unsigned char *) id->data, id->len, 0);
}

static void
forget_arrivals(Following *follow)
{
	if (follow->arrivals)
		hash_destroy(follow->arrivals);
	follow->arrivals = NULL;
}

/* A row got this id: if another row has had it until now, that one's departure is told later. */
static void
note_arrival(Following *follow, XLogRecPtr version)
{
	HASHCTL		control = {.keysize = sizeof(uint64), .entrysize = sizeof(Arrival)};
	uint64		hash = hash_of_id(&follow->id);

	if (follow->arrivals && follow->arrivals_version != version)
		forget_arrivals(follow);
	follow->arrivals_version = version;
	if (follow->arrivals == NULL)
	{
		control.hcxt = follow->context;
		follow->arrivals = hash_create("clickstream arrivals", 256, &control,
									   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	if (hash_get_num_entries(follow->arrivals) < MOST_ARRIVALS)
		(void) hash_search(follow->arrivals, &hash, HASH_ENTER, NULL);
}

static bool
may_have_arrived(Following *follow, const StringInfoData *id, XLogRecPtr version)
{
	uint64		hash = hash_of_id(id);

	if (follow->arrivals == NULL || follow->arrivals_version != version)
		return false;
	return hash_get_num_entries(follow->arrivals) >= MOST_ARRIVALS ||
		hash_search(follow->arrivals, &hash, HASH_FIND, NULL) != NULL;
}

/*
 * A row leaves its id.  If another row came to the same id before it in the same transaction (two that
 * swap theirs), the document is that other row's, which is read again.
 */
static void
take_departure(Following *follow, const ColumnValue *values, const StringInfoData *id,
			   XLogRecPtr version)
{
	bulk_delete(follow->bulk, id->data, id->len, version);
	if (may_have_arrived(follow, id, version))
		note_reread(follow, values, version);
}

/* what the change left out is in the old row, if that came whole; its key came in any case */
static void
fill_untouched(Following *follow, const RowChange *change)
{
	int			n = changes_columns(follow->stream);
	int			i;

	if (change->old_values == NULL)
		return;
	for (i = 0; i < n; i++)
		if (change->new_values[i].untouched &&
			(change->old_is_whole || change->old_values[i].text != NULL))
			change->new_values[i] = change->old_values[i];
}

/* the old id is then in old_id */
static bool
id_has_changed(Following *follow, const RowChange *change)
{
	if (change->old_values == NULL ||
		!document_address(follow->plan, change->old_values, &follow->old_id))
		return false;
	return !document_address(follow->plan, change->new_values, &follow->id) ||
		follow->id.len != follow->old_id.len ||
		memcmp(follow->id.data, follow->old_id.data, follow->id.len) != 0;
}

static void
take_update(Following *follow, const RowChange *change)
{
	fill_untouched(follow, change);
	if (id_has_changed(follow, change))
	{
		take_departure(follow, change->old_values, &follow->old_id, change->version);
		if (document_address(follow->plan, change->new_values, &follow->id))
			note_arrival(follow, change->version);
	}

	if (document_is_incomplete(follow->plan, change->new_values))
		note_reread(follow, change->new_values, change->version);
	else
		sink_put_row(follow->bulk, follow->plan, change->new_values, change->version, &follow->id);
}

static void
take_too_large(Following *follow, const RowChange *change)
{
	if (id_has_changed(follow, change))
		take_departure(follow, change->old_values, &follow->old_id, change->version);
	sink_refuse_large(follow->bulk, follow->plan, change->new_values, change->version, &follow->id);
}

static void
delete_id(void *arg, const char *id, int length, XLogRecPtr version)
{
	Following  *follow = arg;

	bulk_delete(follow->bulk, id, length, follow->reread_version);
	if (!bulk_is_full(follow->bulk))
		return;
	send_bulk(follow);
	settle(follow);				/* the next page of ids is asked for over the same connection */
}

/* every document there is, but for those of later commits: they have a higher version */
static void
take_truncate(Following *follow, XLogRecPtr version)
{
	TimestampTz since = GetCurrentTimestamp();
	char	   *why;

	send_bulk(follow);
	settle(follow);
	follow->reread_version = version;
	while ((why = sink_index_each_id(follow->worker->client, follow->sink, delete_id,
									 follow)) != NULL)
	{
		settle(follow);
		wait_a_moment(follow, why, since);
	}
	request_went_well(follow);
}

/* also an update by which a row comes into the filter: what it left untouched is then not told */
static void
take_insert(Following *follow, const RowChange *change)
{
	if (document_is_incomplete(follow->plan, change->new_values))
		note_reread(follow, change->new_values, change->version);
	else
		sink_put_row(follow->bulk, follow->plan, change->new_values, change->version, &follow->id);

	/*
	 * Two rows can have one id for a moment, where a key is checked at the end; and a row that comes into
	 * the filter may have had another id before.
	 */
	if ((follow->key_is_deferrable || follow->filter) &&
		document_address(follow->plan, change->new_values, &follow->id))
		note_arrival(follow, change->version);
}

/* a row of which it is not known whether it satisfies the filter: away, and read again by one that asks */
static void
take_unfiltered(Following *follow, const RowChange *change)
{
	if (change->old_values && document_address(follow->plan, change->old_values, &follow->id))
		take_departure(follow, change->old_values, &follow->id, change->version);
	if (change->new_values == NULL)
		return;
	if (document_address(follow->plan, change->new_values, &follow->id))
		bulk_delete(follow->bulk, follow->id.data, follow->id.len, change->version);
	note_reread(follow, change->new_values, change->version);
}

static void
take_change(Following *follow, const RowChange *change)
{
	switch (change->kind)
	{
		case CHANGE_INSERT:
			take_insert(follow, change);
			break;
		case CHANGE_UPDATE:
			take_update(follow, change);
			break;
		case CHANGE_DELETE:
			if (document_address(follow->plan, change->old_values, &follow->id))
				take_departure(follow, change->old_values, &follow->id, change->version);
			break;
		case CHANGE_TOO_LARGE:
			take_too_large(follow, change);
			break;
		case CHANGE_TRUNCATE:
			take_truncate(follow, change->version);
			break;
	}
}

static void
show_lag(Following *follow, TimestampTz current_until)
{
	WorkerSlot *slot = follow->worker->slot;

	SpinLockAcquire(&slot->mutex);
	slot->oldest_commit = sink_lag_oldest(&follow->lag);
	if (current_until)
		slot->current_until = current_until;
	SpinLockRelease(&slot->mutex);
}

/* documents that stay as they were first: what is not a new row is counted, and left out */
static bool
is_left_out(Following *follow, const RowChange *change)
{
	WorkerSlot *slot = follow->worker->slot;

	if (!follow->sink->create_only || change->kind == CHANGE_INSERT || change->kind == CHANGE_TOO_LARGE)
		return false;
	SpinLockAcquire(&slot->mutex);
	slot->skipped++;
	SpinLockRelease(&slot->mutex);
	return true;
}

static void
changed(void *arg, const RowChange *change)
{
	Following  *follow = arg;

	if (sink_lag_put(&follow->lag, change->version, change->committed_at))
		show_lag(follow, change->committed_at);
	if (is_left_out(follow, change))
		return;
	if (follow->dates && change->old_values)
		make_index_of(follow, change->old_values);
	if (follow->dates && change->new_values)
		make_index_of(follow, change->new_values);
	if (change->unfiltered && follow->filter)
		take_unfiltered(follow, change);
	else
		take_change(follow, change);
	send_if_full(follow);
}

/* the texts of the columns that an address is made of; false when the message is at its end */
static bool
take_gone_row(Following *follow, const char **next, const char *end, ColumnValue *values)
{
	const int  *columns;
	int			n = document_place_columns(follow->plan, &columns);

	if (*next >= end)
		return false;
	for (int i = 0; i < n; i++)
	{
		ColumnValue *value = &values[columns[i]];
		int32		length;

		if (end - *next < (ptrdiff_t) sizeof(length))
			elog(ERROR, "a message about rows that are gone is cut short");
		memcpy(&length, *next, sizeof(length));
		*next += sizeof(length);
		if (end - *next < length)
			elog(ERROR, "a message about rows that are gone is cut short");
		value->text = length < 0 ? NULL : *next;
		value->length = Max(length, 0);
		*next += value->length;
	}
	return true;
}

/* rows that are gone with their partition: each as if it had been deleted */
static void
gone(void *arg, const char *message, int length, XLogRecPtr version)
{
	Following  *follow = arg;
	const char *next = message + sizeof(int32);
	const char *end = message + length;
	ColumnValue *values = palloc0(sizeof(ColumnValue) * Max(changes_columns(follow->stream), 1));
	int32		sink_id;

	memcpy(&sink_id, message, sizeof(sink_id));
	while (sink_id == follow->sink->id && take_gone_row(follow, &next, end, values))
	{
		if (follow->dates)
			make_index_of(follow, values);
		if (document_address(follow->plan, values, &follow->id))
			take_departure(follow, values, &follow->id, version);
		send_if_full(follow);
	}
	pfree(values);
}

/* ---------------------------------------------------------------- between transactions */

static void
put_reread_row(void *arg, const ColumnValue *values, bool fits)
{
	Following  *follow = arg;

	if (follow->dates)
		make_index_of(follow, values);
	if (fits)
		sink_put_row(follow->bulk, follow->plan, values, follow->reread_version, &follow->id);
	else
		sink_refuse_large(follow->bulk, follow->plan, values, follow->reread_version, &follow->id);
}

/* The table may have another shape by now than the log has come to: the rows then need its own plan. */
static RelationDescription *
describe_now(Following *follow, DocumentPlan **plan)
{
	MemoryContext old = MemoryContextSwitchTo(follow->reread_context);
	RelationDescription *relation;

	worker_begin(follow->worker->slot);
	MemoryContextSwitchTo(follow->reread_context);
	relation = copy_describe(follow->sink->relation);
	*plan = document_plan_fits(follow->plan, relation) ? follow->plan :
		document_plan(relation, follow->sink);
	worker_commit();
	MemoryContextSwitchTo(old);
	return relation;
}

/* as many as a request holds; how many of the list are done */
static int
reread_portion(Following *follow, const RelationDescription *relation, int done)
{
	const int  *columns;
	int			n = document_id_columns(follow->plan, &columns);

	char	   *filter;

	worker_begin(follow->worker->slot);
	filter = copy_filter(follow->sink);
	while (done < list_length(follow->rereads) && !bulk_is_full(follow->bulk))
	{
		Reread	   *reread = list_nth(follow->rereads, done++);

		follow->reread_version = reread->version;
		copy_by_id(relation, filter, columns, n, reread->texts, put_reread_row, follow);
	}
	worker_commit();
	return done;
}

/*
 * The row as it is now, under the version of its change.  If it changed again since, that change comes
 * later in the log with a higher version; if it is gone, so does its deletion.
 */
static void
reread_rows(Following *follow)
{
	DocumentPlan *of_log = follow->plan;
	RelationDescription *relation;
	int			done = 0;

	if (follow->rereads == NIL)
		return;
	relation = describe_now(follow, &follow->plan);
	if (follow->plan != of_log)
		extend_mapping(follow);
	while (done < list_length(follow->rereads))
	{
		send_if_full(follow);
		done = reread_portion(follow, relation, done);
	}
	follow->plan = of_log;
	follow->rereads = NIL;
	MemoryContextReset(follow->reread_context);
}

/* the position stays where it is: what was sent since has not been told to be there */
static void
diverge(Following *follow)
{
	worker_set_error(follow->worker->slot, bulk_diverged(follow->bulk));
	ereport(LOG,
			(errmsg("the index of clickstream sink \"%s\" has diverged", follow->sink->name),
			 errdetail("%s.", bulk_diverged(follow->bulk)),
			 errhint("clickstream.resync_sink builds it anew.")));
	sink_set_phase(follow->worker, "diverged", NULL, follow->sink->consistent_point);
	worker_leave();
}

static void
forget_mended(void *arg, MendId *ids, int n)
{
}

/*
 * Documents that may yet arrive in a form which was replaced within its transaction get a later version: the
 * rows are sent as they are now.  Changes since then are told later, and lose against it; it has them.
 */
static void
mend_doubtful(Following *follow)
{
	bool		too_many;
	List	   *listed = bulk_doubtful(follow->bulk, &too_many);
	MendId	   *ids;
	ListCell   *cell;

	if (listed == NIL)
		return;
	send_bulk(follow);
	settle(follow);
	listed = bulk_doubtful(follow->bulk, &too_many);
	if (too_many)
		build_anew(follow, "more documents than can be mended may arrive late");
	ids = palloc0(sizeof(MendId) * list_length(listed));
	foreach(cell, listed)
		ids[foreach_current_index(cell)].id = lfirst(cell);
	sink_mend(follow->worker, follow->bulk, ids, list_length(listed), forget_mended, follow);
	pfree(ids);
	bulk_forget_doubtful(follow->bulk);
}

/* moves the slot over what is in the index, and tells those who wait */
static void
acknowledge(Following *follow)
{
	XLogRecPtr	position;

	mend_doubtful(follow);
	position = bulk_settled(follow->bulk);
	if (bulk_diverged(follow->bulk))
		diverge(follow);
	sink_store_refusals(follow->worker, follow->bulk);
	if (bulk_is_empty(follow->bulk) && !bulk_in_flight(follow->bulk))
		position = follow->covered;
	changes_confirm(follow->stream, position);
	sink_acknowledge(follow->worker, position);
	sink_lag_acknowledged(&follow->lag, position);
	show_lag(follow, sink_lag_oldest(&follow->lag));
}

static bool
someone_waits(Following *follow, uint64 *asked)
{
	WorkerSlot *slot = follow->worker->slot;
	bool		waits;

	SpinLockAcquire(&slot->mutex);
	*asked = slot->asked;
	waits = slot->asked != slot->answered;
	SpinLockRelease(&slot->mutex);
	return waits;
}

static void
answer(Following *follow, uint64 asked)
{
	WorkerSlot *slot = follow->worker->slot;

	SpinLockAcquire(&slot->mutex);
	slot->answered = Max(slot->answered, asked);
	SpinLockRelease(&slot->mutex);
}

/* milliseconds until what is collected has to go; 0: now */
static int
due_in(Following *follow, bool urgent)
{
	TimestampTz due;

	if (urgent || bulk_is_full(follow->bulk))
		return 0;
	due = TimestampTzPlusMilliseconds(bulk_since(follow->bulk), follow->bulk_wait_ms);
	return TimestampDifferenceMilliseconds(GetCurrentTimestamp(), due);
}

/*
 * What is collected goes now.  While a request is in the way of it there is no hurry: more is collected
 * meanwhile, and rows that change again and again are sent once for all of it.
 */
static bool
is_due(Following *follow, bool urgent)
{
	if (bulk_is_empty(follow->bulk) || due_in(follow, urgent) > 0)
		return false;
	return bulk_is_full(follow->bulk) || bulk_may_send(follow->bulk);
}

/* the log is read to its end: nothing to do but wait, for an answer or for more */
static void
pause_at_end(Following *follow, bool urgent)
{
	int			ms;

	if (bulk_in_flight(follow->bulk))
	{
		(void) bulk_await_answer(follow->bulk, IDLE_FIRST_MS);
		return;
	}
	if (!bulk_is_empty(follow->bulk))
		ms = Min(due_in(follow, urgent), IDLE_FIRST_MS);
	else
	{
		ms = follow->idle_ms;
		follow->idle_ms = Min(follow->idle_ms * 2, IDLE_LONGEST_MS);
	}
	if (ms > 0)
		worker_sleep(ms, "ClickstreamSinkIdle");
}

/* searches that began before the swap are given time to end */
static void
clear_old_index(Following *follow)
{
	TimestampTz now = GetCurrentTimestamp();

	if (follow->cleared || !TimestampDifferenceExceeds(follow->begun_at, now, OLD_INDEX_MS))
		return;
	follow->cleared = sink_swap_clear(follow->worker->client, follow->sink,
									  TimestampDifferenceExceeds(follow->begun_at, now, OLD_INDEX_LONGEST_MS));
}

static void
look_at_catalog(Following *follow)
{
	if (!TimestampDifferenceExceeds(follow->looked_at, GetCurrentTimestamp(), LOOK_AGAIN_MS))
		return;
	sink_totals_save(follow->worker);
	if (sink_has_changed(follow->worker))
		worker_leave();
	clear_old_index(follow);
	follow->looked_at = GetCurrentTimestamp();
}

static void
one_round(Following *follow)
{
	XLogRecPtr	before = follow->covered;
	uint64		asked;
	bool		urgent = someone_waits(follow, &asked);
	TimestampTz begun = GetCurrentTimestamp();
	bool		more = changes_read(follow->stream, READ_BYTES);

	reread_rows(follow);
	if (!changes_in_transaction(follow->stream))
		forget_arrivals(follow);
	follow->covered = changes_position(follow->stream);
	if (follow->covered != before)
		follow->idle_ms = IDLE_FIRST_MS;

	if (is_due(follow, urgent && !more))
		send_bulk(follow);
	while (bulk_in_flight(follow->bulk) && bulk_has_answer(follow->bulk))
		settle_by(follow, bulk_settle_first);
	acknowledge(follow);
	if (more)
		return;
	if (bulk_is_empty(follow->bulk))
	{
		answer(follow, asked);
		if (sink_lag_oldest(&follow->lag) == 0)
			show_lag(follow, begun);
	}
	pause_at_end(follow, urgent);
}

/* ---------------------------------------------------------------- the start */

static bool
slot_is_there(SinkWorker *worker)
{
	if (sink_slot_is_usable(worker->sink))
		return true;
	sink_lose_slot(worker);
	return false;
}

static void
open_dates(Following *follow)
{
	char	   *lost;
	char	   *why;

	if (strchr(follow->sink->index, '{') == NULL)
		return;
	follow->dates = sink_dates_open(follow->worker->client, follow->sink,
									follow->sink->physical_index, false);
	if ((why = sink_dates_look(follow->dates, &lost)) != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("the indexes of sink \"%s\" could not be looked at: %s", follow->sink->name, why)));
}

static void
follow_start(Following *follow, SinkWorker *worker)
{
	ChangeListener listener = {described, changed, gone, follow};
	BulkOptions options = sink_bulk_options(worker->sink, worker->sink->alias, worker->slot);

	options.in_flight = elasticsearch_in_flight(worker->client);
	options.patience_ms = SINK_PATIENCE_MS;
	options.told_until = GetFlushRecPtr(NULL);
	follow->context = CurrentMemoryContext;
	follow->worker = worker;
	follow->sink = worker->sink;
	follow->bulk_wait_ms = (int) Min(Max(duration_us(worker->sink->bulk_wait) / 1000, 0), 60000);
	follow->idle_ms = IDLE_FIRST_MS;
	follow->looked_at = follow->begun_at = GetCurrentTimestamp();
	follow->plan_context = AllocSetContextCreate(CurrentMemoryContext, "document plan",
												 ALLOCSET_SMALL_SIZES);
	follow->reread_context = AllocSetContextCreate(CurrentMemoryContext, "rows to read again",
												   ALLOCSET_SMALL_SIZES);
	initStringInfo(&follow->id);
	initStringInfo(&follow->old_id);
	initStringInfo(&follow->index);
	open_dates(follow);
	worker_begin(worker->slot);
	follow->key_is_deferrable = copy_has_deferrable_key(worker->sink->relation);
	MemoryContextSwitchTo(follow->context);
	follow->filter = copy_filter(worker->sink);
	worker_commit();
	MemoryContextSwitchTo(follow->context);
	follow->bulk = bulk_open(worker->client, &options);
	follow->stream = changes_open(worker->sink->slot, worker->sink->publication,
								  worker->sink->relation, worker->sink->owner, &listener);
	follow->covered = changes_position(follow->stream);
}

/* Ends only with the process: what changes the sink ends it, and the next one begins afresh. */
void
sink_follow(SinkWorker *worker)
{
	MemoryContext context;
	Following  *follow;

	if (!sink_index_is_there(worker) || !slot_is_there(worker))
		return;
	context = AllocSetContextCreate(TopMemoryContext, "clickstream following",
									ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(context);
	follow = palloc0(sizeof(Following));
	follow_start(follow, worker);
	worker_set_state(worker->slot, WORKER_RUNNING, NULL);
	while (!worker_should_stop())
	{
		one_round(follow);
		look_at_catalog(follow);
	}
	changes_close(follow->stream);
	proc_exit(0);
}
