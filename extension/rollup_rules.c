/*
 * rollup_rules.c
 *		What can be a rollup: everything else is refused, each with a reason and a way out of its own.
 *
 * Called by rollup_api.c when a rollup is made.  Decides only by the query and the system catalogs.
 *
 * A query Q over a table T can be a rollup if, for new rows D, the states of Q(T + D) come from those
 * of Q(T) and Q(D) group by group.  So Q must be linear in T below its aggregates (T once, and not on
 * the nullable side of an outer join: there a new row makes an old result row vanish), must not
 * depend on when or by whom it is run, and must keep nothing of the groups together (ORDER BY, LIMIT,
 * HAVING, windows).
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "catalog/partition.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_proc.h"
#include "commands/defrem.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/tlist.h"
#include "parser/analyze.h"
#include "parser/parser.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteHandler.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/rel.h"

#include "rollup_rules.h"
#include "rollup_tame.h"

#define refuse(code, ...) ereport(ERROR, (errcode(code), __VA_ARGS__))

/* ---------------------------------------------------------------- what the text says */

static void
refuse_clauses(const SelectStmt *select)
{
	const int	code = ERRCODE_FEATURE_NOT_SUPPORTED;

	if (select->withClause)
		refuse(code, errmsg("a rollup's query cannot have WITH"),
			   errhint("Write the table in FROM; put the rest into a view and join it."));
	if (select->op != SETOP_NONE)
		refuse(code, errmsg("a rollup's query cannot be a UNION, INTERSECT or EXCEPT"),
			   errhint("Make one rollup of each part, and a view over them."));
	if (select->valuesLists)
		refuse(code, errmsg("a rollup's query must read a table"),
			   errhint("Write SELECT … FROM table GROUP BY …."));
	if (select->intoClause)
		refuse(code, errmsg("a rollup's query cannot have INTO"),
			   errhint("The table made is named by create_rollup's first argument."));
	if (select->distinctClause)
		refuse(code, errmsg("a rollup's query cannot have DISTINCT"),
			   errhint("Use GROUP BY over the same columns."));
	if (select->havingClause)
		refuse(code, errmsg("a rollup's query cannot have HAVING"),
			   errdetail("A group that does not pass yet may pass later, so all of them must be kept."),
			   errhint("Leave it out, and put the condition into a view over the rollup."));
	if (select->sortClause)
		refuse(code, errmsg("a rollup's query cannot have ORDER BY"),
			   errhint("A table has no order; sort when you read the rollup."));
	if (select->limitCount || select->limitOffset)
		refuse(code, errmsg("a rollup's query cannot have LIMIT or OFFSET"),
			   errhint("Limit when you read the rollup."));
	if (select->lockingClause)
		refuse(code, errmsg("a rollup's query cannot lock rows"),
			   errhint("Leave out FOR UPDATE or FOR SHARE."));
	if (select->windowClause)
		refuse(code, errmsg("a rollup's query cannot have window functions"),
			   errhint("Use them in a view over the rollup."));
}

static void
refuse_grouping_sets(const SelectStmt *select)
{
	ListCell   *cell;

	foreach(cell, select->groupClause)
	{
		if (IsA(lfirst(cell), GroupingSet))
			refuse(ERRCODE_FEATURE_NOT_SUPPORTED,
				   errmsg("a rollup's query cannot have GROUPING SETS, CUBE or ROLLUP"),
				   errhint("Make one rollup for each set, or aggregate the finest one when you read it."));
	}
}

static RawStmt *
parse_one_select(const char *sql)
{
	List	   *statements = raw_parser(sql, RAW_PARSE_DEFAULT);
	RawStmt    *raw;

	if (list_length(statements) != 1)
		refuse(ERRCODE_SYNTAX_ERROR, errmsg("a rollup's query must be one SELECT"),
			   errdetail("There are %d statements.", list_length(statements)),
			   errhint("Make one rollup for each query."));
	raw = linitial_node(RawStmt, statements);
	if (!IsA(raw->stmt, SelectStmt))
		refuse(ERRCODE_SYNTAX_ERROR, errmsg("a rollup's query must be a SELECT"),
			   errhint("Write SELECT … FROM table GROUP BY …."));
	refuse_clauses((SelectStmt *) raw->stmt);
	refuse_grouping_sets((SelectStmt *) raw->stmt);
	return raw;
}

