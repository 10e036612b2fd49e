/*
 * pending.c
 *		SQL functions that are declared and not yet written.  Each is weak: a real one replaces it.
 *		This file goes when its list is empty.
 */
#include "postgres.h"

#include "fmgr.h"
#include "foreign/foreign.h"

#include "connection.h"

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
#define PENDING_VOID(name) PENDING_BODY(name, PG_RETURN_VOID())

PENDING(clickstream_alter_sink)
PENDING(clickstream_check_rollup)
PENDING(clickstream_check_sink)
PENDING(clickstream_create_rollup)
PENDING(clickstream_create_sink)
PENDING(clickstream_drop_rollup)
PENDING(clickstream_drop_sink)
PENDING_VOID(clickstream_elasticsearch_validator)
PENDING_VOID(clickstream_kafka_validator)
PENDING(clickstream_pause_sink)
PENDING(clickstream_preview_source)
PENDING(clickstream_refresh_rollup)
PENDING(clickstream_replay_dead_letters)
PENDING(clickstream_resume_sink)
PENDING(clickstream_resync_sink)
PENDING(clickstream_wait_for_sink)

/* until connection.c is there: a server's own options, unchecked */
__attribute__((weak)) Oid
connection_server(const char *name, ConnectionKind kind, Oid role)
{
	return GetForeignServerByName(name, false)->serverid;
}

__attribute__((weak)) List *
connection_options(const char *server, ConnectionKind kind, Oid role)
{
	return GetForeignServerByName(server, false)->options;
}
