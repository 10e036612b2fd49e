/*
 * row_values.c
 *		What a sink sees of a table: which columns are published, and a stored row as texts, without the
 *		values that are too large for any document.
 *
 * The output plugin writes a whole row into one buffer, and an error there would come back with every
 * try.  So a row beyond LARGEST_ROW is read here instead: its small columns, among them the document's
 * _id, are enough to say which row it is.  Called by changes.c for rows of the log.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/htup_details.h"
#include "fmgr.h"
#include "utils/lsyscache.h"

#include "compat.h"
#include "row_values.h"

void
row_describe(RelationDescription *relation, Oid id, TupleDesc desc)
{
	relation->relation = id;
	relation->n_columns = 0;
	relation->columns = palloc0(sizeof(ColumnDescription) * Max(desc->natts, 1));
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);
		ColumnDescription *column = &relation->columns[relation->n_columns];

		if (attribute->attisdropped || !compat_is_published(attribute))
			continue;
		column->name = pstrdup(NameStr(attribute->attname));
		column->type = attribute->atttypid;
		column->typmod = attribute->atttypmod;
		relation->n_columns++;
	}
}

static bool
is_untouched(Form_pg_attribute attribute, Datum value)
{
	return attribute->attlen == -1 && VARATT_IS_EXTERNAL_ONDISK(DatumGetPointer(value));
}

static Size
value_size(Form_pg_attribute attribute, Datum value)
{
	return attribute->attlen == -1 ? toast_raw_datum_size(value) : 0;
}

Size
row_size(HeapTuple tuple, TupleDesc desc, bool count_stored)
{
	Datum	   *datums;
	bool	   *nulls;
	Size		size = tuple->t_len;
	int			i;

	if (!HeapTupleHasExternal(tuple))
		return size;
	datums = palloc(sizeof(Datum) * desc->natts);
	nulls = palloc(sizeof(bool) * desc->natts);
	heap_deform_tuple(tuple, desc, datums, nulls);
	for (i = 0; i < desc->natts; i++)
		if (!nulls[i] && (count_stored || !is_untouched(TupleDescAttr(desc, i), datums[i])))
			size += value_size(TupleDescAttr(desc, i), datums[i]);
	pfree(datums);
	pfree(nulls);
	return size;
}

static int
column_of(TupleDesc desc, const char *name)
{
	int			i;

	for (i = 0; i < desc->natts; i++)
		if (!TupleDescAttr(desc, i)->attisdropped &&
			strcmp(NameStr(TupleDescAttr(desc, i)->attname), name) == 0)
			return i;
	return -1;
}

static void
put_text(ColumnValue *value, Oid type, Datum datum)
{
	Oid			output;
	bool		is_varlena;

	getTypeOutputInfo(type, &output, &is_varlena);
	value->text = OidOutputFunctionCall(output, datum);
	value->length = strlen(value->text);
}

bool
row_values(const RelationDescription *relation, HeapTuple tuple, TupleDesc desc,
		   ColumnValue *values)
{
	Datum	   *datums = palloc(sizeof(Datum) * desc->natts);
	bool	   *nulls = palloc(sizeof(bool) * desc->natts);
	Size		size = 0;
	bool		fits = true;
	int			i;

	heap_deform_tuple(tuple, desc, datums, nulls);
	memset(values, 0, sizeof(ColumnValue) * relation->n_columns);
	for (i = 0; i < relation->n_columns; i++)
	{
		int			column = column_of(desc, relation->columns[i].name);
		Form_pg_attribute attribute;

		if (column < 0 || nulls[column])
			continue;
		attribute = TupleDescAttr(desc, column);
		values[i].untouched = is_untouched(attribute, datums[column]);
		if (values[i].untouched)
			continue;
		if (size + value_size(attribute, datums[column]) > LARGEST_ROW)
		{
			values[i].untouched = true;
			fits = false;
			continue;
		}
		size += value_size(attribute, datums[column]);
		put_text(&values[i], relation->columns[i].type, datums[column]);
	}
	return fits;
}
