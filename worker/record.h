/*
 * record.h
 *		A record of Kafka as the rest of the worker sees it, wherever it comes from: a message just
 *		fetched, a dead letter that is tried again, a message to preview.
 */
#ifndef CLICKSTREAM_RECORD_H
#define CLICKSTREAM_RECORD_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/jsonb.h"

struct rd_kafka_message_s;

typedef struct Record
{
	const char *topic;
	int32		partition;
	int64		offset;
	const char *key;			/* NULL for none */
	size_t		key_length;
	const char *value;			/* NULL: a tombstone */
	size_t		value_length;

	/* where its time and headers are: a message of librdkafka, or, without one, here */
	struct rd_kafka_message_s *message;
	TimestampTz time;			/* 0 for none */
	Jsonb	   *headers;		/* or NULL */
} Record;

extern void record_of_message(Record *record, struct rd_kafka_message_s *message);

/*
 * messages lie all over memory: asks for the head of one, and the value of another whose head is
 * there
 */
extern void record_prefetch(const struct rd_kafka_message_s *head_of,
							const struct rd_kafka_message_s *value_of);

/* when it was produced, or appended to the log; 0 when Kafka does not say */
extern TimestampTz record_time(const Record *record);

/*
 * [{"key": …, "value": …}, …] in order; a value that is not UTF-8 is {"key", "base64"}.  NULL for
 * no headers at all.  In the current memory context.
 */
extern Jsonb *record_headers(const Record *record);

/* what tells a record from another at the same offset of a topic that was made anew */
extern int64 record_hash(const Record *record);

#endif							/* CLICKSTREAM_RECORD_H */
