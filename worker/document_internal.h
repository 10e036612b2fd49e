/*
 * document_internal.h
 *		What the plan of a document is made of, for the files that make documents and addresses.
 */
#ifndef CLICKSTREAM_DOCUMENT_INTERNAL_H
#define CLICKSTREAM_DOCUMENT_INTERNAL_H

#include "document.h"

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
	char	   *lead;			/* ,"name": */
	int			lead_length;
} PlanField;

struct DocumentPlan
{
	StringInfo	id;				/* scratch */
	int			n_columns;		/* of the relation, as it was described */
	ColumnDescription *columns;
	int			n_fields;
	PlanField  *fields;
	int			n_ids;
	int		   *ids;			/* columns of the relation */
	ValueType **id_types;
};

#endif							/* CLICKSTREAM_DOCUMENT_INTERNAL_H */
