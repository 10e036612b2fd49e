/*
 * sink_dates.c
 *		The indexes of a date pattern: clicks-2025.06.04 is an alias over clicks-2025.06.04-000001.
 *
 * The number at the end is that of the index that bears the sink's mark and no documents
 * (clicks-000001): a resync builds all of them anew under the next number.  While it does, the alias
 * of each ends in that number and -copy, and so does an alias over all.  Owns which of them are known
 * to be there; a worker begins with what it finds.  Called by the parts of a sink worker.
 */
#include "postgres.h"

#include <jansson.h>

#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "sink_dates.h"
#include "sink_index.h"

#define LONGEST_NAME 256
#define NUMBER_LENGTH 7			/* -000001 */

struct SinkDates
{
	Elasticsearch *client;
	const Sink *sink;
	const char *physical;
	bool		is_copy;
	HTAB	   *known;			/* names, as addresses have them */
	char		last[LONGEST_NAME];	/* the one that was asked for last */
	int			last_length;
};

SinkDates *
sink_dates_open(Elasticsearch *client, const Sink *sink, const char *physical, bool is_copy)
{
	SinkDates  *dates = palloc0(sizeof(SinkDates));
	HASHCTL		control = {.keysize = LONGEST_NAME, .entrysize = LONGEST_NAME, .hcxt = CurrentMemoryContext};

	dates->client = client;
	dates->sink = sink;
	dates->physical = pstrdup(physical);
	dates->is_copy = is_copy;
	dates->known = hash_create("clickstream indexes", 64, &control, HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	return dates;
}

char *
sink_dates_suffix(const char *physical, bool is_copy)
{
	return is_copy ? psprintf("%s-copy", physical + strlen(physical) - NUMBER_LENGTH) : pstrdup("");
}

char *
sink_dates_name(const char *physical)
{
	size_t		length = strlen(physical);

	return pnstrdup(physical, length > NUMBER_LENGTH ? length - NUMBER_LENGTH : length);
}

bool
sink_dates_has(SinkDates *dates, const char *name, int length)
{
	char		key[LONGEST_NAME];

	if (length == dates->last_length && memcmp(dates->last, name, length) == 0)
		return true;
	if (length >= LONGEST_NAME)
		return false;
	memcpy(key, name, length);
	key[length] = '\0';
	if (hash_search(dates->known, key, HASH_FIND, NULL) == NULL)
		return false;
	memcpy(dates->last, name, length);
	dates->last_length = length;
	return true;
}

static void
know(SinkDates *dates, const char *name)
{
	char		key[LONGEST_NAME];

	strlcpy(key, name, LONGEST_NAME);
	(void) hash_search(dates->known, key, HASH_ENTER, NULL);
}

/* ---------------------------------------------------------------- made, and found */

static List *
aliases_of(const SinkDates *dates, const char *name)
{
	return list_make2(pstrdup(name), dates->is_copy ? sink_index_copy_alias(dates->physical) :
					  dates->sink->alias);
}

/* another process has made it meanwhile */
static bool
is_there(SinkDates *dates, const char *name)
{
	json_t	   *root;
	json_t	   *index;
	const char *physical;
	bool		there = false;

	if (sink_index_behind(dates->client, name, &root) != NULL)
		return false;
	json_object_foreach(root, physical, index)
		there |= sink_index_is_ours(dates->sink, index) && strcmp(physical, name) != 0;
	json_decref(root);
	return there;
}

char *
sink_dates_make(SinkDates *dates, const DocumentPlan *plan, const char *name)
{
	const char *number = dates->physical + strlen(dates->physical) - NUMBER_LENGTH;
	char	   *physical = dates->is_copy ? pnstrdup(name, strlen(name) - strlen("-copy")) :
		psprintf("%s%s", name, number);
	char	   *why = sink_index_put(dates->client, dates->sink, plan, physical, aliases_of(dates, name));

	if (why && !is_there(dates, name))
		return why;
	know(dates, name);
	return NULL;
}

char *
sink_dates_make_for(SinkDates *dates, const DocumentPlan *plan, const char *address, int length)
{
	char	   *name = dates ? document_address_part(address, length, "_index") : NULL;

	if (name == NULL || sink_dates_has(dates, name, strlen(name)))
		return NULL;
	return sink_dates_make(dates, plan, name);
}

static char *
lost_one(SinkDates *dates, json_t *indexes)
{
	HASH_SEQ_STATUS scan;
	char	   *name;
	char	   *lost = NULL;

	hash_seq_init(&scan, dates->known);
	while ((name = hash_seq_search(&scan)) != NULL)
	{
		const char *number = dates->physical + strlen(dates->physical) - NUMBER_LENGTH;

		if (json_object_get(indexes, psprintf("%s%s", name, number)) == NULL)
			lost = pstrdup(name);
	}
	return lost;
}

char *
sink_dates_look(SinkDates *dates, char **lost)
{
	json_t	   *indexes;
	json_t	   *index;
	const char *physical;
	char	   *why = sink_index_behind(dates->client, dates->sink->alias, &indexes);

	*lost = NULL;
	if (why)
		return why;
	*lost = lost_one(dates, indexes);
	json_object_foreach(indexes, physical, index)
		if (strcmp(physical, dates->physical) != 0)
			know(dates, sink_dates_name(physical));
	json_decref(indexes);
	return NULL;
}
