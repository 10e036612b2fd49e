/*
 * bulk.c
 *		What is waiting to be sent, what is on its way, and what became of it.
 *
 * Documents are known by their addresses, which document.c writes: "id" below is one.
 *
 * A ring of batches (bulk_batch.c): one collects while those before it are in flight, each with a request of
 * its own (bulk_send.c), so that decoding goes on while Elasticsearch works; its answers are judged in
 * bulk_reply.c.  Owns what is collected and what was refused.  Must never drop a document: each one ends
 * acknowledged, replaced by a newer one of the same _id before it was sent, or as a refusal that the caller
 * stores.  Called by the parts of a sink worker.
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "bulk_internal.h"

/* documents of refusals are kept up to so many bytes, so that memory is bounded */
#define REFUSED_BYTES ((Size) 64 * 1024 * 1024)

/* ---------------------------------------------------------------- collecting */

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
	bulk_doubt_open(bulk);
	bulk->refusal_context = AllocSetContextCreate(bulk->context, "refusals",
												  ALLOCSET_DEFAULT_SIZES);
	return bulk;
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
	Entry	   *entry = batch_add(bulk->collecting, id, length, version);
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
	Entry	   *entry = batch_add(bulk->collecting, id, length, version);
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

void
bulk_keep_refusal(Bulk *bulk, const char *id, XLogRecPtr version, const char *document, int length,
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
	bulk_keep_refusal(bulk, id, version, document,
					  document ? strlen(document) : 0, 0, type, reason);
}
