/*
 * catalog.h
 *		The extension's own tables as structs: nothing else reads or writes those tables.
 *
 * All structs and what they point to live in the memory context that was current at the call.
 * Functions that write run with the rights of the extension's owner, whoever calls; who may do
 * what is decided before, in the SQL functions.  All of them need a transaction.
 */
#ifndef CLICKSTREAM_CATALOG_H
#define CLICKSTREAM_CATALOG_H

#include "postgres.h"

#include "access/xlogdefs.h"
#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "storage/lockdefs.h"
#include "utils/jsonb.h"

/* a row of clickstream._sources */
typedef struct Source
{
	int32		id;
	char	   *name;
	Oid			owner;			/* of the target now; InvalidOid when that is gone */
	char	   *server;
	List	   *topics;			/* of char *: names, and patterns that begin with ^ */
	Oid			target;
	Jsonb	   *columns;
	Interval   *partition_interval; /* NULL: makes no partitions */
	Interval   *retention;		/* NULL: keeps for ever */
	char	   *retention_action;	/* drop or detach */
	char	   *start_at;
	int32		workers;
	Interval   *max_future;
	int32		max_batch_rows;
	Interval   *max_batch_wait;
	int32	   *partitions;		/* NULL: all of the topic */
	int			n_partitions;
	char	   *on_conflict;	/* error, ignore or update */
	char	   *consumer_group; /* NULL: the default; empty: none */
	Interval   *dead_letter_retention;	/* NULL: keeps for ever */
	bool		enabled;
	char	   *paused_because; /* or NULL */
	uint64		system_identifier;
	Oid			database;
} Source;

/* a row of clickstream.offsets */
typedef struct SourceOffset
{
	char	   *topic;
	int32		partition;
	int64		start_offset;
	int64		next_offset;
	int64		messages;
	int64		rows;
	int64		dead_letters;
	int64		skipped;
	TimestampTz last_timestamp; /* of the last record; 0 when there is none yet */
	int64		last_hash;
	bool		changed;		/* set by whoever changes it; cleared by the save */
} SourceOffset;

/* how many dead letters are read or dropped at once */
#define CATALOG_LETTERS_AT_ONCE 1000

/* a row of clickstream.dead_letters, before it has an id */
typedef struct DeadLetter
{
	const char *topic;
	int32		partition;
	int64		offset;
	TimestampTz timestamp;		/* 0 for none */
	const char *key;			/* NULL for none */
	size_t		key_length;
	const char *value;			/* NULL for none */
	size_t		value_length;
	Jsonb	   *headers;		/* or NULL */
	int			sqlstate;		/* as ErrorData.sqlerrcode */
	const char *error;
} DeadLetter;

/* one that is there */
typedef struct StoredLetter
{
	int64		id;
	DeadLetter	letter;			/* without sqlstate and error */
} StoredLetter;

/* how far a worker has come with filling a rollup, and so what a writer of its target does to it */
typedef enum RollupPhase
{
	ROLLUP_FILLED,				/* there is nothing to fill: writers keep it exact */
	ROLLUP_WAITING,				/* nobody has begun: writers leave it alone */
	ROLLUP_FILLING,				/* new rows are added, groups of others are noted */
	ROLLUP_SETTLING				/* writers keep it exact but for the groups noted */
} RollupPhase;

/* a row of clickstream.rollups */
typedef struct Rollup
{
	int32		id;
	Oid			rollup;			/* the table */
	Oid			target;
	Oid			definition;		/* the view */
	Oid			owner;
	char	   *query;
	List	   *keys;			/* of char *: output columns that are the group */
	Jsonb	   *settings;
	Interval   *retention;
	Interval   *partition_interval;
	bool		complete;
	RollupPhase phase;
} Rollup;

/* a table with rows that a rollup is filled from */
typedef struct FillLeaf
{
	Oid			leaf;
	Oid			file;			/* of its rows: of another one nothing is known */
	int64		blocks;			/* that it had */
} FillLeaf;

