/*
 * inquiry_source.c
 *		What the inquiries about a source begin with: its owner, its lock, its row.
 *
 * Rights were checked by the backend that asks.  Called by inquiry_replay.c and inquiry_preview.c.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"

#include "background.h"
#include "inquiry_source.h"

/* the caller may hold what we wait for, and waits for us: nothing else would end that */
#define LOCK_TIMEOUT "10s"

static void
refuse_unseen(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("the source is not there for others yet, or no longer"),
			 errhint("Commit what made it, and try again.")));
}

void
inquiry_source_open(InquirySource *inquired, const Inquiry *inquiry)
{
	Source	   *source;

	background_pin_settings();
	SetConfigOption("lock_timeout", LOCK_TIMEOUT, PGC_SUSET, PGC_S_OVERRIDE);
	inquired->id = (int32) inquiry_number(inquiry, "source");

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	source = catalog_source_by_id(inquired->id);
	if (source == NULL)
		refuse_unseen();
	memset(&inquired->slot, 0, sizeof(inquired->slot));
	SpinLockInit(&inquired->slot.mutex);
	inquired->slot.kind = WORKER_SOURCE;
	inquired->slot.owner = source->owner;
	inquired->slot.object_id = source->id;
	strlcpy(inquired->slot.name, source->name, sizeof(inquired->slot.name));
	PopActiveSnapshot();
	CommitTransactionCommand();
}

Source *
inquiry_source_begin(InquirySource *inquired, LOCKMODE mode)
{
	MemoryContext outer = CurrentMemoryContext;
	MemoryContext transaction;
	Source	   *source;

	worker_begin(&inquired->slot);
	catalog_lock(CATALOG_SOURCE, inquired->id, mode);
	transaction = MemoryContextSwitchTo(outer);
	source = catalog_source_by_id(inquired->id);
	MemoryContextSwitchTo(transaction);
	if (source == NULL)
		refuse_unseen();
	return source;
}
