/*
 * changes.c
 *		Logical decoding in this very process: the write-ahead log becomes row changes.
 *
 * Owns the replication slot and the decoding context.  Must never confirm what it is not told to
 * confirm, and knows nothing of documents.  Called by sink_main.c; calls its listener.
 *
 * There is no walsender and no socket.  The decoding context is the server's own, with the plugin
 * pgoutput, so that row filters, column lists and publishing via the root are the publication's; in
 * place of a walsender's callbacks are ours, which take pgoutput's messages apart where they stand.
 * The context lives in a memory context under TopMemoryContext and under a resource owner of its
 * own, outside any transaction: the reorder buffer begins and aborts a transaction for each one it
 * replays, and afterwards puts us back where we were.
 *
 * A page is only read when it is on disk (read_local_xlog_page_no_wait ends at the flushed
 * position), so a commit that a crash could undo is never told.  A transaction larger than
 * logical_decoding_work_mem is spilled to disk by the reorder buffer: memory is bounded.
 *
 * An error in here is not cleaned up after: the process ends, and the next one goes on where the
 * slot was last confirmed.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "access/xlogreader.h"
#include "access/xlogutils.h"
#include "catalog/partition.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "port/pg_bswap.h"
#include "replication/decode.h"
#include "replication/logical.h"
#include "replication/logicalproto.h"
#include "replication/slot.h"
#include "replication/snapbuild.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"

#include "changes.h"
#include "compat.h"
#include "row_values.h"
#include "sink_api.h"
#include "worker.h"

#define OUTPUT_PLUGIN "pgoutput"

struct ChangeStream
{
	MemoryContext context;		/* child of TopMemoryContext: all of this */
	ResourceOwner owner;
	Oid			published;		/* the relation: a root for its partitions */
	Oid			role;			/* output functions and row filters run as this one */
	LogicalDecodingContext *decoding;
	ReadLocalXLogPageNoWaitPrivate page_reader;
	ChangeListener listener;

	XLogRecPtr	position;
	XLogRecPtr	confirmed;
	LogicalDecodeBeginCB plugin_begin;	/* the output plugin's own callbacks */
	LogicalDecodeChangeCB plugin_change;
	LogicalDecodeCommitCB plugin_commit;
	bool		in_transaction;
	XLogRecPtr	version;		/* of the transaction being told */
	TimestampTz committed_at;

	MemoryContext description_context;	/* of `relation`; reset when it is described anew */
	RelationDescription relation;
	ColumnValue *old_values;
	ColumnValue *new_values;
};

/* reads a message from its start to its end */
typedef struct Message
{
	const char *next;
	const char *end;
} Message;

/* ---------------------------------------------------------------- pgoutput's messages */

static const char *
take_bytes(Message *message, int length)
{
	const char *bytes = message->next;

	if (length < 0 || message->end - message->next < length)
		elog(ERROR, "a message of the output plugin is cut short");
	message->next += length;
	return bytes;
}

static uint8
take_byte(Message *message)
{
	return (uint8) *take_bytes(message, 1);
}

static uint16
take_int16(Message *message)
{
	uint16		value;

	memcpy(&value, take_bytes(message, 2), 2);
	return pg_ntoh16(value);
}

static uint32
take_int32(Message *message)
{
	uint32		value;

	memcpy(&value, take_bytes(message, 4), 4);
	return pg_ntoh32(value);
}

static uint64
take_int64(Message *message)
{
	uint64		value;

	memcpy(&value, take_bytes(message, 8), 8);
	return pg_ntoh64(value);
}

static const char *
take_string(Message *message)
{
	const char *text = message->next;
	const char *end = memchr(text, '\0', message->end - message->next);

	if (end == NULL)
		elog(ERROR, "a message of the output plugin is cut short");
	message->next = end + 1;
	return text;
}

static void
take_row(Message *message, const RelationDescription *relation, ColumnValue *values)
{
	int			n = take_int16(message);
	int			i;

	if (n != relation->n_columns)
		elog(ERROR, "a row of %d columns for a relation of %d", n, relation->n_columns);
	for (i = 0; i < n; i++)
	{
		uint8		kind = take_byte(message);

		values[i].text = NULL;
		values[i].length = 0;
		values[i].untouched = kind == LOGICALREP_COLUMN_UNCHANGED;
		if (kind == LOGICALREP_COLUMN_TEXT)
		{
			values[i].length = take_int32(message);
			values[i].text = take_bytes(message, values[i].length);
		}
		else if (kind != LOGICALREP_COLUMN_NULL && kind != LOGICALREP_COLUMN_UNCHANGED)
			elog(ERROR, "a column of the unknown kind '%c'", kind);
	}
}

