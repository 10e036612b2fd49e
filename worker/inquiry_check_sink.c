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
#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "boundary.h"
#include "copy.h"
#include "inquiry_sink.h"
#include "sink_api.h"
#include "sink_dates.h"
#include "sink_index.h"
#include "sink_mend.h"
#include "sink_stream.h"
#include "worker.h"

#define ROWS_AT_ONCE 500
#define CATCH_UP_MS (60 * 1000)

/*
 * A document that is older than this is not sent any more: its row may have been deleted meanwhile, and
 * Elasticsearch forgets that after a minute.
 */
#define FRESH_MS (20 * 1000)

/* hashes of ids; sorted before it is searched */
typedef struct IdSet
{
	uint64	   *hashes;
	Size		n;
	Size		size;
} IdSet;

typedef struct Comparison
{
	InquirySink inquired;
	DocumentPlan *plan;
	SinkDates  *dates;			/* NULL without a date pattern */
	XLogRecPtr	before;			/* the log's end before the snapshot was taken */
	TimestampTz begun_at;		/* when that was */
	bool		repair;
	IdSet		rows;			/* all ids of the table */
	IdSet		found;			/* ids that differ in this pass */
	IdSet	   *suspects;		/* ids that differed in the pass before; NULL in the first */
	StringInfo	answer;			/* NULL in the first pass */
	Bulk	   *bulk;			/* for repairs */
	MendId	   *late;			/* repairs that would come too late after this snapshot */
	int			n_late;
	int			late_size;

	/* rows that wait for company in a request */
	MemoryContext context;		/* of the texts below */
	int			n;
	char	   *ids[ROWS_AT_ONCE];
	int			id_lengths[ROWS_AT_ONCE];
	char	   *documents[ROWS_AT_ONCE];
	StringInfoData id;
	StringInfoData document;
} Comparison;

/* ---------------------------------------------------------------- sets of ids */

static void
id_set_add(IdSet *set, const char *id, int length)
{
	if (set->n == set->size)
	{
		set->size = Max(set->size * 2, 1024);
		set->hashes = set->hashes ? repalloc_huge(set->hashes, sizeof(uint64) * set->size) :
			MemoryContextAllocHuge(TopMemoryContext, sizeof(uint64) * set->size);
	}
	set->hashes[set->n++] = hash_bytes_extended((const unsigned char *) id, length, 0);
}

static int
compare_hashes(const void *a, const void *b)
{
	uint64		x = *(const uint64 *) a;
	uint64		y = *(const uint64 *) b;

	return x < y ? -1 : x > y;
}

static void
id_set_sort(IdSet *set)
{
	if (set->n > 0)
		qsort(set->hashes, set->n, sizeof(uint64), compare_hashes);
}

static bool
id_set_has(const IdSet *set, const char *id, int length)
{
	uint64		hash = hash_bytes_extended((const unsigned char *) id, length, 0);

	return set->n > 0 && bsearch(&hash, set->hashes, set->n, sizeof(uint64), compare_hashes) != NULL;
}

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
	char	   *name = comparison->dates ? document_address_part(id, length, "_index") : NULL;
	char	   *why;

	if (name == NULL || sink_dates_has(comparison->dates, name, strlen(name)))
		return;
	why = sink_dates_make(comparison->dates, comparison->plan, name);
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
	if (comparison->suspects == NULL || !id_set_has(comparison->suspects, id, length))
		return;
	appendStringInfoString(answer, answer->data[answer->len - 1] == '[' ? "{\"document_id\":" :
						   ",{\"document_id\":");
	bare_id = document_address_part(id, length, "_id");
	json_append_string(answer, bare_id, strlen(bare_id));
	appendStringInfo(answer, ",\"difference\":\"%s\"}", difference);
	if (comparison->repair)
		repair(comparison, id, length, document);
}

/* a column that came later is NULL in the rows of before, whose documents have no such field: to a search it is the same */
static void
forget_nulls(json_t *document)
{
	const char *field;
	json_t	   *value;
	void	   *next;

	json_object_foreach_safe(document, next, field, value)
	{
		if (json_is_null(value))
			json_object_del(document, field);
	}
}

/* The text as it was sent, as Elasticsearch keeps it; or, if it was written anew, its meaning. */
static bool
same_document(const char *document, json_t *source)
{
	json_t	   *ours = json_loads(document, JSON_DECODE_INT_AS_REAL, NULL);
	bool		same;

	forget_nulls(ours);
	forget_nulls(source);
	same = ours != NULL && json_equal(ours, source);
	json_decref(ours);
	return same;
}

/* a pipeline changes documents; with op_type create they stay as they were first */
static bool
can_tell_contents(const Sink *sink)
{
	return sink->pipeline == NULL && !sink->create_only;
}

