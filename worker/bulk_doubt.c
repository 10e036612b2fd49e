/*
 * bulk_doubt.c
 *		Documents that may arrive once more, late, in a form that has been replaced since.
 *
 * A request that was given up (no answer in time, a broken connection, the end of the process before this one)
 * may be carried out all the same, at any time.  Mostly its documents have lower versions by then than what
 * came after them.  But changes of one row within one transaction share a version: if a large transaction
 * changed a row twice, with the end of a request between, the late form of the first would replace the second.
 *
 * So, of the transaction that is being told, the documents are remembered that were in a request which may come
 * late; and those of them that come again, in a later request, are listed.  The caller makes these what their
 * rows are, under a later version, before it confirms the position (sink_follow.c).  What was written before this
 * process began may have been sent by the one before, with other ends of requests: there a document is listed also
 * if its second form replaced the first before either was sent.
 *
 * The memory for this is bounded: ids that are remembered may be taken for others (a Bloom filter), which costs
 * no more than a look at the row; and where too many are listed, the caller is told that.  With op_type create
 * nothing is ever replaced.  Called by bulk.c and bulk_send.c.
 */
#include "postgres.h"

#include "lib/bloomfilter.h"
#include "utils/memutils.h"

#include "bulk_internal.h"
#include "document.h"

#define REMEMBERED 4000000
#define REMEMBERED_KB (8 * 1024)
#define MOST_LISTED 500000

void
bulk_doubt_open(Bulk *bulk)
{
	bulk->doubt.until = bulk->options.create_only ? InvalidXLogRecPtr : bulk->options.told_until;
	bulk->doubt.context = AllocSetContextCreate(bulk->context, "documents in doubt", ALLOCSET_SMALL_SIZES);
}

/* from now on it is about this transaction */
static void
turn_to(BulkDoubt *doubt, XLogRecPtr version)
{
	if (doubt->version == version)
		return;
	if (doubt->remembered)
		bloom_free(doubt->remembered);
	doubt->remembered = NULL;
	doubt->version = version;
}

static void
remember(Bulk *bulk, const Batch *batch, const Entry *entry)
{
	BulkDoubt  *doubt = &bulk->doubt;
	MemoryContext old;

	if (doubt->remembered == NULL)
	{
		old = MemoryContextSwitchTo(bulk->context);
		doubt->remembered = bloom_create(REMEMBERED, REMEMBERED_KB, 0);
		MemoryContextSwitchTo(old);
	}
	bloom_add_element(doubt->remembered, (unsigned char *) batch->ids.data + entry->id, entry->id_length);
}

static bool
is_remembered(const BulkDoubt *doubt, const Batch *batch, const Entry *entry)
{
	return entry->version == doubt->version && doubt->remembered != NULL &&
		!bloom_lacks_element(doubt->remembered, (unsigned char *) batch->ids.data + entry->id,
							 entry->id_length);
}

/* Versions never go down in a batch, and the last transaction in it may go on in the next. */
static XLogRecPtr
last_version(const Batch *batch)
{
	return batch->entries[batch->n_entries - 1].version;
}

static void
list(Bulk *bulk, const Batch *batch, const Entry *entry)
{
	BulkDoubt  *doubt = &bulk->doubt;
	MemoryContext old;

	if (list_length(doubt->listed) >= MOST_LISTED)
	{
		doubt->too_many = true;
		return;
	}
	old = MemoryContextSwitchTo(doubt->context);
	doubt->listed = lappend(doubt->listed, document_address_part(batch->ids.data + entry->id,
																 entry->id_length, "_id"));
	MemoryContextSwitchTo(old);
}

void
bulk_doubt_sent(Bulk *bulk, const Batch *batch)
{
	BulkDoubt  *doubt = &bulk->doubt;
	XLogRecPtr	last = last_version(batch);
	bool		goes_on = last <= doubt->until;

	if (doubt->version == InvalidXLogRecPtr && batch->entries[0].version > doubt->until)
		return;
	for (int i = 0; i < batch->n_entries; i++)
	{
		const Entry *entry = &batch->entries[i];

		if (!entry->dead && ((entry->repeats && entry->version <= doubt->until) ||
							 is_remembered(doubt, batch, entry)))
			list(bulk, batch, entry);
	}
	if (goes_on || last > doubt->version)
		turn_to(doubt, goes_on ? last : InvalidXLogRecPtr);
	for (int i = 0; goes_on && i < batch->n_entries; i++)
		if (!batch->entries[i].dead && batch->entries[i].version == last)
			remember(bulk, batch, &batch->entries[i]);
}

void
bulk_doubt_late(Bulk *bulk, const Batch *batch)
{
	XLogRecPtr	last = last_version(batch);

	if (bulk->options.create_only || last < bulk->doubt.version)
		return;
	turn_to(&bulk->doubt, last);
	for (int i = batch->request_first; i < batch->request_end; i++)
		if (!batch->entries[i].dead && batch->entries[i].version == last)
			remember(bulk, batch, &batch->entries[i]);
}

List *
bulk_doubtful(const Bulk *bulk, bool *too_many)
{
	*too_many = bulk->doubt.too_many;
	return bulk->doubt.listed;
}

void
bulk_forget_doubtful(Bulk *bulk)
{
	turn_to(&bulk->doubt, InvalidXLogRecPtr);
	bulk->doubt.listed = NIL;
	bulk->doubt.too_many = false;
	MemoryContextReset(bulk->doubt.context);
}
