/*
 * caller.h
 *		Who may command a source or sink, and what is said to those who may not.
 */
#ifndef CLICKSTREAM_CALLER_H
#define CLICKSTREAM_CALLER_H

#include "postgres.h"

#include "compat.h"

/* a list of names, for a hint; only those of objects that the caller may command */
typedef struct CallersNames
{
	char	   *text;			/* NULL while there is none */
} CallersNames;

extern void caller_may_name(CallersNames *names, const char *name, Oid owner);

/* kind is "source" or "sink", as in the names of the SQL functions */
pg_noreturn extern void caller_refuse_unknown(const char *kind, const char *name, const CallersNames *names);
extern void caller_must_own(const char *kind, const char *name, Oid owner);

#endif							/* CLICKSTREAM_CALLER_H */
