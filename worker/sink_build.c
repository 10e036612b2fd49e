/*
 * sink_build.c
 *		The first copy: slot, new index, all rows at the slot's snapshot, alias swapped in.
 *
 * Owns the step from "no index" to "following".  A search sees the old index until the new one is whole.
 *
 * The slot is made first, and everything that commits after its position will be told by the log.  The table
 * is then read by portions, partition after partition, each portion with a snapshot of its own, and how far
 * that has come is kept in the catalog: an interruption costs one portion, and no snapshot is held for
 * hours.  That is exact, although a later portion sees changes which the log tells again: each document has
 * the slot's position as its version, each change a higher one, and the changes are applied after the copy,
 * in order.  A row that moves between portions, or is deleted after it was copied, does so in the log.
 *
 * The copy begins anew, with a new slot and an empty index, where slot or index are gone, or the shape of
 * the table has changed.  Called by sink_main.c.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/ipc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "boundary.h"
#include "changes.h"
#include "copy.h"
#include "sink.h"
#include "sink_dates.h"
#include "sink_index.h"
#include "worker.h"

/* an outage shorter than this does not make the copy begin anew */
#define COPY_PATIENCE_MS (10 * 60 * 1000)

/* what so many requests hold is read under one snapshot, and noted as copied after it */
#define PORTION_REQUESTS 8

typedef struct CopyState
{
	SinkWorker *worker;
	Bulk	   *bulk;
	DocumentPlan *plan;
	XLogRecPtr	version;
	StringInfoData id;
	SinkCopied	copied;
	SinkDates  *dates;			/* for the indexes of a date pattern */
	StringInfoData index;
	const char *index_suffix;
} CopyState;

/* ---------------------------------------------------------------- before the copy */

/* Elasticsearch answers, and the alias is free or may be taken over; false when the phase changed */
static bool
alias_may_be_taken(SinkWorker *worker)
{
	for (;;)
	{
		char	   *why = NULL;

		worker_set_state(worker->slot, WORKER_CONNECTING, NULL);
		switch (sink_index_look(worker->client, worker->sink, &why))
		{
			case INDEX_OURS:
			case INDEX_MISSING:
				worker->attempt = 0;
				return true;
			case INDEX_FOREIGN:
				if (worker->sink->physical_index != NULL)
					return true;	/* a resync takes it over */
				worker_set_error(worker->slot, why);
				sink_set_phase(worker, "diverged", NULL, InvalidXLogRecPtr);
				return false;
			case INDEX_NO_ALIAS:
			case INDEX_NO_ANSWER:
				sink_wait(worker, why);
				break;
		}
	}
}

/* The plan is made in the copy's own transaction as well: the table may change until then. */
static RelationDescription *
describe_table(SinkWorker *worker, MemoryContext context, DocumentPlan **plan)
{
	MemoryContext old = MemoryContextSwitchTo(context);
	RelationDescription *relation = copy_describe(worker->sink->relation);

	*plan = document_plan(relation, worker->sink);
	MemoryContextSwitchTo(old);
	return relation;
}

/* false when something was in the way and was waited for: begin again */
static bool
make_index(SinkWorker *worker, MemoryContext context)
{
	DocumentPlan *plan;
	char	   *why = NULL;
	char	   *physical = sink_index_free_name(worker->client, worker->sink, &why);

	if (physical)
	{
		sink_set_phase(worker, "copying", physical, InvalidXLogRecPtr);
		if (worker->sink->physical_index == NULL ||
			strcmp(worker->sink->physical_index, physical) != 0)
			return false;
		worker_begin(worker->slot);
		(void) describe_table(worker, context, &plan);
		worker_commit();
		why = sink_index_make(worker->client, worker->sink, plan, worker->sink->physical_index);
	}
	if (why)
		sink_wait(worker, why);
	return why == NULL;
}

/* ---------------------------------------------------------------- the copy */

static void
settled_or_error(bool settled)
{
	if (!settled)
		ereport(ERROR,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("Elasticsearch did not take the copy of the table for %d minutes",
						COPY_PATIENCE_MS / 60000),
				 errdetail("The copy goes on where it was.")));
}

