/*
 * sink_identity.c
 *		Replica identities: whether updates and deletes of a table tell which document they mean.
 *
 * REPLICA IDENTITY is not inherited, and PostgreSQL refuses an UPDATE of a table whose updates are
 * published and that has none.  So a partition that comes under a followed table, and a followed
 * table that loses its key, get REPLICA IDENTITY FULL: a sink must never make an application's
 * statement fail.  Called by sink_table.c and by an event trigger.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relation.h"
#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_index.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_publication.h"
#include "commands/event_trigger.h"
#include "executor/spi.h"
#include "nodes/parsenodes.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "compat.h"
#include "index_pattern.h"
#include "sink_api.h"
#include "statement.h"

PG_FUNCTION_INFO_V1(clickstream_sink_ddl);

/* ---------------------------------------------------------------- what a table has */

List *
sink_index_columns(Relation relation, Oid index_id)
{
	Relation	index = index_open(index_id, AccessShareLock);
	List	   *names = NIL;
	int			i;

	for (i = 0; i < index->rd_index->indnkeyatts; i++)
		names = lappend(names, get_attname(RelationGetRelid(relation),
										   index->rd_index->indkey.values[i], false));
	index_close(index, AccessShareLock);
	return names;
}

static bool
is_member(List *names, const char *name)
{
	ListCell   *cell;

	foreach(cell, names)
		if (strcmp(lfirst(cell), name) == 0)
			return true;
	return false;
}

static Identity
identity_of(Relation relation, List *id_columns)
{
	Oid			index;
	List	   *columns;
	ListCell   *cell;

	/* all columns, but some would not be published: then an UPDATE of the table would fail */
	if (relation->rd_rel->relreplident == REPLICA_IDENTITY_FULL)
		return compat_has_virtual_columns(RelationGetDescr(relation)) ? IDENTITY_MISSING :
			IDENTITY_COVERS;
	(void) RelationGetIndexList(relation);
	index = RelationGetReplicaIndex(relation);
	if (!OidIsValid(index))
		return IDENTITY_MISSING;
	columns = sink_index_columns(relation, index);
	foreach(cell, id_columns)
		if (!is_member(columns, lfirst(cell)))
			return IDENTITY_OTHER;
	return IDENTITY_COVERS;
}

List *
sink_placing_columns(const Sink *sink)
{
	IndexPattern *pattern = index_pattern(sink->index);
	List	   *columns = NIL;

	if (pattern)
		columns = lappend(columns, pattern->column);
	if (sink->routing)
		columns = lappend(columns, sink->routing);
	return columns;
}

List *
sink_identity_columns(const Sink *sink)
{
	return list_concat(list_concat_copy(sink->id_columns, sink_placing_columns(sink)),
					   sink_filter_published_columns(sink));
}

Identity
sink_worst_identity(Relation relation, List *id_columns, Oid *who)
{
	List	   *members = list_make1_oid(RelationGetRelid(relation));
	Identity	worst = IDENTITY_COVERS;
	ListCell   *cell;

	if (relation->rd_rel->relkind == RELKIND_PARTITIONED_TABLE)
		members = find_all_inheritors(RelationGetRelid(relation), AccessShareLock, NULL);
	foreach(cell, members)
	{
		Relation	member = relation_open(lfirst_oid(cell), NoLock);
		bool		is_inner = member->rd_rel->relkind == RELKIND_PARTITIONED_TABLE &&
			list_length(members) > 1;

		/* rows are in the leaves; a table without any shows what they shall have */
		if (!is_inner)
		{
			Identity	identity = identity_of(member, id_columns);

			if (identity < worst)
			{
				worst = identity;
				*who = RelationGetRelid(member);
			}
		}
		relation_close(member, NoLock);
	}
	return worst;
}

/* ---------------------------------------------------------------- after a DDL command */

static bool
publishes_updates(const Sink *sink)
{
	Oid			publication = get_publication_oid(sink->publication, true);

	return OidIsValid(publication) && GetPublication(publication)->pubactions.pubupdate;
}

