/*
 * inquiry.h
 *		A question that only a worker can ask: of Kafka or Elasticsearch, on behalf of a backend.
 *
 * A client's backend never loads librdkafka or libcurl.  So the SQL function starts a short-lived
 * background worker, passes the request in a memory segment (options with secrets included, which
 * therefore stay out of any table or log), and waits for its answer.
 */
#ifndef CLICKSTREAM_INQUIRY_H
#define CLICKSTREAM_INQUIRY_H

#include "postgres.h"

#include "nodes/pg_list.h"
#include "utils/jsonb.h"

typedef enum InquiryResult
{
	INQUIRY_ANSWERED,			/* *answer holds JSON */
	INQUIRY_REFUSED,			/* the other side said no: *answer holds why, as text */
	INQUIRY_UNREACHABLE			/* nobody answered in time: *answer holds why, as text */
} InquiryResult;

/*
 * kind 'topic': {"topic": "clicks", "start_at": "earliest"} -> {"partitions": [{"partition": 0, "start": 0, "end": 17}, …]}
 * kind 'preview': {"topic": …, "offsets": …, "count": …} -> an array of messages
 * kind 'elasticsearch': {} -> {"version": "8.19.0"}
 * options: as connection_options gives them.  timeout_ms bounds it all.
 */
extern InquiryResult inquiry_ask(const char *kind, Jsonb *request, List *options, int timeout_ms, char **answer);

#endif							/* CLICKSTREAM_INQUIRY_H */
