/*
 * sponge: stands in front of an Elasticsearch, hands on all requests but bulks, and soaks those up: it answers that
 * all is well and keeps nothing, or, given a file, the bodies as they came. So what a sink worker does can be measured
 * without the cost of an index, and its documents can be sent again by others.
 *
 *	sponge LISTEN_PORT TARGET_PORT [FILE]      both ports on loopback
 *	sponge LISTEN_PORT TARGET_PORT through     hands on bulks, too
 *
 * On standard output it writes a line for each bulk: the encoding of its body ("plain", "gzip") and its length.
 * Ends with its standard input. A thread a connection. Called by test/bench/sink.t and test/tap/sink_bulk.t.
 */
#include <arpa/inet.h>
#include <err.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#define ALL_WELL "{\"errors\":false,\"took\":0,\"items\":[]}"

static int	target_port;
static int	file = -1;
static bool through;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static struct sockaddr_in
loopback(int port)
{
	return (struct sockaddr_in) {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

typedef struct Request
{
	char		head[64 * 1024];
	size_t		head_length;	/* up to and with the empty line */
	size_t		taken;			/* bytes in head; those behind the empty line are the body's first */
	size_t		body_length;
	char	   *body;
} Request;

static bool
write_all(int fd, const char *data, size_t length)
{
	while (length > 0)
	{
		ssize_t		n = write(fd, data, length);

		if (n <= 0)
			return false;
		data += n;
		length -= n;
	}
	return true;
}

static const char *
header(const Request *request, const char *name)
{
	const char *line = strstr(request->head, "\r\n");
	size_t		length = strlen(name);

	for (; line && line[2] != '\r'; line = strstr(line + 2, "\r\n"))
		if (strncasecmp(line + 2, name, length) == 0)
			return line + 2 + length;
	return NULL;
}

static bool
read_head(int fd, Request *request)
{
	char	   *end;

	request->taken = 0;
	request->head[0] = '\0';
	while ((end = strstr(request->head, "\r\n\r\n")) == NULL)
	{
		ssize_t		n = read(fd, request->head + request->taken, sizeof(request->head) - 1 - request->taken);

		if (n <= 0)
			return false;
		request->taken += n;
		request->head[request->taken] = '\0';
	}
	request->head_length = end + 4 - request->head;
	return true;
}

static bool
read_request(int fd, Request *request)
{
	const char *length;
	size_t		n;

	if (!read_head(fd, request))
		return false;
	length = header(request, "content-length:");
	request->body_length = length ? strtoull(length, NULL, 10) : 0;
	request->body = realloc(request->body, request->body_length + 1);
	n = request->taken - request->head_length;
	memcpy(request->body, request->head + request->head_length, n);
	while (n < request->body_length)
	{
		ssize_t		got = read(fd, request->body + n, request->body_length - n);

		if (got <= 0)
			return false;
		n += got;
	}
	return true;
}

/* one connection for one request: its end is the end of the reply */
static void
hand_on(int client, Request *request)
{
	static const char last[] = "Connection: close\r\n\r\n";
	char		reply[64 * 1024];
	struct sockaddr_in address = loopback(target_port);
	int			server = socket(AF_INET, SOCK_STREAM, 0);
	ssize_t		n;

	if (connect(server, (struct sockaddr *) &address, sizeof address) == 0 &&
		write_all(server, request->head, request->head_length - 2) &&
		write_all(server, last, sizeof(last) - 1) &&
		write_all(server, request->body, request->body_length))
		while ((n = read(server, reply, sizeof reply)) > 0)
			write_all(client, reply, n);
	close(server);
}

static bool
is_bulk(const Request *request)
{
	const char *end = strstr(request->head, "\r\n");
	const char *word = strstr(request->head, "/_bulk");

	return word && word < end;
}

static void
note_bulk(const Request *request)
{
	const char *encoding = header(request, "content-encoding:");

	pthread_mutex_lock(&lock);
	printf("%s %zu\n", encoding ? "gzip" : "plain", request->body_length);
	fflush(stdout);
	if (file >= 0 && !write_all(file, request->body, request->body_length))
		err(1, "file");
	pthread_mutex_unlock(&lock);
}

static void *
serve(void *arg)
{
	int			client = (int) (long) arg;
	Request    *request = calloc(1, sizeof(Request));
	char		reply[200];
	int			length = snprintf(reply, sizeof reply, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
								  "content-length: %zu\r\n\r\n%s", strlen(ALL_WELL), ALL_WELL);

	while (read_request(client, request))
	{
		if (is_bulk(request))
			note_bulk(request);
		if (!is_bulk(request) || through)
		{
			hand_on(client, request);
			break;
		}
		if (!write_all(client, reply, length))
			break;
	}
	close(client);
	free(request->body);
	free(request);
	return NULL;
}

static void *
end_with_input(void *arg)
{
	char		byte;

	while (read(0, &byte, 1) > 0)
		;
	exit(0);
}

int
main(int argc, char **argv)
{
	struct sockaddr_in address;
	int			listener = socket(AF_INET, SOCK_STREAM, 0);
	pthread_t	thread;

	if (argc < 3)
		errx(1, "usage: sponge LISTEN_PORT TARGET_PORT [FILE | through]");
	signal(SIGPIPE, SIG_IGN);
	target_port = atoi(argv[2]);
	through = argc > 3 && strcmp(argv[3], "through") == 0;
	if (argc > 3 && !through && (file = open(argv[3], O_WRONLY | O_CREAT | O_TRUNC, 0600)) < 0)
		err(1, "%s", argv[3]);
	address = loopback(atoi(argv[1]));
	if (setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &(int) {1}, sizeof(int)) < 0 ||
		bind(listener, (struct sockaddr *) &address, sizeof address) < 0 || listen(listener, 100) < 0)
		err(1, "port %s", argv[1]);
	pthread_create(&thread, NULL, end_with_input, NULL);
	printf("ready\n");
	fflush(stdout);
	for (;;)
	{
		long		client = accept(listener, NULL, NULL);

		if (client >= 0 && pthread_create(&thread, NULL, serve, (void *) client) == 0)
			pthread_detach(thread);
	}
}
