/*
 * source_replay.c
 *		replay_dead_letters and preview_source: decoding that a client asks for.
 *
 * Records are decoded in the worker library, which no client's backend loads; so both go through
 * an inquiry, whose worker has transactions of its own.  It cannot see what the caller's transaction
 * changed, and would wait for ever for what that has locked: hence it must not have changed anything.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "parser/parser.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

#include "connection.h"
#include "inquiry.h"
#include "sink_api.h"
#include "source_api.h"

PG_FUNCTION_INFO_V1(clickstream_replay_dead_letters);
PG_FUNCTION_INFO_V1(clickstream_preview_source);

#define PREVIEW_TIMEOUT_MS 15000
#define MOST_PREVIEWED 10000

static void
refuse_after_changes(const char *function)
{
	if (TransactionIdIsValid(GetTopTransactionIdIfAny()))
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("%s cannot follow changes in the same transaction", function),
				 errdetail("It works in a transaction of its own, which does not see them."),
				 errhint("Commit first.")));
}

/* ---------------------------------------------------------------- which dead letters */

/* where the dead letters of a source or of a sink are */
typedef struct LettersOf
{
	const char *table;
	const char *owner;			/* the column with the name of whose they are */
	const char *key;			/* the column that tells them apart */
} LettersOf;

static const LettersOf of_source = {"dead_letters", "source", "id"};
static const LettersOf of_sink = {"sink_dead_letters", "sink", "document_id"};

static void
refuse_condition(const char *condition)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("\"%s\" is not a condition", condition),
			 errdetail("It is one expression over the columns of clickstream.dead_letters, or of sink_dead_letters for a sink."),
			 errhint("Write such as $$ sqlstate = '23503' AND arrived_at > now() - interval '1 day' $$.")));
}

/* the parser takes an expression here, and what may follow it in a SELECT, which is refused */
static void
require_expression(const char *condition)
{
	List	   *parsed = raw_parser(condition, RAW_PARSE_PLPGSQL_EXPR);
	SelectStmt *select = (SelectStmt *) linitial_node(RawStmt, parsed)->stmt;
	ResTarget  *target;

	if (!IsA(select, SelectStmt) || list_length(select->targetList) != 1)
		refuse_condition(condition);
	target = linitial_node(ResTarget, select->targetList);
	if (target->name != NULL || select->fromClause != NIL || select->whereClause != NULL ||
		select->distinctClause != NIL || select->groupClause != NIL || select->havingClause != NULL ||
		select->windowClause != NIL || select->sortClause != NIL || select->limitCount != NULL ||
		select->limitOffset != NULL || select->lockingClause != NIL || select->op != SETOP_NONE)
		refuse_condition(condition);
}

/* their ids, in order, as a list of JSON; with the caller's rights and search_path */
static char *
letters_for(const LettersOf *kind, const char *name, const char *condition)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(name)};
	MemoryContext caller = CurrentMemoryContext;
	StringInfoData ids;

	require_expression(condition);
	initStringInfo(&ids);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (SPI_execute_with_args(psprintf("SELECT pg_catalog.to_json(%s)::pg_catalog.text FROM clickstream.%s "
									   "WHERE %s OPERATOR(pg_catalog.=) $1 AND (%s\n) ORDER BY %s", kind->key,
									   kind->table, kind->owner, condition, kind->key),
							  1, types, values, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not look for dead letters");
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		char	   *id = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);
		MemoryContext spi = MemoryContextSwitchTo(caller);

		appendStringInfo(&ids, "%s%s", i > 0 ? ", " : "", id);
		MemoryContextSwitchTo(spi);
	}
	SPI_finish();
	return ids.data;
}

/* ---------------------------------------------------------------- asking */

