/*
 * connection.c
 *		Servers and user mappings of the two foreign data wrappers: options checked, secrets read.
 *
 * Owns the lists of options: each option is checked against the table (connection_table.c) and its
 * value (connection_value.c) when a server or mapping is made or altered, and again whenever a worker or
 * SQL function reads them.
 *
 * A secret never appears in a message, and nothing here logs an option list.  An error about options
 * keeps its statement out of the server's log, as the statement may hold a secret beside its fault.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/reloptions.h"
#include "catalog/pg_foreign_data_wrapper.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "fmgr.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

#include "compat.h"
#include "connection_table.h"

PG_FUNCTION_INFO_V1(clickstream_kafka_validator);
PG_FUNCTION_INFO_V1(clickstream_elasticsearch_validator);

/* ---------------------------------------------------------------- names */

static const Option *
find_option(const Wrapper *wrapper, const char *name)
{
	int			i;

	for (i = 0; i < wrapper->n_options; i++)
		if (strcmp(wrapper->options[i].name, name) == 0)
			return &wrapper->options[i];
	return NULL;
}

bool
connection_takes_option(ConnectionKind kind, const char *name, bool *in_mapping, const char **why)
{
	const Option *option = find_option(&connection_wrappers[kind], name);

	*why = option ? option->refused : NULL;
	*in_mapping = option && (option->places & SERVER) == 0;
	return option && option->places != 0;
}

/* the name most like it among those that may be given in that place, or NULL when none is near */
static const char *
nearest_option(const Wrapper *wrapper, const char *name, int place)
{
	int			length = strlen(name);
	int			nearest = Min(length / 2, 12) + 1;
	const char *found = NULL;
	int			i;

	if (length > 100)
		return NULL;
	for (i = 0; i < wrapper->n_options; i++)
	{
		const Option *option = &wrapper->options[i];
		int			distance;

		if ((option->places & place) == 0)
			continue;
		distance = varstr_levenshtein(name, length, option->name, strlen(option->name), 1, 1, 1,
									  true);
		if (distance < nearest)
		{
			nearest = distance;
			found = option->name;
		}
	}
	return found;
}

static void
refuse_unknown(const Wrapper *wrapper, const char *name, int place)
{
	const char *nearest = nearest_option(wrapper, name, place);

	ereport(ERROR,
			(errcode(ERRCODE_FDW_INVALID_OPTION_NAME), errhidestmt(true),
			 errmsg("invalid option \"%s\"", name),
			 nearest ? errhint("Perhaps you meant the option \"%s\".", nearest) :
			 errhint("%s", wrapper->option_hint)));
}

static void
refuse_misplaced(const Option *option)
{
	if (option->restriction == SECRET)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_OPTION_NAME), errhidestmt(true),
				 errmsg("option \"%s\" is a secret and does not belong on the server", option->name),
				 errdetail("Everybody can read the options of a server."),
				 errhint("Give it to a role: CREATE USER MAPPING FOR role SERVER server OPTIONS "
						 "(\"%s\" '...').", option->name)));
	if (option->places == MAPPING)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_OPTION_NAME), errhidestmt(true),
				 errmsg("option \"%s\" belongs to a role, not to the server", option->name),
				 errhint("Give it to a role: CREATE USER MAPPING FOR role SERVER server OPTIONS "
						 "(\"%s\" '...').", option->name)));
	ereport(ERROR,
			(errcode(ERRCODE_FDW_INVALID_OPTION_NAME), errhidestmt(true),
			 errmsg("option \"%s\" belongs to the server, not to a user mapping", option->name),
			 errhint("Use ALTER SERVER server OPTIONS (ADD \"%s\" '...').", option->name)));
}

/* ---------------------------------------------------------------- option lists */

static bool
has_option(List *options, const char *name)
{
	ListCell   *cell;

	foreach(cell, options)
		if (strcmp(((DefElem *) lfirst(cell))->defname, name) == 0)
			return true;
	return false;
}

/*
 * Checks one option.  Whether a superuser gave it is asked when it is given; a worker that reads it
 * later acts for the owner of a source or sink, who need not be one.
 */
