/*
 * inquiry_check_sink.c
 *		The inquiry "check_sink": which documents of an index are not what the table says.
 *
 * Documents are known by their addresses (document.h): "id" below is one.
 *
 * Request: {"sink": 3, "repair": false}.  Answer: [{"document_id": "17", "difference": "missing"}, …].
 *
 * Table and index are compared while both are in use.  A snapshot of the table is taken, the sink's
 * worker comes as far as that, and then a document can differ for an honest reason only where its row
 * changed since: that is told by its version, or by a second pass over a new snapshot.  Only what differs in
 * both passes is reported.  Repairs carry as their version a position of the log up to which the second
 * snapshot sees every commit (boundary.c), so a change that follows is never undone by one.  Where the second
 * pass takes long, its later repairs are of rows that are read again at the end (sink_mend.c).  Started by
 * the SQL function check_sink.
 */
#include "postgres.h"

#include <jansson.h>

#include "access/xlog.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "boundary.h"
#include "compare.h"
#include "copy.h"
#include "id_set.h"
#include "inquiry_sink.h"
#include "sink_api.h"
#include "sink_dates.h"
#include "sink_index.h"
#include "sink_mend.h"
#include "sink_stream.h"
#include "worker.h"

#define CATCH_UP_MS (60 * 1000)

/*
 * A document that is older than this is not sent any more: its row may have been deleted meanwhile, and
 * Elasticsearch forgets that after a minute.
 */
#define FRESH_MS (20 * 1000)

typedef struct Comparison
{
	InquirySink inquired;
	DocumentPlan *plan;
	SinkDates  *dates;			/* NULL without a date pattern */
	XLogRecPtr	before;			/* the log's end before the snapshot was taken */
	TimestampTz begun_at;		/* when that was */
	bool		repair;			/* by this process */
	bool		diverged;		/* nobody follows the table, and versions tell nothing */
	IdSet		rows;			/* all ids of the table */
	IdSet		found;			/* ids that differ in this pass */
	IdSet	   *suspects;		/* ids that differed in the pass before; NULL in the first */
	StringInfo	answer;			/* NULL in a first pass that another follows */
	Compare    *compare;
	Bulk	   *bulk;			/* for repairs */
	MendId	   *late;			/* repairs that would come too late after this snapshot */
	int			n_late;
	int			late_size;

	StringInfoData id;
} Comparison;

/* ---------------------------------------------------------------- what differs */

/* its row is read again once all are compared */
static void
repair_later(Comparison *comparison, const char *id, int length)
{
	char	   *bare_id = document_address_part(id, length, "_id");

	if (comparison->n_late == comparison->late_size)
	{
		comparison->late_size = Max(comparison->late_size * 2, 1024);
		comparison->late = comparison->late ?
			repalloc_huge(comparison->late, sizeof(MendId) * comparison->late_size) :
			MemoryContextAllocHuge(TopMemoryContext, sizeof(MendId) * comparison->late_size);
	}
	comparison->late[comparison->n_late++] = (MendId) {
		.id = MemoryContextStrdup(TopMemoryContext, bare_id)
	};
}

static void fail(const char *why);

/* the document may be the first one of its date */
static void
make_index_of(Comparison *comparison, const char *id, int length)
{
	char	   *why = sink_dates_make_for(comparison->dates, comparison->plan, id, length);

	if (why)
		fail(why);
}

static void
repair(Comparison *comparison, const char *id, int length, const char *document)
{
	if (document && TimestampDifferenceExceeds(comparison->begun_at, GetCurrentTimestamp(), FRESH_MS))
		repair_later(comparison, id, length);
	else if (document)
	{
		make_index_of(comparison, id, length);
		appendStringInfoString(bulk_begin_index(comparison->bulk, id, length, comparison->before),
							   document);
		bulk_end_index(comparison->bulk);
	}
	else
		bulk_delete(comparison->bulk, id, length, comparison->before);
}

/* document: as it should be, NULL for one that should not be */
static void
differs(Comparison *comparison, const char *id, int length, const char *difference,
		const char *document)
{
	StringInfo	answer = comparison->answer;
	char	   *bare_id;

	id_set_add(&comparison->found, id, length);
	if (answer == NULL || (comparison->suspects && !id_set_has(comparison->suspects, id, length)))
		return;
	appendStringInfoString(answer, answer->data[answer->len - 1] == '[' ? "{\"document_id\":" :
						   ",{\"document_id\":");
	bare_id = document_address_part(id, length, "_id");
	json_append_string(answer, bare_id, strlen(bare_id));
	appendStringInfo(answer, ",\"difference\":\"%s\"}", difference);
	if (comparison->repair)
		repair(comparison, id, length, document);
}

