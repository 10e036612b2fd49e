/*
 * connector_transforms.c
 *		Kafka Connect's own transforms of single records, in their order, as what they do to columns.
 *
 * Owns the table of those that can be told by a column's place in the record, its type or its default,
 * by the topic's name or the document's id.  A note says so of each of the others.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "connector.h"

/* one of the list in "transforms" */
typedef struct Transform
{
	Connector  *connector;
	const char *alias;
	const char *class;			/* the last part: InsertField$Value */
	char	   *type_setting;	/* the setting that notes are about: transforms.ALIAS.type */
} Transform;

static const char *
setting_name(const Transform *transform, const char *name)
{
	return psprintf("transforms.%s.%s", transform->alias, name);
}

static const char *
get(const Transform *transform, const char *name)
{
	return connector_get(transform->connector, setting_name(transform, name));
}

static void
note(const Transform *transform, bool honoured, const char *says)
{
	connector_note(transform->connector, honoured, transform->type_setting, says);
}

/* "a:b" cut in two in place; false when there is no colon */
static bool
cut(char *pair, char **left, char **right)
{
	char	   *colon = strchr(pair, ':');

	if (colon == NULL)
		return false;
	*colon = '\0';
	*left = pair;
	*right = colon + 1;
	return true;
}

/* ---------------------------------------------------------------- fields */

static void
replace_field(const Transform *transform)
{
	Connector  *connector = transform->connector;
	ListCell   *cell;
	char	   *from;
	char	   *to;

	foreach(cell, connector_get_list(connector, setting_name(transform, "renames")))
		if (cut(lfirst(cell), &from, &to))
			connector_column(connector, from)->name = pstrdup(to);
	if (get(transform, "exclude") || get(transform, "blacklist") || get(transform, "include") || get(transform, "whitelist"))
		note(transform, true, "a field becomes a column where the table has one for it; others are left out");
}

static void
insert_field(const Transform *transform)
{
	static const struct
	{
		const char *setting;
		const char *part;
		const char *type;
	}			parts[] = {
		{"topic.field", "@topic", "text"},
		{"partition.field", "@partition", "int"},
		{"offset.field", "@offset", "bigint"},
		{"timestamp.field", "@timestamp", "timestamptz"},
	};
	const char *name;

	for (int i = 0; i < lengthof(parts); i++)
	{
		/* Connect: "!" after the name means the field must be there, "?" that it may */
		name = get(transform, parts[i].setting);
		if (name && *name)
			connector_part(transform->connector, pnstrdup(name, strcspn(name, "!?")), parts[i].part, parts[i].type);
	}
	name = get(transform, "static.field");
	if (name && *name)
	{
		ConnectorColumn *column = connector_column(transform->connector, pnstrdup(name, strcspn(name, "!?")));

		column->constant = pstrdup(get(transform, "static.value") ? get(transform, "static.value") : "");
		column->field = NULL;
		note(transform, true, "the static value is the column's default");
	}
}

static const char *
epoch_unit(const char *precision)
{
	static const char *const units[][2] = {
		{"seconds", "s"}, {"milliseconds", "ms"}, {"microseconds", "us"}, {"nanoseconds", "ns"}
	};

	for (int i = 0; precision && i < lengthof(units); i++)
		if (pg_strcasecmp(precision, units[i][0]) == 0)
			return units[i][1];
	return "ms";
}

/* A format means that the record holds text, none that it holds a number since 1970. */
static void
timestamp_converter(const Transform *transform)
{
	const char *field = get(transform, "field");
	const char *target = get(transform, "target.type");
	const char *format = get(transform, "format");
	const char *precision = get(transform, "unix.precision");
	ConnectorColumn *column;

	if (field == NULL || *field == '\0' || target == NULL)
	{
		note(transform, false, "it converts a whole value, which cannot be one column");
		return;
	}
	column = connector_column(transform->connector, field);
	if (pg_strcasecmp(target, "Timestamp") == 0)
		column->type = "timestamptz";
	else if (pg_strcasecmp(target, "Date") == 0)
		column->type = "date";
	else
	{
		note(transform, false, "the column holds what the record holds; declare it as timestamptz and format it in queries");
		return;
	}
	if (format == NULL || *format == '\0')
		column->epoch = epoch_unit(precision);
	else if (strncmp(format, "yyyy-MM-dd", 10) == 0)
		note(transform, true, "a time is read by the column's type, in UTC where it has no zone");
	else
		note(transform, false, "a time has to be written as ISO 8601 for the column to take it");
}

