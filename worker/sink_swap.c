/*
 * sink_swap.c
 *		A new index takes the place of the old one behind the alias, and the old one goes.
 *
 * A search that began on the old index before the swap still reads it afterwards, and fails if it is deleted
 * under it.  So the old one only leaves the alias, and gets another, by which it is found and deleted later:
 * the name of the new one and -old.  That happens in one request with the swap, so that a crash after it leaves
 * nothing that nobody would find.  Called by sink_build.c and sink_follow.c.
 */
#include "postgres.h"

#include <jansson.h>

#include "sink_dates.h"
#include "sink_index.h"
#include "sink_stream.h"
#include "sink_swap.h"

#define NUMBER_LENGTH 7			/* -000001 */

static char *
old_alias(const char *physical)
{
	return psprintf("%s-old", physical);
}

/* ---------------------------------------------------------------- the swap */

static void
append_action(StringInfo body, const char *action, const char *index, const char *alias)
{
	if (body->data[body->len - 1] != '[')
		appendStringInfoChar(body, ',');
	appendStringInfo(body, "{\"%s\":{\"index\":", action);
	json_append_string(body, index, strlen(index));
	if (alias)
	{
		appendStringInfoString(body, ",\"alias\":");
		json_append_string(body, alias, strlen(alias));
	}
	appendStringInfoString(body, "}}");
}

/* an index that was the sink's until now, without the aliases that lead to it */
static void
append_farewell(const Sink *sink, const char *name, const char *physical, StringInfo body)
{
	append_action(body, "remove", name, sink->alias);
	if (strchr(sink->index, '{') && strcmp(sink_dates_name(name), sink->alias) != 0)
		append_action(body, "remove", name, sink_dates_name(name));
	append_action(body, "add", name, old_alias(physical));
}

/* what the alias leads to now: marked to be deleted if it is ours, else only left by the alias */
static char *
append_farewells(Elasticsearch *client, const Sink *sink, json_t *arriving, const char *physical,
				 StringInfo body)
{
	json_t	   *root;
	json_t	   *index;
	const char *name;
	char	   *why = sink_index_behind(client, sink->alias, &root);

	json_object_foreach(root, name, index)
	{
		if (json_object_get(arriving, name))
			continue;
		if (sink_index_is_ours(sink, index))
			append_farewell(sink, name, physical, body);
		else
			append_action(body, "remove", name, sink->alias);
	}
	json_decref(root);
	return why;
}

/* the alias leads to it, and no alias of the copy does; that of a date stands in the name of the copy's */
static void
append_arrival(const Sink *sink, const char *name, const char *physical, StringInfo body)
{
	append_action(body, "add", name, sink->alias);
	append_action(body, "remove", name, sink_index_copy_alias(physical));
	if (strcmp(name, physical) == 0)
		return;
	append_action(body, "add", name, sink_dates_name(name));
	append_action(body, "remove", name, sink_index_copy_alias(name));
}

static void
append_arrivals(const Sink *sink, json_t *arriving, const char *physical, StringInfo body)
{
	json_t	   *index;
	const char *name;

	json_object_foreach(arriving, name, index)
		append_arrival(sink, name, physical, body);
}

/* the name of a data stream, for one of its indexes, or else its own */
static const char *
stream_of(json_t *index, const char *physical)
{
	const char *stream = json_string_value(json_object_get(index, "data_stream"));

	return stream ? stream : physical;
}

/* the streams behind the alias, each once; those of others, and indexes, only leave it */
static char *
append_streams(Elasticsearch *client, const Sink *sink, const char *arriving, StringInfo body)
{
	json_t	   *root;
	json_t	   *seen = json_loads("{}", 0, NULL);	/* json_object is a function of PostgreSQL as well */
	json_t	   *index;
	const char *physical;
	char	   *why = sink_index_behind(client, sink->alias, &root);

	json_object_foreach(root, physical, index)
	{
		const char *name = stream_of(index, physical);

		if (strcmp(name, arriving) == 0 || json_object_get(seen, name))
			continue;
		json_object_set_new(seen, name, json_true());
		sink_stream_append_alias(body, "remove", name, sink->alias, false);
		if (name != physical && sink_index_is_ours(sink, index))
			sink_stream_append_alias(body, "add", name, old_alias(arriving), false);
	}
	json_decref(seen);
	json_decref(root);
	sink_stream_append_alias(body, "add", arriving, sink->alias, true);
	sink_stream_append_alias(body, "remove", arriving, sink_index_copy_alias(arriving), false);
	return why;
}

