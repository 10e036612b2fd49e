/*
 * sink_mend.c
 *		Documents are made what their rows are now, by their ids.
 *
 * A row that is there is sent again, a row that is not is a deletion.  Both carry as their version a
 * position of the log up to which the snapshot that was read sees every commit (boundary.c), so they never
 * undo a change that follows, and what was on its way before does not undo them.
 *
 * A document must come soon after its snapshot: Elasticsearch forgets the version of a deletion after a
 * minute, and a row that was deleted meanwhile would come back.  So ids are taken by small portions, each
 * with a snapshot of its own.  A deletion may come as late as it will.
 *
 * From most ids the values of the id columns can be told; it is proved by making the id of them again.
 * From others, hashes above all, they cannot: the table is read once, and tells them.  Called by
 * inquiry_replay_sink.c and inquiry_check_sink.c.
 */
#include "postgres.h"

#include <jansson.h>

#include "access/xact.h"
#include "common/hashfn.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "boundary.h"
#include "copy.h"
#include "sink_dates.h"
#include "sink_index.h"
#include "sink_mend.h"
#include "worker.h"

#define IDS_AT_ONCE 200

/* an id whose columns are not known yet, as long as the table is read */
typedef struct Unknown
{
	uint64		hash;			/* of the id */
	int			at;				/* in ids */
} Unknown;

typedef struct Mending
{
	SinkWorker *worker;
	Bulk	   *bulk;
	MendId	   *ids;
	char	 ***texts;			/* of the id columns, for each id; NULL where no row has it */
	int			n;
	MemoryContext context;		/* all of this */
	MemoryContext portion;		/* of one transaction */
	RelationDescription *relation;
	DocumentPlan *plan;
	char	   *filter;			/* which rows of it, NULL: all */
	const int  *columns;		/* of the id */
	int			n_columns;
	HTAB	   *unknown;
	XLogRecPtr	version;
	bool		found;			/* a row of the id that is being read */
	StringInfoData id;
	SinkDates  *dates;			/* NULL without a date pattern */
	StringInfoData index;
	XLogRecPtr	clearing;		/* the version of deletions where documents of an id are */
} Mending;

/* ---------------------------------------------------------------- the columns of an id */

/* as its type writes it; throws when it is not of that type */
static char *
canonical(const ColumnDescription *column, const char *text)
{
	Oid			input;
	Oid			io_parameter;
	Oid			output;
	bool		is_varlena;

	getTypeInputInfo(column->type, &input, &io_parameter);
	getTypeOutputInfo(column->type, &output, &is_varlena);
	return OidOutputFunctionCall(output, OidInputFunctionCall(input, unconstify(char *, text),
															  io_parameter, column->typmod));
}

static char *
text_of_json(json_t *value)
{
	switch (json_typeof(value))
	{
		case JSON_NULL:
			return NULL;
		case JSON_STRING:
			return pstrdup(json_string_value(value));
		case JSON_INTEGER:
			return psprintf(INT64_FORMAT, (int64) json_integer_value(value));
		case JSON_REAL:
			return psprintf("%.17g", json_real_value(value));
		case JSON_TRUE:
			return "true";
		case JSON_FALSE:
			return "false";
		default:
			return "";			/* not proved, then */
	}
}

/* what the columns may have been; false when nothing can be said */
static bool
guess_texts(const Mending *mending, const char *id, char **texts)
{
	json_t	   *list;
	bool		fits;

	if (mending->n_columns == 1)
	{
		texts[0] = pstrdup(id);
		return true;
	}
	list = json_loads(id, 0, NULL);
	fits = json_is_array(list) && json_array_size(list) == mending->n_columns;
	for (int i = 0; fits && i < mending->n_columns; i++)
	{
		texts[i] = text_of_json(json_array_get(list, i));
		/* infinity and NaN, too, are null in an id */
		fits = texts[i] != NULL;
	}
	json_decref(list);
	return fits;
}

static bool
makes_id(Mending *mending, char **texts, const char *id)
{
	ColumnValue *values = palloc0(sizeof(ColumnValue) * Max(mending->relation->n_columns, 1));

	for (int i = 0; i < mending->n_columns; i++)
	{
		ColumnValue *value = &values[mending->columns[i]];

		if (texts[i] == NULL)
			continue;
		texts[i] = canonical(&mending->relation->columns[mending->columns[i]], texts[i]);
		value->text = texts[i];
		value->length = strlen(texts[i]);
	}
	return document_id(mending->plan, values, &mending->id) && strcmp(mending->id.data, id) == 0;
}

