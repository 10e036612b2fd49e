/*
 * compare.h
 *		Rows held against the documents that an index has for them.
 */
#ifndef CLICKSTREAM_COMPARE_H
#define CLICKSTREAM_COMPARE_H

#include "postgres.h"

#include "catalog.h"
#include "document.h"
#include "elasticsearch.h"

typedef enum Difference
{
	DOCUMENT_SAME,
	DOCUMENT_MISSING,
	DOCUMENT_DIFFERENT
} Difference;

typedef struct ComparedRow
{
	const char *address;		/* of its document */
	int			length;
	const char *document;		/* as it should be */
	Difference	difference;
	uint64		version;		/* of the document that is there, with the sink's base */
} ComparedRow;

typedef void (*CompareEach) (void *arg, const ComparedRow *row);

typedef struct Compare Compare;

/* in the current memory context; `each` is called for all rows, some time after they were added */
extern Compare *compare_open(Elasticsearch *client, const Sink *sink, CompareEach each, void *arg);

/* Asks when there is enough to ask for: NULL, or why Elasticsearch does not answer. */
extern char *compare_add(Compare *compare, const DocumentPlan *plan, const ColumnValue *values,
						 const char *address, int length);

/* the same for what is left */
extern char *compare_rest(Compare *compare);

#endif							/* CLICKSTREAM_COMPARE_H */