/* its row changed meanwhile */
static bool
is_newer(const Comparison *comparison, uint64 version)
{
	return !comparison->diverged &&
		version > comparison->before + comparison->inquired.worker.sink->version_base;
}

static void
compared(void *arg, const ComparedRow *row)
{
	Comparison *comparison = arg;

	if (is_newer(comparison, row->version))
		return;
	if (row->difference != DOCUMENT_SAME)
		differs(comparison, row->address, row->length,
				row->difference == DOCUMENT_MISSING ? "missing" : "different", row->document);
}

static void
fail(const char *why)
{
	ereport(ERROR,
			(errcode(ERRCODE_CONNECTION_FAILURE),
			 errmsg("table and index could not be compared"),
			 errdetail("%s.", why),
			 errhint("Look at clickstream.stat_sinks, and try again.")));
}

static void
send_repairs(Comparison *comparison)
{
	if (!bulk_is_empty(comparison->bulk))
		bulk_send(comparison->bulk, InvalidXLogRecPtr);
	if (!bulk_settle(comparison->bulk))
		fail("Elasticsearch does not take the repairs");
}

static void
take_row(void *arg, const ColumnValue *values, bool fits)
{
	Comparison *comparison = arg;
	char	   *why;

	if (!document_address(comparison->plan, values, &comparison->id))
		return;					/* a dead letter, by rule */
	id_set_add(&comparison->rows, comparison->id.data, comparison->id.len);
	if (!fits)
		return;					/* likewise */
	/* the second pass is short, so that a repair comes soon after its snapshot */
	if (comparison->suspects &&
		!id_set_has(comparison->suspects, comparison->id.data, comparison->id.len))
		return;
	why = compare_add(comparison->compare, comparison->plan, values, comparison->id.data,
					  comparison->id.len);
	if (why)
		fail(why);
	if (!bulk_is_empty(comparison->bulk))
		send_repairs(comparison);
}

static void
take_document_id(void *arg, const char *id, int length, XLogRecPtr version)
{
	Comparison *comparison = arg;

	/* with op_type create rows may go, and their documents stay */
	if (comparison->inquired.worker.sink->create_only)
		return;
	if (!is_newer(comparison, version) &&
		!id_set_has(&comparison->rows, id, length))
		differs(comparison, id, length, "extra", NULL);
}

/* ---------------------------------------------------------------- one pass */

static XLogRecPtr
acknowledged(int32 sink_id, bool ask)
{
	WorkerSlot *slot;
	XLogRecPtr	position;

	if (worker_slots_of(WORKER_SINK, sink_id, &slot, 1) == 0)
		return InvalidXLogRecPtr;
	SpinLockAcquire(&slot->mutex);
	position = slot->acknowledged;
	if (ask)
		slot->asked++;
	SpinLockRelease(&slot->mutex);
	if (ask)
		worker_wake(slot);
	return position;
}

/* the sink's worker has come as far as the snapshot that we hold */
static void
wait_for_sink(const Inquiry *inquiry, int32 sink_id)
{
	XLogRecPtr	target = sink_end_of_log();
	TimestampTz since = GetCurrentTimestamp();
	bool		ask = true;

	while (acknowledged(sink_id, ask) < target)
	{
		ask = false;
		if (inquiry_time_left(inquiry, 1000) == 0)
			proc_exit(0);
		if (TimestampDifferenceExceeds(since, GetCurrentTimestamp(), CATCH_UP_MS))
			fail("the sink does not catch up with the write-ahead log");
		worker_sleep(10, "ClickstreamCheckSink");
		CHECK_FOR_INTERRUPTS();
	}
}

static void
one_pass(Comparison *comparison, const Inquiry *inquiry)
{
	RelationDescription *relation;
	char	   *why;

	worker_begin(&comparison->inquired.slot);
	comparison->before = boundary_of_log();
	comparison->begun_at = GetCurrentTimestamp();
	worker_commit();
	worker_begin(&comparison->inquired.slot);
	if (!comparison->diverged)
		wait_for_sink(inquiry, comparison->inquired.worker.sink->id);
	if (comparison->inquired.worker.sink->data_stream &&
		(why = sink_index_refresh(comparison->inquired.worker.client, comparison->inquired.worker.sink->alias)) != NULL)
		fail(why);
	relation = copy_describe(comparison->inquired.worker.sink->relation);
	comparison->plan = document_plan(relation, comparison->inquired.worker.sink);
	copy_table(relation, copy_filter(comparison->inquired.worker.sink), take_row, comparison);
	if ((why = compare_rest(comparison->compare)) != NULL)
		fail(why);
	send_repairs(comparison);
	id_set_sort(&comparison->rows);
	why = sink_index_each_id(comparison->inquired.worker.client, comparison->inquired.worker.sink,
							 take_document_id, comparison);
	if (why)
		fail(why);
	send_repairs(comparison);
	worker_commit();
	id_set_sort(&comparison->found);
}

