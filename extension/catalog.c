/*
 * catalog.c
 *		Rows of the extension's own tables as structs, and back.
 *
 * Owns every statement that touches clickstream.sources, offsets, offset_gaps, dead_letters,
 * rollups, sinks and sink_dead_letters; nothing else reads or writes them, but for views.  Decides
 * nothing about rights: SQL functions do that before they call here, workers run for the owner.
 *
 * Statements run as the owner of those tables, so that neither row security nor a missing grant
 * bites, and under a search_path that only reaches pg_catalog, so that nobody's operator is taken
 * for ours.  Their plans are kept: a worker saves its offsets with every batch.  Each statement
 * takes a new snapshot, so that what was read after catalog_lock is what was last committed.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/pg_lsn.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "catalog.h"

#define MAX_ARGUMENTS 24

/* dead letters go in by portions: so many, or so many bytes */
#define LETTERS_AT_ONCE 1000
#define LETTER_BYTES_AT_ONCE (8 * 1024 * 1024)

/* a statement and, once it ran, its plan, kept as long as the process lives */
typedef struct Statement
{
	const char *sql;
	SPIPlanPtr	plan;
} Statement;

/* the arguments of one execution; lives on the caller's stack */
typedef struct Arguments
{
	int			n;
	Oid			types[MAX_ARGUMENTS];
	Datum		values[MAX_ARGUMENTS];
	char		nulls[MAX_ARGUMENTS];
} Arguments;

/* who we were before we became the owner of the tables */
typedef struct Access
{
	MemoryContext caller;		/* where results go */
	Oid			user;
	int			security;
	int			guc_level;
} Access;

/* takes the columns of a result row one after the other */
typedef struct Reader
{
	HeapTuple	tuple;
	TupleDesc	desc;
	int			column;
} Reader;

/* ---------------------------------------------------------------- the machinery */

static Oid
owned_relation(const char *name)
{
	Oid			schema = get_namespace_oid("clickstream", true);
	Oid			relation = OidIsValid(schema) ? get_relname_relid(name, schema) : InvalidOid;

	if (!OidIsValid(relation))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("extension \"clickstream\" is not in this database"),
				 errhint("Run CREATE EXTENSION clickstream.")));
	return relation;
}

static Oid
owner_of_tables(void)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(owned_relation("sources")));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "relation clickstream.sources vanished");
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

/* An error in between is undone by the end of the (sub)transaction, as for any function. */
static void
enter(Access *access)
{
	Oid			owner = owner_of_tables();

	access->caller = CurrentMemoryContext;
	access->guc_level = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	GetUserIdAndSecContext(&access->user, &access->security);
	SetUserIdAndSecContext(owner, access->security | SECURITY_LOCAL_USERID_CHANGE);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
}

static void
leave(Access *access)
{
	SPI_finish();
	SetUserIdAndSecContext(access->user, access->security);
	AtEOXact_GUC(true, access->guc_level);
	MemoryContextSwitchTo(access->caller);
}

static void
prepare(Statement *statement, Arguments *arguments)
{
	if (statement->plan == NULL)
	{
		SPIPlanPtr	plan = SPI_prepare_cursor(statement->sql, arguments->n, arguments->types,
											  CURSOR_OPT_GENERIC_PLAN);

		if (plan == NULL || SPI_keepplan(plan) != 0)
			elog(ERROR, "could not prepare \"%s\"", statement->sql);
		statement->plan = plan;
	}
}

static void
execute_prepared(Statement *statement, Arguments *arguments, bool read_only)
{
	int			result = SPI_execute_plan(statement->plan, arguments->values, arguments->nulls,
										  read_only, 0);

	if (result < 0)
		elog(ERROR, "could not execute \"%s\": %s", statement->sql, SPI_result_code_string(result));
}

static void
execute(Statement *statement, Arguments *arguments)
{
	prepare(statement, arguments);
	execute_prepared(statement, arguments, false);
}

/*
 * Under REPEATABLE READ the transaction's snapshot may be older than what its statements obey: the
 * triggers of a rollup that was made since fire.  So what is there is what was last committed.
 */
static void
execute_reading(Statement *statement, Arguments *arguments)
{
	prepare(statement, arguments);
	CommandCounterIncrement();
	PushActiveSnapshot(GetLatestSnapshot());
	execute_prepared(statement, arguments, true);
	PopActiveSnapshot();
}

static void
put(Arguments *arguments, Oid type, Datum value, bool is_null)
{
	Assert(arguments->n < MAX_ARGUMENTS);
	arguments->types[arguments->n] = type;
	arguments->values[arguments->n] = is_null ? (Datum) 0 : value;
	arguments->nulls[arguments->n] = is_null ? 'n' : ' ';
	arguments->n++;
}

