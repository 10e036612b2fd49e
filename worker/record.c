/*
 * record.c
 *		What can be asked of a record: its time, its headers, its hash.
 *
 * Owns nothing: a record points into the message or dead letter that it comes from.
 */
#include "postgres.h"

#include <librdkafka/rdkafka.h>

#include "common/base64.h"
#include "common/hashfn.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "record.h"

#define UNIX_EPOCH_US ((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY)

void
record_of_message(Record *record, rd_kafka_message_t *message)
{
	record->topic = rd_kafka_topic_name(message->rkt);
	record->partition = message->partition;
	record->offset = message->offset;
	record->key = message->key;
	record->key_length = message->key_len;
	record->value = message->payload;
	record->value_length = message->len;
	record->message = message;
	record->time = 0;
	record->headers = NULL;
}

void
record_prefetch(const rd_kafka_message_t *head_of, const rd_kafka_message_t *value_of)
{
	__builtin_prefetch(head_of);
	__builtin_prefetch(&head_of->offset);
	__builtin_prefetch(value_of->payload);
}

TimestampTz
record_time(const Record *record)
{
	rd_kafka_timestamp_type_t type;
	int64		milliseconds;

	if (record->message == NULL)
		return record->time;
	milliseconds = rd_kafka_message_timestamp(record->message, &type);
	if (type == RD_KAFKA_TIMESTAMP_NOT_AVAILABLE || milliseconds < 0 ||
		milliseconds > END_TIMESTAMP / 1000)
		return 0;
	return milliseconds * 1000 - UNIX_EPOCH_US;
}

static void
push_string(JsonbParseState **state, JsonbIteratorToken token, const char *text, size_t length)
{
	JsonbValue	value;

	value.type = jbvString;
	value.val.string.val = (char *) text;
	value.val.string.len = length;
	pushJsonbValue(state, token, &value);
}

static char *
base64_of(const char *bytes, size_t length)
{
	int			room = pg_b64_enc_len(length);
	char	   *text = palloc(room + 1);
	int			written = compat_b64_encode(bytes, length, text, room);

	text[Max(written, 0)] = '\0';
	return text;
}

static bool
is_text(const char *bytes, size_t length)
{
	return pg_verify_mbstr(PG_UTF8, bytes, length, true);
}

static void
push_header(JsonbParseState **state, const char *name, const void *bytes, size_t length)
{
	JsonbValue	null = {.type = jbvNull};
	char	   *text;

	pushJsonbValue(state, WJB_BEGIN_OBJECT, NULL);
	push_string(state, WJB_KEY, "key", 3);
	text = is_text(name, strlen(name)) ? (char *) name : base64_of(name, strlen(name));
	push_string(state, WJB_VALUE, text, strlen(text));
	if (bytes != NULL && !is_text(bytes, length))
	{
		text = base64_of(bytes, length);
		push_string(state, WJB_KEY, "base64", 6);
		push_string(state, WJB_VALUE, text, strlen(text));
	}
	else
	{
		push_string(state, WJB_KEY, "value", 5);
		if (bytes == NULL)
			pushJsonbValue(state, WJB_VALUE, &null);
		else
			push_string(state, WJB_VALUE, bytes, length);
	}
	pushJsonbValue(state, WJB_END_OBJECT, NULL);
}

Jsonb *
record_headers(const Record *record)
{
	rd_kafka_headers_t *headers;
	JsonbParseState *state = NULL;
	const char *name;
	const void *bytes;
	size_t		length;

	if (record->message == NULL)
		return record->headers;
	if (rd_kafka_message_headers(record->message, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR)
		return NULL;
	pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	for (size_t i = 0; rd_kafka_header_get_all(headers, i, &name, &bytes, &length) == 0; i++)
		push_header(&state, name, bytes, length);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_ARRAY, NULL));
}

int64
record_hash(const Record *record)
{
	uint64		hash = hash_bytes_extended((const unsigned char *) record->value,
										   record->value ?
											   (int) Min(record->value_length, 1024 * 1024) : 0,
										   record->value_length);

	if (record->key != NULL)
		hash = hash_combine64(hash, hash_bytes_extended((const unsigned char *) record->key,
														(int) Min(record->key_length, 65536), 1));
	return (int64) hash;
}
