/*
 * source_guard.c
 *		What becomes of a source or sink when its table or its server is dropped, or its server renamed.
 *
 * One event trigger of the extension runs after each ALTER SERVER, another after each DROP.  Without
 * CASCADE the command is refused while a source or sink needs what it drops, as PostgreSQL does for
 * its own objects; with CASCADE that is dropped too, and a NOTICE says so.  DROP EXTENSION takes the
 * triggers along, and so is not their concern.
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "catalog/pg_foreign_server.h"
#include "commands/event_trigger.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/builtins.h"

#include "catalog.h"
#include "launcher.h"
#include "sink_api.h"

PG_FUNCTION_INFO_V1(clickstream_guard_drop);
PG_FUNCTION_INFO_V1(clickstream_follow_rename);

/* a table or server that is gone */
typedef struct Dropped
{
	Oid			class_id;
	Oid			id;
	char	   *name;			/* of a server, unquoted */
	char	   *identity;
} Dropped;

static bool
is_cascade(Node *command)
{
	if (IsA(command, DropStmt))
		return ((DropStmt *) command)->behavior == DROP_CASCADE;
	if (IsA(command, DropOwnedStmt))
		return ((DropOwnedStmt *) command)->behavior == DROP_CASCADE;
	return false;
}

static char *
column_text(int row, int column)
{
	return SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column);
}

static Oid
column_oid(int row, int column)
{
	bool		is_null;

	return DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column,
										  &is_null));
}

/* in the memory of the caller's SPI connection */
static List *
dropped_objects(void)
{
	List	   *all = NIL;

	if (SPI_execute("SELECT classid, objid, address_names[1], object_identity "
					"FROM pg_catalog.pg_event_trigger_dropped_objects() "
					"WHERE object_type IN ('table', 'server') AND NOT is_temporary",
					true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not list the dropped objects");
	for (int row = 0; row < (int) SPI_processed; row++)
	{
		Dropped    *dropped = palloc(sizeof(Dropped));

		dropped->class_id = column_oid(row, 1);
		dropped->id = column_oid(row, 2);
		dropped->name = column_text(row, 3);
		dropped->identity = column_text(row, 4);
		all = lappend(all, dropped);
	}
	return all;
}

/* a source or sink, with what it cannot be without */
typedef struct Dependent
{
	CatalogKind kind;
	int32		id;
	const char *name;
	Oid			relation;
	const char *server;
	const char *publication;	/* of a sink */
} Dependent;

static List *
dependents(void)
{
	List	   *all = NIL;
	ListCell   *cell;

	foreach(cell, catalog_sources())
	{
		Source	   *source = lfirst(cell);
		Dependent  *one = palloc0(sizeof(Dependent));

		*one = (Dependent) {CATALOG_SOURCE, source->id, source->name, source->target, source->server};
		all = lappend(all, one);
	}
	foreach(cell, catalog_sinks())
	{
		Sink	   *sink = lfirst(cell);
		Dependent  *one = palloc0(sizeof(Dependent));

		*one = (Dependent) {CATALOG_SINK, sink->id, sink->name, sink->relation, sink->server, sink->publication};
		all = lappend(all, one);
	}
	return all;
}

static bool
needs(const Dependent *dependent, const Dropped *dropped)
{
	if (dropped->class_id == RelationRelationId)
		return dependent->relation == dropped->id;
	return dropped->class_id == ForeignServerRelationId && strcmp(dependent->server, dropped->name) == 0;
}

/*
 * The table's own lock is ours already, so a worker in the middle of a batch has either committed
 * or waits for what it will not find: the source's lock is not needed, and could deadlock.
 */
static void
drop_or_refuse(const Dependent *dependent, const Dropped *dropped, bool cascade)
{
	const char *what = dropped->class_id == RelationRelationId ? "table" : "server";
	const char *kind = dependent->kind == CATALOG_SOURCE ? "source" : "sink";

	if (!cascade)
		ereport(ERROR,
				(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				 errmsg("cannot drop %s %s because %s \"%s\" depends on it",
						what, dropped->identity, kind, dependent->name),
				 errhint("Run SELECT clickstream.drop_%s(%s) first, or use DROP ... CASCADE.",
						 kind, quote_literal_cstr(dependent->name))));
	ereport(NOTICE, (errmsg("drop cascades to %s \"%s\"", kind, dependent->name)));
	if (dependent->kind == CATALOG_SOURCE)
		catalog_source_delete(dependent->id);
	else
	{
		catalog_sink_delete(dependent->id);
		sink_unpublish(dependent->publication);
	}
	launcher_wake_at_commit();
}

static EventTriggerData *
event_of(FunctionCallInfo fcinfo)
{
	if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_EVENT_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("it is for the event trigger of the extension alone")));
	return (EventTriggerData *) fcinfo->context;
}

Datum
clickstream_guard_drop(PG_FUNCTION_ARGS)
{
	EventTriggerData *event = event_of(fcinfo);
	List	   *dropped,
			   *all;
	ListCell   *one,
			   *other;

	SPI_connect();
	dropped = dropped_objects();
	all = dropped == NIL ? NIL : dependents();
	foreach(one, all)
	{
		foreach(other, dropped)
		{
			if (!needs(lfirst(one), lfirst(other)))
				continue;
			drop_or_refuse(lfirst(one), lfirst(other), is_cascade(event->parsetree));
			break;
		}
	}
	SPI_finish();
	PG_RETURN_NULL();
}

/* locked as for any change, so that none is lost */
static void
rename_server_of_source(int32 id, const char *old, char *new)
{
	Source	   *source;

	catalog_lock(CATALOG_SOURCE, id, ExclusiveLock);
	source = catalog_source_by_id(id);
	if (source == NULL || strcmp(source->server, old) != 0)
		return;
	source->server = new;
	catalog_source_update(source);
}

static void
rename_server_of_sink(int32 id, const char *old, char *new)
{
	Sink	   *sink;

	catalog_lock(CATALOG_SINK, id, ExclusiveLock);
	sink = catalog_sink_by_id(id);
	if (sink == NULL || strcmp(sink->server, old) != 0)
		return;
	sink->server = new;
	catalog_sink_update(sink);
}

Datum
clickstream_follow_rename(PG_FUNCTION_ARGS)
{
	Node	   *command = event_of(fcinfo)->parsetree;
	const char *old;
	char	   *new;
	ListCell   *cell;

	if (!IsA(command, RenameStmt))
		PG_RETURN_NULL();
	old = strVal(((RenameStmt *) command)->object);
	new = ((RenameStmt *) command)->newname;
	foreach(cell, catalog_sources())
		if (strcmp(((Source *) lfirst(cell))->server, old) == 0)
			rename_server_of_source(((Source *) lfirst(cell))->id, old, new);
	foreach(cell, catalog_sinks())
		if (strcmp(((Sink *) lfirst(cell))->server, old) == 0)
			rename_server_of_sink(((Sink *) lfirst(cell))->id, old, new);
	launcher_wake_at_commit();
	PG_RETURN_NULL();
}
