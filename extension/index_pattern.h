/*
 * index_pattern.h
 *		Names of indexes with a date in them: clicks-{occurred_at:YYYY.MM.DD}.
 */
#ifndef CLICKSTREAM_INDEX_PATTERN_H
#define CLICKSTREAM_INDEX_PATTERN_H

#include "postgres.h"

#include "lib/stringinfo.h"

typedef struct IndexPattern
{
	char	   *prefix;			/* clicks- */
	char	   *column;			/* occurred_at */
	char	   *format;			/* YYYY.MM.DD */
	char	   *suffix;			/* what comes after the brace */
	char	   *alias;			/* clicks: leads to all of them */
} IndexPattern;

/* NULL where the option index is a plain name; raises where the pattern is of no use */
extern PGDLLEXPORT IndexPattern *index_pattern(const char *index);

/* what a search asks for: the option itself, or the pattern's alias */
extern char *index_alias(const char *index);

/*
 * The name for a date, timestamp or timestamptz in its ISO text form (NULL for none).  What has no
 * date of our calendar (NULL, infinity, before Christ) goes to the index called "none".
 */
extern PGDLLEXPORT void index_pattern_append(const IndexPattern *pattern, StringInfo out,
											 const char *text, int length);

#endif							/* CLICKSTREAM_INDEX_PATTERN_H */
