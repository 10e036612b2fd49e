/*
 * document.c
 *		A row becomes a JSON document, and its key an _id.
 *
 * Owns how each type of PostgreSQL looks in JSON and in an index's mapping.  Works on the text forms
 * that output functions give under a worker's pinned settings (ISO dates, UTC, hex bytea), in UTF-8,
 * because that is what logical decoding gives; the first copy makes the same texts.  Called by
 * sink_main.c and copy.c; the mapping goes to sink_index.c.
 *
 *	integers, floats, numeric	numbers, digit for digit; NaN and the infinities become null
 *	boolean						true, false
 *	timestamp[tz], date			ISO 8601 with Z; infinity becomes null; "-0043-03-15" is 44 BC
 *	json, jsonb					as it is; what is not an object becomes {"value": …}, as fields of the
 *								type flattened take objects only
 *	bytea						base64
 *	point						[x, y]: longitude and latitude
 *	arrays						arrays, of as many dimensions
 *	composite types				objects
 *	all others					their text
 *
 * A value that a field cannot index (an address with a mask, a year beyond its range, a text longer
 * than 8,191 characters) is kept in the document and left out of the index: ignore_malformed and
 * ignore_above.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "common/base64.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

#include "compat.h"
#include "document.h"
#include "document_internal.h"
#include "sink_api.h"

#define LONGEST_ID 512

static ValueType *type_of(Oid oid);
static void append_value(StringInfo out, const ValueType *type, const char *text, int length);

/* ---------------------------------------------------------------- types */

#define KEYWORD "{\"type\":\"keyword\",\"ignore_above\":8191}"

#define DATE "{\"type\":\"date\",\"format\":\"strict_date_optional_time\",\"ignore_malformed\":true}"

typedef struct KnownType
{
	Oid			oid;
	ValueForm	form;
	const char *mapping;
} KnownType;

static const KnownType known_types[] = {
	{BOOLOID, FORM_BOOLEAN, "{\"type\":\"boolean\"}"},
	{INT2OID, FORM_INTEGER, "{\"type\":\"short\"}"},
	{INT4OID, FORM_INTEGER, "{\"type\":\"integer\"}"},
	{INT8OID, FORM_INTEGER, "{\"type\":\"long\"}"},
	{OIDOID, FORM_INTEGER, "{\"type\":\"long\"}"},
	{FLOAT4OID, FORM_NUMBER, "{\"type\":\"float\",\"ignore_malformed\":true}"},
	{FLOAT8OID, FORM_NUMBER, "{\"type\":\"double\",\"ignore_malformed\":true}"},
	{NUMERICOID, FORM_NUMBER, "{\"type\":\"double\",\"ignore_malformed\":true}"},
	{TIMESTAMPTZOID, FORM_TIMESTAMP, DATE},
	{TIMESTAMPOID, FORM_TIMESTAMP, DATE},
	{DATEOID, FORM_DATE, DATE},
	{JSONOID, FORM_JSON, FLATTENED},
	{JSONBOID, FORM_JSON, FLATTENED},
	{BYTEAOID, FORM_BYTEA, "{\"type\":\"binary\"}"},
	{INETOID, FORM_TEXT, "{\"type\":\"ip\",\"ignore_malformed\":true}"},
	{POINTOID, FORM_POINT, "{\"type\":\"geo_point\",\"ignore_malformed\":true}"},
};

static ValueType *
row_type(Oid oid)
{
	ValueType  *type = palloc0(sizeof(ValueType));
	TupleDesc	desc = lookup_rowtype_tupdesc(oid, -1);
	int			i;

	type->form = FORM_ROW;
	type->mapping = FLATTENED;
	type->names = palloc(sizeof(char *) * Max(desc->natts, 1));
	type->fields = palloc(sizeof(ValueType *) * Max(desc->natts, 1));
	for (i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);

		if (attribute->attisdropped)
			continue;
		type->names[type->n_fields] = pstrdup(NameStr(attribute->attname));
		type->fields[type->n_fields++] = type_of(attribute->atttypid);
	}
	ReleaseTupleDesc(desc);
	return type;
}

static ValueType *
array_type(Oid element)
{
	ValueType  *type = palloc0(sizeof(ValueType));
	int16		length;
	bool		by_value;
	char		align;
	Oid			io_parameter;
	Oid			output;

	type->form = FORM_ARRAY;
	type->element = type_of(element);
	type->mapping = type->element->mapping;
	get_type_io_data(element, IOFunc_output, &length, &by_value, &align, &type->delimiter,
					 &io_parameter, &output);
	return type;
}

