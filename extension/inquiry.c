/*
 * inquiry.c
 *		The asking side of an inquiry: starts the worker, hands it the question, takes its answer.
 *
 * Owns the segment and the worker for the length of one call.  However the call ends (answer,
 * timeout, cancel, termination of the backend), detaching from the segment also ends the worker.
 * Must never put options into a message: they hold secrets.  Called by the SQL functions.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "storage/dsm.h"
#include "storage/latch.h"
#include "storage/shm_mq.h"
#include "storage/shm_toc.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "inquiry.h"
#include "inquiry_segment.h"

/* the worker says itself when its time is up; we wait this much longer, for its start and its end */
#define GRACE_MS 2000

typedef struct Asking
{
	dsm_segment *segment;
	shm_mq_handle *queue;
	BackgroundWorkerHandle *worker;
} Asking;

static char *
options_text(List *options, Size *length)
{
	StringInfoData text;
	ListCell   *cell;

	initStringInfo(&text);
	foreach(cell, options)
	{
		DefElem    *option = lfirst_node(DefElem, cell);
		char	   *value = strVal(option->arg);

		appendBinaryStringInfo(&text, option->defname, strlen(option->defname) + 1);
		appendBinaryStringInfo(&text, value, strlen(value) + 1);
	}
	*length = text.len;
	return text.data;
}

/* makes the segment and writes the question into it; NULL when the server has no segment left */
static dsm_segment *
make_segment(const InquiryHeader *header, const char *request, const char *options, shm_mq **queue)
{
	shm_toc_estimator estimator;
	Size		size;
	dsm_segment *segment;
	shm_toc    *toc;
	void	   *place;

	shm_toc_initialize_estimator(&estimator);
	shm_toc_estimate_chunk(&estimator, sizeof(InquiryHeader));
	shm_toc_estimate_chunk(&estimator, strlen(request) + 1);
	shm_toc_estimate_chunk(&estimator, header->options_length + 1);
	shm_toc_estimate_chunk(&estimator, INQUIRY_QUEUE_SIZE);
	shm_toc_estimate_keys(&estimator, INQUIRY_N_KEYS);
	size = shm_toc_estimate(&estimator);

	segment = dsm_create(size, DSM_CREATE_NULL_IF_MAXSEGMENTS);
	if (segment == NULL)
		return NULL;
	toc = shm_toc_create(INQUIRY_MAGIC, dsm_segment_address(segment), size);

	place = shm_toc_allocate(toc, sizeof(InquiryHeader));
	memcpy(place, header, sizeof(InquiryHeader));
	shm_toc_insert(toc, INQUIRY_KEY_HEADER, place);

	place = shm_toc_allocate(toc, strlen(request) + 1);
	strcpy(place, request);
	shm_toc_insert(toc, INQUIRY_KEY_REQUEST, place);

	place = shm_toc_allocate(toc, header->options_length + 1);
	memcpy(place, options, header->options_length);
	shm_toc_insert(toc, INQUIRY_KEY_OPTIONS, place);

	place = shm_toc_allocate(toc, INQUIRY_QUEUE_SIZE);
	*queue = shm_mq_create(place, INQUIRY_QUEUE_SIZE);
	shm_mq_set_receiver(*queue, MyProc);
	shm_toc_insert(toc, INQUIRY_KEY_QUEUE, place);
	return segment;
}

static bool
start_worker(dsm_segment *segment, BackgroundWorkerHandle **handle)
{
	BackgroundWorker worker = {0};
	MemoryContext outer;
	bool		started;

	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker.bgw_library_name, "clickstream_worker", sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, "clickstream_inquiry_main", sizeof(worker.bgw_function_name));
	strlcpy(worker.bgw_name, "clickstream inquiry", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "clickstream inquiry", BGW_MAXLEN);
	worker.bgw_main_arg = UInt32GetDatum(dsm_segment_handle(segment));
	worker.bgw_notify_pid = MyProcPid;

	/* the handle has to outlive everything that is freed before the segment is detached */
	outer = MemoryContextSwitchTo(TopTransactionContext);
	started = RegisterDynamicBackgroundWorker(&worker, handle);
	MemoryContextSwitchTo(outer);
	return started;
}

static void
end_worker(dsm_segment *segment, Datum handle)
{
	TerminateBackgroundWorker((BackgroundWorkerHandle *) DatumGetPointer(handle));
}

