/*
 * catalog_rollups.c
 *		Rows of clickstream.rollups as structs, and back.
 *
 * Owns every statement over that table, clickstream.noted_groups and clickstream.late_rows.
 */
#include "postgres.h"

#include "catalog/pg_type.h"

#include "catalog_internal.h"

#define ROLLUP_SELECT \
	"SELECT id, rollup::oid, target::oid, definition::oid, " \
	"coalesce((SELECT relowner FROM pg_catalog.pg_class WHERE pg_class.oid = rollup), owner)::oid, query, keys::text[], " \
	"settings, retention, partition_interval, complete, phase FROM clickstream.rollups "

static const char *const phases[] = {
	[ROLLUP_WAITING] = "waiting", [ROLLUP_FILLING] = "filling", [ROLLUP_SETTLING] = "settling"
};

static RollupPhase
next_phase(Reader *reader)
{
	char	   *name = next_text(reader);
	int			i;

	for (i = ROLLUP_WAITING; name != NULL && i < lengthof(phases); i++)
	{
		if (strcmp(phases[i], name) == 0)
			return i;
	}
	return ROLLUP_FILLED;
}

static void *
read_rollup(Reader *reader)
{
	Rollup	   *rollup = palloc0(sizeof(Rollup));

	rollup->id = next_int4(reader);
	rollup->rollup = next_oid(reader);
	rollup->target = next_oid(reader);
	rollup->definition = next_oid(reader);
	rollup->owner = next_oid(reader);
	rollup->query = next_text(reader);
	rollup->keys = next_texts(reader);
	rollup->settings = next_jsonb(reader);
	rollup->retention = next_interval(reader);
	rollup->partition_interval = next_interval(reader);
	rollup->complete = next_bool(reader);
	rollup->phase = next_phase(reader);
	return rollup;
}

static void
put_rollup(Arguments *arguments, const Rollup *rollup)
{
	put_oid(arguments, REGCLASSOID, rollup->rollup);
	put_oid(arguments, REGCLASSOID, rollup->target);
	put_oid(arguments, REGCLASSOID, rollup->definition);
	put_oid(arguments, REGROLEOID, rollup->owner);
	put_text(arguments, rollup->query);
	put_names(arguments, rollup->keys);
	put_jsonb(arguments, rollup->settings);
	put_interval(arguments, rollup->retention);
	put_interval(arguments, rollup->partition_interval);
	put_bool(arguments, rollup->complete);
	put_text(arguments, phases[rollup->phase]);
}

Rollup *
catalog_rollup_by_relation(Oid rollup)
{
	static Statement statement = {ROLLUP_SELECT "WHERE rollup = $1"};
	Arguments	arguments = {0};

	put_oid(&arguments, REGCLASSOID, rollup);
	return catalog_read_first(&statement, &arguments, read_rollup);
}

Rollup *
catalog_rollup_by_id(int32 id)
{
	static Statement statement = {ROLLUP_SELECT "WHERE id = $1"};

	return catalog_read_by_id(&statement, id, read_rollup);
}

List *
catalog_rollups(void)
{
	static Statement statement = {ROLLUP_SELECT "ORDER BY id"};
	Arguments	arguments = {0};

	return catalog_read_all(&statement, &arguments, read_rollup);
}

List *
catalog_rollups_of_target(Oid target)
{
	static Statement statement = {ROLLUP_SELECT "WHERE target = $1 ORDER BY id"};
	Arguments	arguments = {0};

	put_oid(&arguments, REGCLASSOID, target);
	return catalog_read_all(&statement, &arguments, read_rollup);
}

int32
catalog_rollup_insert(const Rollup *rollup)
{
	static Statement statement = {
		"INSERT INTO clickstream.rollups (rollup, target, definition, owner, query, keys, "
		"settings, retention, partition_interval, complete, phase) VALUES ($1, $2, $3, $4, $5, $6::name[], "
	"coalesce($7, '{}'), $8, $9, $10, $11) RETURNING id"};
	Arguments	arguments = {0};

	put_rollup(&arguments, rollup);
	return catalog_write_one(&statement, &arguments);
}

void
catalog_rollup_update(const Rollup *rollup)
{
	static Statement statement = {
		"UPDATE clickstream.rollups SET rollup = $1, target = $2, definition = $3, owner = $4, "
		"query = $5, keys = $6::name[], settings = coalesce($7, '{}'), retention = $8, "
	"partition_interval = $9, complete = $10, phase = $11 WHERE id = $12"};
	Arguments	arguments = {0};

	put_rollup(&arguments, rollup);
	put_int4(&arguments, rollup->id);
	(void) catalog_write_one(&statement, &arguments);
}

void
catalog_rollup_delete(int32 id)
{
	static Statement statement = {"DELETE FROM clickstream.rollups WHERE id = $1"};

	catalog_write_by_id(&statement, id);
}

/* ---------------------------------------------------------------- noted groups */

void
catalog_noted_groups_insert(int32 rollup_id, const Datum *groups, int n)
{
	static Statement statement = {
		"INSERT INTO clickstream.noted_groups (rollup_id, keys) SELECT $1, unnest($2)"};
	Arguments	arguments = {0};

	put_int4(&arguments, rollup_id);
	put_array(&arguments, BYTEAOID, BYTEAARRAYOID, unconstify(Datum *, groups), NULL, n);
	(void) catalog_write_one(&statement, &arguments);
}

static void *
read_bytes(Reader *reader)
{
	bool		is_null;
	Datum		value = next_value(reader, &is_null);

	return PG_DETOAST_DATUM_COPY(value);
}

List *
catalog_noted_groups_take(int32 rollup_id, int most)
{
	static Statement statement = {
		"DELETE FROM clickstream.noted_groups WHERE ctid = ANY (ARRAY("
		"SELECT ctid FROM clickstream.noted_groups WHERE rollup_id = $1 LIMIT $2)) RETURNING keys"};
	Arguments	arguments = {0};

	put_int4(&arguments, rollup_id);
	put_int4(&arguments, most);
	return catalog_read_rows(&statement, &arguments, read_bytes, catalog_execute);
}

void
catalog_noted_groups_delete(int32 rollup_id)
{
	static Statement statement = {"DELETE FROM clickstream.noted_groups WHERE rollup_id = $1"};

	catalog_write_by_id(&statement, rollup_id);
}

/* ---------------------------------------------------------------- late rows */

/* A row for each time, so that writers do not wait for one another. */
void
catalog_late_rows_insert(int32 rollup_id, int64 rows)
{
	static Statement statement = {"INSERT INTO clickstream.late_rows (rollup_id, rows) VALUES ($1, $2)"};
	Arguments	arguments = {0};

	put_int4(&arguments, rollup_id);
	put_int8(&arguments, rows);
	(void) catalog_write_one(&statement, &arguments);
}

void
catalog_late_rows_sum_up(int32 rollup_id)
{
	static Statement statement = {
		"WITH taken AS (DELETE FROM clickstream.late_rows WHERE ctid = ANY (ARRAY("
		"SELECT ctid FROM clickstream.late_rows WHERE rollup_id = $1 FOR UPDATE SKIP LOCKED)) RETURNING rows) "
		"INSERT INTO clickstream.late_rows (rollup_id, rows) SELECT $1, sum(rows) FROM taken HAVING count(*) > 0"};

	catalog_write_by_id(&statement, rollup_id);
}

void
catalog_late_rows_delete(int32 rollup_id)
{
	static Statement statement = {"DELETE FROM clickstream.late_rows WHERE rollup_id = $1"};

	catalog_write_by_id(&statement, rollup_id);
}
