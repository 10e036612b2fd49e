/*
 * json_text.c
 *		The grammar of JSON over the tokens of a text.
 *
 * Owns the decision what is valid JSON (RFC 8259, duplicate keys allowed).  Never copies and never
 * allocates.  Called by decode.c.
 *
 * The first stage gives the place of each `{ } [ ] : ,`, of each string's opening quote, and of the
 * first character of each run of other characters.  So between two tokens there is only the rest of
 * the first one and white space, and a string's closing quote is found from behind.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"

#include "json_text.h"

/* levels of objects and arrays; PostgreSQL's own limits come before it */
#define MAX_DEPTH 1024

bool
json_fail(JsonText *json, const char *error)
{
	if (json->error == NULL)
	{
		json->error = error;
		json->error_at = json->at < json->n ? json->tokens[json->at] : json->length;
		json->error_code = ERRCODE_INVALID_TEXT_REPRESENTATION;
	}
	return false;
}

static bool
fail_with(JsonText *json, int code, const char *error)
{
	json->error = error;
	json->error_at = 0;
	json->error_code = code;
	return false;
}

bool
json_text_open(JsonText *json, JsonIndexer *indexer, const char *text, size_t length)
{
	json->text = text;
	json->length = length;
	json->at = 0;
	json->n = 0;
	json->error = NULL;
	switch (json_indexer_run(indexer, text, length, &json->tokens, &json->n))
	{
		case JSON_INDEXED:
			json->backslashes = memchr(text, '\\', length) != NULL;
			return true;
		case JSON_INDEX_EMPTY:
			return fail_with(json, ERRCODE_INVALID_TEXT_REPRESENTATION, "the message is empty");
		case JSON_INDEX_BAD_UTF8:
			return fail_with(json, ERRCODE_CHARACTER_NOT_IN_REPERTOIRE,
							 "the message is not valid UTF-8");
		case JSON_INDEX_CONTROL_CHARACTER:
			return fail_with(json, ERRCODE_INVALID_TEXT_REPRESENTATION,
							 "a string holds a control character that is not escaped");
		case JSON_INDEX_UNCLOSED_STRING:
			return fail_with(json, ERRCODE_INVALID_TEXT_REPRESENTATION, "a string has no end");
		case JSON_INDEX_TOO_LARGE:
			return fail_with(json, ERRCODE_PROGRAM_LIMIT_EXCEEDED, "the message is too large");
		case JSON_INDEX_NO_MEMORY:
			ereport(ERROR,
					(errcode(ERRCODE_OUT_OF_MEMORY),
					 errmsg("out of memory"),
					 errdetail("Failed on a message of %zu bytes.", length)));
		case JSON_INDEX_FAILED:
			break;
	}
	return fail_with(json, ERRCODE_INVALID_TEXT_REPRESENTATION, "the message is not JSON");
}

/* the end of what begins at the next token, white space left out */
static inline const char *
token_end(const JsonText *json)
{
	bool		last = json->at + 1 == json->n;
	const char *end = json->text + (last ? json->length : json->tokens[json->at + 1]);

	while (end[-1] == ' ' || end[-1] == '\n' || end[-1] == '\r' || end[-1] == '\t')
		end--;
	return end;
}

static int
hex_digits(const char *at, const char *end)
{
	int			value = 0;

	if (end - at < 4)
		return -1;
	for (int i = 0; i < 4; i++)
	{
		char		c = at[i];

		if (c >= '0' && c <= '9')
			value = value * 16 + (c - '0');
		else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
			value = value * 16 + ((c | 0x20) - 'a' + 10);
		else
			return -1;
	}
	return value;
}

/* after \u: false for a bad digit or half a pair; *at moves on */
static bool
read_unicode(const char **at, const char *end, unsigned int *code)
{
	int			first = hex_digits(*at, end),
				second;

	if (first < 0 || (first >= 0xDC00 && first <= 0xDFFF))
		return false;
	*at += 4;
	*code = first;
	if (first < 0xD800 || first > 0xDBFF)
		return true;
	if (end - *at < 6 || (*at)[0] != '\\' || (*at)[1] != 'u')
		return false;
	second = hex_digits(*at + 2, end);
	if (second < 0xDC00 || second > 0xDFFF)
		return false;
	*at += 6;
	*code = 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00);
	return true;
}

static bool
check_escapes(JsonText *json, const char *at, const char *end)
{
	unsigned int code;

	while ((at = memchr(at, '\\', end - at)) != NULL)
	{
		char		c = at[1];

		at += 2;
		if (c == 'u')
		{
			if (!read_unicode(&at, end, &code))
				return json_fail(json,
								 "an escape \\u is not four hexadecimal digits, or half of a surrogate pair");
		}
		else if (c == '\0' || strchr("\"\\/bfnrt", c) == NULL)
			return json_fail(json, "a string holds an unknown escape");
	}
	return true;
}

/* a string at the next token; does not move */
static inline bool
take_string(JsonText *json, JsonValueText *value)
{
	value->kind = JSON_STRING;
	value->token = json->at;
	value->start = json->text + json->tokens[json->at] + 1;
	value->end = token_end(json) - 1;
	value->escaped = json->backslashes &&
		memchr(value->start, '\\', value->end - value->start) != NULL;
	return !value->escaped || check_escapes(json, value->start, value->end);
}

static const char *
skip_digits(const char *at, const char *end)
{
	while (at < end && *at >= '0' && *at <= '9')
		at++;
	return at;
}