/* a row of clickstream._fills: a rollup that is filled by portions, and how far that is */
typedef struct Fill
{
	TimestampTz begun_at;
	TimestampTz oldest;			/* groups before it are left out */

	/* the moment: what transactions wrote that had committed then.  None of those running had written rows. */
	int64		horizon;		/* the first transaction that had not begun */
	int			n_running;
	int64	   *running;		/* of those before it, and their subtransactions, in order */

	int			n_leaves;
	FillLeaf   *leaves;
	int			leaf;			/* those before it are done */
	int64		blocks;			/* of this one that are done */
	bytea	   *merged;			/* of the portion after these: the last group that is in place, or NULL */
	int64		groups;			/* put in place so far */
	int64		portion;		/* blocks read of a leaf at most before they are put in place */
} Fill;

/* a row of clickstream.sinks */
typedef struct Sink
{
	int32		id;
	char	   *name;
	Oid			owner;
	char	   *server;
	Oid			relation;
	char	   *index;			/* the option: a name, or a pattern of names */
	char	   *alias;			/* what a search asks for, made of it */
	List	   *id_columns;		/* of char * */
	Jsonb	   *columns;
	char	   *filter;			/* the option where, or NULL */
	char	   *routing;		/* a column, or NULL */
	char	   *pipeline;		/* or NULL */
	bool		create_only;	/* op_type create */
	Jsonb	   *mapping;
	bool		data_stream;
	int32		bulk_bytes;
	Interval   *bulk_wait;
	int64		max_wal_lag;	/* bytes; 0 for no bound */
	char	   *on_drop;		/* keep or delete: the documents of a dropped partition */
	char	   *slot;
	char	   *publication;
	char	   *phase;
	char	   *physical_index; /* or NULL */
	XLogRecPtr	consistent_point;	/* Invalid before there is a slot */
	bool		enabled;
	char	   *paused_because; /* or NULL */
	uint64		system_identifier;
	Oid			database;

	/* of _sink_totals: only catalog_sink_versions_save writes them */
	uint64		version_base;	/* what a document's version is above its position in the log */
	uint32		timeline;		/* on which the slot was made; 0: not known */
} Sink;

/*
 * A log that went back in time writes positions again that documents have as their versions.  Then all
 * versions to come are so much higher: further than any timeline can have gone on its own.
 */
#define SINK_VERSION_STEP (UINT64CONST(1) << 48)

/* a row of clickstream._sink_totals: what a sink has done, beyond the life of its workers */
typedef struct SinkTotals
{
	int64		documents;
	int64		deletes;
	int64		failures;
	int64		retries;
	int64		skipped;
	TimestampTz current_until;	/* all that was committed before is in the index; 0: not known */
} SinkTotals;

/*
 * A source, rollup or sink is locked by its id while something is decided about it: a worker holds
 * ShareLock on its own for the length of each batch's transaction and reads the row after taking
 * it; pause, alter, seek and drop take ExclusiveLock.  So these calls return when the batch under
 * way has ended, and none begins before they commit.
 */
typedef enum CatalogKind
{
	CATALOG_SOURCE,
	CATALOG_ROLLUP,
	CATALOG_SINK
} CatalogKind;

extern PGDLLEXPORT bool catalog_extension_exists(void);
extern PGDLLEXPORT void catalog_lock(CatalogKind kind, int32 id, LOCKMODE mode);

extern PGDLLEXPORT Source *catalog_source_by_name(const char *name); /* NULL if there is none */
extern PGDLLEXPORT Source *catalog_source_by_id(int32 id);
extern PGDLLEXPORT List *catalog_sources(void); /* all, ordered by id */
extern PGDLLEXPORT List *catalog_sources_of_target(Oid target);
extern PGDLLEXPORT int32 catalog_source_insert(const Source *source); /* returns its id */
extern PGDLLEXPORT void catalog_source_update(const Source *source);
extern PGDLLEXPORT void catalog_source_delete(int32 id);

extern PGDLLEXPORT List *catalog_offsets(const char *source); /* of SourceOffset * */
extern PGDLLEXPORT void catalog_offsets_save(const char *source, List *offsets); /* the changed ones: update, or insert where new */
extern PGDLLEXPORT void catalog_gap_insert(const char *source, const char *topic, int32 partition,
										   int64 from_offset, int64 to_offset);
extern PGDLLEXPORT void catalog_dead_letters_insert(const char *source, const DeadLetter *letters, int n);

/* the next ones by id, locked, as many as go well into memory: of StoredLetter * */
extern PGDLLEXPORT List *catalog_dead_letters_lock(const char *source, int64 after_id, const int64 *only,
												   int n_only);

