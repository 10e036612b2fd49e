/*
 * rollup_api.c
 *		create_rollup, drop_rollup, refresh_rollup: checked, recorded, made.
 *
 * Owns what a rollup consists of: a table with the query's columns and, after them, hidden ones for
 * states; a unique index on the group keys; a view with the query, which follows renames and records
 * what the query depends on; a guard on the table; triggers on the target and its partitions; a row
 * of clickstream.rollups.  check_rollup is in rollup_check.c.
 *
 * All of it happens in the caller's transaction, but for a large table's rows: a worker reads
 * those (rollup_fill.c).  A small table's are read while writers of the target are locked out, so
 * nothing is counted twice or missed.
 */
#include "postgres.h"

#include <signal.h>

#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "commands/defrem.h"
#include "commands/view.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "parser/analyze.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"

#include "catalog.h"
#include "compat.h"
#include "launcher.h"
#include "rollup_api.h"
#include "rollup_depend.h"
#include "rollup_lock.h"
#include "rollup_partition.h"
#include "rollup_query.h"
#include "rollup_refresh.h"
#include "rollup_rules.h"
#include "rollup_set.h"
#include "rollup_tame.h"
#include "rollup_trigger.h"
#include "source_api.h"
#include "statement.h"
#include "worker_slot.h"

/* KB; a setting, see clickstream.c */
int			clickstream_fill_at_once = 128 * 1024;

PG_FUNCTION_INFO_V1(clickstream_create_rollup);
PG_FUNCTION_INFO_V1(clickstream_drop_rollup);
PG_FUNCTION_INFO_V1(clickstream_refresh_rollup);

/* ---------------------------------------------------------------- arguments */

static RangeVar *
name_argument(text *name)
{
	char	   *raw = text_to_cstring(name);
	List	   *parts;

	if (!SplitIdentifierString(pstrdup(raw), '.', &parts) || parts == NIL || list_length(parts) > 3)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("\"%s\" cannot be the name of a rollup", raw),
				 errhint("A rollup is named as its table is, with or without a schema: 'page_views', 'app.page_views'.")));
	return makeRangeVarFromNameList(textToQualifiedNameList(name));
}

static void
require_owner(Oid relation)
{
	if (!compat_owns_relation(relation, GetUserId()))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be owner of table %s", get_rel_name(relation)),
				 errhint("SET ROLE to its owner, or to a member of that role.")));
}

/* The rollup of that name, with or without a schema; the caller must act for its owner. */
Rollup *
rollup_by_name(text *name, LOCKMODE lock)
{
	RangeVar   *range = name_argument(name);
	Oid			relation = RangeVarGetRelid(range, lock, true);
	Rollup	   *rollup = OidIsValid(relation) ? catalog_rollup_by_relation(relation) : NULL;

	if (rollup == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("rollup \"%s\" does not exist", text_to_cstring(name)),
				 errhint("SELECT rollup FROM clickstream.rollups lists them.")));
	require_owner(relation);
	return rollup;
}

/* ---------------------------------------------------------------- the table */

static void
append_column(StringInfo sql, const char *name, Oid type, int32 typmod, Oid collation)
{
	appendStringInfo(sql, "%s %s", quote_identifier(name),
					 format_type_extended(type, typmod,
										  FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY));
	if (OidIsValid(collation) && collation != get_typcollation(type))
		appendStringInfo(sql, " COLLATE %s", generate_collation_name(collation));
}

static void
append_columns(StringInfo sql, const RollupQuery *query)
{
	ListCell   *cell;

	foreach(cell, query->outputs)
	{
		RollupOutput *output = lfirst(cell);

		if (foreach_current_index(cell) > 0)
			appendStringInfoString(sql, ", ");
		append_column(sql, output->name, output->type, output->typmod, output->collation);
	}
	if (query->is_single_group)
		appendStringInfo(sql, ", %s boolean", quote_identifier(query->key_name));
	foreach(cell, query->aggregates)
	{
		RollupAggregate *aggregate = lfirst(cell);

		if (aggregate->is_output)
			continue;
		appendStringInfoString(sql, ", ");
		append_column(sql, aggregate->name, aggregate->state_type, -1, aggregate->state_collation);
	}
}

