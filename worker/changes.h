/*
 * changes.h
 *		The write-ahead log as row changes of one publication: slot made, decoded, confirmed.
 */
#ifndef CLICKSTREAM_CHANGES_H
#define CLICKSTREAM_CHANGES_H

#include "postgres.h"

#include "access/xlogdefs.h"
#include "datatype/timestamp.h"
#include "utils/snapshot.h"

/* a value in its text form, as the type's output function gives it under the pinned settings */
typedef struct ColumnValue
{
	const char *text;			/* not zero-terminated; NULL: SQL NULL, or untouched */
	int			length;
	bool		untouched;		/* a TOASTed value that an UPDATE left as it was: not in the log */
} ColumnValue;

typedef struct ColumnDescription
{
	char	   *name;
	Oid			type;
	int32		typmod;
} ColumnDescription;

/* the published relation as the log described it last */
typedef struct RelationDescription
{
	Oid			relation;
	int			n_columns;
	ColumnDescription *columns;
} RelationDescription;

typedef enum ChangeKind
{
	CHANGE_INSERT,
	CHANGE_UPDATE,
	CHANGE_DELETE,
	CHANGE_TRUNCATE,
	CHANGE_TOO_LARGE			/* a new row that no document can hold; its small columns are there */
} ChangeKind;

typedef struct RowChange
{
	ChangeKind	kind;
	XLogRecPtr	version;		/* of the commit: where its record begins */
	TimestampTz committed_at;
	ColumnValue *old_values;	/* NULL: none; only those of the replica identity are there */
	bool		old_is_whole;	/* REPLICA IDENTITY FULL: all of them */
	ColumnValue *new_values;	/* NULL: none */
	bool		unfiltered;		/* the publication's row filter was not asked: the row is very large */
} RowChange;

/*
 * What the reader of changes is told, in order.  Both run in the transaction in which the log is
 * decoded, under a historic snapshot: they may look at system catalogs (caches), and no table.
 */
typedef struct ChangeListener
{
	void		(*described) (void *arg, const RelationDescription *relation);
	void		(*changed) (void *arg, const RowChange *change);
	/* a message of sink_partition.c, after the relation was described */
	void		(*gone) (void *arg, const char *message, int length, XLogRecPtr version);
	void	   *arg;
} ChangeListener;

typedef struct ChangeStream ChangeStream;

/*
 * Makes the slot, in a transaction that this begins (REPEATABLE READ, as the owner) and leaves open:
 * its snapshot is the table as of the slot's consistent point, which is returned.  Waits for the
 * transactions that run at that moment.
 */
extern XLogRecPtr changes_create_slot(const char *slot, Oid owner);

/* false when there is none, or when what it needs has been removed */
extern bool changes_slot_is_usable(const char *slot);

/* how much of the write-ahead log is kept for it, 0 when there is none */
extern uint64 changes_slot_lag(const char *slot);

extern void changes_drop_slot(const char *slot);	/* no error when there is none */

/* Outside of a transaction.  An error in any of these leaves nothing that can be used further. */
extern ChangeStream *changes_open(const char *slot, const char *publication, Oid relation,
								  Oid owner, const ChangeListener *listener);

/*
 * Decodes what is on disk, at most so many bytes of it; false when the end was reached.  What
 * was not flushed yet is not there: no commit is told that a crash could take back.
 */
extern bool changes_read(ChangeStream *stream, uint64 bytes);

/* all that commits before this has been told */
extern XLogRecPtr changes_position(const ChangeStream *stream);

/* the listener is being told a transaction's changes */
extern bool changes_in_transaction(const ChangeStream *stream);

/* columns of the relation as it was described last */
extern int	changes_columns(const ChangeStream *stream);

extern void changes_confirm(ChangeStream *stream, XLogRecPtr position);

/* what was confirmed is on disk, too: after a restart no change is told again */
extern void changes_save_position(void);

extern void changes_close(ChangeStream *stream);

#endif							/* CLICKSTREAM_CHANGES_H */
