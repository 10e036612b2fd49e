/*
 * rollup_depend.c
 *		DROP of what a rollup's query reads says that the rollup is in the way; CASCADE takes it along.
 *
 * The definition, a view, depends on all that the query reads; here the rollup's table is made to
 * depend on the definition.  Called when a rollup is made, when it is used for the first time in a
 * process, and before a command that asks for it: pg_dump knows nothing of this dependency, so a restored
 * rollup has lost it.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xlog.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/pg_class.h"
#include "catalog/pg_depend.h"
#include "utils/fmgroids.h"

#include "rollup_depend.h"

static bool
is_recorded(Oid rollup, Oid definition)
{
	Relation	depend = table_open(DependRelationId, AccessShareLock);
	ScanKeyData key[2];
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		found = false;

	ScanKeyInit(&key[0], Anum_pg_depend_classid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(RelationRelationId));
	ScanKeyInit(&key[1], Anum_pg_depend_objid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(rollup));
	scan = systable_beginscan(depend, DependDependerIndexId, true, NULL, 2, key);
	while (!found && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_depend form = (Form_pg_depend) GETSTRUCT(tuple);

		found = form->refclassid == RelationRelationId && form->refobjid == definition;
	}
	systable_endscan(scan);
	table_close(depend, AccessShareLock);
	return found;
}

void
rollup_depend(Oid rollup, Oid definition)
{
	ObjectAddress table;
	ObjectAddress view;

	if (RecoveryInProgress() || is_recorded(rollup, definition))
		return;
	ObjectAddressSet(table, RelationRelationId, rollup);
	ObjectAddressSet(view, RelationRelationId, definition);
	recordDependencyOn(&table, &view, DEPENDENCY_NORMAL);
}
