/*
 * index_pattern.c
 *		Names of indexes with a date in them: clicks-{occurred_at:YYYY.MM.DD}.
 *
 * Owns what may stand between the braces, and the name that a date comes to.  Knows nothing of
 * tables or of Elasticsearch.  Called by sink_check.c and sink_table.c for a user's option, and by the
 * sink's worker for each row.
 */
#include "postgres.h"

#include <ctype.h>

#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "index_pattern.h"

#define WITHOUT_DATE "none"

typedef struct Moment
{
	int			year;
	int			month;
	int			day;
	int			hour;
} Moment;

typedef enum Part
{
	PART_YEAR,
	PART_MONTH,
	PART_DAY,
	PART_HOUR,
	PART_ISO_YEAR,
	PART_ISO_WEEK
} Part;

typedef struct Token
{
	const char *text;
	Part		part;
} Token;

/* a longer one before what it begins with */
static const Token tokens[] = {
	{"YYYY", PART_YEAR},
	{"yyyy", PART_YEAR},
	{"MM", PART_MONTH},
	{"DD", PART_DAY},
	{"dd", PART_DAY},
	{"HH24", PART_HOUR},
	{"HH", PART_HOUR},
	{"IYYY", PART_ISO_YEAR},
	{"IW", PART_ISO_WEEK},
};

/* ---------------------------------------------------------------- the option */

static void
refuse(const char *index, const char *why)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_NAME),
			 errmsg("\"%s\" is not a pattern for names of indexes", index),
			 errdetail("%s", why),
			 errhint("Give one such as 'clicks-{occurred_at:YYYY.MM.DD}': a name, a column and a form of YYYY, MM, DD, HH24, IYYY and IW.")));
}

static const Token *
token_at(const char *format)
{
	int			i;

	for (i = 0; i < lengthof(tokens); i++)
		if (strncmp(format, tokens[i].text, strlen(tokens[i].text)) == 0)
			return &tokens[i];
	return NULL;
}

static void
check_format(const char *index, const char *format)
{
	int			n = 0;

	while (*format)
	{
		const Token *token = token_at(format);

		if (token)
			n++;
		else if (!isdigit((unsigned char) *format) && !strchr("-._", *format))
			refuse(index, psprintf("\"%s\" does not begin with a part of a date.", format));
		format += token ? strlen(token->text) : 1;
	}
	if (n == 0)
		refuse(index, "No part of a date is in it.");
}

/* the name before the brace, without what joins it to the date */
static char *
trimmed(const char *prefix)
{
	size_t		length = strlen(prefix);

	while (length > 0 && strchr("-._", prefix[length - 1]))
		length--;
	return pnstrdup(prefix, length);
}

IndexPattern *
index_pattern(const char *index)
{
	const char *open = strchr(index, '{');
	const char *colon;
	const char *close;
	IndexPattern *pattern;

	if (open == NULL)
		return NULL;
	colon = strchr(open, ':');
	close = strchr(open, '}');
	if (close == NULL || colon == NULL || colon > close || colon == open + 1)
		refuse(index, "It has no {column:form}.");
	pattern = palloc0(sizeof(IndexPattern));
	pattern->prefix = pnstrdup(index, open - index);
	pattern->column = pnstrdup(open + 1, colon - open - 1);
	pattern->format = pnstrdup(colon + 1, close - colon - 1);
	pattern->suffix = pstrdup(close + 1);
	pattern->alias = trimmed(pattern->prefix);
	if (strpbrk(pattern->suffix, "{}"))
		refuse(index, "It has more than one brace.");
	if (*pattern->alias == '\0')
		refuse(index, "No name stands before the brace, under which all of them could be found.");
	check_format(index, pattern->format);
	return pattern;
}

char *
index_alias(const char *index)
{
	return strchr(index, '{') ? index_pattern(index)->alias : pstrdup(index);
}

/* ---------------------------------------------------------------- the name for a date */

/* "2025-06-04", "2025-06-04 12:00:00.5+00" */
static bool
read_moment(const char *text, int length, Moment *moment)
{
	int			digits = 0;

	while (digits < length && isdigit((unsigned char) text[digits]))
		digits++;
	if (digits < 4 || length < digits + 6 || text[digits] != '-' ||
		memcmp(text + length - 3, " BC", 3) == 0)
		return false;
	moment->year = pg_strtoint32(pnstrdup(text, digits));
	moment->month = (text[digits + 1] - '0') * 10 + text[digits + 2] - '0';
	moment->day = (text[digits + 4] - '0') * 10 + text[digits + 5] - '0';
	moment->hour = length < digits + 9 ? 0 : (text[digits + 7] - '0') * 10 + text[digits + 8] - '0';
	return true;
}

static void
append_part(StringInfo out, Part part, const Moment *moment)
{
	switch (part)
	{
		case PART_YEAR:
			appendStringInfo(out, "%04d", moment->year);
			break;
		case PART_MONTH:
			appendStringInfo(out, "%02d", moment->month);
			break;
		case PART_DAY:
			appendStringInfo(out, "%02d", moment->day);
			break;
		case PART_HOUR:
			appendStringInfo(out, "%02d", moment->hour);
			break;
		case PART_ISO_YEAR:
			appendStringInfo(out, "%04d", date2isoyear(moment->year, moment->month, moment->day));
			break;
		case PART_ISO_WEEK:
			appendStringInfo(out, "%02d", date2isoweek(moment->year, moment->month, moment->day));
			break;
	}
}

void
index_pattern_append(const IndexPattern *pattern, StringInfo out, const char *text, int length)
{
	const char *format = pattern->format;
	Moment		moment;

	appendStringInfoString(out, pattern->prefix);
	if (text == NULL || !read_moment(text, length, &moment))
	{
		appendStringInfoString(out, WITHOUT_DATE);
		format = "";
	}
	while (*format)
	{
		const Token *token = token_at(format);

		if (token)
			append_part(out, token->part, &moment);
		else
			appendStringInfoChar(out, *format);
		format += token ? strlen(token->text) : 1;
	}
	appendStringInfoString(out, pattern->suffix);
}