/* ---------------------------------------------------------------- functions and tables in it */

typedef struct Findings
{
	Oid			volatile_function;
	Oid			clock_function;
	Oid			session_function;
	bool		clock_value;
	bool		session_value;
	bool		samples;
	List	   *relations;		/* Oids of all tables and views, as often as they occur */
} Findings;

static bool
note_function(Oid function, void *context)
{
	Findings   *findings = context;

	switch (function)
	{
		case F_NOW:
		case F_TRANSACTION_TIMESTAMP:
		case F_STATEMENT_TIMESTAMP:
		case F_CLOCK_TIMESTAMP:
		case F_TIMEOFDAY:
		case F_AGE_TIMESTAMP:
		case F_AGE_TIMESTAMPTZ:
			findings->clock_function = function;
			return false;
		case F_CURRENT_SETTING_TEXT:
		case F_CURRENT_SETTING_TEXT_BOOL:
		case F_PG_BACKEND_PID:
		case F_INET_CLIENT_ADDR:
		case F_INET_CLIENT_PORT:
		case F_TXID_CURRENT:
		case F_PG_CURRENT_XACT_ID:
		case F_CURRENT_USER:
		case F_SESSION_USER:
		case F_CURRENT_SCHEMA:
		case F_CURRENT_SCHEMAS:
			findings->session_function = function;
			return false;
		default:
			if (func_volatile(function) == PROVOLATILE_VOLATILE)
				findings->volatile_function = function;
			return false;
	}
}

static void
note_value_function(Findings *findings, const SQLValueFunction *function)
{
	switch (function->op)
	{
		case SVFOP_CURRENT_ROLE:
		case SVFOP_CURRENT_USER:
		case SVFOP_USER:
		case SVFOP_SESSION_USER:
		case SVFOP_CURRENT_SCHEMA:
			findings->session_value = true;
			break;
		case SVFOP_CURRENT_CATALOG:
			break;
		default:
			findings->clock_value = true;
	}
}

static bool
find(Node *node, void *context)
{
	Findings   *findings = context;

	if (node == NULL)
		return false;
	(void) check_functions_in_node(node, note_function, findings);
	if (IsA(node, SQLValueFunction))
		note_value_function(findings, (SQLValueFunction *) node);
	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *rte = (RangeTblEntry *) node;

		if (rte->tablesample)
			findings->samples = true;
		if (rte->rtekind == RTE_RELATION)
			findings->relations = lappend_oid(findings->relations, rte->relid);
		return false;
	}
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, find, findings, QTW_EXAMINE_RTES_BEFORE);
	return expression_tree_walker(node, find, findings);
}

/* Adds the tables behind each view, and so on; a view's query brings nothing else to refuse. */
static List *
relations_behind(List *relations)
{
	List	   *all = NIL;
	List	   *todo = list_copy(relations);

	while (todo != NIL)
	{
		Oid			relid = linitial_oid(todo);

		todo = list_delete_first(todo);
		all = lappend_oid(all, relid);
		if (get_rel_relkind(relid) == RELKIND_VIEW)
		{
			Relation	view = relation_open(relid, AccessShareLock);
			Query	   *query = copyObject(get_view_query(view));
			Findings	findings = {0};
			ListCell   *cell;

			relation_close(view, NoLock);
			(void) find((Node *) query, &findings);
			foreach(cell, findings.relations)
			{
				if (lfirst_oid(cell) != relid)	/* OLD and NEW */
					todo = lappend_oid(todo, lfirst_oid(cell));
			}
		}
	}
	return all;
}

