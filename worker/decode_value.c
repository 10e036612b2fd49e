/*
 * decode_value.c
 *		A value of the document becomes a Datum of its column's type.
 *
 * Owns the rules: what is common is read by hand, without a copy where possible and without an
 * error thrown; whatever the hand is not sure of goes to the type's own input function, which has
 * the last word.  Objects and arrays for types that are not text or JSON go element by element, see
 * decode_nested.c.  Called by decode.c.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "decode_plan.h"

/* a value shown in a message is cut here */
#define SHOWN_LENGTH 60

/* ---------------------------------------------------------------- memory and faults */

void *
decode_alloc(DecodePlan *plan, size_t size)
{
	char	   *at;

	size = MAXALIGN(size);
	if (unlikely(size > plan->arena_size - plan->arena_used))
		return MemoryContextAllocHuge(plan->overflow, size);
	at = plan->arena + plan->arena_used;
	plan->arena_used += size;
	return at;
}

DecodeOutcome
decode_fault(DecodePlan *plan, DecodeFault *fault, int sqlstate, const char *format,...)
{
	MemoryContext outer = MemoryContextSwitchTo(plan->faults);
	StringInfoData text;
	int			missing;

	initStringInfo(&text);
	do
	{
		va_list		arguments;

		va_start(arguments, format);
		missing = appendStringInfoVA(&text, format, arguments);
		va_end(arguments);
		if (missing > 0)
			enlargeStringInfo(&text, missing);
	} while (missing > 0);
	MemoryContextSwitchTo(outer);
	fault->sqlstate = sqlstate;
	fault->message = text.data;
	return DECODED_DEAD_LETTER;
}

static int
shown(const char *text, size_t length)
{
	return length <= SHOWN_LENGTH ? (int) length :
		pg_encoding_mbcliplen(PG_UTF8, text, length, SHOWN_LENGTH);
}

/* ---------------------------------------------------------------- strings */

Datum
decode_bytes(DecodePlan *plan, const char *bytes, size_t length)
{
	text	   *result = decode_alloc(plan, VARHDRSZ + length);

	SET_VARSIZE(result, VARHDRSZ + length);
	memcpy(VARDATA(result), bytes, length);
	return PointerGetDatum(result);
}

static DecodeOutcome
zero_fault(DecodePlan *plan, PlanColumn *column, DecodeFault *fault)
{
	return decode_fault(plan, fault, ERRCODE_UNTRANSLATABLE_CHARACTER,
						"\\u0000 cannot be in a text, and column \"%s\" would hold one", column->name);
}

static DecodeOutcome
escaped_text(DecodePlan *plan, PlanColumn *column, const JsonValueText *value, Datum *datum,
			 DecodeFault *fault)
{
	text	   *result = decode_alloc(plan, VARHDRSZ + (value->end - value->start));
	bool		has_zero;
	size_t		length = json_unescape(value, VARDATA(result), &has_zero);

	if (has_zero)
		return zero_fault(plan, column, fault);
	SET_VARSIZE(result, VARHDRSZ + length);
	*datum = PointerGetDatum(result);
	return DECODED_ROW;
}

/* the content of a scalar: of a string unescaped, of others as written */
static bool
scalar_content(DecodePlan *plan, const JsonValueText *value, const char **text, size_t *length)
{
	bool		has_zero;
	char	   *plain;

	if (!value->escaped)
	{
		*text = value->start;
		*length = value->end - value->start;
		return true;
	}
	plain = decode_alloc(plan, value->end - value->start);
	*length = json_unescape(value, plain, &has_zero);
	*text = plain;
	return !has_zero;
}

/* ---------------------------------------------------------------- numbers and words, by hand */

static bool
read_integer(const char *at, size_t length, int64 *result)
{
	const char *end = at + length;
	bool		negative = length > 0 && *at == '-';
	int64		number = 0;

	at += negative;
	if (at == end || end - at > 18)
		return false;
	for (; at < end; at++)
	{
		if (*at < '0' || *at > '9')
			return false;
		number = number * 10 + (*at - '0');
	}
	*result = negative ? -number : number;
	return true;
}

