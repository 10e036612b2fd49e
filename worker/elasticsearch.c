/*
 * elasticsearch.c
 *		Requests to one Elasticsearch cluster through libcurl, and what an answer means.
 *
 * Owns the connection: addresses and their fail-over, credentials, TLS, time-outs.  Must never
 * follow a redirect, talk to a host that the server object does not name, or put a secret into a
 * message.  Called by bulk.c for documents and by sink_index.c for indexes.
 *
 * With several hosts one is used until it does not do the work (no connection, no answer in time, 502,
 * 503, 504), then the next one, at once.  Only when all of them have failed is it a failure to the caller,
 * who pauses.  A request that must not be carried out twice goes to another host only if the one before
 * has not seen it; else the caller is told, and its next request goes to the next host.
 *
 * All waiting is done here, in short slices with CHECK_FOR_INTERRUPTS between them, so that a worker
 * ends at once when asked to.  libcurl may start a thread to resolve a name: signals are blocked
 * whenever it runs, so that no handler of PostgreSQL's runs in that thread.  Its callbacks must not
 * throw, so a reply is gathered by malloc.
 */
#include "postgres.h"

#include <pthread.h>
#include <signal.h>

#include <curl/curl.h>
#include <jansson.h>
#include <zlib.h>

#include "commands/defrem.h"
#include "common/base64.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/memutils.h"

#include "compat.h"
#include "connection.h"
#include "elasticsearch.h"

#define DEFAULT_TIMEOUT_MS 60000
#define DEFAULT_IN_FLIGHT 2
/* what is shorter is not worth compressing */
#define LEAST_TO_COMPRESS 1024
/* quick rather than small: a bulk of like documents shrinks to about a tenth even so */
#define COMPRESSION_LEVEL 1
#define COMPRESSED_STEP (256 * 1024)
#define CONNECT_TIMEOUT_MS 5000
#define WAIT_SLICE_MS 50
#define LARGEST_REPLY ((size_t) 512 * 1024 * 1024)

struct Elasticsearch
{
	List	   *urls;			/* of char *, without a slash at the end */
	int			current;		/* the one in use */
	int			left;			/* the one that answered before it, if that is still to be told; else -1 */
	StringInfoData path;		/* of the request under way */
	bool		repeatable;		/* it may reach two hosts and no harm is done */
	int			hosts_left;		/* that it has not been sent to */
	StringInfoData failures;	/* of the hosts that it was sent to, for people */
	MemoryContext context;		/* all of this */
	CURLM	   *multi;			/* one for all that work side by side; the first of them owns it */
	CURL	   *easy;
	struct curl_slist *headers; /* the first one's, too */
	struct curl_slist *headers_of_gzip; /* the same, and one that says so; NULL: bodies go as they are */
	StringInfoData compressed;	/* the body of the request under way */
	int			in_flight;		/* what bulks are to have at a time */
	struct Elasticsearch *first;	/* of those side by side; maybe this one */
	bool		refuses_us;		/* of the first: the last answer to any; see elasticsearch_refuses_us */
	bool		in_multi;		/* a request is under way */
	bool		ended;			/* its transfer is over, and nobody has looked at it yet */
	bool		finished;
	CURLcode	result;
	char		error[CURL_ERROR_SIZE];
	char	   *reply;			/* by malloc */
	size_t		length;
	size_t		size;
	MemoryContextCallback cleanup;
};

/* ---------------------------------------------------------------- opening and closing */

static void
close_client(void *arg)
{
	Elasticsearch *client = arg;

	if (client->in_multi)
		curl_multi_remove_handle(client->multi, client->easy);
	if (client->easy)
		curl_easy_cleanup(client->easy);
	if (client->first == client && client->multi)
		curl_multi_cleanup(client->multi);
	if (client->first == client)
	{
		curl_slist_free_all(client->headers);
		curl_slist_free_all(client->headers_of_gzip);
	}
	free(client->reply);
}

static const char *
option(List *options, const char *name)
{
	ListCell   *cell;

	foreach(cell, options)
	{
		DefElem    *element = lfirst(cell);

		if (strcmp(element->defname, name) == 0)
			return defGetString(element);
	}
	return NULL;
}