static void
refuse_functions(const Findings *findings)
{
	if (findings->samples)
		refuse(ERRCODE_FEATURE_NOT_SUPPORTED, errmsg("a rollup's query cannot have TABLESAMPLE"),
			   errhint("Choose rows by a condition on their values."));
	if (findings->clock_value || OidIsValid(findings->clock_function))
		refuse(ERRCODE_FEATURE_NOT_SUPPORTED,
			   errmsg("a rollup's query cannot read the clock"),
			   errdetail("%s would give another result for the same rows later.",
						 OidIsValid(findings->clock_function) ?
						 format_procedure(findings->clock_function) : "CURRENT_DATE or its like"),
			   errhint("Group by the time in the rows, and compare it with the clock when you read the rollup."));
	if (findings->session_value || OidIsValid(findings->session_function))
		refuse(ERRCODE_FEATURE_NOT_SUPPORTED,
			   errmsg("a rollup's query cannot depend on the session that runs it"),
			   errdetail("%s would give another result for the same rows in another session.",
						 OidIsValid(findings->session_function) ?
						 format_procedure(findings->session_function) : "CURRENT_USER or its like"),
			   errhint("Store what is needed in the table."));
	if (OidIsValid(findings->volatile_function))
		refuse(ERRCODE_FEATURE_NOT_SUPPORTED,
			   errmsg("a rollup's query cannot call the volatile function %s",
					  format_procedure(findings->volatile_function)),
			   errdetail("It may give another result for the same row each time."),
			   findings->volatile_function < FirstNormalObjectId ?
			   errhint("Store its result in a column of the table.") :
			   errhint("If it does not, declare it so: ALTER FUNCTION %s IMMUTABLE.",
					   format_procedure(findings->volatile_function)));
}

/* ---------------------------------------------------------------- the target */

static int
choose_target(const Query *query, bool (*prefer) (Oid relation))
{
	List	   *nullable = NIL;
	List	   *tables = rollup_query_tables(query, (Node *) query->jointree, false, &nullable);
	int			chosen = 0;
	ListCell   *cell;

	if (tables == NIL)
		refuse(ERRCODE_FEATURE_NOT_SUPPORTED, errmsg("a rollup's query must read a table in its FROM"),
			   errhint("Name the table in FROM itself, not in a sub-query."));
	foreach(cell, tables)
	{
		if (prefer(rt_fetch(lfirst_int(cell), query->rtable)->relid))
		{
			chosen = lfirst_int(cell);
			break;
		}
	}
	if (chosen == 0)
		chosen = linitial_int(tables);
	if (list_member_int(nullable, chosen))
		refuse(ERRCODE_FEATURE_NOT_SUPPORTED,
			   errmsg("table \"%s\" is on the nullable side of an outer join",
					  get_rel_name(rt_fetch(chosen, query->rtable)->relid)),
			   errdetail("A new row there would have to take back a result row without it."),
			   errhint("Put the table on the side whose rows are all kept, or use an inner join."));
	return chosen;
}

static void
refuse_target(Relation target)
{
	const char *name = RelationGetRelationName(target);
	Form_pg_class form = target->rd_rel;

	if (form->relkind != RELKIND_RELATION && form->relkind != RELKIND_PARTITIONED_TABLE)
		refuse(ERRCODE_WRONG_OBJECT_TYPE, errmsg("\"%s\" is not a table", name),
			   errdetail("Only a table tells of its changes."),
			   errhint("Write the rollup over the table behind it."));
	if (form->relpersistence == RELPERSISTENCE_TEMP)
		refuse(ERRCODE_WRONG_OBJECT_TYPE, errmsg("\"%s\" is a temporary table", name),
			   errhint("Make the rollup over a permanent table."));
	if (form->relispartition)
		refuse(ERRCODE_WRONG_OBJECT_TYPE, errmsg("\"%s\" is a partition", name),
			   errdetail("Rows that come in through its parent would not be seen."),
			   errhint("Make the rollup over the parent, with a condition in WHERE."));
	if (form->relkind == RELKIND_RELATION &&
		(has_superclass(RelationGetRelid(target)) || has_subclass(RelationGetRelid(target))))
		refuse(ERRCODE_WRONG_OBJECT_TYPE, errmsg("\"%s\" is part of an inheritance tree", name),
			   errhint("Use declarative partitioning, or a table of its own."));
	if (form->relrowsecurity)
		refuse(ERRCODE_FEATURE_NOT_SUPPORTED, errmsg("\"%s\" has row-level security", name),
			   errdetail("A rollup would show to its readers what the policies hide."),
			   errhint("Put the policies on the rollup's table instead."));
	if (RelationGetRelid(target) < FirstNormalObjectId)
		refuse(ERRCODE_WRONG_OBJECT_TYPE, errmsg("\"%s\" is a system catalog", name),
			   errhint("Make the rollup over a table of your own."));
}