/* at most 15 digits and powers of ten that a double holds exactly: one rounding, as strtod */
static bool
read_double(const char *at, size_t length, double *result)
{
	static const double powers[] = {1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11,
									1e12, 1e13, 1e14, 1e15};
	const char *end = at + length;
	bool		negative = length > 0 && *at == '-';
	int64		digits = 0;
	int			n = 0,
				fraction = 0;
	bool		after_point = false;

	for (at += negative; at < end; at++)
	{
		if (*at == '.' && !after_point && n > 0)
		{
			after_point = true;
			continue;
		}
		if (*at < '0' || *at > '9' || ++n > 15)
			return false;
		digits = digits * 10 + (*at - '0');
		fraction += after_point;
	}
	if (n == 0 || (after_point && fraction == 0))
		return false;
	*result = (negative ? -1.0 : 1.0) * ((double) digits / powers[fraction]);
	return true;
}

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* 8-4-4-4-12 digits */
static bool
read_uuid(DecodePlan *plan, const char *at, size_t length, Datum *datum)
{
	pg_uuid_t  *uuid;

	if (length != 36 || at[8] != '-' || at[13] != '-' || at[18] != '-' || at[23] != '-')
		return false;
	uuid = decode_alloc(plan, sizeof(pg_uuid_t));
	for (int i = 0; i < UUID_LEN; i++)
	{
		int			high,
					low;

		if (*at == '-')
			at++;
		high = hex_digit(*at++);
		low = hex_digit(*at++);
		if (high < 0 || low < 0)
			return false;
		uuid->data[i] = (unsigned char) (high << 4 | low);
	}
	*datum = UUIDPGetDatum(uuid);
	return true;
}

/* false: not sure, the input function knows */
static bool
read_by_hand(DecodePlan *plan, ColumnInput input, const char *text, size_t length, Datum *datum)
{
	int64		integer;
	double		number;
	bool		truth;

	switch (input)
	{
		case INPUT_INT2:
			if (!read_integer(text, length, &integer) || integer != (int16) integer)
				return false;
			*datum = Int16GetDatum((int16) integer);
			return true;
		case INPUT_INT4:
			if (!read_integer(text, length, &integer) || integer != (int32) integer)
				return false;
			*datum = Int32GetDatum((int32) integer);
			return true;
		case INPUT_INT8:
			if (!read_integer(text, length, &integer))
				return false;
			*datum = Int64GetDatum(integer);
			return true;
		case INPUT_FLOAT8:
			if (!read_double(text, length, &number))
				return false;
			*datum = Float8GetDatum(number);
			return true;
		case INPUT_BOOL:
			if (!parse_bool_with_len(text, length, &truth))
				return false;
			*datum = BoolGetDatum(truth);
			return true;
		case INPUT_TIMESTAMPTZ:
		case INPUT_TIMESTAMP:
		case INPUT_DATE:
			return decode_iso_time(text, length, input, datum);
		case INPUT_UUID:
			return read_uuid(plan, text, length, datum);
		default:
			return false;
	}
}

/* ---------------------------------------------------------------- times */

static DecodeOutcome
refuse_time(DecodePlan *plan, PlanColumn *column, const char *text, size_t length,
			const char *reason, DecodeFault *fault)
{
	return decode_fault(plan, fault, ERRCODE_INVALID_DATETIME_FORMAT,
						"invalid time \"%.*s\" for column \"%s\": %s",
						shown(text, length), text, column->name, reason);
}

DecodeOutcome
decode_time_of_record(DecodePlan *plan, PlanColumn *column, TimestampTz time, bool may_throw,
					  Datum *datum, DecodeFault *fault)
{
	int64		days = time / USECS_PER_DAY - (time % USECS_PER_DAY < 0);
	char	   *text;

	switch (column->input)
	{
		case INPUT_TIMESTAMPTZ:
		case INPUT_TIMESTAMP:
			*datum = TimestampTzGetDatum(time);
			return DECODED_ROW;
		case INPUT_DATE:
			*datum = DateADTGetDatum((DateADT) days);
			return DECODED_ROW;
		default:
			text = DatumGetCString(DirectFunctionCall1(timestamptz_out, TimestampTzGetDatum(time)));
			return decode_plain(plan, column, text, strlen(text), may_throw, datum, fault);
	}
}

static DecodeOutcome
epoch_value(DecodePlan *plan, PlanColumn *column, const char *text, size_t length, bool may_throw,
			Datum *datum, DecodeFault *fault)
{
	TimestampTz time;

	if (!decode_epoch(text, length, column->epoch, &time))
		return refuse_time(plan, column, text, length,
						   "not a time since 1970 in the declared unit, or out of range", fault);
	return decode_time_of_record(plan, column, time, may_throw, datum, fault);
}