/*
 * The one relation of the publication.  A change of a partition comes as one of its root, but the
 * partition is described as well, to no purpose.
 */
static void
take_relation(ChangeStream *stream, Message *message)
{
	RelationDescription *relation = &stream->relation;
	MemoryContext old;
	int			i;

	if (take_int32(message) != stream->published)
		return;
	MemoryContextReset(stream->description_context);
	old = MemoryContextSwitchTo(stream->description_context);
	relation->relation = stream->published;
	(void) take_string(message);	/* schema */
	(void) take_string(message);	/* name */
	(void) take_byte(message);	/* replica identity, of the root alone */
	relation->n_columns = take_int16(message);
	relation->columns = palloc0(sizeof(ColumnDescription) * Max(relation->n_columns, 1));
	for (i = 0; i < relation->n_columns; i++)
	{
		ColumnDescription *column = &relation->columns[i];

		(void) take_byte(message);	/* part of that identity */
		column->name = pstrdup(take_string(message));
		column->type = take_int32(message);
		column->typmod = (int32) take_int32(message);
	}
	stream->old_values = palloc0(sizeof(ColumnValue) * Max(relation->n_columns, 1));
	stream->new_values = palloc0(sizeof(ColumnValue) * Max(relation->n_columns, 1));
	MemoryContextSwitchTo(old);

	stream->listener.described(stream->listener.arg, relation);
}

static void
take_change(ChangeStream *stream, Message *message, ChangeKind kind)
{
	RowChange	change = {kind, stream->version, stream->committed_at};

	if (take_int32(message) != stream->published)
		return;
	while (message->next < message->end)
	{
		uint8		part = take_byte(message);

		if (part == 'N')
			take_row(message, &stream->relation, change.new_values = stream->new_values);
		else
			take_row(message, &stream->relation, change.old_values = stream->old_values);
		change.old_is_whole |= part == 'O';
	}
	stream->listener.changed(stream->listener.arg, &change);
}

static void
take_truncate(ChangeStream *stream, Message *message)
{
	RowChange	change = {CHANGE_TRUNCATE, stream->version, stream->committed_at};
	uint32		n = take_int32(message);

	(void) take_byte(message);	/* CASCADE, RESTART IDENTITY */
	while (n-- > 0)
		if (take_int32(message) == stream->published)
			stream->listener.changed(stream->listener.arg, &change);
}

static void
take_message(ChangeStream *stream, Message *message)
{
	uint8		kind = take_byte(message);

	switch (kind)
	{
		case LOGICAL_REP_MSG_BEGIN:
			stream->version = take_int64(message);
			stream->committed_at = take_int64(message);
			stream->in_transaction = true;
			break;
		case LOGICAL_REP_MSG_COMMIT:
			stream->in_transaction = false;
			break;
		case LOGICAL_REP_MSG_RELATION:
			take_relation(stream, message);
			break;
		case LOGICAL_REP_MSG_INSERT:
			take_change(stream, message, CHANGE_INSERT);
			break;
		case LOGICAL_REP_MSG_UPDATE:
			take_change(stream, message, CHANGE_UPDATE);
			break;
		case LOGICAL_REP_MSG_DELETE:
			take_change(stream, message, CHANGE_DELETE);
			break;
		case LOGICAL_REP_MSG_TRUNCATE:
			take_truncate(stream, message);
			break;
		case LOGICAL_REP_MSG_TYPE:
		case LOGICAL_REP_MSG_ORIGIN:
		case LOGICAL_REP_MSG_MESSAGE:
			break;
		default:
			elog(ERROR, "a message of the unknown kind '%c'", kind);
	}
}

/* ---------------------------------------------------------------- callbacks of the decoding context */

static void
prepare_write(LogicalDecodingContext *decoding, XLogRecPtr lsn, TransactionId xid, bool last_write)
{
	resetStringInfo(decoding->out);
}

static void
do_write(LogicalDecodingContext *decoding, XLogRecPtr lsn, TransactionId xid, bool last_write)
{
	Message		message = {decoding->out->data, decoding->out->data + decoding->out->len};

	take_message(decoding->output_writer_private, &message);
}

static void
update_progress(LogicalDecodingContext *decoding, XLogRecPtr lsn, TransactionId xid,
				bool skipped_xact)
{
	CHECK_FOR_INTERRUPTS();
}

