/*
 * document_address.c
 *		Where a row's document is, as a piece of JSON that actions and questions take as it is.
 *
 * Owns the form of addresses.  Two rows have the same document exactly where their addresses are the
 * same text.  Called by the parts of a sink worker that send or ask for documents.
 */
#include "postgres.h"

#include <jansson.h>

#include "document_internal.h"

static void
append_part(StringInfo out, const char *lead, AddressPart part)
{
	if (part.text == NULL)
		return;
	appendStringInfoString(out, lead);
	json_append_string(out, part.text, part.length);
}

void
document_address_of(AddressPart id, AddressPart index, AddressPart routing, StringInfo out)
{
	resetStringInfo(out);
	append_part(out, "\"_id\":", id);
	append_part(out, ",\"_index\":", index);
	append_part(out, ",\"routing\":", routing);
}

bool
document_index(const DocumentPlan *plan, const ColumnValue *values, StringInfo out)
{
	const ColumnValue *date;

	resetStringInfo(out);
	if (plan->pattern == NULL)
		return false;
	date = &values[plan->date_column];
	index_pattern_append(plan->pattern, out, date->text, date->length);
	appendStringInfoString(out, plan->index_suffix);
	return true;
}

void
document_plan_for_copy(DocumentPlan *plan, const char *index_suffix)
{
	plan->index_suffix = index_suffix;
}

bool
document_address(const DocumentPlan *plan, const ColumnValue *values, StringInfo out)
{
	AddressPart index = {NULL};
	AddressPart routing = {NULL};

	resetStringInfo(out);
	if (!document_id(plan, values, plan->id))
		return false;
	if (document_index(plan, values, plan->index))
		index = (AddressPart) {plan->index->data, plan->index->len};
	if (plan->routing_column >= 0)
		routing = (AddressPart) {values[plan->routing_column].text, values[plan->routing_column].length};
	/* Elasticsearch takes no empty one */
	if (routing.length == 0)
		routing.text = NULL;
	document_address_of((AddressPart) {plan->id->data, plan->id->len}, index, routing, out);
	return true;
}

char *
document_address_part(const char *address, int length, const char *part)
{
	char	   *text = psprintf("{%.*s}", length, address);
	json_t	   *root = json_loads(text, 0, NULL);
	const char *value = json_string_value(json_object_get(root, part));
	char	   *copy = value ? pstrdup(value) : NULL;

	json_decref(root);
	pfree(text);
	return copy;
}
