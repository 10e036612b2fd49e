/*
 * catalog_internal.h
 *		What the files over the extension's tables share: a statement, its arguments, its rows.
 *
 * Included by catalog.c, catalog_values.c and catalog_*.c alone.
 */
#ifndef CLICKSTREAM_CATALOG_INTERNAL_H
#define CLICKSTREAM_CATALOG_INTERNAL_H

#include "postgres.h"

#include "executor/spi.h"

#include "catalog.h"

#define MAX_ARGUMENTS 32

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

/* catalog.c */
extern Oid	catalog_relation(const char *name);
extern void catalog_enter(Access *access);
extern void catalog_leave(Access *access);
extern void catalog_execute(Statement *statement, Arguments *arguments);
extern void catalog_execute_reading(Statement *statement, Arguments *arguments);
extern List *catalog_read_rows(Statement *statement, Arguments *arguments, void *(*read_one) (Reader *),
							   void (*run) (Statement *, Arguments *));
extern List *catalog_read_all(Statement *statement, Arguments *arguments, void *(*read_one) (Reader *));
extern void *catalog_read_first(Statement *statement, Arguments *arguments, void *(*read_one) (Reader *));
extern int32 catalog_write_one(Statement *statement, Arguments *arguments);

/* the same of statements whose only argument is a name or an id */
extern void *catalog_read_by_name(Statement *statement, const char *name, void *(*read_one) (Reader *));
extern void *catalog_read_by_id(Statement *statement, int32 id, void *(*read_one) (Reader *));
extern void catalog_write_by_id(Statement *statement, int32 id);

/* catalog_values.c */
extern void put_value(Arguments *arguments, Oid type, Datum value, bool is_null);
extern void put_text(Arguments *arguments, const char *value);
extern void put_int4(Arguments *arguments, int32 value);
extern void put_int8(Arguments *arguments, int64 value);
extern void put_bool(Arguments *arguments, bool value);
extern void put_oid(Arguments *arguments, Oid type, Oid value);
extern void put_interval(Arguments *arguments, const Interval *value);
extern void put_jsonb(Arguments *arguments, const Jsonb *value);
extern void put_names(Arguments *arguments, List *names);
extern void put_int4s(Arguments *arguments, const int32 *numbers, int n);
extern void put_array(Arguments *arguments, Oid element, Oid array, Datum *values, bool *nulls, int n);
extern void reader_start(Reader *reader, uint64 row);
extern Datum next_value(Reader *reader, bool *is_null);
extern char *next_text(Reader *reader);
extern Oid next_oid(Reader *reader);
extern int32 next_int4(Reader *reader);
extern int64 next_int8(Reader *reader);
extern bool next_bool(Reader *reader);
extern Interval *next_interval(Reader *reader);
extern Jsonb *next_jsonb(Reader *reader);
extern List *next_texts(Reader *reader);
extern int32 *next_int4s(Reader *reader, int *n);

#endif							/* CLICKSTREAM_CATALOG_INTERNAL_H */
