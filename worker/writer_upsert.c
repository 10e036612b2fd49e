/*
 * writer_upsert.c
 *		Rows that replace those with the same key: on_conflict => 'update'.
 *
 * Owns the one statement that does it: INSERT … ON CONFLICT DO UPDATE over all such rows of a batch, the
 * last of each key alone, in the order of the keys, so that two workers cannot deadlock.  The executor
 * fires the triggers, and with them the rollups take what was there and what is there now.  Rows whose key
 * is not taken never come here: they are written as any others.  Called by writer.c and writer_careful.c.
 *
 * The row becomes what the record says: all columns are set, but for the key, and for those that draw
 * from a sequence (identity and serial columns keep their number).
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "catalog/index.h"
#include "catalog/partition.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "nodes/nodeFuncs.h"
#include "rewrite/rewriteHandler.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/tuplestore.h"

#include "source_api.h"
#include "statement.h"
#include "writer_internal.h"

/* under which the statement sees the rows */
#define ROWS "clickstream_rows"

struct Upsert
{
	Relation	target;
	Oid			key;			/* the index */
	int			n_keys;
	AttrNumber	keys[INDEX_MAX_KEYS];
	bool		nulls_differ;
	int			n_columns;
	AttrNumber *columns;		/* of the target, all but those that are generated */
	TupleDesc	desc;			/* c1, c2, … and the row's number */
	Datum	   *values;
	bool	   *nulls;
	Tuplestorestate *rows;		/* that wait for the end of the batch */
	int64		n;
};

/* ---------------------------------------------------------------- the key */

static void
take_key(Upsert *upsert, Relation index)
{
	upsert->key = RelationGetRelid(index);
	upsert->n_keys = IndexRelationGetNumberOfKeyAttributes(index);
	for (int i = 0; i < upsert->n_keys; i++)
		upsert->keys[i] = index->rd_index->indkey.values[i];
	upsert->nulls_differ = !index->rd_index->indnullsnotdistinct;
}

static void
find_key(Upsert *upsert)
{
	int			n = 0;
	ListCell   *cell;

	foreach(cell, RelationGetIndexList(upsert->target))
	{
		Relation	index = index_open(lfirst_oid(cell), AccessShareLock);

		if (source_is_conflict_key(index))
		{
			take_key(upsert, index);
			n++;
		}
		index_close(index, NoLock);
	}
	if (n != 1)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("on_conflict => 'update' needs one unique key, and \"%s\" has %d",
						RelationGetRelationName(upsert->target), n),
				 errhint("Keep one PRIMARY KEY or UNIQUE constraint, or alter on_conflict.")));
}

bool
upsert_is_key(const Upsert *upsert, Oid index)
{
	while (index != upsert->key && get_rel_relispartition(index))
		index = get_partition_parent(index, false);
	return index == upsert->key;
}

static bool
is_in_key(const Upsert *upsert, AttrNumber column)
{
	for (int i = 0; i < upsert->n_keys; i++)
		if (upsert->keys[i] == column)
			return true;
	return false;
}

/* ---------------------------------------------------------------- rows that wait */

static void
describe_rows(Upsert *upsert)
{
	TupleDesc	target = RelationGetDescr(upsert->target);

	upsert->columns = palloc(sizeof(AttrNumber) * Max(target->natts, 1));
	for (int i = 0; i < target->natts; i++)
		if (!TupleDescAttr(target, i)->attisdropped && !TupleDescAttr(target, i)->attgenerated)
			upsert->columns[upsert->n_columns++] = i + 1;
	upsert->desc = CreateTemplateTupleDesc(upsert->n_columns + 1);
	for (int i = 0; i < upsert->n_columns; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(target, upsert->columns[i] - 1);

		TupleDescInitEntry(upsert->desc, i + 1, psprintf("c%d", attribute->attnum),
						   attribute->atttypid, attribute->atttypmod, 0);
		TupleDescInitEntryCollation(upsert->desc, i + 1, attribute->attcollation);
	}
	TupleDescInitEntry(upsert->desc, upsert->n_columns + 1, "n", INT8OID, -1, 0);
	upsert->values = palloc(sizeof(Datum) * (upsert->n_columns + 1));
	upsert->nulls = palloc0(sizeof(bool) * (upsert->n_columns + 1));
}

Upsert *
upsert_open(Relation target)
{
	Upsert	   *upsert = palloc0(sizeof(Upsert));

	upsert->target = target;
	find_key(upsert);
	describe_rows(upsert);
	return upsert;
}

