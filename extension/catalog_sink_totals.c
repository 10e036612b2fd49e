/*
 * catalog_sink_totals.c
 *		Rows of clickstream._sink_totals as structs, and back.
 *
 * Owns every statement over that table.  A row is made and deleted with its sink.  A worker saves what it
 * counted also when it ends, and then must wait for nobody.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "storage/lmgr.h"
#include "utils/timestamp.h"

#include "catalog_internal.h"

static void *
read_totals(Reader *reader)
{
	SinkTotals *totals = palloc0(sizeof(SinkTotals));

	totals->documents = next_int8(reader);
	totals->deletes = next_int8(reader);
	totals->failures = next_int8(reader);
	totals->retries = next_int8(reader);
	totals->skipped = next_int8(reader);
	totals->current_until = (TimestampTz) next_int8(reader);
	return totals;
}

SinkTotals *
catalog_sink_totals(int32 id)
{
	static Statement statement = {
		"SELECT documents, deletes, failures, retries, skipped, current_until "
	"FROM clickstream._sink_totals WHERE sink_id = $1"};

	return catalog_read_by_id(&statement, id, read_totals);
}

void
catalog_sink_totals_save(int32 id, const SinkTotals *totals)
{
	static Statement statement = {
		"UPDATE clickstream._sink_totals SET documents = $2, deletes = $3, failures = $4, retries = $5, "
		"skipped = $6, current_until = coalesce($7, current_until) WHERE sink_id = "
		"(SELECT sink_id FROM clickstream._sink_totals WHERE sink_id = $1 FOR UPDATE SKIP LOCKED)"};
	Arguments	arguments = {0};

	if (!ConditionalLockRelationOid(catalog_relation("_sink_totals"), RowExclusiveLock))
		return;
	put_int4(&arguments, id);
	put_int8(&arguments, totals->documents);
	put_int8(&arguments, totals->deletes);
	put_int8(&arguments, totals->failures);
	put_int8(&arguments, totals->retries);
	put_int8(&arguments, totals->skipped);
	put_value(&arguments, TIMESTAMPTZOID, TimestampTzGetDatum(totals->current_until),
			  totals->current_until == 0);
	(void) catalog_write_one(&statement, &arguments);
}

void
catalog_sink_slot_lost(int32 id, const char *because)
{
	static Statement statement = {
		"UPDATE clickstream._sink_totals SET slot_lost_at = clock_timestamp(), slot_lost_because = $2 "
	"WHERE sink_id = $1"};
	Arguments	arguments = {0};

	put_int4(&arguments, id);
	put_text(&arguments, because);
	(void) catalog_write_one(&statement, &arguments);
}

void
catalog_sink_versions_save(int32 id, uint64 version_base, uint32 timeline)
{
	static Statement statement = {
	"UPDATE clickstream._sink_totals SET version_base = $2, timeline = $3 WHERE sink_id = $1"};
	Arguments	arguments = {0};

	put_int4(&arguments, id);
	put_int8(&arguments, (int64) version_base);
	put_int8(&arguments, timeline);
	(void) catalog_write_one(&statement, &arguments);
}

static void *
read_copied(Reader *reader)
{
	SinkCopied *copied = palloc0(sizeof(SinkCopied));

	copied->leaf = next_oid(reader);
	copied->file = next_oid(reader);
	copied->blocks = next_int8(reader);
	return copied;
}

void
catalog_sink_copied(int32 id, SinkCopied *copied)
{
	static Statement statement = {
	"SELECT copied_leaf, copied_file, copied_blocks FROM clickstream._sink_totals WHERE sink_id = $1"};
	SinkCopied *found = catalog_read_by_id(&statement, id, read_copied);

	memset(copied, 0, sizeof(*copied));
	if (found)
		*copied = *found;
}

void
catalog_sink_copied_save(int32 id, const SinkCopied *copied)
{
	static Statement statement = {
		"UPDATE clickstream._sink_totals SET copied_leaf = $2, copied_file = $3, copied_blocks = $4 "
	"WHERE sink_id = $1"};
	Arguments	arguments = {0};

	put_int4(&arguments, id);
	put_oid(&arguments, OIDOID, copied->leaf);
	put_oid(&arguments, OIDOID, copied->file);
	put_int8(&arguments, copied->blocks);
	(void) catalog_write_one(&statement, &arguments);
}