/* ---------------------------------------------------------------- anything */

Datum
decode_call_input(DecodePlan *plan, PlanColumn *column, const char *text, size_t length)
{
	char	   *terminated = decode_alloc(plan, length + 1);
	Datum		value;

	memcpy(terminated, text, length);
	terminated[length] = '\0';
	plan->reading = column;
	value = InputFunctionCall(&column->in_function, terminated, column->in_parameter, column->typmod);
	plan->reading = NULL;
	return value;
}

/* a value given as text: of a scalar, a key, a topic's name */
DecodeOutcome
decode_plain(DecodePlan *plan, PlanColumn *column, const char *text, size_t length, bool may_throw,
			 Datum *datum, DecodeFault *fault)
{
	const char *refused;

	if (column->input == INPUT_TEXT && (column->text_limit < 0 || length <= column->text_limit))
	{
		*datum = decode_bytes(plan, text, length);
		return DECODED_ROW;
	}
	if (read_by_hand(plan, column->input, text, length, datum))
		return DECODED_ROW;
	if (memchr(text, '\0', length) != NULL)
		return zero_fault(plan, column, fault);
	if (column->is_time && (refused = decode_refused_time(text, length)) != NULL)
		return refuse_time(plan, column, text, length, refused, fault);
	if (column->has_times && (refused = decode_refused_times(text, length)) != NULL)
		return refuse_time(plan, column, text, length, refused, fault);
	if (!may_throw)
		return DECODED_LATER;
	*datum = decode_call_input(plan, column, text, length);
	return DECODED_ROW;
}

/* a value as JSON itself, for a column of json or jsonb */
static DecodeOutcome
json_value(DecodePlan *plan, PlanColumn *column, const JsonValueText *value, bool may_throw,
		   Datum *datum)
{
	int			quote = value->kind == JSON_STRING ? 1 : 0;
	const char *start = value->start - quote;
	size_t		length = value->end + quote - start;

	if (column->input == INPUT_JSON)
		*datum = decode_bytes(plan, start, length);
	else if (!may_throw)
		return DECODED_LATER;
	else
		*datum = decode_call_input(plan, column, start, length);
	return DECODED_ROW;
}

/* an object or array for an array, a composite type, a domain over one */
static DecodeOutcome
nested_value(DecodePlan *plan, PlanColumn *column, const JsonValueText *value, bool may_throw,
			 Datum *datum, bool *is_null, DecodeFault *fault)
{
	const char *refused;

	if (value->kind == JSON_OBJECT ? !column->takes_object : !column->takes_array)
		return decode_fault(plan, fault, ERRCODE_INVALID_TEXT_REPRESENTATION,
							"column \"%s\" cannot take a JSON %s", column->name,
							value->kind == JSON_OBJECT ? "object" : "array");
	if (column->has_times &&
		(refused = decode_refused_times(value->start, value->end - value->start)) != NULL)
		return refuse_time(plan, column, value->start, value->end - value->start, refused, fault);
	if (!may_throw)
		return DECODED_LATER;
	plan->reading = column;
	*datum = decode_nested(plan, column, value, is_null);
	plan->reading = NULL;
	return DECODED_ROW;
}

DecodeOutcome
decode_value(DecodePlan *plan, PlanColumn *column, const JsonValueText *value, bool may_throw,
			 Datum *datum, bool *is_null, DecodeFault *fault)
{
	const char *text;
	size_t		length;

	*is_null = value->kind == JSON_NULL;
	if (*is_null)
	{
		*datum = (Datum) 0;
		return DECODED_ROW;
	}
	if (column->takes_json)
		return json_value(plan, column, value, may_throw, datum);
	if ((value->kind == JSON_OBJECT || value->kind == JSON_ARRAY) && !column->takes_any_text)
		return nested_value(plan, column, value, may_throw, datum, is_null, fault);
	if (column->input == INPUT_TEXT && value->escaped && column->text_limit < 0)
		return escaped_text(plan, column, value, datum, fault);
	if (!scalar_content(plan, value, &text, &length))
		return zero_fault(plan, column, fault);
	if (column->is_time && (value->kind == JSON_TRUE || value->kind == JSON_FALSE))
		return refuse_time(plan, column, text, length, "it is a boolean", fault);
	if (column->epoch != 0)
		return epoch_value(plan, column, text, length, may_throw, datum, fault);
	return decode_plain(plan, column, text, length, may_throw, datum, fault);
}