static void
put_text(Arguments *arguments, const char *value)
{
	put(arguments, TEXTOID, value ? CStringGetTextDatum(value) : (Datum) 0, value == NULL);
}

static void
put_int4(Arguments *arguments, int32 value)
{
	put(arguments, INT4OID, Int32GetDatum(value), false);
}

static void
put_int8(Arguments *arguments, int64 value)
{
	put(arguments, INT8OID, Int64GetDatum(value), false);
}

static void
put_bool(Arguments *arguments, bool value)
{
	put(arguments, BOOLOID, BoolGetDatum(value), false);
}

static void
put_oid(Arguments *arguments, Oid type, Oid value)
{
	put(arguments, type, ObjectIdGetDatum(value), false);
}

static void
put_interval(Arguments *arguments, const Interval *value)
{
	put(arguments, INTERVALOID, PointerGetDatum(value), value == NULL);
}

static void
put_jsonb(Arguments *arguments, const Jsonb *value)
{
	put(arguments, JSONBOID, PointerGetDatum(value), value == NULL);
}

static void
put_names(Arguments *arguments, List *names)
{
	Datum	   *elements = palloc(sizeof(Datum) * Max(list_length(names), 1));
	int			n = 0;
	ListCell   *cell;

	foreach(cell, names)
		elements[n++] = CStringGetTextDatum((char *) lfirst(cell));
	put(arguments, TEXTARRAYOID,
		PointerGetDatum(construct_array(elements, n, TEXTOID, -1, false, TYPALIGN_INT)), false);
}

static void
put_int4s(Arguments *arguments, const int32 *numbers, int n)
{
	Datum	   *elements;
	int			i;

	if (numbers == NULL)
	{
		put(arguments, INT4ARRAYOID, (Datum) 0, true);
		return;
	}
	elements = palloc(sizeof(Datum) * Max(n, 1));
	for (i = 0; i < n; i++)
		elements[i] = Int32GetDatum(numbers[i]);
	put(arguments, INT4ARRAYOID,
		PointerGetDatum(construct_array(elements, n, INT4OID, sizeof(int32), true, TYPALIGN_INT)),
		false);
}

/* an array of n values of a type; nulls may be NULL for none */
static void
put_array(Arguments *arguments, Oid element, Oid array, Datum *values, bool *nulls, int n)
{
	int			dims[1] = {n};
	int			lower[1] = {1};
	int16		length;
	bool		by_value;
	char		align;

	get_typlenbyvalalign(element, &length, &by_value, &align);
	put(arguments, array,
		PointerGetDatum(construct_md_array(values, nulls, 1, dims, lower, element, length,
										   by_value, align)),
		false);
}

static void
reader_start(Reader *reader, uint64 row)
{
	reader->tuple = SPI_tuptable->vals[row];
	reader->desc = SPI_tuptable->tupdesc;
	reader->column = 0;
}

static Datum
next(Reader *reader, bool *is_null)
{
	return SPI_getbinval(reader->tuple, reader->desc, ++reader->column, is_null);
}

static char *
next_text(Reader *reader)
{
	bool		is_null;
	Datum		value = next(reader, &is_null);

	return is_null ? NULL : TextDatumGetCString(value);
}

static Oid
next_oid(Reader *reader)
{
	bool		is_null;
	Datum		value = next(reader, &is_null);

	return is_null ? InvalidOid : DatumGetObjectId(value);
}

static int32
next_int4(Reader *reader)
{
	bool		is_null;
	Datum		value = next(reader, &is_null);

	return is_null ? 0 : DatumGetInt32(value);
}

static int64
next_int8(Reader *reader)
{
	bool		is_null;
	Datum		value = next(reader, &is_null);

	return is_null ? 0 : DatumGetInt64(value);
}

static bool
next_bool(Reader *reader)
{
	bool		is_null;
	Datum		value = next(reader, &is_null);

	return is_null ? false : DatumGetBool(value);
}

static Interval *
next_interval(Reader *reader)
{
	bool		is_null;
	Datum		value = next(reader, &is_null);
	Interval   *copy;

	if (is_null)
		return NULL;
	copy = palloc(sizeof(Interval));
	*copy = *DatumGetIntervalP(value);
	return copy;
}

static Jsonb *
next_jsonb(Reader *reader)
{
	bool		is_null;
	Datum		value = next(reader, &is_null);

	return is_null ? NULL : DatumGetJsonbPCopy(value);
}

