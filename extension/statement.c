/*
 * statement.c
 *		SQL of our own making over relations of users: how one is named in it, how it is run, which rows
 *		in memory it sees.
 *
 * Whoever builds such a statement takes names from here, so that quoting is decided in one place.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "statement.h"

char *
qualified_name(Oid relation)
{
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relation)),
									  get_rel_name(relation));
}

List *
oids_of(const char *sql)
{
	MemoryContext caller = CurrentMemoryContext;
	List	   *oids = NIL;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (SPI_execute(sql, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read \"%s\"", sql);
	for (uint64 row = 0; row < SPI_processed; row++)
	{
		bool		is_null;
		Datum		oid = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, 1, &is_null);
		MemoryContext spi = MemoryContextSwitchTo(caller);

		oids = list_append_unique_oid(oids, DatumGetObjectId(oid));
		MemoryContextSwitchTo(spi);
	}
	SPI_finish();
	return oids;
}

void
run_statement(const char *sql)
{
	int			result = SPI_execute(sql, false, 0);

	if (result < 0)
		elog(ERROR, "could not execute \"%s\": %s", sql, SPI_result_code_string(result));
}

void
run_ddl(const char *sql)
{
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	run_statement(sql);
	SPI_finish();
}

EphemeralNamedRelation
named_rows(const char *name, void *rows, double n, TupleDesc desc)
{
	EphemeralNamedRelation relation = palloc0(sizeof(EphemeralNamedRelationData));

	relation->md.name = pstrdup(name);
	relation->md.tupdesc = desc;
	relation->md.enrtype = ENR_NAMED_TUPLESTORE;
	relation->md.enrtuples = n;
	relation->reldata = rows;
	return relation;
}

void
show_rows(const char *name, Tuplestorestate *rows, TupleDesc desc)
{
	if (SPI_register_relation(named_rows(name, rows, tuplestore_tuple_count(rows), desc)) != SPI_OK_REL_REGISTER)
		elog(ERROR, "could not register \"%s\"", name);
}
