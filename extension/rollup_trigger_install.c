/*
 * rollup_trigger_install.c
 *		The triggers of rollups: which there are, put in place, mended, taken away.
 *
 * Called when a rollup is made or dropped, by rollup_events.c for partitions that come and go, and by rollup_target.c
 * when somebody has switched triggers.  What they do is in rollup_trigger.c.
 *
 * None of these fires for changes that logical replication applies, nor under session_replication_role =
 * replica.  A row trigger that is enabled for just those cases does; it takes one row at a time.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "catalog.h"
#include "rollup_trigger.h"
#include "statement.h"

static const struct
{
	const char *name;
	const char *text;			/* with the table's name in the middle */
	const char *fires;			/* as ALTER TABLE says it; NULL as usual */
	char		enabled;		/* the same as the catalog says it */
	bool		only_target;
}			triggers[] = {
	{"clickstream_rollup_insert",
	"AFTER INSERT ON %s REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT", NULL, TRIGGER_FIRES_ON_ORIGIN, false},
	{"clickstream_rollup_update",
	"AFTER UPDATE ON %s REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT", NULL, TRIGGER_FIRES_ON_ORIGIN, false},
	{"clickstream_rollup_delete",
	"AFTER DELETE ON %s REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT", NULL, TRIGGER_FIRES_ON_ORIGIN, false},
	{"clickstream_rollup_before_truncate", "BEFORE TRUNCATE ON %s FOR EACH STATEMENT", "ALWAYS", TRIGGER_FIRES_ALWAYS, false},
	{"clickstream_rollup_truncate", "AFTER TRUNCATE ON %s FOR EACH STATEMENT", "ALWAYS", TRIGGER_FIRES_ALWAYS, false},
	/* PostgreSQL itself gives each partition its copy of a row trigger */
	{"clickstream_rollup_replica", "AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW", "REPLICA", TRIGGER_FIRES_ON_REPLICA, true},
};

/* ---------------------------------------------------------------- as they are to fire */

bool
rollup_trigger_is_ours(const char *name)
{
	for (int i = 0; i < lengthof(triggers); i++)
	{
		if (strcmp(name, triggers[i].name) == 0)
			return true;
	}
	return false;
}

/* the number of a trigger of ours that is off, or that is on but not when it should be; or -1 */
static int
find_wrong(Oid relation, bool off)
{
	Relation	table = table_open(relation, NoLock);
	TriggerDesc *all = table->trigdesc;
	int			wrong = -1;

	for (int n = 0; all != NULL && n < all->numtriggers && wrong < 0; n++)
	{
		char		enabled = all->triggers[n].tgenabled;

		for (int i = 0; i < lengthof(triggers); i++)
		{
			if (strcmp(all->triggers[n].tgname, triggers[i].name) == 0 &&
				enabled != triggers[i].enabled && (enabled == TRIGGER_DISABLED) == off)
				wrong = i;
		}
	}
	table_close(table, NoLock);
	return wrong;
}

bool
rollup_triggers_are_off(Oid table)
{
	ListCell   *cell;

	foreach(cell, find_all_inheritors(table, AccessShareLock, NULL))
	{
		if (find_wrong(lfirst_oid(cell), true) >= 0)
			return true;
	}
	return false;
}

void
rollup_triggers_mend(Oid table)
{
	ListCell   *cell;

	foreach(cell, find_all_inheritors(table, AccessShareLock, NULL))
	{
		int			i;

		while ((i = find_wrong(lfirst_oid(cell), false)) >= 0)
			run_ddl(psprintf("ALTER TABLE ONLY %s ENABLE %s TRIGGER %s", qualified_name(lfirst_oid(cell)),
							 triggers[i].fires != NULL ? triggers[i].fires : "", triggers[i].name));
	}
}

/* ---------------------------------------------------------------- putting triggers in place */

static bool
has_rollups(Oid relation)
{
	return catalog_rollups_of_target(relation) != NIL;
}

/* returns whether there was anything to do */
static bool
install_on(Oid relation, bool is_target)
{
	bool		installed = false;
	int			i;

	for (i = 0; i < lengthof(triggers); i++)
	{
		StringInfoData sql;

		if ((triggers[i].only_target && !is_target) ||
			OidIsValid(get_trigger_oid(relation, triggers[i].name, true)))
			continue;
		initStringInfo(&sql);
		appendStringInfo(&sql, "CREATE TRIGGER %s ", triggers[i].name);
		appendStringInfo(&sql, triggers[i].text, qualified_name(relation));
		appendStringInfoString(&sql, " EXECUTE FUNCTION clickstream._rollup_trigger()");
		run_ddl(sql.data);
		if (triggers[i].fires != NULL)
			run_ddl(psprintf("ALTER TABLE %s ENABLE %s TRIGGER %s", qualified_name(relation),
							 triggers[i].fires, triggers[i].name));
		installed = true;
	}
	return installed;
}

bool
rollup_trigger_install_on(Oid partition)
{
	char		kind = get_rel_relkind(partition);

	return (kind == RELKIND_RELATION || kind == RELKIND_PARTITIONED_TABLE) &&
		install_on(partition, false);
}

