/*
 * bulk_reply.c
 *		What became of the documents in a request, as Elasticsearch's answer says.
 *
 * A refusal is taken for the document's own fault when Elasticsearch says so by its type, or, where the type can
 * mean either, when others in the same request passed, or when the index proves to be in order though the
 * document stays refused alone.  Called by bulk_send.c.
 */
#include "postgres.h"

#include <jansson.h>

#include "access/xlog.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "bulk_internal.h"
#include "document.h"

/* conflicts of one reply whose versions are asked for */
#define CONFLICTS_LOOKED_AT 1000

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

	bulk_keep_refusal(bulk, id, entry->version,
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

/* and was before the request that was refused, or else it may have come only after that */
static bool
pipeline_was_there(Bulk *bulk)
{
	bool		before = bulk->pipeline_seen;
	ElasticsearchReply reply;

	if (bulk->pipeline_path == NULL)
		return true;
	elasticsearch_ask(bulk->client, "GET", bulk->pipeline_path, NULL, &reply);
	bulk->pipeline_seen = reply.status == 200;
	return before && bulk->pipeline_seen;
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
	return in_order && pipeline_was_there(bulk);
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
	int			n = Min(bulk->sent->portion, batch_living(batch));
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

char *
bulk_take_reply(Bulk *bulk, const ElasticsearchReply *reply)
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
