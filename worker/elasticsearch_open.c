/*
 * elasticsearch_open.c
 *		A client of Elasticsearch, made of a connection's options.
 *
 * Owns addresses, credentials, TLS and time-outs as libcurl wants them said.  Must never put a secret
 * into a message, and leaves no copy of one that it made.  libcurl's callbacks must not throw, so a reply
 * is gathered by malloc.
 */
#include "postgres.h"

#include "commands/defrem.h"
#include "common/base64.h"
#include "utils/memutils.h"

#include "compat.h"
#include "connection.h"
#include "elasticsearch_client.h"

#define DEFAULT_TIMEOUT_MS 60000
#define DEFAULT_IN_FLIGHT 2
#define CONNECT_TIMEOUT_MS 5000
#define LARGEST_REPLY ((size_t) 512 * 1024 * 1024)

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