static void
refuse_second_occurrence(Oid target, List *relations)
{
	int			occurrences = 0;
	ListCell   *cell;

	foreach(cell, relations_behind(relations))
	{
		Oid			relid = lfirst_oid(cell);

		if (relid == target)
			occurrences++;
		else if (get_rel_relispartition(relid) &&
				 list_member_oid(get_partition_ancestors(relid), target))
			occurrences++;
	}
	if (occurrences > 1)
		refuse(ERRCODE_FEATURE_NOT_SUPPORTED,
			   errmsg("a rollup's query cannot read table \"%s\" twice", get_rel_name(target)),
			   errdetail("A new row would also change result rows that other rows made."),
			   errhint("Name the table once, without self-joins, sub-queries, views or partitions of it."));
}

/* Every writer of the target reads them. */
static void
refuse_temporary(List *relations)
{
	ListCell   *cell;

	foreach(cell, relations_behind(relations))
	{
		if (get_rel_persistence(lfirst_oid(cell)) == RELPERSISTENCE_TEMP)
			refuse(ERRCODE_WRONG_OBJECT_TYPE, errmsg("\"%s\" is a temporary table", get_rel_name(lfirst_oid(cell))),
				   errdetail("Other sessions, which write to the rollup, do not see it."),
				   errhint("Join a table that stays."));
	}
}

static bool
has_system_column(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Var))
	{
		Var		   *var = (Var *) node;

		return var->varlevelsup == 0 && var->varno == *(int *) context && var->varattno < 0;
	}
	return expression_tree_walker(node, has_system_column, context);
}

static void
refuse_table_use(Query *query, int index)
{
	RangeTblEntry *rte = rt_fetch(index, query->rtable);
	Relation	target = relation_open(rte->relid, AccessShareLock);

	refuse_target(target);
	relation_close(target, NoLock);
	if (!rte->inh)
		refuse(ERRCODE_FEATURE_NOT_SUPPORTED, errmsg("a rollup's query cannot have ONLY"),
			   errhint("Leave it out: a rollup is over the whole table."));
	if (query_tree_walker(query, has_system_column, &index, 0))
		refuse(ERRCODE_FEATURE_NOT_SUPPORTED,
			   errmsg("a rollup's query cannot read system columns of \"%s\"", get_rel_name(rte->relid)),
			   errhint("A new row has no place yet; use its own columns."));
}

/* ---------------------------------------------------------------- keys, outputs, aggregates */

static void
refuse_hidden_keys(const Query *query)
{
	ListCell   *cell;

	foreach(cell, query->groupClause)
	{
		if (get_sortgroupclause_tle(lfirst_node(SortGroupClause, cell), query->targetList)->resjunk)
			refuse(ERRCODE_INVALID_OBJECT_DEFINITION,
				   errmsg("group key %d is not in the query's output", foreach_current_index(cell) + 1),
				   errdetail("The rollup's rows could not be told apart."),
				   errhint("Add the expression to the SELECT list."));
	}
}

static void
refuse_unordered_keys(const RollupQuery *rollup)
{
	ListCell   *cell;

	foreach(cell, rollup->query->groupClause)
	{
		SortGroupClause *clause = lfirst_node(SortGroupClause, cell);
		TargetEntry *entry = get_sortgroupclause_tle(clause, rollup->query->targetList);
		RollupOutput *output = list_nth(rollup->outputs, entry->resno - 1);

		if (!OidIsValid(clause->sortop) || !OidIsValid(GetDefaultOpClass(output->type, BTREE_AM_OID)))
			refuse(ERRCODE_UNDEFINED_FUNCTION,
				   errmsg("group key \"%s\" has a type without an order: %s", output->name,
						  format_type_be(output->type)),
				   errdetail("A rollup is unique on its keys, which takes a btree index."),
				   errhint("Group by a cast of it, for example to text."));
	}
}

