/*
 * json_text.h
 *		The second stage of reading JSON: the grammar, over the tokens that json.cpp found.
 *
 * Nothing is copied: a value is where it stands in the text.  Every byte that is passed has been
 * checked, also in what the caller skips; so whoever reads to the end has read valid JSON.
 */
#ifndef CLICKSTREAM_JSON_TEXT_H
#define CLICKSTREAM_JSON_TEXT_H

#include "postgres.h"

#include "json.h"

typedef enum JsonKind
{
	JSON_STRING,
	JSON_NUMBER,
	JSON_TRUE,
	JSON_FALSE,
	JSON_NULL,
	JSON_OBJECT,
	JSON_ARRAY
} JsonKind;

/* a value in the text: a string without its quotes, anything else as it is written */
typedef struct JsonValueText
{
	JsonKind	kind;
	bool		escaped;		/* a string that has a backslash */
	uint32		token;			/* its first */
	const char *start;
	const char *end;
} JsonValueText;

typedef struct JsonText
{
	const char *text;
	size_t		length;
	const uint32_t *tokens;
	uint32		n;
	uint32		at;				/* the token that is read next */
	bool		backslashes;	/* whether there is any in the text */
	const char *error;			/* why reading failed; for errdetail-like use, without full stop */
	size_t		error_at;
	int			error_code;		/* an SQLSTATE */
} JsonText;

/* False when the text cannot be JSON.  Valid until the indexer is used again. */
extern bool json_text_open(JsonText *json, JsonIndexer *indexer, const char *text, size_t length);

/* the character that begins the next token, 0 at the end */
static inline char
json_peek(const JsonText *json)
{
	return json->at < json->n ? json->text[json->tokens[json->at]] : '\0';
}

/* reads over a whole value, whatever it holds */
extern bool json_read_value(JsonText *json, JsonValueText *value);

/* reads a key and the colon after it */
extern bool json_read_key(JsonText *json, JsonValueText *key);

/* keeps the first reason; returns false */
extern bool json_fail(JsonText *json, const char *error);

/*
 * Writes what a string stands for; there must be room for as many bytes as it has in the text.
 * Returns its length; *has_zero tells whether \u0000 is in it (left out then).
 */
extern size_t json_unescape(const JsonValueText *string, char *into, bool *has_zero);

#endif							/* CLICKSTREAM_JSON_TEXT_H */