/* the row may be the first one of its date */
static void
make_index_of(CopyState *copy, const ColumnValue *values)
{
	TimestampTz since = GetCurrentTimestamp();
	char	   *why;

	if (!document_index(copy->plan, values, &copy->index) ||
		sink_dates_has(copy->dates, copy->index.data, copy->index.len))
		return;
	settled_or_error(bulk_settle(copy->bulk));
	while ((why = sink_dates_make(copy->dates, copy->plan, copy->index.data)) != NULL)
	{
		settled_or_error(!TimestampDifferenceExceeds(since, GetCurrentTimestamp(), COPY_PATIENCE_MS));
		sink_note_fault(copy->worker, why);
		worker_pause(copy->worker->attempt++, "ClickstreamElasticsearchRetry");
		CHECK_FOR_INTERRUPTS();
	}
	if (copy->worker->attempt > 0)
		worker_set_state(copy->worker->slot, WORKER_COPYING, NULL);
	copy->worker->attempt = 0;
}

static void
send_bulk(CopyState *copy)
{
	settled_or_error(bulk_make_room(copy->bulk));
	bulk_send(copy->bulk, copy->version);
}

static void
copy_row(void *arg, const ColumnValue *values, bool fits)
{
	CopyState  *copy = arg;

	if (copy->dates)
		make_index_of(copy, values);
	if (fits)
		sink_put_row(copy->bulk, copy->plan, values, copy->version, &copy->id);
	else
		sink_refuse_large(copy->bulk, copy->plan, values, copy->version, &copy->id);
	if (bulk_is_full(copy->bulk))
		send_bulk(copy);
	else
		(void) bulk_has_answer(copy->bulk);
}

static Bulk *
open_bulk(SinkWorker *worker)
{
	BulkOptions options = sink_bulk_options(worker->sink,
											sink_index_copy_alias(worker->sink->physical_index),
											worker->slot);

	options.in_flight = elasticsearch_in_flight(worker->client);
	options.working_state = WORKER_COPYING;
	options.patience_ms = COPY_PATIENCE_MS;
	return bulk_open(worker->client, &options);
}

/* What commits before its position is to be seen by every snapshot from now on, what commits after it comes in the log. */
static bool
make_slot(SinkWorker *worker)
{
	SinkCopied	nothing = {0};
	XLogRecPtr	position;

	worker_set_state(worker->slot, WORKER_STARTING,
					 "the replication slot is made once all running transactions have ended");
	changes_drop_slot(worker->sink->slot);
	position = changes_create_slot(worker->sink->slot, worker->sink->owner);
	worker_commit();
	worker_begin(worker->slot);
	catalog_sink_copied_save(worker->sink->id, &nothing);
	worker_commit();
	sink_set_phase(worker, "copying", NULL, position);
	return worker->sink->consistent_point == position;
}

/* Everything that a copy needs to go on is still there; one into several indexes begins anew. */
static bool
can_go_on(SinkWorker *worker)
{
	const Sink *sink = worker->sink;

	return strcmp(sink->phase, "copying") == 0 && sink->physical_index != NULL &&
		strchr(sink->index, '{') == NULL &&
		!XLogRecPtrIsInvalid(sink->consistent_point) && changes_slot_is_usable(sink->slot) &&
		sink_index_is_half_made(worker->client, sink, sink->physical_index);
}

static List *
leaves_of(Oid relation)
{
	List	   *leaves = get_rel_relkind(relation) == RELKIND_PARTITIONED_TABLE ?
		find_all_inheritors(relation, NoLock, NULL) : list_make1_oid(relation);

	list_sort(leaves, list_oid_cmp);
	return leaves;
}

/* some of its blocks, as many as there is room for; how many */
static int64
copy_leaf(CopyState *copy, const RelationDescription *relation, Oid leaf_id, int64 room)
{
	Relation	leaf = try_relation_open(leaf_id, AccessShareLock);
	SinkCopied *copied = &copy->copied;
	int64		blocks = 0;

	if (leaf == NULL)
		return 0;
	if (copied->leaf != leaf_id || copied->file != leaf->rd_rel->relfilenode)
		copied->blocks = 0;
	copied->leaf = leaf_id;
	copied->file = leaf->rd_rel->relfilenode;
	if (RELKIND_HAS_STORAGE(leaf->rd_rel->relkind))
	{
		blocks = Min(room, (int64) RelationGetNumberOfBlocks(leaf) - copied->blocks);
		if (blocks > 0)
			copy_blocks(relation, leaf_id, copied->blocks, copied->blocks + blocks,
						copy_filter(copy->worker->sink), copy_row, copy);
		copied->blocks += Max(blocks, 0);
	}
	else if (leaf->rd_rel->relkind == RELKIND_FOREIGN_TABLE)
		copy_blocks(relation, leaf_id, -1, -1, copy_filter(copy->worker->sink), copy_row, copy);
	relation_close(leaf, AccessShareLock);
	return Max(blocks, 0);
}

