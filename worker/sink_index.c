/*
 * sink_index.c
 *		The index behind a sink's alias.
 *
 * Owns what a sink does with an index as a whole; documents are bulk.c's.  The option `index` names an
 * alias, and the index behind it is called <alias>-000001 and so on: a resync builds the next one
 * beside it and swaps.  The mapping's _meta says who made an index, and nothing here touches one that
 * says otherwise, but for sink_swap.c, which takes the alias away from it.  Called by
 * sink_main.c.
 */
#include "postgres.h"

#include <jansson.h>

#include "access/xlog.h"
#include "miscadmin.h"

#include "sink_dates.h"
#include "sink_index.h"
#include "sink_stream.h"

#define HIGHEST_NUMBER 999999
#define IDS_AT_ONCE 5000

/* ---------------------------------------------------------------- whose it is */

static void
append_meta(StringInfo out, const Sink *sink)
{
	appendStringInfo(out, "{\"system_identifier\":\"" UINT64_FORMAT "\",\"timeline\":%u,"
					 "\"database\":%u,\"sink\":", GetSystemIdentifier(),
					 (unsigned) GetWALInsertionTimeLine(), MyDatabaseId);
	json_append_string(out, sink->name, strlen(sink->name));
	appendStringInfoChar(out, '}');
}

static bool
is_ours(const Sink *sink, json_t *index)
{
	json_t	   *meta = json_object_get(json_object_get(index, "mappings"), "_meta");
	const char *system = json_string_value(json_object_get(meta, "system_identifier"));
	const char *name = json_string_value(json_object_get(meta, "sink"));
	char		here[32];

	snprintf(here, sizeof(here), UINT64_FORMAT, GetSystemIdentifier());
	return system && name && strcmp(system, here) == 0 && strcmp(name, sink->name) == 0 &&
		json_integer_value(json_object_get(meta, "database")) == (json_int_t) MyDatabaseId;
}

static char *
not_ours(const Sink *sink, const char *physical)
{
	return psprintf("the index \"%s\" behind the alias \"%s\" was not made by this sink: "
					"clickstream.resync_sink builds one of its own and takes the alias over",
					physical, sink->alias);
}

/* those of a date pattern, or of a data stream */
static IndexState
look_at_several(const Sink *sink, json_t *indexes, char **why)
{
	const char *name;
	json_t	   *index;

	json_object_foreach(indexes, name, index)
		if (!is_ours(sink, index))
		{
			*why = not_ours(sink, name);
			return INDEX_FOREIGN;
		}
	return INDEX_OURS;
}

static IndexState
look_at_indexes(const Sink *sink, json_t *indexes, char **why)
{
	const char *physical;
	json_t	   *index;

	if (strchr(sink->index, '{') || sink->data_stream)
		return look_at_several(sink, indexes, why);
	if (json_object_size(indexes) != 1)
	{
		*why = psprintf("the alias \"%s\" leads to %d indexes", sink->alias,
						(int) json_object_size(indexes));
		return INDEX_FOREIGN;
	}
	physical = json_object_iter_key(json_object_iter(indexes));
	index = json_object_get(indexes, physical);
	if (strcmp(physical, sink->alias) == 0)
	{
		*why = psprintf("there is an index called \"%s\", where an alias of that name is needed: "
						"delete it, or create the sink with another index", sink->alias);
		return INDEX_NO_ALIAS;
	}
	if (!is_ours(sink, index))
	{
		*why = not_ours(sink, physical);
		return INDEX_FOREIGN;
	}
	return INDEX_OURS;
}

bool
sink_index_is_ours(const Sink *sink, json_t *index)
{
	return is_ours(sink, index);
}

char *
sink_index_behind(Elasticsearch *client, const char *alias, json_t **indexes)
{
	ElasticsearchReply reply;

	*indexes = NULL;
	elasticsearch_ask(client, "GET", elasticsearch_index_path(client, alias, ""), NULL, &reply);
	if (reply.status == 404)
		return NULL;
	if (reply.status == 200)
		*indexes = json_loadb(reply.text, reply.length, 0, NULL);
	return *indexes ? NULL : elasticsearch_error(&reply, NULL);
}

