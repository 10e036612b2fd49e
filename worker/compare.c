/*
 * compare.c
 *		Rows held against the documents that an index has for them.
 *
 * Owns the question, some hundred documents at a time, and what counts as equal.  Changes nothing.
 * Called by inquiry_check_sink.c and sink_recover.c.
 */
#include "postgres.h"

#include <float.h>
#include <jansson.h>
#include <math.h>

#include "utils/memutils.h"

#include "compare.h"
#include "sink_stream.h"

#define ROWS_AT_ONCE 500
#define BYTES_AT_ONCE ((Size) 8 * 1024 * 1024)

struct Compare
{
	Elasticsearch *client;
	const Sink *sink;
	const char *path;
	bool		contents;		/* what is in a document is compared, too */
	CompareEach each;
	void	   *arg;
	MemoryContext context;		/* of the texts below */
	int			n;
	Size		bytes;			/* of the documents */
	ComparedRow rows[ROWS_AT_ONCE];
	StringInfoData document;
};

/* a pipeline changes documents; with op_type create they stay as they were first */
static bool
can_tell_contents(const Sink *sink)
{
	return sink->pipeline == NULL && !sink->create_only;
}

Compare *
compare_open(Elasticsearch *client, const Sink *sink, CompareEach each, void *arg)
{
	Compare    *compare = palloc0(sizeof(Compare));

	compare->client = client;
	compare->sink = sink;
	compare->path = elasticsearch_index_path(client, sink->alias, "/_mget");
	compare->contents = can_tell_contents(sink);
	compare->each = each;
	compare->arg = arg;
	compare->context = AllocSetContextCreate(CurrentMemoryContext, "rows to compare",
											 ALLOCSET_DEFAULT_SIZES);
	initStringInfo(&compare->document);
	return compare;
}

/* ---------------------------------------------------------------- what counts as equal */

/* fields of columns that were there when it was written: the mapping has them still, and allows no others */
static void
forget_gone(json_t *source, const json_t *ours)
{
	const char *field;
	json_t	   *value;
	void	   *next;

	json_object_foreach_safe(source, next, field, value)
	{
		if (json_object_get(ours, field) == NULL)
			json_object_del(source, field);
	}
}

/* a column that came later is NULL in the rows of before, whose documents have no such field: to a search it is the same */
static void
forget_nulls(json_t *document)
{
	const char *field;
	json_t	   *value;
	void	   *next;

	json_object_foreach_safe(document, next, field, value)
	{
		if (json_is_null(value))
			json_object_del(document, field);
	}
}

/* a number of more digits than a double tells apart, or that no double can be */
static bool
beyond_double(const char *number, int length)
{
	return strspn(number, "-0123456789") >= length ? length > DBL_DIG : isinf(strtod(number, NULL));
}

/* JSON in which such numbers are strings: an answer that holds one can be read, and they are compared digit by digit. */
static json_t *
load_exact(const char *text)
{
	StringInfoData exact;
	json_t	   *root;
	bool		quoted = false;

	initStringInfo(&exact);
	for (const char *at = text; *at;)
	{
		int			length = quoted ? 0 : strspn(at, "-+.0123456789eE");

		if (length > 0 && strchr("-0123456789", *at))
		{
			const char *quote = beyond_double(at, length) ? "\"" : "";

			appendStringInfo(&exact, "%s%.*s%s", quote, length, at, quote);
			at += length;
			continue;
		}
		if (*at == '"')
			quoted = !quoted;
		else if (*at == '\\' && at[1] != '\0')
			appendStringInfoCharMacro(&exact, *at++);
		appendStringInfoCharMacro(&exact, *at++);
	}
	root = json_loadb(exact.data, exact.len, JSON_DECODE_INT_AS_REAL, NULL);
	pfree(exact.data);
	return root;
}

