/*
 * catalog_dead_letters.c
 *		Rows of clickstream.dead_letters as structs, and back.
 *
 * Owns every statement over that table.  Letters go in and come out by portions that fit into memory.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "catalog_internal.h"

/* dead letters go in by portions: so many, or so many bytes */
#define LETTER_BYTES_AT_ONCE (8 * 1024 * 1024)

/* the columns of a portion of dead letters, as arrays */
typedef struct LetterColumns
{
	Datum	   *topics;
	Datum	   *partitions;
	Datum	   *offsets;
	Datum	   *timestamps;
	bool	   *timestamp_nulls;
	Datum	   *keys;
	bool	   *key_nulls;
	Datum	   *values;
	bool	   *value_nulls;
	Datum	   *headers;
	bool	   *header_nulls;
	Datum	   *sqlstates;
	Datum	   *errors;
} LetterColumns;

static void
letter_columns_alloc(LetterColumns *columns, int n)
{
	columns->topics = palloc(sizeof(Datum) * n);
	columns->partitions = palloc(sizeof(Datum) * n);
	columns->offsets = palloc(sizeof(Datum) * n);
	columns->timestamps = palloc(sizeof(Datum) * n);
	columns->timestamp_nulls = palloc(sizeof(bool) * n);
	columns->keys = palloc(sizeof(Datum) * n);
	columns->key_nulls = palloc(sizeof(bool) * n);
	columns->values = palloc(sizeof(Datum) * n);
	columns->value_nulls = palloc(sizeof(bool) * n);
	columns->headers = palloc(sizeof(Datum) * n);
	columns->header_nulls = palloc(sizeof(bool) * n);
	columns->sqlstates = palloc(sizeof(Datum) * n);
	columns->errors = palloc(sizeof(Datum) * n);
}

static Datum
bytes_datum(const char *bytes, size_t length)
{
	return bytes ? PointerGetDatum(cstring_to_text_with_len(bytes, length)) : (Datum) 0;
}

static void
letter_columns_set(LetterColumns *columns, int i, const DeadLetter *letter)
{
	columns->topics[i] = CStringGetTextDatum(letter->topic);
	columns->partitions[i] = Int32GetDatum(letter->partition);
	columns->offsets[i] = Int64GetDatum(letter->offset);
	columns->timestamps[i] = TimestampTzGetDatum(letter->timestamp);
	columns->timestamp_nulls[i] = letter->timestamp == 0;
	columns->keys[i] = bytes_datum(letter->key, letter->key_length);
	columns->key_nulls[i] = letter->key == NULL;
	columns->values[i] = bytes_datum(letter->value, letter->value_length);
	columns->value_nulls[i] = letter->value == NULL;
	columns->headers[i] = PointerGetDatum(letter->headers);
	columns->header_nulls[i] = letter->headers == NULL;
	columns->sqlstates[i] = CStringGetTextDatum(unpack_sql_state(letter->sqlstate));
	columns->errors[i] = CStringGetTextDatum(letter->error);
}

static void
insert_letters(const char *source, const DeadLetter *letters, int n)
{
	static Statement statement = {
		"INSERT INTO clickstream.dead_letters (source, topic, partition, \"offset\", "
		"\"timestamp\", key, value, headers, sqlstate, error) "
		"SELECT $1, u.* FROM unnest($2, $3, $4, $5, $6, $7, $8, $9, $10) u"};
	Arguments	arguments = {0};
	LetterColumns columns;
	int			i;

	letter_columns_alloc(&columns, n);
	for (i = 0; i < n; i++)
		letter_columns_set(&columns, i, &letters[i]);

	put_text(&arguments, source);
	put_array(&arguments, TEXTOID, TEXTARRAYOID, columns.topics, NULL, n);
	put_array(&arguments, INT4OID, INT4ARRAYOID, columns.partitions, NULL, n);
	put_array(&arguments, INT8OID, INT8ARRAYOID, columns.offsets, NULL, n);
	put_array(&arguments, TIMESTAMPTZOID, TIMESTAMPTZARRAYOID, columns.timestamps,
			  columns.timestamp_nulls, n);
	put_array(&arguments, BYTEAOID, BYTEAARRAYOID, columns.keys, columns.key_nulls, n);
	put_array(&arguments, BYTEAOID, BYTEAARRAYOID, columns.values, columns.value_nulls, n);
	put_array(&arguments, JSONBOID, JSONBARRAYOID, columns.headers, columns.header_nulls, n);
	put_array(&arguments, TEXTOID, TEXTARRAYOID, columns.sqlstates, NULL, n);
	put_array(&arguments, TEXTOID, TEXTARRAYOID, columns.errors, NULL, n);
	catalog_execute(&statement, &arguments);
}

/* how many of the next letters make one portion: at least one */
static int
letters_at_once(const DeadLetter *letters, int n)
{
	size_t		bytes = 0;
	int			count;

	for (count = 0; count < n && count < CATALOG_LETTERS_AT_ONCE; count++)
	{
		bytes += letters[count].key_length + letters[count].value_length;
		if (count > 0 && bytes > LETTER_BYTES_AT_ONCE)
			break;
	}
	return count;
}

