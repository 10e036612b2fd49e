/*
 * worker_slot.c
 *		The fixed array of slots in shared memory through which launcher, workers and SQL see each other.
 *
 * Owns the array and what makes a slot free or taken.  Holds nothing that may not be lost in a
 * crash.  Never waits while it holds a slot's mutex.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "worker_slot.h"

/* slots beyond clickstream.max_workers, where workers can be seen waiting for their turn */
#define SPARE_SLOTS 64

int			clickstream_max_workers = 16;
bool		clickstream_enabled = true;

static WorkerSlot *slot_array = NULL;

const char *
worker_kind_name(WorkerKind kind)
{
	return kind == WORKER_SOURCE ? "source" : kind == WORKER_SINK ? "sink" : "rollup";
}

static int
slot_count(void)
{
	return clickstream_max_workers + SPARE_SLOTS;
}

Size
worker_slots_size(void)
{
	return mul_size(slot_count(), sizeof(WorkerSlot));
}

/* empties a slot; counters of the last tenant go with him */
static void
slot_clear(WorkerSlot *slot)
{
	size_t		from = offsetof(WorkerSlot, kind);

	memset((char *) slot + from, 0, offsetof(WorkerSlot, changed) - from);
	slot->kind = WORKER_NONE;
	slot->lag = -1;
}

void
worker_slots_init(void)
{
	bool		found;
	int			i;

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	slot_array = ShmemInitStruct("clickstream worker slots", worker_slots_size(), &found);
	if (!found)
	{
		for (i = 0; i < slot_count(); i++)
		{
			SpinLockInit(&slot_array[i].mutex);
			slot_clear(&slot_array[i]);
			ConditionVariableInit(&slot_array[i].changed);
		}
	}
	LWLockRelease(AddinShmemInitLock);
}

WorkerSlot *
worker_slots(int *count)
{
	if (slot_array == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("clickstream must be loaded when the server starts"),
				 errhint("Add clickstream to shared_preload_libraries in postgresql.conf and "
						 "restart the server.")));
	*count = slot_count();
	return slot_array;
}

int
worker_slots_of(WorkerKind kind, int32 object_id, WorkerSlot **slots, int max)
{
	int			count;
	WorkerSlot *array = worker_slots(&count);
	int			n = 0;
	int			i;

	for (i = 0; i < count && n < max; i++)
	{
		WorkerSlot *slot = &array[i];
		bool		matches;

		SpinLockAcquire(&slot->mutex);
		matches = slot->kind == kind && slot->object_id == object_id &&
			slot->database == MyDatabaseId;
		SpinLockRelease(&slot->mutex);
		if (matches)
			slots[n++] = slot;
	}
	return n;
}

WorkerSlot *
worker_slot_mine(void)
{
	int			i;

	for (i = 0; slot_array && i < slot_count(); i++)
		if (slot_array[i].pid == MyProcPid)
			return &slot_array[i];
	return NULL;
}

/* The latch is one of a process in shared memory: to set it after its owner left is harmless. */
void
worker_wake(WorkerSlot *slot)
{
	Latch	   *latch;

	SpinLockAcquire(&slot->mutex);
	latch = slot->latch;
	SpinLockRelease(&slot->mutex);
	if (latch)
		SetLatch(latch);
}

/* Only one process at a time claims and frees slots: the launcher and its one scout take turns. */
WorkerSlot *
worker_slot_claim(WorkerKind kind, Oid database, int32 object_id, int32 worker_no)
{
	int			count;
	WorkerSlot *array = worker_slots(&count);
	WorkerSlot *free_slot = NULL;
	int			i;

	for (i = 0; i < count; i++)
	{
		WorkerSlot *slot = &array[i];

		if (slot->kind == kind && slot->database == database && slot->object_id == object_id &&
			slot->worker_no == worker_no)
			return slot;
		if (slot->kind == WORKER_NONE && free_slot == NULL)
			free_slot = slot;
	}
	if (free_slot == NULL)
		return NULL;

	SpinLockAcquire(&free_slot->mutex);
	slot_clear(free_slot);
	free_slot->database = database;
	free_slot->object_id = object_id;
	free_slot->worker_no = worker_no;
	free_slot->state = WORKER_STARTING;
	free_slot->kind = kind;
	SpinLockRelease(&free_slot->mutex);
	return free_slot;
}

void
worker_slot_free(WorkerSlot *slot)
{
	SpinLockAcquire(&slot->mutex);
	slot_clear(slot);
	SpinLockRelease(&slot->mutex);
	ConditionVariableBroadcast(&slot->changed);
}

/* cuts at a whole character */
static void
copy_text(char *to, const char *from)
{
	char		cut[WORKER_TEXT_LENGTH];

	if (from == NULL)
		from = "";
	strlcpy(cut, from, WORKER_TEXT_LENGTH);
	if (strlen(from) >= WORKER_TEXT_LENGTH)
		cut[pg_mbcliplen(from, strlen(from), WORKER_TEXT_LENGTH - 1)] = '\0';
	memcpy(to, cut, WORKER_TEXT_LENGTH);
}

void
worker_set_state(WorkerSlot *slot, WorkerState state, const char *detail)
{
	char		text[WORKER_TEXT_LENGTH];

	copy_text(text, detail);
	SpinLockAcquire(&slot->mutex);
	slot->state = state;
	memcpy(slot->detail, text, WORKER_TEXT_LENGTH);
	SpinLockRelease(&slot->mutex);
	ConditionVariableBroadcast(&slot->changed);
}

void
worker_set_detail(WorkerSlot *slot, const char *detail)
{
	char		text[WORKER_TEXT_LENGTH];

	copy_text(text, detail);
	SpinLockAcquire(&slot->mutex);
	memcpy(slot->detail, text, WORKER_TEXT_LENGTH);
	SpinLockRelease(&slot->mutex);
}

void
worker_set_error(WorkerSlot *slot, const char *error)
{
	char		text[WORKER_TEXT_LENGTH];
	TimestampTz now = GetCurrentTimestamp();

	copy_text(text, error);
	SpinLockAcquire(&slot->mutex);
	memcpy(slot->last_error, text, WORKER_TEXT_LENGTH);
	slot->last_error_at = now;
	SpinLockRelease(&slot->mutex);
}
