/*
 * decode.c
 *		A record becomes the values of a row.
 *
 * Owns the way from bytes to fields: what around a JSON object is passed over or refused, and which
 * field goes to which column.  The whole document is checked before a value is made of any of it.
 * Never writes anything, never throws for a record's sake: its faults are outcomes.  Called by
 * writer.c, and by preview and replay.
 *
 * Plan and document are walked side by side: at each level the plan's tree has the keys that
 * some column takes, anything else is only checked.  The last of two equal keys wins, with all
 * below.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "decode_plan.h"

/* longest path of columns; keys compared after unescaping go no further */
#define LONGEST_KEY 1024

/* ---------------------------------------------------------------- fields */

PlanKey *
plan_child(const PlanKey *key, const char *name, uint32 length)
{
	uint32		at = plan_key_hash(name, length) & key->mask;
	PlanKey    *child;

	while ((child = key->table[at]) != NULL)
	{
		if (child->length == length && memcmp(child->name, name, length) == 0)
			return child;
		at = (at + 1) & key->mask;
	}
	return NULL;
}

static PlanKey *
child_for(const PlanKey *key, const JsonValueText *name)
{
	char		plain[LONGEST_KEY];
	bool		has_zero;
	size_t		length;

	if (!name->escaped)
		return plan_child(key, name->start, name->end - name->start);
	if (name->end - name->start > LONGEST_KEY)
		return NULL;
	length = json_unescape(name, plain, &has_zero);
	return has_zero ? NULL : plan_child(key, plain, length);
}

/* what an earlier key of the same name brought no longer counts */
static void
forget_below(DecodePlan *plan, PlanKey *key)
{
	if (key->field >= 0)
		plan->found[key->field].record = 0;
	for (int i = 0; i < key->n_children; i++)
		forget_below(plan, key->children[i]);
}

static bool walk_object(DecodePlan *plan, JsonText *json, PlanKey *key);

static bool
walk_member(DecodePlan *plan, JsonText *json, PlanKey *key)
{
	JsonValueText value;

	if (key->n_children > 0)
	{
		if (key->seen == plan->record)
			forget_below(plan, key);
		key->seen = plan->record;
		if (json_peek(json) == '{')
		{
			value.kind = JSON_OBJECT;
			value.escaped = false;
			value.token = json->at;
			value.start = json->text + json->tokens[json->at];
			if (!walk_object(plan, json, key))
				return false;
			value.end = json->text + json->tokens[json->at - 1] + 1;
		}
		else if (!json_read_value(json, &value))
			return false;
	}
	else if (!json_read_value(json, &value))
		return false;

	if (key->field >= 0)
	{
		plan->found[key->field].record = plan->record;
		plan->found[key->field].value = value;
	}
	return true;
}

/* at an opening brace; ends after the closing one.  As deep as the longest path, no deeper. */
static bool
walk_object(DecodePlan *plan, JsonText *json, PlanKey *key)
{
	JsonValueText name,
				ignored;

	json->at++;
	if (json_peek(json) == '}')
	{
		json->at++;
		return true;
	}
	for (;;)
	{
		PlanKey    *child;

		if (!json_read_key(json, &name))
			return false;
		child = child_for(key, &name);
		if (!(child ? walk_member(plan, json, child) : json_read_value(json, &ignored)))
			return false;
		switch (json_peek(json))
		{
			case ',':
				json->at++;
				break;
			case '}':
				json->at++;
				return true;
			case '\0':
				return json_fail(json, "it ends too early");
			default:
				return json_fail(json, "there is no comma between two members");
		}
	}
}

/* ---------------------------------------------------------------- the document */

static DecodeOutcome
fault_of_json(DecodePlan *plan, DecodeFault *fault)
{
	JsonText   *json = &plan->json;

	if (json->error_code == ERRCODE_INVALID_TEXT_REPRESENTATION && json->n > 0)
		return decode_fault(plan, fault, json->error_code,
							"message is not valid JSON: %s (at byte %zu)",
							json->error, json->error_at);
	return decode_fault(plan, fault, json->error_code, "message is not valid JSON: %s",
						json->error);
}

static DecodeOutcome
fault_of_beginning(DecodePlan *plan, const char *text, size_t length, DecodeFault *fault)
{
	JsonValueText value;

	if (json_peek(&plan->json) == '[')
		return decode_fault(plan, fault, ERRCODE_INVALID_TEXT_REPRESENTATION,
							"message is a JSON array, not an object");
	if (json_read_value(&plan->json, &value) && plan->json.at == plan->json.n)
		return decode_fault(plan, fault, ERRCODE_INVALID_TEXT_REPRESENTATION,
							"message is a JSON %s, not an object",
							value.kind == JSON_STRING ? "string" :
							value.kind == JSON_NUMBER ? "number" :
							value.kind == JSON_NULL ? "null" : "boolean");
	if (plan->json.error == NULL)
		json_fail(&plan->json, "something follows the value");
	return fault_of_json(plan, fault);
}