static const char *
key_names(const RollupQuery *query)
{
	StringInfoData names;
	ListCell   *cell;

	if (query->is_single_group)
		return quote_identifier(query->key_name);
	initStringInfo(&names);
	foreach(cell, rollup_query_keys(query))
		appendStringInfo(&names, "%s%s", foreach_current_index(cell) > 0 ? ", " : "",
						 quote_identifier(((RollupOutput *) list_nth(query->outputs,
																	 lfirst_int(cell) - 1))->name));
	return names.data;
}

static bool
keys_may_be_null(const RollupQuery *query)
{
	ListCell   *cell;

	foreach(cell, query->outputs)
	{
		RollupOutput *output = lfirst(cell);

		if (output->is_key && output->may_be_null)
			return true;
	}
	return false;
}

/*
 * A group's row is updated again and again: pages keep room for it, and no index has a column that
 * changes, so that these updates are HOT.  States stay in the row as they are: to compress one each time takes
 * longer than all the rest.
 */
static Oid
make_table(const RangeVar *name, Oid schema, const RollupQuery *query, bool partitioned)
{
	const char *table = quote_qualified_identifier(get_namespace_name(schema), name->relname);
	bool		unlogged = get_rel_persistence(query->target) == RELPERSISTENCE_UNLOGGED;
	bool		nulls = keys_may_be_null(query);
	RollupOutput *time = partitioned ? list_nth(query->outputs, rollup_query_time_column(query) - 1) : NULL;
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "CREATE %sTABLE %s (", unlogged ? "UNLOGGED " : "", table);
	append_columns(&sql, query);
	if (nulls)
		appendStringInfo(&sql, ", UNIQUE NULLS NOT DISTINCT (%s)", key_names(query));
	else
		appendStringInfo(&sql, ", PRIMARY KEY (%s)", key_names(query));
	if (partitioned)
		appendStringInfo(&sql, ") PARTITION BY RANGE (%s)", quote_identifier(time->name));
	else
		appendStringInfoString(&sql, ") WITH (" ROLLUP_STORAGE ")");
	run_ddl(sql.data);
	if (nulls)
		run_ddl(psprintf("ALTER TABLE %s REPLICA IDENTITY FULL", table));
	return get_relname_relid(name->relname, schema);
}

static Oid
make_definition(const RangeVar *name, Oid schema, RawStmt *query, const char *text)
{
	ViewStmt   *statement = makeNode(ViewStmt);
	Query	   *analyzed = parse_analyze_fixedparams(copyObject(query), text, NULL, 0, NULL);
	char	   *view = ChooseRelationName(name->relname, NULL, "definition", schema, false);
	ObjectAddress address;

	statement->view = makeRangeVar(get_namespace_name(schema), view, -1);
	statement->query = query->stmt;
	statement->withCheckOption = NO_CHECK_OPTION;
	address = DefineView(statement, text, query->stmt_location, query->stmt_len);
	CommandCounterIncrement();
	if (rollup_tame(&analyzed))
		StoreViewQuery(address.objectId, analyzed, true);
	CommandCounterIncrement();
	return address.objectId;
}

/* ---------------------------------------------------------------- create_rollup */

static bool
is_target_of_source(Oid relation)
{
	return catalog_sources_of_target(relation) != NIL;
}

static void
refuse_taken_name(const RangeVar *name, Oid schema)
{
	Oid			there = get_relname_relid(name->relname, schema);

	if (!OidIsValid(there))
		return;
	if (catalog_rollup_by_relation(there) != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("rollup \"%s\" already exists", name->relname),
				 errhint("Drop it with clickstream.drop_rollup, or choose another name.")));
	ereport(ERROR,
			(errcode(ERRCODE_DUPLICATE_TABLE),
			 errmsg("relation \"%s\" already exists", name->relname),
			 errhint("A rollup makes a table of its own; choose another name.")));
}

