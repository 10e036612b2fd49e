/*
 * rollup_sieve.c
 *		Which rows a table's rollups would refuse, before these rows are written.
 *
 * Called by the source worker when a rollup has refused a row of it lately.  Writes nothing.
 *
 * A rollup's delta is computed of all new rows at once, and an error in it does not say which row it was.
 * So here the expressions that a rollup computes of one row alone, its keys and the arguments of its
 * aggregates, are evaluated row by row.  Where nothing decides which rows and arguments count (WHERE,
 * FILTER, a join that may drop rows), the delta would surely evaluate them, too, and the answer is sure.
 * Otherwise it is a suspicion, and the plan of the delta itself is run over that row.
 * A key that is too wide for the rollup's index is found here as well.
 *
 * What comes of many rows together, such as a sum that overflows, is not found here.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "index_width.h"
#include "rollup_query.h"
#include "rollup_set.h"
#include "rollup_sieve.h"

typedef struct SieveRollup
{
	const Rollup *rollup;
	const RollupQuery *query;
	const char *name;
	bool		alone;			/* FROM names the table and nothing else */
	bool		sure;
	bool		complete;
	bool		ready;
	ExprState  *where;			/* NULL: every row counts */
	int			n_keys;
	ExprState **keys;			/* NULL for one that takes more than a row of the table */
	AttrNumber *key_columns;	/* of the rollup's table */
	Datum	   *values;
	bool	   *nulls;
	List	   *arguments;		/* of ExprState * */
} SieveRollup;

struct RollupSieve
{
	RollupSet  *set;
	TupleDesc	desc;
	MemoryContext memory;		/* with the sieve */
	MemoryContext asking;		/* for one question */
	ExprContext *econtext;
	int			n;
	SieveRollup *rollups;
};

/* ---------------------------------------------------------------- what can be evaluated of a row alone */

typedef struct Needs
{
	int			target;			/* its range table index */
	bool		row;			/* a column of the table */
	bool		more;			/* anything else */
} Needs;

static bool
find_needs(Node *node, void *context)
{
	Needs	   *needs = context;

	if (node == NULL)
		return false;
	if (IsA(node, Var))
	{
		const Var  *var = (const Var *) node;

		if (var->varno == needs->target && var->varlevelsup == 0 && var->varattno > 0)
			needs->row = true;
		else
			needs->more = true;
		return false;
	}
	if (IsA(node, SubLink) || IsA(node, Param) || IsA(node, Aggref) || IsA(node, WindowFunc) ||
		IsA(node, GroupingFunc))
	{
		needs->more = true;
		return false;
	}
	return expression_tree_walker(node, find_needs, context);
}

static bool
takes_only_the_row(const SieveRollup *sieve, Node *node)
{
	Needs		needs = {.target = sieve->query->target_index};

	(void) find_needs(node, &needs);
	return needs.row && !needs.more && !expression_returns_set(node);
}

/* NULL when it takes more than a row, or nothing of it; only the former leaves the sieve incomplete */
static ExprState *
prepare(SieveRollup *sieve, Node *node)
{
	if (!takes_only_the_row(sieve, node))
	{
		sieve->complete = sieve->complete && !contain_var_clause(node) &&
			!contain_subplans(node) && !expression_returns_set(node);
		return NULL;
	}
	return ExecInitExpr(expression_planner((Expr *) copyObject(node)), NULL);
}

/* an argument is evaluated where the FILTER lets the row through */
static Node *
filtered(const Aggref *aggref, Node *argument)
{
	CaseExpr   *choice;
	CaseWhen   *when;

	if (aggref->aggfilter == NULL)
		return argument;
	when = makeNode(CaseWhen);
	when->expr = aggref->aggfilter;
	when->result = (Expr *) argument;
	choice = makeNode(CaseExpr);
	choice->casetype = exprType(argument);
	choice->casecollid = exprCollation(argument);
	choice->args = list_make1(when);
	choice->defresult = (Expr *) makeNullConst(choice->casetype, -1, choice->casecollid);
	return (Node *) choice;
}

static void
prepare_arguments(SieveRollup *sieve, const Aggref *aggref)
{
	ListCell   *cell;

	if (aggref->aggfilter != NULL)
		sieve->sure = false;
	foreach(cell, aggref->args)
	{
		Node	   *argument = (Node *) lfirst_node(TargetEntry, cell)->expr;
		ExprState  *state;

		if (IsA(argument, Var) && aggref->aggfilter == NULL)
			continue;			/* nothing to go wrong */
		state = prepare(sieve, filtered(aggref, argument));
		if (state != NULL)
			sieve->arguments = lappend(sieve->arguments, state);
	}
}