/* everything that is ours to make; a reason when it cannot be made */
static const char *
asking_begin(Asking *asking, const InquiryHeader *header, const char *request, const char *options)
{
	shm_mq	   *queue;

	asking->segment = make_segment(header, request, options, &queue);
	if (asking->segment == NULL)
		return "the server has no dynamic shared memory segment left for the worker that asks";
	if (!start_worker(asking->segment, &asking->worker))
	{
		dsm_detach(asking->segment);
		return "no background worker is free to ask; raise max_worker_processes";
	}
	on_dsm_detach(asking->segment, end_worker, PointerGetDatum(asking->worker));
	asking->queue = shm_mq_attach(queue, asking->segment, asking->worker);
	return NULL;
}

/* waits for the answer; NULL with *why set when none comes */
static char *
asking_wait(Asking *asking, int timeout_ms, Size *length, const char **why)
{
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), (int64) timeout_ms + GRACE_MS);

	for (;;)
	{
		void	   *data;
		shm_mq_result result = shm_mq_receive(asking->queue, length, &data, true);
		long		remaining;

		if (result == SHM_MQ_SUCCESS)
			return data;
		if (result == SHM_MQ_DETACHED)
		{
			*why = "the worker that asks ended without an answer; see the server's log";
			return NULL;
		}
		remaining = timeout_ms < 0 ? 10000 : TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline);
		if (remaining <= 0)
		{
			*why = "no answer came in time";
			return NULL;
		}
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, remaining,
						 compat_wait_event("ClickstreamInquiry"));
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/* the worker met an error of PostgreSQL's own: it becomes the caller's */
static void
rethrow(const char *text)
{
	const char *sqlstate = text;
	const char *message = sqlstate + strlen(sqlstate) + 1;
	const char *detail = message + strlen(message) + 1;
	const char *hint = detail + strlen(detail) + 1;

	ereport(ERROR,
			(errcode(MAKE_SQLSTATE(sqlstate[0], sqlstate[1], sqlstate[2], sqlstate[3], sqlstate[4])),
			 errmsg_internal("%s", message),
			 *detail ? errdetail_internal("%s", detail) : 0,
			 *hint ? errhint("%s", hint) : 0));
}

static InquiryResult
take_reply(const char *reply, char **answer)
{
	if (reply[0] == INQUIRY_REPLY_ERROR)
		rethrow(reply + 1);
	*answer = pstrdup(reply + 1);
	switch (reply[0])
	{
		case INQUIRY_REPLY_ANSWER:
			return INQUIRY_ANSWERED;
		case INQUIRY_REPLY_REFUSED:
			return INQUIRY_REFUSED;
		default:
			return INQUIRY_UNREACHABLE;
	}
}

InquiryResult
inquiry_ask(const char *kind, Jsonb *request, List *options, int timeout_ms, char **answer)
{
	InquiryHeader header = {0};
	Asking		asking = {0};
	InquiryResult result;
	const char *why;
	char	   *option_text;
	char	   *reply = NULL;
	Size		length;

	strlcpy(header.kind, kind, sizeof(header.kind));
	header.timeout_ms = timeout_ms;
	header.database = MyDatabaseId;
	header.role = GetUserId();
	option_text = options_text(options, &header.options_length);

	why = asking_begin(&asking, &header, JsonbToCString(NULL, &request->root, VARSIZE(request)), option_text);
	explicit_bzero(option_text, header.options_length);
	if (why == NULL)
		reply = asking_wait(&asking, timeout_ms, &length, &why);
	if (reply != NULL)
		result = take_reply(reply, answer);
	else
	{
		*answer = pstrdup(why);
		result = INQUIRY_UNREACHABLE;
	}
	if (asking.queue != NULL)
		dsm_detach(asking.segment);
	return result;
}

void
inquiry_return_rows(FunctionCallInfo fcinfo, const char *answer, const char *query)
{
	ReturnSetInfo *result;
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(answer)};

	InitMaterializedSRF(fcinfo, 0);
	result = (ReturnSetInfo *) fcinfo->resultinfo;
	SPI_connect();
	if (SPI_execute_with_args(query, 1, types, values, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read an answer as rows");
	for (uint64 i = 0; i < SPI_processed; i++)
		tuplestore_puttuple(result->setResult, SPI_tuptable->vals[i]);
	SPI_finish();
}
