/*
 * connection_value.c
 *		Whether a value will do for an option of a server or a user mapping.
 *
 * Owns the kinds of values and what is said of one that will not do: how to write it, and never the
 * value itself where it could hold a secret.  Called by connection.c.
 */
#include "postgres.h"

#include "utils/guc.h"

#include "connection_table.h"

/* the value is shown unless it could hold a secret */
static void
refuse_value(const Option *option, const char *value, const char *hint)
{
	bool		shown = option->restriction != SECRET && option->kind != VALUE_URLS &&
		option->kind != VALUE_PEM && option->kind != VALUE_USER;

	ereport(ERROR,
			(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE), errhidestmt(true),
			 shown ? errmsg("invalid value for option \"%s\": \"%s\"", option->name, value) :
			 errmsg("invalid value for option \"%s\"", option->name),
			 errhint("%s", hint)));
}

bool
connection_is_one_of(const char *value, const char *choices)
{
	size_t		length = strlen(value);
	const char *at = choices;

	while (length > 0 && (at = strstr(at, value)) != NULL)
	{
		if ((at == choices || at[-1] == ' ') && (at[length] == ' ' || at[length] == '\0'))
			return strchr(value, ' ') == NULL;
		at += length;
	}
	return false;
}

static void
check_integer(const Option *option, const char *value)
{
	char	   *end;
	int64		number;

	errno = 0;
	number = strtoll(value, &end, 10);
	if (end == value || *end != '\0' || errno != 0 || isspace((unsigned char) value[0]) ||
		number < option->min || number > option->max)
		refuse_value(option, value,
					 psprintf("Give a whole number from " INT64_FORMAT " to " INT64_FORMAT ".",
							  option->min, option->max));
}

static bool
is_port(const char *text, size_t length)
{
	int			port = 0;
	size_t		i;

	if (length == 0 || length > 5)
		return false;
	for (i = 0; i < length; i++)
	{
		if (text[i] < '0' || text[i] > '9')
			return false;
		port = port * 10 + (text[i] - '0');
	}
	return port >= 1 && port <= 65535;
}

/* host, host:port, [v6], [v6]:port; no user, no path */
static bool
is_host_and_port(const char *text, size_t length)
{
	const char *end = text + length;
	const char *at = text;
	const char *host_end;

	if (length > 0 && text[0] == '[')
	{
		host_end = memchr(text, ']', length);
		if (host_end == NULL || host_end == text + 1)
			return false;
		for (at = text + 1; at < host_end; at++)
			if (strchr("0123456789abcdefABCDEF:.%", *at) == NULL)
				return false;
		at = host_end + 1;
	}
	else
	{
		for (; at < end && *at != ':'; at++)
			if (!isalnum((unsigned char) *at) && strchr(".-_", *at) == NULL &&
				!IS_HIGHBIT_SET(*at))
				return false;
		if (at == text)
			return false;
	}
	return at == end || (*at == ':' && is_port(at + 1, end - at - 1));
}

/* calls the check for each part between commas, blanks around it taken off; false if any fails */
static bool
all_parts(const char *value, bool (*check) (const char *, size_t))
{
	const char *at = value;

	for (;;)
	{
		size_t		length = strcspn(at, ",");
		const char *from = at;
		size_t		part = length;

		while (part > 0 && isspace((unsigned char) *from))
			from++, part--;
		while (part > 0 && isspace((unsigned char) from[part - 1]))
			part--;
		if (!check(from, part))
			return false;
		if (at[length] == '\0')
			return true;
		at += length + 1;
	}
}

/* a broker may carry its protocol: SSL://host:9093 */
static bool
is_broker(const char *text, size_t length)
{
	static const char *const protocols[] = {
		"PLAINTEXT://", "SSL://", "SASL_PLAINTEXT://", "SASL_SSL://"
	};
	int			i;

	for (i = 0; i < lengthof(protocols); i++)
	{
		size_t		prefix = strlen(protocols[i]);

		if (length > prefix && pg_strncasecmp(text, protocols[i], prefix) == 0)
			return is_host_and_port(text + prefix, length - prefix);
	}
	return is_host_and_port(text, length);
}

