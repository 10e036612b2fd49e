/*
 * kafka_scram.c
 *		SCRAM (RFC 5802) over Kafka's SaslHandshake and SaslAuthenticate requests.
 *
 * Here because librdkafka up to 2.6.0 sends the client's part of the nonce twice in its last
 * message, which brokers took until Kafka 4.0 and no longer do; kafka_relay.c says when it is used.
 * Touches nothing of PostgreSQL: it runs in threads of its own.  Never puts a secret into a reason.
 */
#include "kafka_scram.h"

#include <arpa/inet.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SASL_HANDSHAKE 17
#define SASL_AUTHENTICATE 36
#define UNSUPPORTED_MECHANISM 33

#define LONGEST_MESSAGE 4096
#define MOST_ITERATIONS 10000000
#define NONCE_BYTES 24

typedef struct Scram
{
	const ScramChannel *channel;
	const ScramUser *user;
	const EVP_MD *hash;
	int			hash_length;
	int32_t		correlation;
	char	   *reason;
	size_t		room;

	char		nonce[NONCE_BYTES * 2];
	char		client_first[LONGEST_MESSAGE];	/* without its header */
	char		server_first[LONGEST_MESSAGE];
	unsigned char salted[EVP_MAX_MD_SIZE];	/* the password */
	char		authenticated[3 * LONGEST_MESSAGE];	/* what both sides sign */
} Scram;

static ScramOutcome
fail(Scram *scram, ScramOutcome outcome, const char *why, const char *more)
{
	snprintf(scram->reason, scram->room, "SASL authentication error: %s%s", why, more);
	return outcome;
}

/* ---------------------------------------------------------------- Kafka's frames */

typedef struct Frame
{
	unsigned char bytes[2 * LONGEST_MESSAGE];
	size_t		length,
				at;
	bool		broken;			/* more was asked for than there is */
} Frame;

static void
put(Frame *frame, const void *bytes, size_t n)
{
	if (frame->length + n > sizeof(frame->bytes))
		frame->broken = true;
	else
	{
		memcpy(frame->bytes + frame->length, bytes, n);
		frame->length += n;
	}
}

static void
put_int16(Frame *frame, int value)
{
	uint16_t	number = htons((uint16_t) value);

	put(frame, &number, 2);
}

static void
put_int32(Frame *frame, int32_t value)
{
	uint32_t	number = htonl((uint32_t) value);

	put(frame, &number, 4);
}

static void
put_string(Frame *frame, const char *text)
{
	put_int16(frame, (int) strlen(text));
	put(frame, text, strlen(text));
}

static const void *
take(Frame *frame, size_t n)
{
	frame->at += n;
	if (frame->broken || n > sizeof(frame->bytes) || frame->at > frame->length)
	{
		frame->broken = true;
		return "\0\0\0\0";
	}
	return frame->bytes + frame->at - n;
}

static int
take_int16(Frame *frame)
{
	uint16_t	number;

	memcpy(&number, take(frame, 2), 2);
	return (int16_t) ntohs(number);
}

static int32_t
take_int32(Frame *frame)
{
	uint32_t	number;

	memcpy(&number, take(frame, 4), 4);
	return (int32_t) ntohl(number);
}

/* n bytes as text that ends; empty when they are not there */
static void
take_text(Frame *frame, int32_t n, char *text, size_t room)
{
	const char *bytes = n > 0 ? take(frame, (size_t) n) : "";

	if (n < 0 || frame->broken || (size_t) n >= room)
		n = 0;
	memcpy(text, bytes, (size_t) n);
	text[n] = '\0';
}

static void
begin(Scram *scram, Frame *frame, int request, int version)
{
	frame->length = frame->at = 0;
	frame->broken = false;
	put_int16(frame, request);
	put_int16(frame, version);
	put_int32(frame, ++scram->correlation);
	put_string(frame, "clickstream");
}

/* sends the request in the frame; the answer's body is in it then */
static bool
ask(Scram *scram, Frame *frame)
{
	const ScramChannel *channel = scram->channel;
	uint32_t	size = htonl((uint32_t) frame->length);

	if (frame->broken || !channel->send(channel->link, &size, 4) || !channel->send(channel->link, frame->bytes, frame->length) ||
		!channel->receive(channel->link, &size, 4))
		return false;
	frame->at = 0;
	frame->length = ntohl(size);
	return frame->length <= sizeof(frame->bytes) && channel->receive(channel->link, frame->bytes, frame->length) &&
		take_int32(frame) == scram->correlation && !frame->broken;
}

