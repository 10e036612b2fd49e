/*
 * sink_check.c
 *		Whether the options of a sink make sense: each wrong one is refused with what to give instead.
 *
 * Owns what can be said without a look at the table: settings of the server, names, bounds.  Asks
 * nothing of Elasticsearch and changes nothing.  Called by create_sink and alter_sink.
 */
#include "postgres.h"

#include <locale.h>
#include <wctype.h>

#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "replication/slot.h"
#include "storage/lwlock.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "duration.h"
#include "index_pattern.h"
#include "sink_api.h"

#define NAME_HINT "Give it a name of 1 to 63 bytes, such as 'clicks_search'."
#define LONGEST_INDEX 240		/* room for -000001-copy within Elasticsearch's 255 bytes */
#define LEAST_BULK 1024
#define MOST_BULK (100 * 1024 * 1024)
#define LONGEST_BULK_WAIT_US (60 * USECS_PER_SEC)

void
sink_check_name(const char *name)
{
	if (*name == '\0' || strlen(name) >= NAMEDATALEN)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 *name ? errmsg("the name of a sink cannot be longer than %d bytes", NAMEDATALEN - 1) :
				 errmsg("the name of a sink cannot be empty"),
				 errhint(NAME_HINT)));
	if (catalog_sink_by_name(name) != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("sink \"%s\" already exists", name),
				 errhint("Choose another name, or change the one that is there with clickstream.alter_sink.")));
}

/* ---------------------------------------------------------------- the server's settings */

static int
slots_in_use(void)
{
	int			n = 0;
	int			i;

	LWLockAcquire(ReplicationSlotControlLock, LW_SHARED);
	for (i = 0; i < max_replication_slots; i++)
		if (ReplicationSlotCtl->replication_slots[i].in_use)
			n++;
	LWLockRelease(ReplicationSlotControlLock);
	return n;
}

/* Elasticsearch speaks UTF-8 */
static void
check_encoding(void)
{
	if (GetDatabaseEncoding() != PG_UTF8)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("a sink needs a database in UTF8, and this one is in %s", GetDatabaseEncodingName()),
				 errhint("Make a database with ENCODING 'UTF8'.")));
}

void
sink_check_server_settings(void)
{
	check_encoding();
	if (wal_level < WAL_LEVEL_LOGICAL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("a sink needs wal_level = logical"),
				 errdetail("A sink follows the write-ahead log, and wal_level is \"%s\".",
						   GetConfigOption("wal_level", false, false)),
				 errhint("Set wal_level = logical in postgresql.conf and restart the server.")));
	if (slots_in_use() >= max_replication_slots)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("a sink needs a replication slot, and all are in use"),
				 errdetail("max_replication_slots is %d.", max_replication_slots),
				 errhint("Drop a slot that nobody needs (pg_replication_slots), or raise max_replication_slots "
						 "in postgresql.conf and restart the server.")));
}

/* ---------------------------------------------------------------- the index */

static void
refuse_index(const char *index, const char *why)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_NAME),
			 errmsg("\"%s\" cannot be the name of an index", index),
			 errdetail("%s", why),
			 errhint("Take lower case letters, digits, hyphens and underscores, such as 'page-views'.")));
}

/* a capital of any alphabet; where the locale cannot tell, Elasticsearch does, in the sink's state */
static bool
has_capital(const char *text)
{
	static locale_t locale = (locale_t) 0;
	const unsigned char *c;

	if (locale == (locale_t) 0)
		locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t) 0);
	for (c = (const unsigned char *) text; *c; c += pg_utf_mblen(c))
		if (*c < 0x80 ? (*c >= 'A' && *c <= 'Z') :
			(locale != (locale_t) 0 && iswupper_l(utf8_to_unicode(c), locale)))
			return true;
	return false;
}

/* a pattern's name is checked without its date */
static char *
name_to_check(const char *index)
{
	IndexPattern *pattern = index_pattern(index);

	return pattern ? psprintf("%s%s", pattern->prefix, pattern->suffix) : pstrdup(index);
}

/* Elasticsearch's rules, so that a name is refused here and not by a state later */
char *
sink_check_index(const char *option)
{
	char	   *index = name_to_check(option);
	const char *c;

	if (*index == '\0')
		refuse_index(index, "It is empty.");
	if (strlen(index) > LONGEST_INDEX)
		refuse_index(index, psprintf("It is longer than %d bytes.", LONGEST_INDEX));
	if (strchr("-_+.", index[0]))
		refuse_index(index, "It begins with one of - _ + and the dot.");
	if (has_capital(index))
		refuse_index(index, "It has an upper case letter.");
	for (c = index; *c; c++)
	{
		if (strchr("\\/*?\"<>| ,#:", *c) || (unsigned char) *c < 0x20)
			refuse_index(index, "It has one of \\ / * ? \" < > | , # : or a blank.");
		if (*c == '{' || *c == '}')
			refuse_index(index, "It has a brace that does not belong to a date pattern.");
	}
	return index_alias(option);
}

/* ---------------------------------------------------------------- what goes with a request and an index */

static bool
is_object(JsonbValue *value)
{
	return value == NULL || (value->type == jbvBinary && JsonContainerIsObject(value->val.binary.data));
}

/* what is in them is Elasticsearch's to judge, in the sink's state */
void
sink_check_mapping(Jsonb *mapping)
{
	JsonbValue	key = {.type = jbvString, .val.string = {.val = "properties", .len = 10}};

	if (JB_ROOT_IS_OBJECT(mapping) &&
		is_object(findJsonbValueFromContainer(&mapping->root, JB_FOBJECT, &key)))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("mapping is not the mapping of an index"),
			 errhint("Give it as Elasticsearch takes it: '{\"dynamic\": true, \"properties\": {\"page\": {\"type\": \"text\"}}}'.")));
}

/* ---------------------------------------------------------------- bounds */

void
sink_check_bulk(const Sink *sink)
{
	if (sink->bulk_bytes < LEAST_BULK || sink->bulk_bytes > MOST_BULK)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("bulk_bytes must be between %d and %d", LEAST_BULK, MOST_BULK),
				 errhint("Elasticsearch takes requests of up to 100 MB; 8388608 is a good size.")));
	if (duration_us(sink->bulk_wait) < 0 || duration_us(sink->bulk_wait) > LONGEST_BULK_WAIT_US)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("bulk_wait must be between 0 and 1 minute"),
				 errhint("It is how long a change may wait for others to share its request: '100 ms' is usual.")));
}

void
sink_check_on_drop(const char *on_drop)
{
	if (strcmp(on_drop, "keep") != 0 && strcmp(on_drop, "delete") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("on_drop must be keep or delete, not \"%s\"", on_drop),
				 errhint("'delete' lets the documents of a partition go with it when it is dropped or detached, 'keep' leaves them.")));
}

int64
sink_check_wal_lag(Datum size)
{
	int64		bytes = DatumGetInt64(DirectFunctionCall1(pg_size_bytes, size));

	if (bytes != 0 && bytes < wal_segment_size)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_wal_lag cannot be less than a segment of the write-ahead log, %d MB",
						wal_segment_size / (1024 * 1024)),
				 errhint("It is how much of the log may be kept while Elasticsearch is away: '10 GB', or '0' for no bound.")));
	return bytes;
}
