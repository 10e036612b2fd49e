/*
 * document_internal.h
 *		What the plan of a document is made of, for the files that make documents and addresses.
 */
#ifndef CLICKSTREAM_DOCUMENT_INTERNAL_H
#define CLICKSTREAM_DOCUMENT_INTERNAL_H

#include "document.h"
#include "index_pattern.h"

typedef enum ValueForm
{
	FORM_TEXT,
	FORM_INTEGER,
	FORM_NUMBER,				/* with NaN and infinities */
	FORM_BOOLEAN,
	FORM_JSON,
	FORM_TIMESTAMP,
	FORM_DATE,
	FORM_BYTEA,
	FORM_POINT,
	FORM_ARRAY,
	FORM_ROW
} ValueForm;

typedef struct ValueType
{
	ValueForm	form;
	const char *mapping;		/* of a field of this type */
	struct ValueType *element;	/* of an array */
	char		delimiter;		/* of an array */
	int			n_fields;		/* of a row */
	char	  **names;
	struct ValueType **fields;
} ValueType;

typedef struct PlanField
{
	int			column;			/* of the relation */
	ValueType  *type;
	char	   *name;
	char	   *mapping;		/* a user's choice, or NULL */
	char	   *lead;			/* ,"name": */
	int			lead_length;
} PlanField;

struct DocumentPlan
{
	StringInfo	id;				/* scratch, as is the next */
	StringInfo	index;
	int			n_columns;		/* of the relation, as it was described */
	ColumnDescription *columns;
	int			n_fields;
	PlanField  *fields;
	int			n_ids;
	int			n_places;
	int		   *ids;			/* columns of the relation: of the id, then what else says where a document is */
	ValueType **id_types;
	IndexPattern *pattern;		/* NULL: all documents are in one index */
	int			date_column;	/* of the pattern */
	const char *index_suffix;	/* after the name that the pattern makes: that of a copy */
	int			routing_column; /* or -1 */
	char	   *more_fields;	/* of the sink's option mapping: what no column goes into */
	char	   *mapping_rest;	/* and what is not about fields */
};

/* of an object of any fields, where the server knows it */
#define FLATTENED "{\"type\":\"flattened\",\"ignore_above\":8000}"

/* document_mapping.c: the option mapping of a sink */
extern char *document_chosen_mapping(const Sink *sink, char *field);	/* NULL: none */
extern void document_plan_mapping(DocumentPlan *plan, Jsonb *mapping);

#endif							/* CLICKSTREAM_DOCUMENT_INTERNAL_H */
