/*
 * sink_compare.c
 *		check_sink: the documents that differ from the table, found and mended by an inquiry's worker.
 *
 * Documents are made and sent in the worker library, which no client's backend loads.  The inquiry's
 * worker has transactions of its own and does not see what the caller's changed: hence that must not
 * have changed anything.
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
#include "sink_api.h"

PG_FUNCTION_INFO_V1(clickstream_check_sink);

static void
refuse_after_changes(void)
{
	if (TransactionIdIsValid(GetTopTransactionIdIfAny()))
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("check_sink cannot follow changes in the same transaction"),
				 errdetail("It works in a transaction of its own, which does not see them."),
				 errhint("Commit first.")));
}

void
sink_must_follow(const Sink *sink)
{
	if (!sink->enabled || strcmp(sink->phase, "following") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("sink \"%s\" does not follow its table now", sink->name),
				 sink->enabled ? errdetail("Its phase is \"%s\".", sink->phase) : errdetail("It is paused."),
				 sink->enabled ? errhint("Wait until its first copy is done, or until it is mended; where it has diverged, clickstream.check_sink(repair => true) mends it, and clickstream.resync_sink builds a new index.") :
				 errhint("Run clickstream.resume_sink.")));
}

/* one that has diverged can be mended: its worker compares index and table itself, then */
static void
must_be_comparable(const Sink *sink, bool repair)
{
	if (!repair || !sink->enabled || strcmp(sink->phase, "diverged") != 0)
		sink_must_follow(sink);
}

Datum
clickstream_check_sink(PG_FUNCTION_ARGS)
{
	Sink	   *sink = sink_of_caller(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	bool		repair = PG_GETARG_BOOL(1);
	char	   *request = psprintf("{\"sink\": %d, \"repair\": %s}", sink->id, repair ? "true" : "false");
	char	   *answer;

	PreventCommandDuringRecovery("check_sink");
	refuse_after_changes();
	must_be_comparable(sink, repair);
	if (inquiry_ask("check_sink", DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(request))),
					connection_options(sink->server, CONNECTION_ELASTICSEARCH, sink->owner), -1,
					&answer) != INQUIRY_ANSWERED)
		ereport(ERROR,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("table and index of sink \"%s\" could not be compared", sink->name),
				 errdetail("%s.", answer),
				 errhint("Look at server \"%s\" and at clickstream.stat_sinks, and try again.", sink->server)));
	inquiry_return_rows(fcinfo, answer,
						"SELECT document_id, difference "
						"FROM pg_catalog.jsonb_to_recordset($1::pg_catalog.jsonb) AS r(document_id text, difference text) "
						"ORDER BY document_id COLLATE pg_catalog.\"C\"");
	return (Datum) 0;
}
