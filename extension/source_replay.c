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
#include "utils/builtins.h"
#include "utils/tuplestore.h"

#include "connection.h"
#include "inquiry.h"
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

static Jsonb *
request_for(const Source *source, int count)
{
	char	   *text = psprintf("{\"source\": %d, \"count\": %d}", source->id, count);

	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text)));
}

/* the answer, or an error */
static char *
ask(const char *kind, const Source *source, int count, List *options, int timeout_ms)
{
	char	   *answer;

	if (inquiry_ask(kind, request_for(source, count), options, timeout_ms, &answer) != INQUIRY_ANSWERED)
		ereport(ERROR,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("source \"%s\" could not be asked", source->name),
				 errdetail("%s.", answer),
				 errhint("Look at server \"%s\", and try again.", source->server)));
	return answer;
}

Datum
clickstream_replay_dead_letters(PG_FUNCTION_ARGS)
{
	Source	   *source = source_of_caller(source_text_argument(fcinfo, 0, "the name of a source"));
	char	   *answer;

	PreventCommandIfReadOnly("replay_dead_letters");
	if (!PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("replay_dead_letters replays all dead letters of a source"),
				 errhint("Leave the condition out.")));
	refuse_after_changes("replay_dead_letters");
	answer = ask("replay", source, 0, NIL, -1);
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
	inquiry_return_rows(fcinfo, ask("preview", source, count,
									connection_options(source->server, CONNECTION_KAFKA, source->owner), PREVIEW_TIMEOUT_MS),
						"SELECT topic, partition, \"offset\", outcome, \"row\", sqlstate, error, "
						"pg_catalog.decode(value, 'hex') "
						"FROM pg_catalog.jsonb_to_recordset($1::pg_catalog.jsonb) AS r(topic text, partition int, "
						"\"offset\" bigint, outcome text, \"row\" jsonb, sqlstate text, error text, value text)");
	return (Datum) 0;
}