/* ---------------------------------------------------------------- rows too large for a message */

/* the published relation, or a partition under it */
static bool
is_published(const ChangeStream *stream, Relation relation)
{
	return RelationGetRelid(relation) == stream->published ||
		(relation->rd_rel->relispartition &&
		 list_member_oid(get_partition_ancestors(RelationGetRelid(relation)), stream->published));
}

/* as the output plugin would, before it sends the first row */
static void
describe_published(ChangeStream *stream)
{
	RelationDescription *relation = &stream->relation;
	Relation	published = RelationIdGetRelation(stream->published);
	MemoryContext old;

	if (!RelationIsValid(published))
		elog(ERROR, "the relation with OID %u is not there", stream->published);
	MemoryContextReset(stream->description_context);
	old = MemoryContextSwitchTo(stream->description_context);
	row_describe(relation, stream->published, RelationGetDescr(published));
	stream->old_values = palloc0(sizeof(ColumnValue) * Max(relation->n_columns, 1));
	stream->new_values = palloc0(sizeof(ColumnValue) * Max(relation->n_columns, 1));
	RelationClose(published);
	MemoryContextSwitchTo(old);

	stream->listener.described(stream->listener.arg, relation);
}

static ChangeKind
kind_of_change(const ReorderBufferChange *change)
{
	switch (change->action)
	{
		case REORDER_BUFFER_CHANGE_INSERT:
			return CHANGE_INSERT;
		case REORDER_BUFFER_CHANGE_UPDATE:
			return CHANGE_UPDATE;
		default:
			return CHANGE_DELETE;
	}
}

static void
tell_large_change(ChangeStream *stream, Relation relation, HeapTuple old_row, HeapTuple new_row,
				  ChangeKind kind)
{
	RowChange	change = {.kind = kind, .version = stream->version,
		.committed_at = stream->committed_at, .unfiltered = true};
	MemoryContext context;
	MemoryContext old;

	describe_published(stream);
	context = AllocSetContextCreate(stream->context, "large row", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	if (old_row)
		(void) row_values(&stream->relation, old_row, RelationGetDescr(relation),
						  change.old_values = stream->old_values);
	if (new_row &&
		!row_values(&stream->relation, new_row, RelationGetDescr(relation),
					change.new_values = stream->new_values))
		change.kind = CHANGE_TOO_LARGE;
	MemoryContextSwitchTo(old);
	stream->listener.changed(stream->listener.arg, &change);
	MemoryContextDelete(context);
}

/*
 * Stands before the output plugin's own callback.  Whatever is too large for that is told directly,
 * whether a row filter of the publication would leave it out or not.
 */
static void
change_callback(LogicalDecodingContext *decoding, ReorderBufferTXN *txn, Relation relation,
				ReorderBufferChange *change)
{
	ChangeStream *stream = decoding->output_writer_private;
	HeapTuple	old_row = compat_change_tuple(change->data.tp.oldtuple);
	HeapTuple	new_row = compat_change_tuple(change->data.tp.newtuple);
	Size		size = 0;

	if (old_row)
		size += row_size(old_row, RelationGetDescr(relation), false);
	if (new_row)
		size += row_size(new_row, RelationGetDescr(relation), false);
	if (likely(size <= LARGEST_ROW) || !is_published(stream, relation))
	{
		stream->plugin_change(decoding, txn, relation, change);
		return;
	}
	stream->version = txn->final_lsn;
	stream->committed_at = txn->xact_time.commit_time;
	stream->in_transaction = true;
	tell_large_change(stream, relation, old_row, new_row, kind_of_change(change));
}

/* stands in place of the output plugin's: messages of others are nothing to us */
static void
message_callback(LogicalDecodingContext *decoding, ReorderBufferTXN *txn, XLogRecPtr lsn,
				 bool transactional, const char *prefix, Size length, const char *bytes)
{
	ChangeStream *stream = decoding->output_writer_private;

	if (!transactional || strcmp(prefix, SINK_GONE_PREFIX) != 0)
		return;
	stream->version = txn->final_lsn;
	stream->committed_at = txn->xact_time.commit_time;
	stream->in_transaction = true;
	describe_published(stream);
	stream->listener.gone(stream->listener.arg, bytes, (int) length, stream->version);
}

/*
 * Whatever is called for the rows of a transaction, functions of types and filters, is called as the sink's owner,
 * until decoding ends the transaction that it has begun for them.
 */
static void
begin_callback(LogicalDecodingContext *decoding, ReorderBufferTXN *txn)
{
	ChangeStream *stream = decoding->output_writer_private;

	SetUserIdAndSecContext(stream->role, SECURITY_LOCAL_USERID_CHANGE);
	stream->plugin_begin(decoding, txn);
}

/* the end of a transaction of which the output plugin has told nothing */
static void
commit_callback(LogicalDecodingContext *decoding, ReorderBufferTXN *txn, XLogRecPtr lsn)
{
	ChangeStream *stream = decoding->output_writer_private;

	stream->plugin_commit(decoding, txn, lsn);
	stream->in_transaction = false;
}

/* ---------------------------------------------------------------- the slot */

/* as walsender does for CREATE_REPLICATION_SLOT … USE_SNAPSHOT */
static void
begin_snapshot_transaction(Oid owner)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	worker_look_at(CATALOGS_NOW);
	XactIsoLevel = XACT_REPEATABLE_READ;
	XactReadOnly = true;
	SetUserIdAndSecContext(owner, SECURITY_LOCAL_USERID_CHANGE);
}