static void
cast(const Transform *transform)
{
	static const char *const types[][2] = {
		{"int8", "smallint"}, {"int16", "smallint"}, {"int32", "int"}, {"int64", "bigint"}, {"float32", "real"},
		{"float64", "double precision"}, {"boolean", "boolean"}, {"string", "text"}
	};
	ListCell   *cell;
	char	   *name;
	char	   *type;

	foreach(cell, connector_get_list(transform->connector, setting_name(transform, "spec")))
	{
		if (!cut(lfirst(cell), &name, &type))
		{
			note(transform, false, "it casts a whole value, which cannot be one column");
			return;
		}
		for (int i = 0; i < lengthof(types); i++)
			if (strcmp(type, types[i][0]) == 0)
				connector_column(transform->connector, name)->type = types[i][1];
	}
	note(transform, true, "the column's type casts");
}

/* ---------------------------------------------------------------- the key, and the topic's name */

static void
value_to_key(const Transform *transform)
{
	transform->connector->key_fields = connector_get_list(transform->connector, setting_name(transform, "fields"));
}

static void
extract_key(const Transform *transform)
{
	const char *field = get(transform, "field");
	ListCell   *cell;

	foreach(cell, transform->connector->key_fields)
	{
		if (field && strcmp(lfirst(cell), field) == 0)
		{
			transform->connector->key_fields = list_make1(lfirst(cell));
			return;
		}
	}
	note(transform, false, "fields within the record's key cannot be reached; the whole key can, by \"@key\"");
}

static void
regex_router(const Transform *transform)
{
	transform->connector->route_regex = (char *) get(transform, "regex");
	transform->connector->route_replacement = (char *) get(transform, "replacement");
}

/* ---------------------------------------------------------------- all of them */

static const struct
{
	const char *class;
	void		(*carry_out) (const Transform *transform);
	const char *says;			/* where it cannot be */
}			transforms[] = {
	{"ReplaceField$Value", replace_field},
	{"InsertField$Value", insert_field},
	{"TimestampConverter$Value", timestamp_converter},
	{"Cast$Value", cast},
	{"ValueToKey", value_to_key},
	{"ExtractField$Key", extract_key},
	{"RegexRouter", regex_router},
	{"Flatten$Value", NULL, "name what lies deeper in columns: {\"geo_city\": \"geo.city\"}"},
	{"ExtractField$Value", NULL, "name each field in columns: {\"page\": \"after.page\"}"},
	{"HoistField$Value", NULL, "a column takes the whole record by \"@value\""},
	{"TimestampRouter", NULL, "a table is parted by partition_interval, under one name"},
	{"Filter", NULL, "a trigger BEFORE INSERT that returns NULL leaves a row out; a sink has its condition in \"where\""},
	{"MaskField$Value", NULL, "leave the column out, or let a trigger BEFORE INSERT mask it"},
	{"DropHeaders", NULL, "no header is kept but in a column from \"@headers\""},
};

static void
carry_out(Transform *transform)
{
	const char *full = connector_get(transform->connector, transform->type_setting);
	const char *dot = full ? strrchr(full, '.') : NULL;

	transform->class = dot ? dot + 1 : full ? full : "";
	if (get(transform, "predicate"))
	{
		note(transform, false, "a transform with a predicate is not carried out");
		return;
	}
	for (int i = 0; i < lengthof(transforms); i++)
	{
		if (strcmp(transform->class, transforms[i].class) != 0)
			continue;
		if (transforms[i].carry_out)
			transforms[i].carry_out(transform);
		else
			note(transform, false, transforms[i].says);
		return;
	}
	note(transform, false, "this transform is not known here; a trigger BEFORE INSERT can do what it does");
}

void
connector_transforms(Connector *connector)
{
	ListCell   *cell;

	foreach(cell, connector_get_list(connector, "transforms"))
	{
		Transform	transform = {.connector = connector, .alias = lfirst(cell)};

		transform.type_setting = psprintf("transforms.%s.type", transform.alias);
		carry_out(&transform);
	}
}
