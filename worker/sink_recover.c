/*
 * sink_recover.c
 *		A sink that lost its place in the log: index and table are compared, and only what differs is sent.
 *
 * A slot that was lost or given up, a failover, a restore to a point in time: what happened since cannot be
 * told by the log any more, and mostly it is little.  So a new slot is made first, as for a copy; then
 * documents that no row has are deleted, and the rows are held against their documents by portions; then the
 * log is followed from the slot's position.  The index serves searches all the while.  That is exact for the
 * same reason as a copy (sink_build.c): what is sent has the slot's position as its version, every change
 * after it a higher one, and the changes are applied afterwards, in order.
 *
 * A document may have a version of the future: of the end of a timeline that was left, or of a state of this
 * database that was set back.  Then all versions to come are raised above it, by the sink's version_base.
 *
 * Where documents cannot be compared (a pipeline changes them), or the index does not take the table's
 * columns, the index is built anew.  Called by sink_main.c.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "utils/memutils.h"

#include "boundary.h"
#include "compare.h"
#include "copy.h"
#include "id_set.h"
#include "portion.h"
#include "sink.h"
#include "sink_dates.h"
#include "sink_index.h"
#include "worker.h"

typedef struct Recovery
{
	SinkWorker *worker;
	const Sink *sink;
	XLogRecPtr	position;		/* of the slot: the version of what is sent */
	Bulk	   *bulk;
	Compare    *compare;
	DocumentPlan *plan;			/* of this portion */
	SinkDates  *dates;			/* NULL without a date pattern */
	IdSet		rows;			/* all documents that there should be */
	uint64		future;			/* the highest version that is yet to come, 0 for none */
	SinkCopied	copied;			/* how far the rows are compared */
	StringInfoData id;
} Recovery;

/* ---------------------------------------------------------------- before it */

static bool
build_anew(SinkWorker *worker, const char *why)
{
	ereport(LOG,
			(errmsg("the index of clickstream sink \"%s\" is built anew instead of being compared",
					worker->sink->name),
			 errdetail("%s.", why)));
	sink_set_phase(worker, "new", NULL, InvalidXLogRecPtr);
	return false;
}

/* false when it has to be looked at again: the phase is another, or something was waited for */
static bool
index_takes_table(SinkWorker *worker)
{
	RelationDescription *relation;
	DocumentPlan *plan;
	MemoryContext here = CurrentMemoryContext;
	bool		refused = false;
	char	   *why;

	if (worker->sink->pipeline)
		return build_anew(worker, "its pipeline changes documents, so that they cannot be compared");
	worker_begin(worker->slot);
	MemoryContextSwitchTo(here);
	relation = copy_describe(worker->sink->relation);
	plan = document_plan(relation, worker->sink);
	worker_commit();
	MemoryContextSwitchTo(here);
	why = sink_index_extend(worker->client, worker->sink, plan, &refused);
	if (why && refused)
		return build_anew(worker, psprintf("it does not take the table's columns: %s", why));
	if (why)
	{
		sink_give_up_slot(worker);
		sink_wait(worker, why);
	}
	return why == NULL;
}

static bool
can_go_on(const Sink *sink)
{
	return !XLogRecPtrIsInvalid(sink->consistent_point) && sink_slot_is_usable(sink);
}

static void
fail(const char *why)
{
	ereport(ERROR,
			(errcode(ERRCODE_CONNECTION_FAILURE),
			 errmsg("table and index could not be compared: %s", why),
			 errdetail("The comparison goes on where it was.")));
}

/* ---------------------------------------------------------------- what differs */

static void
send_bulk(Recovery *recovery)
{
	sink_settle(recovery->worker, recovery->bulk, bulk_make_room);
	bulk_send(recovery->bulk, recovery->position);
}

static void
settle(Recovery *recovery)
{
	send_bulk(recovery);
	sink_settle(recovery->worker, recovery->bulk, bulk_settle);
}

/* nothing that is sent would replace it */
static bool
is_newer(Recovery *recovery, uint64 version)
{
	if (version > GetXLogInsertRecPtr() + recovery->sink->version_base)
		recovery->future = Max(recovery->future, version);
	return version > recovery->position + recovery->sink->version_base;
}

/* Its document is the first one of its date. */
static void
make_index_of(Recovery *recovery, const char *address, int length)
{
	char	   *why = sink_dates_make_for(recovery->dates, recovery->plan, address, length);

	if (why)
		fail(why);
}

static void
compared(void *arg, const ComparedRow *row)
{
	Recovery   *recovery = arg;

	if (is_newer(recovery, row->version) || row->difference == DOCUMENT_SAME)
		return;
	make_index_of(recovery, row->address, row->length);
	appendStringInfoString(bulk_begin_index(recovery->bulk, row->address, row->length,
											recovery->position), row->document);
	bulk_end_index(recovery->bulk);
	if (bulk_is_full(recovery->bulk))
		send_bulk(recovery);
}

static void
compare_row(void *arg, const ColumnValue *values, bool fits)
{
	Recovery   *recovery = arg;
	char	   *why = NULL;

	if (!fits)
		sink_refuse_large(recovery->bulk, recovery->plan, values, recovery->position, &recovery->id);
	else if (!document_address(recovery->plan, values, &recovery->id))
		sink_put_row(recovery->bulk, recovery->plan, values, recovery->position, &recovery->id);
	else
		why = compare_add(recovery->compare, recovery->plan, values, recovery->id.data,
						  recovery->id.len);
	if (why)
		fail(why);
}

