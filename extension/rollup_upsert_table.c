/*
 * rollup_upsert_table.c
 *		The tables of one run of the merge: a rollup's own, or those of its partitions that the groups need.
 *
 * Called by rollup_upsert.c and rollup_upsert_plan.c.  Knows what a table must not have, by which index its rows
 * are found, and which partition a group belongs to; reads and writes no rows.
 *
 * All partitions are opened before anything is written: if one of them is not plain, a statement does the
 * whole.  They are looked at anew in each run, because nothing tells of what an owner does to them.  Their
 * columns are where the rollup's are, or they are not plain either.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_index.h"
#include "commands/trigger.h"
#include "partitioning/partbounds.h"
#include "partitioning/partdesc.h"
#include "utils/lsyscache.h"
#include "utils/partcache.h"

#include "compat.h"
#include "rollup_trigger.h"
#include "rollup_upsert_internal.h"

/* ---------------------------------------------------------------- tables that are plain enough */

static bool
has_only_guards(const TriggerDesc *triggers)
{
	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		if (strncmp(triggers->triggers[i].tgname, ROLLUP_GUARD, strlen(ROLLUP_GUARD)) != 0)
			return false;
	}
	return true;
}

/* Checks and NOT NULL are minded; policies are not for the owner, as whom we write, unless he says so. */
bool
upsert_table_is_plain(Relation table, int n_columns)
{
	TupleDesc	desc = RelationGetDescr(table);
	TupleConstr *constr = desc->constr;
	bool		has_rows = table->rd_rel->relkind == RELKIND_RELATION;

	if ((has_rows && table->rd_tableam != GetHeapamTableAmRoutine()) ||
		(!has_rows && table->rd_rel->relkind != RELKIND_PARTITIONED_TABLE) ||
		(has_rows && table->rd_rel->relhassubclass) || table->rd_rel->relhasrules || table->rd_rel->relforcerowsecurity ||
		!has_only_guards(table->trigdesc) || desc->natts != n_columns)
		return false;
	return constr == NULL || (!constr->has_generated_stored && !compat_has_virtual_columns(desc));
}

/* the same columns in the same places, with rows of its own */
static bool
is_plain_partition(Relation partition, TupleDesc desc)
{
	TupleDesc	its = RelationGetDescr(partition);

	if (partition->rd_rel->relkind != RELKIND_RELATION || !upsert_table_is_plain(partition, desc->natts))
		return false;
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute one = TupleDescAttr(desc, i),
					other = TupleDescAttr(its, i);

		if (other->attisdropped || one->atttypid != other->atttypid || one->atttypmod != other->atttypmod ||
			one->attcollation != other->attcollation || strcmp(NameStr(one->attname), NameStr(other->attname)) != 0)
			return false;
	}
	return true;
}

/* ---------------------------------------------------------------- the index of the keys */

/* the number of the key that is this column of the table, from 0, or -1 */
static int
key_of_column(const RollupUpsert *upsert, AttrNumber column)
{
	for (int i = 0; i < upsert->n_keys; i++)
		if (upsert->columns[i] == column)
			return i;
	return -1;
}

static bool
is_on_keys(const RollupUpsert *upsert, Relation index, Relation table)
{
	Form_pg_index form = index->rd_index;

	if (!form->indisunique || !form->indisvalid || !form->indimmediate ||
		form->indnkeyatts != upsert->n_keys || index->rd_rel->relam != BTREE_AM_OID ||
		!heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, NULL))
		return false;
	for (int i = 0; i < upsert->n_keys; i++)
	{
		AttrNumber	column = form->indkey.values[i];

		if (column <= 0 || key_of_column(upsert, column) < 0 ||
			(!form->indnullsnotdistinct && !TupleDescAttr(RelationGetDescr(table), column - 1)->attnotnull))
			return false;
	}
	return true;
}

/* one `=` for each column of the index; values come with each group */
static void
make_scan_keys(UpsertIndex *found, const RollupUpsert *upsert, Relation index)
{
	found->scan_keys = palloc(sizeof(ScanKeyData) * upsert->n_keys);
	found->scan_states = palloc(sizeof(int) * upsert->n_keys);
	for (int i = 0; i < upsert->n_keys; i++)
	{
		Oid			operator = get_opfamily_member(index->rd_opfamily[i], index->rd_opcintype[i],
												   index->rd_opcintype[i], BTEqualStrategyNumber);

		found->scan_states[i] = key_of_column(upsert, index->rd_index->indkey.values[i]);
		ScanKeyEntryInitialize(&found->scan_keys[i], 0, i + 1, BTEqualStrategyNumber, InvalidOid,
							   index->rd_indcollation[i], get_opcode(operator), (Datum) 0);
	}
}

