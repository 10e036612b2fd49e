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

bool
document_address(const DocumentPlan *plan, const ColumnValue *values, StringInfo out)
{
	if (!document_id(plan, values, plan->id))
		return false;
	document_address_of_id(plan->id->data, plan->id->len, out);
	return true;
}

void
document_address_of_id(const char *id, int length, StringInfo out)
{
	resetStringInfo(out);
	appendStringInfoString(out, "\"_id\":");
	json_append_string(out, id, length);
}

char *
document_address_id(const char *address, int length)
{
	char	   *text = psprintf("{%.*s}", length, address);
	json_t	   *root = json_loads(text, 0, NULL);
	char	   *id = pstrdup(json_string_value(json_object_get(root, "_id")));

	json_decref(root);
	pfree(text);
	return id;
}
