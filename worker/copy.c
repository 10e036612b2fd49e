/*
 * copy.c
 *		Rows read from the table itself, in the text forms that logical decoding gives.
 *
 * Owns the queries on a sink's table.  Sends nothing, and decides nothing about order: the caller
 * holds the snapshot.  Called by sink_main.c, inside a transaction as the owner of the sink.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "catalog/pg_class.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "compat.h"
#include "copy.h"
#include "row_values.h"
#include "sink_api.h"
#include "statement.h"

#define ROWS_AT_ONCE 1000
#define RESET_BYTES ((Size) 64 * 1024)

/* how a result row becomes texts */
typedef struct RowReader
{
	int			n;
	FmgrInfo   *outputs;
	Datum	   *datums;
	bool	   *nulls;
	ColumnValue *values;
	const RelationDescription *relation;
	MemoryContext context;		/* texts of one portion of rows */
	Size		bytes;			/* of the rows in that portion */
} RowReader;

/* ---------------------------------------------------------------- the relation */

RelationDescription *
copy_describe(Oid relation_id)
{
	RelationDescription *description = palloc0(sizeof(RelationDescription));
	Relation	relation = try_relation_open(relation_id, AccessShareLock);

	if (relation == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("the table of the sink has been dropped"),
				 errhint("Drop the sink, too: clickstream.drop_sink.")));
	row_describe(description, relation_id, RelationGetDescr(relation));
	relation_close(relation, NoLock);
	return description;
}

bool
copy_has_deferrable_key(Oid relation_id)
{
	Relation	relation = try_relation_open(relation_id, AccessShareLock);
	bool		deferrable = false;
	ListCell   *cell;

	if (relation == NULL)
		return false;
	foreach(cell, RelationGetIndexList(relation))
	{
		Relation	index = index_open(lfirst_oid(cell), AccessShareLock);

		deferrable |= index->rd_index->indisunique && !index->rd_index->indimmediate;
		index_close(index, AccessShareLock);
	}
	relation_close(relation, NoLock);
	return deferrable;
}

char *
copy_filter(const Sink *sink)
{
	return sink_filter_published(sink);
}

/* SELECT its columns FROM it, without children that are tables of their own, WHERE the filter holds */
static void
append_query(StringInfo sql, const RelationDescription *relation, const char *filter)
{
	int			i;

	appendStringInfoString(sql, "SELECT ");
	for (i = 0; i < relation->n_columns; i++)
		appendStringInfo(sql, "%s%s", i > 0 ? ", " : "", quote_identifier(relation->columns[i].name));
	appendStringInfo(sql, " FROM %s%s",
					 get_rel_relkind(relation->relation) == RELKIND_RELATION ? "ONLY " : "",
					 qualified_name(relation->relation));
	appendStringInfo(sql, " WHERE (%s)", filter ? filter : "true");
}

/* ---------------------------------------------------------------- rows */

static void
reader_init(RowReader *reader, const RelationDescription *relation)
{
	int			i;

	reader->relation = relation;
	reader->bytes = 0;
	reader->n = relation->n_columns;
	reader->outputs = palloc0(sizeof(FmgrInfo) * Max(reader->n, 1));
	reader->datums = palloc(sizeof(Datum) * Max(reader->n, 1));
	reader->nulls = palloc(sizeof(bool) * Max(reader->n, 1));
	reader->values = palloc0(sizeof(ColumnValue) * Max(reader->n, 1));
	reader->context = AllocSetContextCreate(CurrentMemoryContext, "copied rows",
											ALLOCSET_DEFAULT_SIZES);
	for (i = 0; i < reader->n; i++)
	{
		Oid			output;
		bool		is_varlena;

		getTypeOutputInfo(relation->columns[i].type, &output, &is_varlena);
		fmgr_info(output, &reader->outputs[i]);
	}
}

/* the values of a row, or of one that is too large those that are small */
static bool
read_row(RowReader *reader, HeapTuple tuple, TupleDesc desc)
{
	int			i;

	reader->bytes += row_size(tuple, desc, true);
	if (row_size(tuple, desc, true) > LARGEST_ROW)
	{
		(void) row_values(reader->relation, tuple, desc, reader->values);
		return false;
	}
	heap_deform_tuple(tuple, desc, reader->datums, reader->nulls);
	for (i = 0; i < reader->n; i++)
	{
		char	   *text;

		reader->values[i].text = NULL;
		reader->values[i].length = 0;
		if (reader->nulls[i])
			continue;
		text = OutputFunctionCall(&reader->outputs[i], reader->datums[i]);
		reader->values[i].text = text;
		reader->values[i].length = strlen(text);
	}
	return true;
}