/* The text as it was sent, as Elasticsearch keeps it; or, if it was written anew, its meaning. */
static bool
same_document(const char *document, json_t *source)
{
	json_t	   *ours = load_exact(document);
	bool		same;

	forget_gone(source, ours);
	forget_nulls(ours);
	forget_nulls(source);
	same = ours != NULL && json_equal(ours, source);
	json_decref(ours);
	return same;
}

/* a large one is a string, see load_exact */
static uint64
version_of(const json_t *version)
{
	return json_is_string(version) ? strtou64(json_string_value(version), NULL, 10)
		: (uint64) json_number_value(version);
}

static void
judge(Compare *compare, ComparedRow *row, json_t *reply)
{
	json_t	   *source = json_object_get(reply, "_source");

	row->version = version_of(json_object_get(reply, "_version"));
	if (source == NULL)
		row->difference = DOCUMENT_MISSING;
	else if (compare->contents && !same_document(row->document, source))
		row->difference = DOCUMENT_DIFFERENT;
	else
		row->difference = DOCUMENT_SAME;
	compare->each(compare->arg, row);
}

/* ---------------------------------------------------------------- asking */

static char *
question(const Compare *compare)
{
	StringInfoData text;

	initStringInfo(&text);
	for (int i = 0; i < compare->n; i++)
		appendStringInfo(&text, "%s{%s}", i == 0 ? "{\"docs\":[" : ",", compare->rows[i].address);
	appendStringInfoString(&text, "]}");
	return text.data;
}

static char *
ask_index(Compare *compare)
{
	ElasticsearchReply reply;
	json_t	   *root;
	json_t	   *documents;
	char	   *why = NULL;

	elasticsearch_ask(compare->client, "POST", compare->path, question(compare), &reply);
	if (reply.status != 200)
		return elasticsearch_error(&reply, NULL);
	root = load_exact(reply.text);
	documents = json_object_get(root, "docs");
	if (json_array_size(documents) != compare->n)
		why = pstrdup("the answer could not be read");
	for (int i = 0; why == NULL && i < compare->n; i++)
		judge(compare, &compare->rows[i], json_array_get(documents, i));
	json_decref(root);
	return why;
}

/* a data stream tells which ids it has, and no contents */
static char *
ask_stream(Compare *compare)
{
	char	   *ids[ROWS_AT_ONCE];
	bool		found[ROWS_AT_ONCE];
	char	   *why;

	for (int i = 0; i < compare->n; i++)
		ids[i] = document_address_part(compare->rows[i].address, compare->rows[i].length, "_id");
	why = sink_stream_find(compare->client, compare->sink, ids, compare->n, found);
	for (int i = 0; why == NULL && i < compare->n; i++)
	{
		compare->rows[i].difference = found[i] ? DOCUMENT_SAME : DOCUMENT_MISSING;
		compare->each(compare->arg, &compare->rows[i]);
	}
	return why;
}

char *
compare_rest(Compare *compare)
{
	char	   *why = NULL;

	if (compare->n > 0)
		why = compare->sink->data_stream ? ask_stream(compare) : ask_index(compare);
	if (why)
		return why;
	compare->n = 0;
	compare->bytes = 0;
	MemoryContextReset(compare->context);
	return NULL;
}

char *
compare_add(Compare *compare, const DocumentPlan *plan, const ColumnValue *values,
			const char *address, int length)
{
	MemoryContext old = MemoryContextSwitchTo(compare->context);
	char	   *why = NULL;

	resetStringInfo(&compare->document);
	document_append(plan, values, &compare->document);
	compare->rows[compare->n++] = (ComparedRow) {
		.address = pnstrdup(address, length),
		.length = length,
		.document = pnstrdup(compare->document.data, compare->document.len)
	};
	compare->bytes += compare->document.len;
	if (compare->n == ROWS_AT_ONCE || compare->bytes >= BYTES_AT_ONCE)
		why = compare_rest(compare);
	MemoryContextSwitchTo(old);
	return why;
}