static char *
append_indexes(Elasticsearch *client, const Sink *sink, const char *physical, StringInfo body)
{
	json_t	   *arriving;
	char	   *why = sink_index_behind(client, sink_index_copy_alias(physical), &arriving);

	if (why)
		return why;
	why = append_farewells(client, sink, arriving, physical, body);
	append_arrivals(sink, arriving, physical, body);
	json_decref(arriving);
	return why;
}

char *
sink_swap_in(Elasticsearch *client, const Sink *sink, const char *physical)
{
	StringInfoData body;
	char	   *why;

	/* before that a search would find few of its documents, or none */
	why = sink_index_refresh(client, sink_index_copy_alias(physical));
	if (why)
		return why;
	initStringInfo(&body);
	appendStringInfoString(&body, "{\"actions\":[");
	why = sink->data_stream ? append_streams(client, sink, physical, &body) :
		append_indexes(client, sink, physical, &body);
	appendStringInfoString(&body, "]}");
	return why ? why : elasticsearch_command(client, "POST", "/_aliases", body.data, false);
}

/* ---------------------------------------------------------------- what is left behind */

/* no search reads what is behind the name; true where nobody can tell */
static bool
is_idle(Elasticsearch *client, const char *name)
{
	ElasticsearchReply reply;
	json_t	   *root;
	json_t	   *search;
	bool		idle;

	elasticsearch_ask(client, "GET", elasticsearch_index_path(client, name, "/_stats/search"), NULL, &reply);
	if (reply.status != 200)
		return true;
	root = json_loadb(reply.text, reply.length, 0, NULL);
	search = json_object_get(json_object_get(json_object_get(root, "_all"), "total"), "search");
	idle = json_integer_value(json_object_get(search, "open_contexts")) == 0 &&
		json_integer_value(json_object_get(search, "query_current")) == 0 &&
		json_integer_value(json_object_get(search, "fetch_current")) == 0;
	json_decref(root);
	return idle;
}

static char *
delete_one(Elasticsearch *client, const Sink *sink, json_t *index, const char *physical)
{
	const char *name = stream_of(index, physical);

	return name != physical ? sink_stream_delete(client, sink, name) :
		elasticsearch_command(client, "DELETE", elasticsearch_index_path(client, name, ""), NULL, true);
}

/* what was marked when this one was swapped in; false: later */
static bool
clear_behind(Elasticsearch *client, const Sink *sink, const char *physical, bool at_once)
{
	char	   *alias = old_alias(physical);
	json_t	   *root;
	json_t	   *index;
	const char *name;
	char	   *why = sink_index_behind(client, alias, &root);

	if (why || root == NULL)
		return why == NULL;
	if (!at_once && !is_idle(client, alias))
	{
		json_decref(root);
		return false;
	}
	json_object_foreach(root, name, index)
		if (why == NULL && sink_index_is_ours(sink, index))
			why = delete_one(client, sink, index, name);
	json_decref(root);
	if (why)
		ereport(LOG,
				(errmsg("clickstream sink \"%s\" leaves an old index behind the alias \"%s\"", sink->name, alias),
				 errdetail("%s.", why),
				 errhint("It is tried again when the sink's worker starts, and at the next resync.")));
	return true;
}

/* the index that bears the number of this sink's last copy, or its stream */
static bool
is_swapped_in(const Sink *sink, const char *name)
{
	size_t		length = strlen(sink->alias);

	return strncmp(name, sink->alias, length) == 0 && strlen(name) == length + NUMBER_LENGTH &&
		strspn(name + length + 1, "0123456789") == NUMBER_LENGTH - 1;
}

bool
sink_swap_clear(Elasticsearch *client, const Sink *sink, bool at_once)
{
	json_t	   *root;
	json_t	   *index;
	const char *physical;
	bool		clear = sink_index_behind(client, sink->alias, &root) == NULL;

	json_object_foreach(root, physical, index)
		if (sink_index_is_ours(sink, index) && is_swapped_in(sink, stream_of(index, physical)))
			clear &= clear_behind(client, sink, stream_of(index, physical), at_once);
	json_decref(root);
	return clear;
}
