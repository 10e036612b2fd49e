/*
 * bulk_send.c
 *		Requests on their way: sent, waited for, sent again.
 *
 * Owns the order.  No address is ever in two requests in flight: a batch with one that is in flight waits, as
 * changes of one row within one transaction share a version, and as Elasticsearch forgets the version of a
 * deletion in time.  They are settled in the order in which they were sent, so that a position is passed only
 * when all before it is there.  Faults of the surroundings are waited out with growing pauses, and only what is
 * not yet settled is sent again.
 */
#include "postgres.h"

#include <limits.h>

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "bulk_internal.h"
#include "worker.h"

/* ---------------------------------------------------------------- sending */

static Batch *
next_batch(Bulk *bulk, Batch *batch)
{
	return batch == &bulk->batches[bulk->options.in_flight] ? &bulk->batches[0] : batch + 1;
}

/* the next living entries, at most a portion of them, as one request */
static void
request(Bulk *bulk, Batch *batch)
{
	const char *body = batch->body.data;
	size_t		length = batch->body.len;
	int			taken = 0;
	int			i;

	batch->request_first = 0;
	batch->request_end = batch->n_entries;
	if (batch->n_dead > 0 || batch->portion < batch->n_entries)
	{
		resetStringInfo(&batch->request);
		for (i = 0; i < batch->n_entries && taken < batch->portion; i++)
		{
			Entry	   *entry = &batch->entries[i];

			if (entry->dead)
				continue;
			appendBinaryStringInfo(&batch->request, body + entry->line, entry->length);
			taken++;
		}
		batch->request_end = i;
		body = batch->request.data;
		length = batch->request.len;
	}
	if (batch->client == NULL)
		batch->client = elasticsearch_beside(bulk->client);
	elasticsearch_start(batch->client, "POST", bulk->path, body, length);
	batch->requested = true;
}

/* whether a batch in flight still has to do with a document that is collected */
static bool
meet(Batch *in_flight, const Batch *collected)
{
	int			i;

	for (i = 0; i < collected->n_entries; i++)
	{
		const Entry *entry = &collected->entries[i];
		const Entry *found;

		if (entry->dead)
			continue;
		found = batch_find(in_flight, collected->ids.data + entry->id, entry->id_length, entry->hash);
		if (found != NULL && !found->dead)
			return true;
	}
	return false;
}

bool
bulk_may_send(Bulk *bulk)
{
	Batch	   *batch = bulk->sent;
	int			i;

	if (bulk->n_in_flight >= bulk->options.in_flight)
		return bulk->n_in_flight == 0;
	for (i = 0; i < bulk->n_in_flight; i++, batch = next_batch(bulk, batch))
		if (meet(batch, bulk->collecting))
			return false;
	return true;
}

/* what there is to be told once all that is in flight is settled */
static void
note_covered(Bulk *bulk, XLogRecPtr covers)
{
	Batch	   *batch = bulk->sent;
	int			i;

	if (bulk->n_in_flight == 0)
		bulk->settled = Max(bulk->settled, covers);
	for (i = 1; i < bulk->n_in_flight; i++)
		batch = next_batch(bulk, batch);
	if (bulk->n_in_flight > 0)
		batch->covers = Max(batch->covers, covers);
}

void
bulk_send(Bulk *bulk, XLogRecPtr covers)
{
	Batch	   *batch = bulk->collecting;

	if (batch_living(batch) == 0)
	{
		batch_reset(batch);
		note_covered(bulk, covers);
		return;
	}
	Assert(bulk_may_send(bulk));
	batch->covers = covers;
	batch->portion = INT_MAX;
	bulk->collecting = next_batch(bulk, batch);
	batch_reset(bulk->collecting);
	bulk->n_in_flight++;
	bulk_doubt_sent(bulk, batch);
	request(bulk, batch);
}

bool
bulk_has_answer(Bulk *bulk)
{
	return bulk_await_answer(bulk, 0);
}

