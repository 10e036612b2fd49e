/*
 * partition_create.c
 *		Makes one partition of a target, like its table and like the partition before it.
 *
 * From the table come columns, defaults, constraints, indexes, privileges, replica identity and
 * statistics targets, as PostgreSQL gives a new partition none of the last three; from the newest
 * partition before the new one storage parameters, tablespace, access method, and how it is
 * partitioned again.  Called by partition.c, in a transaction that holds ShareUpdateExclusive on the
 * table.
 *
 * A new partition is made beside the table (LIKE ... INCLUDING ALL) and then attached: that stops
 * neither readers nor writers of the others, where PARTITION OF would.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "commands/defrem.h"
#include "commands/tablespace.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "partitioning/partbounds.h"
#include "partitioning/partdesc.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "partition_internal.h"
#include "rollup_trigger.h"
#include "statement.h"
#include "writer.h"

/* ---------------------------------------------------------------- what is taken over */

static Oid
default_of(Relation target)
{
	PartitionDesc parts = RelationGetPartitionDesc(target, true);

	if (parts->boundinfo == NULL || !partition_bound_has_default(parts->boundinfo))
		return InvalidOid;
	return parts->oids[parts->boundinfo->default_index];
}

/* the one that ends last of those that end before the range; else the first that is there */
static Oid
sibling_of(Relation target, TimestampTz from, TimeRange *range)
{
	PartitionDesc parts = RelationGetPartitionDesc(target, true);
	PartitionBoundInfo bounds = parts->boundinfo;
	Oid			type = partition_time_type(target);
	Oid			sibling = InvalidOid;

	for (int at = 0; bounds != NULL && at < bounds->ndatums; at++)
	{
		int			part = bounds->indexes[at]; /* the one that ends at this bound */

		if (part < 0 || get_rel_relkind(parts->oids[part]) == RELKIND_FOREIGN_TABLE)
			continue;
		if (OidIsValid(sibling) && time_range_bound(bounds, at, type) > from)
			break;
		sibling = parts->oids[part];
		range->from = at == 0 ? DT_NOBEGIN : time_range_bound(bounds, at - 1, type);
		range->to = time_range_bound(bounds, at, type);
	}
	return sibling;
}

PartitionModel *
partition_model(Relation target, TimestampTz from)
{
	PartitionModel *model = palloc0(sizeof(PartitionModel));
	AttrNumber	column = writer_time_column(target);

	model->relid = RelationGetRelid(target);
	model->schema = RelationGetNamespace(target);
	model->table = pstrdup(RelationGetRelationName(target));
	model->table_sql = qualified_name(model->relid);
	model->type = partition_time_type(target);
	model->column = column;
	model->column_sql = pstrdup(quote_identifier(NameStr(TupleDescAttr(RelationGetDescr(target), column - 1)->attname)));
	model->tablespace = target->rd_rel->reltablespace;
	model->unlogged = target->rd_rel->relpersistence == RELPERSISTENCE_UNLOGGED;
	model->row_security = target->rd_rel->relrowsecurity;
	model->replica_identity = target->rd_rel->relreplident;
	model->replica_index = RelationGetReplicaIndex(target);
	model->default_partition = default_of(target);
	model->sibling = sibling_of(target, from, &model->sibling_range);
	return model;
}

/* ---------------------------------------------------------------- names */

static bool
name_is_taken(const char *name, Oid schema)
{
	return OidIsValid(get_relname_relid(name, schema)) ||
		SearchSysCacheExists2(TYPENAMENSP, CStringGetDatum(name), ObjectIdGetDatum(schema));
}

/* the stem is cut, at a whole character, where the suffix needs the room */
char *
partition_free_name(const char *stem, const char *suffix, Oid schema)
{
	for (int n = 0;; n++)
	{
		const char *end = n == 0 ? suffix : psprintf("%s_%d", suffix, n);
		int			room = NAMEDATALEN - 1 - strlen(end);
		char	   *name = psprintf("%.*s%s", pg_mbcliplen(stem, strlen(stem), room), stem, end);

		if (!name_is_taken(name, schema))
			return name;
	}
}

char *
partition_in_schema(const PartitionModel *model, const char *name)
{
	return quote_qualified_identifier(get_namespace_name(model->schema), name);
}

/* ---------------------------------------------------------------- how it is stored */

