/*
 * catalog_offsets.c
 *		Rows of clickstream.offsets and offset_gaps as structs, and back.
 *
 * Owns every statement over those tables.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/timestamp.h"

#include "catalog_internal.h"

static void *
read_offset(Reader *reader)
{
	SourceOffset *offset = palloc0(sizeof(SourceOffset));

	offset->topic = next_text(reader);
	offset->partition = next_int4(reader);
	offset->start_offset = next_int8(reader);
	offset->next_offset = next_int8(reader);
	offset->messages = next_int8(reader);
	offset->rows = next_int8(reader);
	offset->dead_letters = next_int8(reader);
	offset->skipped = next_int8(reader);
	offset->last_timestamp = next_int8(reader);
	offset->last_hash = next_int8(reader);
	return offset;
}

List *
catalog_offsets(const char *source)
{
	static Statement statement = {
		"SELECT topic, partition, start_offset, next_offset, messages, rows, dead_letters, "
		"skipped, last_timestamp, last_hash FROM clickstream.offsets WHERE source = $1 "
	"ORDER BY topic, partition"};
	Arguments	arguments = {0};

	put_text(&arguments, source);
	return catalog_read_all(&statement, &arguments, read_offset);
}

static void
save_offset(const char *source, const SourceOffset *offset)
{
	static Statement statement = {
		"INSERT INTO clickstream.offsets AS o (source, topic, partition, start_offset, "
		"next_offset, messages, rows, dead_letters, skipped, last_timestamp, last_hash, "
		"updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, clock_timestamp()) "
		"ON CONFLICT (source, topic, partition) DO UPDATE SET "
		"start_offset = excluded.start_offset, next_offset = excluded.next_offset, "
		"messages = excluded.messages, rows = excluded.rows, "
		"dead_letters = excluded.dead_letters, skipped = excluded.skipped, "
		"last_timestamp = excluded.last_timestamp, last_hash = excluded.last_hash, "
	"updated_at = excluded.updated_at"};
	Arguments	arguments = {0};

	put_text(&arguments, source);
	put_text(&arguments, offset->topic);
	put_int4(&arguments, offset->partition);
	put_int8(&arguments, offset->start_offset);
	put_int8(&arguments, offset->next_offset);
	put_int8(&arguments, offset->messages);
	put_int8(&arguments, offset->rows);
	put_int8(&arguments, offset->dead_letters);
	put_int8(&arguments, offset->skipped);
	put_value(&arguments, TIMESTAMPTZOID, TimestampTzGetDatum(offset->last_timestamp),
		offset->last_timestamp == 0);
	put_value(&arguments, INT8OID, Int64GetDatum(offset->last_hash), offset->last_timestamp == 0);
	catalog_execute(&statement, &arguments);
}

void
catalog_offsets_save(const char *source, List *offsets)
{
	Access		access;
	ListCell   *cell;

	catalog_enter(&access);
	foreach(cell, offsets)
	{
		SourceOffset *offset = lfirst(cell);

		if (!offset->changed)
			continue;
		save_offset(source, offset);
		offset->changed = false;
	}
	catalog_leave(&access);
}

void
catalog_gap_insert(const char *source, const char *topic, int32 partition, int64 from_offset,
				   int64 to_offset)
{
	static Statement statement = {
		"INSERT INTO clickstream.offset_gaps (source, topic, partition, from_offset, to_offset) "
	"VALUES ($1, $2, $3, $4, $5)"};
	Arguments	arguments = {0};

	put_text(&arguments, source);
	put_text(&arguments, topic);
	put_int4(&arguments, partition);
	put_int8(&arguments, from_offset);
	put_int8(&arguments, to_offset);
	(void) catalog_write_one(&statement, &arguments);
}