/* false when it would not help */
static bool
give_identity(const Sink *sink, Oid table)
{
	char	   *name = qualified_name(table);
	Relation	relation = relation_open(table, AccessShareLock);
	bool		helps = !compat_has_virtual_columns(RelationGetDescr(relation));

	relation_close(relation, NoLock);
	if (!helps)
		return false;
	if (SPI_execute(psprintf("ALTER TABLE %s REPLICA IDENTITY FULL", name), false, 0) < 0)
		elog(ERROR, "could not set the replica identity of %s", name);
	ereport(NOTICE,
			(errmsg("table \"%s\" gets REPLICA IDENTITY FULL", get_rel_name(table)),
			 errdetail("Sink \"%s\" follows its updates and deletes.", sink->name)));
	return true;
}

/* each time round one more has it */
static void
mend_identities(const Sink *sink)
{
	for (;;)
	{
		Relation	relation = try_relation_open(sink->relation, AccessShareLock);
		Identity	worst;
		Oid			who = InvalidOid;

		if (relation == NULL)
			return;
		worst = sink_worst_identity(relation, sink_identity_columns(sink), &who);
		relation_close(relation, NoLock);
		if (worst == IDENTITY_COVERS || !give_identity(sink, who))
			return;
	}
}

/* rows that come or go with their partition are not in the log */
static void
tell_of_partition(const Sink *sink, const AlterTableCmd *command)
{
	Oid			partition;

	if (command->subtype != AT_AttachPartition && command->subtype != AT_DetachPartition)
		return;
	partition = RangeVarGetRelid(((PartitionCmd *) command->def)->name, NoLock, true);
	if (!OidIsValid(partition) || get_rel_relkind(partition) == RELKIND_FOREIGN_TABLE ||
		SPI_execute(psprintf("SELECT 1 FROM %s LIMIT 1", qualified_name(partition)), true, 1) != SPI_OK_SELECT || SPI_processed == 0)
		return;
	if (command->subtype == AT_AttachPartition)
		ereport(NOTICE,
				(errmsg("rows that \"%s\" had before are not in the index of sink \"%s\"",
						get_rel_name(partition), sink->name),
				 errhint("clickstream.check_sink shows them, and takes them in with repair => true.")));
	else if (strcmp(sink->on_drop, "keep") == 0 || ((PartitionCmd *) command->def)->concurrent)
		ereport(NOTICE,
				(errmsg("rows of \"%s\" stay in the index of sink \"%s\"", get_rel_name(partition), sink->name),
				 errhint("clickstream.check_sink shows them, and removes them with repair => true.")));
}

static void
tell_of_partitions(const Sink *sink, Node *statement)
{
	ListCell   *cell;

	if (!IsA(statement, AlterTableStmt))
		return;
	foreach(cell, ((AlterTableStmt *) statement)->cmds)
		tell_of_partition(sink, lfirst_node(AlterTableCmd, cell));
}

/* whether the table is the sink's, or one of its partitions */
static bool
concerns(const Sink *sink, Oid table)
{
	return table == sink->relation ||
		(get_rel_relispartition(table) &&
		 list_member_oid(get_partition_ancestors(table), sink->relation));
}

static void
after_command(Node *statement)
{
	List	   *tables = oids_of("SELECT objid FROM pg_catalog.pg_event_trigger_ddl_commands() "
								 "WHERE classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND object_type = 'table'");
	ListCell   *one;
	ListCell   *other;

	foreach(one, tables == NIL ? NIL : catalog_sinks())
	{
		const Sink *sink = lfirst(one);

		foreach(other, tables)
			if (concerns(sink, lfirst_oid(other)))
				break;
		if (other == NULL)
			continue;
		if (publishes_updates(sink))
			mend_identities(sink);
		tell_of_partitions(sink, statement);
	}
}

/* DROP INDEX does not say which table has lost it */
static void
after_drop(void)
{
	ListCell   *cell;

	foreach(cell, catalog_sinks())
		if (publishes_updates(lfirst(cell)))
			mend_identities(lfirst(cell));
}

Datum
clickstream_sink_ddl(PG_FUNCTION_ARGS)
{
	EventTriggerData *event = (EventTriggerData *) fcinfo->context;

	if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_EVENT_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("it is for the event trigger of the extension alone")));
	SPI_connect();
	if (strcmp(event->event, "sql_drop") == 0)
		after_drop();
	else
		after_command(event->parsetree);
	SPI_finish();
	PG_RETURN_NULL();
}
