/*
 * catalog.c
 *		How the extension's own tables are read and written, and how their rows are locked.
 *
 * Owns the rights and the search_path under which every statement over those tables runs, and their
 * plans; the statements are in catalog_sources.c and its neighbours, a file for each table, and
 * nothing else reads or writes those tables, but for views.  Decides nothing about rights: SQL
 * functions do that before they call, workers run for the owner.
 *
 * Statements run as the owner of those tables, so that neither row security nor a missing grant
 * bites, and under a search_path that only reaches pg_catalog, so that nobody's operator is taken
 * for ours.  Their plans are kept: a worker saves its offsets with every batch.  Each statement
 * takes a new snapshot, so that what was read after catalog_lock is what was last committed.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "catalog_internal.h"

Oid
catalog_relation(const char *name)
{
	Oid			schema = get_namespace_oid("clickstream", true);
	Oid			relation = OidIsValid(schema) ? get_relname_relid(name, schema) : InvalidOid;

	if (!OidIsValid(relation))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("extension \"clickstream\" is not in this database"),
				 errhint("Run CREATE EXTENSION clickstream.")));
	return relation;
}

static Oid
owner_of_tables(void)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(catalog_relation("_sources")));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "relation clickstream._sources vanished");
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

/* An error in between is undone by the end of the (sub)transaction, as for any function. */
void
catalog_enter(Access *access)
{
	Oid			owner = owner_of_tables();

	access->caller = CurrentMemoryContext;
	access->guc_level = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	GetUserIdAndSecContext(&access->user, &access->security);
	SetUserIdAndSecContext(owner, access->security | SECURITY_LOCAL_USERID_CHANGE);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
}

void
catalog_leave(Access *access)
{
	SPI_finish();
	SetUserIdAndSecContext(access->user, access->security);
	AtEOXact_GUC(true, access->guc_level);
	MemoryContextSwitchTo(access->caller);
}

static void
prepare(Statement *statement, Arguments *arguments)
{
	if (statement->plan == NULL)
	{
		SPIPlanPtr	plan = SPI_prepare_cursor(statement->sql, arguments->n, arguments->types,
											  CURSOR_OPT_GENERIC_PLAN);

		if (plan == NULL || SPI_keepplan(plan) != 0)
			elog(ERROR, "could not prepare \"%s\"", statement->sql);
		statement->plan = plan;
	}
}

static void
execute_prepared(Statement *statement, Arguments *arguments, bool read_only)
{
	int			result = SPI_execute_plan(statement->plan, arguments->values, arguments->nulls,
										  read_only, 0);

	if (result < 0)
		elog(ERROR, "could not execute \"%s\": %s", statement->sql, SPI_result_code_string(result));
}

void
catalog_execute(Statement *statement, Arguments *arguments)
{
	prepare(statement, arguments);
	execute_prepared(statement, arguments, false);
}

/*
 * Under REPEATABLE READ the transaction's snapshot may be older than what its statements obey: the
 * triggers of a rollup that was made since fire.  So what is there is what was last committed.
 */
void
catalog_execute_reading(Statement *statement, Arguments *arguments)
{
	prepare(statement, arguments);
	CommandCounterIncrement();
	PushActiveSnapshot(GetLatestSnapshot());
	execute_prepared(statement, arguments, true);
	PopActiveSnapshot();
}

/* runs a query, as told, and makes a struct of each of its rows, in the caller's memory */
List *
catalog_read_rows(Statement *statement, Arguments *arguments, void *(*read_one) (Reader *),
		  void (*run) (Statement *, Arguments *))
{
	Access		access;
	List	   *found = NIL;
	uint64		row;

	catalog_enter(&access);
	run(statement, arguments);
	MemoryContextSwitchTo(access.caller);
	for (row = 0; row < SPI_processed; row++)
	{
		Reader		reader;

		reader_start(&reader, row);
		found = lappend(found, read_one(&reader));
	}
	catalog_leave(&access);
	return found;
}

List *
catalog_read_all(Statement *statement, Arguments *arguments, void *(*read_one) (Reader *))
{
	return catalog_read_rows(statement, arguments, read_one, catalog_execute_reading);
}

void *
catalog_read_first(Statement *statement, Arguments *arguments, void *(*read_one) (Reader *))
{
	List	   *found = catalog_read_all(statement, arguments, read_one);

	return found == NIL ? NULL : linitial(found);
}

void *
catalog_read_by_name(Statement *statement, const char *name, void *(*read_one) (Reader *))
{
	Arguments	arguments = {0};

	put_text(&arguments, name);
	return catalog_read_first(statement, &arguments, read_one);
}

void *
catalog_read_by_id(Statement *statement, int32 id, void *(*read_one) (Reader *))
{
	Arguments	arguments = {0};

	put_int4(&arguments, id);
	return catalog_read_first(statement, &arguments, read_one);
}

/* returns the id of the row, for statements that say RETURNING id; else 0 */
int32
catalog_write_one(Statement *statement, Arguments *arguments)
{
	Access		access;
	int32		id = 0;

	catalog_enter(&access);
	catalog_execute(statement, arguments);
	if (SPI_processed > 0 && SPI_tuptable != NULL)
	{
		Reader		reader;

		reader_start(&reader, 0);
		id = next_int4(&reader);
	}
	catalog_leave(&access);
	return id;
}

void
catalog_write_by_id(Statement *statement, int32 id)
{
	Arguments	arguments = {0};

	put_int4(&arguments, id);
	(void) catalog_write_one(statement, &arguments);
}

/* ---------------------------------------------------------------- where we are, and locks */

bool
catalog_extension_exists(void)
{
	return OidIsValid(get_extension_oid("clickstream", true));
}

bool
catalog_is_here(uint64 system_identifier, Oid database)
{
	return system_identifier == GetSystemIdentifier() && database == MyDatabaseId;
}

char *
catalog_copied_because(const char *kind, const char *name, uint64 system_identifier, Oid database)
{
	if (catalog_is_here(system_identifier, database))
		return NULL;
	return psprintf("it was made in another %s, and this is a copy: it would read or write beside "
					"its original; clickstream.resume_%s(%s) lets it go on here",
					system_identifier == GetSystemIdentifier() ? "database" : "cluster", kind,
					quote_literal_cstr(name));
}

static void
lock_tag(LOCKTAG *tag, CatalogKind kind, int32 id)
{
	static const char *const tables[] = {"_sources", "rollups", "sinks"};

	SET_LOCKTAG_OBJECT(*tag, MyDatabaseId, catalog_relation(tables[kind]), (uint32) id, 0);
}

void
catalog_lock(CatalogKind kind, int32 id, LOCKMODE mode)
{
	LOCKTAG		tag;

	lock_tag(&tag, kind, id);
	(void) LockAcquire(&tag, mode, false, false);
}