static void
give_rows(RowReader *reader, CopyRow row, void *arg)
{
	MemoryContext old = MemoryContextSwitchTo(reader->context);
	uint64		i;

	for (i = 0; i < SPI_processed; i++)
	{
		bool		fits = read_row(reader, SPI_tuptable->vals[i], SPI_tuptable->tupdesc);

		row(arg, reader->values, fits);
		if (reader->bytes < RESET_BYTES)
			continue;
		MemoryContextReset(reader->context);
		reader->bytes = 0;
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(reader->context);
}

/* inside an SPI connection; the query gives the relation's columns */
static void
copy_query(const RelationDescription *relation, const char *query, CopyRow row, void *arg)
{
	RowReader	reader;
	SPIPlanPtr	plan;
	Portal		portal;

	reader_init(&reader, relation);
	plan = SPI_prepare_cursor(query, 0, NULL, CURSOR_OPT_NO_SCROLL);
	if (plan == NULL)
		elog(ERROR, "could not prepare \"%s\"", query);
	portal = SPI_cursor_open(NULL, plan, NULL, NULL, true);
	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		SPI_cursor_fetch(portal, true, ROWS_AT_ONCE);
		if (SPI_processed == 0)
			break;
		give_rows(&reader, row, arg);
		SPI_freetuptable(SPI_tuptable);
	}
	SPI_cursor_close(portal);
}

void
copy_table(const RelationDescription *relation, const char *filter, CopyRow row, void *arg)
{
	StringInfoData sql;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	initStringInfo(&sql);
	append_query(&sql, relation, filter);
	copy_query(relation, sql.data, row, arg);
	SPI_finish();
}

/* A partition's own owner need not let the sink's read it but through its table. */
void
copy_blocks(const RelationDescription *relation, Oid leaf, int64 from, int64 to, const char *filter,
			CopyRow row, void *arg)
{
	bool		directly = pg_class_aclcheck(leaf, GetUserId(), ACL_SELECT) == ACLCHECK_OK;
	RelationDescription read = *relation;
	StringInfoData sql;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (directly)
		read.relation = leaf;
	initStringInfo(&sql);
	append_query(&sql, &read, filter);
	if (!directly)
		appendStringInfo(&sql, " AND tableoid = %u", leaf);
	if (from >= 0)
		appendStringInfo(&sql, " AND ctid >= '(" INT64_FORMAT ",0)' AND ctid < '(" INT64_FORMAT ",0)'", from, to);
	copy_query(relation, sql.data, row, arg);
	SPI_finish();
}

void
copy_by_id(const RelationDescription *relation, const char *filter, const int *columns, int n,
		   char *const *texts, CopyRow row, void *arg)
{
	StringInfoData sql;
	RowReader	reader;
	Oid		   *types = palloc(sizeof(Oid) * n);
	Datum	   *values = palloc(sizeof(Datum) * n);
	char	   *nulls = palloc(n);
	int			i;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	initStringInfo(&sql);
	append_query(&sql, relation, filter);
	for (i = 0; i < n; i++)
	{
		const ColumnDescription *column = &relation->columns[columns[i]];
		Oid			input;
		Oid			io_parameter;

		appendStringInfo(&sql, texts[i] ? " AND %s = $%d" : " AND %s IS NULL AND $%d IS NULL",
						 quote_identifier(column->name), i + 1);
		types[i] = column->type;
		nulls[i] = texts[i] ? ' ' : 'n';
		values[i] = (Datum) 0;
		if (texts[i] == NULL)
			continue;
		getTypeInputInfo(column->type, &input, &io_parameter);
		values[i] = OidInputFunctionCall(input, texts[i], io_parameter, column->typmod);
	}
	if (SPI_execute_with_args(sql.data, n, types, values, nulls, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read rows of the sink's table");
	reader_init(&reader, relation);
	give_rows(&reader, row, arg);
	SPI_finish();
}
