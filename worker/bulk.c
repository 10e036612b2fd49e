/*
 * bulk.c
 *		What is waiting to be sent, what is on its way, and what became of it.
 *
 * Documents are known by their addresses, which document.c writes: "id" below is one.
 *
 * Owns a ring of batches: one collects while those before it are in flight, each with a request of its
 * own, so that decoding goes on while Elasticsearch works.  No _id is ever in two of them: a batch with one
 * that is in flight waits, as changes of one row within one transaction share a version, and as
 * Elasticsearch forgets the version of a deletion in time.  They are settled in the order in which they
 * were sent, so that a position is passed only when all before it is there.
 * Must never drop a document: each one ends acknowledged, replaced by a newer one of the same _id
 * before it was sent, or as a refusal that the caller stores.  Called by sink_main.c and copy.c.
 *
 * The lines of a batch stand in its body as they are sent.  A document whose _id comes again is dead:
 * its entry is skipped, and the body copied without it before it goes out.
 *
 * Faults of the surroundings are waited out with growing pauses, and only what is not yet settled is
 * sent again.  A refusal is taken for the document's own fault when Elasticsearch says so by its
 * type, or, where the type can mean either, when others in the same request passed, or when the
 * index proves to be in order though the document stays refused alone.
 */
#include "postgres.h"

#include <limits.h>

#include <jansson.h>

#include "access/xlog.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "bulk.h"
#include "document.h"
#include "worker.h"

/* documents of refusals are kept up to so many bytes, so that memory is bounded */
#define REFUSED_BYTES ((Size) 64 * 1024 * 1024)
/* a body that has grown beyond this is given back after use */
#define LARGE_BODY ((Size) 64 * 1024 * 1024)

/* conflicts of one reply whose versions are asked for */
#define CONFLICTS_LOOKED_AT 1000

typedef struct Entry
{
	uint32		hash;			/* of the id */
	int			id;				/* where it begins in ids */
	int			id_length;
	int			line;			/* where its lines begin in body */
	int			document;		/* where the document begins; 0 for a delete */
	int			length;			/* of its lines */
	XLogRecPtr	version;
	bool		is_delete;
	bool		dead;			/* replaced, or settled */
	bool		waits;			/* scratch: of the last reply, to be sent again */
} Entry;

typedef struct Batch
{
	StringInfoData body;
	StringInfoData ids;
	Entry	   *entries;
	int			n_entries;
	int			size;			/* room for entries */
	int			n_dead;
	int		   *buckets;		/* entry + 1 by hash, 0: free */
	int			n_buckets;		/* a power of two */
	TimestampTz since;
	XLogRecPtr	covers;

	/* while it is in flight */
	Elasticsearch *client;		/* sends it; NULL until it is needed */
	bool		requested;		/* a request is under way, or its answer is there */
	int			portion;		/* entries in that request, at most */
	int			request_first;	/* entries of that request: from here */
	int			request_end;	/* up to here */
	StringInfoData request;		/* its body, when it is not the batch's own */
} Batch;


struct Bulk
{
	MemoryContext context;
	Elasticsearch *client;
	BulkOptions options;
	char	   *path;
	char	   *index_path;
	char	   *versions_path;
	char	   *pipeline_path;	/* or NULL */
	Batch		batches[MOST_IN_FLIGHT + 1];	/* a ring of as many as may be in flight, and one more */
	Batch	   *collecting;		/* the one behind those in flight */
	Batch	   *sent;			/* the first of those in flight, the next to be settled */
	int			n_in_flight;
	bool		split;			/* the last reply made the portion smaller */
	int			attempt;		/* failures in a row */
	TimestampTz failing_since;	/* 0: it is not */
	XLogRecPtr	settled;
	char	   *diverged;		/* or NULL */
	MemoryContext refusal_context;
	List	   *refusals;
	Size		refused_bytes;
};

/* ---------------------------------------------------------------- collecting */

#define FIRST_SIZE 1024

static void
batch_init(Batch *batch)
{
	initStringInfo(&batch->body);
	initStringInfo(&batch->ids);
	batch->size = FIRST_SIZE;
	batch->entries = palloc(sizeof(Entry) * batch->size);
	batch->n_buckets = FIRST_SIZE * 2;
	batch->buckets = palloc0(sizeof(int) * batch->n_buckets);
	initStringInfo(&batch->request);
}

