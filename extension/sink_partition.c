/*
 * sink_partition.c
 *		Rows that leave a followed table with their partition: DROP, DETACH and TRUNCATE of a partition.
 *
 * The log tells nothing of such rows.  So what their documents are found by (ids, dates, routes) is written
 * to it, as a message that belongs to the transaction, before the command runs: the sink's worker finds them
 * where it would have found as many deletions, and deletes the documents (sink_follow.c).  What is rolled
 * back, or lost in a crash, takes the message along.  No row is touched and no trigger fires, so rollups
 * outlive the rows.
 *
 * TRUNCATE tells every sink but those that follow inserts alone; DROP and DETACH tell those that say
 * on_drop => 'delete'.  The partition is locked,
 * from its table downwards as the command itself would, until the transaction ends: what is read is all.
 * Must never change a command nor its outcome: who may not run it is left to PostgreSQL.  Dropped by a
 * CASCADE from elsewhere (its schema, its owner), a partition tells nothing, and neither does DETACH CONCURRENTLY.
 * Called by utility_hook.c.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "commands/extension.h"
#include "executor/tuptable.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "replication/message.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "background.h"
#include "compat.h"
#include "sink_api.h"

#define MESSAGE_BYTES (256 * 1024)

/* the columns of one leaf by which a sink finds documents: those of the id, then of the place */
typedef struct IdReader
{
	const Sink *sink;
	int			n;
	AttrNumber *columns;
	FmgrInfo   *outputs;
	StringInfoData message;
	MemoryContext row;			/* texts of one row */
} IdReader;

/* ---------------------------------------------------------------- the message */

static void
begin_message(IdReader *reader)
{
	resetStringInfo(&reader->message);
	appendBinaryStringInfo(&reader->message, (const char *) &reader->sink->id, sizeof(int32));
}

static void
send_message(IdReader *reader)
{
	if (reader->message.len > sizeof(int32))
		(void) compat_log_message(SINK_GONE_PREFIX, reader->message.data, reader->message.len);
	begin_message(reader);
}

static bool
reader_open(IdReader *reader, const Sink *sink, Relation leaf)
{
	List	   *names = list_concat_copy(sink->id_columns, sink_placing_columns(sink));
	ListCell   *cell;

	reader->sink = sink;
	reader->n = 0;
	reader->columns = palloc(sizeof(AttrNumber) * list_length(names));
	reader->outputs = palloc0(sizeof(FmgrInfo) * list_length(names));
	foreach(cell, names)
	{
		AttrNumber	column = get_attnum(RelationGetRelid(leaf), lfirst(cell));
		Oid			output;
		bool		is_varlena;

		if (column == InvalidAttrNumber)
			return false;
		getTypeOutputInfo(TupleDescAttr(RelationGetDescr(leaf), column - 1)->atttypid, &output, &is_varlena);
		fmgr_info(output, &reader->outputs[reader->n]);
		reader->columns[reader->n++] = column;
	}
	initStringInfo(&reader->message);
	reader->row = AllocSetContextCreate(CurrentMemoryContext, "id of a row", ALLOCSET_SMALL_SIZES);
	begin_message(reader);
	return true;
}

static void
append_row(IdReader *reader, TupleTableSlot *slot)
{
	MemoryContext old = MemoryContextSwitchTo(reader->row);

	MemoryContextReset(reader->row);
	for (int i = 0; i < reader->n; i++)
	{
		bool		is_null;
		Datum		value = slot_getattr(slot, reader->columns[i], &is_null);
		char	   *text = is_null ? NULL : OutputFunctionCall(&reader->outputs[i], value);
		int32		length = text ? (int32) strlen(text) : -1;

		appendBinaryStringInfo(&reader->message, (const char *) &length, sizeof(length));
		if (text)
			appendBinaryStringInfo(&reader->message, text, length);
	}
	MemoryContextSwitchTo(old);
	if (reader->message.len >= MESSAGE_BYTES)
		send_message(reader);
}

