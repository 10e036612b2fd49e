/*
 * connector_options.c
 *		What is said about each setting of a connector that no statement takes over.
 *
 * Owns the one table of them: what does the same here, or that nothing does.  A line with a value is
 * meant for that value; the first that fits counts.  Called by connector_sql.c, last.
 */
#include "postgres.h"

#include "connector.h"

typedef struct ConnectorOption
{
	int			kinds;			/* CONNECTOR_JDBC | CONNECTOR_ELASTICSEARCH */
	const char *name;			/* with * at its end: all that begin so */
	const char *value;			/* NULL: any */
	bool		honoured;
	const char *says;
} ConnectorOption;

#define JDBC CONNECTOR_JDBC
#define SEARCH CONNECTOR_ELASTICSEARCH
#define BOTH CONNECTOR_BOTH

#define WAITED_FOR "what is away is waited for, without end and with growing pauses; nothing moves meanwhile"
#define LETTERS "a record that cannot be a row is kept whole in clickstream.dead_letters, with its reason"
#define REFUSED_DOCUMENTS "a document that Elasticsearch refuses is kept in clickstream.sink_dead_letters; the others go on"
#define PEM "certificates and keys are in PEM form: ca_pem or ca_file of the server, certificate_pem and key_pem of the user mapping"

static const ConnectorOption options[] = {
	/* of every connector */
	{BOTH, "key.converter*", NULL, true, "the key is taken as it is, by a column from \"@key\""},
	{BOTH, "header.converter*", NULL, true, "headers are a column from \"@headers\""},
	{BOTH, "value.converter.schema.registry*", NULL, false, "no schema registry is asked"},
	{BOTH, "value.converter.schemas.enable", NULL, true, "a source reads a JSON object a record"},
	{BOTH, "value.converter.*", NULL, true, "the columns' types say how a field is read"},
	{BOTH, "errors.tolerance", "none", false, "a bad record stops nothing: it is a dead letter, whole, in clickstream.dead_letters"},
	{BOTH, "errors.tolerance", NULL, true, LETTERS},
	{BOTH, "errors.deadletterqueue.*", NULL, true, LETTERS " and headers; no topic is written"},
	{BOTH, "errors.log.*", NULL, true, "reasons are in clickstream.dead_letters and the stat views"},
	{BOTH, "errors.retry.*", NULL, true, WAITED_FOR},
	{BOTH, "max.retries", NULL, true, WAITED_FOR},
	{BOTH, "retry.backoff.ms", NULL, true, WAITED_FOR},
	{BOTH, "config.action.reload", NULL, true, "a user mapping that is altered counts from the next connection on"},
	{BOTH, "predicates*", NULL, false, "transforms with a predicate are not carried out"},
	{BOTH, "consumer.override.isolation.level", "read_committed", true, "transactional topics are read committed"},
	{BOTH, "consumer.override.max.poll.*", NULL, true, "no consumer group is joined, and a batch is bounded by max_batch_rows"},
	{BOTH, "consumer.override.ssl.truststore.*", NULL, false, "a file in PEM form, which the option ssl.ca.location names, or ssl.ca.pem holds"},
	/* JDBC */
	{JDBC, "connection.url", NULL, true, "rows go into the database in which this is run"},
	{JDBC, "connection.user", NULL, true, "the workers run as the owner of the table; nobody logs in"},
	{JDBC, "connection.password", NULL, true, "the workers run as the owner of the table; nobody logs in"},
	{JDBC, "connection.*", NULL, true, "there is no connection: the workers are in the server"},
	{JDBC, "dialect.name", "PostgreSqlDatabaseDialect", true, "this is PostgreSQL"},
	{JDBC, "dialect.name", NULL, false, "this is PostgreSQL"},
	{JDBC, "batch.size", NULL, true, "a transaction takes what is waiting, up to max_batch_rows"},
	{JDBC, "table.types", NULL, true, "the target is a table, partitioned or not"},
	{JDBC, "quote.sql.identifiers", "never", false, "names are taken as they are written"},
	{JDBC, "quote.sql.identifiers", NULL, true, "names are taken as they are written"},
	{JDBC, "sql.quote.identifiers", "false", false, "names are taken as they are written"},
	{JDBC, "sql.quote.identifiers", NULL, true, "names are taken as they are written"},
	{JDBC, "auto.create", NULL, true, "the table has to be there"},
	{JDBC, "auto.evolve", "false", true, "ALTER TABLE alone changes the table"},
	{JDBC, "auto.evolve", NULL, false, "ALTER TABLE … ADD COLUMN: the column is filled from then on, its field was left out before"},
	{JDBC, "delete.enabled", "false", true, "a record without a value is a counted skip"},
	{JDBC, "delete.enabled", NULL, false, "a record without a value deletes nothing: it is a counted skip"},
	{JDBC, "db.timezone", "UTC", true, "a time without a zone is UTC"},
	{JDBC, "db.timezone", NULL, false, "a time without a zone is UTC"},
	{JDBC, "date.timezone", NULL, false, "a time without a zone is UTC"},
	{JDBC, "replace.null.with.default", "false", true, "JSON null is NULL; a field that is missing is the column's default"},
	{JDBC, "replace.null.with.default", NULL, false, "JSON null is NULL; a field that is missing is the column's default"},
	{JDBC, "mssql.use.merge.holdlock", NULL, true, "this is PostgreSQL"},
	/* Elasticsearch */
	{SEARCH, "tasks.max", NULL, true, "a sink has one worker"},
	{SEARCH, "type.name", NULL, true, "documents have no types since Elasticsearch 7"},
	{SEARCH, "schema.ignore", NULL, true, "the mapping is made from the types of the table's columns"},
	{SEARCH, "topic.schema.ignore", NULL, true, "the mapping is made from the types of the table's columns"},
	{SEARCH, "topic.key.ignore", NULL, false, "give the id of each sink by its argument id"},
	{SEARCH, "batch.size", NULL, true, "a request grows up to bulk_bytes, and waits for others up to bulk_wait"},
	{SEARCH, "max.buffered.records", NULL, true, "what waits is bounded by bulk_bytes; the rest waits in the write-ahead log"},
	{SEARCH, "flush.*", NULL, true, "a position is confirmed once everything before it was acknowledged"},
	{SEARCH, "connection.timeout.ms", NULL, true, "the server option timeout bounds a request"},
	{SEARCH, "max.connection.idle.time.ms", NULL, true, "a connection that was closed is opened again"},
	{SEARCH, "behavior.on.malformed.documents", "fail", false, "a bad document stops nothing: it is kept in clickstream.sink_dead_letters"},
	{SEARCH, "behavior.on.malformed.documents", NULL, true, REFUSED_DOCUMENTS},
	{SEARCH, "behavior.on.null.values", "ignore", true, "a record without a value is a counted skip"},
	{SEARCH, "behavior.on.null.values", NULL, false, "a record without a value is a counted skip; DELETE FROM the table removes row and document"},
	{SEARCH, "drop.invalid.message", NULL, true, LETTERS},
	{SEARCH, "compact.map.entries", "false", false, "an object in the record is an object in the document"},
	{SEARCH, "compact.map.entries", NULL, true, "an object in the record is an object in the document"},
	{SEARCH, "write.method", "upsert", false, "a document is written whole: fields that the row has not do not stay"},
	{SEARCH, "write.method", NULL, true, "a document is written whole, under its id"},
	{SEARCH, "use.autogenerated.ids", "false", true, "the id comes from the row"},
	{SEARCH, "use.autogenerated.ids", NULL, false, "the id comes from the row, so that sending it again changes nothing"},
	{SEARCH, "external.version.header", NULL, false, "a document's version is the position of its commit in the write-ahead log"},
	{SEARCH, "auto.create.indices.at.start", NULL, true, "the sink makes its index"},
	{SEARCH, "external.resource.usage", "INDEX", true, "the sink makes its index, behind an alias"},
	{SEARCH, "external.resource.usage", "DISABLED", true, "the sink makes its index, behind an alias"},
	{SEARCH, "external.resource.usage", NULL, false, "the sink makes its index, behind an alias"},
	{SEARCH, "data.stream.*", NULL, false, "data_stream => true writes into a data stream; see create_sink"},
	{SEARCH, "elastic.security.protocol", NULL, true, "a url that begins with https:// is TLS"},
	{SEARCH, "elastic.https.*", NULL, false, PEM},
	{SEARCH, "proxy.*", NULL, false, "the sink's worker asks Elasticsearch itself"},
	{SEARCH, "kerberos.*", NULL, false, "a user mapping has username and password, or api_key"},
	{SEARCH, "log.sensitive.data", NULL, true, "no document is written to the log"},
};

static bool
fits(const ConnectorOption *option, ConnectorKind kind, const ConnectorSetting *setting)
{
	size_t		length = strlen(option->name);

	if ((option->kinds & kind) == 0)
		return false;
	if (option->name[length - 1] == '*' ? strncmp(setting->name, option->name, length - 1) != 0 :
		strcmp(setting->name, option->name) != 0)
		return false;
	return option->value == NULL || pg_strcasecmp(option->value, setting->value) == 0;
}

bool
connector_note_known(Connector *connector, ConnectorSetting *setting)
{
	for (int i = 0; i < lengthof(options); i++)
	{
		if (!fits(&options[i], connector->kind, setting))
			continue;
		connector_note(connector, options[i].honoured, setting->name, options[i].says);
		return true;
	}
	return false;
}

void
connector_note_rest(Connector *connector)
{
	ListCell   *cell;

	foreach(cell, connector->settings)
	{
		ConnectorSetting *setting = lfirst(cell);

		if (!setting->taken && !connector_note_known(connector, setting))
			connector_note(connector, false, setting->name, "it is not known here");
	}
}