static bool
is_number(const char *at, const char *end)
{
	const char *digits;

	if (at < end && *at == '-')
		at++;
	digits = at;
	at = skip_digits(at, end);
	if (at == digits || (*digits == '0' && at - digits > 1))
		return false;
	if (at < end && *at == '.')
	{
		digits = ++at;
		at = skip_digits(at, end);
		if (at == digits)
			return false;
	}
	if (at < end && (*at == 'e' || *at == 'E'))
	{
		at++;
		if (at < end && (*at == '+' || *at == '-'))
			at++;
		digits = at;
		at = skip_digits(at, end);
		if (at == digits)
			return false;
	}
	return at == end;
}

static bool
is_word(const JsonValueText *value, const char *word)
{
	size_t		length = strlen(word);

	return value->end - value->start == length && memcmp(value->start, word, length) == 0;
}

static bool
fail_scalar(JsonText *json, const JsonValueText *value)
{
	if (is_word(value, "NaN") || is_word(value, "Infinity") || is_word(value, "-Infinity"))
		return json_fail(json, "NaN and Infinity are not JSON");
	return json_fail(json, json_peek(json) == '\0' ?
					 "it ends too early" : "there is something that is no JSON value");
}

/* a number, true, false or null at the next token; does not move */
static inline bool
take_scalar(JsonText *json, JsonValueText *value)
{
	value->token = json->at;
	value->start = json->text + json->tokens[json->at];
	value->end = token_end(json);
	value->escaped = false;
	switch (*value->start)
	{
		case 't':
			value->kind = JSON_TRUE;
			return is_word(value, "true") || fail_scalar(json, value);
		case 'f':
			value->kind = JSON_FALSE;
			return is_word(value, "false") || fail_scalar(json, value);
		case 'n':
			value->kind = JSON_NULL;
			return is_word(value, "null") || fail_scalar(json, value);
		default:
			value->kind = JSON_NUMBER;
			return is_number(value->start, value->end) || fail_scalar(json, value);
	}
}

bool
json_read_key(JsonText *json, JsonValueText *key)
{
	if (json_peek(json) != '"')
		return json_fail(json, "there is no key where one has to be");
	if (!take_string(json, key))
		return false;
	json->at++;
	if (json_peek(json) != ':')
		return json_fail(json, "there is no colon after a key");
	json->at++;
	return true;
}

/*
 * Goes over an object or array to its closing bracket, without recursion: `open` holds for each
 * level whether it is an object.
 */
static bool
skip_container(JsonText *json)
{
	bool		open[MAX_DEPTH];
	int			depth = 0;
	JsonValueText inner;
	char		c = json_peek(json);

	for (;;)
	{
		/* at a value that begins with c */
		if (c == '{' || c == '[')
		{
			if (depth == MAX_DEPTH)
				return json_fail(json, "it is nested deeper than 1024 levels");
			open[depth++] = c == '{';
			json->at++;
			c = json_peek(json);
			if (c != (open[depth - 1] ? '}' : ']'))
			{
				if (open[depth - 1] && !json_read_key(json, &inner))
					return false;
				c = json_peek(json);
				continue;
			}
		}
		else if (c == '\0' || strchr("}]:,", c) != NULL)
			return json_fail(json, c == '\0' ?
							 "it ends too early" : "there is no value where one has to be");
		else if (!(c == '"' ? take_string(json, &inner) : take_scalar(json, &inner)))
			return false;
		else
		{
			json->at++;
			c = json_peek(json);
		}

		/* after a value, or at the bracket that closes an empty container */
		while (c == (open[depth - 1] ? '}' : ']'))
		{
			json->at++;
			if (--depth == 0)
				return true;
			c = json_peek(json);
		}
		if (c != ',')
			return json_fail(json, c == '\0' ?
							 "it ends too early" : "there is no comma between two values");
		json->at++;
		if (open[depth - 1] && !json_read_key(json, &inner))
			return false;
		c = json_peek(json);
	}
}

bool
json_read_value(JsonText *json, JsonValueText *value)
{
	char		c = json_peek(json);

	switch (c)
	{
		case '"':
			if (!take_string(json, value))
				return false;
			json->at++;
			return true;
		case '{':
		case '[':
			value->kind = c == '{' ? JSON_OBJECT : JSON_ARRAY;
			value->escaped = false;
			value->token = json->at;
			value->start = json->text + json->tokens[json->at];
			if (!skip_container(json))
				return false;
			value->end = json->text + json->tokens[json->at - 1] + 1;
			return true;
		case '\0':
			return json_fail(json, "it ends too early");
		case '}':
		case ']':
		case ':':
		case ',':
			return json_fail(json, "there is no value where one has to be");
		default:
			if (!take_scalar(json, value))
				return false;
			json->at++;
			return true;
	}
}

static char *
put_utf8(char *into, unsigned int code)
{
	unicode_to_utf8(code, (unsigned char *) into);
	return into + pg_utf_mblen((unsigned char *) into);
}

static char
escaped_character(char c)
{
	switch (c)
	{
		case 'b':
			return '\b';
		case 'f':
			return '\f';
		case 'n':
			return '\n';
		case 'r':
			return '\r';
		case 't':
			return '\t';
		default:
			return c;
	}
}

size_t
json_unescape(const JsonValueText *string, char *into, bool *has_zero)
{
	const char *at = string->start;
	char	   *out = into;

	*has_zero = false;
	while (at < string->end)
	{
		const char *backslash = memchr(at, '\\', string->end - at);
		size_t		plain = (backslash ? backslash : string->end) - at;
		unsigned int code;

		memcpy(out, at, plain);
		out += plain;
		if (backslash == NULL)
			break;
		at = backslash + 2;
		if (backslash[1] != 'u')
			*out++ = escaped_character(backslash[1]);
		else if (read_unicode(&at, string->end, &code) && code != 0)
			out = put_utf8(out, code);
		else
			*has_zero = true;
	}
	return out - into;
}