static void
check_option(const Wrapper *wrapper, DefElem *given, int place, bool giving)
{
	const Option *option = find_option(wrapper, given->defname);

	if (option == NULL)
		refuse_unknown(wrapper, given->defname, place);
	if (option->refused)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_OPTION_NAME), errhidestmt(true),
				 errmsg("option \"%s\" cannot be set", option->name),
				 errdetail("%s", option->refused),
				 errhint("Leave it out.")));
	if ((option->places & place) == 0)
		refuse_misplaced(option);
	if (giving && option->restriction == FOR_SUPERUSERS && !superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errhidestmt(true),
				 errmsg("only a superuser may set option \"%s\"", option->name),
				 errdetail("It has the database server open a file or act under its system account."),
				 errhint("Where there is a \"pem\" option it takes the file's contents instead.")));
	connection_check_value(option, defGetString(given));
}

/* the same thing is given as text or as a file */
static void
check_text_or_file(List *options, const char *thing)
{
	char	   *text = psprintf("%s_pem", thing);
	char	   *file = psprintf("%s_file", thing);

	if (has_option(options, text) && has_option(options, file))
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE), errhidestmt(true),
				 errmsg("option \"%s\" excludes \"%s\"", text, file),
				 errhint("Keep one of the two.")));
}

static void
check_certificate(List *options)
{
	bool		certificate = has_option(options, "certificate_pem") ||
		has_option(options, "certificate_file");
	bool		key = has_option(options, "key_pem") || has_option(options, "key_file");

	check_text_or_file(options, "certificate");
	check_text_or_file(options, "key");
	if (certificate != key)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_DYNAMIC_PARAMETER_VALUE_NEEDED), errhidestmt(true),
				 errmsg("option \"%s\" is missing", certificate ? "key_pem" : "certificate_pem"),
				 errhint("Give both the certificate and its key.")));
	if (!key && has_option(options, "key_password"))
		ereport(ERROR,
				(errcode(ERRCODE_FDW_DYNAMIC_PARAMETER_VALUE_NEEDED), errhidestmt(true),
				 errmsg("option \"key_password\" is given without a key"),
				 errhint("Give certificate_pem and key_pem, too.")));
}

static void
check_user_or_key(List *options)
{
	bool		username = has_option(options, "username");
	bool		password = has_option(options, "password");

	if (has_option(options, "api_key") && (username || password))
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE), errhidestmt(true),
				 errmsg("option \"api_key\" excludes \"username\" and \"password\""),
				 errhint("Keep one of the two.")));
	if (username != password)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_DYNAMIC_PARAMETER_VALUE_NEEDED), errhidestmt(true),
				 errmsg("option \"%s\" is missing", username ? "password" : "username"),
				 errhint("Give both username and password, or an api_key.")));
}

/* how a role proves who it is to Elasticsearch: one way, and whole; beside it perhaps a certificate */
static void
check_credentials(List *options)
{
	check_certificate(options);
	check_user_or_key(options);
}

static void
check_options(ConnectionKind kind, List *options, int place, bool giving)
{
	const Wrapper *wrapper = &connection_wrappers[kind];
	ListCell   *cell;

	foreach(cell, options)
		check_option(wrapper, lfirst(cell), place, giving);
	if (place == SERVER && !has_option(options, wrapper->required))
		ereport(ERROR,
				(errcode(ERRCODE_FDW_DYNAMIC_PARAMETER_VALUE_NEEDED), errhidestmt(true),
				 errmsg("option \"%s\" is missing", wrapper->required),
				 errhint("Add OPTIONS (%s).", wrapper->example)));
	if (kind == CONNECTION_ELASTICSEARCH && place == SERVER)
		check_text_or_file(options, "ca");
	if (kind == CONNECTION_ELASTICSEARCH && place == MAPPING)
		check_credentials(options);
}

static void
validate(ConnectionKind kind, Datum given, Oid catalog)
{
	List	   *options = untransformRelOptions(given);

	if (catalog == ForeignServerRelationId)
		check_options(kind, options, SERVER, true);
	else if (catalog == UserMappingRelationId)
		check_options(kind, options, MAPPING, true);
	else if (options != NIL)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_OPTION_NAME), errhidestmt(true),
				 errmsg("options belong on a server or a user mapping"),
				 errhint("CREATE SERVER name FOREIGN DATA WRAPPER %s OPTIONS (%s).",
						 connection_wrappers[kind].name, connection_wrappers[kind].example)));
}

