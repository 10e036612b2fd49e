/*
 * bulk_batch.c
 *		The documents of one request: by address, newest wins.
 *
 * The lines of a batch stand in its body as they are sent.  A document whose address comes again is dead:
 * its entry is skipped, and the body copied without it before it goes out.  Called by the parts of a bulk.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "bulk_internal.h"

/* a body that has grown beyond this is given back after use */
#define LARGE_BODY ((Size) 64 * 1024 * 1024)

#define FIRST_SIZE 1024

void
batch_init(Batch *batch)
{
	initStringInfo(&batch->body);
	initStringInfo(&batch->ids);
	batch->size = FIRST_SIZE;
	batch->entries = palloc(sizeof(Entry) * batch->size);
	batch->n_buckets = FIRST_SIZE * 2;
	batch->buckets = palloc0(sizeof(int) * batch->n_buckets);
	initStringInfo(&batch->request);
}

/* memory of a body that was much larger than others is given back */
static void
empty_body(StringInfo body)
{
	resetStringInfo(body);
	if (body->maxlen <= LARGE_BODY)
		return;
	pfree(body->data);
	initStringInfo(body);
}

void
batch_reset(Batch *batch)
{
	resetStringInfo(&batch->ids);
	empty_body(&batch->body);
	empty_body(&batch->request);
	memset(batch->buckets, 0, sizeof(int) * batch->n_buckets);
	batch->n_entries = 0;
	batch->n_dead = 0;
	batch->since = 0;
}

static void
batch_grow(Batch *batch)
{
	int			i;

	batch->size *= 2;
	batch->entries = repalloc_huge(batch->entries, sizeof(Entry) * batch->size);
	pfree(batch->buckets);
	batch->n_buckets *= 2;
	batch->buckets = MemoryContextAllocExtended(GetMemoryChunkContext(batch->entries),
												sizeof(int) * batch->n_buckets,
												MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	for (i = 0; i < batch->n_entries; i++)
	{
		uint32		bucket = batch->entries[i].hash & (batch->n_buckets - 1);

		while (batch->buckets[bucket] != 0)
			bucket = (bucket + 1) & (batch->n_buckets - 1);
		batch->buckets[bucket] = i + 1;
	}
}

/* the bucket of an id: its newest entry, or free */
static int *
find_bucket(const Batch *batch, const char *id, int length, uint32 hash)
{
	uint32		bucket = hash & (batch->n_buckets - 1);

	while (batch->buckets[bucket] != 0)
	{
		Entry	   *entry = &batch->entries[batch->buckets[bucket] - 1];

		if (entry->hash == hash && entry->id_length == length &&
			memcmp(batch->ids.data + entry->id, id, length) == 0)
			break;
		bucket = (bucket + 1) & (batch->n_buckets - 1);
	}
	return &batch->buckets[bucket];
}

Entry *
batch_add(Batch *batch, const char *id, int length, XLogRecPtr version)
{
	uint32		hash = hash_bytes((const unsigned char *) id, length);
	int		   *bucket;
	Entry	   *entry;

	if (batch->n_entries == batch->size)
		batch_grow(batch);
	if (batch->n_entries == 0)
		batch->since = GetCurrentTimestamp();

	bucket = find_bucket(batch, id, length, hash);
	entry = &batch->entries[batch->n_entries];
	memset(entry, 0, sizeof(Entry));
	entry->hash = hash;
	entry->id_length = length;
	entry->line = batch->body.len;
	entry->version = version;
	if (*bucket != 0)
	{
		Entry	   *older = &batch->entries[*bucket - 1];

		older->dead = true;
		batch->n_dead++;
		entry->id = older->id;
		entry->version = Max(version, older->version);
		entry->repeats = entry->version == older->version || older->repeats;
	}
	else
	{
		entry->id = batch->ids.len;
		appendBinaryStringInfo(&batch->ids, id, length);
	}
	*bucket = ++batch->n_entries;
	return entry;
}

Entry *
batch_find(const Batch *batch, const char *id, int length, uint32 hash)
{
	int			found = *find_bucket(batch, id, length, hash);

	return found != 0 ? &batch->entries[found - 1] : NULL;
}

int
batch_living(const Batch *batch)
{
	return batch->n_entries - batch->n_dead;
}
