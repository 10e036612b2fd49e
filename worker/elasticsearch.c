/*
 * elasticsearch.c
 *		Requests to one Elasticsearch cluster through libcurl, one after the other or side by side.
 *
 * Owns a request's way: the host it goes to, fail-over, the waiting.  Must never follow a redirect or
 * talk to a host that the server object does not name.  Called by bulk.c for documents and by
 * sink_index.c for indexes.
 *
 * With several hosts one is used until it does not do the work (no connection, no answer in time, 502,
 * 503, 504), then the next one, at once.  Only when all of them have failed is it a failure to the caller,
 * who pauses.  A request that must not be carried out twice goes to another host only if the one before
 * has not seen it; else the caller is told, and its next request goes to the next host.
 *
 * All waiting is done here, in short slices with CHECK_FOR_INTERRUPTS between them, so that a worker
 * ends at once when asked to.  libcurl may start a thread to resolve a name: signals are blocked
 * whenever it runs, so that no handler of PostgreSQL's runs in that thread.
 */
#include "postgres.h"

#include <pthread.h>
#include <signal.h>

#include <curl/curl.h>
#include <zlib.h>

#include "miscadmin.h"
#include "pgstat.h"

#include "compat.h"
#include "elasticsearch_client.h"

/* what is shorter is not worth compressing */
#define LEAST_TO_COMPRESS 1024
/* quick rather than small: a bulk of like documents shrinks to about a tenth even so */
#define COMPRESSION_LEVEL 1
#define COMPRESSED_STEP (256 * 1024)
#define WAIT_SLICE_MS 50

/* ---------------------------------------------------------------- bodies */

/* fills client->compressed; zlib allocates by malloc and never throws */
static void
compress_body(Elasticsearch *client, const char *body, size_t length)
{
	StringInfo	out = &client->compressed;
	z_stream	stream = {0};
	int			result;

	/* 16 more for gzip's own header */
	if (deflateInit2(&stream, COMPRESSION_LEVEL, Z_DEFLATED, MAX_WBITS + 16, 8,
					 Z_DEFAULT_STRATEGY) != Z_OK)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	resetStringInfo(out);
	stream.next_in = (Bytef *) unconstify(char *, body);
	stream.avail_in = length;
	do
	{
		enlargeStringInfo(out, COMPRESSED_STEP);
		stream.next_out = (Bytef *) out->data + out->len;
		stream.avail_out = COMPRESSED_STEP;
		result = deflate(&stream, Z_FINISH);
		out->len += COMPRESSED_STEP - stream.avail_out;
	} while (result == Z_OK || result == Z_BUF_ERROR);
	deflateEnd(&stream);
	if (result != Z_STREAM_END)
		elog(ERROR, "zlib did not compress a request: %d", result);
}

static void
set_body(Elasticsearch *client, const char *body, size_t length)
{
	bool		compress = client->headers_of_gzip && length >= LEAST_TO_COMPRESS;

	if (compress)
	{
		compress_body(client, body, length);
		body = client->compressed.data;
		length = client->compressed.len;
	}
	curl_easy_setopt(client->easy, CURLOPT_HTTPHEADER,
					 compress ? client->headers_of_gzip : client->headers);
	curl_easy_setopt(client->easy, CURLOPT_POST, 1L);
	curl_easy_setopt(client->easy, CURLOPT_POSTFIELDS, body);
	curl_easy_setopt(client->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) length);
}

/* ---------------------------------------------------------------- one request to one host */

static const char *
current_url(const Elasticsearch *client)
{
	return list_nth(client->urls, client->current);
}

