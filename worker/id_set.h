/*
 * id_set.h
 *		A set of documents, known by hashes of their addresses.
 */
#ifndef CLICKSTREAM_ID_SET_H
#define CLICKSTREAM_ID_SET_H

#include "postgres.h"

typedef struct IdSet
{
	uint64	   *hashes;
	Size		n;
	Size		size;
} IdSet;

/* all are added first, then it is sorted, then it can be searched; eight bytes for each */
extern void id_set_add(IdSet *set, const char *address, int length);
extern void id_set_sort(IdSet *set);
extern bool id_set_has(const IdSet *set, const char *address, int length);
extern void id_set_clear(IdSet *set);

#endif							/* CLICKSTREAM_ID_SET_H */