static List *
key_list(const RollupQuery *query)
{
	List	   *names = NIL;
	ListCell   *cell;

	if (query->is_single_group)
		return list_make1(pstrdup(query->key_name));
	foreach(cell, rollup_query_keys(query))
		names = lappend(names, ((RollupOutput *) list_nth(query->outputs, lfirst_int(cell) - 1))->name);
	return names;
}

static void
record(Oid rollup, Oid definition, const RollupQuery *query, const char *text, const Rollup *wanted,
	   RollupPhase phase, bool complete)
{
	Rollup		row = {0};

	row.rollup = rollup;
	row.target = query->target;
	row.definition = definition;
	row.owner = GetUserId();
	row.query = pstrdup(text);
	row.keys = key_list(query);
	row.settings = rollup_settings_now();
	row.retention = wanted->retention;
	row.partition_interval = wanted->partition_interval;
	row.complete = complete;
	row.phase = phase;
	(void) catalog_rollup_insert(&row);
	rollup_depend(rollup, definition);
	CommandCounterIncrement();
}

/* A rollup over a rollup would be told of its changes in the midst of a merge. */
static void
refuse_rollup_as_target(Oid target)
{
	if (catalog_rollup_by_relation(target) != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("\"%s\" is a rollup itself", get_rel_name(target)),
				 errhint("Make the rollup over the table behind it, or a view over this one.")));
}

static void
refuse_retention(const RollupQuery *query, const Interval *retention)
{
	if (retention == NULL)
		return;
	if (rollup_query_time_column(query) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a rollup without a group key that is a point in time cannot have a retention"),
				 errhint("Group by the time as well, or leave out retention.")));
	if (DatumGetInt32(DirectFunctionCall2(interval_cmp, IntervalPGetDatum(retention),
										  IntervalPGetDatum(palloc0(sizeof(Interval))))) <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the retention of a rollup must be longer than nothing"),
				 errhint("Write for example '1 year', or leave it out to keep groups for ever.")));
}

static void
refuse_partitions(const RollupQuery *query, Interval *width, const Interval *retention)
{
	AttrNumber	time = rollup_query_time_column(query);
	RollupOutput *key = time == 0 ? NULL : list_nth(query->outputs, time - 1);

	if (width == NULL)
		return;
	if (key == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a rollup without a group key that is a point in time cannot be partitioned"),
				 errhint("Group by the time as well, or leave out partition_interval.")));
	if (key->may_be_null)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("group key \"%s\" may be NULL, which has no place in a range of time", key->name),
				 errhint("Declare the column NOT NULL, or leave out partition_interval.")));
	source_check_partition_interval(width, retention, key->type);
}

static Oid
creation_schema(const RangeVar *name)
{
	Oid			schema;

	if (name->schemaname != NULL && strcmp(name->schemaname, "pg_temp") != 0 &&
		!OidIsValid(get_namespace_oid(name->schemaname, true)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_SCHEMA),
				 errmsg("schema \"%s\" does not exist", name->schemaname),
				 errhint("CREATE SCHEMA %s, or leave it out of the rollup's name.", quote_identifier(name->schemaname))));
	schema = RangeVarGetCreationNamespace(name);
	if (isTempNamespace(schema))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("a rollup cannot be a temporary table"),
				 errdetail("Other sessions write to it when they write to the table it is over."),
				 errhint("Name a schema that stays.")));
	return schema;
}

/* in blocks, of all that has rows */
static uint64
size_of(Oid target)
{
	uint64		blocks = 0;
	ListCell   *cell;

	foreach(cell, find_all_inheritors(target, AccessShareLock, NULL))
	{
		Relation	relation = table_open(lfirst_oid(cell), NoLock);

		if (RELKIND_HAS_TABLE_AM(relation->rd_rel->relkind))
			blocks += RelationGetNumberOfBlocks(relation);
		table_close(relation, NoLock);
	}
	return blocks;
}

static bool
is_for_worker(Oid target)
{
	return clickstream_fill_at_once >= 0 &&
		size_of(target) > (uint64) clickstream_fill_at_once * 1024 / BLCKSZ;
}

