/*
 * copy.h
 *		Rows read from the table itself: all of them for a new sink, or one by its key.
 */
#ifndef CLICKSTREAM_COPY_H
#define CLICKSTREAM_COPY_H

#include "postgres.h"

#include "catalog.h"
#include "changes.h"
#include "document.h"

/* the relation as logical decoding would describe it; needs a transaction; throws when it is gone */
extern RelationDescription *copy_describe(Oid relation);

/* the condition in SQL that rows of the sink satisfy, NULL for all of them; needs a transaction */
extern char *copy_filter(const Sink *sink);

/* whether a unique key of it is checked only at the end of a statement or transaction */
extern bool copy_has_deferrable_key(Oid relation);

/*
 * A row of the table: one value for each column of the description.  fits: false for a row that is too
 * large for any document; its large columns are left out.
 */
typedef void (*CopyRow) (void *arg, const ColumnValue *values, bool fits);

/* Every row that satisfies the filter (NULL: every row), as the active snapshot sees it. */
extern void copy_table(const RelationDescription *relation, const char *filter, CopyRow row,
					   void *arg);

/* The same of some blocks of one table of it: itself, or a partition; from -1: of all of them. */
extern void copy_blocks(const RelationDescription *relation, Oid leaf, int64 from, int64 to,
						const char *filter, CopyRow row, void *arg);

/* Of these, the rows whose id columns have these texts (NULL matches NULL), as they are now. */
extern void copy_by_id(const RelationDescription *relation, const char *filter, const int *columns,
					   int n, char *const *texts, CopyRow row, void *arg);

#endif							/* CLICKSTREAM_COPY_H */
