/*
 * bulk_loop: sends documents that lie ready in a file to a _bulk address, as fast as one connection of libcurl can, one
 * request after the other: what a sink is measured against.
 *
 *	bulk_loop URL FILE BYTES      FILE: pairs of lines, an action and its document; BYTES: of a request, at least
 *
 * Prints the seconds from the first request to the last answer. Called by test/bench/sink.t.
 */
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <fcntl.h>
#include <time.h>
#include <curl/curl.h>

static char answer[1024];
static size_t answer_length;

/* the beginning is enough: whether there were errors stands there */
static size_t
take(char *data, size_t one, size_t n, void *arg)
{
	size_t		room = sizeof(answer) - 1 - answer_length;
	size_t		length = one * n < room ? one * n : room;

	memcpy(answer + answer_length, data, length);
	answer_length += length;
	answer[answer_length] = '\0';
	return one * n;
}

static const char *
after_two_lines(const char *from, const char *end)
{
	for (int i = 0; i < 2; i++)
	{
		from = memchr(from, '\n', end - from);
		if (from == NULL)
			errx(1, "the file ends within a line");
		from++;
	}
	return from;
}

static void
send_part(CURL *curl, const char *from, size_t length)
{
	long		status = 0;
	CURLcode	code;

	answer_length = 0;
	curl_easy_setopt(curl, CURLOPT_POSTFIELDS, from);
	curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) length);
	if ((code = curl_easy_perform(curl)) != CURLE_OK)
		errx(1, "%s", curl_easy_strerror(code));
	curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
	if (status != 200 || strstr(answer, "\"errors\":false") == NULL)
		errx(1, "status %ld: %s", status, answer);
}

int
main(int argc, char **argv)
{
	CURL	   *curl = curl_easy_init();
	struct curl_slist *headers = curl_slist_append(curl_slist_append(NULL, "Content-Type: application/json"), "Expect:");
	struct stat about;
	struct timespec start, end;
	const char *data, *next, *from;
	int			fd;

	if (argc != 4 || (fd = open(argv[2], O_RDONLY)) < 0 || fstat(fd, &about) < 0 ||
		(data = mmap(NULL, about.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0)) == MAP_FAILED)
		err(1, "usage: bulk_loop URL FILE BYTES");
	curl_easy_setopt(curl, CURLOPT_URL, argv[1]);
	curl_easy_setopt(curl, CURLOPT_POST, 1L);
	curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take);
	curl_easy_setopt(curl, CURLOPT_UPLOAD_BUFFERSIZE, 1048576L);
	clock_gettime(CLOCK_MONOTONIC, &start);
	for (from = next = data; next < data + about.st_size;)
	{
		next = after_two_lines(next, data + about.st_size);
		if (next - from < atol(argv[3]) && next < data + about.st_size)
			continue;
		send_part(curl, from, next - from);
		from = next;
	}
	clock_gettime(CLOCK_MONOTONIC, &end);
	printf("%.3f\n", end.tv_sec - start.tv_sec + (end.tv_nsec - start.tv_nsec) / 1e9);
	return 0;
}
