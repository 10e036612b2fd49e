/*
 * catalog_values.c
 *		Values of C as arguments of a statement, and columns of its rows as values of C.
 *
 * Owns the way there and back for each type that the extension's tables have; knows none of them.
 * Called by catalog_sources.c and its neighbours.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "catalog_internal.h"

void
put_value(Arguments *arguments, Oid type, Datum value, bool is_null)
{
	Assert(arguments->n < MAX_ARGUMENTS);
	arguments->types[arguments->n] = type;
	arguments->values[arguments->n] = is_null ? (Datum) 0 : value;
	arguments->nulls[arguments->n] = is_null ? 'n' : ' ';
	arguments->n++;
}

void
put_text(Arguments *arguments, const char *value)
{
	put_value(arguments, TEXTOID, value ? CStringGetTextDatum(value) : (Datum) 0, value == NULL);
}

void
put_int4(Arguments *arguments, int32 value)
{
	put_value(arguments, INT4OID, Int32GetDatum(value), false);
}

void
put_int8(Arguments *arguments, int64 value)
{
	put_value(arguments, INT8OID, Int64GetDatum(value), false);
}

void
put_bool(Arguments *arguments, bool value)
{
	put_value(arguments, BOOLOID, BoolGetDatum(value), false);
}

void
put_oid(Arguments *arguments, Oid type, Oid value)
{
	put_value(arguments, type, ObjectIdGetDatum(value), false);
}

void
put_interval(Arguments *arguments, const Interval *value)
{
	put_value(arguments, INTERVALOID, PointerGetDatum(value), value == NULL);
}

void
put_jsonb(Arguments *arguments, const Jsonb *value)
{
	put_value(arguments, JSONBOID, PointerGetDatum(value), value == NULL);
}

void
put_names(Arguments *arguments, List *names)
{
	Datum	   *elements = palloc(sizeof(Datum) * Max(list_length(names), 1));
	int			n = 0;
	ListCell   *cell;

	foreach(cell, names)
		elements[n++] = CStringGetTextDatum((char *) lfirst(cell));
	put_value(arguments, TEXTARRAYOID,
		PointerGetDatum(construct_array(elements, n, TEXTOID, -1, false, TYPALIGN_INT)), false);
}

void
put_int4s(Arguments *arguments, const int32 *numbers, int n)
{
	Datum	   *elements;
	int			i;

	if (numbers == NULL)
	{
		put_value(arguments, INT4ARRAYOID, (Datum) 0, true);
		return;
	}
	elements = palloc(sizeof(Datum) * Max(n, 1));
	for (i = 0; i < n; i++)
		elements[i] = Int32GetDatum(numbers[i]);
	put_value(arguments, INT4ARRAYOID,
		PointerGetDatum(construct_array(elements, n, INT4OID, sizeof(int32), true, TYPALIGN_INT)),
		false);
}

/* an array of n values of a type; nulls may be NULL for none */
void
put_array(Arguments *arguments, Oid element, Oid array, Datum *values, bool *nulls, int n)
{
	int			dims[1] = {n};
	int			lower[1] = {1};
	int16		length;
	bool		by_value;
	char		align;

	get_typlenbyvalalign(element, &length, &by_value, &align);
	put_value(arguments, array,
		PointerGetDatum(construct_md_array(values, nulls, 1, dims, lower, element, length,
										   by_value, align)),
		false);
}

void
reader_start(Reader *reader, uint64 row)
{
	reader->tuple = SPI_tuptable->vals[row];
	reader->desc = SPI_tuptable->tupdesc;
	reader->column = 0;
}

Datum
next_value(Reader *reader, bool *is_null)
{
	return SPI_getbinval(reader->tuple, reader->desc, ++reader->column, is_null);
}

char *
next_text(Reader *reader)
{
	bool		is_null;
	Datum		value = next_value(reader, &is_null);

	return is_null ? NULL : TextDatumGetCString(value);
}

Oid
next_oid(Reader *reader)
{
	bool		is_null;
	Datum		value = next_value(reader, &is_null);

	return is_null ? InvalidOid : DatumGetObjectId(value);
}

int32
next_int4(Reader *reader)
{
	bool		is_null;
	Datum		value = next_value(reader, &is_null);

	return is_null ? 0 : DatumGetInt32(value);
}

int64
next_int8(Reader *reader)
{
	bool		is_null;
	Datum		value = next_value(reader, &is_null);

	return is_null ? 0 : DatumGetInt64(value);
}

bool
next_bool(Reader *reader)
{
	bool		is_null;
	Datum		value = next_value(reader, &is_null);

	return is_null ? false : DatumGetBool(value);
}

Interval *
next_interval(Reader *reader)
{
	bool		is_null;
	Datum		value = next_value(reader, &is_null);
	Interval   *copy;

	if (is_null)
		return NULL;
	copy = palloc(sizeof(Interval));
	*copy = *DatumGetIntervalP(value);
	return copy;
}

Jsonb *
next_jsonb(Reader *reader)
{
	bool		is_null;
	Datum		value = next_value(reader, &is_null);

	return is_null ? NULL : DatumGetJsonbPCopy(value);
}

List *
next_texts(Reader *reader)
{
	bool		is_null;
	Datum		value = next_value(reader, &is_null);
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

int32 *
next_int4s(Reader *reader, int *n)
{
	bool		is_null;
	Datum		value = next_value(reader, &is_null);
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