bool
bulk_await_answer(Bulk *bulk, int ms)
{
	if (bulk->n_in_flight == 0 || !bulk->sent->requested)
		return true;
	return ms > 0 ? elasticsearch_await(bulk->sent->client, ms) :
		elasticsearch_pump(bulk->sent->client);
}

/* ---------------------------------------------------------------- waiting */

static void
failed(Bulk *bulk, const char *error)
{
	WorkerSlot *slot = bulk->options.slot;

	if (bulk->failing_since == 0)
		bulk->failing_since = GetCurrentTimestamp();
	SpinLockAcquire(&slot->mutex);
	slot->retries++;
	SpinLockRelease(&slot->mutex);
	worker_set_error(slot, error);
	worker_set_state(slot, WORKER_WAITING, error);
}

static void
went_well(Bulk *bulk)
{
	if (bulk->failing_since != 0)
		worker_set_state(bulk->options.slot, bulk->options.working_state, NULL);
	bulk->failing_since = 0;
	bulk->attempt = 0;
	if (!bulk->split && bulk->sent->portion < INT_MAX / 2)
		bulk->sent->portion *= 2;
}

static bool
out_of_patience(const Bulk *bulk)
{
	return TimestampDifferenceExceeds(bulk->failing_since, GetCurrentTimestamp(),
									  bulk->options.patience_ms);
}

/* one request of the first batch in flight; a failure of the surroundings, or NULL */
static const char *
settle_request(Bulk *bulk)
{
	Batch	   *batch = bulk->sent;
	int			left = batch_living(batch);
	ElasticsearchReply reply;
	const char *error;

	if (!batch->requested)
		request(bulk, batch);
	elasticsearch_finish(batch->client, &reply);
	if (elasticsearch_may_come_late(batch->client))
		bulk_doubt_late(bulk, batch);
	batch->requested = false;
	bulk->split = false;
	error = bulk_take_reply(bulk, &reply);
	if (error == NULL && batch_living(batch) == left && !bulk->split)
		error = "the answer names none of the documents that were sent";
	return error;
}

static void
retire(Bulk *bulk)
{
	bulk->settled = Max(bulk->settled, bulk->sent->covers);
	bulk->sent = next_batch(bulk, bulk->sent);
	bulk->n_in_flight--;
}

/* the first of those in flight: false when patience has run out */
static bool
settle_first(Bulk *bulk, MemoryContext scratch)
{
	while (batch_living(bulk->sent) > 0)
	{
		const char *error = settle_request(bulk);

		if (error == NULL)
		{
			went_well(bulk);
			continue;
		}
		failed(bulk, error);
		worker_pause(bulk->attempt++, "ClickstreamElasticsearchRetry");
		CHECK_FOR_INTERRUPTS();
		if (batch_living(bulk->sent) > 0 && out_of_patience(bulk))
			return false;
		MemoryContextReset(scratch);
	}
	retire(bulk);
	return true;
}

/* until so many are left in flight, and, if that is asked for, none of those has to do with what is collected */
static bool
settle_down_to(Bulk *bulk, int most, bool apart)
{
	MemoryContext scratch;
	MemoryContext old;
	bool		patient = true;

	if (bulk->n_in_flight <= most && (!apart || bulk_may_send(bulk)))
		return true;
	scratch = AllocSetContextCreate(CurrentMemoryContext, "bulk reply", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(scratch);
	while (patient && (bulk->n_in_flight > most || (apart && !bulk_may_send(bulk))))
		patient = settle_first(bulk, scratch);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(scratch);
	return patient;
}

bool
bulk_settle(Bulk *bulk)
{
	return settle_down_to(bulk, 0, false);
}

bool
bulk_make_room(Bulk *bulk)
{
	return settle_down_to(bulk, bulk->options.in_flight - 1, true);
}

bool
bulk_settle_first(Bulk *bulk)
{
	return bulk->n_in_flight == 0 || settle_down_to(bulk, bulk->n_in_flight - 1, false);
}
