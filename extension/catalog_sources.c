/*
 * catalog_sources.c
 *		Rows of clickstream._sources as structs, and back.
 *
 * Owns every statement over that table.  Whose a source is is not kept: it is whose the target is now,
 * InvalidOid where the target is gone.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "catalog_internal.h"

#define SOURCE_SELECT \
	"SELECT id, source, (SELECT c.relowner FROM pg_class c WHERE c.oid = s.target), server, topics, " \
	"target::oid, columns, partition_interval, retention, retention_action, start_at, workers, " \
	"max_future, max_batch_rows, max_batch_wait, partitions, on_conflict, consumer_group, " \
	"dead_letter_retention, enabled, paused_because, system_identifier, database " \
	"FROM clickstream._sources s "

static void *
read_source(Reader *reader)
{
	Source	   *source = palloc0(sizeof(Source));

	source->id = next_int4(reader);
	source->name = next_text(reader);
	source->owner = next_oid(reader);
	source->server = next_text(reader);
	source->topics = next_texts(reader);
	source->target = next_oid(reader);
	source->columns = next_jsonb(reader);
	source->partition_interval = next_interval(reader);
	source->retention = next_interval(reader);
	source->retention_action = next_text(reader);
	source->start_at = next_text(reader);
	source->workers = next_int4(reader);
	source->max_future = next_interval(reader);
	source->max_batch_rows = next_int4(reader);
	source->max_batch_wait = next_interval(reader);
	source->partitions = next_int4s(reader, &source->n_partitions);
	source->on_conflict = next_text(reader);
	source->consumer_group = next_text(reader);
	source->dead_letter_retention = next_interval(reader);
	source->enabled = next_bool(reader);
	source->paused_because = next_text(reader);
	source->system_identifier = (uint64) next_int8(reader);
	source->database = next_oid(reader);
	return source;
}

static void
put_source(Arguments *arguments, const Source *source)
{
	put_text(arguments, source->server);
	put_names(arguments, source->topics);
	put_oid(arguments, REGCLASSOID, source->target);
	put_jsonb(arguments, source->columns);
	put_interval(arguments, source->partition_interval);
	put_interval(arguments, source->retention);
	put_text(arguments, source->retention_action);
	put_text(arguments, source->start_at);
	put_int4(arguments, source->workers);
	put_interval(arguments, source->max_future);
	put_int4(arguments, source->max_batch_rows);
	put_interval(arguments, source->max_batch_wait);
	put_int4s(arguments, source->partitions, source->n_partitions);
	put_text(arguments, source->on_conflict);
	put_text(arguments, source->consumer_group);
	put_interval(arguments, source->dead_letter_retention);
	put_bool(arguments, source->enabled);
	put_text(arguments, source->paused_because);
	put_int8(arguments, (int64) source->system_identifier);
	put_oid(arguments, OIDOID, source->database);
}

Source *
catalog_source_by_name(const char *name)
{
	static Statement statement = {SOURCE_SELECT "WHERE source = $1"};

	return catalog_read_by_name(&statement, name, read_source);
}

Source *
catalog_source_by_id(int32 id)
{
	static Statement statement = {SOURCE_SELECT "WHERE id = $1"};

	return catalog_read_by_id(&statement, id, read_source);
}

List *
catalog_sources(void)
{
	static Statement statement = {SOURCE_SELECT "ORDER BY id"};
	Arguments	arguments = {0};

	return catalog_read_all(&statement, &arguments, read_source);
}

List *
catalog_sources_of_target(Oid target)
{
	static Statement statement = {SOURCE_SELECT "WHERE target = $1 ORDER BY id"};
	Arguments	arguments = {0};

	put_oid(&arguments, REGCLASSOID, target);
	return catalog_read_all(&statement, &arguments, read_source);
}

int32
catalog_source_insert(const Source *source)
{
	static Statement statement = {
		"INSERT INTO clickstream._sources (source, server, topics, target, columns, "
		"partition_interval, retention, retention_action, start_at, workers, max_future, "
		"max_batch_rows, max_batch_wait, partitions, on_conflict, consumer_group, "
		"dead_letter_retention, enabled, paused_because, system_identifier, database) VALUES "
		"($1, $2, $3, $4, coalesce($5, '{}'), $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, "
		"$16, $17, $18, $19, $20, $21) RETURNING id"};
	Arguments	arguments = {0};

	put_text(&arguments, source->name);
	put_source(&arguments, source);
	return catalog_write_one(&statement, &arguments);
}

void
catalog_source_update(const Source *source)
{
	static Statement statement = {
		"UPDATE clickstream._sources SET server = $2, topics = $3, target = $4, columns = "
		"coalesce($5, '{}'), partition_interval = $6, retention = $7, retention_action = $8, "
		"start_at = $9, workers = $10, max_future = $11, max_batch_rows = $12, "
		"max_batch_wait = $13, partitions = $14, on_conflict = $15, consumer_group = $16, "
		"dead_letter_retention = $17, enabled = $18, paused_because = $19, system_identifier "
		"= $20, database = $21 WHERE id = $1"};
	Arguments	arguments = {0};

	put_int4(&arguments, source->id);
	put_source(&arguments, source);
	(void) catalog_write_one(&statement, &arguments);
}

void
catalog_source_delete(int32 id)
{
	static Statement statement = {
		"WITH gone AS (DELETE FROM clickstream._sources WHERE id = $1 RETURNING source) "
	"DELETE FROM clickstream.dead_letters l USING gone WHERE l.source = gone.source"};

	catalog_write_by_id(&statement, id);
}
