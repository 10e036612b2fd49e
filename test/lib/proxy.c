/*
 * proxy: stands between a worker and its broker or Elasticsearch, and does to their connections what
 * networks and reverse proxies do.
 *
 *	proxy LISTEN_PORT TARGET_PORT SEED [http]      both ports on loopback; the last three commands need "http"
 *
 * Takes commands from standard input, a line each, and answers "ok" when they are in force; ends with it.
 *	pass            hand on everything, as at the start
 *	refuse          connections end with RST, and new ones are refused, until `pass`
 *	stall           nothing is handed on until another command; new connections are accepted and stay silent
 *	slow N          N bytes a second in each direction, all connections together
 *	storm STATUS P  of HTTP requests, P percent are answered with STATUS and never handed on
 *	lose P          of HTTP requests, P percent are handed on, but in place of the reply comes RST
 *	swallow P       ... are handed on, and no reply ever comes
 * and these, which leave the mode as it is (the last two for HTTP):
 *	cut             each connection ends with RST
 *	abandon         half-open: what is connected now never hears anything again; new connections do
 *	hold N          the next N requests for /_bulk, of less than 256 kB, are kept, also when their clients hang up ...
 *	release         ... and handed on now; in force when they are answered
 *
 * Owns no knowledge of Kafka; of HTTP only where a request ends. Called by Proxy.pm.
 */
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MOST_PAIRS 1000
#define TICKS 50				/* a second, when slow */

typedef enum Mode
{
	PASS, REFUSE, STALL, SLOW, STORM, LOSE, SWALLOW
} Mode;

/* what becomes of the request at hand */
typedef enum Fate
{
	HAND_ON, ANSWER, RESET_AT_REPLY, NO_REPLY, HELD
} Fate;

typedef struct Stream
{
	char		data[256 * 1024];
	size_t		start,
				end;
	bool		ended;			/* the reading side is at its end */
} Stream;

typedef struct Pair
{
	int			client,
				server;
	bool		abandoned;
	Stream		up,
				down;
	size_t		left;			/* bytes of the request at hand that are still to come or go */
	Fate		fate;
} Pair;

static Pair *pairs[MOST_PAIRS];
static int	n_pairs;
static int	listener = -1;
static int	listen_port,
			target_port;
static Mode mode = PASS;
static bool http;
static int	number,				/* of the command: bytes a second, or percent */
			status;
static int	to_hold;			/* requests that are to be kept */
static long allowed[2];			/* bytes until the next tick, up and down */

static struct sockaddr_in
loopback(int port)
{
	return (struct sockaddr_in) {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static void
open_listener(void)
{
	struct sockaddr_in address = loopback(listen_port);

	if (listener >= 0)
		return;
	if ((listener = socket(AF_INET, SOCK_STREAM, 0)) < 0 ||
		setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &(int) {1}, sizeof(int)) < 0 ||
		bind(listener, (struct sockaddr *) &address, sizeof address) < 0 || listen(listener, 100) < 0)
		err(1, "port %d", listen_port);
}

static void
close_listener(void)
{
	if (listener >= 0)
		close(listener);
	listener = -1;
}

/* with RST in place of FIN */
static void
reset(int fd)
{
	if (fd < 0)
		return;
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger) {.l_onoff = 1}, sizeof(struct linger));
	close(fd);
}

static void
end_pair(int i, bool by_reset)
{
	Pair	   *pair = pairs[i];

	if (by_reset)
		reset(pair->client);
	else
		close(pair->client);
	if (pair->server >= 0)
		close(pair->server);
	free(pair);
	pairs[i] = pairs[--n_pairs];
}

static void
cut_all(void)
{
	while (n_pairs > 0)
		end_pair(n_pairs - 1, true);
}

static void
abandon_all(void)
{
	for (int i = 0; i < n_pairs; i++)
	{
		if (!pairs[i]->abandoned)
			close(pairs[i]->server);
		pairs[i]->server = -1;
		pairs[i]->abandoned = true;
	}
}

static void
accept_one(void)
{
	struct sockaddr_in target = loopback(target_port);
	int			client = accept(listener, NULL, NULL);
	int			server;

	if (client < 0)
		return;
	server = socket(AF_INET, SOCK_STREAM, 0);
	if (n_pairs == MOST_PAIRS || connect(server, (struct sockaddr *) &target, sizeof target) < 0)
	{
		reset(client);
		close(server);
		return;
	}
	fcntl(client, F_SETFL, O_NONBLOCK);
	fcntl(server, F_SETFL, O_NONBLOCK);
	if ((pairs[n_pairs] = calloc(1, sizeof(Pair))) == NULL)
		errx(1, "out of memory");
	pairs[n_pairs]->client = client;
	pairs[n_pairs++]->server = server;
}

