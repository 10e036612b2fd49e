/*
 * pending.c
 *		SQL functions that are declared and not yet written.  Each is weak: a real one replaces it.
 *		This file goes when its list is empty.
 */
#include "postgres.h"

#include "fmgr.h"

#define PENDING_BODY(name, body) \
	__attribute__((weak)) PGDLLEXPORT const Pg_finfo_record *CppConcat(pg_finfo_, name) (void); \
	__attribute__((weak)) const Pg_finfo_record *CppConcat(pg_finfo_, name) (void) \
	{ \
		static const Pg_finfo_record r = {1}; \
		return &r; \
	} \
	__attribute__((weak)) PGDLLEXPORT Datum name(PG_FUNCTION_ARGS); \
	__attribute__((weak)) Datum name(PG_FUNCTION_ARGS) \
	{ \
		body; \
		PG_RETURN_NULL(); \
	}
#define PENDING(name) PENDING_BODY(name, ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg(#name " is not written yet"))))

PENDING(clickstream_check_sink)
