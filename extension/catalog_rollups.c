/*
 * catalog_rollups.c
 *		Rows of clickstream.rollups as structs, and back.
 *
 * Owns every statement over that table.
 */
#include "postgres.h"

#include "catalog/pg_type.h"

#include "catalog_internal.h"

#define ROLLUP_SELECT \
	"SELECT id, rollup::oid, target::oid, definition::oid, owner::oid, query, keys::text[], " \
	"settings, retention, complete FROM clickstream.rollups "

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
	rollup->complete = next_bool(reader);
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
	put_bool(arguments, rollup->complete);
}

Rollup *
catalog_rollup_by_relation(Oid rollup)
{
	static Statement statement = {ROLLUP_SELECT "WHERE rollup = $1"};
	Arguments	arguments = {0};

	put_oid(&arguments, REGCLASSOID, rollup);
	return catalog_read_first(&statement, &arguments, read_rollup);
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
		"settings, retention, complete) VALUES ($1, $2, $3, $4, $5, $6::name[], "
	"coalesce($7, '{}'), $8, $9) RETURNING id"};
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
	"complete = $9 WHERE id = $10"};
	Arguments	arguments = {0};

	put_rollup(&arguments, rollup);
	put_int4(&arguments, rollup->id);
	(void) catalog_write_one(&statement, &arguments);
}

void
catalog_rollup_delete(int32 id)
{
	static Statement statement = {"DELETE FROM clickstream.rollups WHERE id = $1"};
	Arguments	arguments = {0};

	put_int4(&arguments, id);
	(void) catalog_write_one(&statement, &arguments);
}