XLogRecPtr
changes_create_slot(const char *slot, Oid owner)
{
	LogicalDecodingContext *decoding;
	Snapshot	snapshot;
	XLogRecPtr	consistent_point;

	begin_snapshot_transaction(owner);
	CheckLogicalDecodingRequirements();
	compat_replication_slot_create(slot, RS_EPHEMERAL);
	decoding = CreateInitDecodingContext(OUTPUT_PLUGIN, NIL, true, InvalidXLogRecPtr,
										 XL_ROUTINE(.page_read = read_local_xlog_page,
													.segment_open = wal_segment_open,
													.segment_close = wal_segment_close),
										 NULL, NULL, NULL);
	DecodingContextFindStartpoint(decoding);
	InvalidateCatalogSnapshot();
	snapshot = SnapBuildInitialSnapshot(decoding->snapshot_builder);
	RestoreTransactionSnapshot(snapshot, MyProc);
	consistent_point = MyReplicationSlot->data.confirmed_flush;
	FreeDecodingContext(decoding);
	ReplicationSlotPersist();
	ReplicationSlotRelease();
	PushActiveSnapshot(GetTransactionSnapshot());
	return consistent_point;
}

bool
changes_slot_is_usable(const char *slot)
{
	ReplicationSlot *found;
	bool		usable = false;

	LWLockAcquire(ReplicationSlotControlLock, LW_SHARED);
	found = SearchNamedReplicationSlot(slot, false);
	if (found)
	{
		SpinLockAcquire(&found->mutex);
		usable = found->data.database == MyDatabaseId &&
			!compat_slot_is_invalidated(found) &&
			!XLogRecPtrIsInvalid(found->data.restart_lsn);
		SpinLockRelease(&found->mutex);
	}
	LWLockRelease(ReplicationSlotControlLock);
	return usable;
}

uint64
changes_slot_lag(const char *slot)
{
	ReplicationSlot *found;
	XLogRecPtr	kept = InvalidXLogRecPtr;
	XLogRecPtr	end = GetXLogInsertRecPtr();

	LWLockAcquire(ReplicationSlotControlLock, LW_SHARED);
	found = SearchNamedReplicationSlot(slot, false);
	if (found)
	{
		SpinLockAcquire(&found->mutex);
		kept = found->data.restart_lsn;
		SpinLockRelease(&found->mutex);
	}
	LWLockRelease(ReplicationSlotControlLock);
	return XLogRecPtrIsInvalid(kept) || kept > end ? 0 : end - kept;
}

void
changes_drop_slot(const char *slot)
{
	if (SearchNamedReplicationSlot(slot, true) != NULL)
		ReplicationSlotDrop(slot, false);
}

/* ---------------------------------------------------------------- the stream */

static List *
plugin_options(const char *publication)
{
	return list_make2(makeDefElem("proto_version", (Node *) makeString(pstrdup("1")), -1),
					  makeDefElem("publication_names",
								  (Node *) makeString(pstrdup(quote_identifier(publication))), -1));
}

static void
begin_work(ChangeStream *stream)
{
	CurrentResourceOwner = stream->owner;
}

static void
end_work(ChangeStream *stream)
{
	CurrentResourceOwner = NULL;
}

