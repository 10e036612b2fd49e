/*
 * document_mapping.c
 *		The mapping of an index: what follows from the types of columns, and what a user has said before that.
 *
 * Owns the JSON of a mapping as a whole; which type of Elasticsearch a type of PostgreSQL becomes is
 * said in document.c.  Called when a plan is made, and by sink_index.c.
 */
#include "postgres.h"

#include "document_internal.h"

/*
 * What else an object can be, where the server does not know the type flattened: OpenSearch has one like it, and
 * the free edition of Elasticsearch 7 has none, so that objects are kept there and cannot be searched.
 */
static const char *const object_mappings[DOCUMENT_MAPPINGS] = {
	FLATTENED,
	"{\"type\":\"flat_object\"}",
	"{\"type\":\"object\",\"enabled\":false}",
};

/* ---------------------------------------------------------------- a user's choices */

static JsonbContainer *
mapping_properties(Jsonb *mapping)
{
	JsonbValue	key = {.type = jbvString, .val.string = {.val = "properties", .len = 10}};
	JsonbValue *found = findJsonbValueFromContainer(&mapping->root, JB_FOBJECT, &key);

	return found ? found->val.binary.data : NULL;
}

char *
document_chosen_mapping(const Sink *sink, char *field)
{
	JsonbValue	key = {.type = jbvString, .val.string = {.val = field, .len = strlen(field)}};
	JsonbContainer *properties = mapping_properties(sink->mapping);
	JsonbValue *found = properties ? findJsonbValueFromContainer(properties, JB_FOBJECT, &key) : NULL;

	if (found && found->type == jbvBinary)
		return JsonbToCString(NULL, found->val.binary.data, found->val.binary.len);
	/* a data stream wants every document to have a time that it can read */
	if (sink->data_stream && strcmp(field, "@timestamp") == 0)
		return "{\"type\":\"date\",\"format\":\"strict_date_optional_time\"}";
	return NULL;
}

static bool
is_field(const DocumentPlan *plan, const char *name)
{
	for (int i = 0; i < plan->n_fields; i++)
		if (strcmp(plan->fields[i].name, name) == 0)
			return true;
	return false;
}

/* the members of an object but for those that `leave_out` names, each with a comma before it */
static char *
other_members(JsonbContainer *object, const DocumentPlan *plan, bool (*leave_out) (const DocumentPlan *plan, const char *name))
{
	JsonbIterator *iterator = JsonbIteratorInit(object);
	JsonbIteratorToken token;
	JsonbValue	value;
	StringInfoData out;
	bool		left_out = false;

	initStringInfo(&out);
	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
		{
			char	   *name = pnstrdup(value.val.string.val, value.val.string.len);

			left_out = leave_out(plan, name);
			if (left_out)
				continue;
			appendStringInfoChar(&out, ',');
			json_append_string(&out, name, strlen(name));
			appendStringInfoChar(&out, ':');
		}
		else if (token == WJB_VALUE && !left_out)
		{
			Jsonb	   *text = JsonbValueToJsonb(&value);

			(void) JsonbToCString(&out, &text->root, VARSIZE(text));
		}
	}
	return out.data;
}

static bool
is_properties(const DocumentPlan *plan, const char *name)
{
	return strcmp(name, "properties") == 0 || strcmp(name, "_meta") == 0;
}

void
document_plan_mapping(DocumentPlan *plan, Jsonb *mapping)
{
	JsonbContainer *properties = mapping_properties(mapping);
	JsonbValue	key = {.type = jbvString, .val.string = {.val = "dynamic", .len = 7}};

	plan->more_fields = properties ? other_members(properties, plan, is_field) : pstrdup("");
	plan->mapping_rest = other_members(&mapping->root, plan, is_properties);
	if (findJsonbValueFromContainer(&mapping->root, JB_FOBJECT, &key) == NULL)
		plan->mapping_rest = psprintf("%s,\"dynamic\":\"strict\"", plan->mapping_rest);
}

/* ---------------------------------------------------------------- in words */

void
document_append_mapping(const DocumentPlan *plan, int which, StringInfo out)
{
	int			i;

	appendStringInfoChar(out, '{');
	for (i = 0; i < plan->n_fields; i++)
	{
		const PlanField *field = &plan->fields[i];

		/* the lead begins with a comma */
		appendStringInfoString(out, i == 0 ? field->lead + 1 : field->lead);
		appendStringInfoString(out, field->mapping ? field->mapping : strcmp(field->type->mapping, FLATTENED) == 0 ?
							   object_mappings[which] : field->type->mapping);
	}
	appendStringInfoString(out, plan->n_fields == 0 && plan->more_fields[0] ? plan->more_fields + 1 :
						   plan->more_fields);
	appendStringInfoChar(out, '}');
}

void
document_append_mapping_rest(const DocumentPlan *plan, StringInfo out)
{
	appendStringInfoString(out, plan->mapping_rest);
}