/* in a transaction; false when all is read */
static bool
copy_portion(CopyState *copy, const RelationDescription *relation)
{
	List	   *leaves = leaves_of(relation->relation);
	int64		room = Max((int64) copy->worker->sink->bulk_bytes * PORTION_REQUESTS / BLCKSZ, 1);
	ListCell   *cell;

	foreach(cell, leaves)
	{
		if (lfirst_oid(cell) < copy->copied.leaf)
			continue;
		room -= copy_leaf(copy, relation, lfirst_oid(cell), room);
		if (room <= 0)
			return true;
	}
	return false;
}

/* What was read is in the index or a dead letter before it is noted as copied. */
static void
note_portion(CopyState *copy)
{
	SinkWorker *worker = copy->worker;

	send_bulk(copy);
	settled_or_error(bulk_settle(copy->bulk));
	sink_store_refusals(worker, copy->bulk);
	worker_begin(worker->slot);
	catalog_sink_copied_save(worker->sink->id, &copy->copied);
	worker_commit();
	sink_totals_save(worker);
	if (worker_should_stop())
		proc_exit(0);
	if (sink_has_changed(worker))
		worker_leave();
}

static void
refuse_other_shape(SinkWorker *worker)
{
	worker_commit();
	sink_set_phase(worker, "new", NULL, InvalidXLogRecPtr);
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("the columns of the table have changed while it was copied"),
			 errdetail("The copy begins anew.")));
}

static void
copy_rows(SinkWorker *worker, CopyState *copy, MemoryContext context)
{
	MemoryContext portion = AllocSetContextCreate(context, "portion of a copy", ALLOCSET_DEFAULT_SIZES);
	bool		more = true;

	copy->version = worker->sink->consistent_point;
	worker_begin(worker->slot);
	(void) boundary_of_log();
	catalog_sink_copied(worker->sink->id, &copy->copied);
	worker_commit();
	worker_set_state(worker->slot, WORKER_COPYING, NULL);
	while (more)
	{
		RelationDescription *relation;

		worker_begin(worker->slot);
		MemoryContextReset(portion);
		MemoryContextSwitchTo(portion);
		relation = copy_describe(worker->sink->relation);
		if (copy->plan == NULL)
		{
			(void) describe_table(worker, context, &copy->plan);
			document_plan_for_copy(copy->plan, copy->index_suffix);
		}
		else if (!document_plan_fits(copy->plan, relation))
			refuse_other_shape(worker);
		more = copy_portion(copy, relation);
		worker_commit();
		MemoryContextSwitchTo(context);
		note_portion(copy);
	}
}

static void
swap_in(SinkWorker *worker)
{
	char	   *why = sink_index_swap_in(worker->client, worker->sink,
										 worker->sink->physical_index);

	if (why)
		ereport(ERROR,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("the alias \"%s\" could not be moved: %s", worker->sink->alias, why)));
}

void
sink_build(SinkWorker *worker)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "clickstream sink copy",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	CopyState	copy = {worker};

	if (alias_may_be_taken(worker) &&
		(can_go_on(worker) || (make_index(worker, context) && make_slot(worker))))
	{
		initStringInfo(&copy.id);
		initStringInfo(&copy.index);
		copy.index_suffix = sink_dates_suffix(worker->sink->physical_index, true);
		if (strchr(worker->sink->index, '{'))
			copy.dates = sink_dates_open(worker->client, worker->sink, worker->sink->physical_index, true);
		copy.bulk = open_bulk(worker);
		copy_rows(worker, &copy, context);
		MemoryContextSwitchTo(context);
		swap_in(worker);
		sink_acknowledge(worker, copy.version);
		worker->attempt = 0;
		sink_set_phase(worker, "following", NULL, copy.version);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}
