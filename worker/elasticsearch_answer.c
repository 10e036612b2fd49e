/*
 * elasticsearch_answer.c
 *		What an answer of Elasticsearch means, for whoever sent and for people.
 *
 * Owns the judgement: by status and error type, never by the text of a reason, which changes from
 * version to version.  Called by bulk.c, sink_index.c and their neighbours.
 */
#include "postgres.h"

#include <jansson.h>

#include "elasticsearch.h"

/*
 * Refusals that are told to be the document's own.  Version 7 says mapper_parsing_exception where
 * 8 says document_parsing_exception.
 */
static const char *const document_errors[] = {
	"document_parsing_exception",
	"mapper_parsing_exception",
	"strict_dynamic_mapping_exception",
	"parsing_exception",
	"x_content_parse_exception",
	"json_parse_exception",
	"mapper_exception",
	"array_index_out_of_bounds_exception",
};

/* Refusals with a status that sounds like the document's fault and yet are the index's state. */
static const char *const index_errors[] = {
	"index_closed_exception",
	"index_not_found_exception",
	"alias_not_found_exception",
	"cluster_block_exception",
	"security_exception",
	"validation_exception",
	"illegal_state_exception",
	"unavailable_shards_exception",
	"es_rejected_execution_exception",
	"circuit_breaking_exception",
	"process_cluster_event_timeout_exception",
	"invalid_alias_name_exception",
	"invalid_index_name_exception",
};

static bool
is_one_of(const char *type, const char *const *list, int n)
{
	int			i;

	for (i = 0; i < n; i++)
		if (strcmp(type, list[i]) == 0)
			return true;
	return false;
}

Verdict
elasticsearch_judge(int status, const char *type, bool is_delete)
{
	if (status >= 200 && status < 300)
		return VERDICT_DONE;
	if (status == 404 && is_delete && type == NULL)
		return VERDICT_DONE;
	if (type && is_one_of(type, index_errors, lengthof(index_errors)))
		return VERDICT_WAIT;
	if (status == 409)
		return VERDICT_CONFLICT;
	if (status == 413)
		return VERDICT_TOO_LARGE;
	if (status == 400 && type)
		return is_one_of(type, document_errors, lengthof(document_errors)) ? VERDICT_REFUSED
			: VERDICT_DOUBTFUL;
	return VERDICT_WAIT;
}

/* what whoever reads of it may do about a refusal that no repetition mends */
static const char *
advice_on_refusal(int status, const char *type)
{
	if (status == 401)
		return "; see the user mapping of the sink's owner: username and password, api_key, or a certificate";
	if (status == 403 && type && strcmp(type, "security_exception") == 0)
		return "; have the privilege granted in Elasticsearch, or name another user in the user mapping of the sink's owner";
	return "";
}

char *
elasticsearch_describe(int status, const char *type, const char *reason)
{
	return psprintf("%s: %s (HTTP %d)%s", type ? type : "error",
					reason ? reason : "no reason given", status, advice_on_refusal(status, type));
}

/* of {"error": {"type": …, "reason": …, "root_cause": …}, "status": …} */
static char *
describe_json(const ElasticsearchReply *reply, json_t *error, char **type)
{
	const char *error_type = json_string_value(json_object_get(error, "type"));
	const char *reason = json_string_value(json_object_get(error, "reason"));

	if (error_type == NULL)
		return NULL;
	if (type)
		*type = pstrdup(error_type);
	return elasticsearch_describe(reply->status, error_type, reason);
}

char *
elasticsearch_error(const ElasticsearchReply *reply, char **type)
{
	char	   *described = NULL;
	json_t	   *root;

	if (type)
		*type = NULL;
	if (reply->status == 0)
		return psprintf("no answer: %s", reply->text);

	root = json_loadb(reply->text, reply->length, 0, NULL);
	if (root)
		described = describe_json(reply, json_object_get(root, "error"), type);
	json_decref(root);
	if (described)
		return described;
	if (reply->status >= 300 && reply->status < 400)
		return psprintf("redirected (HTTP %d), which is not followed", reply->status);
	return psprintf("not an answer of Elasticsearch (HTTP %d)%s", reply->status,
					advice_on_refusal(reply->status, NULL));
}