ChangeStream *
changes_open(const char *slot, const char *publication, Oid relation, Oid owner,
			 const ChangeListener *listener)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "clickstream changes",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	ChangeStream *stream = palloc0(sizeof(ChangeStream));

	stream->context = context;
	stream->description_context = AllocSetContextCreate(context, "relation",
														ALLOCSET_SMALL_SIZES);
	stream->listener = *listener;
	stream->published = relation;
	stream->role = owner;
	stream->owner = ResourceOwnerCreate(NULL, "clickstream changes");
	begin_work(stream);

	compat_replication_slot_acquire(slot);
	stream->decoding = CreateDecodingContext(InvalidXLogRecPtr, plugin_options(publication), false,
											 XL_ROUTINE(.page_read = read_local_xlog_page_no_wait,
														.segment_open = wal_segment_open,
														.segment_close = wal_segment_close),
											 prepare_write, do_write, update_progress);
	stream->decoding->output_writer_private = stream;
	stream->plugin_begin = stream->decoding->callbacks.begin_cb;
	stream->plugin_change = stream->decoding->callbacks.change_cb;
	stream->plugin_commit = stream->decoding->callbacks.commit_cb;
	stream->decoding->callbacks.begin_cb = begin_callback;
	stream->decoding->callbacks.change_cb = change_callback;
	stream->decoding->callbacks.commit_cb = commit_callback;
	stream->decoding->callbacks.message_cb = message_callback;
	/* the reader of pages without waiting has its own idea of what this points to */
	stream->decoding->reader->private_data = &stream->page_reader;
	XLogBeginRead(stream->decoding->reader, MyReplicationSlot->data.restart_lsn);
	stream->confirmed = MyReplicationSlot->data.confirmed_flush;
	stream->position = stream->confirmed;

	end_work(stream);
	MemoryContextSwitchTo(old);
	return stream;
}

/* false at the end of what is on disk */
static bool
read_record(ChangeStream *stream)
{
	LogicalDecodingContext *decoding = stream->decoding;
	char	   *error = NULL;
	XLogRecord *record = XLogReadRecord(decoding->reader, &error);

	if (error)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("the write-ahead log cannot be read: %s", error)));
	if (record == NULL)
		return false;

	LogicalDecodingProcessRecord(decoding, decoding->reader);
	CurrentResourceOwner = stream->owner;
	MemoryContextSwitchTo(stream->context);
	stream->position = Max(stream->position, decoding->reader->EndRecPtr);
	return true;
}

bool
changes_read(ChangeStream *stream, uint64 bytes)
{
	MemoryContext old = MemoryContextSwitchTo(stream->context);
	XLogReaderState *reader = stream->decoding->reader;
	XLogRecPtr	limit = reader->EndRecPtr + bytes;
	bool		more = true;

	begin_work(stream);
	worker_look_at(CATALOGS_OF_THE_LOG);
	while (more && reader->EndRecPtr < limit)
	{
		CHECK_FOR_INTERRUPTS();
		more = read_record(stream);
	}
	end_work(stream);
	MemoryContextSwitchTo(old);
	return more;
}

XLogRecPtr
changes_position(const ChangeStream *stream)
{
	return stream->position;
}

bool
changes_in_transaction(const ChangeStream *stream)
{
	return stream->in_transaction;
}

int
changes_columns(const ChangeStream *stream)
{
	return stream->relation.n_columns;
}

void
changes_confirm(ChangeStream *stream, XLogRecPtr position)
{
	if (position <= stream->confirmed)
		return;
	begin_work(stream);
	LogicalConfirmReceivedLocation(position);
	stream->confirmed = position;
	end_work(stream);
}

/* before 17 a checkpoint, and so a shutdown, saves a slot only when more than that has changed */
void
changes_save_position(void)
{
	if (MyReplicationSlot == NULL || MyReplicationSlot->data.persistency != RS_PERSISTENT)
		return;
	ReplicationSlotMarkDirty();
	ReplicationSlotSave();
}

void
changes_close(ChangeStream *stream)
{
	begin_work(stream);
	changes_save_position();
	FreeDecodingContext(stream->decoding);
	ReplicationSlotRelease();
	ResourceOwnerRelease(stream->owner, RESOURCE_RELEASE_BEFORE_LOCKS, false, true);
	ResourceOwnerRelease(stream->owner, RESOURCE_RELEASE_LOCKS, false, true);
	ResourceOwnerRelease(stream->owner, RESOURCE_RELEASE_AFTER_LOCKS, false, true);
	end_work(stream);
	ResourceOwnerDelete(stream->owner);
	MemoryContextDelete(stream->context);
}