/* http or https, a host, perhaps a port and a path; no user, no query, no fragment */
static bool
is_url(const char *text, size_t length)
{
	size_t		prefix;
	size_t		host;
	size_t		i;

	if (length > 7 && pg_strncasecmp(text, "http://", 7) == 0)
		prefix = 7;
	else if (length > 8 && pg_strncasecmp(text, "https://", 8) == 0)
		prefix = 8;
	else
		return false;
	for (i = prefix; i < length; i++)
		if (strchr("?#@\\\"'<>", text[i]) != NULL || isspace((unsigned char) text[i]) ||
			iscntrl((unsigned char) text[i]))
			return false;
	for (host = 0; prefix + host < length && text[prefix + host] != '/'; host++)
		;
	return is_host_and_port(text + prefix, host);
}

static void
check_urls(const Option *option, const char *value)
{
	if (strchr(value, '@') != NULL)
		refuse_value(option, value,
					 "A url holds no user and no password: give username and password in CREATE "
					 "USER MAPPING.");
	if (!all_parts(value, is_url))
		refuse_value(option, value, "Give http://host:port or https://host:port, with a path prefix "
					 "if need be.");
}

int
connection_duration_ms(const char *value)
{
	int			ms;

	if (!parse_int(value, &ms, GUC_UNIT_MS, NULL))
		elog(ERROR, "invalid duration \"%s\"", value);
	return ms;
}

static void
check_duration(const Option *option, const char *value)
{
	int			ms;

	if (!parse_int(value, &ms, GUC_UNIT_MS, NULL) || ms < option->min || ms > option->max)
		refuse_value(option, value, "Give a time such as '30s', '500ms' or '2min'.");
}

/* "-----BEGIN <anything> <block>-----", and the same with END after it */
static bool
has_pem_block(const char *value, const char *block)
{
	char	   *tail = psprintf("%s-----", block);
	const char *begin = strstr(value, "-----BEGIN ");
	const char *title = begin ? strstr(begin, tail) : NULL;
	const char *end = title ? strstr(title, "-----END ") : NULL;

	return end && strcspn(begin, "\n") > (size_t) (title - begin) && strstr(end, tail) != NULL;
}

static void
check_pem(const Option *option, const char *value)
{
	if (!has_pem_block(value, option->choices))
		refuse_value(option, value,
					 psprintf("Give the text of a PEM file, with its lines -----BEGIN %s----- and "
							  "-----END %s-----; superusers may give the name of a file as %.*s_file.",
							  option->choices, option->choices,
							  (int) strcspn(option->name, "_"), option->name));
}

static void
check_token(const Option *option, const char *value)
{
	const char *at;

	for (at = value; *at; at++)
		if (*at <= ' ' || *at > '~')
			refuse_value(option, value,
						 "Give the key as Elasticsearch shows it: \"encoded\", or id:api_key.");
}

void
connection_check_value(const Option *option, const char *value)
{
	if (value[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE), errhidestmt(true),
				 errmsg("option \"%s\" must not be empty", option->name),
				 errhint("Give it a value or leave it out.")));
	switch (option->kind)
	{
		case VALUE_TEXT:
			break;
		case VALUE_BOOLEAN:
			if (!connection_is_one_of(value, "true false"))
				refuse_value(option, value, "Give true or false.");
			break;
		case VALUE_INTEGER:
			check_integer(option, value);
			break;
		case VALUE_CHOICE:
			if (!connection_is_one_of(value, option->choices))
				refuse_value(option, value, psprintf("Give one of: %s.", option->choices));
			break;
		case VALUE_HOSTS:
			if (!all_parts(value, is_broker))
				refuse_value(option, value, "Give host:port, or several with commas between.");
			break;
		case VALUE_URLS:
			check_urls(option, value);
			break;
		case VALUE_DURATION:
			check_duration(option, value);
			break;
		case VALUE_PEM:
			check_pem(option, value);
			break;
		case VALUE_USER:
			if (strchr(value, ':') != NULL)
				refuse_value(option, value, "A user's name holds no colon; the password is an option of "
							 "its own.");
			break;
		case VALUE_TOKEN:
			check_token(option, value);
			break;
	}
}
