/*
 * source_api.c
 *		create_source, alter_source and drop_source: arguments into a row of clickstream._sources.
 *
 * Owns who may command a source and the order of things: check, ask Kafka, record, wake.  The
 * arguments are read in source_arguments.c, what is checked is in source_check.c and its neighbours.  All of it is in the caller's transaction: a
 * rollback leaves nothing, and workers see it when that commits.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"

#include "caller.h"
#include "connection.h"
#include "launcher.h"
#include "source_api.h"

PG_FUNCTION_INFO_V1(clickstream_create_source);
PG_FUNCTION_INFO_V1(clickstream_create_source_of_topics);
PG_FUNCTION_INFO_V1(clickstream_alter_source);
PG_FUNCTION_INFO_V1(clickstream_alter_source_of_topics);
PG_FUNCTION_INFO_V1(clickstream_drop_source);
PG_FUNCTION_INFO_V1(clickstream_source_of_caller);

/* ---------------------------------------------------------------- who may */

static void
refuse_unknown(const char *name)
{
	CallersNames names = {0};
	ListCell   *cell;

	foreach(cell, catalog_sources())
	{
		Source	   *source = lfirst(cell);

		caller_may_name(&names, source->name, source->owner);
	}
	caller_refuse_unknown("source", name, &names);
}

Source *
source_of_caller(const char *name)
{
	Source	   *source = catalog_source_by_name(name);

	if (source == NULL)
		refuse_unknown(name);
	caller_must_own("source", name, source->owner);
	return source;
}

/* what audit_source begins with */
Datum
clickstream_source_of_caller(PG_FUNCTION_ARGS)
{
	(void) source_of_caller(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	PG_RETURN_DATUM(PG_GETARG_DATUM(0));
}

/* Returns when the batch under way has ended; none begins before this transaction ends. */
Source *
source_lock_of_caller(const char *name)
{
	Source	   *source = source_of_caller(name);

	catalog_lock(CATALOG_SOURCE, source->id, ExclusiveLock);
	source = catalog_source_by_id(source->id);
	if (source == NULL)
		refuse_unknown(name);
	return source;
}

/* ---------------------------------------------------------------- create */

/* 0: not known */
static void
note_idle_workers(const Source *source, int n_partitions)
{
	if (n_partitions == 0 || source->workers <= n_partitions)
		return;
	ereport(NOTICE,
			(errmsg("source \"%s\" has more workers (%d) than there are partitions (%d)",
					source->name, source->workers, n_partitions),
			 errdetail("A partition is read by one worker, so %d of them have nothing to do.", source->workers - n_partitions),
			 errhint("Fewer workers do the same, or more partitions give them work.")));
}

static void
warn_unreachable(const Source *source, const char *reason)
{
	ereport(WARNING,
			(errmsg("Kafka could not be asked; source \"%s\" is recorded all the same", source->name),
			 errdetail("%s.", reason),
			 errhint("Its worker tries again by itself, and start_at counts from its first answer: "
					 "see clickstream.stat_sources.")));
}

/* two at once: the name was free when we looked */
static int32
insert_source(const Source *source)
{
	MemoryContext context = CurrentMemoryContext;
	int32		id = 0;

	PG_TRY();
	{
		id = catalog_source_insert(source);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		if (error->sqlerrcode != ERRCODE_UNIQUE_VIOLATION)
			PG_RE_THROW();
		FlushErrorState();
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("source \"%s\" already exists", source->name),
				 errdetail("Another transaction made it a moment ago."),
				 errhint("Choose another name.")));
	}
	PG_END_TRY();
	return id;
}

