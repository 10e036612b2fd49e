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
 * of the server.  Streams that a resync leaves behind are deleted, or the log says what is left where the
 * server does not do that.  Called by sink_index.c, sink_build.c and inquiry_check_sink.c.
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

/* NULL when it went well */
static char *
command(Elasticsearch *client, const char *method, const char *path, const char *body)
{
	ElasticsearchReply reply;

	elasticsearch_ask(client, method, path, body, &reply);
	return reply.status == 200 ? NULL : elasticsearch_error(&reply, NULL);
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
	char	   *why = command(client, "POST", elasticsearch_index_path(client, stream, "/_bulk"), PROBE);

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
	sink_stream_append_alias(&body, "add", stream, alias);
	appendStringInfoString(&body, "]}");
	return command(client, "POST", "/_aliases", body.data);
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
sink_stream_append_alias(StringInfo body, const char *action, const char *stream, const char *alias)
{
	if (body->data[body->len - 1] != '[')
		appendStringInfoChar(body, ',');
	appendStringInfo(body, "{\"%s\":{\"index\":", action);
	json_append_string(body, stream, strlen(stream));
	appendStringInfoString(body, ",\"alias\":");
	json_append_string(body, alias, strlen(alias));
	appendStringInfoString(body, strcmp(action, "add") == 0 ? ",\"is_write_index\":true}}" : "}}");
}

/* the streams behind the alias, each once; those of others, and indexes, only leave it */
static List *
append_farewells(const Sink *sink, json_t *behind, const char *stream, StringInfo body)
{
	json_t	   *index;
	const char *physical;
	List	   *seen = NIL;
	List	   *old = NIL;
	ListCell   *cell;

	json_object_foreach(behind, physical, index)
	{
		const char *name = stream_of(index) ? stream_of(index) : physical;

		foreach(cell, seen)
			if (strcmp(lfirst(cell), name) == 0)
				break;
		if (cell != NULL || strcmp(name, stream) == 0)
			continue;
		seen = lappend(seen, pstrdup(name));
		sink_stream_append_alias(body, "remove", name, sink->alias);
		if (stream_of(index) && sink_index_is_ours(sink, index))
			old = lappend(old, pstrdup(name));
	}
	return old;
}

static void
delete_stream(Elasticsearch *client, const Sink *sink, const char *stream)
{
	char	   *path = psprintf("/_data_stream%s", elasticsearch_index_path(client, stream, ""));
	char	   *why = command(client, "DELETE", path, NULL);

	if (why == NULL)
		why = command(client, "DELETE", template_path(client, stream), NULL);
	if (why)
		ereport(LOG,
				(errmsg("clickstream sink \"%s\" leaves the data stream \"%s\" behind", sink->name, stream),
				 errdetail("%s.", why),
				 errhint("DELETE %s, then DELETE %s remove it.", path, template_path(client, stream))));
}

char *
sink_stream_swap_in(Elasticsearch *client, const Sink *sink, const char *stream)
{
	StringInfoData body;
	json_t	   *behind;
	List	   *old;
	ListCell   *cell;
	char	   *why = sink_index_behind(client, sink->alias, &behind);

	if (why)
		return why;
	initStringInfo(&body);
	appendStringInfoString(&body, "{\"actions\":[");
	old = append_farewells(sink, behind, stream, &body);
	json_decref(behind);
	sink_stream_append_alias(&body, "add", stream, sink->alias);
	sink_stream_append_alias(&body, "remove", stream, sink_index_copy_alias(stream));
	appendStringInfoString(&body, "]}");
	why = command(client, "POST", "/_aliases", body.data);
	foreach(cell, why ? NIL : old)
		delete_stream(client, sink, lfirst(cell));
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