/* forgets rows of a savepoint that failed */
void
upsert_begin(Upsert *upsert)
{
	upsert->rows = tuplestore_begin_heap(false, false, WAITING_ROWS_KB);
}

/* `row` is laid out as the target */
void
upsert_add(Upsert *upsert, TupleTableSlot *row)
{
	slot_getallattrs(row);
	for (int i = 0; i < upsert->n_columns; i++)
	{
		upsert->values[i] = row->tts_values[upsert->columns[i] - 1];
		upsert->nulls[i] = row->tts_isnull[upsert->columns[i] - 1];
	}
	upsert->values[upsert->n_columns] = Int64GetDatum(upsert->n++);
	tuplestore_putvalues(upsert->rows, upsert->desc, upsert->values, upsert->nulls);
}

/* ---------------------------------------------------------------- the statement */

static bool
draws_number(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, NextValueExpr) ||
		(IsA(node, FuncExpr) && ((FuncExpr *) node)->funcid == F_NEXTVAL))
		return true;
	return expression_tree_walker(node, draws_number, context);
}

static bool
is_set(const Upsert *upsert, AttrNumber column)
{
	return !is_in_key(upsert, column) &&
		!TupleDescAttr(RelationGetDescr(upsert->target), column - 1)->attidentity &&
		!draws_number(build_column_default(upsert->target, column), NULL);
}

static const char *
name_of(const Upsert *upsert, AttrNumber column)
{
	return quote_identifier(NameStr(TupleDescAttr(RelationGetDescr(upsert->target),
												  column - 1)->attname));
}

/* the last row of each key; rows with a NULL in it stand in nobody's way */
static void
append_last_of_each(StringInfo sql, const Upsert *upsert)
{
	StringInfoData key;

	initStringInfo(&key);
	for (int i = 0; i < upsert->n_keys; i++)
		appendStringInfo(&key, "c%d, ", upsert->keys[i]);
	appendStringInfoString(&key, "CASE WHEN false");
	for (int i = 0; i < upsert->n_keys && upsert->nulls_differ; i++)
		appendStringInfo(&key, " OR c%d IS NULL", upsert->keys[i]);
	appendStringInfoString(&key, " THEN n END");
	appendStringInfo(sql, "(SELECT DISTINCT ON (%s) * FROM " ROWS " ORDER BY %s, n DESC) r", key.data,
					 key.data);
}

static void
append_update(StringInfo sql, const Upsert *upsert)
{
	const char *comma = "";

	appendStringInfoString(sql, " ON CONFLICT (");
	for (int i = 0; i < upsert->n_keys; i++)
		appendStringInfo(sql, "%s%s", i > 0 ? ", " : "", name_of(upsert, upsert->keys[i]));
	appendStringInfoString(sql, ") DO ");
	for (int i = 0; i < upsert->n_columns; i++)
	{
		const char *name = name_of(upsert, upsert->columns[i]);

		if (!is_set(upsert, upsert->columns[i]))
			continue;
		appendStringInfo(sql, "%s%s = excluded.%s", *comma ? comma : "UPDATE SET ", name, name);
		comma = ", ";
	}
	if (!*comma)
		appendStringInfoString(sql, "NOTHING");
}

static char *
statement_text(const Upsert *upsert)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "INSERT INTO %s (", qualified_name(RelationGetRelid(upsert->target)));
	for (int i = 0; i < upsert->n_columns; i++)
		appendStringInfo(&sql, "%s%s", i > 0 ? ", " : "", name_of(upsert, upsert->columns[i]));
	appendStringInfoString(&sql, ") OVERRIDING SYSTEM VALUE SELECT ");
	for (int i = 0; i < upsert->n_columns; i++)
		appendStringInfo(&sql, "%sc%d", i > 0 ? ", " : "", upsert->columns[i]);
	appendStringInfoString(&sql, " FROM ");
	append_last_of_each(&sql, upsert);
	append_update(&sql, upsert);
	return sql.data;
}

static void
execute(const Upsert *upsert)
{
	char	   *sql;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	sql = statement_text(upsert);
	show_rows(ROWS, upsert->rows, upsert->desc);
	if (SPI_execute(sql, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "could not execute \"%s\"", sql);
	SPI_finish();
}

void
upsert_run(Upsert *upsert)
{
	if (tuplestore_tuple_count(upsert->rows) > 0)
		execute(upsert);
	tuplestore_end(upsert->rows);
	upsert->rows = NULL;
}