IndexState
sink_index_look(Elasticsearch *client, const Sink *sink, char **why)
{
	ElasticsearchReply reply;
	IndexState	state = INDEX_NO_ANSWER;
	char	   *type;
	char	   *error;
	json_t	   *root;

	elasticsearch_ask(client, "GET", elasticsearch_index_path(client, sink->alias, ""), NULL,
					  &reply);
	if (reply.status != 200)
	{
		error = elasticsearch_error(&reply, &type);
		*why = error;
		return reply.status == 404 && type && strcmp(type, "index_not_found_exception") == 0 ?
			INDEX_MISSING : INDEX_NO_ANSWER;
	}
	root = json_loadb(reply.text, reply.length, 0, NULL);
	if (json_is_object(root))
		state = look_at_indexes(sink, root, why);
	else
		*why = elasticsearch_error(&reply, NULL);
	json_decref(root);
	return state;
}

/* ---------------------------------------------------------------- making one */

static char *
physical_name(const Sink *sink, int number)
{
	return psprintf("%s-%06d", sink->alias, number);
}

/* the number at the end of the name of the index before, or 0 */
static int
last_number(const Sink *sink)
{
	size_t		length = strlen(sink->alias);

	if (sink->physical_index == NULL || strncmp(sink->physical_index, sink->alias, length) != 0 ||
		sink->physical_index[length] != '-')
		return 0;
	return atoi(sink->physical_index + length + 1);
}

/* it carries this sink's mark, and the alias does not lead to it */
static bool
is_left_over(const Sink *sink, const char *name, const ElasticsearchReply *reply)
{
	json_t	   *root = json_loadb(reply->text, reply->length, 0, NULL);
	json_t	   *index = json_object_get(root, name);
	bool		left_over = is_ours(sink, index) &&
		json_object_get(json_object_get(index, "aliases"), sink->alias) == NULL;

	json_decref(root);
	return left_over;
}

bool
sink_index_is_half_made(Elasticsearch *client, const Sink *sink, const char *physical)
{
	ElasticsearchReply reply;

	if (sink->data_stream)
		return sink_stream_is_half_made(client, sink, physical);
	elasticsearch_ask(client, "GET", elasticsearch_index_path(client, physical, ""), NULL, &reply);
	return reply.status == 200 && is_left_over(sink, physical, &reply);
}

char *
sink_index_free_name(Elasticsearch *client, const Sink *sink, char **why)
{
	int			number = Max(last_number(sink), 1);

	for (; number <= HIGHEST_NUMBER; number++)
	{
		char	   *name = physical_name(sink, number);
		ElasticsearchReply reply;

		elasticsearch_ask(client, "GET", elasticsearch_index_path(client, name, ""), NULL, &reply);
		if (reply.status == 404 || (reply.status == 200 && !sink->data_stream && is_left_over(sink, name, &reply)))
			return name;
		if (reply.status != 200)
		{
			*why = elasticsearch_error(&reply, NULL);
			return NULL;
		}
	}
	*why = psprintf("no name after \"%s\" is free", physical_name(sink, HIGHEST_NUMBER));
	return NULL;
}

char *
sink_index_refresh(Elasticsearch *client, const char *alias)
{
	return elasticsearch_command(client, "POST", elasticsearch_index_path(client, alias, "/_refresh"), NULL, false);
}

char *
sink_index_copy_alias(const char *physical)
{
	return psprintf("%s-copy", physical);
}

char *
sink_index_definition(const Sink *sink, const DocumentPlan *plan, int which, List *aliases)
{
	StringInfoData body;
	ListCell   *cell;

	initStringInfo(&body);
	appendStringInfoString(&body, "{\"settings\":{\"number_of_shards\":1,"
						   "\"auto_expand_replicas\":\"0-1\"},"
						   "\"mappings\":{\"_meta\":");
	append_meta(&body, sink);
	document_append_mapping_rest(plan, &body);
	appendStringInfoString(&body, ",\"properties\":");
	document_append_mapping(plan, which, &body);
	appendStringInfoString(&body, "},\"aliases\":{");
	foreach(cell, aliases)
	{
		json_append_string(&body, lfirst(cell), strlen(lfirst(cell)));
		appendStringInfoString(&body, lnext(aliases, cell) ? ":{}," : ":{}");
	}
	appendStringInfoString(&body, "}}");
	return body.data;
}

static char *
mapping_definition(const Sink *sink, const DocumentPlan *plan, int which, List *aliases)
{
	StringInfoData body;

	initStringInfo(&body);
	appendStringInfoString(&body, "{\"properties\":");
	document_append_mapping(plan, which, &body);
	appendStringInfoChar(&body, '}');
	return body.data;
}

