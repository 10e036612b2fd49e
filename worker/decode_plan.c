/*
 * decode_plan.c
 *		Builds the plan by which records become rows of a table.
 *
 * Owns the reading of clickstream.sources.columns and the choice of how each column is read.  The
 * forms of a column's place in the record are those that source_columns.c lets in.  Called by
 * whoever decodes; the plan outlives transactions.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "access/tupdesc.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "optimizer/optimizer.h"
#include "rewrite/rewriteHandler.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "decode_plan.h"

#define ARENA_SIZE (512 * 1024)

static const struct
{
	const char *name;
	ColumnSource from;
}			record_parts[] = {
	{"@topic", FROM_TOPIC},
	{"@partition", FROM_PARTITION},
	{"@offset", FROM_OFFSET},
	{"@timestamp", FROM_TIMESTAMP},
	{"@key", FROM_KEY},
	{"@headers", FROM_HEADERS},
	{"@value", FROM_VALUE},
	{"@rest", FROM_REST},
};

static const struct
{
	const char *name;
	int64		units;
}			epochs[] = {
	{"s", 1},
	{"ms", 1000},
	{"us", 1000000},
	{"ns", 1000000000},
};

/* ---------------------------------------------------------------- the tree of paths */

static PlanKey *
make_key(const char *name, uint32 length)
{
	PlanKey    *key = palloc0(sizeof(PlanKey));

	key->name = pnstrdup(name, length);
	key->length = length;
	key->field = -1;
	return key;
}

static PlanKey *
child_of(PlanKey *parent, const char *name, uint32 length)
{
	for (int i = 0; i < parent->n_children; i++)
		if (parent->children[i]->length == length &&
			memcmp(parent->children[i]->name, name, length) == 0)
			return parent->children[i];

	if (parent->children == NULL)
		parent->children = palloc(sizeof(PlanKey *));
	else
		parent->children = repalloc(parent->children, sizeof(PlanKey *) * (parent->n_children + 1));
	return parent->children[parent->n_children++] = make_key(name, length);
}

/* for each level a hash table with open addressing, a quarter full at most */
static void
build_tables(PlanKey *key)
{
	uint32		size = 4;

	while (size < key->n_children * 4)
		size *= 2;
	key->mask = size - 1;
	key->table = palloc0(sizeof(PlanKey *) * size);
	for (int i = 0; i < key->n_children; i++)
	{
		PlanKey    *child = key->children[i];
		uint32		at = plan_key_hash(child->name, child->length) & key->mask;

		while (key->table[at] != NULL)
			at = (at + 1) & key->mask;
		key->table[at] = child;
		build_tables(child);
	}
}

static void
take_field(DecodePlan *plan, PlanColumn *column, PlanKey *key)
{
	if (key->field < 0)
		key->field = plan->n_fields++;
	column->from = FROM_FIELD;
	column->field = key->field;
}

static void
take_dotted(DecodePlan *plan, PlanColumn *column, const char *path, uint32 length)
{
	PlanKey    *key = plan->root;
	const char *end = path + length;

	for (;;)
	{
		const char *dot = memchr(path, '.', end - path);

		key = child_of(key, path, (dot ? dot : end) - path);
		if (dot == NULL)
			break;
		path = dot + 1;
	}
	take_field(plan, column, key);
}

static void
take_key_list(DecodePlan *plan, PlanColumn *column, JsonbContainer *list)
{
	PlanKey    *key = plan->root;
	JsonbIterator *iterator = JsonbIteratorInit(list);
	JsonbIteratorToken token;
	JsonbValue	element;

	while ((token = JsonbIteratorNext(&iterator, &element, true)) != WJB_DONE)
		if (token == WJB_ELEM && element.type == jbvString)
			key = child_of(key, element.val.string.val, element.val.string.len);
	if (key == plan->root)
		elog(ERROR, "columns has an empty path for column \"%s\"", column->name);
	take_field(plan, column, key);
}

static bool
take_record_part(DecodePlan *plan, PlanColumn *column, const JsonbValue *value)
{
	for (int i = 0; i < lengthof(record_parts); i++)
		if (strlen(record_parts[i].name) == value->val.string.len &&
			memcmp(record_parts[i].name, value->val.string.val, value->val.string.len) == 0)
		{
			column->from = record_parts[i].from;
			if (column->from == FROM_REST)
				plan->wants_rest = true;
			return true;
		}
	return false;
}

static void
take_path(DecodePlan *plan, PlanColumn *column, const JsonbValue *value)
{
	if (value->type == jbvString)
		take_dotted(plan, column, value->val.string.val, value->val.string.len);
	else if (value->type == jbvBinary && JsonContainerIsArray(value->val.binary.data))
		take_key_list(plan, column, value->val.binary.data);
	else
		elog(ERROR, "columns has no path for column \"%s\"", column->name);
}

