/*
 * portable.c
 *		Values of any type as bytes that mean the same in every session, and after a dump and its restore.
 *
 * Called by the aggregates of this extension, whose states hold values and are kept in the tables of
 * rollups.  A type's binary send function will not do for that: it writes text in the client's encoding
 * and, within arrays and records, the OIDs of this database.  So a value goes as its type's output
 * function writes it, but for numbers and text, which are the most frequent, and simple.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "libpq/pqformat.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "portable.h"

static PortableForm
form_of(Oid type, bool by_value)
{
	if (by_value && type < FirstGenbkiObjectId)
		return PORTABLE_NUMBER;
	if (type == TEXTOID || type == VARCHAROID || type == BYTEAOID)
		return PORTABLE_BYTES;
	return PORTABLE_TEXT;
}

void
portable_set_up(PortableType *type, Oid oid)
{
	TypeCacheEntry *cached = lookup_type_cache(getBaseType(oid),
											   TYPECACHE_CMP_PROC_FINFO | TYPECACHE_HASH_PROC_FINFO |
											   TYPECACHE_EQ_OPR_FINFO);
	Oid			function;
	bool		is_varlena;

	type->type = oid;
	get_typlenbyval(oid, &type->length, &type->by_value);
	type->form = form_of(oid, type->by_value);
	getTypeOutputInfo(oid, &function, &is_varlena);
	fmgr_info(function, &type->output);
	getTypeInputInfo(oid, &function, &type->input_parameter);
	fmgr_info(function, &type->input);
	type->order = OidIsValid(cached->cmp_proc_finfo.fn_oid) ? &cached->cmp_proc_finfo : NULL;
	type->equal = OidIsValid(cached->eq_opr_finfo.fn_oid) ? &cached->eq_opr_finfo : NULL;
	type->hash = type->equal != NULL && OidIsValid(cached->hash_proc_finfo.fn_oid) ?
		&cached->hash_proc_finfo : NULL;
}

/* ---------------------------------------------------------------- values in memory */

Datum
portable_copy(const PortableType *type, Datum value)
{
	if (type->length == -1)
		return PointerGetDatum(PG_DETOAST_DATUM_COPY(value));
	return datumCopy(value, type->by_value, type->length);
}

void
portable_free(const PortableType *type, Datum value)
{
	if (!type->by_value)
		pfree(DatumGetPointer(value));
}

static int
compare_bytes(const char *a, Size a_length, const char *b, Size b_length)
{
	int			difference = memcmp(a, b, Min(a_length, b_length));

	return difference != 0 ? difference : (a_length > b_length) - (a_length < b_length);
}

static int
compare_images(const PortableType *type, Datum a, Datum b)
{
	if (type->by_value)
		return (a > b) - (a < b);
	if (type->length == -1)
	{
		struct varlena *left = PG_DETOAST_DATUM_PACKED(a);
		struct varlena *right = PG_DETOAST_DATUM_PACKED(b);

		return compare_bytes(VARDATA_ANY(left), VARSIZE_ANY_EXHDR(left),
							 VARDATA_ANY(right), VARSIZE_ANY_EXHDR(right));
	}
	return compare_bytes(DatumGetPointer(a), datumGetSize(a, false, type->length),
						 DatumGetPointer(b), datumGetSize(b, false, type->length));
}

int
portable_compare(const PortableType *type, Oid collation, Datum a, Datum b)
{
	int			difference = 0;

	if (type->order != NULL)
		difference = DatumGetInt32(FunctionCall2Coll(type->order, collation, a, b));
	return difference != 0 ? difference : compare_images(type, a, b);
}

/* ---------------------------------------------------------------- types as bytes */

void
portable_send_type(StringInfo to, Oid type)
{
	HeapTuple	tuple;
	Form_pg_type form;

	pq_sendint32(to, type < FirstGenbkiObjectId ? type : InvalidOid);
	if (type < FirstGenbkiObjectId)
		return;
	tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for type %u", type);
	form = (Form_pg_type) GETSTRUCT(tuple);
	appendBinaryStringInfo(to, NameStr(form->typname), strlen(NameStr(form->typname)) + 1);
	appendStringInfoString(to, get_namespace_name(form->typnamespace));
	appendStringInfoChar(to, '\0');
	ReleaseSysCache(tuple);
}

Oid
portable_receive_type(StringInfo from, Oid known)
{
	Oid			type = pq_getmsgint(from, 4);

	if (!OidIsValid(type))
	{
		const char *name = pq_getmsgrawstring(from);
		const char *schema = pq_getmsgrawstring(from);

		if (!OidIsValid(known))
			type = GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid, CStringGetDatum(name),
								   ObjectIdGetDatum(get_namespace_oid(schema, true)));
		if (!OidIsValid(known) && !OidIsValid(type))
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_OBJECT),
					 errmsg("type \"%s.%s\" of a kept value does not exist", schema, name)));
	}
	return OidIsValid(known) ? known : type;
}

/* ---------------------------------------------------------------- values as bytes */

static void
send_counted(StringInfo to, const char *bytes, int length)
{
	pq_sendint32(to, length);
	appendBinaryStringInfo(to, bytes, length);
}

void
portable_send(StringInfo to, PortableType *type, Datum value)
{
	if (type->form == PORTABLE_NUMBER)
		pq_sendint64(to, (int64) value);
	else if (type->form == PORTABLE_BYTES)
	{
		struct varlena *bytes = PG_DETOAST_DATUM_PACKED(value);

		send_counted(to, VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes));
	}
	else
	{
		char	   *text = OutputFunctionCall(&type->output, value);

		send_counted(to, text, strlen(text));
		pfree(text);
	}
}

Datum
portable_receive(StringInfo from, PortableType *type)
{
	int			length;
	const char *bytes;

	if (type->form == PORTABLE_NUMBER)
		return (Datum) pq_getmsgint64(from);
	length = pq_getmsgint(from, 4);
	bytes = pq_getmsgbytes(from, length);
	if (type->form == PORTABLE_BYTES)
		return PointerGetDatum(cstring_to_text_with_len(bytes, length));
	return InputFunctionCall(&type->input, pnstrdup(bytes, length), type->input_parameter, -1);
}

void
portable_open(StringInfo from, Datum bytes)
{
	bytea	   *message = DatumGetByteaPP(bytes);

	initStringInfo(from);
	appendBinaryStringInfo(from, VARDATA_ANY(message), VARSIZE_ANY_EXHDR(message));
}