static ScramOutcome
shake_hands(Scram *scram)
{
	Frame		frame;
	char		taken[512] = "";
	size_t		used = 0;
	int			error;

	begin(scram, &frame, SASL_HANDSHAKE, 1);
	put_string(&frame, scram->user->mechanism);
	if (!ask(scram, &frame))
		return fail(scram, SCRAM_BROKEN, "the broker ended the connection", "");
	error = take_int16(&frame);
	for (int n = take_int32(&frame); n > 0 && !frame.broken && used + 64 < sizeof(taken); n--)
	{
		char		one[64];

		take_text(&frame, take_int16(&frame), one, sizeof(one));
		used += (size_t) snprintf(taken + used, sizeof(taken) - used, "%s%s", used > 0 ? ", " : "", one);
	}
	if (error == UNSUPPORTED_MECHANISM)
		return fail(scram, SCRAM_REFUSED, "the broker does not take this mechanism, but: ", taken);
	return error == 0 ? SCRAM_DONE : fail(scram, SCRAM_BROKEN, "the broker cannot do it now", "");
}

/* one message of ours, one of the broker's */
static ScramOutcome
exchange(Scram *scram, const char *message, char *answer, size_t room)
{
	Frame		frame;
	char		why[256];
	int			error;

	begin(scram, &frame, SASL_AUTHENTICATE, 0);
	put_int32(&frame, (int32_t) strlen(message));
	put(&frame, message, strlen(message));
	if (!ask(scram, &frame))
		return fail(scram, SCRAM_BROKEN, "the broker ended the connection", "");
	error = take_int16(&frame);
	take_text(&frame, take_int16(&frame), why, sizeof(why));
	take_text(&frame, take_int32(&frame), answer, room);
	if (error != 0)
		return fail(scram, SCRAM_REFUSED, why[0] != '\0' ? why : "the broker refuses the user or its password", "");
	return SCRAM_DONE;
}

/* ---------------------------------------------------------------- what is sent and proved */

/* the attribute of that letter, "r=…", up to the next comma */
static bool
attribute(const char *message, char letter, char *value, size_t room)
{
	for (const char *at = message; at != NULL; at = strchr(at, ','))
	{
		size_t		length;

		at += at != message;
		if (at[0] != letter || at[1] != '=')
			continue;
		length = strcspn(at + 2, ",");
		if (length >= room)
			return false;
		memcpy(value, at + 2, length);
		value[length] = '\0';
		return true;
	}
	return false;
}

/* the number of bytes; -1 when it is no base64 */
static int
decode_base64(const char *text, unsigned char *bytes, size_t room)
{
	size_t		length = strlen(text);
	int			n;

	if (length == 0 || length % 4 != 0 || length / 4 * 3 > room)
		return -1;
	n = EVP_DecodeBlock(bytes, (const unsigned char *) text, (int) length);
	return n < 0 ? -1 : n - (text[length - 1] == '=') - (text[length - 2] == '=');
}

static void
sign(Scram *scram, const unsigned char *key, const char *text, unsigned char *signature)
{
	(void) HMAC(scram->hash, key, scram->hash_length, (const unsigned char *) text, strlen(text), signature, NULL);
}

static bool
make_client_first(Scram *scram)
{
	unsigned char bytes[NONCE_BYTES];
	char		name[LONGEST_MESSAGE / 2];
	size_t		used = 0;

	for (const char *at = scram->user->name; *at != '\0'; at++)
	{
		if (used + 4 >= sizeof(name))
			return false;
		if (*at == '=' || *at == ',')
		{
			memcpy(name + used, *at == '=' ? "=3D" : "=2C", 3);
			used += 3;
		}
		else
			name[used++] = *at;
	}
	name[used] = '\0';
	if (RAND_bytes(bytes, sizeof(bytes)) != 1)
		return false;
	EVP_EncodeBlock((unsigned char *) scram->nonce, bytes, sizeof(bytes));
	snprintf(scram->client_first, sizeof(scram->client_first), "n=%s,r=%s", name, scram->nonce);
	return true;
}

