/*
 * connector_config.c
 *		A configuration of Kafka Connect as settings by name, and what is noted about them.
 *
 * Owns how a value is read (Connect takes everything as text) and how it is shown in a comment: on
 * one line, and never when it may be a secret.  Called by the other connector files.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/formatting.h"
#include "utils/numeric.h"

#include "connector.h"
#include "source_api.h"

/* no more of a value is shown in a comment */
#define SHOWN 60

#define CLASS_HINT \
	"It reads sinks of the classes io.confluent.connect.jdbc.JdbcSinkConnector and " \
	"io.confluent.connect.elasticsearch.ElasticsearchSinkConnector, and those of io.aiven.connect."

static void
refuse(const char *message, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errhidestmt(true),
			 errmsg("%s", message), errhint("%s", hint)));
}

/* NULL for JSON's null, which is as good as nothing */
static char *
text_of(const char *name, const JsonbValue *value)
{
	switch (value->type)
	{
		case jbvString:
			return pnstrdup(value->val.string.val, value->val.string.len);
		case jbvNumeric:
			return numeric_normalize(value->val.numeric);
		case jbvBool:
			return pstrdup(value->val.boolean ? "true" : "false");
		case jbvNull:
			return NULL;
		default:
			refuse(psprintf("setting \"%s\" is neither text, number nor boolean", name),
				   "The settings of a connector are one flat object, the object under \"config\".");
	}
	return NULL;
}

static void
read_settings(Connector *connector, JsonbContainer *config)
{
	JsonbIterator *iterator = JsonbIteratorInit(config);
	JsonbIteratorToken token;
	JsonbValue	value;
	ConnectorSetting *setting = NULL;

	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
		{
			setting = palloc0(sizeof(ConnectorSetting));
			setting->name = pnstrdup(value.val.string.val, value.val.string.len);
		}
		else if (token == WJB_VALUE)
		{
			setting->value = text_of(setting->name, &value);
			if (setting->value)
				connector->settings = lappend(connector->settings, setting);
		}
	}
}

/* {"name": …, "config": {…}}, as it is posted to Connect, or the inner object alone */
static JsonbContainer *
inner_object(Connector *connector, Jsonb *config)
{
	JsonbValue	buffer;
	JsonbValue *found;

	if (!JB_ROOT_IS_OBJECT(config))
		refuse("the configuration of a connector is not a JSON object",
			   "Give what is posted to Kafka Connect: {\"name\": …, \"config\": {…}}, or the inner object.");
	found = getKeyJsonValueFromContainer(&config->root, "config", 6, &buffer);
	if (found == NULL)
		return &config->root;
	if (found->type != jbvBinary || !JsonContainerIsObject(found->val.binary.data))
		refuse("\"config\" is not a JSON object",
			   "Give what is posted to Kafka Connect: {\"name\": …, \"config\": {…}}, or the inner object.");
	{
		JsonbContainer *inner = found->val.binary.data;

		found = getKeyJsonValueFromContainer(&config->root, "name", 4, &buffer);
		if (found)
			connector->name = text_of("name", found);
		return inner;
	}
}

static int
by_name(const ListCell *a, const ListCell *b)
{
	return strcmp(((ConnectorSetting *) lfirst(a))->name, ((ConnectorSetting *) lfirst(b))->name);
}

static bool
ends_with(const char *text, const char *end)
{
	size_t		length = strlen(text);
	size_t		end_length = strlen(end);

	return length >= end_length && strcmp(text + length - end_length, end) == 0;
}

static ConnectorKind
kind_of(const char *class)
{
	if (class == NULL)
		refuse("the configuration has no \"connector.class\"", CLASS_HINT);
	if (ends_with(class, "JdbcSinkConnector"))
		return CONNECTOR_JDBC;
	if (ends_with(class, "ElasticsearchSinkConnector"))
		return CONNECTOR_ELASTICSEARCH;
	refuse(psprintf("connectors of class \"%s\" are not known", class), CLASS_HINT);
	return 0;
}

