/*
 * kafka_relay.c
 *		Connections to brokers that demand SCRAM, for a librdkafka that does it wrong.
 *
 * Up to 2.6.0 librdkafka sends a SCRAM message that Kafka has not taken since 4.0 (see
 * kafka_scram.c), and Debian 12 has 2.0.2.  So where it is that old and SCRAM is asked for, each of
 * its connections is made here: it gets one end of a pair of sockets and speaks plain text to it; a
 * thread connects to the broker, does TLS and SCRAM, and then passes bytes on between the two until
 * one side ends.  With a newer librdkafka nothing of this is used.
 *
 * The threads are made by librdkafka's own, with all signals blocked, and touch nothing of
 * PostgreSQL.  They end when librdkafka closes its end, or when kafka_relay_end says so.
 */
#include "postgres.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "kafka_relay.h"
#include "kafka_scram.h"
#include "kafka_tls.h"

#define FIRST_GOOD_VERSION 0x020601ff
#define SETUP_MS 30000
#define BUFFER_BYTES (64 * 1024)

struct KafkaRelay
{
	SSL_CTX    *tls;			/* NULL: plain text on the wire */
	bool		check_name;
	ScramUser	user;
	int			stop[2];		/* a pipe: closed to end all threads */

	pthread_mutex_t mutex;
	pthread_cond_t ended;
	int			n_threads;
	bool		failed,			/* the last connection did */
				refused;
	char		reason[512];
};

/* one connection; its thread's alone */
typedef struct Link
{
	KafkaRelay *relay;
	int			near;			/* librdkafka's side */
	int			far;			/* the broker's */
	SSL		   *ssl;
	struct sockaddr_storage address;
	socklen_t	address_length;
	char		host[256];
} Link;

/* ---------------------------------------------------------------- waiting, reading, writing */

/* false when the time is up, or nobody wants the connection any more */
static bool
wait_for(Link *link, short events, int timeout_ms)
{
	struct pollfd ready[3] = {{link->far, events, 0}, {link->relay->stop[0], 0, 0}, {link->near, 0, 0}};

	while (poll(ready, 3, timeout_ms) > 0)
	{
		if (ready[1].revents != 0 || (ready[2].revents & (POLLHUP | POLLERR | POLLNVAL)) != 0)
			return false;
		if (ready[0].revents != 0)
			return true;
	}
	return false;
}

/* what OpenSSL waits for; 0 when it failed */
static short
wanted(Link *link, int result)
{
	switch (SSL_get_error(link->ssl, result))
	{
		case SSL_ERROR_WANT_READ:
			return POLLIN;
		case SSL_ERROR_WANT_WRITE:
			return POLLOUT;
		default:
			return 0;
	}
}

/* bytes moved; 0 at the end; -1 with errno EAGAIN when there are none now, and *events to wait for */
static ssize_t
read_some(Link *link, void *bytes, size_t n, short *events)
{
	int			result;

	*events = POLLIN;
	if (link->ssl == NULL)
		return recv(link->far, bytes, n, 0);
	ERR_clear_error();
	result = SSL_read(link->ssl, bytes, (int) n);
	if (result > 0)
		return result;
	*events = wanted(link, result);
	errno = *events ? EAGAIN : EIO;
	return *events ? -1 : 0;
}

static ssize_t
write_some(Link *link, const void *bytes, size_t n, short *events)
{
	int			result;

	*events = POLLOUT;
	if (link->ssl == NULL)
		return send(link->far, bytes, n, MSG_NOSIGNAL);
	ERR_clear_error();
	result = SSL_write(link->ssl, bytes, (int) n);
	if (result > 0)
		return result;
	*events = wanted(link, result);
	errno = *events ? EAGAIN : EIO;
	return -1;
}

static bool
receive_all(void *argument, void *bytes, size_t n)
{
	Link	   *link = argument;

	while (n > 0)
	{
		short		events;
		ssize_t		got = read_some(link, bytes, n, &events);

		if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR) || (got < 0 && !wait_for(link, events, SETUP_MS)))
			return false;
		if (got > 0)
		{
			bytes = (char *) bytes + got;
			n -= (size_t) got;
		}
	}
	return true;
}

