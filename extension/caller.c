/*
 * caller.c
 *		Who may command a source or sink, and what is said to those who may not.
 *
 * Decides by roles alone and reads no table of the extension.  Called by source_api.c and sink_api.c.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"

#include "caller.h"

void
caller_may_name(CallersNames *names, const char *name, Oid owner)
{
	if (has_privs_of_role(GetUserId(), owner))
		names->text = names->text ? psprintf("%s, \"%s\"", names->text, name) : psprintf("\"%s\"", name);
}

void
caller_refuse_unknown(const char *kind, const char *name, const CallersNames *names)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("%s \"%s\" does not exist", kind, name),
			 names->text ? errhint("There are: %s.", names->text) :
			 errhint("There is none of yours: make one with clickstream.create_%s.", kind)));
}

void
caller_must_own(const char *kind, const char *name, Oid owner)
{
	char	   *role;

	if (has_privs_of_role(GetUserId(), owner))
		return;
	role = GetUserNameFromId(owner, true);
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("must be owner of %s \"%s\"", kind, name),
			 errhint("Its owner is %s.", role ? quote_identifier(role) : "a role that was dropped")));
}
