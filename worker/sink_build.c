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

#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "boundary.h"
#include "copy.h"
#include "portion.h"
#include "sink.h"
#include "sink_dates.h"
#include "sink_index.h"
#include "sink_swap.h"
#include "worker.h"

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
				sink_give_up_slot(worker);
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

	/* afterwards nothing leads to it any more */
	(void) sink_swap_clear(worker->client, worker->sink, true);
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

/* the row may be the first one of its date */
static void
make_index_of(CopyState *copy, const ColumnValue *values)
{
	TimestampTz since = GetCurrentTimestamp();
	char	   *why;

	if (!document_index(copy->plan, values, &copy->index) ||
		sink_dates_has(copy->dates, copy->index.data, copy->index.len))
		return;
	sink_settle(copy->worker, copy->bulk, bulk_settle);
	while ((why = sink_dates_make(copy->dates, copy->plan, copy->index.data)) != NULL)
	{
		if (TimestampDifferenceExceeds(since, GetCurrentTimestamp(), SINK_LONG_PATIENCE_MS))
			ereport(ERROR,
					(errcode(ERRCODE_CONNECTION_FAILURE),
					 errmsg("index \"%s\" could not be made: %s", copy->index.data, why),
					 errdetail("The copy goes on where it was.")));
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
	sink_settle(copy->worker, copy->bulk, bulk_make_room);
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
	options.patience_ms = SINK_PATIENCE_MS;
	return bulk_open(worker->client, &options);
}

/* Everything that a copy needs to go on is still there; one into several indexes begins anew. */
static bool
can_go_on(SinkWorker *worker)
{
	const Sink *sink = worker->sink;

	return strcmp(sink->phase, "copying") == 0 && sink->physical_index != NULL &&
		strchr(sink->index, '{') == NULL &&
		!XLogRecPtrIsInvalid(sink->consistent_point) && sink_slot_is_usable(sink) &&
		sink_index_is_half_made(worker->client, sink, sink->physical_index);
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
		more = portion_read(worker->sink, relation, &copy->copied, copy_row, copy);
		worker_commit();
		MemoryContextSwitchTo(context);
		send_bulk(copy);
		sink_settle(worker, copy->bulk, bulk_settle);
		sink_note_portion(worker, copy->bulk, &copy->copied);
	}
}

static void
swap_in(SinkWorker *worker)
{
	char	   *why = sink_swap_in(worker->client, worker->sink,
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
		(can_go_on(worker) || (make_index(worker, context) && sink_make_slot(worker, "copying"))))
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