static void
prepare_keys(SieveRollup *sieve)
{
	List	   *keys = sieve->query->is_single_group ? NIL : rollup_query_keys(sieve->query);
	ListCell   *cell;

	sieve->n_keys = list_length(keys);
	sieve->keys = palloc0(sizeof(ExprState *) * Max(sieve->n_keys, 1));
	sieve->key_columns = palloc(sizeof(AttrNumber) * Max(sieve->n_keys, 1));
	sieve->values = palloc(sizeof(Datum) * Max(sieve->n_keys, 1));
	sieve->nulls = palloc(sizeof(bool) * Max(sieve->n_keys, 1));
	foreach(cell, keys)
	{
		int			n = foreach_current_index(cell);
		TargetEntry *entry = list_nth_node(TargetEntry, sieve->query->query->targetList,
										   lfirst_int(cell) - 1);

		sieve->key_columns[n] = lfirst_int(cell);
		sieve->keys[n] = prepare(sieve, (Node *) entry->expr);
	}
}

static void
prepare_where(SieveRollup *sieve)
{
	Node	   *where = sieve->query->query->jointree->quals;

	if (where == NULL)
		return;
	sieve->sure = false;
	if (sieve->alone && takes_only_the_row(sieve, where))
		sieve->where = ExecInitQual(make_ands_implicit(expression_planner((Expr *) copyObject(where))),
									NULL);
	else
		sieve->complete = false;
}

/* whether each row of the table is in at least one row of FROM: it stands alone, or on the left of LEFT JOINs */
static bool
is_always_there(const SieveRollup *sieve, Node *from)
{
	while (IsA(from, JoinExpr) && ((JoinExpr *) from)->jointype == JOIN_LEFT)
		from = ((JoinExpr *) from)->larg;
	return IsA(from, RangeTblRef) && ((RangeTblRef *) from)->rtindex == sieve->query->target_index;
}

/* as the rollup's owner, whose rights to call functions are looked at here */
static void
prepare_rollup(SieveRollup *sieve)
{
	const Query *query = sieve->query->query;
	ListCell   *cell;

	sieve->alone = list_length(query->jointree->fromlist) == 1 &&
		IsA(linitial(query->jointree->fromlist), RangeTblRef);
	sieve->complete = sieve->alone;
	sieve->sure = list_length(query->jointree->fromlist) == 1 &&
		is_always_there(sieve, linitial(query->jointree->fromlist));
	prepare_where(sieve);
	prepare_keys(sieve);
	foreach(cell, sieve->query->aggregates)
		prepare_arguments(sieve, ((RollupAggregate *) lfirst(cell))->aggref);
	sieve->ready = true;
}

/* ---------------------------------------------------------------- keys that are too wide */

static AttrNumber
position_of(const SieveRollup *sieve, AttrNumber column)
{
	for (int i = 0; i < sieve->n_keys; i++)
		if (sieve->key_columns[i] == column)
			return i;
	return -1;
}

/* NULL when the entry fits */
static char *
excess_of_entry(const SieveRollup *sieve, Relation index)
{
	Datum		values[INDEX_MAX_KEYS];
	bool		nulls[INDEX_MAX_KEYS];
	char	   *excess;

	for (int i = 0; i < IndexRelationGetNumberOfAttributes(index); i++)
	{
		int			n = position_of(sieve, index->rd_index->indkey.values[i]);

		if (n < 0 || sieve->keys[n] == NULL)
			return NULL;
		values[i] = sieve->values[n];
		nulls[i] = sieve->nulls[n];
	}
	excess = index_excess(index, values, nulls);
	return excess == NULL ? NULL : psprintf("rollup \"%s\": %s", sieve->name, excess);
}

static char *
excess_of_keys(const SieveRollup *sieve)
{
	Relation	rollup = table_open(sieve->rollup->rollup, NoLock);
	char	   *excess = NULL;
	ListCell   *cell;

	foreach(cell, RelationGetIndexList(rollup))
	{
		Relation	index = index_open(lfirst_oid(cell), AccessShareLock);

		if (index->rd_index->indisunique && excess == NULL)
			excess = excess_of_entry(sieve, index);
		index_close(index, NoLock);
	}
	table_close(rollup, NoLock);
	return excess;
}

static Size
size_of(ExprState *key, Datum value)
{
	return get_typlen(exprType((Node *) key->expr)) == -1 ? toast_raw_datum_size(value) : 0;
}