/* each as name = value, with the prefix before the name */
static void
append_options(StringInfo list, HeapTuple relation, const char *prefix)
{
	bool		is_null;
	Datum		value = SysCacheGetAttr(RELOID, relation, Anum_pg_class_reloptions, &is_null);
	Datum	   *options;
	int			n;

	if (is_null)
		return;
	deconstruct_array(DatumGetArrayTypeP(value), TEXTOID, -1, false, TYPALIGN_INT, &options, NULL, &n);
	for (int i = 0; i < n; i++)
	{
		char	   *option = TextDatumGetCString(options[i]);
		char	   *equals = strchr(option, '=');

		if (equals == NULL)
			continue;
		*equals = '\0';
		appendStringInfo(list, "%s%s%s = %s", list->len > 0 ? ", " : "", prefix,
						 quote_identifier(option), quote_literal_cstr(equals + 1));
	}
}

static char *
storage_parameters(HeapTuple relation)
{
	StringInfoData list;
	Oid			toast = ((Form_pg_class) GETSTRUCT(relation))->reltoastrelid;

	initStringInfo(&list);
	append_options(&list, relation, "");
	if (OidIsValid(toast))
	{
		HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(toast));

		append_options(&list, tuple, "toast.");
		ReleaseSysCache(tuple);
	}
	return list.len > 0 ? psprintf(" WITH (%s)", list.data) : "";
}

/* what follows the columns in CREATE TABLE, for a partition like this one (InvalidOid: like none) */
char *
partition_storage(const PartitionModel *model, Oid like)
{
	Oid			tablespace = model->tablespace;
	char	   *method = "",
			   *parameters = "";

	if (OidIsValid(like))
	{
		HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(like));
		Form_pg_class form = (Form_pg_class) GETSTRUCT(tuple);

		if (form->relkind == RELKIND_RELATION && form->relam != HEAP_TABLE_AM_OID)
			method = psprintf(" USING %s", quote_identifier(get_am_name(form->relam)));
		if (!OidIsValid(tablespace))
			tablespace = form->reltablespace;
		parameters = storage_parameters(tuple);
		ReleaseSysCache(tuple);
	}
	return psprintf("%s%s%s", method, parameters, OidIsValid(tablespace) ?
					psprintf(" TABLESPACE %s", quote_identifier(get_tablespace_name(tablespace))) : "");
}

/* ---------------------------------------------------------------- whose it is */

static void
grant(const char *name, const char *column, const char *privilege, Oid grantee, bool grantable)
{
	run_statement(psprintf("GRANT %s%s ON %s TO %s%s", privilege,
						   column ? psprintf(" (%s)", quote_identifier(column)) : "", name,
						   OidIsValid(grantee) ? quote_identifier(GetUserNameFromId(grantee, false)) : "PUBLIC",
						   grantable ? " WITH GRANT OPTION" : ""));
}

/*
 * Who may read the table may read its partition, by name.  Row security of the table does not
 * reach there: so where it is on, nobody but the owner may.
 */
static void
copy_privileges(const PartitionModel *model, const char *name)
{
	SPITupleTable *rows;
	uint64		n;

	if (model->row_security)
		run_statement(psprintf("ALTER TABLE %s ENABLE ROW LEVEL SECURITY", name));
	run_statement(psprintf("SELECT NULL::name, a.privilege_type, a.grantee, a.is_grantable "
						   "FROM pg_class c, aclexplode(c.relacl) a WHERE c.oid = %u AND a.grantee <> c.relowner "
						   "UNION ALL SELECT t.attname, a.privilege_type, a.grantee, a.is_grantable "
						   "FROM pg_class c JOIN pg_attribute t ON t.attrelid = c.oid, aclexplode(t.attacl) a "
						   "WHERE c.oid = %u AND NOT t.attisdropped AND a.grantee <> c.relowner", model->relid, model->relid));
	rows = SPI_tuptable;
	n = SPI_processed;
	for (uint64 i = 0; i < n; i++)
	{
		bool		is_null;

		grant(name, SPI_getvalue(rows->vals[i], rows->tupdesc, 1), SPI_getvalue(rows->vals[i], rows->tupdesc, 2),
			  DatumGetObjectId(SPI_getbinval(rows->vals[i], rows->tupdesc, 3, &is_null)),
			  DatumGetBool(SPI_getbinval(rows->vals[i], rows->tupdesc, 4, &is_null)));
	}
}