/* the answer, or an error; `more` is the rest of the request */
static char *
ask(const char *kind, const Source *source, const char *more, List *options, int timeout_ms)
{
	char	   *text = psprintf("{\"source\": %d%s}", source->id, more);
	Jsonb	   *request = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text)));
	char	   *answer;

	if (inquiry_ask(kind, request, options, timeout_ms, &answer) != INQUIRY_ANSWERED)
		ereport(ERROR,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("source \"%s\" could not be asked", source->name),
				 errdetail("%s.", answer),
				 errhint("Look at server \"%s\", and try again.", source->server)));
	return answer;
}

/* the rest of a request that asks for some letters alone; empty for all */
static const char *
some_letters(const LettersOf *kind, const char *name, const char *condition)
{
	const char *more = condition ? psprintf(", \"letters\": [%s]", letters_for(kind, name, condition)) : "";

	refuse_after_changes("replay_dead_letters");
	return more;
}

static char *
replay_source(const Source *source, const char *condition)
{
	return ask("replay", source, some_letters(&of_source, source->name, condition), NIL, -1);
}

static char *
replay_sink(const Sink *sink, const char *condition)
{
	char	   *request;
	char	   *answer;

	sink_must_follow(sink);
	request = psprintf("{\"sink\": %d%s}", sink->id, some_letters(&of_sink, sink->name, condition));
	if (inquiry_ask("replay_sink", DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(request))),
					connection_options(sink->server, CONNECTION_ELASTICSEARCH, sink->owner), -1,
					&answer) != INQUIRY_ANSWERED)
		ereport(ERROR,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("the dead letters of sink \"%s\" could not be sent", sink->name),
				 errdetail("%s.", answer),
				 errhint("Look at server \"%s\" and at clickstream.stat_sinks, and try again.", sink->server)));
	return answer;
}

/* without a kind the source is meant, if there is one of that name */
static bool
is_sink_meant(const char *name, const char *kind)
{
	if (kind == NULL)
		return catalog_source_by_name(name) == NULL && catalog_sink_by_name(name) != NULL;
	if (strcmp(kind, "sink") != 0 && strcmp(kind, "source") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"%s\" has no dead letters", kind),
				 errhint("Give kind => 'source' or kind => 'sink'.")));
	return strcmp(kind, "sink") == 0;
}

Datum
clickstream_replay_dead_letters(PG_FUNCTION_ARGS)
{
	char	   *name = source_text_argument(fcinfo, 0, "the name of a source or sink");
	char	   *condition = PG_ARGISNULL(1) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(1));
	char	   *kind = PG_ARGISNULL(2) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(2));
	bool		of_a_sink = is_sink_meant(name, kind);
	Source	   *source = of_a_sink ? NULL : source_of_caller(name);
	Sink	   *sink = of_a_sink ? sink_of_caller(name) : NULL;
	char	   *answer;

	PreventCommandIfReadOnly("replay_dead_letters");
	refuse_after_changes("replay_dead_letters");
	answer = sink ? replay_sink(sink, condition) : replay_source(source, condition);
	PG_RETURN_DATUM(DirectFunctionCall1(int8in, CStringGetDatum(answer)));
}

Datum
clickstream_preview_source(PG_FUNCTION_ARGS)
{
	Source	   *source = source_of_caller(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	int			count = PG_GETARG_INT32(1);

	if (count < 1 || count > MOST_PREVIEWED)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("count must be from 1 to %d, not %d", MOST_PREVIEWED, count),
				 errhint("Give how many records to look at, such as 10.")));
	PreventCommandDuringRecovery("preview_source");
	refuse_after_changes("preview_source");
	inquiry_return_rows(fcinfo, ask("preview", source, psprintf(", \"count\": %d", count),
									connection_options(source->server, CONNECTION_KAFKA, source->owner), PREVIEW_TIMEOUT_MS),
						"SELECT topic, partition, \"offset\", outcome, \"row\", sqlstate, error, "
						"pg_catalog.decode(value, 'hex') "
						"FROM pg_catalog.jsonb_to_recordset($1::pg_catalog.jsonb) AS r(topic text, partition int, "
						"\"offset\" bigint, outcome text, \"row\" jsonb, sqlstate text, error text, value text)");
	return (Datum) 0;
}