/* where to start is decided here, once, for each partition that is there */
static void
save_starts(const Source *source, List *partitions)
{
	List	   *offsets = NIL;
	ListCell   *cell;

	foreach(cell, partitions)
	{
		TopicPartition *partition = lfirst(cell);
		SourceOffset *offset = palloc0(sizeof(SourceOffset));

		offset->topic = partition->topic;
		offset->partition = partition->partition;
		offset->start_offset = partition->start;
		offset->next_offset = partition->start;
		offset->changed = true;
		offsets = lappend(offsets, offset);
	}
	catalog_offsets_save(source->name, offsets);
}

static void
create(FunctionCallInfo fcinfo, bool topics_as_list)
{
	Source		source = {0};
	SourcePosition *position;
	List	   *partitions;
	char	   *unreachable;

	PreventCommandIfReadOnly("create_source");
	source_defaults(&source);
	source_read_create(fcinfo, topics_as_list, &source);
	source_check_name(source.name);
	(void) connection_server(source.server, CONNECTION_KAFKA, GetUserId());
	source_check(&source);
	/* the workers run as the owner of the table, whoever made the source */
	(void) connection_server(source.server, CONNECTION_KAFKA, source.owner);
	position = source_read_start(fcinfo);
	source.start_at = source_position_text(position);

	/* while Kafka is asked, nothing is written yet that others would wait for */
	partitions = source_ask_topic(&source, position, &unreachable);
	if (unreachable != NULL)
		warn_unreachable(&source, unreachable);
	source.id = insert_source(&source);
	save_starts(&source, partitions);
	source_note_target(&source);
	note_idle_workers(&source, list_length(partitions));
	launcher_wake_at_commit();
}

Datum
clickstream_create_source(PG_FUNCTION_ARGS)
{
	create(fcinfo, false);
	PG_RETURN_VOID();
}

Datum
clickstream_create_source_of_topics(PG_FUNCTION_ARGS)
{
	create(fcinfo, true);
	PG_RETURN_VOID();
}

/* ---------------------------------------------------------------- alter and drop */

/* topics and partitions that are not there are refused at the call, as at creation */
static void
check_topics_are_there(const Source *source)
{
	SourcePosition earliest = {POSITION_EARLIEST};
	char	   *unreachable;

	(void) source_ask_topic(source, &earliest, &unreachable);
	if (unreachable != NULL)
		ereport(WARNING,
				(errmsg("Kafka could not be asked; topics and partitions of source \"%s\" are recorded all the same", source->name),
				 errdetail("%s.", unreachable)));
}

/* offsets stay as they are: another server is another way to the same topics, or the caller seeks */
static void
check_server(const Source *source)
{
	(void) connection_server(source->server, CONNECTION_KAFKA, GetUserId());
	(void) connection_server(source->server, CONNECTION_KAFKA, source->owner);
}

static void
alter(FunctionCallInfo fcinfo, bool topics_as_list)
{
	Source	   *source = source_lock_of_caller(source_text_argument(fcinfo, 0, "the name of a source"));
	Source		before = *source;

	source_read_alter(fcinfo, topics_as_list, source);
	source_check(source);
	if (source->server != before.server || source->owner != before.owner)
		check_server(source);
	if (source->topics != before.topics || source->server != before.server ||
		(source->partitions != before.partitions && source->partitions != NULL))
		check_topics_are_there(source);
	catalog_source_update(source);
	source_note_target(source);
	if (source->workers > before.workers)
		note_idle_workers(source, list_length(catalog_offsets(source->name)));
	launcher_wake_at_commit();
}

Datum
clickstream_alter_source(PG_FUNCTION_ARGS)
{
	alter(fcinfo, false);
	PG_RETURN_VOID();
}

Datum
clickstream_alter_source_of_topics(PG_FUNCTION_ARGS)
{
	alter(fcinfo, true);
	PG_RETURN_VOID();
}

Datum
clickstream_drop_source(PG_FUNCTION_ARGS)
{
	Source	   *source = source_lock_of_caller(text_to_cstring(PG_GETARG_TEXT_PP(0)));

	catalog_source_delete(source->id);
	launcher_wake_at_commit();
	PG_RETURN_VOID();
}
