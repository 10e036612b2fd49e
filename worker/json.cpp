/*
 * json.cpp
 *		simdjson behind a C interface: the only C++ of the extension.
 *
 * Owns simdjson's parser and its memory.  Knows nothing of PostgreSQL, throws nothing.  Called by
 * json_text.c, which goes over the tokens.
 */
#include "json.h"

#include <memory>
#include <new>

#include <simdjson.h>

using namespace simdjson;

struct JsonIndexer
{
	std::unique_ptr<internal::dom_parser_implementation> parser;
};

/* messages are small: room for these at once, for more when one comes */
static const size_t FIRST_CAPACITY = 64 * 1024;

/* json_text.c bounds the depth itself; simdjson only makes room for it */
static const size_t UNUSED_DEPTH = 1;

extern "C" JsonIndexer *
json_indexer_create(void)
{
	JsonIndexer *indexer = new (std::nothrow) JsonIndexer();

	if (indexer == nullptr)
		return nullptr;
	if (get_active_implementation()->create_dom_parser_implementation(FIRST_CAPACITY, UNUSED_DEPTH,
																	  indexer->parser) != SUCCESS)
	{
		delete indexer;
		return nullptr;
	}
	return indexer;
}

extern "C" void
json_indexer_destroy(JsonIndexer *indexer)
{
	delete indexer;
}

static JsonIndexResult
result_of(error_code error)
{
	switch (error)
	{
		case SUCCESS:
			return JSON_INDEXED;
		case EMPTY:
			return JSON_INDEX_EMPTY;
		case UTF8_ERROR:
			return JSON_INDEX_BAD_UTF8;
		case UNESCAPED_CHARS:
			return JSON_INDEX_CONTROL_CHARACTER;
		case UNCLOSED_STRING:
			return JSON_INDEX_UNCLOSED_STRING;
		case CAPACITY:
			return JSON_INDEX_TOO_LARGE;
		case MEMALLOC:
			return JSON_INDEX_NO_MEMORY;
		default:
			return JSON_INDEX_FAILED;
	}
}

extern "C" JsonIndexResult
json_indexer_run(JsonIndexer *indexer, const char *text, size_t length, const uint32_t **tokens,
				 uint32_t *n)
{
	internal::dom_parser_implementation *parser = indexer->parser.get();
	error_code	error;

	if (length > parser->capacity() && parser->set_capacity(length + length / 4) != SUCCESS)
		return length > SIMDJSON_MAXSIZE_BYTES ? JSON_INDEX_TOO_LARGE : JSON_INDEX_NO_MEMORY;
	error = parser->stage1(reinterpret_cast<const uint8_t *>(text), length, stage1_mode::regular);
	*tokens = parser->structural_indexes.get();
	*n = parser->n_structural_indexes;
	return result_of(error);
}