/* ---------------------------------------------------------------- rows */

/* the bytes of the keys */
static Size
evaluate_keys(const RollupSieve *sieve, SieveRollup *rollup)
{
	Size		size = 0;

	for (int i = 0; i < rollup->n_keys; i++)
	{
		if (rollup->keys[i] == NULL)
			continue;
		rollup->values[i] = ExecEvalExprSwitchContext(rollup->keys[i], sieve->econtext,
													  &rollup->nulls[i]);
		if (!rollup->nulls[i])
			size += size_of(rollup->keys[i], rollup->values[i]);
	}
	return size;
}

/* why the row is refused without an error thrown, or NULL; it lives until the next row */
static char *
evaluate_row(RollupSieve *sieve, SieveRollup *rollup, TupleTableSlot *row)
{
	ExprContext *econtext = sieve->econtext;
	char	   *excess = NULL;
	bool		is_null;
	ListCell   *cell;

	ResetExprContext(econtext);
	econtext->ecxt_scantuple = row;
	if (rollup->where != NULL && !ExecQual(rollup->where, econtext))
		return NULL;
	if (evaluate_keys(sieve, rollup) >= INDEX_SMALL_KEY && (rollup->alone || rollup->sure))
	{
		MemoryContext outer = MemoryContextSwitchTo(econtext->ecxt_per_tuple_memory);

		excess = excess_of_keys(rollup);
		MemoryContextSwitchTo(outer);
	}
	foreach(cell, rollup->arguments)
		(void) ExecEvalExprSwitchContext(lfirst(cell), econtext, &is_null);
	return excess;
}

void
rollup_sieve_rows(RollupSieve *sieve, int rollup, TupleTableSlot **rows, int n, volatile int *at,
				  RollupSieveRefusal refuse, void *argument)
{
	SieveRollup *it = &sieve->rollups[rollup];
	MemoryContext context = CurrentMemoryContext;
	RollupScope scope;

	PG_TRY();
	{
		rollup_scope_enter(&scope, it->rollup, it->query);
		if (!it->ready)
		{
			MemoryContextSwitchTo(sieve->memory);
			prepare_rollup(it);
			MemoryContextSwitchTo(context);
		}
		for (; *at < n; (*at)++)
		{
			const char *excess = evaluate_row(sieve, it, rows[*at]);

			if (unlikely(excess != NULL))
				refuse(argument, *at, excess);
		}
		rollup_scope_leave(&scope);
	}
	PG_CATCH();
	{
		rollup_throw_naming(it->name, context);
	}
	PG_END_TRY();
}

void
rollup_sieve_ask(RollupSieve *sieve, int rollup, TupleTableSlot **rows, int n)
{
	MemoryContext outer = MemoryContextSwitchTo(sieve->asking);
	Tuplestorestate *asked;

	MemoryContextReset(sieve->asking);
	asked = tuplestore_begin_heap(true, false, work_mem);
	for (int i = 0; i < n; i++)
		tuplestore_puttupleslot(asked, rows[i]);
	rollup_set_compute(sieve->set, rollup, asked, sieve->desc);
	tuplestore_end(asked);
	MemoryContextSwitchTo(outer);
}

/* ---------------------------------------------------------------- the sieve */

RollupSieve *
rollup_sieve_open(RollupSet *set, TupleDesc desc)
{
	RollupSieve *sieve = palloc0(sizeof(RollupSieve));

	sieve->set = set;
	sieve->desc = desc;
	sieve->memory = CurrentMemoryContext;
	sieve->asking = AllocSetContextCreate(sieve->memory, "rows that a rollup is asked about",
										  ALLOCSET_DEFAULT_SIZES);
	sieve->econtext = CreateStandaloneExprContext();
	sieve->n = rollup_set_count(set);
	sieve->rollups = palloc0(sizeof(SieveRollup) * Max(sieve->n, 1));
	for (int i = 0; i < sieve->n; i++)
		rollup_set_show(set, i, &sieve->rollups[i].rollup, &sieve->rollups[i].query,
						&sieve->rollups[i].name);
	return sieve;
}

int
rollup_sieve_count(const RollupSieve *sieve)
{
	return sieve->n;
}

bool
rollup_sieve_is_sure(const RollupSieve *sieve, int rollup)
{
	return sieve->rollups[rollup].sure;
}

bool
rollup_sieve_is_complete(const RollupSieve *sieve, int rollup)
{
	return sieve->rollups[rollup].complete;
}