static void
take_epoch(PlanColumn *column, const JsonbValue *unit)
{
	for (int i = 0; unit->type == jbvString && i < lengthof(epochs); i++)
		if (strlen(epochs[i].name) == unit->val.string.len &&
			memcmp(epochs[i].name, unit->val.string.val, unit->val.string.len) == 0)
			column->epoch = epochs[i].units;
}

static void
take_place(DecodePlan *plan, PlanColumn *column, JsonbValue *value)
{
	JsonbValue	member;

	if (value->type == jbvString && value->val.string.len > 0 && value->val.string.val[0] == '@' &&
		take_record_part(plan, column, value))
		return;
	if (value->type != jbvBinary || !JsonContainerIsObject(value->val.binary.data))
	{
		take_path(plan, column, value);
		return;
	}
	if (getKeyJsonValueFromContainer(value->val.binary.data, "path", 4, &member) == NULL)
		elog(ERROR, "columns has no path for column \"%s\"", column->name);
	take_path(plan, column, &member);
	if (getKeyJsonValueFromContainer(value->val.binary.data, "epoch", 5, &member) != NULL)
		take_epoch(column, &member);
}

/* ---------------------------------------------------------------- columns */

static ColumnInput
input_of(Oid type, int32 typmod, int *text_limit)
{
	*text_limit = -1;
	switch (type)
	{
		case TEXTOID:
			return INPUT_TEXT;
		case VARCHAROID:
			if (typmod >= (int32) VARHDRSZ)
				*text_limit = typmod - VARHDRSZ;
			return INPUT_TEXT;
		case BYTEAOID:
			return INPUT_BYTEA;
		case JSONOID:
			return INPUT_JSON;
		case JSONBOID:
			return INPUT_JSONB;
		case INT2OID:
			return INPUT_INT2;
		case INT4OID:
			return INPUT_INT4;
		case INT8OID:
			return INPUT_INT8;
		case FLOAT8OID:
			return INPUT_FLOAT8;
		case BOOLOID:
			return INPUT_BOOL;
		case TIMESTAMPTZOID:
			return typmod < 0 ? INPUT_TIMESTAMPTZ : INPUT_GENERAL;
		case TIMESTAMPOID:
			return typmod < 0 ? INPUT_TIMESTAMP : INPUT_GENERAL;
		case DATEOID:
			return INPUT_DATE;
		case UUIDOID:
			return INPUT_UUID;
		default:
			return INPUT_GENERAL;
	}
}

static bool
is_time_type(Oid type)
{
	switch (getBaseType(type))
	{
		case TIMESTAMPTZOID:
		case TIMESTAMPOID:
		case DATEOID:
		case TIMEOID:
		case TIMETZOID:
			return true;
		default:
			return false;
	}
}

/* an array, range or multirange of a time type */
static bool
has_times(Oid type)
{
	Oid			base = getBaseType(type);
	Oid			inner = get_element_type(base);

	if (!OidIsValid(inner))
		inner = get_multirange_range(base);
	if (!OidIsValid(inner))
		inner = get_range_subtype(base);
	return OidIsValid(inner) && (is_time_type(inner) || has_times(inner));
}

static void
note_type(PlanColumn *column)
{
	Oid			base = getBaseType(column->type);

	column->is_time = is_time_type(column->type);
	column->has_times = has_times(column->type);
	column->takes_array = OidIsValid(get_element_type(base));
	column->takes_object = type_is_rowtype(base);
	column->takes_json = base == JSONOID || base == JSONBOID;
	column->takes_any_text = base == TEXTOID || base == VARCHAROID;
}

static void
take_default(DecodePlan *plan, PlanColumn *column, Relation target)
{
	Expr	   *expr = (Expr *) build_column_default(target, column->index + 1);

	column->default_is_constant = true;
	column->default_is_null = true;
	if (expr == NULL)
		return;
	expr = expression_planner(expr);
	if (IsA(expr, Const))
	{
		Const	   *constant = (Const *) expr;

		column->default_is_null = constant->constisnull;
		if (!constant->constisnull)
			column->default_value = datumCopy(constant->constvalue, constant->constbyval,
											  constant->constlen);
		return;
	}
	column->default_is_constant = false;
	column->default_expr = expr;
}

static void
build_column(DecodePlan *plan, PlanColumn *column, Relation target, Form_pg_attribute attribute,
			 Jsonb *columns)
{
	JsonbValue	place;
	Oid			in_function;

	column->index = attribute->attnum - 1;
	column->name = pstrdup(NameStr(attribute->attname));
	column->type = attribute->atttypid;
	column->typmod = attribute->atttypmod;
	column->input = input_of(column->type, column->typmod, &column->text_limit);
	note_type(column);
	getTypeInputInfo(column->type, &in_function, &column->in_parameter);
	fmgr_info_cxt(in_function, &column->in_function, plan->context);
	if (getKeyJsonValueFromContainer(&columns->root, column->name, strlen(column->name),
									 &place) != NULL)
		take_place(plan, column, &place);
	else if (attribute->attidentity == ATTRIBUTE_IDENTITY_ALWAYS)
		column->from = FROM_DEFAULT;
	else
		take_field(plan, column, child_of(plan->root, column->name, strlen(column->name)));
	if (!column->is_time)
		column->epoch = 0;
	take_default(plan, column, target);
}

