/*
 * sink_api.h
 *		The parts of the SQL functions over sinks: what each checks, and how changes are published.
 */
#ifndef CLICKSTREAM_SINK_API_H
#define CLICKSTREAM_SINK_API_H

#include "postgres.h"

#include "fmgr.h"
#include "nodes/parsenodes.h"
#include "nodes/pg_list.h"
#include "utils/relcache.h"

#include "catalog.h"

/* sink_check.c: raises unless every option makes sense */
extern void sink_check_name(const char *name);
extern void sink_check_server_settings(void);
extern char *sink_check_index(const char *index);	/* the alias */
extern void sink_check_mapping(Jsonb *mapping);
extern void sink_check_bulk(const Sink *sink);
extern void sink_check_on_drop(const char *on_drop);
extern int64 sink_check_wal_lag(Datum size);	/* '10 GB' as bytes, 0 for no bound */

/* sink_inserts.c: the same for sinks that follow inserts alone */
extern bool sink_is_create(const char *op_type, bool data_stream);	/* NULL: as the data stream wants it */
extern void sink_check_inserts(Relation relation, const Sink *sink, bool is_rollup);
extern const char *sink_published_for_inserts(Relation relation, const Sink *sink, List *told);

/* sink_table.c: the same for the table; fills in columns and id_columns; returns what is published */
extern const char *sink_check_table(Sink *sink, const char *id);

/*
 * sink_filter.c: a user's condition, raises unless it is one over the table's columns; written out anew.
 * The filter in force is that of the publication, NULL for none.
 */
extern char *sink_filter_check(Relation relation, const char *text);
extern List *sink_filter_columns(Relation relation, const char *text);
extern PGDLLEXPORT char *sink_filter_published(const Sink *sink);
extern List *sink_filter_published_columns(const Sink *sink);

/* in a transaction: why the sink's owner may not read all of its table, NULL if he may */
extern PGDLLEXPORT char *sink_forbidden(const Sink *sink);

/* the column that a source fills from a field, or from, say, @partition; NULL for none */
extern char *sink_column_fed_by(const Source *source, const char *from);

/* the field that a column goes into by the sink's option columns, NULL when it is left out */
extern PGDLLEXPORT char *sink_field_of(Jsonb *columns, const char *column);

/* sink_identity.c */
typedef enum Identity
{
	IDENTITY_MISSING,			/* updates of it cannot be published */
	IDENTITY_OTHER,				/* usable, but some id column is not part of it */
	IDENTITY_COVERS
} Identity;

/* columns that say which index and which shard a document is in: of the date, then of the route */
extern List *sink_placing_columns(const Sink *sink);

/* columns that a delete has to tell: those of the id, the place and the filter */
extern List *sink_identity_columns(const Sink *sink);

/* the worst among the table and its partitions, and who has it */
extern Identity sink_worst_identity(Relation relation, List *id_columns, Oid *who);
extern List *sink_index_columns(Relation relation, Oid index_id);

/* sink_partition.c: before a command that takes rows away with their partition; the message is what its worker reads */
#define SINK_GONE_PREFIX "clickstream gone"
extern void sink_before_command(Node *statement);

/* sink_publication.c: made and dropped in the caller's transaction */
extern void sink_publish(const Sink *sink, const char *what);
extern void sink_publish_anew(const Sink *sink, const char *what);	/* other rows and changes than before */
extern void sink_unpublish(const char *publication);

/* sink_api.c, for sink_alter.c as well: arguments as options, each checked; the row changed; an index that is built */
extern char *sink_text_argument(FunctionCallInfo fcinfo, int n, const char *name);
extern void sink_take_bulk(FunctionCallInfo fcinfo, int first, Sink *sink);
extern void sink_take_on_drop(FunctionCallInfo fcinfo, int n, Sink *sink);
extern void sink_check_index_is_free(const Sink *sink);
extern char *sink_id_option(const Sink *sink);
extern void sink_build_anew(Sink *sink);
extern void sink_save(const Sink *sink);

/* sink_api.c: the sink of that name if the caller may command it, locked and read after that */
extern Sink *sink_of_caller(const char *name);
extern Sink *sink_lock_of_caller(const char *name);

/* sink_compare.c: throws unless the sink follows its table, so that its index can be looked at beside it */
extern void sink_must_follow(const Sink *sink);

/* sink_wait.c: the end of all that is committed now, which it brings to disk */
extern PGDLLEXPORT XLogRecPtr sink_end_of_log(void);

#endif							/* CLICKSTREAM_SINK_API_H */
