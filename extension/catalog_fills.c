/*
 * catalog_fills.c
 *		Rows of clickstream._fills as structs, and back.
 *
 * Owns every statement over that table.  A row is there while a rollup is filled by portions; it is written in
 * the transaction that puts groups of a portion in place, so it is always true.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/timestamp.h"

#include "catalog_internal.h"

/* the elements of an array without NULLs */
static Datum *
next_array(Reader *reader, Oid element, int length, int *n)
{
	bool		is_null;
	Datum	   *elements;

	deconstruct_array(DatumGetArrayTypePCopy(next_value(reader, &is_null)), element, length, true,
					  length == sizeof(int64) ? TYPALIGN_DOUBLE : TYPALIGN_INT, &elements, NULL, n);
	return elements;
}

static void
read_leaves(Reader *reader, Fill *fill)
{
	Datum	   *leaves = next_array(reader, OIDOID, sizeof(Oid), &fill->n_leaves);
	Datum	   *files = next_array(reader, OIDOID, sizeof(Oid), &fill->n_leaves);
	Datum	   *blocks = next_array(reader, INT8OID, sizeof(int64), &fill->n_leaves);
	int			i;

	fill->leaves = palloc0(sizeof(FillLeaf) * Max(fill->n_leaves, 1));
	for (i = 0; i < fill->n_leaves; i++)
	{
		fill->leaves[i].leaf = DatumGetObjectId(leaves[i]);
		fill->leaves[i].file = DatumGetObjectId(files[i]);
		fill->leaves[i].blocks = DatumGetInt64(blocks[i]);
	}
}

static void *
read_fill(Reader *reader)
{
	Fill	   *fill = palloc0(sizeof(Fill));
	Datum	   *running;
	bool		is_null;
	Datum		value;
	int			i;

	fill->begun_at = next_int8(reader);
	fill->oldest = next_int8(reader);
	fill->horizon = next_int8(reader);
	running = next_array(reader, INT8OID, sizeof(int64), &fill->n_running);
	fill->running = palloc0(sizeof(int64) * Max(fill->n_running, 1));
	for (i = 0; i < fill->n_running; i++)
		fill->running[i] = DatumGetInt64(running[i]);
	read_leaves(reader, fill);
	fill->leaf = next_int4(reader);
	fill->blocks = next_int8(reader);
	value = next_value(reader, &is_null);
	fill->merged = is_null ? NULL : DatumGetByteaPCopy(value);
	fill->groups = next_int8(reader);
	fill->portion = next_int8(reader);
	return fill;
}

Fill *
catalog_fill(int32 rollup_id)
{
	static Statement statement = {
		"SELECT begun_at, oldest, horizon, running, leaves, files, blocks, leaf, done, merged, groups, portion "
	"FROM clickstream._fills WHERE rollup_id = $1"};

	return catalog_read_by_id(&statement, rollup_id, read_fill);
}

static void
put_leaves(Arguments *arguments, const Fill *fill)
{
	Datum	   *leaves = palloc(sizeof(Datum) * Max(fill->n_leaves, 1));
	Datum	   *files = palloc(sizeof(Datum) * Max(fill->n_leaves, 1));
	Datum	   *blocks = palloc(sizeof(Datum) * Max(fill->n_leaves, 1));
	int			i;

	for (i = 0; i < fill->n_leaves; i++)
	{
		leaves[i] = ObjectIdGetDatum(fill->leaves[i].leaf);
		files[i] = ObjectIdGetDatum(fill->leaves[i].file);
		blocks[i] = Int64GetDatum(fill->leaves[i].blocks);
	}
	put_array(arguments, OIDOID, OIDARRAYOID, leaves, NULL, fill->n_leaves);
	put_array(arguments, OIDOID, OIDARRAYOID, files, NULL, fill->n_leaves);
	put_array(arguments, INT8OID, INT8ARRAYOID, blocks, NULL, fill->n_leaves);
}

void
catalog_fill_insert(int32 rollup_id, const Fill *fill)
{
	static Statement statement = {
		"INSERT INTO clickstream._fills (rollup_id, begun_at, oldest, horizon, running, leaves, files, blocks, portion) "
	"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)"};
	Arguments	arguments = {0};
	Datum	   *running = palloc(sizeof(Datum) * Max(fill->n_running, 1));
	int			i;

	for (i = 0; i < fill->n_running; i++)
		running[i] = Int64GetDatum(fill->running[i]);
	put_int4(&arguments, rollup_id);
	put_value(&arguments, TIMESTAMPTZOID, TimestampTzGetDatum(fill->begun_at), false);
	put_value(&arguments, TIMESTAMPTZOID, TimestampTzGetDatum(fill->oldest), false);
	put_int8(&arguments, fill->horizon);
	put_array(&arguments, INT8OID, INT8ARRAYOID, running, NULL, fill->n_running);
	put_leaves(&arguments, fill);
	put_int8(&arguments, fill->portion);
	(void) catalog_write_one(&statement, &arguments);
}

void
catalog_fill_save(int32 rollup_id, const Fill *fill)
{
	static Statement statement = {
		"UPDATE clickstream._fills SET leaf = $2, done = $3, merged = $4, groups = $5 WHERE rollup_id = $1"};
	Arguments	arguments = {0};

	put_int4(&arguments, rollup_id);
	put_int4(&arguments, fill->leaf);
	put_int8(&arguments, fill->blocks);
	put_value(&arguments, BYTEAOID, PointerGetDatum(fill->merged), fill->merged == NULL);
	put_int8(&arguments, fill->groups);
	(void) catalog_write_one(&statement, &arguments);
}

void
catalog_fill_delete(int32 rollup_id)
{
	static Statement statement = {"DELETE FROM clickstream._fills WHERE rollup_id = $1"};

	catalog_write_by_id(&statement, rollup_id);
}