static bool
send_all(void *argument, const void *bytes, size_t n)
{
	Link	   *link = argument;

	while (n > 0)
	{
		short		events;
		ssize_t		sent = write_some(link, bytes, n, &events);

		if ((sent < 0 && errno != EAGAIN && errno != EINTR) || (sent < 0 && !wait_for(link, events, SETUP_MS)))
			return false;
		if (sent > 0)
		{
			bytes = (const char *) bytes + sent;
			n -= (size_t) sent;
		}
	}
	return true;
}

/* ---------------------------------------------------------------- the way to the broker */

static bool
fail(Link *link, bool refused, const char *what, const char *why)
{
	KafkaRelay *relay = link->relay;

	pthread_mutex_lock(&relay->mutex);
	relay->failed = true;
	relay->refused = refused;
	snprintf(relay->reason, sizeof(relay->reason), "%s: %s%s%s", link->host, what, why[0] != '\0' ? ": " : "", why);
	pthread_mutex_unlock(&relay->mutex);
	return false;
}

static bool
connect_far(Link *link)
{
	int			yes = 1,
				error = 0;
	socklen_t	length = sizeof(error);
	char		why[128];

	link->far = socket(link->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (link->far < 0)
		return fail(link, false, "no socket", "");
	(void) setsockopt(link->far, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
	if (connect(link->far, (struct sockaddr *) &link->address, link->address_length) != 0 && errno != EINPROGRESS)
		error = errno;
	else if (!wait_for(link, POLLOUT, SETUP_MS))
		return fail(link, false, "Connect failed", "timed out");
	else
		(void) getsockopt(link->far, SOL_SOCKET, SO_ERROR, &error, &length);
	if (error != 0)
		return fail(link, false, "Connect failed", strerror_r(error, why, sizeof(why)));
	return true;
}

/* the certificate has to be of this name or address */
static bool
expect_name(Link *link)
{
	X509_VERIFY_PARAM *parameters = SSL_get0_param(link->ssl);

	if (X509_VERIFY_PARAM_set1_ip_asc(parameters, link->host) == 1)
		return true;
	SSL_set_tlsext_host_name(link->ssl, link->host);
	return X509_VERIFY_PARAM_set1_host(parameters, link->host, 0) == 1;
}

static bool
tell_handshake(Link *link)
{
	long		verified = SSL_get_verify_result(link->ssl);
	const char *why = ERR_reason_error_string(ERR_peek_error());

	if (verified != X509_V_OK)
		return fail(link, true, "SSL handshake failed: the broker's certificate could not be verified",
					X509_verify_cert_error_string(verified));
	return fail(link, false, "SSL handshake failed", why ? why : "the broker ended the connection");
}

static bool
secure(Link *link)
{
	int			result;

	if (link->relay->tls == NULL)
		return true;
	link->ssl = SSL_new(link->relay->tls);
	if (link->ssl == NULL || SSL_set_fd(link->ssl, link->far) != 1 || (link->relay->check_name && !expect_name(link)))
		return fail(link, false, "SSL could not be set up", "");
	SSL_set_mode(link->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	ERR_clear_error();
	while ((result = SSL_connect(link->ssl)) != 1)
	{
		short		events = wanted(link, result);

		if (events == 0)
			return tell_handshake(link);
		if (!wait_for(link, events, SETUP_MS))
			return fail(link, false, "SSL handshake failed", "timed out");
	}
	return true;
}

static bool
authenticate(Link *link)
{
	ScramChannel channel = {send_all, receive_all, link};
	char		reason[400];
	ScramOutcome outcome = scram_authenticate(&channel, &link->relay->user, reason, sizeof(reason));

	if (outcome != SCRAM_DONE)
		return fail(link, outcome == SCRAM_REFUSED, reason, "");
	pthread_mutex_lock(&link->relay->mutex);
	link->relay->failed = false;
	pthread_mutex_unlock(&link->relay->mutex);
	return true;
}

/* ---------------------------------------------------------------- passing bytes on */

static bool
write_near(Link *link, const char *bytes, size_t n)
{
	while (n > 0)
	{
		struct pollfd ready[2] = {{link->near, POLLOUT, 0}, {link->relay->stop[0], 0, 0}};
		ssize_t		sent = send(link->near, bytes, n, MSG_NOSIGNAL);

		if (sent > 0)
		{
			bytes += sent;
			n -= (size_t) sent;
		}
		else if (sent < 0 && errno != EAGAIN && errno != EINTR)
			return false;
		else if (poll(ready, 2, -1) > 0 && ready[1].revents != 0)
			return false;
	}
	return true;
}

/* all that the broker has sent; false at the end */
static bool
pass_inward(Link *link, char *buffer)
{
	for (;;)
	{
		short		events;
		ssize_t		got = read_some(link, buffer, BUFFER_BYTES, &events);

		if (got < 0 && (errno == EAGAIN || errno == EINTR))
			return true;
		if (got <= 0 || !write_near(link, buffer, (size_t) got))
			return false;
	}
}

static bool
pass_outward(Link *link, char *buffer)
{
	ssize_t		got = recv(link->near, buffer, BUFFER_BYTES, 0);

	if (got < 0)
		return errno == EAGAIN || errno == EINTR;
	return got > 0 && send_all(link, buffer, (size_t) got);
}

static void
pass_on(Link *link)
{
	char	   *buffer = malloc(BUFFER_BYTES);
	bool		open = buffer != NULL && pass_inward(link, buffer);	/* what came with the last answer */

	while (open)
	{
		struct pollfd ready[3] = {{link->near, POLLIN, 0}, {link->far, POLLIN, 0}, {link->relay->stop[0], 0, 0}};

		if (poll(ready, 3, -1) < 0 && errno != EINTR)
			break;
		open = ready[2].revents == 0 &&
			(ready[0].revents == 0 || pass_outward(link, buffer)) &&
			(ready[1].revents == 0 || pass_inward(link, buffer));
	}
	free(buffer);
}

/* ---------------------------------------------------------------- a thread for each connection */

static void *
serve(void *argument)
{
	Link	   *link = argument;
	KafkaRelay *relay = link->relay;

	if (connect_far(link) && secure(link) && authenticate(link))
		pass_on(link);
	SSL_free(link->ssl);
	if (link->far >= 0)
		close(link->far);
	close(link->near);
	free(link);
	pthread_mutex_lock(&relay->mutex);
	relay->n_threads--;
	pthread_cond_broadcast(&relay->ended);
	pthread_mutex_unlock(&relay->mutex);
	return NULL;
}

/* "host:port/1", or "[host]:port/bootstrap", perhaps with a protocol before it */
static void
take_host(Link *link, const char *broker)
{
	const char *from = strstr(broker, "://"),
			   *to;

	from = from ? from + 3 : broker;
	if (*from == '[')
		to = strchr(++from, ']');
	else
		to = strchr(from, ':');
	if (to == NULL || to - from >= (ptrdiff_t) sizeof(link->host))
		to = from;
	memcpy(link->host, from, (size_t) (to - from));
}

static bool
start_thread(Link *link)
{
	KafkaRelay *relay = link->relay;
	pthread_t	thread;
	bool		started;

	pthread_mutex_lock(&relay->mutex);
	started = pthread_create(&thread, NULL, serve, link) == 0;
	if (started)
	{
		(void) pthread_detach(thread);
		relay->n_threads++;
	}
	pthread_mutex_unlock(&relay->mutex);
	return started;
}

/* librdkafka's callback: the socket that it made becomes our end of a pair */
static int
connect_through(int socket, const struct sockaddr *address, int length, const char *broker, void *opaque)
{
	Link	   *link = calloc(1, sizeof(Link));
	int			pair[2];

	if (link == NULL || length > (int) sizeof(link->address) ||
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) != 0)
	{
		free(link);
		return ENOMEM;
	}
	link->relay = opaque;
	link->near = pair[1];
	link->far = -1;
	memcpy(&link->address, address, (size_t) length);
	link->address_length = (socklen_t) length;
	take_host(link, broker);
	if (dup3(pair[0], socket, O_CLOEXEC) < 0 || !start_thread(link))
	{
		close(pair[0]);
		close(pair[1]);
		free(link);
		return ENOMEM;
	}
	close(pair[0]);
	return 0;
}

/* ---------------------------------------------------------------- for kafka_client.c */

static const char *
mechanism_of(List *options)
{
	const char *mechanism = kafka_option(options, "sasl.mechanism");

	return mechanism ? mechanism : kafka_option(options, "sasl.mechanisms");
}

static bool
protocol_is(List *options, const char *name)
{
	const char *protocol = kafka_option(options, "security.protocol");

	return protocol != NULL && pg_strcasecmp(protocol, name) == 0;
}

bool
kafka_relay_is_needed(List *options)
{
	const char *mechanism = mechanism_of(options);

	return rd_kafka_version() < FIRST_GOOD_VERSION && mechanism != NULL && strncmp(mechanism, "SCRAM-", 6) == 0 &&
		(protocol_is(options, "sasl_plaintext") || protocol_is(options, "sasl_ssl"));
}

static char *
copy_of(const char *text)
{
	return strdup(text ? text : "");
}

KafkaRelay *
kafka_relay_make(List *options, char *reason, size_t room)
{
	KafkaRelay *relay = calloc(1, sizeof(KafkaRelay));
	const char *identification = kafka_option(options, "ssl.endpoint.identification.algorithm");

	if (relay == NULL || pipe(relay->stop) != 0)
	{
		strlcpy(reason, "out of memory or files", room);
		free(relay);
		return NULL;
	}
	pthread_mutex_init(&relay->mutex, NULL);
	pthread_cond_init(&relay->ended, NULL);
	relay->user.mechanism = copy_of(mechanism_of(options));
	relay->user.name = copy_of(kafka_option(options, "sasl.username"));
	relay->user.password = copy_of(kafka_option(options, "sasl.password"));
	if (relay->user.mechanism == NULL || relay->user.name == NULL || relay->user.password == NULL)
	{
		strlcpy(reason, "out of memory", room);
		kafka_relay_end(relay);
		return NULL;
	}
	relay->check_name = identification == NULL || strcmp(identification, "none") != 0;
	if (protocol_is(options, "sasl_ssl") && (relay->tls = kafka_tls_make(options, reason, room)) == NULL)
	{
		kafka_relay_end(relay);
		return NULL;
	}
	return relay;
}

bool
kafka_relay_takes(const char *option)
{
	return strncmp(option, "ssl.", 4) == 0 || strncmp(option, "sasl.", 5) == 0 || strcmp(option, "security.protocol") == 0 ||
		strcmp(option, "enable.ssl.certificate.verification") == 0;
}

void
kafka_relay_configure(KafkaRelay *relay, rd_kafka_conf_t *conf)
{
	rd_kafka_conf_set_opaque(conf, relay);
	rd_kafka_conf_set_connect_cb(conf, connect_through);
}

bool
kafka_relay_reason(KafkaRelay *relay, char *reason, size_t room, bool *refused)
{
	bool		failed;

	pthread_mutex_lock(&relay->mutex);
	failed = relay->failed;
	if (failed)
	{
		strlcpy(reason, relay->reason, room);
		*refused = relay->refused;
	}
	pthread_mutex_unlock(&relay->mutex);
	return failed;
}

void
kafka_relay_end(KafkaRelay *relay)
{
	close(relay->stop[1]);
	pthread_mutex_lock(&relay->mutex);
	while (relay->n_threads > 0)
		pthread_cond_wait(&relay->ended, &relay->mutex);
	pthread_mutex_unlock(&relay->mutex);
	close(relay->stop[0]);
	SSL_CTX_free(relay->tls);
	if (relay->user.password != NULL)
		OPENSSL_cleanse(unconstify(char *, relay->user.password), strlen(relay->user.password));
	free(unconstify(char *, relay->user.password));
	free(unconstify(char *, relay->user.name));
	free(unconstify(char *, relay->user.mechanism));
	pthread_cond_destroy(&relay->ended);
	pthread_mutex_destroy(&relay->mutex);
	free(relay);
}
