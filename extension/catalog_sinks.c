/*
 * catalog_sinks.c
 *		Rows of clickstream.sinks and sink_dead_letters as structs, and back.
 *
 * Owns every statement over those tables.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/pg_lsn.h"

#include "catalog_internal.h"
#include "index_pattern.h"

#define SINK_SELECT \
	"SELECT id, sink, owner::oid, server, relation::oid, index, id_columns::text[], columns, \"where\", " \
	"routing::text, pipeline, op_type = 'create', mapping, data_stream, " \
	"bulk_bytes, bulk_wait, coalesce(max_wal_lag, 0), on_drop, slot::text, publication::text, phase, physical_index, " \
	"consistent_point, enabled, paused_because, system_identifier, database, coalesce(version_base, 0), coalesce(timeline, 0) " \
	"FROM clickstream.sinks LEFT JOIN clickstream._sink_totals ON sink_id = id "

static void *
read_sink(Reader *reader)
{
	Sink	   *sink = palloc0(sizeof(Sink));

	sink->id = next_int4(reader);
	sink->name = next_text(reader);
	sink->owner = next_oid(reader);
	sink->server = next_text(reader);
	sink->relation = next_oid(reader);
	sink->index = next_text(reader);
	sink->alias = index_alias(sink->index);
	sink->id_columns = next_texts(reader);
	sink->columns = next_jsonb(reader);
	sink->filter = next_text(reader);
	sink->routing = next_text(reader);
	sink->pipeline = next_text(reader);
	sink->create_only = next_bool(reader);
	sink->mapping = next_jsonb(reader);
	sink->data_stream = next_bool(reader);
	sink->bulk_bytes = next_int4(reader);
	sink->bulk_wait = next_interval(reader);
	sink->max_wal_lag = next_int8(reader);
	sink->on_drop = next_text(reader);
	sink->slot = next_text(reader);
	sink->publication = next_text(reader);
	sink->phase = next_text(reader);
	sink->physical_index = next_text(reader);
	sink->consistent_point = (XLogRecPtr) next_int8(reader);
	sink->enabled = next_bool(reader);
	sink->paused_because = next_text(reader);
	sink->system_identifier = (uint64) next_int8(reader);
	sink->database = next_oid(reader);
	sink->version_base = (uint64) next_int8(reader);
	sink->timeline = (uint32) next_int8(reader);
	return sink;
}

static void
put_sink(Arguments *arguments, const Sink *sink)
{
	put_oid(arguments, REGROLEOID, sink->owner);
	put_text(arguments, sink->server);
	put_oid(arguments, REGCLASSOID, sink->relation);
	put_text(arguments, sink->index);
	put_names(arguments, sink->id_columns);
	put_jsonb(arguments, sink->columns);
	put_int4(arguments, sink->bulk_bytes);
	put_interval(arguments, sink->bulk_wait);
	put_text(arguments, sink->slot);
	put_text(arguments, sink->publication);
	put_text(arguments, sink->phase);
	put_text(arguments, sink->physical_index);
	put_value(arguments, PG_LSNOID, LSNGetDatum(sink->consistent_point),
		XLogRecPtrIsInvalid(sink->consistent_point));
	put_bool(arguments, sink->enabled);
	put_text(arguments, sink->paused_because);
	put_int8(arguments, (int64) sink->system_identifier);
	put_oid(arguments, OIDOID, sink->database);
	put_int8(arguments, sink->max_wal_lag);
	put_text(arguments, sink->filter);
	put_text(arguments, sink->on_drop);
	put_text(arguments, sink->routing);
	put_text(arguments, sink->pipeline);
	put_text(arguments, sink->create_only ? "create" : "index");
	put_jsonb(arguments, sink->mapping);
	put_bool(arguments, sink->data_stream);
}

Sink *
catalog_sink_by_name(const char *name)
{
	static Statement statement = {SINK_SELECT "WHERE sink = $1"};

	return catalog_read_by_name(&statement, name, read_sink);
}

Sink *
catalog_sink_by_id(int32 id)
{
	static Statement statement = {SINK_SELECT "WHERE id = $1"};

	return catalog_read_by_id(&statement, id, read_sink);
}

List *
catalog_sinks(void)
{
	static Statement statement = {SINK_SELECT "ORDER BY id"};
	Arguments	arguments = {0};

	return catalog_read_all(&statement, &arguments, read_sink);
}

/*
 * The name of the slot holds the sink's id, which the insert gives: without a name of its own a
 * sink is called after the database and that id, slot and publication alike.
 */