static DecodeOutcome
fault_of_end(DecodePlan *plan, DecodeFault *fault)
{
	if (json_peek(&plan->json) == '{')
		return decode_fault(plan, fault, ERRCODE_INVALID_TEXT_REPRESENTATION,
							"message holds several JSON documents, not one object");
	json_fail(&plan->json, "something follows the object");
	return fault_of_json(plan, fault);
}

static void
skip_byte_order_mark(const char **text, size_t *length)
{
	if (*length >= 3 && memcmp(*text, "\xEF\xBB\xBF", 3) == 0)
	{
		*text += 3;
		*length -= 3;
	}
}

/*
 * a schema registry's clients put a zero byte and four bytes of a schema's number before the data
 */
static bool
has_registry_prefix(const char *text, size_t length)
{
	return length >= 5 && text[0] == '\0';
}

/* finds the fields; DECODED_ROW when the document is a JSON object */
static DecodeOutcome
read_document(DecodePlan *plan, const Record *record, DecodeFault *fault)
{
	const char *text = record->value;
	size_t		length = record->value_length;

	if (has_registry_prefix(text, length))
		return decode_fault(plan, fault, ERRCODE_INVALID_TEXT_REPRESENTATION,
							"message begins with the prefix of a schema registry (schema %u), it is not plain JSON",
							((uint32) (unsigned char) text[1] << 24) | ((uint32) (unsigned char) text[2] << 16) |
							((uint32) (unsigned char) text[3] << 8) | (unsigned char) text[4]);
	skip_byte_order_mark(&text, &length);
	plan->record++;
	if (!json_text_open(&plan->json, plan->indexer, text, length))
		return fault_of_json(plan, fault);
	if (json_peek(&plan->json) != '{')
		return fault_of_beginning(plan, text, length, fault);
	if (!walk_object(plan, &plan->json, plan->root))
		return fault_of_json(plan, fault);
	if (plan->json.at != plan->json.n)
		return fault_of_end(plan, fault);
	return DECODED_ROW;
}

/* ---------------------------------------------------------------- @rest */

static void
append_rest(DecodePlan *plan, JsonText *json, PlanKey *key, StringInfo rest)
{
	JsonValueText name,
				value;
	bool		first = true;

	appendStringInfoChar(rest, '{');
	json->at++;
	while (json_peek(json) != '}')
	{
		PlanKey    *child;
		bool		nested;

		if (json_peek(json) == ',')
			json->at++;
		(void) json_read_key(json, &name);
		child = child_for(key, &name);
		nested = child != NULL && child->n_children > 0 && child->field < 0 &&
			json_peek(json) == '{';
		if (child != NULL && child->field >= 0)
		{
			(void) json_read_value(json, &value);
			continue;
		}
		if (!first)
			appendStringInfoChar(rest, ',');
		first = false;
		appendBinaryStringInfo(rest, name.start - 1, name.end - name.start + 2);
		appendStringInfoChar(rest, ':');
		if (nested)
		{
			append_rest(plan, json, child, rest);
			continue;
		}
		(void) json_read_value(json, &value);
		if (value.kind == JSON_STRING)
			appendBinaryStringInfo(rest, value.start - 1, value.end - value.start + 2);
		else
			appendBinaryStringInfo(rest, value.start, value.end - value.start);
	}
	json->at++;
	appendStringInfoChar(rest, '}');
}

static void
rest_value(DecodePlan *plan, JsonValueText *value)
{
	StringInfoData rest;
	JsonText	json = plan->json;

	initStringInfo(&rest);
	json.at = 0;
	append_rest(plan, &json, plan->root, &rest);
	*value = (JsonValueText) {.kind = JSON_OBJECT, .start = rest.data, .end = rest.data + rest.len};
}

/* ---------------------------------------------------------------- columns */

static DecodeOutcome
whole_value(DecodePlan *plan, PlanColumn *column, const Record *record, bool may_throw,
			Datum *datum, bool *is_null, DecodeFault *fault)
{
	JsonValueText value = {.kind = JSON_OBJECT};

	if (column->input == INPUT_BYTEA)
	{
		*datum = decode_bytes(plan, record->value, record->value_length);
		return DECODED_ROW;
	}
	value.start = plan->json.text + plan->json.tokens[0];
	value.end = plan->json.text + plan->json.tokens[plan->json.n - 1] + 1;
	return decode_value(plan, column, &value, may_throw, datum, is_null, fault);
}