static void
with_signals_blocked(CURLM *multi, int *running)
{
	sigset_t	all;
	sigset_t	before;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	curl_multi_perform(multi, running);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* the request that is set up, to the current host */
static void
send_request(Elasticsearch *client)
{
	char	   *url = psprintf("%s%s", current_url(client), client->path.data);

	client->length = 0;
	client->error[0] = '\0';
	client->ended = false;
	client->finished = false;
	curl_easy_setopt(client->easy, CURLOPT_URL, url);
	pfree(url);
	if (curl_multi_add_handle(client->multi, client->easy) != CURLM_OK)
		elog(ERROR, "libcurl did not take a request");
	client->in_multi = true;
}

static void
begin_request(Elasticsearch *client, const char *method, const char *path, const char *body,
			  size_t length, bool repeatable)
{
	Assert(!client->in_multi);
	resetStringInfo(&client->path);
	appendStringInfoString(&client->path, path);
	resetStringInfo(&client->failures);
	client->repeatable = repeatable;
	client->may_come_late = false;
	client->hosts_left = list_length(client->urls) - 1;
	curl_easy_setopt(client->easy, CURLOPT_NOBODY, 0L);
	if (body)
		set_body(client, body, length);
	else
	{
		curl_easy_setopt(client->easy, CURLOPT_HTTPHEADER, client->headers);
		curl_easy_setopt(client->easy, CURLOPT_HTTPGET, 1L);
	}
	curl_easy_setopt(client->easy, CURLOPT_CUSTOMREQUEST, method);
	send_request(client);
	(void) elasticsearch_pump(client);
}

/* ---------------------------------------------------------------- fail-over */

static int
reply_status(Elasticsearch *client)
{
	long		status = 0;

	if (client->result == CURLE_OK)
		curl_easy_getinfo(client->easy, CURLINFO_RESPONSE_CODE, &status);
	return (int) status;
}

/* nobody behind this address does the work now; another host of the cluster may */
static bool
host_is_away(int status)
{
	return status == 0 || status == 502 || status == 503 || status == 504;
}

/* the host has not seen a byte of the request */
static bool
was_never_sent(Elasticsearch *client)
{
	curl_off_t	connected = 0;

	switch (client->result)
	{
		case CURLE_COULDNT_RESOLVE_HOST:
		case CURLE_COULDNT_CONNECT:
		case CURLE_SSL_CONNECT_ERROR:
		case CURLE_PEER_FAILED_VERIFICATION:
			return true;
		case CURLE_OPERATION_TIMEDOUT:
			curl_easy_getinfo(client->easy, CURLINFO_PRETRANSFER_TIME_T, &connected);
			return connected == 0;
		default:
			return false;
	}
}

static bool
is_mistrust(CURLcode result)
{
	return result == CURLE_PEER_FAILED_VERIFICATION || result == CURLE_SSL_CACERT_BADFILE ||
		result == CURLE_SSL_CERTPROBLEM || result == CURLE_BAD_FUNCTION_ARGUMENT;
}

bool
elasticsearch_may_come_late(const Elasticsearch *client)
{
	return client->may_come_late;
}

bool
elasticsearch_refuses_us(const Elasticsearch *client)
{
	return client->refuses_us;
}

/* what to do about a connection that failed, NULL when its error says all */
static const char *
advice_on_connection(const Elasticsearch *client)
{
	bool		is_tls = pg_strncasecmp(current_url(client), "https:", 6) == 0;

	switch (client->result)
	{
		case CURLE_PEER_FAILED_VERIFICATION:
			return "ca_pem or ca_file of the server names the authority that is trusted, url the host as its certificate does";
		case CURLE_SSL_CACERT_BADFILE:
			return "see ca_pem or ca_file of the server";
		case CURLE_SSL_CERTPROBLEM:
		case CURLE_BAD_FUNCTION_ARGUMENT:	/* a key that cannot be read, as later versions say */
			return "see certificate and key in the user mapping";
		case CURLE_SSL_CONNECT_ERROR:
			return "does that host speak https?";
		case CURLE_GOT_NOTHING:
		case CURLE_UNSUPPORTED_PROTOCOL:
			return is_tls ? NULL : "does that host speak https alone?";
		default:
			return NULL;
	}
}

static void
note_failure(Elasticsearch *client, int status)
{
	const char *advice = advice_on_connection(client);

	if (client->failures.len > 0)
		appendStringInfoString(&client->failures, "; ");
	if (list_length(client->urls) > 1)
		appendStringInfo(&client->failures, "%s: ", current_url(client));
	if (status > 0)
		appendStringInfo(&client->failures, "HTTP %d", status);
	else
		appendStringInfoString(&client->failures,
							   client->error[0] ? client->error : curl_easy_strerror(client->result));
	if (status == 0 && advice)
		appendStringInfo(&client->failures, " (%s)", advice);
}

/* the next request goes to the next host, and this one too if it may; whether it does */
static bool
fail_over(Elasticsearch *client)
{
	bool		again = client->hosts_left > 0 &&
		(client->repeatable || was_never_sent(client));

	if (client->left < 0)
		client->left = client->current;
	client->current = (client->current + 1) % list_length(client->urls);
	client->hosts_left--;
	return again;
}

/* another host has answered than did last time */
static void
tell_of_fail_over(Elasticsearch *client)
{
	int			left = client->left;

	client->left = -1;
	if (left < 0 || left == client->current)
		return;
	ereport(LOG,
			(errmsg("clickstream goes on with Elasticsearch at %s, as %s does not do the work now",
					current_url(client), (char *) list_nth(client->urls, left)),
			 client->failures.len > 0 ? errdetail("%s.", client->failures.data) : 0));
}

/* The transfer is over.  Whether the request is, too: else it is under way to the next host. */
static bool
request_is_over(Elasticsearch *client)
{
	int			status = reply_status(client);

	curl_multi_remove_handle(client->multi, client->easy);
	client->in_multi = false;
	client->first->refuses_us = status == 401 || status == 403 || is_mistrust(client->result);
	if (!host_is_away(status))
	{
		tell_of_fail_over(client);
		return true;
	}
	note_failure(client, status);
	client->may_come_late |= !was_never_sent(client);
	if (!fail_over(client))
		return true;
	send_request(client);
	return false;
}

/* ---------------------------------------------------------------- a request, as others see it */

void
elasticsearch_start(Elasticsearch *client, const char *method, const char *path, const char *body,
					size_t length)
{
	begin_request(client, method, path, body, length, true);
}

/* moves all requests that are under way side by side */
static void
move_transfers(CURLM *multi)
{
	CURLMsg    *message;
	int			running;
	int			left;

	with_signals_blocked(multi, &running);
	while ((message = curl_multi_info_read(multi, &left)) != NULL)
	{
		Elasticsearch *client = NULL;

		if (message->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **) &client);
		client->ended = true;
		client->result = message->data.result;
	}
}

