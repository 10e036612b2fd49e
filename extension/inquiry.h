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

#include "fmgr.h"
#include "nodes/pg_list.h"
#include "utils/jsonb.h"

typedef enum InquiryResult
{
	INQUIRY_ANSWERED,			/* *answer holds JSON */
	INQUIRY_REFUSED,			/* the other side said no: *answer holds why, as text */
	INQUIRY_UNREACHABLE			/* nobody answered in time: *answer holds why, as text */
} InquiryResult;

/*
 * The kinds, each described in the file of its own in worker/:
 *   'topic'          {"topic", "start"} -> the topic's partitions, where each begins, ends and starts
 *   'elasticsearch'  {} -> {"version"}
 *   'preview'        {"source", "count"} -> what would become of the source's next records
 *   'replay'         {"source"} -> how many dead letters became rows
 *
 * options: as connection_options gives them, or NIL.  timeout_ms bounds it all; -1 does not.
 * An error that the worker meets in PostgreSQL is raised here.
 */
extern InquiryResult inquiry_ask(const char *kind, Jsonb *request, List *options, int timeout_ms,
								 char **answer);

/*
 * An answer in JSON as the rows of a set-returning function.  `query` makes them, in the shape of the
 * function's result, of $1, the answer as text.
 */
extern void inquiry_return_rows(FunctionCallInfo fcinfo, const char *answer, const char *query);

#endif							/* CLICKSTREAM_INQUIRY_H */