void
catalog_dead_letters_insert(const char *source, const DeadLetter *letters, int n)
{
	Access		access;
	MemoryContext portion;
	int			done = 0;

	if (n == 0)
		return;
	catalog_enter(&access);
	portion = AllocSetContextCreate(CurrentMemoryContext, "dead letters", ALLOCSET_DEFAULT_SIZES);
	while (done < n)
	{
		int			count = letters_at_once(letters + done, n - done);
		MemoryContext old = MemoryContextSwitchTo(portion);

		insert_letters(source, letters + done, count);
		MemoryContextSwitchTo(old);
		MemoryContextReset(portion);
		done += count;
	}
	catalog_leave(&access);
}

static const char *
next_bytes(Reader *reader, size_t *length)
{
	bool		is_null;
	Datum		value = next_value(reader, &is_null);
	bytea	   *bytes;

	*length = 0;
	if (is_null)
		return NULL;
	bytes = DatumGetByteaPCopy(value);
	*length = VARSIZE_ANY_EXHDR(bytes);
	return VARDATA_ANY(bytes);
}

static void
put_ids(Arguments *arguments, const int64 *ids, int n)
{
	Datum	   *elements = palloc(sizeof(Datum) * Max(n, 1));

	for (int i = 0; i < n; i++)
		elements[i] = Int64GetDatum(ids[i]);
	put_array(arguments, INT8OID, INT8ARRAYOID, elements, NULL, n);
}

static void *
read_letter(Reader *reader)
{
	StoredLetter *stored = palloc0(sizeof(StoredLetter));
	DeadLetter *letter = &stored->letter;

	stored->id = next_int8(reader);
	letter->topic = next_text(reader);
	letter->partition = next_int4(reader);
	letter->offset = next_int8(reader);
	letter->timestamp = next_int8(reader);
	letter->key = next_bytes(reader, &letter->key_length);
	letter->value = next_bytes(reader, &letter->value_length);
	letter->headers = next_jsonb(reader);
	return stored;
}

/* in order; of `only`, which is in order, those at its beginning */
List *
catalog_dead_letters_lock(const char *source, int64 after_id, const int64 *only, int n_only)
{
	static Statement statement = {
		"SELECT d.id, d.topic, d.partition, d.\"offset\", d.\"timestamp\", d.key, d.value, d.headers "
		"FROM clickstream.dead_letters d JOIN ("
		"SELECT id, sum(bytes) OVER (ORDER BY id) - bytes AS bytes_before FROM ("
		"SELECT id, coalesce(octet_length(value), 0) AS bytes FROM clickstream.dead_letters "
		"WHERE source = $1 AND id > $2 AND ($5 OR id = ANY ($6)) ORDER BY id LIMIT $3) portion) p USING (id) "
		"WHERE p.bytes_before < $4 ORDER BY d.id FOR UPDATE OF d"};
	Arguments	arguments = {0};

	put_text(&arguments, source);
	put_int8(&arguments, after_id);
	put_int4(&arguments, CATALOG_LETTERS_AT_ONCE);
	put_int4(&arguments, LETTER_BYTES_AT_ONCE);
	put_bool(&arguments, only == NULL);
	put_ids(&arguments, only, Min(n_only, CATALOG_LETTERS_AT_ONCE));
	return catalog_read_rows(&statement, &arguments, read_letter, catalog_execute);
}

static void *
read_count(Reader *reader)
{
	int64	   *count = palloc(sizeof(int64));

	*count = next_int8(reader);
	return count;
}

int64
catalog_dead_letters_expire(const char *source, TimestampTz before)
{
	static Statement statement = {
		"WITH gone AS (DELETE FROM clickstream.dead_letters WHERE id IN ("
		"SELECT id FROM clickstream.dead_letters WHERE source = $1 AND arrived_at < $2 "
		"ORDER BY arrived_at LIMIT $3 FOR UPDATE SKIP LOCKED) RETURNING topic, partition), "
		"counted AS (UPDATE clickstream.offsets o SET expired = o.expired + g.n "
		"FROM (SELECT topic, partition, count(*) AS n FROM gone GROUP BY 1, 2) g "
		"WHERE (o.source, o.topic, o.partition) = ($1, g.topic, g.partition)) "
		"SELECT count(*) FROM gone"};
	Arguments	arguments = {0};

	put_text(&arguments, source);
	put_value(&arguments, TIMESTAMPTZOID, TimestampTzGetDatum(before), false);
	put_int4(&arguments, CATALOG_LETTERS_AT_ONCE);
	return *(int64 *) linitial(catalog_read_rows(&statement, &arguments, read_count, catalog_execute));
}

void
catalog_dead_letters_delete(const int64 *ids, int n)
{
	static Statement statement = {"DELETE FROM clickstream.dead_letters WHERE id = ANY ($1)"};
	Arguments	arguments = {0};

	put_ids(&arguments, ids, n);
	(void) catalog_write_one(&statement, &arguments);
}

void
catalog_dead_letter_fault(int64 id, int sqlstate, const char *error)
{
	static Statement statement = {"UPDATE clickstream.dead_letters SET sqlstate = $2, error = $3 WHERE id = $1"};
	Arguments	arguments = {0};

	put_int8(&arguments, id);
	put_text(&arguments, unpack_sql_state(sqlstate));
	put_text(&arguments, error);
	(void) catalog_write_one(&statement, &arguments);
}
