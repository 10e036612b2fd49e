/*
 * json.h
 *		The first of two stages of reading JSON, by simdjson: where each token of a text begins.
 *
 * That stage looks at 64 bytes at a time; it also refuses bad UTF-8, control characters inside
 * strings and strings without an end.  The second stage, the grammar, is json_text.c.
 */
#ifndef CLICKSTREAM_JSON_H
#define CLICKSTREAM_JSON_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C"
{
#endif

typedef struct JsonIndexer JsonIndexer;

typedef enum JsonIndexResult
{
	JSON_INDEXED,
	JSON_INDEX_EMPTY,			/* nothing but white space */
	JSON_INDEX_BAD_UTF8,
	JSON_INDEX_CONTROL_CHARACTER,	/* inside a string */
	JSON_INDEX_UNCLOSED_STRING,
	JSON_INDEX_TOO_LARGE,
	JSON_INDEX_NO_MEMORY,
	JSON_INDEX_FAILED
} JsonIndexResult;

/* NULL when memory is short */
extern JsonIndexer *json_indexer_create(void);
extern void json_indexer_destroy(JsonIndexer *indexer);

/* *tokens stays valid until the next call; tokens[n] is the text's length */
extern JsonIndexResult json_indexer_run(JsonIndexer *indexer, const char *text, size_t length,
										const uint32_t **tokens, uint32_t *n);

#ifdef __cplusplus
}
#endif

#endif							/* CLICKSTREAM_JSON_H */
