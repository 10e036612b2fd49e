/*
 * source_api.h
 *		The parts of the SQL functions over sources: what each checks, and what it asks of Kafka.
 */
#ifndef CLICKSTREAM_SOURCE_API_H
#define CLICKSTREAM_SOURCE_API_H

#include "postgres.h"

#include "fmgr.h"
#include "nodes/pg_list.h"
#include "utils/jsonb.h"
#include "utils/relcache.h"

#include "catalog.h"

/* Where to read from: the argument start_at of create_source, position of seek_source. */
typedef enum SourcePositionKind
{
	POSITION_EARLIEST,
	POSITION_LATEST,
	POSITION_TIME,
	POSITION_OFFSETS
} SourcePositionKind;

typedef struct PartitionOffset
{
	char	   *topic;			/* NULL: the only one there is */
	int32		partition;
	int64		offset;
} PartitionOffset;

typedef struct SourcePosition
{
	SourcePositionKind kind;
	TimestampTz time;
	List	   *offsets;		/* of PartitionOffset * */
} SourcePosition;

/* what Kafka says of one partition of a topic */
typedef struct TopicPartition
{
	char	   *topic;
	int32		partition;
	int64		begin;
	int64		end;
	int64		start;			/* the position asked for */
	bool		named;			/* a position by offsets names it */
} TopicPartition;

/* source_topics.c: what the argument topic means, and whether a topic is meant by it */
typedef struct TopicMatcher TopicMatcher;

extern PGDLLEXPORT List *source_topics_parse(const char *text); /* of char * */
extern char *source_topic_trimmed(const char *from, size_t length);	/* an item of such a list */
extern PGDLLEXPORT char *source_topics_text(List *topics);
extern PGDLLEXPORT void source_topics_check(List *topics);
extern PGDLLEXPORT bool source_topic_is_pattern(const char *topic);
extern PGDLLEXPORT TopicMatcher *source_topics_matcher(List *topics);
extern PGDLLEXPORT bool source_topics_have_pattern(const TopicMatcher *matcher);
extern PGDLLEXPORT bool source_topics_mean(const TopicMatcher *matcher, const char *name);

/* source_position.c */
extern PGDLLEXPORT SourcePosition *source_position_parse(const char *text, const char *argument);

/* source_topic.c: the first millisecond since 1970 that is not before the time */
extern PGDLLEXPORT int64 source_kafka_time(TimestampTz time);
extern char *source_position_text(const SourcePosition *position);

/* source_topic.c: the partitions that the source reads, or NIL with the reason when Kafka does not answer */
extern List *source_ask_topic(const Source *source, const SourcePosition *position, char **unreachable);

/* source_arguments.c: what the SQL functions were given */
extern char *source_text_argument(FunctionCallInfo fcinfo, int n, const char *name);
extern void source_defaults(Source *source);
extern void source_read_create(FunctionCallInfo fcinfo, bool topics_as_list, Source *source);
extern SourcePosition *source_read_start(FunctionCallInfo fcinfo);
extern void source_read_alter(FunctionCallInfo fcinfo, bool topics_as_list, Source *source);

/* source_check.c: raises unless every option of the source makes sense; may normalise it */
extern void source_check_name(const char *name);
extern void source_check(Source *source);

/* source_target.c: the same for the table, and what belongs to it */
extern void source_check_target(Source *source);
extern void source_note_target(const Source *source);	/* what is no fault, and good to know */

/* whether on_conflict can go by it: a key whose rows can be told apart at once and without a condition */
extern PGDLLEXPORT bool source_is_conflict_key(Relation index);

/* source_columns.c: returns the mapping with the names that the columns really have */
extern Jsonb *source_check_columns(Relation target, Jsonb *columns);

/* source_api.c: the source of that name if the caller may command it, locked and read after that */
extern Source *source_of_caller(const char *name);
extern Source *source_lock_of_caller(const char *name);

/* the same rules for the partitions of a rollup, by a key of that type; hours that make days become days */
extern void source_check_partition_interval(Interval *width, const Interval *retention, Oid type);

#endif							/* CLICKSTREAM_SOURCE_API_H */