int32
catalog_sink_insert(const Sink *sink)
{
	static Statement statement = {
		"INSERT INTO clickstream.sinks (id, sink, owner, server, relation, index, id_columns, "
		"columns, bulk_bytes, bulk_wait, slot, publication, phase, physical_index, "
		"consistent_point, enabled, paused_because, system_identifier, database, max_wal_lag, \"where\", on_drop, "
		"routing, pipeline, op_type, mapping, data_stream) "
		"SELECT n.id, $1, $2, $3, $4, $5, $6::name[], coalesce($7, '{}'), $8, $9, "
		"coalesce($10, 'clickstream_' || $18 || '_' || n.id), "
		"coalesce($11, 'clickstream_' || $18 || '_' || n.id), "
		"coalesce($12, 'new'), $13, $14, $15, $16, $17, $18, nullif($19, 0), $20, $21, $22, $23, $24, coalesce($25, '{}'), $26 "
		"FROM nextval('clickstream.sinks_id_seq') n(id) RETURNING id"};
	static Statement totals = {"INSERT INTO clickstream._sink_totals (sink_id) VALUES ($1)"};
	Arguments	arguments = {0};
	int32		id;

	put_text(&arguments, sink->name);
	put_sink(&arguments, sink);
	id = catalog_write_one(&statement, &arguments);
	catalog_write_by_id(&totals, id);
	return id;
}

void
catalog_sink_update(const Sink *sink)
{
	static Statement statement = {
		"UPDATE clickstream.sinks SET owner = $2, server = $3, relation = $4, index = $5, "
		"id_columns = $6::name[], columns = coalesce($7, '{}'), bulk_bytes = $8, bulk_wait = $9, "
		"slot = $10, publication = $11, phase = $12, physical_index = $13, "
		"consistent_point = $14, enabled = $15, paused_because = $16, system_identifier = $17, "
		"database = $18, max_wal_lag = nullif($19, 0), \"where\" = $20, on_drop = $21, routing = $22, pipeline = $23, "
		"op_type = $24, mapping = coalesce($25, '{}'), data_stream = $26 WHERE id = $1"};
	Arguments	arguments = {0};

	put_int4(&arguments, sink->id);
	put_sink(&arguments, sink);
	(void) catalog_write_one(&statement, &arguments);
}

void
catalog_sink_delete(int32 id)
{
	static Statement statement = {"DELETE FROM clickstream.sinks WHERE id = $1"};

	catalog_write_by_id(&statement, id);
}

void
catalog_sink_dead_letter_put(const char *sink, const char *document_id, int64 version,
							 const char *document, int status, const char *type,
							 const char *reason)
{
	static Statement statement = {
		"INSERT INTO clickstream.sink_dead_letters (sink, document_id, version, document, status, "
		"type, reason) VALUES ($1, $2, $3, $4, $5, $6, $7) "
		"ON CONFLICT (sink, document_id) DO UPDATE SET version = excluded.version, "
		"document = excluded.document, status = excluded.status, type = excluded.type, "
		"reason = excluded.reason, arrived_at = excluded.arrived_at "
	"WHERE sink_dead_letters.version <= excluded.version"};
	Arguments	arguments = {0};

	put_text(&arguments, sink);
	put_text(&arguments, document_id);
	put_int8(&arguments, version);
	put_text(&arguments, document);
	put_int4(&arguments, status);
	put_text(&arguments, type);
	put_text(&arguments, reason);
	(void) catalog_write_one(&statement, &arguments);
}

static void *
read_document_id(Reader *reader)
{
	return next_text(reader);
}

List *
catalog_sink_dead_letters(const char *sink, const char *after, List *only, bool some)
{
	static Statement statement = {
		"SELECT document_id FROM clickstream.sink_dead_letters WHERE sink = $1 AND document_id > $2 "
	"AND (NOT $3 OR document_id = ANY ($4)) ORDER BY document_id LIMIT $5"};
	Arguments	arguments = {0};
	Datum	   *ids = palloc(sizeof(Datum) * Max(list_length(only), 1));
	ListCell   *cell;

	foreach(cell, only)
		ids[foreach_current_index(cell)] = CStringGetTextDatum(lfirst(cell));
	put_text(&arguments, sink);
	put_text(&arguments, after);
	put_bool(&arguments, some);
	put_array(&arguments, TEXTOID, TEXTARRAYOID, ids, NULL, list_length(only));
	put_int4(&arguments, CATALOG_LETTERS_AT_ONCE);
	return catalog_read_all(&statement, &arguments, read_document_id);
}

int
catalog_sink_dead_letter_delete(const char *sink, const char *document_id, int64 version)
{
	static Statement statement = {
		"DELETE FROM clickstream.sink_dead_letters WHERE sink = $1 AND document_id = $2 AND version <= $3 "
	"RETURNING 1"};
	Arguments	arguments = {0};

	put_text(&arguments, sink);
	put_text(&arguments, document_id);
	put_int8(&arguments, version);
	return catalog_write_one(&statement, &arguments);
}