/* ---------------------------------------------------------------- bytes */

/* false when the connection is broken */
static bool
read_into(Stream *stream, int fd)
{
	ssize_t		n;

	if (stream->start == stream->end)
		stream->start = stream->end = 0;
	else if (stream->start > 0 && stream->end == sizeof stream->data)
	{
		memmove(stream->data, stream->data + stream->start, stream->end - stream->start);
		stream->end -= stream->start;
		stream->start = 0;
	}
	n = read(fd, stream->data + stream->end, sizeof stream->data - stream->end);
	if (n > 0)
		stream->end += n;
	else if (n == 0)
		stream->ended = true;
	return n >= 0 || errno == EAGAIN || errno == EINTR;
}

static bool
write_from(Stream *stream, int fd, size_t most, int direction)
{
	size_t		length = stream->end - stream->start;
	ssize_t		n;

	if (length > most)
		length = most;
	if (mode == SLOW && (long) length > allowed[direction])
		length = allowed[direction] > 0 ? allowed[direction] : 0;
	if (length == 0)
		return true;
	n = send(fd, stream->data + stream->start, length, MSG_NOSIGNAL);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	stream->start += n;
	allowed[direction] -= n;
	return true;
}

/* ---------------------------------------------------------------- requests */

static Fate
draw_fate(void)
{
	if ((mode != STORM && mode != LOSE && mode != SWALLOW) || random() % 100 >= number)
		return HAND_ON;
	return mode == STORM ? ANSWER : mode == LOSE ? RESET_AT_REPLY : NO_REPLY;
}

/* at the start of a request: how long it is, once its header is there */
static void
begin_request(Pair *pair)
{
	Stream	   *up = &pair->up;
	char	   *head = up->data + up->start;
	size_t		length = up->end - up->start;
	char	   *end = memmem(head, length, "\r\n\r\n", 4);
	static const char name[] = "\r\ncontent-length:";

	if (end == NULL)
		return;
	pair->left = end + 4 - head;
	for (char *p = head; p + sizeof name <= end; p++)
		if (strncasecmp(p, name, sizeof name - 1) == 0)
			pair->left += strtoul(p + sizeof name - 1, NULL, 10);
	pair->fate = draw_fate();
	if (to_hold > 0 && memmem(head, end - head, "/_bulk", 6) != NULL)
	{
		pair->fate = HELD;
		to_hold--;
	}
}

static bool
answer(Pair *pair)
{
	char		reply[512];
	int			n = snprintf(reply, sizeof reply,
							 "HTTP/1.1 %d Storm\r\nContent-Type: text/html\r\nContent-Length: 19\r\n\r\n<html>storm</html>\n", status);

	pair->fate = HAND_ON;
	return send(pair->client, reply, n, MSG_NOSIGNAL) == n;
}

/* as much of the requests as there is and as the server takes */
static bool
hand_up(Pair *pair)
{
	Stream	   *up = &pair->up;

	if (!http)
		return write_from(up, pair->server, up->end - up->start, 0);
	while (up->end > up->start)
	{
		size_t		before = up->end - up->start,
					gone;

		if (pair->left == 0)
			begin_request(pair);
		if (pair->left == 0 || pair->fate == HELD)
			return true;
		if (pair->fate == ANSWER)
			up->start += before < pair->left ? before : pair->left;
		else if (!write_from(up, pair->server, pair->left, 0))
			return false;
		gone = before - (up->end - up->start);
		if (gone == 0)
			return true;
		pair->left -= gone;
		if (pair->left == 0 && pair->fate == ANSWER && !answer(pair))
			return false;
	}
	return true;
}

static bool
hand_down(Pair *pair)
{
	Stream	   *down = &pair->down;
	size_t		length = down->end - down->start;
	bool		interim = length >= 12 && memcmp(down->data + down->start, "HTTP/1.1 100", 12) == 0;

	if (length > 0 && pair->fate == RESET_AT_REPLY && !interim)
		return false;
	if (pair->fate == NO_REPLY && !interim)
		down->start = down->end = 0;
	return write_from(down, pair->client, sizeof down->data, 1);
}

/* ---------------------------------------------------------------- the loop */

static bool
at_end(const Stream *stream)
{
	return stream->ended && stream->start == stream->end;
}

/* false when it is over */
static bool
serve(Pair *pair, short client_events, short server_events)
{
	if (client_events & (POLLIN | POLLHUP | POLLERR) && !read_into(&pair->up, pair->client))
	{
		if (pair->fate != HELD)
			return false;
		pair->up.ended = true;
	}
	if (server_events & (POLLIN | POLLHUP | POLLERR) && !read_into(&pair->down, pair->server))
		return false;
	return hand_up(pair) && hand_down(pair) && !at_end(&pair->up) && !at_end(&pair->down);
}

