/*
 * portable.h
 *		Values of any type as bytes that mean the same in every session, and after a dump and its restore.
 */
#ifndef CLICKSTREAM_PORTABLE_H
#define CLICKSTREAM_PORTABLE_H

#include "postgres.h"

#include "fmgr.h"
#include "lib/stringinfo.h"

typedef enum PortableForm
{
	PORTABLE_NUMBER,			/* a built-in type passed by value */
	PORTABLE_BYTES,				/* what text and bytea hold */
	PORTABLE_TEXT				/* as the type's output function writes it */
} PortableForm;

/* what is to be known of a type; its functions live where the struct was set up */
typedef struct PortableType
{
	Oid			type;
	int16		length;
	bool		by_value;
	PortableForm form;
	FmgrInfo	output;
	FmgrInfo	input;
	Oid			input_parameter;
	FmgrInfo   *order;			/* compares two values; NULL if the type has no order */
	FmgrInfo   *hash;			/* with equal; NULL if the type cannot be hashed */
	FmgrInfo   *equal;
} PortableType;

extern void portable_set_up(PortableType *type, Oid oid);

/* a copy in the current memory context, whole and uncompressed */
extern Datum portable_copy(const PortableType *type, Datum value);
extern void portable_free(const PortableType *type, Datum value);

/* an order of any two values, none of them NULL: by the type's own where it has one, then by their bytes */
extern int	portable_compare(const PortableType *type, Oid collation, Datum a, Datum b);

/* types go by their names, but the built-in ones */
extern void portable_send_type(StringInfo to, Oid type);
extern void portable_send(StringInfo to, PortableType *type, Datum value);

/* Where the caller knows the type already, the name in the bytes is passed over: it may be an old one. */
extern Oid	portable_receive_type(StringInfo from, Oid known);
extern Datum portable_receive(StringInfo from, PortableType *type);

/* the bytes handed to a deserial function, to be read */
extern void portable_open(StringInfo from, Datum bytes);

#endif							/* CLICKSTREAM_PORTABLE_H */