/* the reason is that of the first form */
char *
sink_index_put_mapping(Elasticsearch *client, const char *path, SinkIndexDefinition define, const Sink *sink,
					   const DocumentPlan *plan, List *names, bool *refused)
{
	char	   *why = NULL;

	for (int which = 0; which < DOCUMENT_MAPPINGS; which++)
	{
		ElasticsearchReply reply;
		char	   *type;
		char	   *error;

		elasticsearch_ask(client, "PUT", path, define(sink, plan, which, names), &reply);
		if (reply.status == 200)
			return NULL;
		error = elasticsearch_error(&reply, &type);
		*refused = reply.status == 400 && elasticsearch_judge(400, type, false) != VERDICT_WAIT;
		if (why == NULL)
			why = error;
		if (!*refused)
			return error;
	}
	return why;
}

/* indexes of a date pattern that an unfinished copy made */
static char *
delete_left_over(Elasticsearch *client, const Sink *sink, const char *copy_alias)
{
	json_t	   *root;
	json_t	   *index;
	const char *name;
	char	   *why = sink_index_behind(client, copy_alias, &root);

	json_object_foreach(root, name, index)
		if (why == NULL && is_ours(sink, index))
			why = elasticsearch_command(client, "DELETE", elasticsearch_index_path(client, name, ""), NULL, true);
	json_decref(root);
	return why;
}

char *
sink_index_make(Elasticsearch *client, const Sink *sink, const DocumentPlan *plan,
				const char *physical)
{
	char	   *alias = sink_index_copy_alias(physical);
	char	   *why;

	if (sink->data_stream)
		return sink_stream_make(client, sink, plan, physical);
	why = delete_left_over(client, sink, alias);
	if (why == NULL)
		why = elasticsearch_command(client, "DELETE", elasticsearch_index_path(client, physical, ""), NULL, true);
	return why ? why : sink_index_put(client, sink, plan, physical, list_make1(alias));
}

char *
sink_index_put(Elasticsearch *client, const Sink *sink, const DocumentPlan *plan,
			   const char *physical, List *aliases)
{
	bool		refused;

	return sink_index_put_mapping(client, elasticsearch_index_path(client, physical, ""), sink_index_definition,
								  sink, plan, aliases, &refused);
}

/* ---------------------------------------------------------------- new columns */

static bool
has_all(json_t *fields, const DocumentPlan *plan, int which)
{
	StringInfoData text;
	json_t	   *wanted;
	json_t	   *field;
	const char *name;
	bool		all = true;

	initStringInfo(&text);
	document_append_mapping(plan, which, &text);
	wanted = json_loadb(text.data, text.len, 0, NULL);
	json_object_foreach(wanted, name, field)
		all &= json_equal(json_object_get(json_object_get(fields, name), "type"), json_object_get(field, "type")) &&
			json_object_get(field, "type") != NULL;
	json_decref(wanted);
	pfree(text.data);
	return all;
}

static bool
has_all_in_some_form(json_t *fields, const DocumentPlan *plan)
{
	for (int which = 0; which < DOCUMENT_MAPPINGS; which++)
		if (has_all(fields, plan, which))
			return true;
	return false;
}

/* Then it is left alone: to put a field again takes away what somebody has set for it since. */
static bool
is_complete(Elasticsearch *client, const Sink *sink, const DocumentPlan *plan)
{
	ElasticsearchReply reply;
	json_t	   *root;
	json_t	   *index;
	const char *name;
	bool		complete;

	elasticsearch_ask(client, "GET", elasticsearch_index_path(client, sink->alias, "/_mapping"), NULL, &reply);
	if (reply.status != 200)
		return false;
	root = json_loadb(reply.text, reply.length, 0, NULL);
	complete = json_object_size(root) > 0;
	json_object_foreach(root, name, index)
		complete &= has_all_in_some_form(json_object_get(json_object_get(index, "mappings"), "properties"), plan);
	json_decref(root);
	return complete;
}

char *
sink_index_extend(Elasticsearch *client, const Sink *sink, const DocumentPlan *plan, bool *refused)
{
	char	   *why = NULL;

	if (is_complete(client, sink, plan))
		return NULL;
	if (sink->data_stream)
		why = sink_stream_put_template(client, sink, plan, sink->physical_index, refused);
	return why ? why :
		sink_index_put_mapping(client, elasticsearch_index_path(client, sink->alias, "/_mapping"), mapping_definition,
							   sink, plan, NIL, refused);
}

/* ---------------------------------------------------------------- all ids */