/*
 * an entry for a column that was renamed or dropped since: silence would make every record a dead
 * letter
 */
static void
check_entries(Relation target, Jsonb *columns)
{
	JsonbIterator *iterator = JsonbIteratorInit(&columns->root);
	JsonbIteratorToken token;
	JsonbValue	key;

	while ((token = JsonbIteratorNext(&iterator, &key, true)) != WJB_DONE)
	{
		char	   *name;

		if (token != WJB_KEY)
			continue;
		name = pnstrdup(key.val.string.val, key.val.string.len);
		if (get_attnum(RelationGetRelid(target), name) <= 0)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("columns names \"%s\", which table \"%s\" does not have",
							name, RelationGetRelationName(target)),
					 errhint("Give columns as they are now to clickstream.alter_source.")));
	}
}

static void
build_columns(DecodePlan *plan, Relation target, Jsonb *columns)
{
	plan->natts = plan->desc->natts;
	plan->column = palloc0(sizeof(PlanColumn) * plan->natts);
	for (int i = 0; i < plan->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(plan->desc, i);

		if (!attribute->attisdropped && !attribute->attgenerated)
			build_column(plan, &plan->column[plan->n_columns++], target, attribute, columns);
	}
}

/* ---------------------------------------------------------------- life */

static void
release_indexer(void *arg)
{
	json_indexer_destroy(((DecodePlan *) arg)->indexer);
}

static void
make_indexer(DecodePlan *plan)
{
	plan->indexer = json_indexer_create();
	if (plan->indexer == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	plan->release.func = release_indexer;
	plan->release.arg = plan;
	MemoryContextRegisterResetCallback(plan->context, &plan->release);
}

DecodePlan *
decode_plan_build(Relation target, Jsonb *columns)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "clickstream decode plan",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext outer = MemoryContextSwitchTo(context);
	DecodePlan *plan = palloc0(sizeof(DecodePlan));

	plan->context = context;
	make_indexer(plan);
	plan->relid = RelationGetRelid(target);
	plan->desc = CreateTupleDescCopyConstr(RelationGetDescr(target));
	plan->columns = (Jsonb *) palloc(VARSIZE(columns));
	memcpy(plan->columns, columns, VARSIZE(columns));
	plan->root = make_key("", 0);
	check_entries(target, plan->columns);
	build_columns(plan, target, plan->columns);
	build_tables(plan->root);
	plan->found = palloc0(sizeof(FoundField) * Max(plan->n_fields, 1));
	plan->arena_size = ARENA_SIZE;
	plan->arena = palloc(plan->arena_size);
	plan->overflow = AllocSetContextCreate(context, "clickstream decoded values",
										   ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(outer);
	return plan;
}

bool
decode_plan_fits(const DecodePlan *plan, Relation target, Jsonb *columns)
{
	return plan->relid == RelationGetRelid(target) &&
		VARSIZE(plan->columns) == VARSIZE(columns) &&
		memcmp(plan->columns, columns, VARSIZE(columns)) == 0 &&
		equalTupleDescs(plan->desc, RelationGetDescr(target));
}

bool
decode_owns_error(const DecodePlan *plan, int sqlstate)
{
	if (plan->reading == NULL)
		return false;
	return sqlstate == ERRCODE_SYNTAX_ERROR || sqlstate == ERRCODE_INTERNAL_ERROR ||
		(plan->reading->type < FirstNormalObjectId &&
		 ERRCODE_TO_CATEGORY(sqlstate) == ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION);
}

void
decode_error_taken(DecodePlan *plan)
{
	plan->reading = NULL;
}

void
decode_plan_free(DecodePlan *plan)
{
	if (plan != NULL)
		MemoryContextDelete(plan->context);
}

void
decode_begin(DecodePlan *plan, EState *estate, MemoryContext faults)
{
	plan->faults = faults;
	plan->reading = NULL;
	plan->econtext = GetPerTupleExprContext(estate);
	for (int i = 0; i < plan->n_columns; i++)
	{
		PlanColumn *column = &plan->column[i];

		if (!column->default_is_constant)
			column->default_state = ExecPrepareExpr(copyObject(column->default_expr), estate);
	}
	decode_forget(plan);
}

void
decode_forget(DecodePlan *plan)
{
	plan->arena_used = 0;
	MemoryContextReset(plan->overflow);
}