Datum
clickstream_kafka_validator(PG_FUNCTION_ARGS)
{
	validate(CONNECTION_KAFKA, PG_GETARG_DATUM(0), PG_GETARG_OID(1));
	PG_RETURN_VOID();
}

Datum
clickstream_elasticsearch_validator(PG_FUNCTION_ARGS)
{
	validate(CONNECTION_ELASTICSEARCH, PG_GETARG_DATUM(0), PG_GETARG_OID(1));
	PG_RETURN_VOID();
}

/* ---------------------------------------------------------------- reading */

static void
check_wrapper(ForeignServer *server, const Wrapper *wrapper)
{
	ForeignDataWrapper *found = GetForeignDataWrapper(server->fdwid);

	if (strcmp(found->fdwname, wrapper->name) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("server \"%s\" is not a connection to %s", server->servername,
						wrapper->label),
				 errdetail("Its foreign data wrapper is \"%s\".", found->fdwname),
				 errhint("Name a server made with FOREIGN DATA WRAPPER %s.", wrapper->name)));
}

Oid
connection_server(const char *name, ConnectionKind kind, Oid role)
{
	const Wrapper *wrapper = &connection_wrappers[kind];
	ForeignServer *server = GetForeignServerByName(name, true);

	if (server == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("server \"%s\" does not exist", name),
				 errhint("CREATE SERVER %s FOREIGN DATA WRAPPER %s OPTIONS (%s).",
						 quote_identifier(name), wrapper->name, wrapper->example)));
	check_wrapper(server, wrapper);
	if (compat_server_aclcheck(server->serverid, role, ACL_USAGE) != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for foreign server %s", name),
				 errhint("GRANT USAGE ON FOREIGN SERVER %s TO %s.", quote_identifier(name),
						 quote_identifier(GetUserNameFromId(role, false)))));
	return server->serverid;
}

static List *
mapping_options(Oid role, Oid server)
{
	HeapTuple	tuple = SearchSysCache2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(role),
										ObjectIdGetDatum(server));
	List	   *options = NIL;
	Datum		value;
	bool		is_null;

	if (!HeapTupleIsValid(tuple))
		tuple = SearchSysCache2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(InvalidOid),
								ObjectIdGetDatum(server));
	if (!HeapTupleIsValid(tuple))
		return NIL;
	value = SysCacheGetAttr(USERMAPPINGUSERSERVER, tuple, Anum_pg_user_mapping_umoptions, &is_null);
	if (!is_null)
		options = untransformRelOptions(value);
	ReleaseSysCache(tuple);
	return options;
}

/* a broker that wants a user name, and a role without one: said here, as librdkafka says it badly */
static void
check_sasl(ForeignServer *server, List *options, Oid role)
{
	bool		needed = false;
	ListCell   *cell;

	foreach(cell, options)
	{
		DefElem    *option = lfirst(cell);

		if (strncmp(option->defname, "sasl.mechanism", strlen("sasl.mechanism")) == 0 &&
			connection_is_one_of(defGetString(option), "PLAIN SCRAM-SHA-256 SCRAM-SHA-512"))
			needed = true;
	}
	if (needed && !(has_option(options, "sasl.username") && has_option(options, "sasl.password")))
		ereport(ERROR,
				(errcode(ERRCODE_FDW_DYNAMIC_PARAMETER_VALUE_NEEDED),
				 errmsg("server \"%s\" asks for a user name and a password",
						server->servername),
				 errhint("CREATE USER MAPPING FOR %s SERVER %s OPTIONS (\"sasl.username\" '...', "
						 "\"sasl.password\" '...').",
						 quote_identifier(GetUserNameFromId(role, false)),
						 quote_identifier(server->servername))));
}

List *
connection_options(const char *name, ConnectionKind kind, Oid role)
{
	ForeignServer *server = GetForeignServer(connection_server(name, kind, role));
	List	   *of_mapping = mapping_options(role, server->serverid);
	List	   *options;

	check_options(kind, server->options, SERVER, false);
	check_options(kind, of_mapping, MAPPING, false);
	options = list_concat(list_copy(server->options), of_mapping);
	if (kind == CONNECTION_KAFKA)
		check_sasl(server, options, role);
	return options;
}