/* the broker's nonce begins with ours; it says how the password is salted */
static bool
take_server_first(Scram *scram, char *nonce, size_t room)
{
	char		text[1024];
	unsigned char salt[768];
	int			salt_length;
	long		iterations;

	if (!attribute(scram->server_first, 'r', nonce, room) || strlen(nonce) <= strlen(scram->nonce) ||
		strncmp(nonce, scram->nonce, strlen(scram->nonce)) != 0 || !attribute(scram->server_first, 's', text, sizeof(text)))
		return false;
	salt_length = decode_base64(text, salt, sizeof(salt));
	if (salt_length < 0 || !attribute(scram->server_first, 'i', text, sizeof(text)))
		return false;
	iterations = strtol(text, NULL, 10);
	return iterations > 0 && iterations <= MOST_ITERATIONS &&
		PKCS5_PBKDF2_HMAC(scram->user->password, (int) strlen(scram->user->password), salt, salt_length, (int) iterations,
						  scram->hash, scram->hash_length, scram->salted) == 1;
}

static void
make_client_final(Scram *scram, const char *nonce, char *message, size_t room)
{
	unsigned char key[EVP_MAX_MD_SIZE],
				stored[EVP_MAX_MD_SIZE],
				proof[EVP_MAX_MD_SIZE];
	char		text[EVP_MAX_MD_SIZE * 2];

	snprintf(scram->authenticated, sizeof(scram->authenticated), "%s,%s,c=biws,r=%s", scram->client_first, scram->server_first, nonce);
	sign(scram, scram->salted, "Client Key", key);
	(void) EVP_Digest(key, (size_t) scram->hash_length, stored, NULL, scram->hash, NULL);
	sign(scram, stored, scram->authenticated, proof);
	for (int i = 0; i < scram->hash_length; i++)
		proof[i] ^= key[i];
	EVP_EncodeBlock((unsigned char *) text, proof, scram->hash_length);
	snprintf(message, room, "c=biws,r=%s,p=%s", nonce, text);
	OPENSSL_cleanse(key, sizeof(key));
}

/* the broker knows the password, too, or something made of it: it is no stranger */
static bool
is_signed(Scram *scram, const char *server_final)
{
	unsigned char key[EVP_MAX_MD_SIZE],
				ours[EVP_MAX_MD_SIZE],
				theirs[EVP_MAX_MD_SIZE * 2];
	char		text[EVP_MAX_MD_SIZE * 2];

	if (!attribute(server_final, 'v', text, sizeof(text)) || decode_base64(text, theirs, sizeof(theirs)) != scram->hash_length)
		return false;
	sign(scram, scram->salted, "Server Key", key);
	sign(scram, key, scram->authenticated, ours);
	return CRYPTO_memcmp(ours, theirs, (size_t) scram->hash_length) == 0;
}

/* ---------------------------------------------------------------- the conversation */

static ScramOutcome
converse(Scram *scram)
{
	char		message[2 * LONGEST_MESSAGE],
				answer[LONGEST_MESSAGE],
				nonce[1024];
	ScramOutcome outcome = shake_hands(scram);

	if (outcome != SCRAM_DONE)
		return outcome;
	if (!make_client_first(scram))
		return fail(scram, SCRAM_REFUSED, "the user's name is too long", "");
	snprintf(message, sizeof(message), "n,,%s", scram->client_first);
	outcome = exchange(scram, message, scram->server_first, sizeof(scram->server_first));
	if (outcome != SCRAM_DONE)
		return outcome;
	if (!take_server_first(scram, nonce, sizeof(nonce)))
		return fail(scram, SCRAM_BROKEN, "the broker's first message is none of SCRAM's", "");
	make_client_final(scram, nonce, message, sizeof(message));
	outcome = exchange(scram, message, answer, sizeof(answer));
	if (outcome == SCRAM_DONE && !is_signed(scram, answer))
		return fail(scram, SCRAM_REFUSED, "the broker does not know the password itself", "");
	return outcome;
}

ScramOutcome
scram_authenticate(const ScramChannel *channel, const ScramUser *user, char *reason, size_t room)
{
	Scram		scram = {.channel = channel,.user = user,.reason = reason,.room = room};
	ScramOutcome outcome;

	scram.hash = strcmp(user->mechanism, "SCRAM-SHA-256") == 0 ? EVP_sha256() : EVP_sha512();
	scram.hash_length = EVP_MD_size(scram.hash);
	outcome = converse(&scram);
	OPENSSL_cleanse(&scram.salted, sizeof(scram.salted));
	return outcome;
}