/* "http://a:9200/, http://b:9200/es" */
static List *
split_urls(const char *text)
{
	List	   *urls = NIL;
	char	   *copy = pstrdup(text);
	char	   *position = NULL;
	char	   *url;

	for (url = strtok_r(copy, ", ", &position); url; url = strtok_r(NULL, ", ", &position))
	{
		size_t		length = strlen(url);

		while (length > 0 && url[length - 1] == '/')
			url[--length] = '\0';
		urls = lappend(urls, url);
	}
	return urls;
}

/* libcurl must not throw: what does not fit ends the transfer with an error of its own */
static size_t
take_reply(char *data, size_t one, size_t n, void *arg)
{
	Elasticsearch *client = arg;
	size_t		length = one * n;

	if (client->length + length + 1 > client->size)
	{
		size_t		size = Max(client->size * 2, client->length + length + 1);
		char	   *larger;

		if (size > LARGEST_REPLY || (larger = realloc(client->reply, size)) == NULL)
			return 0;
		client->reply = larger;
		client->size = size;
	}
	memcpy(client->reply + client->length, data, length);
	client->length += length;
	client->reply[client->length] = '\0';
	return length;
}

static void
append_header(struct curl_slist **headers, const char *header)
{
	struct curl_slist *list = curl_slist_append(*headers, header);

	if (list == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	*headers = list;
}

static void
add_header(Elasticsearch *client, const char *header)
{
	append_header(&client->headers, header);
}

static void
set_compression(Elasticsearch *client, List *options)
{
	const char *compression = option(options, "compression");
	struct curl_slist *header;

	if (compression == NULL || strcmp(compression, "gzip") != 0)
		return;
	for (header = client->headers; header; header = header->next)
		append_header(&client->headers_of_gzip, header->data);
	append_header(&client->headers_of_gzip, "Content-Encoding: gzip");
}

/* "id:api_key" is what people are shown first, "encoded" what the header wants */
static char *
encoded_key(const char *api_key)
{
	int			length = strlen(api_key);
	int			size = pg_b64_enc_len(length) + 1;
	char	   *encoded;

	if (strchr(api_key, ':') == NULL)
		return pstrdup(api_key);
	encoded = palloc0(size);
	if (compat_b64_encode(api_key, length, encoded, size - 1) < 0)
		elog(ERROR, "an API key could not be encoded");
	return encoded;
}

static void
set_api_key(Elasticsearch *client, const char *api_key)
{
	char	   *encoded = encoded_key(api_key);
	char	   *header = psprintf("Authorization: ApiKey %s", encoded);

	add_header(client, header);
	explicit_bzero(header, strlen(header));
	explicit_bzero(encoded, strlen(encoded));
	pfree(header);
	pfree(encoded);
}

static void
set_credentials(Elasticsearch *client, List *options)
{
	const char *api_key = option(options, "api_key");
	const char *username = option(options, "username");
	const char *password = option(options, "password");

	if (api_key)
		set_api_key(client, api_key);
	else if (username)
	{
		curl_easy_setopt(client->easy, CURLOPT_HTTPAUTH, (long) CURLAUTH_BASIC);
		curl_easy_setopt(client->easy, CURLOPT_USERNAME, username);
		curl_easy_setopt(client->easy, CURLOPT_PASSWORD, password ? password : "");
	}
}

/* where what libcurl has to say goes */
static void
set_owner(Elasticsearch *client)
{
	curl_easy_setopt(client->easy, CURLOPT_ERRORBUFFER, client->error);
	curl_easy_setopt(client->easy, CURLOPT_WRITEDATA, client);
	curl_easy_setopt(client->easy, CURLOPT_PRIVATE, client);
}

static void
check_taken(CURLcode result, const char *name)
{
	if (result != CURLE_OK)
		ereport(ERROR,
				(errcode(result == CURLE_OUT_OF_MEMORY ? ERRCODE_OUT_OF_MEMORY :
						 ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("libcurl does not take the option \"%s\": %s", name,
						curl_easy_strerror(result))));
}

/* a file's name or its text, whichever was given */
static void
set_pem(Elasticsearch *client, List *options, const char *thing, CURLoption of_file,
		CURLoption of_text)
{
	char	   *file_name = psprintf("%s_file", thing);
	char	   *text_name = psprintf("%s_pem", thing);
	const char *file = option(options, file_name);
	const char *text = option(options, text_name);
	struct curl_blob blob = {.flags = CURL_BLOB_COPY};

	if (file)
		check_taken(curl_easy_setopt(client->easy, of_file, file), file_name);
	if (text)
	{
		blob.data = unconstify(char *, text);
		blob.len = strlen(text);
		check_taken(curl_easy_setopt(client->easy, of_text, &blob), text_name);
	}
}

/* The authorities of the system are trusted unless the server names its own. */
static void
set_tls(Elasticsearch *client, List *options)
{
	const char *key_password = option(options, "key_password");

	curl_easy_setopt(client->easy, CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
	if (option(options, "ca_file") || option(options, "ca_pem"))
	{
		curl_easy_setopt(client->easy, CURLOPT_CAPATH, NULL);
		curl_easy_setopt(client->easy, CURLOPT_CAINFO, NULL);
	}
	set_pem(client, options, "ca", CURLOPT_CAINFO, CURLOPT_CAINFO_BLOB);
	set_pem(client, options, "certificate", CURLOPT_SSLCERT, CURLOPT_SSLCERT_BLOB);
	set_pem(client, options, "key", CURLOPT_SSLKEY, CURLOPT_SSLKEY_BLOB);
	if (key_password)
		check_taken(curl_easy_setopt(client->easy, CURLOPT_KEYPASSWD, key_password), "key_password");
}

static void
set_options(Elasticsearch *client, List *options)
{
	CURL	   *easy = client->easy;
	const char *timeout = option(options, "timeout");
	int			timeout_ms = DEFAULT_TIMEOUT_MS;

	if (timeout)
		timeout_ms = connection_duration_ms(timeout);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(easy, CURLOPT_PROXY, "");	/* whatever the server's environment says */
	curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
	curl_easy_setopt(easy, CURLOPT_NETRC, (long) CURL_NETRC_IGNORED);
	curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long) timeout_ms);
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long) Min(CONNECT_TIMEOUT_MS, timeout_ms));
	curl_easy_setopt(easy, CURLOPT_TCP_NODELAY, 1L);
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, 1048576L);
	curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, "");
	curl_easy_setopt(easy, CURLOPT_USERAGENT, "clickstream");
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_reply);
	set_owner(client);
	set_tls(client, options);
	set_credentials(client, options);
	add_header(client, "Expect:");
	add_header(client, "Content-Type: application/json");
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, client->headers);
	set_compression(client, options);
}