bool
elasticsearch_pump(Elasticsearch *client)
{
	if (client->finished)
		return true;
	if (!client->ended)
		move_transfers(client->multi);
	while (client->ended && !client->finished)
	{
		client->ended = false;
		client->finished = request_is_over(client);
		if (!client->finished)
			move_transfers(client->multi);
	}
	return client->finished;
}

bool
elasticsearch_await(Elasticsearch *client, int ms)
{
	if (elasticsearch_pump(client))
		return true;
	pgstat_report_wait_start(compat_wait_event("ClickstreamElasticsearch"));
	curl_multi_poll(client->multi, NULL, 0, ms, NULL);
	pgstat_report_wait_end();
	CHECK_FOR_INTERRUPTS();
	return elasticsearch_pump(client);
}

void
elasticsearch_finish(Elasticsearch *client, ElasticsearchReply *reply)
{
	while (!elasticsearch_await(client, WAIT_SLICE_MS))
		;

	reply->status = reply_status(client);
	if (reply->status == 0)
	{
		reply->text = client->failures.data;
		reply->length = client->failures.len;
	}
	else
	{
		reply->text = client->length > 0 ? client->reply : "";
		reply->length = client->length;
	}
}

void
elasticsearch_ask(Elasticsearch *client, const char *method, const char *path, const char *body,
				  ElasticsearchReply *reply)
{
	begin_request(client, method, path, body, body ? strlen(body) : 0, strcmp(method, "GET") == 0);
	elasticsearch_finish(client, reply);
}

char *
elasticsearch_command(Elasticsearch *client, const char *method, const char *path, const char *body,
					  bool missing_is_well)
{
	ElasticsearchReply reply;

	elasticsearch_ask(client, method, path, body, &reply);
	if (reply.status == 200 || (missing_is_well && reply.status == 404))
		return NULL;
	return elasticsearch_error(&reply, NULL);
}

char *
elasticsearch_index_path(Elasticsearch *client, const char *index, const char *rest)
{
	char	   *escaped = curl_easy_escape(client->easy, index, 0);
	char	   *path;

	if (escaped == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	path = psprintf("/%s%s", escaped, rest);
	curl_free(escaped);
	return path;
}