static void
compare_document(Comparison *comparison, int i, json_t *reply)
{
	XLogRecPtr	version = (XLogRecPtr) json_number_value(json_object_get(reply, "_version"));
	json_t	   *source = json_object_get(reply, "_source");

	if (version > comparison->before)
		return;					/* its row changed meanwhile */
	if (source == NULL)
		differs(comparison, comparison->ids[i], comparison->id_lengths[i], "missing",
				comparison->documents[i]);
	else if (can_tell_contents(comparison->inquired.worker.sink) &&
			 !same_document(comparison->documents[i], source))
		differs(comparison, comparison->ids[i], comparison->id_lengths[i], "different",
				comparison->documents[i]);
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

/* a data stream tells which ids it has, and no contents */
static void
compare_with_stream(Comparison *comparison)
{
	char	   *ids[ROWS_AT_ONCE];
	bool		found[ROWS_AT_ONCE];
	char	   *why;

	for (int i = 0; i < comparison->n; i++)
		ids[i] = document_address_part(comparison->ids[i], comparison->id_lengths[i], "_id");
	why = sink_stream_find(comparison->inquired.worker.client, comparison->inquired.worker.sink, ids, comparison->n, found);
	if (why)
		fail(why);
	for (int i = 0; i < comparison->n; i++)
		if (!found[i])
			differs(comparison, comparison->ids[i], comparison->id_lengths[i], "missing", comparison->documents[i]);
}

/* asks for the documents of the rows at hand */
static void
compare_with_index(Comparison *comparison)
{
	Elasticsearch *client = comparison->inquired.worker.client;
	ElasticsearchReply reply;
	StringInfoData request;
	json_t	   *root;
	json_t	   *documents;
	int			i;

	initStringInfo(&request);
	for (i = 0; i < comparison->n; i++)
	{
		appendStringInfoString(&request, i == 0 ? "{\"docs\":[" : ",");
		appendStringInfo(&request, "{%s}", comparison->ids[i]);
	}
	appendStringInfoString(&request, "]}");
	elasticsearch_ask(client, "POST",
					  elasticsearch_index_path(client, comparison->inquired.worker.sink->alias, "/_mget"),
					  request.data, &reply);
	if (reply.status != 200)
		fail(elasticsearch_error(&reply, NULL));
	root = json_loadb(reply.text, reply.length, JSON_DECODE_INT_AS_REAL, NULL);
	documents = json_object_get(root, "docs");
	if (json_array_size(documents) != comparison->n)
		fail("the answer could not be read");
	for (i = 0; i < comparison->n; i++)
		compare_document(comparison, i, json_array_get(documents, i));
	json_decref(root);
}

static void
compare_portion(Comparison *comparison)
{
	if (comparison->n == 0)
		return;
	if (comparison->inquired.worker.sink->data_stream)
		compare_with_stream(comparison);
	else
		compare_with_index(comparison);
	if (!bulk_is_empty(comparison->bulk))
		bulk_send(comparison->bulk, InvalidXLogRecPtr);
	if (!bulk_settle(comparison->bulk))
		fail("Elasticsearch does not take the repairs");
	comparison->n = 0;
	MemoryContextReset(comparison->context);
}

static void
take_row(void *arg, const ColumnValue *values, bool fits)
{
	Comparison *comparison = arg;
	MemoryContext old;
	int			i = comparison->n;

	if (!document_address(comparison->plan, values, &comparison->id))
		return;					/* a dead letter, by rule */
	id_set_add(&comparison->rows, comparison->id.data, comparison->id.len);
	if (!fits)
		return;					/* likewise */
	/* the second pass is short, so that a repair comes soon after its snapshot */
	if (comparison->suspects &&
		!id_set_has(comparison->suspects, comparison->id.data, comparison->id.len))
		return;
	resetStringInfo(&comparison->document);
	document_append(comparison->plan, values, &comparison->document);

	old = MemoryContextSwitchTo(comparison->context);
	comparison->ids[i] = pnstrdup(comparison->id.data, comparison->id.len);
	comparison->id_lengths[i] = comparison->id.len;
	comparison->documents[i] = pstrdup(comparison->document.data);
	comparison->n++;
	if (comparison->n == ROWS_AT_ONCE)
		compare_portion(comparison);
	MemoryContextSwitchTo(old);
}

static void
take_document_id(void *arg, const char *id, int length, XLogRecPtr version)
{
	Comparison *comparison = arg;

	/* with op_type create rows may go, and their documents stay */
	if (comparison->inquired.worker.sink->create_only)
		return;
	if (version <= comparison->before && !id_set_has(&comparison->rows, id, length))
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
	wait_for_sink(inquiry, comparison->inquired.worker.sink->id);
	if (comparison->inquired.worker.sink->data_stream &&
		(why = sink_index_refresh(comparison->inquired.worker.client, comparison->inquired.worker.sink->alias)) != NULL)
		fail(why);
	relation = copy_describe(comparison->inquired.worker.sink->relation);
	comparison->plan = document_plan(relation, comparison->inquired.worker.sink);
	copy_table(relation, copy_filter(comparison->inquired.worker.sink), take_row, comparison);
	compare_portion(comparison);
	id_set_sort(&comparison->rows);
	why = sink_index_each_id(comparison->inquired.worker.client, comparison->inquired.worker.sink,
							 take_document_id, comparison);
	if (why)
		fail(why);
	if (!bulk_is_empty(comparison->bulk))
		bulk_send(comparison->bulk, InvalidXLogRecPtr);
	if (!bulk_settle(comparison->bulk))
		fail("Elasticsearch does not take the repairs");
	worker_commit();
	id_set_sort(&comparison->found);
}

static Comparison *
start(const Inquiry *inquiry)
{
	Comparison *comparison = palloc0(sizeof(Comparison));

	inquiry_sink_open(&comparison->inquired, inquiry);
	comparison->bulk = inquiry_sink_bulk(&comparison->inquired);
	comparison->repair = json_is_true(json_object_get(inquiry->request, "repair"));
	comparison->context = AllocSetContextCreate(CurrentMemoryContext, "rows to compare",
												ALLOCSET_DEFAULT_SIZES);
	initStringInfo(&comparison->id);
	initStringInfo(&comparison->document);
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
	one_pass(comparison, inquiry);
	MemoryContextSwitchTo(here);
	appendStringInfoChar(answer, '[');
	if (comparison->found.n > 0)
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
