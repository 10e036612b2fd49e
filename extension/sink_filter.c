/*
 * sink_filter.c
 *		The row filter of a sink: checked, told in words of its own, and found again in its publication.
 *
 * Text of a user never becomes part of a statement: it is parsed as one expression over the table,
 * and what goes into the publication is that expression, written out anew.  From then on the
 * publication's is the filter there is, because it follows columns that are renamed.  Called by
 * sink_api.c and sink_table.c; by the sink's worker for what it reads from the table itself.
 */
#include "postgres.h"

#include "access/sysattr.h"
#include "access/table.h"
#include "catalog/pg_publication.h"
#include "catalog/pg_publication_rel.h"
#include "nodes/bitmapset.h"
#include "optimizer/optimizer.h"
#include "parser/parse_clause.h"
#include "parser/parse_collate.h"
#include "parser/parse_relation.h"
#include "parser/parser.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"
#include "utils/syscache.h"

#include "sink_api.h"

/* ---------------------------------------------------------------- a user's text */

static void
refuse_text(const char *text)
{
	ereport(ERROR,
			(errcode(ERRCODE_SYNTAX_ERROR),
			 errmsg("\"%s\" is not a condition", text),
			 errhint("Give one as after WHERE, over columns of the table: \"where\" => 'event = ''purchase'''.")));
}

/* one expression, with nothing around it */
static Node *
parse(const char *text)
{
	List	   *statements = raw_parser(text, RAW_PARSE_PLPGSQL_EXPR);
	SelectStmt *select = (SelectStmt *) linitial_node(RawStmt, statements)->stmt;
	ResTarget  *target;

	if (!IsA(select, SelectStmt) || list_length(select->targetList) != 1 || select->distinctClause ||
		select->fromClause || select->whereClause || select->groupClause || select->havingClause ||
		select->windowClause || select->sortClause || select->limitOffset || select->limitCount ||
		select->lockingClause || select->op != SETOP_NONE)
		refuse_text(text);
	target = linitial_node(ResTarget, select->targetList);
	if (target->name || target->indirection)
		refuse_text(text);
	return target->val;
}

static Node *
analyze(Relation relation, const char *text)
{
	ParseState *state = make_parsestate(NULL);
	ParseNamespaceItem *item;
	Node	   *condition = parse(text);

	item = addRangeTableEntryForRelation(state, relation, AccessShareLock, NULL, false, false);
	addNSItemToQuery(state, item, false, true, true);
	condition = transformWhereClause(state, condition, EXPR_KIND_WHERE, "WHERE");
	assign_expr_collations(state, condition);
	free_parsestate(state);
	return condition;
}

static char *
in_words(Oid relation, Node *condition)
{
	return deparse_expression(condition, deparse_context_for(get_rel_name(relation), relation),
							  false, false);
}

char *
sink_filter_check(Relation relation, const char *text)
{
	return in_words(RelationGetRelid(relation), analyze(relation, text));
}

/* ---------------------------------------------------------------- its columns */

static List *
columns_of(Oid relation, Node *condition)
{
	Bitmapset  *numbers = NULL;
	List	   *names = NIL;
	int			member = -1;

	pull_varattnos(condition, 1, &numbers);
	while ((member = bms_next_member(numbers, member)) >= 0)
	{
		AttrNumber	number = member + FirstLowInvalidHeapAttributeNumber;

		/* PostgreSQL refuses system columns and whole rows itself */
		if (number > 0)
			names = lappend(names, get_attname(relation, number, false));
	}
	return names;
}

List *
sink_filter_columns(Relation relation, const char *text)
{
	return columns_of(RelationGetRelid(relation), analyze(relation, text));
}

/* ---------------------------------------------------------------- the publication's */

static Node *
published_condition(const Sink *sink)
{
	Oid			publication = get_publication_oid(sink->publication, true);
	Node	   *condition = NULL;
	HeapTuple	tuple;
	Datum		value;
	bool		is_null;

	if (!OidIsValid(publication))
		return NULL;
	tuple = SearchSysCache2(PUBLICATIONRELMAP, ObjectIdGetDatum(sink->relation),
							ObjectIdGetDatum(publication));
	if (!HeapTupleIsValid(tuple))
		return NULL;
	value = SysCacheGetAttr(PUBLICATIONRELMAP, tuple, Anum_pg_publication_rel_prqual, &is_null);
	if (!is_null)
		condition = stringToNode(TextDatumGetCString(value));
	ReleaseSysCache(tuple);
	return condition;
}

char *
sink_filter_published(const Sink *sink)
{
	Node	   *condition = published_condition(sink);

	return condition ? in_words(sink->relation, condition) : NULL;
}

List *
sink_filter_published_columns(const Sink *sink)
{
	Node	   *condition = published_condition(sink);

	return condition ? columns_of(sink->relation, condition) : NIL;
}