static Comparison *
start(const Inquiry *inquiry)
{
	Comparison *comparison = palloc0(sizeof(Comparison));

	inquiry_sink_open(&comparison->inquired, inquiry);
	comparison->bulk = inquiry_sink_bulk(&comparison->inquired);
	comparison->diverged = strcmp(comparison->inquired.worker.sink->phase, "diverged") == 0;
	comparison->repair = !comparison->diverged &&
		json_is_true(json_object_get(inquiry->request, "repair"));
	comparison->compare = compare_open(comparison->inquired.worker.client,
									   comparison->inquired.worker.sink, compared, comparison);
	initStringInfo(&comparison->id);
	return comparison;
}

static void
store_refusals(void *arg, MendId *ids, int n)
{
	Comparison *comparison = arg;

	sink_store_refusals(&comparison->inquired.worker, comparison->bulk);
}

static void
open_dates(Comparison *comparison)
{
	Sink	   *sink = comparison->inquired.worker.sink;
	char	   *lost;
	char	   *why;

	if (strchr(sink->index, '{') == NULL)
		return;
	comparison->dates = sink_dates_open(comparison->inquired.worker.client, sink, sink->physical_index, false);
	if ((why = sink_dates_look(comparison->dates, &lost)) != NULL)
		fail(why);
}

/* ---------------------------------------------------------------- a sink that has diverged */

static Sink *
read_sink(Comparison *comparison, LOCKMODE lock)
{
	int32		id = comparison->inquired.worker.sink->id;
	Sink	   *sink;

	worker_begin(&comparison->inquired.slot);
	catalog_lock(CATALOG_SINK, id, lock);
	sink = catalog_sink_by_id(id);
	if (sink == NULL || !sink->enabled)
		fail("the sink was dropped or paused meanwhile");
	return sink;
}

/* Its own worker compares index and table, from a new slot on (sink_recover.c): until it follows again. */
static void
let_worker_mend(Comparison *comparison, const Inquiry *inquiry)
{
	MemoryContext here = CurrentMemoryContext;
	Sink	   *sink = read_sink(comparison, ExclusiveLock);
	bool		follows = false;

	if (strcmp(sink->phase, "diverged") == 0)
	{
		sink->phase = "mending";
		sink->consistent_point = InvalidXLogRecPtr;
		catalog_sink_update(sink);
	}
	worker_commit();
	while (!follows)
	{
		if (inquiry_time_left(inquiry, 1000) == 0)
			proc_exit(0);
		worker_sleep(100, "ClickstreamCheckSink");
		CHECK_FOR_INTERRUPTS();
		sink = read_sink(comparison, ShareLock);
		if (strcmp(sink->phase, "diverged") == 0)
			fail("the index has diverged again");
		follows = strcmp(sink->phase, "following") == 0;
		worker_commit();
		MemoryContextSwitchTo(here);
	}
}

InquiryResult
inquiry_check_sink(const Inquiry *inquiry, StringInfo answer)
{
	MemoryContext here = CurrentMemoryContext;
	Comparison *comparison = start(inquiry);
	IdSet		suspects;
	char	   *why = NULL;

	if (sink_index_look(comparison->inquired.worker.client, comparison->inquired.worker.sink, &why) != INDEX_OURS)
	{
		appendStringInfoString(answer, why);
		return INQUIRY_REFUSED;
	}
	open_dates(comparison);
	appendStringInfoChar(answer, '[');
	if (comparison->diverged)
		comparison->answer = answer;
	one_pass(comparison, inquiry);
	MemoryContextSwitchTo(here);
	if (comparison->diverged)
		let_worker_mend(comparison, inquiry);
	else if (comparison->found.n > 0)
	{
		suspects = comparison->found;
		comparison->suspects = &suspects;
		comparison->answer = answer;
		memset(&comparison->found, 0, sizeof(IdSet));
		comparison->rows.n = 0;
		one_pass(comparison, inquiry);
		MemoryContextSwitchTo(here);
		sink_store_refusals(&comparison->inquired.worker, comparison->bulk);
		sink_mend(&comparison->inquired.worker, comparison->bulk, comparison->late, comparison->n_late,
				  store_refusals, comparison);
	}
	appendStringInfoChar(answer, ']');
	return INQUIRY_ANSWERED;
}