/* deletes some of those that arrived before, and counts them in offsets; returns how many */
extern PGDLLEXPORT int64 catalog_dead_letters_expire(const char *source, TimestampTz before);
extern PGDLLEXPORT void catalog_dead_letters_delete(const int64 *ids, int n);
extern PGDLLEXPORT void catalog_dead_letter_fault(int64 id, int sqlstate, const char *error);

extern PGDLLEXPORT Rollup *catalog_rollup_by_relation(Oid rollup); /* NULL if there is none */
extern PGDLLEXPORT Rollup *catalog_rollup_by_id(int32 id);
extern PGDLLEXPORT List *catalog_rollups(void); /* all, ordered by id */
extern PGDLLEXPORT List *catalog_rollups_of_target(Oid target); /* ordered by id */
extern PGDLLEXPORT int32 catalog_rollup_insert(const Rollup *rollup);
extern PGDLLEXPORT void catalog_rollup_update(const Rollup *rollup);
extern PGDLLEXPORT void catalog_rollup_delete(int32 id);

/* NULL if it is not filled by portions */
extern Fill *catalog_fill(int32 rollup_id);
extern void catalog_fill_insert(int32 rollup_id, const Fill *fill);
extern void catalog_fill_save(int32 rollup_id, const Fill *fill);	/* how far it is */
extern void catalog_fill_delete(int32 rollup_id);

/* rows that were too old for a rollup's retention when they came */
extern void catalog_late_rows_insert(int32 rollup_id, int64 rows);
extern void catalog_late_rows_sum_up(int32 rollup_id);
extern void catalog_late_rows_delete(int32 rollup_id);

/* groups noted while a rollup is filled: as bytea; takes away and returns the next ones */
extern void catalog_noted_groups_insert(int32 rollup_id, const Datum *groups, int n);
extern List *catalog_noted_groups_take(int32 rollup_id, int most); /* of bytea * */
extern void catalog_noted_groups_delete(int32 rollup_id);

extern PGDLLEXPORT Sink *catalog_sink_by_name(const char *name);
extern PGDLLEXPORT Sink *catalog_sink_by_id(int32 id);
extern PGDLLEXPORT List *catalog_sinks(void);
extern PGDLLEXPORT int32 catalog_sink_insert(const Sink *sink);
extern PGDLLEXPORT void catalog_sink_update(const Sink *sink);
extern PGDLLEXPORT void catalog_sink_delete(int32 id);

/* how far a first copy has come */
typedef struct SinkCopied
{
	Oid			leaf;			/* those with a lower OID are done; 0: none is */
	Oid			file;			/* of this one's rows: rewritten, it begins anew */
	int64		blocks;			/* of this one that are done */
} SinkCopied;

extern PGDLLEXPORT void catalog_sink_copied(int32 id, SinkCopied *copied);
extern PGDLLEXPORT void catalog_sink_copied_save(int32 id, const SinkCopied *copied);

/* NULL if the sink is gone; saving waits for nobody, and does nothing where somebody else has the row */
extern PGDLLEXPORT SinkTotals *catalog_sink_totals(int32 id);
extern PGDLLEXPORT void catalog_sink_totals_save(int32 id, const SinkTotals *totals);
extern PGDLLEXPORT void catalog_sink_versions_save(int32 id, uint64 version_base, uint32 timeline);
extern PGDLLEXPORT void catalog_sink_slot_lost(int32 id, const char *because);
extern PGDLLEXPORT void catalog_sink_dead_letter_put(const char *sink, const char *document_id,
													 int64 version, const char *document, int status,
													 const char *type, const char *reason);

/* ids of documents, in order, the next ones after that; of those alone, if `some` */
extern PGDLLEXPORT List *catalog_sink_dead_letters(const char *sink, const char *after, List *only, bool some);

/* one up to this version; how many that were */
extern PGDLLEXPORT int catalog_sink_dead_letter_delete(const char *sink, const char *document_id, int64 version);

/* the cluster and database we are in, as kept with each source and sink */
extern PGDLLEXPORT bool catalog_is_here(uint64 system_identifier, Oid database);

/* why a source or sink that was made elsewhere does not run here, and what to do; NULL where it was made here */
extern char *catalog_copied_because(const char *kind, const char *name, uint64 system_identifier, Oid database);

#endif							/* CLICKSTREAM_CATALOG_H */