static List *
next_texts(Reader *reader)
{
	bool		is_null;
	Datum		value = next(reader, &is_null);
	Datum	   *elements;
	int			n;
	int			i;
	List	   *texts = NIL;

	if (is_null)
		return NIL;
	deconstruct_array(DatumGetArrayTypeP(value), TEXTOID, -1, false, TYPALIGN_INT, &elements, NULL,
					  &n);
	for (i = 0; i < n; i++)
		texts = lappend(texts, TextDatumGetCString(elements[i]));
	return texts;
}

static int32 *
next_int4s(Reader *reader, int *n)
{
	bool		is_null;
	Datum		value = next(reader, &is_null);
	Datum	   *elements;
	int32	   *numbers;
	int			i;

	*n = 0;
	if (is_null)
		return NULL;
	deconstruct_array(DatumGetArrayTypeP(value), INT4OID, sizeof(int32), true, TYPALIGN_INT,
					  &elements, NULL, n);
	numbers = palloc(sizeof(int32) * Max(*n, 1));
	for (i = 0; i < *n; i++)
		numbers[i] = DatumGetInt32(elements[i]);
	return numbers;
}

/* runs a query, as told, and makes a struct of each of its rows, in the caller's memory */
static List *
read_rows(Statement *statement, Arguments *arguments, void *(*read_one) (Reader *),
		  void (*run) (Statement *, Arguments *))
{
	Access		access;
	List	   *found = NIL;
	uint64		row;

	enter(&access);
	run(statement, arguments);
	MemoryContextSwitchTo(access.caller);
	for (row = 0; row < SPI_processed; row++)
	{
		Reader		reader;

		reader_start(&reader, row);
		found = lappend(found, read_one(&reader));
	}
	leave(&access);
	return found;
}

static List *
read_all(Statement *statement, Arguments *arguments, void *(*read_one) (Reader *))
{
	return read_rows(statement, arguments, read_one, execute_reading);
}

static void *
read_first(Statement *statement, Arguments *arguments, void *(*read_one) (Reader *))
{
	List	   *found = read_all(statement, arguments, read_one);

	return found == NIL ? NULL : linitial(found);
}

/* returns the id of the row, for statements that say RETURNING id; else 0 */
static int32
write_one(Statement *statement, Arguments *arguments)
{
	Access		access;
	int32		id = 0;

	enter(&access);
	execute(statement, arguments);
	if (SPI_processed > 0 && SPI_tuptable != NULL)
	{
		Reader		reader;

		reader_start(&reader, 0);
		id = next_int4(&reader);
	}
	leave(&access);
	return id;
}

/* ---------------------------------------------------------------- where we are, and locks */

bool
catalog_extension_exists(void)
{
	return OidIsValid(get_extension_oid("clickstream", true));
}

bool
catalog_is_here(uint64 system_identifier, Oid database)
{
	return system_identifier == GetSystemIdentifier() && database == MyDatabaseId;
}

static void
lock_tag(LOCKTAG *tag, CatalogKind kind, int32 id)
{
	static const char *const tables[] = {"sources", "rollups", "sinks"};

	SET_LOCKTAG_OBJECT(*tag, MyDatabaseId, owned_relation(tables[kind]), (uint32) id, 0);
}

void
catalog_lock(CatalogKind kind, int32 id, LOCKMODE mode)
{
	LOCKTAG		tag;

	lock_tag(&tag, kind, id);
	(void) LockAcquire(&tag, mode, false, false);
}

bool
catalog_lock_if_free(CatalogKind kind, int32 id, LOCKMODE mode)
{
	LOCKTAG		tag;

	lock_tag(&tag, kind, id);
	return LockAcquire(&tag, mode, false, true) != LOCKACQUIRE_NOT_AVAIL;
}

/* ---------------------------------------------------------------- sources */

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
	return read_first(&statement, &arguments, read_source);
}

Source *
catalog_source_by_id(int32 id)
{
	static Statement statement = {SOURCE_SELECT "WHERE id = $1"};
	Arguments	arguments = {0};

	put_int4(&arguments, id);
	return read_first(&statement, &arguments, read_source);
}

List *
catalog_sources(void)
{
	static Statement statement = {SOURCE_SELECT "ORDER BY id"};
	Arguments	arguments = {0};

	return read_all(&statement, &arguments, read_source);
}

List *
catalog_sources_of_target(Oid target)
{
	static Statement statement = {SOURCE_SELECT "WHERE target = $1 ORDER BY id"};
	Arguments	arguments = {0};

	put_oid(&arguments, REGCLASSOID, target);
	return read_all(&statement, &arguments, read_source);
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
	return write_one(&statement, &arguments);
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
	(void) write_one(&statement, &arguments);
}

