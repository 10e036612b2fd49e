/*
 * inquiry_elasticsearch.c
 *		The inquiry "elasticsearch": whether the cluster answers, and with which version.
 *
 * Request: {}.  Answer: {"version": "8.19.0"}, without a version where we may not ask for it.
 */
#include "postgres.h"

#include <jansson.h>

#include "elasticsearch.h"
#include "inquiry_kinds.h"

/* the version of some node; NULL when the reply does not say */
static const char *
version_of(const ElasticsearchReply *reply)
{
	json_t	   *root = reply->status == 200 ? json_loads(reply->text, 0, NULL) : NULL;
	json_t	   *node;
	const char *id;

	json_object_foreach(json_object_get(root, "nodes"), id, node)
		return json_string_value(json_object_get(node, "version"));
	return NULL;
}

InquiryResult
inquiry_elasticsearch(const Inquiry *inquiry, StringInfo answer)
{
	Elasticsearch *client = elasticsearch_open(inquiry->options);
	ElasticsearchReply reply;

	elasticsearch_ask(client, "GET", "/_cluster/health", NULL, &reply);
	if (reply.status == 0)
	{
		appendStringInfoString(answer, reply.text);
		return INQUIRY_UNREACHABLE;
	}
	if (reply.status != 200)
	{
		appendStringInfoString(answer, elasticsearch_error(&reply, NULL));
		return reply.status >= 500 || reply.status == 429 ? INQUIRY_UNREACHABLE : INQUIRY_REFUSED;
	}
	elasticsearch_ask(client, "GET", "/_nodes/_local?filter_path=nodes.*.version", NULL, &reply);
	appendStringInfoString(answer, json_dumps(json_pack("{s:s*}", "version", version_of(&reply)), JSON_COMPACT));
	return INQUIRY_ANSWERED;
}