/* before what was seen is noted as compared: with higher versions it is compared again */
static void
look_into_the_future(Recovery *recovery)
{
	uint64		now = GetXLogInsertRecPtr() + recovery->sink->version_base;

	if (recovery->future == 0 && bulk_diverged(recovery->bulk) == NULL)
		return;
	sink_raise_versions(recovery->worker, Max(recovery->future, now));
	worker_leave();
}

/* ---------------------------------------------------------------- documents that no row has */

static void
note_row(void *arg, const ColumnValue *values, bool fits)
{
	Recovery   *recovery = arg;

	if (document_address(recovery->plan, values, &recovery->id))
		id_set_add(&recovery->rows, recovery->id.data, recovery->id.len);
}

static void
delete_extra(void *arg, const char *address, int length, XLogRecPtr version)
{
	Recovery   *recovery = arg;

	if (is_newer(recovery, version) || id_set_has(&recovery->rows, address, length))
		return;
	bulk_delete(recovery->bulk, address, length, recovery->position);
	if (bulk_is_full(recovery->bulk))
		settle(recovery);
}

/* All rows under one snapshot: none that moves meanwhile is taken for gone. */
static void
delete_extras(Recovery *recovery)
{
	MemoryContext here = CurrentMemoryContext;
	RelationDescription *relation;
	char	   *why;

	worker_begin(recovery->worker->slot);
	(void) boundary_of_log();
	worker_commit();
	worker_begin(recovery->worker->slot);
	relation = copy_describe(recovery->sink->relation);
	recovery->plan = document_plan(relation, recovery->sink);
	copy_table(relation, copy_filter(recovery->sink), note_row, recovery);
	worker_commit();
	MemoryContextSwitchTo(here);
	id_set_sort(&recovery->rows);
	why = sink_index_each_id(recovery->worker->client, recovery->sink, delete_extra, recovery);
	if (why)
		fail(why);
	settle(recovery);
	id_set_clear(&recovery->rows);
	look_into_the_future(recovery);
}

/* ---------------------------------------------------------------- rows */

/* the next portion; false when all are compared */
static bool
compare_portion(Recovery *recovery, MemoryContext portion, const DocumentPlan *of_index)
{
	SinkWorker *worker = recovery->worker;
	RelationDescription *relation;
	char	   *why;
	bool		more;

	worker_begin(worker->slot);
	MemoryContextReset(portion);
	MemoryContextSwitchTo(portion);
	relation = copy_describe(recovery->sink->relation);
	if (!document_plan_fits(of_index, relation))
		fail("the columns of the table have changed meanwhile");
	recovery->plan = document_plan(relation, recovery->sink);
	recovery->compare = compare_open(worker->client, recovery->sink, compared, recovery);
	more = portion_read(recovery->sink, relation, &recovery->copied, compare_row, recovery);
	if ((why = compare_rest(recovery->compare)) != NULL)
		fail(why);
	worker_commit();
	return more;
}

static void
compare_rows(Recovery *recovery)
{
	SinkWorker *worker = recovery->worker;
	MemoryContext here = CurrentMemoryContext;
	MemoryContext portion = AllocSetContextCreate(here, "portion of rows", ALLOCSET_DEFAULT_SIZES);
	DocumentPlan *of_index;
	char	   *why;
	bool		more = true;

	worker_begin(worker->slot);
	(void) boundary_of_log();
	MemoryContextSwitchTo(here);
	of_index = document_plan(copy_describe(recovery->sink->relation), recovery->sink);
	worker_commit();
	/* it is searched, not asked for documents */
	if (recovery->sink->data_stream &&
		(why = sink_index_refresh(worker->client, recovery->sink->alias)) != NULL)
		fail(why);
	while (more)
	{
		more = compare_portion(recovery, portion, of_index);
		MemoryContextSwitchTo(here);
		settle(recovery);
		look_into_the_future(recovery);
		sink_note_portion(worker, recovery->bulk, &recovery->copied);
	}
}

static void
open_recovery(Recovery *recovery, SinkWorker *worker)
{
	BulkOptions options = sink_bulk_options(worker->sink, worker->sink->alias, worker->slot);
	MemoryContext here = CurrentMemoryContext;
	char	   *lost;
	char	   *why;

	options.in_flight = elasticsearch_in_flight(worker->client);
	options.working_state = WORKER_MENDING;
	options.patience_ms = SINK_PATIENCE_MS;
	recovery->worker = worker;
	recovery->sink = worker->sink;
	recovery->position = worker->sink->consistent_point;
	recovery->bulk = bulk_open(worker->client, &options);
	initStringInfo(&recovery->id);
	worker_begin(worker->slot);
	catalog_sink_copied(worker->sink->id, &recovery->copied);
	worker_commit();
	MemoryContextSwitchTo(here);
	if (strchr(worker->sink->index, '{') == NULL)
		return;
	recovery->dates = sink_dates_open(worker->client, worker->sink, worker->sink->physical_index, false);
	if ((why = sink_dates_look(recovery->dates, &lost)) != NULL)
		fail(why);
}

void
sink_recover(SinkWorker *worker)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "clickstream sink recovery",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	Recovery	recovery = {0};

	if (sink_index_is_there(worker) && index_takes_table(worker) &&
		(can_go_on(worker->sink) || sink_make_slot(worker, "mending")))
	{
		MemoryContextSwitchTo(context);
		open_recovery(&recovery, worker);
		worker_set_state(worker->slot, WORKER_MENDING, NULL);
		/* with op_type create rows may go, and their documents stay */
		if (recovery.copied.leaf == InvalidOid && !worker->sink->create_only)
			delete_extras(&recovery);
		compare_rows(&recovery);
		sink_acknowledge(worker, recovery.position);
		worker->attempt = 0;
		sink_set_phase(worker, "following", NULL, recovery.position);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}