static void
tell_leaf(const Sink *sink, Oid leaf_id)
{
	Relation	leaf = table_open(leaf_id, NoLock);
	IdReader	reader = {0};
	TupleTableSlot *slot;
	TableScanDesc scan;
	Snapshot	snapshot;

	if (RELKIND_HAS_STORAGE(leaf->rd_rel->relkind) && reader_open(&reader, sink, leaf))
	{
		snapshot = RegisterSnapshot(GetLatestSnapshot());
		slot = table_slot_create(leaf, NULL);
		scan = table_beginscan(leaf, snapshot, 0, NULL);
		while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
		{
			CHECK_FOR_INTERRUPTS();
			append_row(&reader, slot);
		}
		table_endscan(scan);
		ExecDropSingleTupleTableSlot(slot);
		UnregisterSnapshot(snapshot);
		send_message(&reader);
	}
	table_close(leaf, NoLock);
}

/* ---------------------------------------------------------------- which sinks, which partitions */

static bool
is_told(const Sink *sink, Oid table, bool truncated)
{
	return table != sink->relation &&
		(truncated ? !sink->create_only : strcmp(sink->on_drop, "delete") == 0) &&
		list_member_oid(get_partition_ancestors(table), sink->relation);
}

static List *
sinks_to_tell(Oid table, bool truncated)
{
	List	   *sinks = NIL;
	ListCell   *cell;

	if (!OidIsValid(table) || !get_rel_relispartition(table) || !catalog_extension_exists())
		return NIL;
	foreach(cell, catalog_sinks())
		if (is_told(lfirst(cell), table, truncated))
			sinks = lappend(sinks, lfirst(cell));
	return sinks;
}

static bool
may(Oid table, bool truncated)
{
	if (compat_owns_relation(table, GetUserId()))
		return true;
	return truncated && pg_class_aclcheck(table, GetUserId(), ACL_TRUNCATE) == ACLCHECK_OK;
}

/* in the order in which the command will, so that neither adds a deadlock to the other */
static List *
lock_all(Oid table, bool truncated)
{
	if (!truncated)
		LockRelationOid(get_partition_parent(table, true), AccessExclusiveLock);
	LockRelationOid(table, AccessExclusiveLock);
	return find_all_inheritors(table, AccessExclusiveLock, NULL);
}

static void
tell(RangeVar *name, bool truncated)
{
	Oid			table = RangeVarGetRelid(name, NoLock, true);
	List	   *sinks = sinks_to_tell(table, truncated);
	List	   *leaves;
	ListCell   *one;
	ListCell   *other;
	int			level;

	if (sinks == NIL || !may(table, truncated))
		return;
	leaves = lock_all(table, truncated);
	/* it may have gone while its locks were waited for */
	if (sinks_to_tell(table, truncated) == NIL)
		return;
	level = NewGUCNestLevel();
	background_pin_forms();
	foreach(one, sinks)
		foreach(other, leaves)
			tell_leaf(lfirst(one), lfirst_oid(other));
	AtEOXact_GUC(true, level);
}

static void
tell_dropped(const DropStmt *statement)
{
	ListCell   *cell;

	foreach(cell, statement->objects)
		tell(makeRangeVarFromNameList(lfirst(cell)), false);
}

static void
tell_detached(const AlterTableStmt *statement)
{
	ListCell   *cell;

	foreach(cell, statement->cmds)
	{
		const AlterTableCmd *command = lfirst_node(AlterTableCmd, cell);

		if (command->subtype == AT_DetachPartition && !((PartitionCmd *) command->def)->concurrent)
			tell(((PartitionCmd *) command->def)->name, false);
	}
}

void
sink_before_command(Node *statement)
{
	ListCell   *cell;

	if (!IsTransactionState() || IsAbortedTransactionBlockState() || !OidIsValid(MyDatabaseId) || XactReadOnly ||
		RecoveryInProgress())
		return;
	if (IsA(statement, DropStmt) && ((DropStmt *) statement)->removeType == OBJECT_TABLE)
		tell_dropped((DropStmt *) statement);
	else if (IsA(statement, AlterTableStmt) && ((AlterTableStmt *) statement)->objtype == OBJECT_TABLE)
		tell_detached((AlterTableStmt *) statement);
	else if (IsA(statement, TruncateStmt))
		foreach(cell, ((TruncateStmt *) statement)->relations)
			tell(lfirst_node(RangeVar, cell), true);
}