static DecodeOutcome
key_value(DecodePlan *plan, PlanColumn *column, const Record *record, bool may_throw,
		  Datum *datum, bool *is_null, DecodeFault *fault)
{
	*is_null = record->key == NULL;
	if (*is_null)
		return DECODED_ROW;
	if (column->input == INPUT_BYTEA)
	{
		*datum = decode_bytes(plan, record->key, record->key_length);
		return DECODED_ROW;
	}
	if (!pg_verify_mbstr(PG_UTF8, record->key, record->key_length, true))
		return decode_fault(plan, fault, ERRCODE_CHARACTER_NOT_IN_REPERTOIRE,
							"key is not valid UTF-8, column \"%s\" needs type bytea for it", column->name);
	return decode_plain(plan, column, record->key, record->key_length, may_throw, datum, fault);
}

static DecodeOutcome
headers_value(DecodePlan *plan, PlanColumn *column, const Record *record, bool may_throw,
			  Datum *datum, bool *is_null, DecodeFault *fault)
{
	Jsonb	   *headers = record_headers(record);
	char	   *text;

	if (headers == NULL)
		text = "[]";
	else if (column->input == INPUT_JSONB)
	{
		*datum = JsonbPGetDatum(headers);
		return DECODED_ROW;
	}
	else
		text = JsonbToCString(NULL, &headers->root, VARSIZE(headers));
	return decode_value(plan, column,
						&(JsonValueText) {JSON_ARRAY, .start = text, .end = text + strlen(text)},
						may_throw, datum, is_null, fault);
}

static DecodeOutcome
number_of_record(DecodePlan *plan, PlanColumn *column, int64 number, bool may_throw,
				 Datum *datum, DecodeFault *fault)
{
	char		digits[MAXINT8LEN + 1];

	if (column->input == INPUT_INT8)
		*datum = Int64GetDatum(number);
	else if (column->input == INPUT_INT4 && number == (int32) number)
		*datum = Int32GetDatum((int32) number);
	else
		return decode_plain(plan, column, digits, pg_lltoa(number, digits), may_throw, datum,
							fault);
	return DECODED_ROW;
}

static void
default_value(DecodePlan *plan, PlanColumn *column, Datum *datum, bool *is_null)
{
	if (column->default_is_constant)
	{
		*datum = column->default_value;
		*is_null = column->default_is_null;
	}
	else
		*datum = ExecEvalExpr(column->default_state, plan->econtext, is_null);
}

static DecodeOutcome
field_value(DecodePlan *plan, PlanColumn *column, bool may_throw, Datum *datum, bool *is_null,
			DecodeFault *fault)
{
	const FoundField *found = &plan->found[column->field];

	if (likely(found->record == plan->record))
		return decode_value(plan, column, &found->value, may_throw, datum, is_null, fault);
	default_value(plan, column, datum, is_null);
	return DECODED_ROW;
}

static DecodeOutcome
column_value(DecodePlan *plan, PlanColumn *column, const Record *record, bool may_throw,
			 Datum *datum, bool *is_null, DecodeFault *fault)
{
	JsonValueText rest;

	*is_null = false;
	switch (column->from)
	{
		case FROM_FIELD:
			return field_value(plan, column, may_throw, datum, is_null, fault);
		case FROM_TOPIC:
			return decode_plain(plan, column, record->topic, strlen(record->topic), may_throw,
								datum, fault);
		case FROM_PARTITION:
			return number_of_record(plan, column, record->partition, may_throw, datum, fault);
		case FROM_OFFSET:
			return number_of_record(plan, column, record->offset, may_throw, datum, fault);
		case FROM_TIMESTAMP:
			*is_null = record_time(record) == 0;
			return *is_null ? DECODED_ROW :
				decode_time_of_record(plan, column, record_time(record), may_throw, datum, fault);
		case FROM_KEY:
			return key_value(plan, column, record, may_throw, datum, is_null, fault);
		case FROM_HEADERS:
			return headers_value(plan, column, record, may_throw, datum, is_null, fault);
		case FROM_VALUE:
			return whole_value(plan, column, record, may_throw, datum, is_null, fault);
		case FROM_REST:
			rest_value(plan, &rest);
			return decode_value(plan, column, &rest, may_throw, datum, is_null, fault);
		case FROM_DEFAULT:
			default_value(plan, column, datum, is_null);
			return DECODED_ROW;
	}
	pg_unreachable();
}

DecodeOutcome
decode_record(DecodePlan *plan, const Record *record, bool may_throw,
			  Datum *values, bool *nulls, DecodeFault *fault)
{
	DecodeOutcome outcome;

	if (record->value == NULL)
		return DECODED_SKIP;
	outcome = read_document(plan, record, fault);
	if (outcome != DECODED_ROW)
		return outcome;
	if (plan->n_columns < plan->natts)
		memset(nulls, true, plan->natts);	/* dropped and generated ones */
	for (int i = 0; i < plan->n_columns; i++)
	{
		PlanColumn *column = &plan->column[i];

		outcome = column_value(plan, column, record, may_throw, &values[column->index],
							   &nulls[column->index], fault);
		if (unlikely(outcome != DECODED_ROW))
			return outcome;
	}
	return DECODED_ROW;
}