static void
remove_trigger(Oid relation, const char *name)
{
	ObjectAddress trigger;
	Oid			oid = get_trigger_oid(relation, name, true);

	if (!OidIsValid(oid))
		return;
	ObjectAddressSet(trigger, TriggerRelationId, oid);
	performDeletion(&trigger, DROP_RESTRICT, PERFORM_DELETION_INTERNAL);
}

/* Whoever may drop the rollup need not own its target. */
void
rollup_trigger_remove_from(Oid relation)
{
	for (int i = 0; i < lengthof(triggers); i++)
		remove_trigger(relation, triggers[i].name);
}

void
rollup_guard_remove_from(Oid table)
{
	remove_trigger(table, ROLLUP_GUARD);
	CommandCounterIncrement();
}

/* tables that are no partitions and have a trigger that calls one of our functions */
static List *
tables_with_triggers_of(const char *function)
{
	return oids_of(psprintf("SELECT t.tgrelid FROM pg_catalog.pg_trigger t "
							"JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) t.tgrelid "
							"WHERE t.tgfoid OPERATOR(pg_catalog.=) '%s'::pg_catalog.regprocedure "
							"AND NOT c.relispartition", function));
}

static bool
is_rollup(Oid relation)
{
	return catalog_rollup_by_relation(relation) != NULL;
}

static List *
strays_among(List *tables, bool (*has_a_use) (Oid relation))
{
	List	   *strays = NIL;
	ListCell   *cell;

	foreach(cell, tables)
	{
		if (!has_a_use(lfirst_oid(cell)))
			strays = lappend_oid(strays, lfirst_oid(cell));
	}
	return strays;
}

List *
rollup_trigger_strays(void)
{
	return strays_among(tables_with_triggers_of("clickstream._rollup_trigger()"), has_rollups);
}

List *
rollup_guard_strays(void)
{
	return strays_among(tables_with_triggers_of("clickstream._rollup_guard()"), is_rollup);
}

/* PostgreSQL refuses rows that come to it through its parent; those that others put there are not told. */
void
rollup_tell_of_foreign(Oid target)
{
	ListCell   *cell;

	foreach(cell, find_all_inheritors(target, NoLock, NULL))
	{
		if (get_rel_relkind(lfirst_oid(cell)) == RELKIND_FOREIGN_TABLE)
			ereport(NOTICE,
					(errmsg("rollups do not see what is written to the foreign table \"%s\"", get_rel_name(lfirst_oid(cell))),
					 errhint("clickstream.check_rollup shows the difference, clickstream.refresh_rollup takes it in.")));
	}
}

void
rollup_triggers_install(Oid target)
{
	ListCell   *cell;

	foreach(cell, find_all_inheritors(target, ShareRowExclusiveLock, NULL))
	{
		if (lfirst_oid(cell) == target)
			(void) install_on(target, true);
		else
			(void) rollup_trigger_install_on(lfirst_oid(cell));
	}
}

/* whoever makes or attaches a partition sees to it, so the target tells for all */
bool
rollup_triggers_are_installed(Oid target)
{
	int			i;

	for (i = 0; i < lengthof(triggers); i++)
	{
		if (!OidIsValid(get_trigger_oid(target, triggers[i].name, true)))
			return false;
	}
	return true;
}

void
rollup_triggers_remove(Oid target)
{
	ListCell   *cell;

	foreach(cell, find_all_inheritors(target, ShareRowExclusiveLock, NULL))
		rollup_trigger_remove_from(lfirst_oid(cell));
}

/* ---------------------------------------------------------------- the guard */

void
rollup_guard_install_on_partition(Oid partition)
{
	run_ddl(psprintf("CREATE TRIGGER " ROLLUP_GUARD " "
					 "BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON %s "
					 "FOR EACH STATEMENT EXECUTE FUNCTION clickstream._rollup_guard()",
					 qualified_name(partition)));
}

/*
 * One trigger refuses; the other is never called: it is there to depend on the columns that clickstream
 * fills, in a dump, too, so that they can be renamed, but neither dropped nor given another type.
 */
void
rollup_guard_install(Oid rollup, int n_columns)
{
	StringInfoData columns;

	initStringInfo(&columns);
	for (int n = 1; n <= n_columns; n++)
		appendStringInfo(&columns, "%s%s", n > 1 ? ", " : "", quote_identifier(get_attname(rollup, n, false)));
	rollup_guard_install_on_partition(rollup);
	run_ddl(psprintf("CREATE TRIGGER " ROLLUP_GUARD "_columns BEFORE UPDATE OF %s ON %s "
					 "FOR EACH STATEMENT WHEN (false) EXECUTE FUNCTION clickstream._rollup_guard()",
					 columns.data, qualified_name(rollup)));
}

void
rollup_prepare_partition(Oid partition)
{
	ListCell   *cell;

	if (!get_rel_relispartition(partition))
		return;
	foreach(cell, get_partition_ancestors(partition))
	{
		if (has_rollups(lfirst_oid(cell)))
		{
			ListCell   *inner;

			foreach(inner, find_all_inheritors(partition, ShareRowExclusiveLock, NULL))
			{
				(void) rollup_trigger_install_on(lfirst_oid(inner));
			}
			return;
		}
	}
}
