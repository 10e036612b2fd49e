/*
 * catalog_sources.c
 *		Rows of clickstream.sources as structs, and back.
 *
 * Owns every statement over that table.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "catalog_internal.h"

#define SOURCE_SELECT \
	"SELECT id, source, owner::oid, server, topic, target::oid, columns, partition_interval, " \
	"retention, start_at, workers, max_future, max_batch_rows, max_batch_wait, partitions, " \
	"enabled, paused_because, system_identifier, database FROM clickstream.sources "

static void *
read_source(Reader *reader)
{
	Source	   *source = palloc0(sizeof(Source));

	source->id = next_int4(reader);
	source->name = next_text(reader);
	source->owner = next_oid(reader);
	source->server = next_text(reader);
	source->topic = next_text(reader);
	source->target = next_oid(reader);
	source->columns = next_jsonb(reader);
	source->partition_interval = next_interval(reader);
	source->retention = next_interval(reader);
	source->start_at = next_text(reader);
	source->workers = next_int4(reader);
	source->max_future = next_interval(reader);
	source->max_batch_rows = next_int4(reader);
	source->max_batch_wait = next_interval(reader);
	source->partitions = next_int4s(reader, &source->n_partitions);
	source->enabled = next_bool(reader);
	source->paused_because = next_text(reader);
	source->system_identifier = (uint64) next_int8(reader);
	source->database = next_oid(reader);
	return source;
}

static void
put_source(Arguments *arguments, const Source *source)
{
	put_oid(arguments, REGROLEOID, source->owner);
	put_text(arguments, source->server);
	put_text(arguments, source->topic);
	put_oid(arguments, REGCLASSOID, source->target);
	put_jsonb(arguments, source->columns);
	put_interval(arguments, source->partition_interval);
	put_interval(arguments, source->retention);
	put_text(arguments, source->start_at);
	put_int4(arguments, source->workers);
	put_interval(arguments, source->max_future);
	put_int4(arguments, source->max_batch_rows);
	put_interval(arguments, source->max_batch_wait);
	put_int4s(arguments, source->partitions, source->n_partitions);
	put_bool(arguments, source->enabled);
	put_text(arguments, source->paused_because);
	put_int8(arguments, (int64) source->system_identifier);
	put_oid(arguments, OIDOID, source->database);
}

Source *
catalog_source_by_name(const char *name)
{
	static Statement statement = {SOURCE_SELECT "WHERE source = $1"};
	Arguments	arguments = {0};

	put_text(&arguments, name);
	return catalog_read_first(&statement, &arguments, read_source);
}

Source *
catalog_source_by_id(int32 id)
{
	static Statement statement = {SOURCE_SELECT "WHERE id = $1"};
	Arguments	arguments = {0};

	put_int4(&arguments, id);
	return catalog_read_first(&statement, &arguments, read_source);
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
		"INSERT INTO clickstream.sources (source, owner, server, topic, target, columns, "
		"partition_interval, retention, start_at, workers, max_future, max_batch_rows, "
		"max_batch_wait, partitions, enabled, paused_because, system_identifier, database) "
		"VALUES ($1, $2, $3, $4, $5, coalesce($6, '{}'), $7, $8, $9, $10, $11, $12, $13, $14, $15, "
	"$16, $17, $18) RETURNING id"};
	Arguments	arguments = {0};

	put_text(&arguments, source->name);
	put_source(&arguments, source);
	return catalog_write_one(&statement, &arguments);
}

void
catalog_source_update(const Source *source)
{
	static Statement statement = {
		"UPDATE clickstream.sources SET owner = $2, server = $3, topic = $4, target = $5, "
		"columns = coalesce($6, '{}'), partition_interval = $7, retention = $8, start_at = $9, "
		"workers = $10, max_future = $11, max_batch_rows = $12, max_batch_wait = $13, "
		"partitions = $14, enabled = $15, paused_because = $16, system_identifier = $17, "
	"database = $18 WHERE id = $1"};
	Arguments	arguments = {0};

	put_int4(&arguments, source->id);
	put_source(&arguments, source);
	(void) catalog_write_one(&statement, &arguments);
}

void
catalog_source_delete(int32 id)
{
	static Statement statement = {
		"WITH gone AS (DELETE FROM clickstream.sources WHERE id = $1 RETURNING source) "
	"DELETE FROM clickstream.dead_letters l USING gone WHERE l.source = gone.source"};
	Arguments	arguments = {0};

	put_int4(&arguments, id);
	(void) catalog_write_one(&statement, &arguments);
}