static void
leave_to_worker(const char *name)
{
	launcher_wake_at_commit();
	ereport(NOTICE,
			(errmsg("rollup \"%s\" is filled in the background", name),
			 errdetail("It is not complete before clickstream.stat_rollups says so."),
			 errhint("SELECT clickstream.wait_for_rollup('%s', '1 hour') waits for it, in another transaction.",
					 name)));
}

static void
create_rollup(const RangeVar *name, const char *text, bool with_data, const Rollup *wanted)
{
	Oid			schema = creation_schema(name);
	RawStmt    *raw;
	RollupQuery *query;
	RollupRange kept = {.has_from = wanted->retention != NULL};
	RollupSet  *set;
	Oid			rollup;
	Oid			definition;
	bool		for_worker;

	kept.from = rollup_oldest(wanted);
	refuse_taken_name(name, schema);
	query = rollup_rules_parse(text, is_target_of_source, &raw);
	refuse_rollup_as_target(query->target);
	refuse_retention(query, wanted->retention);
	refuse_partitions(query, wanted->partition_interval, wanted->retention);
	require_owner(query->target);
	for_worker = with_data && is_for_worker(query->target);
	if (!for_worker || !rollup_triggers_are_installed(query->target))
	{
		rollup_lock_out_writers(query->target);
		rollup_triggers_install(query->target);
	}
	rollup_tell_of_foreign(query->target);

	definition = make_definition(name, schema, raw, text);
	rollup = make_table(name, schema, query, wanted->partition_interval != NULL);
	rollup_guard_install(rollup, query->n_columns);
	record(rollup, definition, query, text, wanted,
		   for_worker ? ROLLUP_WAITING : ROLLUP_FILLED, with_data && !for_worker);
	rollup_set_changed(query->target);
	CommandCounterIncrement();

	set = rollup_set_open(query->target);
	if (for_worker)
		leave_to_worker(name->relname);
	else if (with_data)
		rollup_set_fill(set, rollup, &kept);
	else
		rollup_set_fill_with_nothing(set, rollup);
	rollup_set_close(set);
}

Datum
clickstream_create_rollup(PG_FUNCTION_ARGS)
{
	Rollup		wanted = {0};
	Interval	width;
	int			i;

	for (i = 0; i < 3; i++)
	{
		if (PG_ARGISNULL(i))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("name, query and with_data of a rollup cannot be NULL"),
					 errhint("SELECT clickstream.create_rollup('name', 'SELECT … FROM table GROUP BY …').")));
	}
	wanted.retention = PG_ARGISNULL(3) ? NULL : PG_GETARG_INTERVAL_P(3);
	if (!PG_ARGISNULL(4))
	{
		width = *PG_GETARG_INTERVAL_P(4);
		wanted.partition_interval = &width;
	}
	create_rollup(name_argument(PG_GETARG_TEXT_PP(0)), text_to_cstring(PG_GETARG_TEXT_PP(1)), PG_GETARG_BOOL(2), &wanted);
	PG_RETURN_VOID();
}

/* ---------------------------------------------------------------- drop_rollup */

/* What remains when the table and the definition are gone, or are about to go. */
void
rollup_forget(const Rollup *rollup)
{
	catalog_rollup_delete(rollup->id);
	catalog_noted_groups_delete(rollup->id);
	catalog_fill_delete(rollup->id);
	catalog_late_rows_delete(rollup->id);
	CommandCounterIncrement();
	if (get_rel_name(rollup->target) == NULL)
		return;
	if (catalog_rollups_of_target(rollup->target) == NIL)
		rollup_triggers_remove(rollup->target);
	rollup_set_changed(rollup->target);
}

/* It would hold on to the rollup until it has read the whole target. */
static void
stop_worker(const Rollup *rollup)
{
	WorkerSlot *slot;
	pid_t		pid = 0;

	if (rollup->phase == ROLLUP_FILLED || worker_slots_of(WORKER_ROLLUP, rollup->id, &slot, 1) == 0)
		return;
	SpinLockAcquire(&slot->mutex);
	if (slot->kind == WORKER_ROLLUP && slot->object_id == rollup->id)
		pid = slot->pid;
	SpinLockRelease(&slot->mutex);
	if (pid != 0)
		kill(pid, SIGTERM);
	launcher_wake_at_commit();
}

