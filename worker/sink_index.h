/*
 * sink_index.h
 *		The index behind a sink's alias: whose it is, made, swapped in, altered, emptied.
 */
#ifndef CLICKSTREAM_SINK_INDEX_H
#define CLICKSTREAM_SINK_INDEX_H

#include "postgres.h"

#include "catalog.h"
#include "document.h"
#include "elasticsearch.h"

struct json_t;

typedef enum IndexState
{
	INDEX_OURS,					/* the alias leads to one index, which this sink made */
	INDEX_MISSING,				/* neither alias nor index of that name */
	INDEX_FOREIGN,				/* another's, or of another cluster, database or time */
	INDEX_NO_ALIAS,				/* an index has the name that the alias should have */
	INDEX_NO_ANSWER				/* Elasticsearch does not say */
} IndexState;

/* *why: for people, where it is not INDEX_OURS */
extern IndexState sink_index_look(Elasticsearch *client, const Sink *sink, char **why);

/* a name for a new index that is free, or belongs to a copy that this sink never finished; NULL with *why */
extern char *sink_index_free_name(Elasticsearch *client, const Sink *sink, char **why);

/*
 * All of these return NULL when it is done, or why not.  *refused: Elasticsearch did answer, and will
 * not have it; else it may well later.
 */

/* makes the index anew, empty, with an alias of its own for the time of the copy */
extern char *sink_index_make(Elasticsearch *client, const Sink *sink, const DocumentPlan *plan,
							 const char *physical);
/* a copy that this sink has not finished: it is there, is the sink's own, and has the alias of the copy alone */
extern bool sink_index_is_half_made(Elasticsearch *client, const Sink *sink, const char *physical);

/* the same without deleting anything, and with these aliases */
extern char *sink_index_put(Elasticsearch *client, const Sink *sink, const DocumentPlan *plan,
							const char *physical, List *aliases);

/* the definitions of the indexes that an alias leads to, by their names; NULL for none */
extern char *sink_index_behind(Elasticsearch *client, const char *alias, struct json_t **indexes);
extern bool sink_index_is_ours(const Sink *sink, struct json_t *index);

/* settings, mapping and aliases of an index, in one of several forms (document_append_mapping) */
typedef char *(*SinkIndexDefinition) (const Sink *sink, const DocumentPlan *plan, int which, List *names);
extern char *sink_index_definition(const Sink *sink, const DocumentPlan *plan, int which, List *aliases);

/* puts what has a mapping in it, in the first form that the server takes: NULL, or why not; *refused: for good */
extern char *sink_index_put_mapping(Elasticsearch *client, const char *path, SinkIndexDefinition define,
									const Sink *sink, const DocumentPlan *plan, List *names, bool *refused);
extern char *sink_index_refresh(Elasticsearch *client, const char *alias);
extern char *sink_index_copy_alias(const char *physical);

/* fields that are new in the plan reach the mapping */
extern char *sink_index_extend(Elasticsearch *client, const Sink *sink, const DocumentPlan *plan,
							   bool *refused);

/* calls `each` for the address and version of every document */
typedef void (*SinkIndexEach) (void *arg, const char *address, int length, XLogRecPtr version);
extern char *sink_index_each_id(Elasticsearch *client, const Sink *sink, SinkIndexEach each,
								void *arg);

/* the same for the documents of one id, which can be in several indexes or shards */
extern char *sink_index_each_place(Elasticsearch *client, const Sink *sink, const char *id,
								   SinkIndexEach each, void *arg);

#endif							/* CLICKSTREAM_SINK_INDEX_H */