static ValueType *
type_of(Oid oid)
{
	ValueType  *type;
	Oid			element;
	int			i;

	check_stack_depth();
	oid = getBaseType(oid);
	if (OidIsValid(element = get_element_type(oid)))
		return array_type(element);
	if (get_typtype(oid) == TYPTYPE_COMPOSITE)
		return row_type(oid);

	type = palloc0(sizeof(ValueType));
	type->form = FORM_TEXT;
	type->mapping = KEYWORD;
	for (i = 0; i < lengthof(known_types); i++)
		if (known_types[i].oid == oid)
		{
			type->form = known_types[i].form;
			type->mapping = known_types[i].mapping;
		}
	return type;
}

/* ---------------------------------------------------------------- the plan */

static void
plan_field(DocumentPlan *plan, int column, char *name, Oid type, const Sink *sink)
{
	PlanField  *field = &plan->fields[plan->n_fields++];
	StringInfoData lead;

	initStringInfo(&lead);
	appendStringInfoChar(&lead, ',');
	json_append_string(&lead, name, strlen(name));
	appendStringInfoChar(&lead, ':');
	field->column = column;
	field->type = type_of(type);
	field->name = name;
	field->mapping = document_chosen_mapping(sink, name);
	field->lead = lead.data;
	field->lead_length = lead.len;
}

static int
column_of(const DocumentPlan *plan, const char *name, const char *purpose)
{
	int			i;

	for (i = 0; i < plan->n_columns; i++)
		if (strcmp(plan->columns[i].name, name) == 0)
			return i;
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_COLUMN),
			 errmsg("column \"%s\", which is part of a document's %s, is not in the table", name, purpose),
			 errhint("Drop the sink and create it again with another %s.",
					 strcmp(purpose, "_id") == 0 ? "id" : purpose)));
}

static void
plan_id(DocumentPlan *plan, const char *name)
{
	int			column = column_of(plan, name, "_id");

	plan->ids[plan->n_ids] = column;
	plan->id_types[plan->n_ids++] = type_of(plan->columns[column].type);
}

static void
plan_place(DocumentPlan *plan, const Sink *sink)
{
	plan->pattern = index_pattern(sink->index);
	plan->index_suffix = "";
	plan->routing_column = -1;
	plan->n_places = plan->n_ids;
	if (plan->pattern)
		plan->ids[plan->n_places++] = plan->date_column = column_of(plan, plan->pattern->column, "index");
	if (sink->routing)
		plan->ids[plan->n_places++] = plan->routing_column = column_of(plan, sink->routing, "routing");
}

DocumentPlan *
document_plan(const RelationDescription *relation, const Sink *sink)
{
	DocumentPlan *plan = palloc0(sizeof(DocumentPlan));
	ListCell   *cell;
	int			i;

	plan->id = makeStringInfo();
	plan->index = makeStringInfo();
	plan->n_columns = relation->n_columns;
	plan->columns = palloc0(sizeof(ColumnDescription) * Max(relation->n_columns, 1));
	plan->fields = palloc0(sizeof(PlanField) * Max(relation->n_columns, 1));
	plan->ids = palloc0(sizeof(int) * (list_length(sink->id_columns) + 2));
	plan->id_types = palloc0(sizeof(ValueType *) * Max(list_length(sink->id_columns), 1));
	for (i = 0; i < relation->n_columns; i++)
	{
		const ColumnDescription *column = &relation->columns[i];
		char	   *name = sink_field_of(sink->columns, column->name);

		plan->columns[i] = *column;
		plan->columns[i].name = pstrdup(column->name);
		if (name)
			plan_field(plan, i, name, column->type, sink);
	}
	foreach(cell, sink->id_columns)
		plan_id(plan, lfirst(cell));
	plan_place(plan, sink);
	document_plan_mapping(plan, sink->mapping);
	return plan;
}

bool
document_plan_fits(const DocumentPlan *plan, const RelationDescription *relation)
{
	int			i;

	if (plan->n_columns != relation->n_columns)
		return false;
	for (i = 0; i < plan->n_columns; i++)
		if (plan->columns[i].type != relation->columns[i].type ||
			plan->columns[i].typmod != relation->columns[i].typmod ||
			strcmp(plan->columns[i].name, relation->columns[i].name) != 0)
			return false;
	return true;
}

