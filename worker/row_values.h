/*
 * row_values.h
 *		A stored row as texts, without the values that are too large for any document.
 */
#ifndef CLICKSTREAM_ROW_VALUES_H
#define CLICKSTREAM_ROW_VALUES_H

#include "postgres.h"

#include "access/htup.h"
#include "utils/relcache.h"

#include "changes.h"

/*
 * A row with more bytes than this is not made a document: written as JSON it can take six times as
 * much, a buffer of PostgreSQL ends at 1 GB, and a request of Elasticsearch at 100 MB unless its
 * http.max_content_length says otherwise.
 */
#define LARGEST_ROW ((Size) 128 * 1024 * 1024)

/* bytes of what the row holds; values that are not in the log (left untouched) do not count */
extern Size row_size(HeapTuple tuple, TupleDesc desc, bool count_stored);

/*
 * The columns of the description, found by name in the row's own table, in the current memory
 * context.  False when the row is too large: the values beyond the limit are then left out, as
 * untouched ones are.
 */
extern bool row_values(const RelationDescription *relation, HeapTuple tuple, TupleDesc desc,
					   ColumnValue *values);

/* the columns that the publication of a relation tells of; in the current memory context */
extern void row_describe(RelationDescription *relation, Oid id, TupleDesc desc);

#endif							/* CLICKSTREAM_ROW_VALUES_H */
