/*
 * inquiry_main.c
 *		The answering side of an inquiry: a short-lived worker that asks Kafka or Elasticsearch one
 *		question for a backend.
 *
 * Owns the worker's life: takes the question out of the segment, calls the kind's function, sends
 * its answer.  Ends when the backend goes away.  Started by extension/inquiry.c.
 */
#include "postgres.h"

#include <jansson.h>

#include "access/xact.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/parsenodes.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/dsm.h"
#include "storage/shm_mq.h"
#include "storage/shm_toc.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "background.h"
#include "inquiry_kinds.h"
#include "inquiry_segment.h"

extern PGDLLEXPORT void clickstream_inquiry_main(Datum main_arg);

static const struct
{
	const char *name;
	InquiryKind answer;
	bool		in_database;	/* connects to the asking backend's database */
}			kinds[] = {
	{"topic", inquiry_topic, false},
	{"elasticsearch", inquiry_elasticsearch, false},
	{"preview", inquiry_preview, true},
	{"replay", inquiry_replay, true},
	{"check_sink", inquiry_check_sink, true},
	{"replay_sink", inquiry_replay_sink, true},
};

int64
inquiry_number(const Inquiry *inquiry, const char *name)
{
	return json_integer_value(json_object_get(inquiry->request, name));
}

int64 *
inquiry_numbers(const Inquiry *inquiry, const char *name, int *n)
{
	json_t	   *list = json_object_get(inquiry->request, name);
	int64	   *numbers;

	*n = (int) json_array_size(list);
	if (list == NULL)
		return NULL;
	numbers = palloc_extended(sizeof(int64) * Max(*n, 1), MCXT_ALLOC_HUGE);
	for (int i = 0; i < *n; i++)
		numbers[i] = json_integer_value(json_array_get(list, i));
	return numbers;
}

int
inquiry_time_left(const Inquiry *inquiry, int most)
{
	long		left;

	if (ShutdownRequestPending || ProcDiePending)
		return 0;
	if (inquiry->deadline == DT_NOEND)
		return most;
	left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), inquiry->deadline);
	return (int) Min(left, (long) most);
}

/* copies the options out of the segment, and wipes them there */
static List *
take_options(char *text, Size length)
{
	List	   *options = NIL;
	const char *at = text;

	while (at < text + length)
	{
		const char *name = at;
		const char *value = name + strlen(name) + 1;

		options = lappend(options, makeDefElem(pstrdup(name), (Node *) makeString(pstrdup(value)), -1));
		at = value + strlen(value) + 1;
	}
	explicit_bzero(text, length);
	return options;
}

static void
reply_with_error(StringInfo reply, const ErrorData *error)
{
	const char *parts[] = {
		unpack_sql_state(error->sqlerrcode), error->message, error->detail, error->hint
	};

	resetStringInfo(reply);
	appendStringInfoChar(reply, INQUIRY_REPLY_ERROR);
	for (int i = 0; i < lengthof(parts); i++)
	{
		const char *part = parts[i] ? parts[i] : "";

		appendBinaryStringInfo(reply, part, strlen(part) + 1);
	}
}

static void
answer_kind(const InquiryHeader *header, const Inquiry *inquiry, StringInfo reply)
{
	static const char replies[] = {
		[INQUIRY_ANSWERED] = INQUIRY_REPLY_ANSWER,
		[INQUIRY_REFUSED] = INQUIRY_REPLY_REFUSED,
		[INQUIRY_UNREACHABLE] = INQUIRY_REPLY_UNREACHABLE
	};

	for (int i = 0; i < lengthof(kinds); i++)
	{
		if (strcmp(kinds[i].name, header->kind) != 0)
			continue;
		if (kinds[i].in_database)
			BackgroundWorkerInitializeConnectionByOid(header->database, InvalidOid, 0);
		appendStringInfoChar(reply, ' ');
		reply->data[0] = replies[kinds[i].answer(inquiry, reply)];
		return;
	}
	elog(ERROR, "unknown kind of inquiry \"%s\"", header->kind);
}

/* errors end here: they are the asking backend's to report */
static void
answer_or_error(const InquiryHeader *header, const Inquiry *inquiry, StringInfo reply)
{
	MemoryContext context = CurrentMemoryContext;

	PG_TRY();
	{
		answer_kind(header, inquiry, reply);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		if (IsTransactionState())
			AbortCurrentTransaction();
		MemoryContextSwitchTo(context);
		reply_with_error(reply, error);
	}
	PG_END_TRY();
}

void
clickstream_inquiry_main(Datum main_arg)
{
	dsm_segment *segment;
	shm_toc    *toc;
	shm_mq	   *queue;
	shm_mq_handle *answer_queue;
	InquiryHeader header;
	Inquiry		inquiry = {0};
	StringInfoData reply;

	background_handle_signals();
	CurrentResourceOwner = ResourceOwnerCreate(NULL, "clickstream inquiry");
	CurrentMemoryContext = AllocSetContextCreate(TopMemoryContext, "clickstream inquiry",
												 ALLOCSET_DEFAULT_SIZES);

	segment = dsm_attach(DatumGetUInt32(main_arg));
	if (segment == NULL)
		return;					/* nobody waits any more */
	dsm_pin_mapping(segment);
	toc = shm_toc_attach(INQUIRY_MAGIC, dsm_segment_address(segment));
	if (toc == NULL)
		elog(ERROR, "bad magic number in the segment of an inquiry");

	memcpy(&header, shm_toc_lookup(toc, INQUIRY_KEY_HEADER, false), sizeof(header));
	queue = shm_toc_lookup(toc, INQUIRY_KEY_QUEUE, false);
	shm_mq_set_sender(queue, MyProc);
	answer_queue = shm_mq_attach(queue, segment, NULL);

	inquiry.role = header.role;
	inquiry.deadline = header.timeout_ms < 0 ? DT_NOEND :
		TimestampTzPlusMilliseconds(GetCurrentTimestamp(), header.timeout_ms);
	inquiry.options = take_options(shm_toc_lookup(toc, INQUIRY_KEY_OPTIONS, false), header.options_length);
	inquiry.request = json_loads(shm_toc_lookup(toc, INQUIRY_KEY_REQUEST, false), 0, NULL);

	initStringInfo(&reply);
	answer_or_error(&header, &inquiry, &reply);
	appendStringInfoChar(&reply, '\0');
	if (ShutdownRequestPending)
		return;					/* nobody waits any more */
	(void) shm_mq_send(answer_queue, reply.len, reply.data, false, true);
	dsm_detach(segment);
}
