/*
 * source_control.c
 *		pause_source, resume_source and seek_source: each is done when it returns.
 *
 * All take the source's lock first, so that the batch under way has ended and none begins before
 * the caller's transaction does.  A worker reads the source and its offsets again after it took
 * its own lock, so there is nothing to tell it but to look.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "launcher.h"
#include "source_api.h"

PG_FUNCTION_INFO_V1(clickstream_pause_source);
PG_FUNCTION_INFO_V1(clickstream_resume_source);
PG_FUNCTION_INFO_V1(clickstream_seek_source);

static void
set_enabled(const char *name, bool enabled)
{
	Source	   *source = source_lock_of_caller(name);

	source->enabled = enabled;
	source->paused_because = NULL;
	if (enabled)
	{
		/* a restored or copied database becomes the one that reads */
		source->system_identifier = GetSystemIdentifier();
		source->database = MyDatabaseId;
	}
	catalog_source_update(source);
	launcher_wake_at_commit();
}

Datum
clickstream_pause_source(PG_FUNCTION_ARGS)
{
	set_enabled(text_to_cstring(PG_GETARG_TEXT_PP(0)), false);
	PG_RETURN_VOID();
}

Datum
clickstream_resume_source(PG_FUNCTION_ARGS)
{
	set_enabled(text_to_cstring(PG_GETARG_TEXT_PP(0)), true);
	PG_RETURN_VOID();
}

static SourceOffset *
offset_of(List *offsets, const char *topic, int32 partition)
{
	ListCell   *cell;

	foreach(cell, offsets)
	{
		SourceOffset *offset = lfirst(cell);

		if (offset->partition == partition && strcmp(offset->topic, topic) == 0)
			return offset;
	}
	return NULL;
}

/*
 * Where to read next moves; what was counted stays counted, since those rows are there.  The last
 * record is forgotten: it is no longer the one before the next.
 */
static void
move_offsets(const Source *source, List *partitions, bool only_named)
{
	List	   *offsets = catalog_offsets(source->name);
	ListCell   *cell;

	foreach(cell, partitions)
	{
		TopicPartition *partition = lfirst(cell);
		SourceOffset *offset = offset_of(offsets, partition->topic, partition->partition);

		if (only_named && !partition->named)
			continue;
		if (offset == NULL)
		{
			offset = palloc0(sizeof(SourceOffset));
			offset->topic = partition->topic;
			offset->partition = partition->partition;
			offsets = lappend(offsets, offset);
		}
		offset->start_offset = partition->start;
		offset->next_offset = partition->start;
		offset->last_timestamp = 0;
		offset->last_hash = 0;
		offset->changed = true;
	}
	catalog_offsets_save(source->name, offsets);
}

Datum
clickstream_seek_source(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	SourcePosition *position = source_position_parse(text_to_cstring(PG_GETARG_TEXT_PP(1)), "position");
	Source	   *source = source_of_caller(name);
	char	   *unreachable;
	List	   *partitions;

	PreventCommandIfReadOnly("seek_source");
	/* Kafka first: the worker goes on meanwhile */
	partitions = source_ask_topic(source, position, &unreachable);
	if (unreachable != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("Kafka could not be asked, so source \"%s\" stays where it is", name),
				 errdetail("%s.", unreachable),
				 errhint("Look at server \"%s\", and try again.", source->server)));
	source = source_lock_of_caller(name);
	move_offsets(source, partitions, position->kind == POSITION_OFFSETS);
	launcher_wake_at_commit();
	PG_RETURN_VOID();
}