/* a text that its type does not take makes no id */
static bool
makes_id_safely(Mending *mending, char **texts, const char *id)
{
	MemoryContext here = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool same = false;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(here);
	PG_TRY();
	{
		same = makes_id(mending, texts, id);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(here);
		if (sqlstate_is_surroundings(geterrcode()))
			PG_RE_THROW();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(here);
	CurrentResourceOwner = owner;
	return same;
}

static uint64
hash_of(const char *id, int length)
{
	return hash_bytes_extended((const unsigned char *) id, length, 0);
}

static void
note_unknown(Mending *mending, int at)
{
	HASHCTL		control = {.keysize = sizeof(uint64), .entrysize = sizeof(Unknown), .hcxt = mending->context};
	const char *id = mending->ids[at].id;
	uint64		hash = hash_of(id, strlen(id));
	Unknown    *entry;

	if (mending->unknown == NULL)
		mending->unknown = hash_create("unknown ids", 256, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	entry = hash_search(mending->unknown, &hash, HASH_ENTER, NULL);
	entry->at = at;
}

static void
look_for_unknown(void *arg, const ColumnValue *values, bool fits)
{
	Mending    *mending = arg;
	MemoryContext old;
	Unknown    *entry;
	uint64		hash;
	char	  **texts;

	if (!document_id(mending->plan, values, &mending->id))
		return;
	hash = hash_of(mending->id.data, mending->id.len);
	entry = hash_search(mending->unknown, &hash, HASH_FIND, NULL);
	if (entry == NULL || strcmp(mending->ids[entry->at].id, mending->id.data) != 0)
		return;
	old = MemoryContextSwitchTo(mending->context);
	texts = palloc0(sizeof(char *) * mending->n_columns);
	for (int i = 0; i < mending->n_columns; i++)
	{
		const ColumnValue *value = &values[mending->columns[i]];

		texts[i] = value->text ? pnstrdup(value->text, value->length) : NULL;
	}
	mending->texts[entry->at] = texts;
	MemoryContextSwitchTo(old);
}

/* ---------------------------------------------------------------- reading */

static void
begin(Mending *mending)
{
	const Sink *sink = mending->worker->sink;

	worker_begin(mending->worker->slot);
	mending->version = boundary_of_log();
	worker_commit();
	worker_begin(mending->worker->slot);
	MemoryContextReset(mending->portion);
	MemoryContextSwitchTo(mending->portion);
	mending->relation = copy_describe(sink->relation);
	mending->plan = document_plan(mending->relation, sink);
	mending->filter = copy_filter(sink);
	mending->n_columns = document_id_columns(mending->plan, &mending->columns);
}

static void
commit(Mending *mending)
{
	worker_commit();
	MemoryContextSwitchTo(mending->context);
}

/* What no row has by the end of this is a deletion, as of the beginning of this. */
static void
find_columns(Mending *mending)
{
	begin(mending);
	for (int i = 0; i < mending->n; i++)
	{
		char	  **texts = MemoryContextAllocZero(mending->context, sizeof(char *) * mending->n_columns);

		MemoryContextSwitchTo(mending->context);
		if (guess_texts(mending, mending->ids[i].id, texts) &&
			makes_id_safely(mending, texts, mending->ids[i].id))
			mending->texts[i] = texts;
		else
			note_unknown(mending, i);
		MemoryContextSwitchTo(mending->portion);
	}
	if (mending->unknown)
		copy_table(mending->relation, mending->filter, look_for_unknown, mending);
	for (int i = 0; i < mending->n; i++)
		if (mending->texts[i] == NULL)
			mending->ids[i].version = mending->version;
	commit(mending);
}

/* ---------------------------------------------------------------- sending */

static void
fail(const char *why)
{
	ereport(ERROR,
			(errcode(ERRCODE_CONNECTION_FAILURE),
			 errmsg("Elasticsearch does not take the documents"),
			 errdetail("%s.", why),
			 errhint("Look at clickstream.stat_sinks, and try again.")));
}

static void
send(Mending *mending)
{
	if (!bulk_is_empty(mending->bulk))
		bulk_send(mending->bulk, InvalidXLogRecPtr);
	if (!bulk_settle(mending->bulk))
		fail("the sink waits for it");
}

/* the row may be the first one of its date */
static void
make_index_of(Mending *mending, const ColumnValue *values)
{
	char	   *why;

	if (mending->dates == NULL || !document_index(mending->plan, values, &mending->index) ||
		sink_dates_has(mending->dates, mending->index.data, mending->index.len))
		return;
	send(mending);
	why = sink_dates_make(mending->dates, mending->plan, mending->index.data);
	if (why)
		fail(why);
}

static void
put_row(void *arg, const ColumnValue *values, bool fits)
{
	Mending    *mending = arg;

	mending->found = true;
	make_index_of(mending, values);
	if (fits)
		sink_put_row(mending->bulk, mending->plan, values, mending->version, &mending->id);
	else
		sink_refuse_large(mending->bulk, mending->plan, values, mending->version, &mending->id);
	if (bulk_is_full(mending->bulk))
		send(mending);
}

/* an id alone does not tell where its document is */
static bool
is_placed(const Sink *sink)
{
	return sink->routing != NULL || strchr(sink->index, '{') != NULL;
}

static void
clear_place(void *arg, const char *address, int length, XLogRecPtr version)
{
	Mending    *mending = arg;

	bulk_delete(mending->bulk, address, length, mending->clearing);
}

/* wherever it is now: the row, if there is one, says where it shall be */
static void
clear_places(Mending *mending, const MendId *id)
{
	char	   *why;

	send(mending);
	mending->clearing = id->version;
	why = sink_index_each_place(mending->worker->client, mending->worker->sink, id->id, clear_place, mending);
	if (why)
		fail(why);
}

static void
mend_one(Mending *mending, int at)
{
	MendId	   *id = &mending->ids[at];

	mending->found = false;
	if (mending->texts[at] != NULL)
		id->version = mending->version;
	if (is_placed(mending->worker->sink) && !mending->worker->sink->create_only)
		clear_places(mending, id);
	if (mending->texts[at] != NULL)
	{
		copy_by_id(mending->relation, mending->filter, mending->columns, mending->n_columns, mending->texts[at],
				   put_row, mending);
	}
	/* with op_type create documents stay when their rows go */
	if (mending->found || is_placed(mending->worker->sink) || mending->worker->sink->create_only)
		return;
	document_address_of((AddressPart) {id->id, strlen(id->id)}, (AddressPart) {NULL}, (AddressPart) {NULL},
						&mending->id);
	bulk_delete(mending->bulk, mending->id.data, mending->id.len, id->version);
}

static void
open_dates(Mending *mending)
{
	const Sink *sink = mending->worker->sink;
	char	   *lost;
	char	   *why;

	if (strchr(sink->index, '{') == NULL)
		return;
	mending->dates = sink_dates_open(mending->worker->client, sink, sink->physical_index, false);
	if ((why = sink_dates_look(mending->dates, &lost)) != NULL)
		fail(why);
}

void
sink_mend(SinkWorker *worker, Bulk *bulk, MendId *ids, int n, Mended mended, void *arg)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext context = AllocSetContextCreate(caller, "documents to mend", ALLOCSET_DEFAULT_SIZES);
	Mending		mending = {worker, bulk, ids, .n = n, .context = context};

	if (n == 0)
		return;
	MemoryContextSwitchTo(context);
	mending.texts = palloc0(sizeof(char **) * n);
	mending.portion = AllocSetContextCreate(context, "portion", ALLOCSET_DEFAULT_SIZES);
	initStringInfo(&mending.id);
	initStringInfo(&mending.index);
	open_dates(&mending);
	find_columns(&mending);
	for (int first = 0; first < n; first += IDS_AT_ONCE)
	{
		int			count = Min(IDS_AT_ONCE, n - first);

		begin(&mending);
		for (int i = 0; i < count; i++)
			mend_one(&mending, first + i);
		send(&mending);
		commit(&mending);
		mended(arg, ids + first, count);
		CHECK_FOR_INTERRUPTS();
	}
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
}