void
catalog_source_delete(int32 id)
{
	static Statement statement = {
		"WITH gone AS (DELETE FROM clickstream.sources WHERE id = $1 RETURNING source) "
	"DELETE FROM clickstream.dead_letters l USING gone WHERE l.source = gone.source"};
	Arguments	arguments = {0};

	put_int4(&arguments, id);
	(void) write_one(&statement, &arguments);
}

/* ---------------------------------------------------------------- offsets and gaps */

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
	return read_all(&statement, &arguments, read_offset);
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
	put(&arguments, TIMESTAMPTZOID, TimestampTzGetDatum(offset->last_timestamp),
		offset->last_timestamp == 0);
	put(&arguments, INT8OID, Int64GetDatum(offset->last_hash), offset->last_timestamp == 0);
	execute(&statement, &arguments);
}

void
catalog_offsets_save(const char *source, List *offsets)
{
	Access		access;
	ListCell   *cell;

	enter(&access);
	foreach(cell, offsets)
	{
		SourceOffset *offset = lfirst(cell);

		if (!offset->changed)
			continue;
		save_offset(source, offset);
		offset->changed = false;
	}
	leave(&access);
}

void
catalog_offsets_delete(const char *source)
{
	static Statement statement = {"DELETE FROM clickstream.offsets WHERE source = $1"};
	Arguments	arguments = {0};

	put_text(&arguments, source);
	(void) write_one(&statement, &arguments);
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
	(void) write_one(&statement, &arguments);
}

/* ---------------------------------------------------------------- dead letters */

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
	execute(&statement, &arguments);
}

/* how many of the next letters make one portion: at least one */
static int
letters_at_once(const DeadLetter *letters, int n)
{
	size_t		bytes = 0;
	int			count;

	for (count = 0; count < n && count < LETTERS_AT_ONCE; count++)
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
	enter(&access);
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
	leave(&access);
}

static const char *
next_bytes(Reader *reader, size_t *length)
{
	bool		is_null;
	Datum		value = next(reader, &is_null);
	bytea	   *bytes;

	*length = 0;
	if (is_null)
		return NULL;
	bytes = DatumGetByteaPCopy(value);
	*length = VARSIZE_ANY_EXHDR(bytes);
	return VARDATA_ANY(bytes);
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

List *
catalog_dead_letters_lock(const char *source, int64 after_id)
{
	static Statement statement = {
		"SELECT d.id, d.topic, d.partition, d.\"offset\", d.\"timestamp\", d.key, d.value, d.headers "
		"FROM clickstream.dead_letters d JOIN ("
		"SELECT id, sum(bytes) OVER (ORDER BY id) - bytes AS bytes_before FROM ("
		"SELECT id, coalesce(octet_length(value), 0) AS bytes FROM clickstream.dead_letters "
		"WHERE source = $1 AND id > $2 ORDER BY id LIMIT $3) portion) p USING (id) "
		"WHERE p.bytes_before < $4 ORDER BY d.id FOR UPDATE OF d"};
	Arguments	arguments = {0};

	put_text(&arguments, source);
	put_int8(&arguments, after_id);
	put_int4(&arguments, LETTERS_AT_ONCE);
	put_int4(&arguments, LETTER_BYTES_AT_ONCE);
	return read_rows(&statement, &arguments, read_letter, execute);
}

void
catalog_dead_letters_delete(const int64 *ids, int n)
{
	static Statement statement = {"DELETE FROM clickstream.dead_letters WHERE id = ANY ($1)"};
	Arguments	arguments = {0};
	Datum	   *elements = palloc(sizeof(Datum) * Max(n, 1));

	for (int i = 0; i < n; i++)
		elements[i] = Int64GetDatum(ids[i]);
	put_array(&arguments, INT8OID, INT8ARRAYOID, elements, NULL, n);
	(void) write_one(&statement, &arguments);
}

void
catalog_dead_letter_fault(int64 id, int sqlstate, const char *error)
{
	static Statement statement = {"UPDATE clickstream.dead_letters SET sqlstate = $2, error = $3 WHERE id = $1"};
	Arguments	arguments = {0};

	put_int8(&arguments, id);
	put_text(&arguments, unpack_sql_state(sqlstate));
	put_text(&arguments, error);
	(void) write_one(&statement, &arguments);
}

/* ---------------------------------------------------------------- rollups */

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
	return read_first(&statement, &arguments, read_rollup);
}

