/*
 * sink_stream.c
 *		A data stream behind a sink's alias, in place of an index.
 *
 * The stream is called <alias>-000001 and so on, like an index, and the alias leads to it, so that a resync
 * builds the next one beside it and requests can demand an alias.  Its template is called as it is, fits it
 * alone and carries the sink's mark into each index of the stream, so that one which comes by a rollover
 * has it as well.
 *
 * Elasticsearch makes a stream when the first document is created in it.  So an empty one is made by a
 * document that it refuses, for want of a time: that needs no right beyond those of writing and no other part
 * of the server.  Called by sink_index.c, sink_swap.c and compare.c.
 */
#include "postgres.h"

#include <jansson.h>

#include "sink_stream.h"

/* above templates that people make for whole families of names */
#define TEMPLATE_PRIORITY 1000000
#define PROBE "{\"create\":{}}\n{\"@timestamp\":\"none\"}\n"
#define MOST_FOUND 10000

static const char *
stream_of(json_t *index)
{
	return json_string_value(json_object_get(index, "data_stream"));
}

/* ---------------------------------------------------------------- making one */

static char *
template_path(Elasticsearch *client, const char *stream)
{
	return psprintf("/_index_template%s", elasticsearch_index_path(client, stream, ""));
}

static char *
template_definition(const Sink *sink, const DocumentPlan *plan, int which, List *names)
{
	StringInfoData body;
	const char *stream = linitial(names);

	initStringInfo(&body);
	appendStringInfoString(&body, "{\"index_patterns\":[");
	json_append_string(&body, stream, strlen(stream));
	appendStringInfo(&body, "],\"data_stream\":{},\"priority\":%d,\"allow_auto_create\":true,\"template\":%s}",
					 TEMPLATE_PRIORITY, sink_index_definition(sink, plan, which, NIL));
	return body.data;
}

char *
sink_stream_put_template(Elasticsearch *client, const Sink *sink, const DocumentPlan *plan,
						 const char *stream, bool *refused)
{
	return sink_index_put_mapping(client, template_path(client, stream), template_definition, sink, plan,
								  list_make1(unconstify(char *, stream)), refused);
}

/* whether all that is behind the name are indexes of data streams that this sink made, and there are any */
static bool
is_ours(Elasticsearch *client, const Sink *sink, const char *name)
{
	json_t	   *root;
	json_t	   *index;
	const char *physical;
	bool		ours = sink_index_behind(client, name, &root) == NULL && json_object_size(root) > 0;

	json_object_foreach(root, physical, index)
		ours &= stream_of(index) != NULL && sink_index_is_ours(sink, index);
	json_decref(root);
	return ours;
}

static char *
probe(Elasticsearch *client, const Sink *sink, const char *stream)
{
	char	   *why = elasticsearch_command(client, "POST", elasticsearch_index_path(client, stream, "/_bulk"), PROBE, false);

	if (why == NULL && !is_ours(client, sink, stream))
		why = "the server made none";
	return why;
}

static char *
add_alias(Elasticsearch *client, const char *stream, const char *alias)
{
	StringInfoData body;

	initStringInfo(&body);
	appendStringInfoString(&body, "{\"actions\":[");
	sink_stream_append_alias(&body, "add", stream, alias, true);
	appendStringInfoString(&body, "]}");
	return elasticsearch_command(client, "POST", "/_aliases", body.data, false);
}

char *
sink_stream_make(Elasticsearch *client, const Sink *sink, const DocumentPlan *plan, const char *stream)
{
	bool		refused;
	char	   *why = sink_stream_put_template(client, sink, plan, stream, &refused);

	if (why == NULL)
		why = probe(client, sink, stream);
	if (why == NULL)
		why = add_alias(client, stream, sink_index_copy_alias(stream));
	return why ? psprintf("the data stream \"%s\" cannot be made: %s; data streams behind an alias need "
						  "Elasticsearch 7.14 or later", stream, why) : NULL;
}

bool
sink_stream_is_half_made(Elasticsearch *client, const Sink *sink, const char *stream)
{
	return is_ours(client, sink, sink_index_copy_alias(stream));
}

/* ---------------------------------------------------------------- the alias */

void
sink_stream_append_alias(StringInfo body, const char *action, const char *stream, const char *alias,
						 bool writes)
{
	if (body->data[body->len - 1] != '[')
		appendStringInfoChar(body, ',');
	appendStringInfo(body, "{\"%s\":{\"index\":", action);
	json_append_string(body, stream, strlen(stream));
	appendStringInfoString(body, ",\"alias\":");
	json_append_string(body, alias, strlen(alias));
	appendStringInfoString(body, writes ? ",\"is_write_index\":true}}" : "}}");
}

/* and its template */
char *
sink_stream_delete(Elasticsearch *client, const Sink *sink, const char *stream)
{
	char	   *path = psprintf("/_data_stream%s", elasticsearch_index_path(client, stream, ""));
	char	   *why = elasticsearch_command(client, "DELETE", path, NULL, true);

	if (why == NULL)
		why = elasticsearch_command(client, "DELETE", template_path(client, stream), NULL, true);
	return why;
}

/* ---------------------------------------------------------------- what is in it */

static char *
ids_query(char *const *ids, int n)
{
	StringInfoData body;

	initStringInfo(&body);
	appendStringInfo(&body, "{\"size\":%d,\"_source\":false,\"query\":{\"ids\":{\"values\":[", MOST_FOUND);
	for (int i = 0; i < n; i++)
	{
		if (i > 0)
			appendStringInfoChar(&body, ',');
		json_append_string(&body, ids[i], strlen(ids[i]));
	}
	appendStringInfoString(&body, "]}}}");
	return body.data;
}

char *
sink_stream_find(Elasticsearch *client, const Sink *sink, char *const *ids, int n, bool *found)
{
	ElasticsearchReply reply;
	json_t	   *root;
	json_t	   *there = json_loads("{}", 0, NULL);	/* json_object is a function of PostgreSQL as well */
	json_t	   *hit;
	size_t		at;

	elasticsearch_ask(client, "POST", elasticsearch_index_path(client, sink->alias, "/_search"),
					  ids_query(ids, n), &reply);
	if (reply.status != 200)
	{
		json_decref(there);
		return elasticsearch_error(&reply, NULL);
	}
	root = json_loadb(reply.text, reply.length, 0, NULL);
	json_array_foreach(json_object_get(json_object_get(root, "hits"), "hits"), at, hit)
		json_object_set_new(there, json_string_value(json_object_get(hit, "_id")), json_true());
	for (int i = 0; i < n; i++)
		found[i] = json_object_get(there, ids[i]) != NULL;
	json_decref(there);
	json_decref(root);
	return NULL;
}
