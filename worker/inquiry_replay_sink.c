/*
 * inquiry_replay_sink.c
 *		The inquiry "replay_sink": the dead letters of a sink once more, after their cause was mended.
 *
 * Request: {"sink": 3}, and {"letters": ["17"]} when only these are meant, by the ids of their documents.
 * Answer: how many passed.  What is sent is the row as it is now, or its deletion (sink_mend.c).  Once
 * Elasticsearch has acknowledged that, the letters that passed are deleted and those refused again say
 * why, in one transaction for each portion.  A letter of a later change, which the sink's worker put there
 * meanwhile, stays.  Rows that have no id at all have no document that could be sent: their letters
 * go when no such row is there any more.  Started by the SQL function replay_dead_letters.
 */
#include "postgres.h"

#include <jansson.h>

#include "utils/memutils.h"

#include "copy.h"
#include "inquiry_sink.h"
#include "sink_index.h"
#include "sink_mend.h"
#include "worker.h"

/* ids of letters of rows without an id begin so: see sink_put_row */
#define NO_ID "(null) "

typedef struct Replay
{
	InquirySink inquired;
	Bulk	   *bulk;
	List	   *only;			/* of char *; NIL: all */
	bool		some;			/* only those */
	int64		passed;
} Replay;

static bool
is_refused(Replay *replay, const char *id)
{
	ListCell   *cell;

	foreach(cell, bulk_refusals(replay->bulk))
		if (strcmp(((Refusal *) lfirst(cell))->id, id) == 0)
			return true;
	return false;
}

/* in a transaction in which the sink is locked */
static void
settle_letters(void *arg, MendId *ids, int n)
{
	Replay	   *replay = arg;
	Sink	   *sink = replay->inquired.worker.sink;

	worker_begin(&replay->inquired.slot);
	catalog_lock(CATALOG_SINK, sink->id, ShareLock);
	for (int i = 0; i < n; i++)
		if (!is_refused(replay, ids[i].id))
			replay->passed += catalog_sink_dead_letter_delete(sink->name, ids[i].id,
															  (int64) ids[i].version);
	worker_commit();
	sink_store_refusals(&replay->inquired.worker, replay->bulk);
}

static void
count_row(void *arg, const ColumnValue *values, bool fits)
{
	++*(int *) arg;
}

/* letters of rows that have no id, if there is no such row any more */
static void
settle_without_id(Replay *replay, List *letters)
{
	Sink	   *sink = replay->inquired.worker.sink;
	RelationDescription *relation;
	DocumentPlan *plan;
	const int  *columns;
	int			n;
	int			rows = 0;
	ListCell   *cell;

	if (letters == NIL)
		return;
	worker_begin(&replay->inquired.slot);
	relation = copy_describe(sink->relation);
	plan = document_plan(relation, sink);
	n = document_id_columns(plan, &columns);
	copy_by_id(relation, copy_filter(sink), columns, n, palloc0(sizeof(char *) * n), count_row, &rows);
	foreach(cell, rows == 0 ? letters : NIL)
		replay->passed += catalog_sink_dead_letter_delete(sink->name, lfirst(cell), PG_INT64_MAX);
	worker_commit();
}

static List *
next_letters(Replay *replay, const char *after)
{
	MemoryContext here = CurrentMemoryContext;
	List	   *letters;

	worker_begin(&replay->inquired.slot);
	MemoryContextSwitchTo(here);
	letters = catalog_sink_dead_letters(replay->inquired.worker.sink->name, after,
										replay->some ? replay->only : NIL, replay->some);
	worker_commit();
	MemoryContextSwitchTo(here);
	return letters;
}

static void
replay_portion(Replay *replay, List *letters)
{
	MendId	   *ids = palloc0(sizeof(MendId) * list_length(letters));
	List	   *without = NIL;
	ListCell   *cell;
	int			n = 0;

	foreach(cell, letters)
	{
		char	   *id = lfirst(cell);

		if (strncmp(id, NO_ID, strlen(NO_ID)) == 0)
			without = lappend(without, id);
		else
			ids[n++].id = id;
	}
	sink_mend(&replay->inquired.worker, replay->bulk, ids, n, settle_letters, replay);
	settle_without_id(replay, without);
}

static void
read_request(Replay *replay, const Inquiry *inquiry)
{
	json_t	   *list = json_object_get(inquiry->request, "letters");
	json_t	   *id;
	size_t		i;

	replay->some = list != NULL;
	json_array_foreach(list, i, id)
		replay->only = lappend(replay->only, pstrdup(json_string_value(id)));
}

InquiryResult
inquiry_replay_sink(const Inquiry *inquiry, StringInfo answer)
{
	MemoryContext here = CurrentMemoryContext;
	MemoryContext portion = AllocSetContextCreate(here, "dead letters", ALLOCSET_DEFAULT_SIZES);
	Replay	   *replay = palloc0(sizeof(Replay));
	char	   *after = pstrdup("");
	char	   *why = NULL;
	List	   *letters;

	inquiry_sink_open(&replay->inquired, inquiry);
	if (sink_index_look(replay->inquired.worker.client, replay->inquired.worker.sink, &why) != INDEX_OURS)
	{
		appendStringInfoString(answer, why);
		return INQUIRY_REFUSED;
	}
	replay->bulk = inquiry_sink_bulk(&replay->inquired);
	read_request(replay, inquiry);
	MemoryContextSwitchTo(portion);
	while ((letters = next_letters(replay, after)) != NIL)
	{
		replay_portion(replay, letters);
		after = MemoryContextStrdup(here, llast(letters));
		MemoryContextReset(portion);
		MemoryContextSwitchTo(portion);
	}
	MemoryContextSwitchTo(here);
	appendStringInfo(answer, INT64_FORMAT, replay->passed);
	return INQUIRY_ANSWERED;
}
