/*
 * rollup_note.c
 *		Groups of a rollup that is being filled which are to be computed again at the end.
 *
 * While a rollup is filled, its table has of each group what came in since, and the rest is still
 * being read.  To compute a group whose rows were changed or deleted would be right at that moment, and
 * wrong once the rest is added.  So whoever changes or deletes rows only notes their groups, in a table where
 * nobody waits for anybody, and the worker computes them when all the rest is in its place.
 *
 * Notes are made by rollup_delta.c and taken by rollup_fill.c.  A note is a tuple of the rollup's states
 * with its keys alone, in the form in which the executor passes tuples on.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/htup_details.h"
#include "executor/executor.h"
#include "miscadmin.h"

#include "catalog.h"
#include "compat.h"
#include "rollup_note.h"

/* how many notes are written, or taken, at once */
#define AT_ONCE 2000

bytea *
rollup_note_of(const RollupMerge *merge, TupleTableSlot *state)
{
	int			n_keys = list_length(rollup_query_keys(merge->query));
	int			natts = merge->states_desc->natts;
	Datum	   *values = palloc0(sizeof(Datum) * natts);
	bool	   *nulls = palloc(sizeof(bool) * natts);
	MinimalTuple tuple;
	bytea	   *note;
	int			i;

	memset(nulls, true, sizeof(bool) * natts);
	for (i = 0; i < n_keys; i++)
	{
		values[i] = slot_getattr(state, i + 1, &nulls[i]);
		if (!nulls[i] && TupleDescAttr(merge->states_desc, i)->attlen == -1)
			values[i] = PointerGetDatum(PG_DETOAST_DATUM(values[i]));
	}
	tuple = compat_form_minimal_tuple(merge->states_desc, values, nulls);
	note = palloc(VARHDRSZ + tuple->t_len);
	SET_VARSIZE(note, VARHDRSZ + tuple->t_len);
	memcpy(VARDATA(note), tuple, tuple->t_len);
	return note;
}

void
rollup_note_read(const bytea *note, TupleTableSlot *state)
{
	MinimalTuple tuple = palloc(VARSIZE(note) - VARHDRSZ);

	memcpy(tuple, VARDATA(note), VARSIZE(note) - VARHDRSZ);
	ExecStoreMinimalTuple(tuple, state, true);
}

void
rollup_note_groups(const RollupMerge *merge, int32 rollup_id, Tuplestorestate *states)
{
	TupleTableSlot *slot = MakeSingleTupleTableSlot(merge->states_desc, &TTSOpsMinimalTuple);
	Datum		notes[AT_ONCE];
	int			n = 0;

	tuplestore_rescan(states);
	while (tuplestore_gettupleslot(states, true, false, slot))
	{
		notes[n++] = PointerGetDatum(rollup_note_of(merge, slot));
		if (n < AT_ONCE)
			continue;
		catalog_noted_groups_insert(rollup_id, notes, n);
		n = 0;
	}
	if (n > 0)
		catalog_noted_groups_insert(rollup_id, notes, n);
	ExecDropSingleTupleTableSlot(slot);
}

/* the same group may have been noted often */
static Tuplestorestate *
each_once(RollupMerge *merge, Tuplestorestate *groups)
{
	RollupRelation relation = {"_states", groups};

	return rollup_merge_select(merge, psprintf("SELECT DISTINCT ON (%s) %s FROM _states s",
											   rollup_merge_key_columns(merge, "s"),
											   rollup_merge_states_columns(merge, "s")), &relation, 1);
}

Tuplestorestate *
rollup_note_take(RollupMerge *merge, int32 rollup_id)
{
	Tuplestorestate *groups = tuplestore_begin_heap(true, false, work_mem);
	TupleTableSlot *slot = MakeSingleTupleTableSlot(merge->states_desc, &TTSOpsMinimalTuple);
	ListCell   *cell;

	foreach(cell, catalog_noted_groups_take(rollup_id, AT_ONCE))
	{
		rollup_note_read(lfirst(cell), slot);
		tuplestore_puttupleslot(groups, slot);
	}
	ExecDropSingleTupleTableSlot(slot);
	return tuplestore_tuple_count(groups) < 2 ? groups : each_once(merge, groups);
}