int
document_id_columns(const DocumentPlan *plan, const int **columns)
{
	*columns = plan->ids;
	return plan->n_ids;
}

int
document_place_columns(const DocumentPlan *plan, const int **columns)
{
	*columns = plan->ids;
	return plan->n_places;
}

/* ---------------------------------------------------------------- strings */

/* whether a byte cannot stand in a JSON string as it is */
static inline bool
needs_escape(unsigned char c)
{
	return c < 0x20 || c == '"' || c == '\\';
}

static void
append_escape(StringInfo out, unsigned char c)
{
	switch (c)
	{
		case '"':
			appendBinaryStringInfo(out, "\\\"", 2);
			break;
		case '\\':
			appendBinaryStringInfo(out, "\\\\", 2);
			break;
		case '\n':
			appendBinaryStringInfo(out, "\\n", 2);
			break;
		case '\t':
			appendBinaryStringInfo(out, "\\t", 2);
			break;
		default:
			appendStringInfo(out, "\\u%04x", c);
	}
}

static void
append_escaped(StringInfo out, const char *text, int length)
{
	const char *end = text + length;
	const char *plain = text;

	for (; text < end; text++)
	{
		if (!needs_escape(*text))
			continue;
		appendBinaryStringInfo(out, plain, text - plain);
		append_escape(out, *text);
		plain = text + 1;
	}
	appendBinaryStringInfo(out, plain, end - plain);
}

void
json_append_string(StringInfo out, const char *text, int length)
{
	appendStringInfoCharMacro(out, '"');
	append_escaped(out, text, length);
	appendStringInfoCharMacro(out, '"');
}

static void
append_null(StringInfo out)
{
	appendBinaryStringInfo(out, "null", 4);
}

/* ---------------------------------------------------------------- scalars */

static void
append_number(StringInfo out, const char *text, int length)
{
	/* NaN, Infinity, -Infinity */
	if (length == 0 || !isdigit((unsigned char) text[length - 1]))
		append_null(out);
	else
		appendBinaryStringInfo(out, text, length);
}

/* "12025-…" needs a sign; "0044-… BC" is the year -43 */
static void
append_iso_date(StringInfo out, const char *text, int length, bool bc)
{
	int			digits = 0;

	while (digits < length && isdigit((unsigned char) text[digits]))
		digits++;
	if (bc)
	{
		int			year = 1 - atoi(text);

		appendStringInfo(out, "%s%04d", year < 0 ? "-" : "", abs(year));
		appendBinaryStringInfo(out, text + digits, length - digits);
		return;
	}
	if (digits > 4)
		appendStringInfoCharMacro(out, '+');
	appendBinaryStringInfo(out, text, length);
}

/* "2025-06-04 12:00:00.5+00": in a worker the zone is UTC, so +00 is all there can be */
static void
append_moment(StringInfo out, const char *text, int length, bool has_time)
{
	const char *space;
	bool		bc = length > 3 && memcmp(text + length - 3, " BC", 3) == 0;

	if (length == 0 || !isdigit((unsigned char) text[0]))
	{
		append_null(out);		/* infinity */
		return;
	}
	if (bc)
		length -= 3;
	appendStringInfoCharMacro(out, '"');
	space = has_time ? memchr(text, ' ', length) : NULL;
	if (space == NULL)
		append_iso_date(out, text, length, bc);
	else
	{
		int			rest = text + length - (space + 1);

		if (rest > 3 && memcmp(text + length - 3, "+00", 3) == 0)
			rest -= 3;
		append_iso_date(out, text, space - text, bc);
		appendStringInfoCharMacro(out, 'T');
		appendBinaryStringInfo(out, space + 1, rest);
		appendStringInfoCharMacro(out, 'Z');
	}
	appendStringInfoCharMacro(out, '"');
}

/* json (not jsonb) can hold line breaks between its tokens, and a bulk is made of lines */
static void
append_json_text(StringInfo out, const char *text, int length)
{
	int			start = out->len;
	char	   *c;

	appendBinaryStringInfo(out, text, length);
	for (c = out->data + start; c < out->data + out->len; c++)
		if (*c == '\n' || *c == '\r')
			*c = ' ';
}

