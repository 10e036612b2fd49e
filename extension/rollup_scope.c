/*
 * rollup_scope.c
 *		Whose rights and which settings a rollup's query runs under, and how far back it goes.
 *
 * A rollup means what its query meant when it was made.  So each time it is run, by whichever
 * session or worker, the settings that change the meaning of an expression are put back to what they
 * were then, and the query runs as the rollup's owner in a security-restricted operation, as a
 * materialized view's does.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "duration.h"
#include "rollup_merge.h"
#include "rollup_set.h"

/* all settings that an immutable or stable built-in function looks at */
static const char *const meaning[] = {
	"TimeZone", "timezone_abbreviations", "DateStyle", "IntervalStyle", "extra_float_digits",
	"bytea_output", "default_text_search_config", "lc_monetary", "lc_numeric", "lc_time",
	"xmlbinary", "xmloption", "search_path"
};

static JsonbValue
json_string(const char *text)
{
	JsonbValue	value;

	value.type = jbvString;
	value.val.string.val = pstrdup(text);
	value.val.string.len = strlen(text);
	return value;
}

Jsonb *
rollup_settings_now(void)
{
	JsonbParseState *state = NULL;
	int			i;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (i = 0; i < lengthof(meaning); i++)
	{
		JsonbValue	key = json_string(meaning[i]);
		JsonbValue	value = json_string(GetConfigOption(meaning[i], false, false));

		pushJsonbValue(&state, WJB_KEY, &key);
		pushJsonbValue(&state, WJB_VALUE, &value);
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

static void
set(const char *name, const char *value)
{
	const char *now = GetConfigOption(name, true, false);

	if (now == NULL || strcmp(now, value) != 0)
		(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
								 false);
}

/* The names in a query are bound already; search_path is for functions that look for more. */
static void
set_all(Jsonb *settings, bool with_search_path)
{
	JsonbIterator *iterator = JsonbIteratorInit(&settings->root);
	JsonbValue	item;
	JsonbIteratorToken token;
	char	   *name = NULL;

	while ((token = JsonbIteratorNext(&iterator, &item, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			name = pnstrdup(item.val.string.val, item.val.string.len);
		else if (token == WJB_VALUE && name != NULL && item.type == jbvString &&
				 (with_search_path || strcmp(name, "search_path") != 0))
			set(name, pnstrdup(item.val.string.val, item.val.string.len));
	}
}

/* as it is now, whatever it was when the rollup was made */
static Oid
owner_of(Oid relation)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relation));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", relation);
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

/* An error in between is undone by the end of the (sub)transaction. */
void
rollup_scope_enter_without_names(RollupScope *scope, const Rollup *rollup)
{
	scope->guc_level = NewGUCNestLevel();
	GetUserIdAndSecContext(&scope->user, &scope->security);
	SetUserIdAndSecContext(owner_of(rollup->rollup),
						   scope->security | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
	if (rollup->settings != NULL)
		set_all(rollup->settings, false);
}

void
rollup_scope_enter(RollupScope *scope, const Rollup *rollup, const RollupQuery *query)
{
	rollup_scope_enter_without_names(scope, rollup);
	if (query->needs_search_path && rollup->settings != NULL)
		set_all(rollup->settings, true);
	else if (!query->needs_search_path)
		set("search_path", ROLLUP_SEARCH_PATH);
	set("jit", "off");
	set("row_security", "on");
}

/* Where names are looked for, each has a scope of its own: what they find is part of it. */
bool
rollup_scope_is_same(const Rollup *one, const RollupQuery *query_of_one, const Rollup *other,
					 const RollupQuery *query_of_other)
{
	if (query_of_one->needs_search_path || query_of_other->needs_search_path ||
		owner_of(one->rollup) != owner_of(other->rollup))
		return false;
	if (one->settings == NULL || other->settings == NULL)
		return one->settings == other->settings;
	return VARSIZE(one->settings) == VARSIZE(other->settings) &&
		memcmp(one->settings, other->settings, VARSIZE(one->settings)) == 0;
}

void
rollup_scope_leave(const RollupScope *scope)
{
	AtEOXact_GUC(true, scope->guc_level);
	SetUserIdAndSecContext(scope->user, scope->security);
}

TimestampTz
rollup_oldest(const Rollup *rollup)
{
	if (rollup->retention == NULL)
		return DT_NOBEGIN;
	return moment_before(GetCurrentTransactionStartTimestamp(), rollup->retention);
}