static void
refuse_names(const RollupQuery *rollup)
{
	ListCell   *cell;
	ListCell   *other;

	if (rollup->outputs == NIL)
		refuse(ERRCODE_INVALID_OBJECT_DEFINITION, errmsg("a rollup's query must have an output"),
			   errhint("Add an aggregate, for example count(*)."));
	foreach(cell, rollup->outputs)
	{
		const char *name = ((RollupOutput *) lfirst(cell))->name;

		for_each_from(other, rollup->outputs, foreach_current_index(cell) + 1)
		{
			if (strcmp(((RollupOutput *) lfirst(other))->name, name) == 0)
				refuse(ERRCODE_DUPLICATE_COLUMN,
					   errmsg("two outputs of the rollup's query are named \"%s\"", name),
					   errhint("Name them apart with AS."));
		}
	}
}

/* outside of aggregates */
static bool
refuse_in_output(Node *node, void *context)
{
	if (node == NULL || IsA(node, Aggref))
		return false;
	if (IsA(node, SubLink))
		refuse(ERRCODE_FEATURE_NOT_SUPPORTED,
			   errmsg("a rollup's query cannot have a sub-query in its output"),
			   errhint("Join the other table in FROM, or look it up in a view over the rollup."));
	if (IsA(node, GroupingFunc))
		refuse(ERRCODE_FEATURE_NOT_SUPPORTED, errmsg("a rollup's query cannot have GROUPING()"),
			   errhint("Leave it out: there is one grouping only."));
	return expression_tree_walker(node, refuse_in_output, context);
}

/* Whether an expression asks for more than keys and aggregates hold. */
static bool
needs_rows(Node *node, void *context)
{
	RollupQuery *rollup = context;
	ListCell   *cell;

	if (node == NULL)
		return false;
	foreach(cell, rollup->outputs)
	{
		RollupOutput *output = lfirst(cell);

		if (output->is_key && equal(output->value, node))
			return false;
	}
	if (IsA(node, Aggref))
		return false;
	if (IsA(node, Var) && ((Var *) node)->varlevelsup == 0)
		return true;
	return expression_tree_walker(node, needs_rows, context);
}

static void
refuse_outputs(RollupQuery *rollup)
{
	ListCell   *cell;

	foreach(cell, rollup->outputs)
	{
		RollupOutput *output = lfirst(cell);

		if (!output->is_key && needs_rows(output->value, rollup))
			refuse(ERRCODE_GROUPING_ERROR,
				   errmsg("output \"%s\" is neither a group key nor an aggregate", output->name),
				   errdetail("That it depends on a primary key may change later."),
				   errhint("Add it to GROUP BY."));
	}
}

static const char *
instead_of(Oid aggregate)
{
	const char *name = get_func_name(aggregate);

	if (strcmp(name, "array_agg") == 0 || strcmp(name, "string_agg") == 0)
		return "Keep the values in the table, and aggregate them when you read it.";
	if (strncmp(name, "json", 4) == 0 || strncmp(name, "xml", 3) == 0)
		return "Make each value a column of its own, and build the document in a view over the rollup.";
	if (strncmp(name, "range", 5) == 0)
		return "Use min(lower(…)) and max(upper(…)).";
	return "If it is your own, give it a COMBINEFUNC; an internal state also needs SERIALFUNC and DESERIALFUNC.";
}

/* For these a value that comes twice is as one that comes once. */
static bool
ignores_repetition(Oid aggregate)
{
	static const char *const names[] = {
		"min", "max", "bool_and", "bool_or", "every", "bit_and", "bit_or"
	};
	const char *name = get_func_name(aggregate);
	int			i;

	for (i = 0; i < lengthof(names); i++)
	{
		if (aggregate < FirstGenbkiObjectId && strcmp(name, names[i]) == 0)
			return true;
	}
	return false;
}