static void
append_json(StringInfo out, const char *text, int length)
{
	while (length > 0 && isspace((unsigned char) *text))
	{
		text++;
		length--;
	}
	if (length > 0 && *text == '{')
	{
		append_json_text(out, text, length);
		return;
	}
	appendStringInfoString(out, "{\"value\":");
	append_json_text(out, text, length);
	appendStringInfoChar(out, '}');
}

static int
hex_digit(char c)
{
	return c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10;
}

/* "\x68656c6c6f" */
static void
append_bytea(StringInfo out, const char *text, int length)
{
	int			n = Max(length - 2, 0) / 2;
	uint8	   *bytes = palloc(n + 1);
	int			encoded;
	int			i;

	for (i = 0; i < n; i++)
		bytes[i] = hex_digit(text[2 + 2 * i]) << 4 | hex_digit(text[3 + 2 * i]);

	appendStringInfoChar(out, '"');
	enlargeStringInfo(out, pg_b64_enc_len(n) + 1);
	encoded = compat_b64_encode(bytes, n, out->data + out->len, pg_b64_enc_len(n) + 1);
	if (encoded < 0)
		elog(ERROR, "could not encode %d bytes", n);
	out->len += encoded;
	out->data[out->len] = '\0';
	appendStringInfoChar(out, '"');
	pfree(bytes);
}

/* "(1.5,-2)" */
static void
append_point(StringInfo out, const char *text, int length)
{
	const char *comma = memchr(text, ',', length);

	if (comma == NULL || !isdigit((unsigned char) comma[-1]) ||
		!isdigit((unsigned char) text[length - 2]))
	{
		append_null(out);		/* NaN or infinity */
		return;
	}
	appendStringInfoChar(out, '[');
	appendBinaryStringInfo(out, text + 1, length - 2);
	appendStringInfoChar(out, ']');
}

/* ---------------------------------------------------------------- arrays and rows */

/* copies what stands between double quotes, position on the opening one; returns what follows */
static const char *
take_quoted(const char *position, const char *end, StringInfo value)
{
	resetStringInfo(value);
	for (position++; position < end; position++)
	{
		if (*position == '\\' && position + 1 < end)
			position++;
		else if (*position == '"')
		{
			/* a row doubles its quotes */
			if (position + 1 == end || position[1] != '"')
				return position + 1;
			position++;
		}
		appendStringInfoCharMacro(value, *position);
	}
	return position;
}

static const char *
append_array_element(StringInfo out, const ValueType *type, const char *position, const char *end,
					 StringInfo value)
{
	const char *start = position;

	if (*position == '"')
	{
		position = take_quoted(position, end, value);
		append_value(out, type->element, value->data, value->len);
		return position;
	}
	while (position < end && *position != type->delimiter && *position != '}')
		position++;
	if (position - start == 4 && pg_strncasecmp(start, "NULL", 4) == 0)
		append_null(out);
	else
		append_value(out, type->element, start, position - start);
	return position;
}

/* "{1,NULL,{…}}", position on the opening brace */
static const char *
append_dimension(StringInfo out, const ValueType *type, const char *position, const char *end,
				 StringInfo value)
{
	bool		first = true;

	appendStringInfoChar(out, '[');
	for (position++; position < end && *position != '}';)
	{
		if (*position == type->delimiter)
			position++;
		if (!first)
			appendStringInfoChar(out, ',');
		first = false;
		if (*position == '{')
			position = append_dimension(out, type, position, end, value);
		else
			position = append_array_element(out, type, position, end, value);
	}
	appendStringInfoChar(out, ']');
	return position + 1;
}

static void
append_array(StringInfo out, const ValueType *type, const char *text, int length)
{
	const char *end = text + length;
	const char *start = memchr(text, '{', length);	/* bounds may stand before: [0:2]= */
	StringInfoData value;

	if (start == NULL)
	{
		append_null(out);
		return;
	}
	initStringInfo(&value);
	(void) append_dimension(out, type, start, end, &value);
	pfree(value.data);
}

/* a field of "(1,"a b",)": nothing at all is NULL */
static const char *
append_row_field(StringInfo out, const ValueType *type, const char *position, const char *end,
				 StringInfo value)
{
	const char *start = position;

	if (position < end && *position == '"')
	{
		position = take_quoted(position, end, value);
		append_value(out, type, value->data, value->len);
		return position;
	}
	while (position < end && *position != ',' && *position != ')')
		position++;
	if (position == start)
		append_null(out);
	else
		append_value(out, type, start, position - start);
	return position;
}