/* without anything to wait for it is left out, or a peer that hung up would wake us again and again */
static struct pollfd
wanted(int fd, const Stream *in, const Stream *out)
{
	bool		room = in->end < sizeof in->data || in->start > 0;
	short		events = (room && !in->ended ? POLLIN : 0) | (mode != SLOW && out->end > out->start ? POLLOUT : 0);

	return (struct pollfd) {.fd = events != 0 ? fd : -1, .events = events};
}

static void
allow_more(void)
{
	static double last;
	struct timespec t;
	double		now;

	clock_gettime(CLOCK_MONOTONIC, &t);
	now = t.tv_sec + t.tv_nsec / 1e9;
	if (now - last < 1.0 / TICKS)
		return;
	last = now;
	allowed[0] = allowed[1] = number / TICKS;
}

/* a client that has hung up hears nothing of the answer */
static void
release_all(void)
{
	for (int i = n_pairs - 1; i >= 0; i--)
	{
		Pair	   *pair = pairs[i];
		struct pollfd server = {.fd = pair->server, .events = POLLIN};

		if (pair->fate != HELD)
			continue;
		if (pair->up.end - pair->up.start < pair->left)
			errx(1, "a request that is held is too long, or was cut short");
		fcntl(pair->server, F_SETFL, 0);
		if (send(pair->server, pair->up.data + pair->up.start, pair->left, MSG_NOSIGNAL) != (ssize_t) pair->left ||
			poll(&server, 1, 60000) != 1)
			errx(1, "a request that was held is not answered");
		end_pair(i, false);
	}
}

static void
obey(char *line)
{
	char		word[32] = "";
	int			a = 0,
				b = 0;

	sscanf(line, "%31s %d %d", word, &a, &b);
	if (strcmp(word, "cut") == 0)
		cut_all();
	else if (strcmp(word, "abandon") == 0)
		abandon_all();
	else if (strcmp(word, "hold") == 0)
		to_hold = a;
	else if (strcmp(word, "release") == 0)
		release_all();
	else
	{
		static const char *const names[] = {"pass", "refuse", "stall", "slow", "storm", "lose", "swallow"};
		int			which = 0;

		while (strcmp(word, names[which]) != 0)
			if (++which > SWALLOW)
				errx(1, "no such command: %s", word);
		mode = which;
		number = mode == STORM ? b : a;
		status = a;
		if (mode == REFUSE)
		{
			close_listener();
			cut_all();
		}
		else
			open_listener();
	}
	puts("ok");
	fflush(stdout);
}

static void
read_command(void)
{
	static char line[256];
	static size_t length;
	ssize_t		n = read(0, line + length, sizeof line - 1 - length);
	char	   *end;

	if (n <= 0)
		exit(0);
	length += n;
	line[length] = '\0';
	while ((end = strchr(line, '\n')) != NULL)
	{
		*end = '\0';
		obey(line);
		length -= end + 1 - line;
		memmove(line, end + 1, length + 1);
	}
}

static void
run_once(void)
{
	struct pollfd fds[2 + 2 * MOST_PAIRS] = {{.fd = 0, .events = POLLIN}, {.fd = listener, .events = POLLIN}};
	int			n = mode == STALL ? 0 : n_pairs;

	for (int i = 0; i < n; i++)
	{
		Pair	   *pair = pairs[i];
		int			client = pair->abandoned ? -1 : pair->client;

		fds[2 + 2 * i] = wanted(client, &pair->up, &pair->down);
		fds[3 + 2 * i] = wanted(pair->server, &pair->down, &pair->up);
	}
	if (poll(fds, 2 + 2 * n, mode == SLOW ? 1000 / TICKS : -1) < 0 && errno != EINTR)
		err(1, "poll");
	if (mode == SLOW)
		allow_more();
	for (int i = n - 1; i >= 0; i--)
		if (!pairs[i]->abandoned && !serve(pairs[i], fds[2 + 2 * i].revents, fds[3 + 2 * i].revents))
			end_pair(i, pairs[i]->fate == RESET_AT_REPLY);
	if (fds[1].revents != 0)
		accept_one();
	if (fds[0].revents != 0)
		read_command();
}

int
main(int argc, char **argv)
{
	if (argc < 4)
		errx(2, "usage: proxy LISTEN_PORT TARGET_PORT SEED [http]");
	listen_port = atoi(argv[1]);
	target_port = atoi(argv[2]);
	srandom(atoi(argv[3]));
	http = argc > 4;
	signal(SIGPIPE, SIG_IGN);
	open_listener();
	for (;;)
		run_once();
}