static void
refuse_aggregate(const Aggref *aggref)
{
	const char *name = get_func_name(aggref->aggfnoid);
	const int	code = ERRCODE_FEATURE_NOT_SUPPORTED;

	if (aggref->aggkind != AGGKIND_NORMAL)
		refuse(code, errmsg("aggregate %s cannot be merged", format_procedure(aggref->aggfnoid)),
			   errdetail("An ordered-set aggregate needs all rows of the group at once."),
			   errhint("For percentiles use tdigest (extension tdigest)."));
	if (aggref->aggdistinct != NIL && !ignores_repetition(aggref->aggfnoid))
		refuse(code, errmsg("a rollup's query cannot have %s(DISTINCT …)", name),
			   errdetail("Which values were there already is not known from the result."),
			   errhint("Group by the value as well; or, for a close estimate of their number, use hll_add_agg(hll_hash_…(x)) (extension hll)."));
	if (aggref->aggorder != NIL)
		refuse(code, errmsg("a rollup's query cannot have ORDER BY in an aggregate"),
			   errdetail("Late rows would come in another order than in one run of the query."),
			   errhint("Leave it out, or keep the order's key as a group key."));
}

static void
refuse_aggregates(const RollupQuery *rollup)
{
	ListCell   *cell;

	foreach(cell, rollup->aggregates)
	{
		RollupAggregate *aggregate = lfirst(cell);
		Oid			function = aggregate->aggref->aggfnoid;

		refuse_aggregate(aggregate->aggref);
		if (!aggregate->can_be_merged)
			refuse(ERRCODE_FEATURE_NOT_SUPPORTED,
				   errmsg("aggregate %s cannot be merged", format_procedure(function)),
				   errdetail("It has no function that combines two of its states."),
				   errhint("%s", instead_of(function)));
	}
}

/* ---------------------------------------------------------------- all of them */

/* The parser's own errors say what is wrong, but for one not what to do. */
static Query *
analyze(RawStmt *raw, const char *sql)
{
	MemoryContext context = CurrentMemoryContext;
	Query	   *query = NULL;

	PG_TRY();
	{
		query = parse_analyze_fixedparams(copyObject(raw), sql, NULL, 0, NULL);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		if (error->sqlerrcode == ERRCODE_UNDEFINED_FUNCTION && error->hint == NULL)
			error->hint = "Group by something that can be compared and sorted: a field of it, or a cast to text or jsonb.";
		ReThrowError(error);
	}
	PG_END_TRY();
	return query;
}

RollupQuery *
rollup_rules_parse(const char *sql, bool (*prefer) (Oid relation), RawStmt **raw)
{
	Findings	findings = {0};
	RollupQuery *rollup;
	Query	   *query;
	int			target;

	*raw = parse_one_select(sql);
	query = analyze(*raw, sql);
	(void) rollup_tame(&query);
	if (query->hasWindowFuncs)
		refuse(ERRCODE_FEATURE_NOT_SUPPORTED, errmsg("a rollup's query cannot have window functions"),
			   errhint("Use them in a view over the rollup."));
	if (query->hasTargetSRFs)
		refuse(ERRCODE_FEATURE_NOT_SUPPORTED,
			   errmsg("a rollup's query cannot have set-returning functions in its output"),
			   errhint("Write the function in FROM."));
	if (!query->hasAggs && query->groupClause == NIL)
		refuse(ERRCODE_GROUPING_ERROR, errmsg("a rollup's query must group or aggregate"),
			   errdetail("It would give a row for each row of the table."),
			   errhint("Add GROUP BY, or an aggregate such as count(*)."));
	(void) find((Node *) query, &findings);
	refuse_functions(&findings);
	target = choose_target(query, prefer);
	refuse_table_use(query, target);
	refuse_second_occurrence(rt_fetch(target, query->rtable)->relid, findings.relations);
	refuse_temporary(findings.relations);
	refuse_hidden_keys(query);
	(void) refuse_in_output((Node *) query->targetList, NULL);
	rollup = rollup_query_take_apart(query, target);
	refuse_names(rollup);
	refuse_unordered_keys(rollup);
	refuse_aggregates(rollup);
	refuse_outputs(rollup);
	return rollup;
}

