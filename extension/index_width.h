/*
 * index_width.h
 *		Whether a key is too wide for a btree, asked before the row is written.
 */
#ifndef CLICKSTREAM_INDEX_WIDTH_H
#define CLICKSTREAM_INDEX_WIDTH_H

#include "postgres.h"

#include "access/itup.h"
#include "access/nbtree.h"
#include "access/toast_internals.h"
#include "access/detoast.h"
#include "catalog/pg_am.h"
#include "utils/rel.h"

/* a key of fewer bytes fits surely, even several columns of it */
#define INDEX_SMALL_KEY 1000

/* the most that an entry of a btree may take */
#define INDEX_WIDEST_ENTRY \
	(MAXALIGN_DOWN((BLCKSZ - MAXALIGN(SizeOfPageHeaderData + 3 * sizeof(ItemIdData)) - \
					MAXALIGN(sizeof(BTPageOpaqueData))) / 3) - MAXALIGN(sizeof(ItemPointerData)))

/* why the index would refuse the entry, or NULL; memory goes to the current context */
static inline char *
index_excess(Relation index, Datum *values, bool *nulls)
{
	TupleDesc	desc = RelationGetDescr(index);
	Size		size = 0;

	if (index->rd_rel->relam != BTREE_AM_OID)
		return NULL;
	for (int i = 0; i < desc->natts; i++)
		if (!nulls[i] && TupleDescAttr(desc, i)->attlen == -1)
			size += toast_raw_datum_size(values[i]);
	if (size < INDEX_SMALL_KEY)
		return NULL;
	size = IndexTupleSize(index_form_tuple(desc, values, nulls));
	return size <= INDEX_WIDEST_ENTRY ? NULL :
		psprintf("index row size %zu exceeds maximum %zu for index \"%s\"", size, (Size) INDEX_WIDEST_ENTRY,
				 RelationGetRelationName(index));
}

#endif							/* CLICKSTREAM_INDEX_WIDTH_H */