bool
upsert_index_find(UpsertIndex *found, const RollupUpsert *upsert, Relation table)
{
	List	   *all = RelationGetIndexList(table);
	ListCell   *cell;

	found->indexes = NIL;
	foreach(cell, all)
	{
		Relation	index = index_open(lfirst_oid(cell), AccessShareLock);

		if (is_on_keys(upsert, index, table))
		{
			if (found->indexes == NIL)
				make_scan_keys(found, upsert, index);
			found->indexes = lappend_oid(found->indexes, lfirst_oid(cell));
		}
		index_close(index, AccessShareLock);
	}
	list_free(all);
	return found->indexes != NIL;
}

/* ---------------------------------------------------------------- those of a run */

static UpsertTable *
add_table(UpsertRun *run, Relation relation, const UpsertIndex *index)
{
	UpsertTable *table = palloc0(sizeof(UpsertTable));

	CheckCmdReplicaIdentity(relation, CMD_UPDATE);
	table->relation = relation;
	table->index = *index;
	table->looked_into = index_open(linitial_oid(index->indexes), RowExclusiveLock);
	table->scan = compat_index_beginscan(relation, table->looked_into, &run->dirty, run->upsert->n_keys);
	run->tables = lappend(run->tables, table);
	return table;
}

static UpsertTable *
open_table(UpsertRun *run, Oid oid)
{
	RollupUpsert *upsert = run->upsert;
	Relation	relation = table_open(oid, RowExclusiveLock);
	UpsertIndex index;

	if (!upsert->is_partitioned)
		return add_table(run, relation, &upsert->index);
	if (is_plain_partition(relation, upsert->desc) && upsert_index_find(&index, upsert, relation))
		return add_table(run, relation, &index);
	table_close(relation, NoLock);
	return NULL;
}

static UpsertTable *
table_among(const UpsertRun *run, Oid oid)
{
	ListCell   *cell;

	foreach(cell, run->tables)
	{
		if (RelationGetRelid(((UpsertTable *) lfirst(cell))->relation) == oid)
			return lfirst(cell);
	}
	return NULL;
}

/* of the group in fresh; InvalidOid: there is none */
static Oid
partition_of_group(const UpsertRun *run)
{
	PartitionKey key = RelationGetPartitionKey(run->rollup);
	PartitionDesc parts = RelationGetPartitionDesc(run->rollup, true);
	bool		is_null,
				is_equal;
	Datum		time = slot_getattr(run->upsert->fresh, run->upsert->time_state + 1, &is_null);
	int			at;

	if (is_null || parts->boundinfo == NULL)
		return InvalidOid;
	at = partition_range_datum_bsearch(key->partsupfunc, key->partcollation, parts->boundinfo, 1, &time, &is_equal);
	at = parts->boundinfo->indexes[at + 1];
	return at < 0 ? InvalidOid : parts->oids[at];
}

static bool
open_partitions(UpsertRun *run, Tuplestorestate *states)
{
	TupleTableSlot *fresh = run->upsert->fresh;
	Oid			last = InvalidOid;
	bool		fits = true;

	tuplestore_rescan(states);
	while (fits && tuplestore_gettupleslot(states, true, false, fresh))
	{
		Oid			oid = partition_of_group(run);

		if (oid == last && OidIsValid(oid))
			continue;
		last = oid;
		fits = OidIsValid(oid) && (table_among(run, oid) != NULL || open_table(run, oid) != NULL);
	}
	ExecClearTuple(fresh);
	return fits;
}

bool
upsert_tables_open(UpsertRun *run, Tuplestorestate *states)
{
	if (run->upsert->is_partitioned)
		return open_partitions(run, states);
	run->table = open_table(run, run->upsert->rollup);
	return true;
}

void
upsert_tables_close(UpsertRun *run)
{
	ListCell   *cell;

	foreach(cell, run->tables)
	{
		UpsertTable *table = lfirst(cell);

		if (table->result != NULL)
			ExecCloseIndices(table->result);
		index_endscan(table->scan);
		index_close(table->looked_into, NoLock);
		table_close(table->relation, NoLock);
	}
	if (run->estate != NULL)
		FreeExecutorState(run->estate);
}

void
upsert_table_choose(UpsertRun *run)
{
	Oid			oid;

	if (!run->upsert->is_partitioned)
		return;
	oid = partition_of_group(run);
	if (run->table == NULL || RelationGetRelid(run->table->relation) != oid)
		run->table = table_among(run, oid);
	if (run->table == NULL)
		elog(ERROR, "a group of rollup \"%s\" has lost its partition", RelationGetRelationName(run->rollup));
}

void
upsert_table_prepare_result(UpsertRun *run)
{
	UpsertTable *table = run->table;

	if (table->result != NULL)
		return;
	if (run->estate == NULL)
		run->estate = CreateExecutorState();
	table->result = makeNode(ResultRelInfo);
	InitResultRelInfo(table->result, table->relation, 0, NULL, 0);
	ExecOpenIndices(table->result, true);
}