Connector *
connector_read(Jsonb *config)
{
	Connector  *connector = palloc0(sizeof(Connector));
	const char *name;

	read_settings(connector, inner_object(connector, config));
	list_sort(connector->settings, by_name);
	connector->kind = kind_of(connector_get(connector, "connector.class"));
	name = connector_get(connector, "name");
	if (name && *name && (connector->name == NULL || *connector->name == '\0'))
		connector->name = pstrdup(name);
	if (connector->name && *connector->name == '\0')
		connector->name = NULL;
	return connector;
}

static ConnectorSetting *
find_setting(Connector *connector, const char *name)
{
	ListCell   *cell;

	foreach(cell, connector->settings)
	{
		ConnectorSetting *setting = lfirst(cell);

		if (strcmp(setting->name, name) == 0)
			return setting;
	}
	return NULL;
}

const char *
connector_get(Connector *connector, const char *name)
{
	ConnectorSetting *setting = find_setting(connector, name);

	if (setting == NULL)
		return NULL;
	setting->taken = true;
	return setting->value;
}

const char *
connector_number(Connector *connector, const char *name, int64 min, int64 max)
{
	const char *value = connector_get(connector, name);
	char	   *end;
	int64		number;

	if (value == NULL)
		return NULL;
	number = strtoll(value, &end, 10);
	if (end != value && *end == '\0' && number >= min && number <= max)
		return value;
	connector_note(connector, false, name,
				   psprintf("a number from " INT64_FORMAT " to " INT64_FORMAT " can be taken over; this one leaves the default", min, max));
	return NULL;
}

List *
connector_get_list(Connector *connector, const char *name)
{
	const char *value = connector_get(connector, name);
	List	   *list = NIL;

	while (value && *value)
	{
		size_t		length = strcspn(value, ",");
		char	   *item = source_topic_trimmed(value, length);

		if (*item)
			list = lappend(list, item);
		value += length;
		value += *value == ',';
	}
	return list;
}

bool
connector_is(Connector *connector, const char *name, bool otherwise)
{
	const char *value = connector_get(connector, name);

	return value ? pg_strcasecmp(value, "true") == 0 : otherwise;
}

/* the value for a key in a setting such as "a:1,b:2" */
char *
connector_map_get(Connector *connector, const char *name, const char *key)
{
	ListCell   *cell;

	foreach(cell, connector_get_list(connector, name))
	{
		char	   *pair = lfirst(cell);
		char	   *colon = strchr(pair, ':');

		if (colon && strcmp(source_topic_trimmed(pair, colon - pair), key) == 0)
			return source_topic_trimmed(colon + 1, strlen(colon + 1));
	}
	return NULL;
}

/* Whatever may be a secret.  Too many is better than one too few. */
static bool
may_be_secret(const char *name)
{
	static const char *const words[] = {"password", "secret", "token", "credential", "jaas", "user.info", "apikey", "api.key", "api_key", "url"};
	char	   *lower = asc_tolower(name, strlen(name));

	for (int i = 0; i < lengthof(words); i++)
		if (strstr(lower, words[i]))
			return true;
	return false;
}

/* on one line, whatever is in it, and not too long */
static char *
on_one_line(const char *text)
{
	int			length = pg_mbcliplen(text, strlen(text), SHOWN);
	char	   *line = text[length] ? psprintf("%.*s...", length, text) : pstrdup(text);

	for (char *c = line; *c; c++)
		if (iscntrl((unsigned char) *c))
			*c = ' ';
	return line;
}

void
connector_note(Connector *connector, bool honoured, const char *name, const char *says)
{
	ConnectorSetting *setting = find_setting(connector, name);
	ConnectorNote *note = palloc0(sizeof(ConnectorNote));

	note->honoured = honoured;
	if (setting == NULL || may_be_secret(name))
		note->text = psprintf("%s: %s", on_one_line(name), says);
	else
		note->text = psprintf("%s = %s: %s", on_one_line(name), on_one_line(setting->value), says);
	if (setting)
		setting->taken = true;
	connector->notes = lappend(connector->notes, note);
}