/* of no use yet, but closed with its context */
static Elasticsearch *
make_client(MemoryContext context)
{
	MemoryContext old = MemoryContextSwitchTo(context);
	Elasticsearch *client = palloc0(sizeof(Elasticsearch));

	client->context = context;
	client->cleanup.func = close_client;
	client->cleanup.arg = client;
	MemoryContextRegisterResetCallback(context, &client->cleanup);

	client->left = -1;
	initStringInfo(&client->path);
	initStringInfo(&client->failures);
	initStringInfo(&client->compressed);
	MemoryContextSwitchTo(old);
	return client;
}

Elasticsearch *
elasticsearch_open(List *options)
{
	Elasticsearch *client = make_client(CurrentMemoryContext);
	const char *url = option(options, "url");
	const char *in_flight = option(options, "max_in_flight");

	client->first = client;
	client->in_flight = in_flight ? atoi(in_flight) : DEFAULT_IN_FLIGHT;
	client->urls = url ? split_urls(url) : NIL;
	if (client->urls == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_OPTION_NAME_NOT_FOUND),
				 errmsg("the server has no url"),
				 errhint("Run ALTER SERVER … OPTIONS (ADD url 'http://host:9200').")));

	if (curl_global_init(CURL_GLOBAL_DEFAULT) != 0 ||
		(client->multi = curl_multi_init()) == NULL ||
		(client->easy = curl_easy_init()) == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("libcurl could not be started")));
	set_options(client, options);
	return client;
}

/* its callbacks run before the first one's, which was made before: the multi handle is still there */
Elasticsearch *
elasticsearch_beside(Elasticsearch *first)
{
	Elasticsearch *client = make_client(first->context);

	client->first = first;
	client->urls = first->urls;
	client->current = first->current;
	client->multi = first->multi;
	client->headers = first->headers;
	client->headers_of_gzip = first->headers_of_gzip;
	if ((client->easy = curl_easy_duphandle(first->easy)) == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("libcurl could not be started")));
	set_owner(client);
	return client;
}

int
elasticsearch_in_flight(const Elasticsearch *client)
{
	return client->in_flight;
}

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
		result == CURLE_SSL_CERTPROBLEM;
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

/* ---------------------------------------------------------------- what an answer means */

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
