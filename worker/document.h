/*
 * document.h
 *		A row becomes a JSON document: by a plan made once for the shape of the table.
 */
#ifndef CLICKSTREAM_DOCUMENT_H
#define CLICKSTREAM_DOCUMENT_H

#include "postgres.h"

#include "lib/stringinfo.h"
#include "nodes/pg_list.h"
#include "utils/jsonb.h"

#include "changes.h"

typedef struct DocumentPlan DocumentPlan;

/*
 * In the current memory context; needs the system catalogs.  `columns` is the sink's option: an
 * object renames columns ({"column": "field"}) or leaves them out ({"column": null}), an array of
 * names is all that goes in.  Throws when an id column is not there.
 */
extern DocumentPlan *document_plan(const RelationDescription *relation, Jsonb *columns,
								   List *id_columns);

/* whether a plan made before fits this description too */
extern bool document_plan_fits(const DocumentPlan *plan, const RelationDescription *relation);

/* whether any column that goes into documents was left untouched */
extern bool document_is_incomplete(const DocumentPlan *plan, const ColumnValue *values);

extern void document_append(const DocumentPlan *plan, const ColumnValue *values, StringInfo out);

/* the _id, in `out` (which is reset); false when every part of it is NULL */
extern bool document_id(const DocumentPlan *plan, const ColumnValue *values, StringInfo out);

/* positions of the id columns among the relation's */
extern int	document_id_columns(const DocumentPlan *plan, const int **columns);

/*
 * {"field": {"type": …}, …}.  `which`, below DOCUMENT_MAPPINGS: servers do not agree on what an object of any
 * fields is, so each is tried in turn.
 */
#define DOCUMENT_MAPPINGS 3
extern void document_append_mapping(const DocumentPlan *plan, int which, StringInfo out);

/* a JSON string, quotes included */
extern void json_append_string(StringInfo out, const char *text, int length);

#endif							/* CLICKSTREAM_DOCUMENT_H */