static void
append_row(StringInfo out, const ValueType *type, const char *text, int length)
{
	const char *end = text + length;
	const char *position = text + 1;
	StringInfoData value;
	int			i;

	initStringInfo(&value);
	appendStringInfoChar(out, '{');
	for (i = 0; i < type->n_fields; i++)
	{
		if (i > 0)
			appendStringInfoChar(out, ',');
		json_append_string(out, type->names[i], strlen(type->names[i]));
		appendStringInfoChar(out, ':');
		position = append_row_field(out, type->fields[i], position, end, &value);
		if (position < end)
			position++;			/* the comma */
	}
	appendStringInfoChar(out, '}');
	pfree(value.data);
}

static void
append_value(StringInfo out, const ValueType *type, const char *text, int length)
{
	switch (type->form)
	{
		case FORM_TEXT:
			json_append_string(out, text, length);
			break;
		case FORM_INTEGER:
			appendBinaryStringInfo(out, text, length);
			break;
		case FORM_NUMBER:
			append_number(out, text, length);
			break;
		case FORM_BOOLEAN:
			appendStringInfoString(out, text[0] == 't' ? "true" : "false");
			break;
		case FORM_JSON:
			append_json(out, text, length);
			break;
		case FORM_TIMESTAMP:
			append_moment(out, text, length, true);
			break;
		case FORM_DATE:
			append_moment(out, text, length, false);
			break;
		case FORM_BYTEA:
			append_bytea(out, text, length);
			break;
		case FORM_POINT:
			append_point(out, text, length);
			break;
		case FORM_ARRAY:
			append_array(out, type, text, length);
			break;
		case FORM_ROW:
			append_row(out, type, text, length);
			break;
	}
}

/* ---------------------------------------------------------------- documents and ids */

bool
document_is_incomplete(const DocumentPlan *plan, const ColumnValue *values)
{
	int			i;

	for (i = 0; i < plan->n_fields; i++)
		if (values[plan->fields[i].column].untouched)
			return true;
	return false;
}

void
document_append(const DocumentPlan *plan, const ColumnValue *values, StringInfo out)
{
	int			start = out->len;
	int			i;

	for (i = 0; i < plan->n_fields; i++)
	{
		const PlanField *field = &plan->fields[i];
		const ColumnValue *value = &values[field->column];

		appendBinaryStringInfo(out, field->lead, field->lead_length);
		if (value->text == NULL)
			append_null(out);
		else
			append_value(out, field->type, value->text, value->length);
	}
	if (plan->n_fields == 0)
		appendStringInfoChar(out, '{');
	else
		out->data[start] = '{'; /* where the first comma was */
	appendStringInfoChar(out, '}');
}

/* what Elasticsearch does not take as an _id is told by its hash */
static void
hash_id(StringInfo out)
{
	bytea	   *text = (bytea *) cstring_to_text_with_len(out->data, out->len);
	bytea	   *hash = DatumGetByteaPP(DirectFunctionCall1(sha256_bytea, PointerGetDatum(text)));
	int			i;

	resetStringInfo(out);
	appendStringInfoString(out, "sha256:");
	for (i = 0; i < VARSIZE_ANY_EXHDR(hash); i++)
		appendStringInfo(out, "%02x", (unsigned char) VARDATA_ANY(hash)[i]);
	pfree(text);
	pfree(hash);
}

static void
append_composed_id(const DocumentPlan *plan, const ColumnValue *values, StringInfo out)
{
	int			i;

	for (i = 0; i < plan->n_ids; i++)
	{
		const ColumnValue *value = &values[plan->ids[i]];

		appendStringInfoChar(out, i == 0 ? '[' : ',');
		if (value->text == NULL)
			append_null(out);
		else
			append_value(out, plan->id_types[i], value->text, value->length);
	}
	appendStringInfoChar(out, ']');
}

bool
document_id(const DocumentPlan *plan, const ColumnValue *values, StringInfo out)
{
	bool		all_null = true;
	int			i;

	resetStringInfo(out);
	for (i = 0; i < plan->n_ids; i++)
		if (values[plan->ids[i]].text != NULL)
			all_null = false;
	if (all_null)
		return false;

	if (plan->n_ids == 1)
		appendBinaryStringInfo(out, values[plan->ids[0]].text, values[plan->ids[0]].length);
	else
		append_composed_id(plan, values, out);
	if (out->len == 0 || out->len > LONGEST_ID)
		hash_id(out);
	return true;
}