/* memory of a body that was much larger than others is given back */
static void
empty_body(StringInfo body)
{
	resetStringInfo(body);
	if (body->maxlen <= LARGE_BODY)
		return;
	pfree(body->data);
	initStringInfo(body);
}

static void
batch_reset(Batch *batch)
{
	resetStringInfo(&batch->ids);
	empty_body(&batch->body);
	empty_body(&batch->request);
	memset(batch->buckets, 0, sizeof(int) * batch->n_buckets);
	batch->n_entries = 0;
	batch->n_dead = 0;
	batch->since = 0;
}

Bulk *
bulk_open(Elasticsearch *client, const BulkOptions *options)
{
	Bulk	   *bulk = palloc0(sizeof(Bulk));
	int			i;

	bulk->context = CurrentMemoryContext;
	bulk->client = client;
	bulk->options = *options;
	bulk->path = elasticsearch_index_path(client, options->alias,
										  "/_bulk?require_alias=true&filter_path=errors,error,status,"
										  "items.*.status,items.*.error.type,items.*.error.reason,"
										  "items.*.error.caused_by.reason");
	if (options->pipeline)
	{
		char	   *escaped = elasticsearch_index_path(client, options->pipeline, "");

		bulk->path = psprintf("%s&pipeline=%s", bulk->path, escaped + 1);
		bulk->pipeline_path = psprintf("/_ingest/pipeline%s", escaped);
	}
	bulk->index_path = elasticsearch_index_path(client, options->alias, "/_settings?flat_settings");
	bulk->versions_path = elasticsearch_index_path(client, options->alias, "/_mget?_source=false");
	bulk->options.in_flight = Min(Max(options->in_flight, 1), MOST_IN_FLIGHT);
	for (i = 0; i <= bulk->options.in_flight; i++)
		batch_init(&bulk->batches[i]);
	bulk->collecting = bulk->sent = &bulk->batches[0];
	bulk->refusal_context = AllocSetContextCreate(bulk->context, "refusals",
												  ALLOCSET_DEFAULT_SIZES);
	return bulk;
}

