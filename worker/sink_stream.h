/*
 * sink_stream.h
 *		A data stream behind a sink's alias, in place of an index.
 */
#ifndef CLICKSTREAM_SINK_STREAM_H
#define CLICKSTREAM_SINK_STREAM_H

#include "postgres.h"

#include "lib/stringinfo.h"

#include "sink_index.h"

/* Those that return a text return NULL when it went well, or else why not. */

/* makes it, empty, with an alias of its own for the time of the copy */
extern char *sink_stream_make(Elasticsearch *client, const Sink *sink, const DocumentPlan *plan,
							  const char *stream);
extern bool sink_stream_is_half_made(Elasticsearch *client, const Sink *sink, const char *stream);

/* new columns of the table, for the indexes that the stream gets from now on */
extern char *sink_stream_put_template(Elasticsearch *client, const Sink *sink, const DocumentPlan *plan,
									  const char *stream, bool *refused);

extern char *sink_stream_delete(Elasticsearch *client, const Sink *sink, const char *stream);

/* an action of a request for /_aliases; a stream that is written to through an alias must be marked for it */
extern void sink_stream_append_alias(StringInfo body, const char *action, const char *stream,
									 const char *alias, bool writes);

/* which of these ids a search finds: a stream cannot be asked for documents by their ids otherwise */
extern char *sink_stream_find(Elasticsearch *client, const Sink *sink, char *const *ids, int n, bool *found);

#endif							/* CLICKSTREAM_SINK_STREAM_H */
