/*
 * read_only.c
 *		Looks up default_transaction_read_only in what ALTER DATABASE and ALTER ROLE ... SET have left.
 *
 * A session reads these settings once, at its start, and a worker's session is nobody's in
 * particular.  So a source asks for this one, the only setting of others that it obeys, itself.
 * Called by source_main.c.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_db_role_setting.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"

#include "read_only.h"

#define SETTING "default_transaction_read_only="

typedef enum Said
{
	SAID_NOTHING,
	SAID_OFF,
	SAID_ON
} Said;

static Said
said_in(ArrayType *settings)
{
	Datum	   *elements;
	bool	   *nulls;
	int			n;
	Said		said = SAID_NOTHING;

	deconstruct_array(settings, TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &n);
	for (int i = 0; i < n; i++)
	{
		const char *setting = nulls[i] ? "" : TextDatumGetCString(elements[i]);
		bool		on;

		if (strncmp(setting, SETTING, strlen(SETTING)) == 0 &&
			parse_bool(setting + strlen(SETTING), &on))
			said = on ? SAID_ON : SAID_OFF;
	}
	return said;
}

static Said
said_for(Relation catalog, Oid database, Oid role)
{
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	tuple;
	Said		said = SAID_NOTHING;

	ScanKeyInit(&keys[0], Anum_pg_db_role_setting_setdatabase, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(database));
	ScanKeyInit(&keys[1], Anum_pg_db_role_setting_setrole, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(role));
	scan = systable_beginscan(catalog, DbRoleSettingDatidRolidIndexId, true, NULL, 2, keys);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		bool		is_null;
		Datum		settings = heap_getattr(tuple, Anum_pg_db_role_setting_setconfig,
											RelationGetDescr(catalog), &is_null);

		if (!is_null)
			said = said_in(DatumGetArrayTypeP(settings));
	}
	systable_endscan(scan);
	return said;
}

/* the more special one decides, as for a session */
bool
read_only_by_alter(Oid role)
{
	Relation	catalog = table_open(DbRoleSettingRelationId, AccessShareLock);
	Said		said = said_for(catalog, MyDatabaseId, role);

	if (said == SAID_NOTHING)
		said = said_for(catalog, InvalidOid, role);
	if (said == SAID_NOTHING)
		said = said_for(catalog, MyDatabaseId, InvalidOid);
	table_close(catalog, AccessShareLock);
	return said == SAID_ON;
}