List *
catalog_rollups_of_target(Oid target)
{
	static Statement statement = {ROLLUP_SELECT "WHERE target = $1 ORDER BY id"};
	Arguments	arguments = {0};

	put_oid(&arguments, REGCLASSOID, target);
	return read_all(&statement, &arguments, read_rollup);
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
	return write_one(&statement, &arguments);
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
	(void) write_one(&statement, &arguments);
}

void
catalog_rollup_delete(int32 id)
{
	static Statement statement = {"DELETE FROM clickstream.rollups WHERE id = $1"};
	Arguments	arguments = {0};

	put_int4(&arguments, id);
	(void) write_one(&statement, &arguments);
}

/* ---------------------------------------------------------------- sinks */

#define SINK_SELECT \
	"SELECT id, sink, owner::oid, server, relation::oid, index, id_columns::text[], columns, " \
	"bulk_bytes, bulk_wait, slot::text, publication::text, phase, physical_index, " \
	"consistent_point, enabled, paused_because, system_identifier, database " \
	"FROM clickstream.sinks "

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
	sink->id_columns = next_texts(reader);
	sink->columns = next_jsonb(reader);
	sink->bulk_bytes = next_int4(reader);
	sink->bulk_wait = next_interval(reader);
	sink->slot = next_text(reader);
	sink->publication = next_text(reader);
	sink->phase = next_text(reader);
	sink->physical_index = next_text(reader);
	sink->consistent_point = (XLogRecPtr) next_int8(reader);
	sink->enabled = next_bool(reader);
	sink->paused_because = next_text(reader);
	sink->system_identifier = (uint64) next_int8(reader);
	sink->database = next_oid(reader);
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
	put(arguments, PG_LSNOID, LSNGetDatum(sink->consistent_point),
		XLogRecPtrIsInvalid(sink->consistent_point));
	put_bool(arguments, sink->enabled);
	put_text(arguments, sink->paused_because);
	put_int8(arguments, (int64) sink->system_identifier);
	put_oid(arguments, OIDOID, sink->database);
}

Sink *
catalog_sink_by_name(const char *name)
{
	static Statement statement = {SINK_SELECT "WHERE sink = $1"};
	Arguments	arguments = {0};

	put_text(&arguments, name);
	return read_first(&statement, &arguments, read_sink);
}

Sink *
catalog_sink_by_id(int32 id)
{
	static Statement statement = {SINK_SELECT "WHERE id = $1"};
	Arguments	arguments = {0};

	put_int4(&arguments, id);
	return read_first(&statement, &arguments, read_sink);
}

List *
catalog_sinks(void)
{
	static Statement statement = {SINK_SELECT "ORDER BY id"};
	Arguments	arguments = {0};

	return read_all(&statement, &arguments, read_sink);
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
		"consistent_point, enabled, paused_because, system_identifier, database) "
		"SELECT n.id, $1, $2, $3, $4, $5, $6::name[], coalesce($7, '{}'), $8, $9, "
		"coalesce($10, 'clickstream_' || $18 || '_' || n.id), "
		"coalesce($11, 'clickstream_' || $18 || '_' || n.id), "
		"coalesce($12, 'new'), $13, $14, $15, $16, $17, $18 "
		"FROM nextval('clickstream.sinks_id_seq') n(id) RETURNING id"};
	Arguments	arguments = {0};

	put_text(&arguments, sink->name);
	put_sink(&arguments, sink);
	return write_one(&statement, &arguments);
}

void
catalog_sink_update(const Sink *sink)
{
	static Statement statement = {
		"UPDATE clickstream.sinks SET owner = $2, server = $3, relation = $4, index = $5, "
		"id_columns = $6::name[], columns = coalesce($7, '{}'), bulk_bytes = $8, bulk_wait = $9, "
		"slot = $10, publication = $11, phase = $12, physical_index = $13, "
		"consistent_point = $14, enabled = $15, paused_because = $16, system_identifier = $17, "
	"database = $18 WHERE id = $1"};
	Arguments	arguments = {0};

	put_int4(&arguments, sink->id);
	put_sink(&arguments, sink);
	(void) write_one(&statement, &arguments);
}

void
catalog_sink_delete(int32 id)
{
	static Statement statement = {"DELETE FROM clickstream.sinks WHERE id = $1"};
	Arguments	arguments = {0};

	put_int4(&arguments, id);
	(void) write_one(&statement, &arguments);
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
	"reason = excluded.reason, arrived_at = excluded.arrived_at"};
	Arguments	arguments = {0};

	put_text(&arguments, sink);
	put_text(&arguments, document_id);
	put_int8(&arguments, version);
	put_text(&arguments, document);
	put_int4(&arguments, status);
	put_text(&arguments, type);
	put_text(&arguments, reason);
	(void) write_one(&statement, &arguments);
}