/* The order of locks is that of a writer: the target first. */
Datum
clickstream_drop_rollup(PG_FUNCTION_ARGS)
{
	Rollup	   *rollup = rollup_by_name(PG_GETARG_TEXT_PP(0), NoLock);

	stop_worker(rollup);
	rollup_lock_out_all(rollup->target, rollup->rollup);
	rollup_forget(rollup);
	run_ddl(psprintf("DROP TABLE %s", qualified_name(rollup->rollup)));
	if (get_rel_name(rollup->definition) != NULL)
		run_ddl(psprintf("DROP VIEW %s", qualified_name(rollup->definition)));
	PG_RETURN_VOID();
}

/* ---------------------------------------------------------------- refresh_rollup */

/* from and to, as arguments of a number and the one after it */
RollupRange
rollup_range_arguments(FunctionCallInfo fcinfo, int argument, const Rollup *rollup)
{
	RollupRange range = {0};

	range.has_from = !PG_ARGISNULL(argument);
	range.has_to = !PG_ARGISNULL(argument + 1);
	if (range.has_from)
		range.from = PG_GETARG_TIMESTAMPTZ(argument);
	if (range.has_to)
		range.to = PG_GETARG_TIMESTAMPTZ(argument + 1);
	if ((range.has_from || range.has_to) &&
		rollup_query_time_column(rollup_query_of_definition(rollup->definition, rollup->target)) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("rollup \"%s\" has no group key that is a point in time",
						get_rel_name(rollup->rollup)),
				 errhint("Leave out from and to.")));
	if (rollup->retention != NULL)
	{
		range.from = range.has_from ? Max(range.from, rollup_oldest(rollup)) : rollup_oldest(rollup);
		range.has_from = true;
	}
	return range;
}

static void
tell_kept(const Rollup *rollup, int64 n)
{
	if (n > 0)
		ereport(NOTICE,
				(errmsg_plural("" INT64_FORMAT " group of \"%s\" has no rows any more and stays as it was",
							   "" INT64_FORMAT " groups of \"%s\" have no rows any more and stay as they were",
							   n, n, get_rel_name(rollup->rollup)),
				 errhint("clickstream.check_rollup shows them as extra.")));
}

static void
refuse_unfilled(const Rollup *rollup)
{
	if (rollup->phase != ROLLUP_FILLED)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("rollup \"%s\" is still being filled", get_rel_name(rollup->rollup)),
				 errhint("clickstream.wait_for_rollup waits until it is complete.")));
}

/* what a refresh takes and gives */
typedef struct Refresh
{
	const RollupRange *range;
	int64		kept;
} Refresh;

static void
refresh(RollupMerge *merge, void *argument)
{
	Refresh    *wanted = argument;

	wanted->kept = rollup_refresh_range(merge, wanted->range);
}

static int64
refresh_range(RollupSet *set, Oid rollup, const RollupRange *range)
{
	Refresh		wanted = {.range = range};

	rollup_set_work(set, rollup, refresh, &wanted);
	return wanted.kept;
}

Datum
clickstream_refresh_rollup(PG_FUNCTION_ARGS)
{
	Rollup	   *rollup;
	RollupRange range;
	RollupSet  *set;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("a rollup's name cannot be NULL"),
				 errhint("SELECT rollup FROM clickstream.rollups lists them.")));
	rollup = rollup_by_name(PG_GETARG_TEXT_PP(0), NoLock);
	range = rollup_range_arguments(fcinfo, 1, rollup);
	refuse_unfilled(rollup);
	if (!rollup->complete)
		rollup_lock_out_writers(rollup->target);
	set = rollup_set_open(rollup->target);
	tell_kept(rollup, rollup->complete ? refresh_range(set, rollup->rollup, &range) :
			  rollup_set_fill(set, rollup->rollup, &range));
	rollup_set_close(set);
	if (!rollup->complete && PG_ARGISNULL(1) && PG_ARGISNULL(2))
	{
		rollup->complete = true;
		catalog_rollup_update(rollup);
	}
	PG_RETURN_VOID();
}