/* ---------------------------------------------------------------- what planner and replication know of it */

static void
copy_statistics_targets(const PartitionModel *model, const char *name)
{
	SPITupleTable *rows;
	uint64		n;

	run_statement(psprintf("SELECT attname, attstattarget FROM pg_attribute WHERE attrelid = %u AND attnum > 0 "
						   "AND NOT attisdropped AND attstattarget >= 0", model->relid));
	rows = SPI_tuptable;
	n = SPI_processed;
	for (uint64 i = 0; i < n; i++)
		run_statement(psprintf("ALTER TABLE %s ALTER COLUMN %s SET STATISTICS %s", name,
							   quote_identifier(SPI_getvalue(rows->vals[i], rows->tupdesc, 1)),
							   SPI_getvalue(rows->vals[i], rows->tupdesc, 2)));
}

/* the index of this relation that descends from an index of the target */
static Oid
index_of_leaf(Oid index, Oid leaf)
{
	ListCell   *cell;

	foreach(cell, find_all_inheritors(index, NoLock, NULL))
		if (IndexGetRelation(lfirst_oid(cell), true) == leaf)
			return lfirst_oid(cell);
	return InvalidOid;
}

/* REPLICA IDENTITY is not inherited: each leaf gets the one of its table, by that of its own index */
static void
copy_replica_identity(const PartitionModel *model, Oid relation)
{
	char	   *name = qualified_name(relation);
	Oid			index;

	switch (model->replica_identity)
	{
		case REPLICA_IDENTITY_FULL:
			run_statement(psprintf("ALTER TABLE %s REPLICA IDENTITY FULL", name));
			break;
		case REPLICA_IDENTITY_NOTHING:
			run_statement(psprintf("ALTER TABLE %s REPLICA IDENTITY NOTHING", name));
			break;
		case REPLICA_IDENTITY_INDEX:
			index = index_of_leaf(model->replica_index, relation);
			if (OidIsValid(index))
				run_statement(psprintf("ALTER TABLE %s REPLICA IDENTITY USING INDEX %s", name,
									   quote_identifier(get_rel_name(index))));
			break;
		default:
			break;
	}
}

/* ---------------------------------------------------------------- all of it */

static void
create_beside(const PartitionModel *model, const char *plain, const TimeRange *range)
{
	char	   *key = partition_split(model, model->sibling, model->sibling_range);
	/* a sibling that is partitioned in a way that is not taken over says nothing of storage */
	Oid			like = key != NULL || !OidIsValid(model->sibling) ||
		get_rel_relkind(model->sibling) != RELKIND_PARTITIONED_TABLE ? model->sibling : InvalidOid;

	run_statement(psprintf("CREATE %sTABLE %s (LIKE %s INCLUDING ALL EXCLUDING IDENTITY)%s%s%s",
						   model->unlogged ? "UNLOGGED " : "", partition_in_schema(model, plain), model->table_sql,
						   key ? " PARTITION BY " : "", key ? key : "", partition_storage(model, like)));
	if (key != NULL)
		partition_create_children(model, plain, model->sibling, model->sibling_range, *range);
}

void
partition_create(const PartitionModel *model, const Interval *width, const TimeRange *range)
{
	char	   *plain = partition_free_name(model->table, time_range_suffix(width, range->from), model->schema);
	char	   *name = partition_in_schema(model, plain);
	Oid			partition;
	List	   *made;
	ListCell   *cell;

	create_beside(model, plain, range);
	run_statement(psprintf("ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (%s) TO (%s)", model->table_sql, name,
						   time_range_literal(range->from, model->type),
						   time_range_literal(range->to, model->type)));
	partition = get_relname_relid(plain, model->schema);
	made = find_all_inheritors(partition, NoLock, NULL);
	foreach(cell, made)
	{
		copy_privileges(model, qualified_name(lfirst_oid(cell)));
		copy_statistics_targets(model, qualified_name(lfirst_oid(cell)));
		copy_replica_identity(model, lfirst_oid(cell));
	}
	rollup_prepare_partition(partition);
	ereport(LOG,
			(errmsg("made partition %s of %s", name, model->table_sql)));
}
