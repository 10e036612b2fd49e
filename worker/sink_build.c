/*
 * sink_build.c
 *		The first copy: slot, new index, all rows at the slot's snapshot, alias swapped in.
 *
 * Owns the step from "no index" to "following".  If it is interrupted anywhere it begins anew, with a
 * new slot and an empty index: rows deleted in between would stay in a half-made one.  A search
 * sees the old index until the new one is whole.  Called by sink_main.c.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "changes.h"
#include "copy.h"
#include "sink.h"
#include "sink_index.h"
#include "worker.h"

/* an outage shorter than this does not make the copy begin anew */
#define COPY_PATIENCE_MS (10 * 60 * 1000)

typedef struct CopyState
{
	SinkWorker *worker;
	Bulk	   *bulk;
	DocumentPlan *plan;
	XLogRecPtr	version;
	StringInfoData id;
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
				 errdetail("The copy begins anew.")));
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
	BulkOptions options = {
		.alias = sink_index_copy_alias(worker->sink->physical_index),
		.bytes = worker->sink->bulk_bytes,
		.in_flight = elasticsearch_in_flight(worker->client),
		.slot = worker->slot,
		.working_state = WORKER_COPYING,
		.patience_ms = COPY_PATIENCE_MS
	};

	return bulk_open(worker->client, &options);
}

/* slot and copy share one transaction, and so one snapshot */
static void
copy_rows(SinkWorker *worker, CopyState *copy, MemoryContext context)
{
	RelationDescription *relation;

	worker_set_state(worker->slot, WORKER_STARTING,
					 "the replication slot is made once all running transactions have ended");
	changes_drop_slot(worker->sink->slot);
	copy->version = changes_create_slot(worker->sink->slot, worker->sink->owner);
	worker_set_state(worker->slot, WORKER_COPYING, NULL);
	relation = describe_table(worker, context, &copy->plan);
	copy_table(relation, copy_filter(worker->sink), copy_row, copy);
	send_bulk(copy);
	settled_or_error(bulk_settle(copy->bulk));
	worker_commit();
}

static void
swap_in(SinkWorker *worker)
{
	char	   *why = sink_index_swap_in(worker->client, worker->sink,
										 worker->sink->physical_index);

	if (why)
		ereport(ERROR,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("the alias \"%s\" could not be moved: %s", worker->sink->index, why)));
}

void
sink_build(SinkWorker *worker)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "clickstream sink copy",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	CopyState	copy = {worker};

	if (alias_may_be_taken(worker) && make_index(worker, context))
	{
		initStringInfo(&copy.id);
		copy.bulk = open_bulk(worker);
		copy_rows(worker, &copy, context);
		MemoryContextSwitchTo(context);
		swap_in(worker);
		sink_store_refusals(worker, copy.bulk);
		sink_acknowledge(worker, copy.version);
		sink_totals_save(worker);
		worker->attempt = 0;
		sink_set_phase(worker, "following", NULL, copy.version);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}
