/*
 * inquiry_fetch.h
 *		The next records of a source as they are in Kafka, fetched to be looked at.
 */
#ifndef CLICKSTREAM_INQUIRY_FETCH_H
#define CLICKSTREAM_INQUIRY_FETCH_H

#include "postgres.h"

#include "inquiry_kinds.h"
#include "kafka_client.h"

typedef struct Fetch
{
	KafkaClient client;
	rd_kafka_queue_t *queue;
	rd_kafka_topic_t **topics;	/* one for each partition */
	int		   *partitions;
	int			n_partitions;
	int			n_ended;		/* partitions that were read to their end */
	rd_kafka_message_t **messages;
	int			n;
	int			room;
} Fetch;

/*
 * Fetches up to `count` records from the offsets on (a list of SourceOffset *), or as many as there
 * are.  False when Kafka gave none and not all partitions are known to end there: the reason is
 * kafka_client_reason's.
 */
extern bool fetch_records(Fetch *fetch, const Inquiry *inquiry, List *offsets, int count);

/* safe whatever fetch_records came to; the records are gone after it */
extern void fetch_close(Fetch *fetch);

#endif							/* CLICKSTREAM_INQUIRY_FETCH_H */
