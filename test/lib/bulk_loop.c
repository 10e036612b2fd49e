/*
 * bulk_loop.c
 *		The least that sends documents to Elasticsearch: requests that lie ready, one after the other.
 *
 *	bulk_loop URL FILE BYTES		FILE: two lines a document, as _bulk takes them; a request grows to BYTES
 *
 * What test/bench/sink.t holds a sink against. Status 1 when a document was not taken.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <curl/curl.h>

static char *reply;
static size_t reply_length;

static size_t
take_reply(char *data, size_t size, size_t n, void *arg)
{
	(void) arg;
	reply = realloc(reply, reply_length + size * n + 1);
	if (reply == NULL)
		abort();
	memcpy(reply + reply_length, data, size * n);
	reply_length += size * n;
	reply[reply_length] = '\0';
	return size * n;
}

static int
send_request(CURL *curl, const char *body, size_t length)
{
	long		status = 0;

	reply_length = 0;
	curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) length);
	curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
	if (curl_easy_perform(curl) != CURLE_OK)
		return 0;
	curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
	return status == 200 && strstr(reply, "\"errors\":false") != NULL;
}

static char *
read_file(const char *name, size_t *length)
{
	FILE	   *file = fopen(name, "r");
	char	   *text;

	if (file == NULL || fseek(file, 0, SEEK_END) != 0)
		return NULL;
	*length = (size_t) ftell(file);
	rewind(file);
	text = malloc(*length + 1);
	if (text == NULL || fread(text, 1, *length, file) != *length)
		return NULL;
	fclose(file);
	return text;
}

/* the end of the last document that begins within so many bytes */
static size_t
request_length(const char *from, size_t left, size_t bytes)
{
	size_t		at = 0;

	while (at < left && at < bytes)
		for (int line = 0; line < 2; line++)
			at += (size_t) ((const char *) memchr(from + at, '\n', left - at) - (from + at)) + 1;
	return at;
}

int
main(int argc, char **argv)
{
	struct curl_slist *headers = NULL;
	size_t		length,
				at = 0;
	char	   *text;
	CURL	   *curl;

	if (argc != 4 || (text = read_file(argv[2], &length)) == NULL)
		return 2;
	curl_global_init(CURL_GLOBAL_ALL);
	curl = curl_easy_init();
	headers = curl_slist_append(headers, "Content-Type: application/x-ndjson");
	headers = curl_slist_append(headers, "Expect:");
	curl_easy_setopt(curl, CURLOPT_URL, argv[1]);
	curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_reply);
	while (at < length)
	{
		size_t		n = request_length(text + at, length - at, strtoul(argv[3], NULL, 10));

		if (!send_request(curl, text + at, n))
			return 1;
		at += n;
	}
	return 0;
}
