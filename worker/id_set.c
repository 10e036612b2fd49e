/*
 * id_set.c
 *		A set of documents, known by hashes of their addresses.
 *
 * Two documents that meet in a hash of 64 bits are taken for one: among 100,000,000 that happens to one
 * pair in some 4,000 sets.  Lives until it is cleared.  Called by whoever compares table and index.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "utils/memutils.h"

#include "id_set.h"

#define FIRST_SIZE 1024

static uint64
hash_of(const char *address, int length)
{
	return hash_bytes_extended((const unsigned char *) address, length, 0);
}

void
id_set_add(IdSet *set, const char *address, int length)
{
	if (set->n == set->size)
	{
		set->size = Max(set->size * 2, FIRST_SIZE);
		set->hashes = set->hashes ? repalloc_huge(set->hashes, sizeof(uint64) * set->size) :
			MemoryContextAllocHuge(TopMemoryContext, sizeof(uint64) * set->size);
	}
	set->hashes[set->n++] = hash_of(address, length);
}

static int
compare_hashes(const void *a, const void *b)
{
	uint64		x = *(const uint64 *) a;
	uint64		y = *(const uint64 *) b;

	return x < y ? -1 : x > y;
}

void
id_set_sort(IdSet *set)
{
	if (set->n > 0)
		qsort(set->hashes, set->n, sizeof(uint64), compare_hashes);
}

bool
id_set_has(const IdSet *set, const char *address, int length)
{
	uint64		hash = hash_of(address, length);

	return set->n > 0 && bsearch(&hash, set->hashes, set->n, sizeof(uint64), compare_hashes) != NULL;
}

void
id_set_clear(IdSet *set)
{
	if (set->hashes)
		pfree(set->hashes);
	memset(set, 0, sizeof(*set));
}
