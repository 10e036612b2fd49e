/*
 * document.h
 *		A row becomes a JSON document: by a plan made once for the shape of the table.
 */
#ifndef CLICKSTREAM_DOCUMENT_H
#define CLICKSTREAM_DOCUMENT_H

#include "postgres.h"

#include "lib/stringinfo.h"
#include "nodes/pg_list.h"

#include "catalog.h"
#include "changes.h"

typedef struct DocumentPlan DocumentPlan;

/*
 * In the current memory context; needs the system catalogs.  The sink's option columns says what
 * goes in: an object renames columns ({"column": "field"}) or leaves them out ({"column": null}), an
 * array of names is all that goes in.  Throws when an id column is not there.
 */
extern DocumentPlan *document_plan(const RelationDescription *relation, const Sink *sink);

/* whether a plan made before fits this description too */
extern bool document_plan_fits(const DocumentPlan *plan, const RelationDescription *relation);

/* whether any column that goes into documents was left untouched */
extern bool document_is_incomplete(const DocumentPlan *plan, const ColumnValue *values);

extern void document_append(const DocumentPlan *plan, const ColumnValue *values, StringInfo out);

/* the _id, in `out` (which is reset); false when every part of it is NULL */
extern bool document_id(const DocumentPlan *plan, const ColumnValue *values, StringInfo out);

/*
 * Where the document is: "_id":"17","_index":"clicks-2025.06.04","routing":"u1", the latter two where the
 * sink has a date pattern or a column for routing.  A piece of JSON that goes into actions of a bulk,
 * into _mget, and tells documents apart.  In `out` (which is reset); false when the id is NULL.
 */
extern bool document_address(const DocumentPlan *plan, const ColumnValue *values, StringInfo out);

typedef struct AddressPart
{
	const char *text;			/* or NULL */
	int			length;
} AddressPart;
extern void document_address_of(AddressPart id, AddressPart index, AddressPart routing, StringInfo out);

/* a part of it, "_id", "_index" or "routing"; NULL when it has none */
extern char *document_address_part(const char *address, int length, const char *part);

/* the name of the index, without regard to an id, in `out` (which is reset); false without a date pattern */
extern bool document_index(const DocumentPlan *plan, const ColumnValue *values, StringInfo out);

/* from here on addresses lead to indexes whose names end so */
extern void document_plan_for_copy(DocumentPlan *plan, const char *index_suffix);

/* positions of the id columns among the relation's */
extern int	document_id_columns(const DocumentPlan *plan, const int **columns);

/* the same and, after them, those of the date and of the route: all that an address is made of */
extern int	document_place_columns(const DocumentPlan *plan, const int **columns);

/*
 * {"field": {"type": …}, …}.  `which`, below DOCUMENT_MAPPINGS: servers do not agree on what an object of any
 * fields is, so each is tried in turn.
 */
#define DOCUMENT_MAPPINGS 3
extern void document_append_mapping(const DocumentPlan *plan, int which, StringInfo out);

/* ,"dynamic":"strict" and what else the sink's mapping has beside fields */
extern void document_append_mapping_rest(const DocumentPlan *plan, StringInfo out);

/* a JSON string, quotes included */
extern void json_append_string(StringInfo out, const char *text, int length);

#endif							/* CLICKSTREAM_DOCUMENT_H */
