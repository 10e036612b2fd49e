/*
 * sink_publication.c
 *		The publication of a sink: made with it, dropped with it.
 *
 * Runs as the owner of the extension: to make a publication takes CREATE on the database, which the
 * owner of a table need not have.  That he may publish the table is decided before.  The publication
 * goes with the extension.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_publication.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "compat.h"
#include "sink_api.h"
#include "statement.h"

static Oid
owner_of_extension(void)
{
	Oid			table = get_relname_relid("sinks", get_namespace_oid("clickstream", false));
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(table));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "relation clickstream.sinks is not there");
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

static void
run_as_extension(const char *command)
{
	Oid			user;
	int			context;

	GetUserIdAndSecContext(&user, &context);
	SetUserIdAndSecContext(owner_of_extension(), context | SECURITY_LOCAL_USERID_CHANGE);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (SPI_execute(command, false, 0) != SPI_OK_UTILITY)
		elog(ERROR, "could not run \"%s\"", command);
	SPI_finish();
	SetUserIdAndSecContext(user, context);
}

/* DROP EXTENSION takes it along */
static void
belong_to_extension(const char *publication)
{
	ObjectAddress object;
	ObjectAddress extension;

	CommandCounterIncrement();
	ObjectAddressSet(object, PublicationRelationId, get_publication_oid(publication, false));
	ObjectAddressSet(extension, ExtensionRelationId, get_extension_oid("clickstream", false));
	recordDependencyOn(&object, &extension, DEPENDENCY_AUTO);
}

/* the table, and which of its rows */
static char *
published_rows(const Sink *sink)
{
	char	   *table = qualified_name(sink->relation);

	return sink->filter ? psprintf("TABLE ONLY %s WHERE (%s)", table, sink->filter) :
		psprintf("TABLE ONLY %s", table);
}

void
sink_publish(const Sink *sink, const char *what)
{
	const char *name = quote_identifier(sink->publication);

	run_as_extension(psprintf("CREATE PUBLICATION %s FOR %s "
							  "WITH (publish = %s, publish_via_partition_root = true"
							  COMPAT_PUBLISH_GENERATED ")",
							  name, published_rows(sink), quote_literal_cstr(what)));
	run_as_extension(psprintf("COMMENT ON PUBLICATION %s IS %s", name,
							  quote_literal_cstr(psprintf("what clickstream sink \"%s\" follows",
														  sink->name))));
	belong_to_extension(sink->publication);
}

void
sink_publish_anew(const Sink *sink, const char *what)
{
	const char *name = quote_identifier(sink->publication);

	/* changes first: a filter over columns outside the identity is no hindrance to inserts alone */
	run_as_extension(psprintf("ALTER PUBLICATION %s SET (publish = %s)", name, quote_literal_cstr(what)));
	run_as_extension(psprintf("ALTER PUBLICATION %s SET %s", name, published_rows(sink)));
}

void
sink_unpublish(const char *publication)
{
	if (OidIsValid(get_publication_oid(publication, true)))
		run_as_extension(psprintf("DROP PUBLICATION %s", quote_identifier(publication)));
}