static void
batch_grow(Batch *batch)
{
	int			i;

	batch->size *= 2;
	batch->entries = repalloc_huge(batch->entries, sizeof(Entry) * batch->size);
	pfree(batch->buckets);
	batch->n_buckets *= 2;
	batch->buckets = MemoryContextAllocExtended(GetMemoryChunkContext(batch->entries),
												sizeof(int) * batch->n_buckets,
												MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	for (i = 0; i < batch->n_entries; i++)
	{
		uint32		bucket = batch->entries[i].hash & (batch->n_buckets - 1);

		while (batch->buckets[bucket] != 0)
			bucket = (bucket + 1) & (batch->n_buckets - 1);
		batch->buckets[bucket] = i + 1;
	}
}

/* the bucket of an id: its newest entry, or free */
static int *
find_bucket(Batch *batch, const char *id, int length, uint32 hash)
{
	uint32		bucket = hash & (batch->n_buckets - 1);

	while (batch->buckets[bucket] != 0)
	{
		Entry	   *entry = &batch->entries[batch->buckets[bucket] - 1];

		if (entry->hash == hash && entry->id_length == length &&
			memcmp(batch->ids.data + entry->id, id, length) == 0)
			break;
		bucket = (bucket + 1) & (batch->n_buckets - 1);
	}
	return &batch->buckets[bucket];
}

/* an entry for the id, which replaces what there was; its lines are not there yet */
static Entry *
add_entry(Bulk *bulk, const char *id, int length, XLogRecPtr version)
{
	Batch	   *batch = bulk->collecting;
	uint32		hash = hash_bytes((const unsigned char *) id, length);
	int		   *bucket;
	Entry	   *entry;

	if (batch->n_entries == batch->size)
		batch_grow(batch);
	if (batch->n_entries == 0)
		batch->since = GetCurrentTimestamp();

	bucket = find_bucket(batch, id, length, hash);
	entry = &batch->entries[batch->n_entries];
	memset(entry, 0, sizeof(Entry));
	entry->hash = hash;
	entry->id_length = length;
	entry->line = batch->body.len;
	entry->version = version;
	if (*bucket != 0)
	{
		Entry	   *older = &batch->entries[*bucket - 1];

		older->dead = true;
		batch->n_dead++;
		entry->id = older->id;
		entry->version = Max(version, older->version);
	}
	else
	{
		entry->id = batch->ids.len;
		appendBinaryStringInfo(&batch->ids, id, length);
	}
	*bucket = ++batch->n_entries;
	return entry;
}

static void
append_number(StringInfo out, uint64 number)
{
	char		digits[20];
	int			n = sizeof(digits);

	do
	{
		digits[--n] = '0' + number % 10;
		number /= 10;
	} while (number > 0);
	appendBinaryStringInfo(out, digits + n, sizeof(digits) - n);
}

static void
append_action(StringInfo body, const char *action, int action_length, const char *id, int length,
			  uint64 version)
{
	appendBinaryStringInfo(body, action, action_length);
	appendBinaryStringInfo(body, id, length);
	appendStringInfoString(body, ",\"version\":");
	append_number(body, version);
	appendStringInfoString(body, ",\"version_type\":\"external_gte\"}}\n");
}

#define INDEX_ACTION "{\"index\":{"
#define DELETE_ACTION "{\"delete\":{"

StringInfo
bulk_begin_index(Bulk *bulk, const char *id, int length, XLogRecPtr version)
{
	Entry	   *entry = add_entry(bulk, id, length, version);
	StringInfo	body = &bulk->collecting->body;

	/* Elasticsearch takes no version with it: what is there is not touched, whatever its version */
	if (bulk->options.create_only)
		appendStringInfo(body, "{\"create\":{%.*s}}\n", length, id);
	else
		append_action(body, INDEX_ACTION, sizeof(INDEX_ACTION) - 1, id, length,
					  entry->version + bulk->options.version_base);
	entry->document = body->len;
	return body;
}

void
bulk_end_index(Bulk *bulk)
{
	Batch	   *batch = bulk->collecting;
	Entry	   *entry = &batch->entries[batch->n_entries - 1];

	appendStringInfoCharMacro(&batch->body, '\n');
	entry->length = batch->body.len - entry->line;
}

void
bulk_delete(Bulk *bulk, const char *id, int length, XLogRecPtr version)
{
	Entry	   *entry = add_entry(bulk, id, length, version);
	StringInfo	body = &bulk->collecting->body;

	entry->is_delete = true;
	append_action(body, DELETE_ACTION, sizeof(DELETE_ACTION) - 1, id, length,
				  entry->version + bulk->options.version_base);
	entry->length = body->len - entry->line;
}

bool
bulk_is_empty(const Bulk *bulk)
{
	return bulk->collecting->n_entries == 0;
}

bool
bulk_is_full(const Bulk *bulk)
{
	return bulk->collecting->body.len >= bulk->options.bytes;
}

TimestampTz
bulk_since(const Bulk *bulk)
{
	return bulk->collecting->since;
}

bool
bulk_in_flight(const Bulk *bulk)
{
	return bulk->n_in_flight > 0;
}

XLogRecPtr
bulk_settled(const Bulk *bulk)
{
	return bulk->settled;
}

const char *
bulk_diverged(const Bulk *bulk)
{
	return bulk->diverged;
}

/* ---------------------------------------------------------------- refusals */

List *
bulk_refusals(const Bulk *bulk)
{
	return bulk->refusals;
}

void
bulk_forget_refusals(Bulk *bulk)
{
	bulk->refusals = NIL;
	bulk->refused_bytes = 0;
	MemoryContextReset(bulk->refusal_context);
}

static void
keep_refusal(Bulk *bulk, char *id, XLogRecPtr version, const char *document, int length,
			 int status, const char *type, const char *reason)
{
	MemoryContext old = MemoryContextSwitchTo(bulk->refusal_context);
	Refusal    *refusal = palloc0(sizeof(Refusal));

	refusal->id = pstrdup(id);
	refusal->version = version;
	refusal->status = status;
	refusal->type = pstrdup(type ? type : "");
	refusal->reason = pstrdup(reason ? reason : "");
	if (document && bulk->refused_bytes + length <= REFUSED_BYTES)
	{
		refusal->document = pnstrdup(document, length);
		bulk->refused_bytes += length;
	}
	bulk->refusals = lappend(bulk->refusals, refusal);
	MemoryContextSwitchTo(old);

	SpinLockAcquire(&bulk->options.slot->mutex);
	bulk->options.slot->failures++;
	SpinLockRelease(&bulk->options.slot->mutex);
}

void
bulk_refuse(Bulk *bulk, const char *id, XLogRecPtr version, const char *document,
			const char *type, const char *reason)
{
	keep_refusal(bulk, unconstify(char *, id), version, document,
				 document ? strlen(document) : 0, 0, type, reason);
}

/* ---------------------------------------------------------------- sending */

static Batch *
next_batch(Bulk *bulk, Batch *batch)
{
	return batch == &bulk->batches[bulk->options.in_flight] ? &bulk->batches[0] : batch + 1;
}

/* the next living entries, at most a portion of them, as one request */
static void
request(Bulk *bulk, Batch *batch)
{
	const char *body = batch->body.data;
	size_t		length = batch->body.len;
	int			taken = 0;
	int			i;

	batch->request_first = 0;
	batch->request_end = batch->n_entries;
	if (batch->n_dead > 0 || batch->portion < batch->n_entries)
	{
		resetStringInfo(&batch->request);
		for (i = 0; i < batch->n_entries && taken < batch->portion; i++)
		{
			Entry	   *entry = &batch->entries[i];

			if (entry->dead)
				continue;
			appendBinaryStringInfo(&batch->request, body + entry->line, entry->length);
			taken++;
		}
		batch->request_end = i;
		body = batch->request.data;
		length = batch->request.len;
	}
	if (batch->client == NULL)
		batch->client = elasticsearch_beside(bulk->client);
	elasticsearch_start(batch->client, "POST", bulk->path, body, length);
	batch->requested = true;
}

static int
living(const Batch *batch)
{
	return batch->n_entries - batch->n_dead;
}

/* whether a batch in flight still has to do with a document that is collected */
static bool
meet(Batch *in_flight, const Batch *collected)
{
	int			i;

	for (i = 0; i < collected->n_entries; i++)
	{
		const Entry *entry = &collected->entries[i];
		int			found;

		if (entry->dead)
			continue;
		found = *find_bucket(in_flight, collected->ids.data + entry->id, entry->id_length,
							 entry->hash);
		if (found != 0 && !in_flight->entries[found - 1].dead)
			return true;
	}
	return false;
}

bool
bulk_may_send(Bulk *bulk)
{
	Batch	   *batch = bulk->sent;
	int			i;

	if (bulk->n_in_flight >= bulk->options.in_flight)
		return bulk->n_in_flight == 0;
	for (i = 0; i < bulk->n_in_flight; i++, batch = next_batch(bulk, batch))
		if (meet(batch, bulk->collecting))
			return false;
	return true;
}

/* what there is to be told once all that is in flight is settled */
static void
note_covered(Bulk *bulk, XLogRecPtr covers)
{
	Batch	   *batch = bulk->sent;
	int			i;

	if (bulk->n_in_flight == 0)
		bulk->settled = Max(bulk->settled, covers);
	for (i = 1; i < bulk->n_in_flight; i++)
		batch = next_batch(bulk, batch);
	if (bulk->n_in_flight > 0)
		batch->covers = Max(batch->covers, covers);
}

void
bulk_send(Bulk *bulk, XLogRecPtr covers)
{
	Batch	   *batch = bulk->collecting;

	if (living(batch) == 0)
	{
		batch_reset(batch);
		note_covered(bulk, covers);
		return;
	}
	Assert(bulk_may_send(bulk));
	batch->covers = covers;
	batch->portion = INT_MAX;
	bulk->collecting = next_batch(bulk, batch);
	batch_reset(bulk->collecting);
	bulk->n_in_flight++;
	request(bulk, batch);
}

bool
bulk_has_answer(Bulk *bulk)
{
	return bulk_await_answer(bulk, 0);
}

bool
bulk_await_answer(Bulk *bulk, int ms)
{
	if (bulk->n_in_flight == 0 || !bulk->sent->requested)
		return true;
	return ms > 0 ? elasticsearch_await(bulk->sent->client, ms) :
		elasticsearch_pump(bulk->sent->client);
}

/* ---------------------------------------------------------------- what became of it */

static void
done(Bulk *bulk, Entry *entry)
{
	entry->dead = true;
	bulk->sent->n_dead++;
}

static void
refuse(Bulk *bulk, Entry *entry, int status, const char *type, const char *reason)
{
	Batch	   *batch = bulk->sent;
	char	   *id = document_address_part(batch->ids.data + entry->id, entry->id_length, "_id");

	keep_refusal(bulk, id, entry->version,
				 entry->is_delete ? NULL : batch->body.data + entry->document,
				 entry->line + entry->length - 1 - entry->document, status, type, reason);
	pfree(id);
	done(bulk, entry);
}

static void
count_request(Bulk *bulk, int documents, int deletes)
{
	WorkerSlot *slot = bulk->options.slot;
	TimestampTz now = GetCurrentTimestamp();

	SpinLockAcquire(&slot->mutex);
	slot->documents += documents;
	slot->deletes += deletes;
	slot->batches++;
	slot->last_commit_at = now;
	SpinLockRelease(&slot->mutex);
}

/* all of the request went well */
static void
all_done(Bulk *bulk)
{
	int			documents = 0;
	int			deletes = 0;
	int			i;

	for (i = bulk->sent->request_first; i < bulk->sent->request_end; i++)
	{
		Entry	   *entry = &bulk->sent->entries[i];

		if (entry->dead)
			continue;
		if (entry->is_delete)
			deletes++;
		else
			documents++;
		done(bulk, entry);
	}
	count_request(bulk, documents, deletes);
}

/* one item of a reply, told apart */
typedef struct Item
{
	int			status;
	const char *type;
	const char *reason;
} Item;

static Item
read_item(json_t *item)
{
	json_t	   *inner = json_object_iter_value(json_object_iter(item));
	json_t	   *error = json_object_get(inner, "error");
	json_t	   *cause = json_object_get(error, "caused_by");
	Item		read;

	read.status = (int) json_integer_value(json_object_get(inner, "status"));
	read.type = json_string_value(json_object_get(error, "type"));
	read.reason = json_string_value(json_object_get(cause, "reason"));
	if (read.reason == NULL)
		read.reason = json_string_value(json_object_get(error, "reason"));
	return read;
}

/* what a whole reply came to */
typedef struct Outcome
{
	int			documents;
	int			deletes;
	int			waiting;
	int			doubtful;
	char	   *error;			/* of one that waits */
	int			conflicts;
	StringInfoData conflicting; /* their addresses, as JSON */
} Outcome;

static void
note_waiting(Outcome *outcome, const Item *item)
{
	outcome->waiting++;
	if (outcome->error == NULL)
		outcome->error = elasticsearch_describe(item->status, item->type, item->reason);
}

static void
note_conflict(Bulk *bulk, const Entry *entry, Outcome *outcome)
{
	if (outcome->conflicts++ >= CONFLICTS_LOOKED_AT)
		return;
	if (outcome->conflicts == 1)
		initStringInfo(&outcome->conflicting);
	else
		appendStringInfoChar(&outcome->conflicting, ',');
	appendStringInfo(&outcome->conflicting, "{%.*s}", entry->id_length,
					 bulk->sent->ids.data + entry->id);
}

/*
 * A conflict says that the index holds a newer version: our own, sent before a restart, unless it is
 * of a time that has not come yet.
 */
static void
look_at_conflicts(Bulk *bulk, const Outcome *outcome)
{
	uint64		now = GetXLogInsertRecPtr() + bulk->options.version_base;
	ElasticsearchReply reply;
	json_t	   *root;
	json_t	   *document;
	size_t		i;

	/* what was created has Elasticsearch's own versions, and stays whoever made it */
	if (outcome->conflicts == 0 || bulk->diverged || bulk->options.create_only)
		return;
	elasticsearch_ask(bulk->client, "POST", bulk->versions_path,
					  psprintf("{\"docs\":[%s]}", outcome->conflicting.data), &reply);
	if (reply.status != 200)
		return;
	root = json_loadb(reply.text, reply.length, 0, NULL);
	json_array_foreach(json_object_get(root, "docs"), i, document)
	{
		uint64		version = (uint64) json_integer_value(json_object_get(document, "_version"));

		if (version > now && bulk->diverged == NULL)
			bulk->diverged = MemoryContextStrdup(bulk->context,
												 psprintf("document \"%s\" has the version %X/%X, and the write-ahead log is at %X/%X",
														  json_string_value(json_object_get(document, "_id")),
														  LSN_FORMAT_ARGS(version), LSN_FORMAT_ARGS(now)));
	}
	json_decref(root);
}

static void
take_item(Bulk *bulk, Entry *entry, const Item *item, Outcome *outcome)
{
	switch (elasticsearch_judge(item->status, item->type, entry->is_delete))
	{
		case VERDICT_CONFLICT:
			note_conflict(bulk, entry, outcome);
			/* FALLTHROUGH */
		case VERDICT_DONE:
			if (entry->is_delete)
				outcome->deletes++;
			else
				outcome->documents++;
			done(bulk, entry);
			break;
		case VERDICT_REFUSED:
		case VERDICT_TOO_LARGE:
			refuse(bulk, entry, item->status, item->type, item->reason);
			break;
		case VERDICT_DOUBTFUL:
			outcome->doubtful++;
			entry->waits = true;
			break;
		case VERDICT_WAIT:
			note_waiting(outcome, item);
			break;
	}
}

static bool
pipeline_is_there(Bulk *bulk)
{
	ElasticsearchReply reply;

	if (bulk->pipeline_path == NULL)
		return true;
	elasticsearch_ask(bulk->client, "GET", bulk->pipeline_path, NULL, &reply);
	return reply.status == 200;
}

/* the index answers, and it is one index that is open: what stays refused is the document's fault */
static bool
index_is_in_order(Bulk *bulk)
{
	ElasticsearchReply reply;
	json_t	   *root;
	bool		in_order;

	elasticsearch_ask(bulk->client, "GET", bulk->index_path, NULL, &reply);
	if (reply.status != 200)
		return false;
	root = json_loadb(reply.text, reply.length, 0, NULL);
	in_order = (bulk->options.many_indexes || json_object_size(root) == 1) &&
		strstr(reply.text, "\"index.verified_before_close\"") == NULL &&
		strstr(reply.text, "\"index.blocks.") == NULL;
	json_decref(root);
	return in_order && pipeline_is_there(bulk);
}

/* refusals whose type can mean either: judged by their neighbours, or by the state of the index */
static void
judge_doubtful(Bulk *bulk, json_t *items, Outcome *outcome)
{
	bool		own_fault = outcome->documents + outcome->deletes > 0 || index_is_in_order(bulk);
	size_t		n = 0;
	int			i;

	for (i = bulk->sent->request_first; i < bulk->sent->request_end; i++)
	{
		Entry	   *entry = &bulk->sent->entries[i];
		Item		item;

		if (entry->dead)
			continue;
		item = read_item(json_array_get(items, n++));
		if (!entry->waits)
			continue;
		entry->waits = false;
		if (own_fault)
			refuse(bulk, entry, item.status, item.type, item.reason);
		else
			note_waiting(outcome, &item);
	}
}

/* items come in the order of the request's entries */
static void
take_items(Bulk *bulk, json_t *items, Outcome *outcome)
{
	json_t	   *doubtful = json_array();
	size_t		n = 0;
	int			i;

	for (i = bulk->sent->request_first; i < bulk->sent->request_end; i++)
	{
		Entry	   *entry = &bulk->sent->entries[i];
		json_t	   *json;
		Item		item;

		if (entry->dead)
			continue;
		json = json_array_get(items, n++);
		if (json == NULL)
			break;
		item = read_item(json);
		take_item(bulk, entry, &item, outcome);
		if (!entry->dead)
			json_array_append(doubtful, json);
	}
	if (outcome->doubtful > 0)
		judge_doubtful(bulk, doubtful, outcome);
	json_decref(doubtful);
	look_at_conflicts(bulk, outcome);
	count_request(bulk, outcome->documents, outcome->deletes);
}

/* a failure of the surroundings, or NULL when there was none */
static char *
take_bulk_reply(Bulk *bulk, const ElasticsearchReply *reply)
{
	Outcome		outcome = {0};
	json_t	   *root;
	json_t	   *items;

	if (strncmp(reply->text, "{\"errors\":false,", 16) == 0)
	{
		all_done(bulk);
		return NULL;
	}
	root = json_loadb(reply->text, reply->length, 0, NULL);
	items = json_object_get(root, "items");
	if (!json_is_array(items))
		outcome.error = elasticsearch_error(reply, NULL);
	else
		take_items(bulk, items, &outcome);
	json_decref(root);
	return outcome.error;
}

/* the request as a whole was refused for what is in it: half of it, down to one document */
static char *
split_request(Bulk *bulk, const ElasticsearchReply *reply)
{
	Batch	   *batch = bulk->sent;
	int			n = Min(bulk->sent->portion, living(batch));
	char	   *type;
	char	   *error = elasticsearch_error(reply, &type);
	int			i;

	bulk->split = true;
	if (n > 1)
	{
		bulk->sent->portion = n / 2;
		return NULL;
	}
	for (i = bulk->sent->request_first; i < bulk->sent->request_end; i++)
		if (!batch->entries[i].dead)
			refuse(bulk, &batch->entries[i], reply->status, type, error);
	bulk->sent->portion = 2;
	return NULL;
}

static char *
take_reply(Bulk *bulk, const ElasticsearchReply *reply)
{
	char	   *type;
	char	   *error;

	if (reply->status == 200)
		return take_bulk_reply(bulk, reply);
	error = elasticsearch_error(reply, &type);
	switch (reply->status == 0 ? VERDICT_WAIT : elasticsearch_judge(reply->status, type, false))
	{
		case VERDICT_REFUSED:
		case VERDICT_DOUBTFUL:
		case VERDICT_TOO_LARGE:
			return split_request(bulk, reply);
		default:
			return error;
	}
}

/* ---------------------------------------------------------------- waiting */

static void
failed(Bulk *bulk, const char *error)
{
	WorkerSlot *slot = bulk->options.slot;

	if (bulk->failing_since == 0)
		bulk->failing_since = GetCurrentTimestamp();
	SpinLockAcquire(&slot->mutex);
	slot->retries++;
	SpinLockRelease(&slot->mutex);
	worker_set_error(slot, error);
	worker_set_state(slot, WORKER_WAITING, error);
}

static void
went_well(Bulk *bulk)
{
	if (bulk->failing_since != 0)
		worker_set_state(bulk->options.slot, bulk->options.working_state, NULL);
	bulk->failing_since = 0;
	bulk->attempt = 0;
	if (!bulk->split && bulk->sent->portion < INT_MAX / 2)
		bulk->sent->portion *= 2;
}

static bool
out_of_patience(const Bulk *bulk)
{
	return TimestampDifferenceExceeds(bulk->failing_since, GetCurrentTimestamp(),
									  bulk->options.patience_ms);
}

/* one request of the first batch in flight; a failure of the surroundings, or NULL */
static const char *
settle_request(Bulk *bulk)
{
	Batch	   *batch = bulk->sent;
	int			left = living(batch);
	ElasticsearchReply reply;
	const char *error;

	if (!batch->requested)
		request(bulk, batch);
	elasticsearch_finish(batch->client, &reply);
	batch->requested = false;
	bulk->split = false;
	error = take_reply(bulk, &reply);
	if (error == NULL && living(batch) == left && !bulk->split)
		error = "the answer names none of the documents that were sent";
	return error;
}

static void
retire(Bulk *bulk)
{
	bulk->settled = Max(bulk->settled, bulk->sent->covers);
	bulk->sent = next_batch(bulk, bulk->sent);
	bulk->n_in_flight--;
}

/* the first of those in flight: false when patience has run out */
static bool
settle_first(Bulk *bulk, MemoryContext scratch)
{
	while (living(bulk->sent) > 0)
	{
		const char *error = settle_request(bulk);

		if (error == NULL)
		{
			went_well(bulk);
			continue;
		}
		failed(bulk, error);
		worker_pause(bulk->attempt++, "ClickstreamElasticsearchRetry");
		CHECK_FOR_INTERRUPTS();
		if (living(bulk->sent) > 0 && out_of_patience(bulk))
			return false;
		MemoryContextReset(scratch);
	}
	retire(bulk);
	return true;
}

/* until so many are left in flight, and, if that is asked for, none of those has to do with what is collected */
static bool
settle_down_to(Bulk *bulk, int most, bool apart)
{
	MemoryContext scratch;
	MemoryContext old;
	bool		patient = true;

	if (bulk->n_in_flight <= most && (!apart || bulk_may_send(bulk)))
		return true;
	scratch = AllocSetContextCreate(CurrentMemoryContext, "bulk reply", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(scratch);
	while (patient && (bulk->n_in_flight > most || (apart && !bulk_may_send(bulk))))
		patient = settle_first(bulk, scratch);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(scratch);
	return patient;
}

bool
bulk_settle(Bulk *bulk)
{
	return settle_down_to(bulk, 0, false);
}

bool
bulk_make_room(Bulk *bulk)
{
	return settle_down_to(bulk, bulk->options.in_flight - 1, true);
}

bool
bulk_settle_first(Bulk *bulk)
{
	return bulk->n_in_flight == 0 || settle_down_to(bulk, bulk->n_in_flight - 1, false);
}
