/*
 * source_topics.c
 *		Which topics a source reads: names, and patterns that begin with ^.
 *
 * Owns how they are written, what is refused, and whether a topic is meant.  A pattern is a POSIX
 * extended regular expression, as librdkafka and Kafka's other clients in C take it: it holds where
 * it matches the beginning of a name.  Kafka's own topics, "__consumer_offsets" and its like, are
 * only meant by a pattern that begins with ^__.  Called by create_source, alter_source and workers.
 */
#include "postgres.h"

#include <regex.h>

#include "utils/memutils.h"

#include "source_api.h"

#define LONGEST_TOPIC 249
#define NAME_HINT "A topic's name has letters, digits, dot, underscore and hyphen, 1 to 249 of them."
#define PATTERN_HINT "A topic that begins with ^ is a POSIX extended regular expression, such as '^clicks-.*'."

struct TopicMatcher
{
	List	   *topics;
	regex_t    *patterns;		/* one for each of them, compiled where it is one */
	MemoryContextCallback release;
};

/* ---------------------------------------------------------------- as they are written */

bool
source_topic_is_pattern(const char *topic)
{
	return topic[0] == '^';
}

char *
source_topic_trimmed(const char *from, size_t length)
{
	while (length > 0 && isspace((unsigned char) *from))
		from++, length--;
	while (length > 0 && isspace((unsigned char) from[length - 1]))
		length--;
	return pnstrdup(from, length);
}

/* one pattern, which may hold commas, or names with commas between */
List *
source_topics_parse(const char *text)
{
	char	   *whole = source_topic_trimmed(text, strlen(text));
	List	   *topics = NIL;

	if (source_topic_is_pattern(whole))
		return list_make1(whole);
	for (const char *at = whole;; at++)
	{
		size_t		length = strcspn(at, ",");

		topics = lappend(topics, source_topic_trimmed(at, length));
		at += length;
		if (*at == '\0')
			return topics;
	}
}

char *
source_topics_text(List *topics)
{
	StringInfoData text;
	ListCell   *cell;

	initStringInfo(&text);
	foreach(cell, topics)
		appendStringInfo(&text, "%s%s", text.len > 0 ? ", " : "", (char *) lfirst(cell));
	return text.data;
}

/* ---------------------------------------------------------------- what is refused */

static void
check_name(const char *topic)
{
	if (*topic == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the name of a topic cannot be empty"),
				 errhint(NAME_HINT)));
	if (strlen(topic) > LONGEST_TOPIC)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the name of a topic cannot be longer than %d characters", LONGEST_TOPIC),
				 errhint(NAME_HINT)));
	if (strcmp(topic, ".") == 0 || strcmp(topic, "..") == 0 ||
		strspn(topic, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") != strlen(topic))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"%s\" cannot be the name of a topic", topic),
				 errhint(NAME_HINT)));
}

static void
compile(regex_t *pattern, const char *topic)
{
	char		why[128];
	int			failed = regcomp(pattern, topic, REG_EXTENDED | REG_NOSUB);

	if (failed == 0)
		return;
	regerror(failed, pattern, why, sizeof(why));
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_REGULAR_EXPRESSION),
			 errmsg("\"%s\" is no regular expression", topic),
			 errdetail("%s.", why),
			 errhint(PATTERN_HINT)));
}

static void
check_twice(List *topics)
{
	ListCell   *cell;

	foreach(cell, topics)
		for (int i = 0; i < foreach_current_index(cell); i++)
			if (strcmp(lfirst(cell), list_nth(topics, i)) == 0)
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("topic \"%s\" is named twice", (char *) lfirst(cell)),
						 errhint("Name each topic once.")));
}

void
source_topics_check(List *topics)
{
	ListCell   *cell;

	if (topics == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a source has to have a topic"),
				 errhint("Name one or several, or give a regular expression such as '^clicks-.*'.")));
	foreach(cell, topics)
	{
		regex_t		pattern;

		if (!source_topic_is_pattern(lfirst(cell)))
		{
			check_name(lfirst(cell));
			continue;
		}
		compile(&pattern, lfirst(cell));
		regfree(&pattern);
	}
	check_twice(topics);
}

/* ---------------------------------------------------------------- which topics are meant */

static void
release(void *argument)
{
	TopicMatcher *matcher = argument;
	ListCell   *cell;

	foreach(cell, matcher->topics)
		if (source_topic_is_pattern(lfirst(cell)))
			regfree(&matcher->patterns[foreach_current_index(cell)]);
}

/* in the current memory context, whose end frees it; raises where a pattern is none */
TopicMatcher *
source_topics_matcher(List *topics)
{
	TopicMatcher *matcher = palloc0(sizeof(TopicMatcher));
	ListCell   *cell;

	matcher->patterns = palloc0(sizeof(regex_t) * Max(list_length(topics), 1));
	foreach(cell, topics)
	{
		if (source_topic_is_pattern(lfirst(cell)))
			compile(&matcher->patterns[foreach_current_index(cell)], lfirst(cell));
		matcher->topics = lappend(matcher->topics, pstrdup(lfirst(cell)));
	}
	matcher->release.func = release;
	matcher->release.arg = matcher;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &matcher->release);
	return matcher;
}

bool
source_topics_have_pattern(const TopicMatcher *matcher)
{
	ListCell   *cell;

	foreach(cell, matcher->topics)
		if (source_topic_is_pattern(lfirst(cell)))
			return true;
	return false;
}

/* Kafka's own are not meant by ^.* */
static bool
pattern_means(const char *topic, const regex_t *pattern, const char *name)
{
	if (strncmp(name, "__", 2) == 0 && strncmp(topic, "^__", 3) != 0)
		return false;
	return regexec(pattern, name, 0, NULL, 0) == 0;
}

bool
source_topics_mean(const TopicMatcher *matcher, const char *name)
{
	ListCell   *cell;

	foreach(cell, matcher->topics)
	{
		const char *topic = lfirst(cell);

		if (source_topic_is_pattern(topic) ? pattern_means(topic, &matcher->patterns[foreach_current_index(cell)], name) :
			strcmp(topic, name) == 0)
			return true;
	}
	return false;
}