static AddressPart
part_of(json_t *hit, const char *name)
{
	json_t	   *value = json_object_get(hit, name);

	return (AddressPart) {json_string_value(value), json_string_length(value)};
}

static void
address_of_hit(const Sink *sink, json_t *hit, StringInfo address)
{
	AddressPart index = {NULL};
	AddressPart none = {NULL};

	if (strchr(sink->index, '{'))
	{
		index.text = sink_dates_name(json_string_value(json_object_get(hit, "_index")));
		index.length = strlen(index.text);
	}
	document_address_of(part_of(hit, "_id"), index, sink->routing ? part_of(hit, "_routing") : none, address);
}

/* else it would keep what the index was for five minutes */
static void
end_scroll(Elasticsearch *client, const char *scroll_id)
{
	StringInfoData body;

	if (scroll_id == NULL)
		return;
	initStringInfo(&body);
	appendStringInfoString(&body, "{\"scroll_id\":");
	json_append_string(&body, scroll_id, strlen(scroll_id));
	appendStringInfoChar(&body, '}');
	(void) elasticsearch_command(client, "DELETE", "/_search/scroll", body.data, true);
}

/* the ids of one page; how many there were, and where the next page begins */
static int
take_page(const Sink *sink, json_t *root, SinkIndexEach each, void *arg, StringInfo scroll)
{
	json_t	   *hits = json_object_get(json_object_get(root, "hits"), "hits");
	const char *next = json_string_value(json_object_get(root, "_scroll_id"));
	StringInfoData address;
	json_t	   *hit;
	size_t		i;

	initStringInfo(&address);
	json_array_foreach(hits, i, hit)
	{
		address_of_hit(sink, hit, &address);
		each(arg, address.data, address.len, (XLogRecPtr) json_integer_value(json_object_get(hit, "_version")));
	}
	pfree(address.data);
	resetStringInfo(scroll);
	appendStringInfoString(scroll, "{\"scroll\":\"5m\",\"scroll_id\":");
	json_append_string(scroll, next ? next : "", next ? strlen(next) : 0);
	appendStringInfoChar(scroll, '}');
	return json_array_size(hits);
}

char *
sink_index_each_id(Elasticsearch *client, const Sink *sink, SinkIndexEach each, void *arg)
{
	StringInfoData scroll;
	char	   *path = elasticsearch_index_path(client, sink->alias, "/_search?scroll=5m&_source=false");
	char	   *body = psprintf("{\"size\":%d,\"sort\":[\"_doc\"],\"version\":true}", IDS_AT_ONCE);
	char	   *why;
	char	   *scroll_id = NULL;
	int			n;

	why = sink_index_refresh(client, sink->alias);
	if (why)
		return why;
	initStringInfo(&scroll);
	do
	{
		ElasticsearchReply reply;
		json_t	   *root;
		const char *id;

		elasticsearch_ask(client, "POST", path, body, &reply);
		if (reply.status != 200)
			return elasticsearch_error(&reply, NULL);
		root = json_loadb(reply.text, reply.length, 0, NULL);
		id = json_string_value(json_object_get(root, "_scroll_id"));
		if (id && (scroll_id == NULL || strcmp(id, scroll_id) != 0))
			scroll_id = pstrdup(id);
		n = take_page(sink, root, each, arg, &scroll);
		json_decref(root);
		path = "/_search/scroll";
		body = scroll.data;
	} while (n > 0);
	end_scroll(client, scroll_id);
	return NULL;
}

char *
sink_index_each_place(Elasticsearch *client, const Sink *sink, const char *id, SinkIndexEach each, void *arg)
{
	StringInfoData text;
	ElasticsearchReply reply;
	json_t	   *root;
	char	   *why = sink_index_refresh(client, sink->alias);

	if (why)
		return why;
	initStringInfo(&text);
	appendStringInfoString(&text, "{\"size\":1000,\"version\":true,\"_source\":false,\"query\":{\"ids\":{\"values\":[");
	json_append_string(&text, id, strlen(id));
	appendStringInfoString(&text, "]}}}");
	elasticsearch_ask(client, "POST", elasticsearch_index_path(client, sink->alias, "/_search"), text.data, &reply);
	if (reply.status != 200)
		return elasticsearch_error(&reply, NULL);
	root = json_loadb(reply.text, reply.length, 0, NULL);
	(void) take_page(sink, root, each, arg, &text);
	json_decref(root);
	return NULL;
}
