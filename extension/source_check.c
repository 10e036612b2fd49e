/*
 * source_check.c
 *		Whether the options of a source make sense: each wrong one is refused with what to give instead.
 *
 * Owns the bounds of every option that needs no look at the table or at Kafka.  Changes nothing
 * but the form of an option (partitions in order).  Called by create_source and alter_source.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "source_api.h"

#define NAME_HINT "Give it a name of 1 to 63 bytes, such as 'clicks'."
#define LONGEST_GROUP 255
#define MOST_WORKERS 64
#define MOST_BATCH_ROWS 10000000
#define LONGEST_BATCH_WAIT_US (60 * USECS_PER_SEC)

static void
refuse(const char *hint, const char *format,...) pg_attribute_printf(2, 3);

static void
refuse(const char *hint, const char *format,...)
{
	va_list		arguments;
	char		message[512];

	va_start(arguments, format);
	vsnprintf(message, sizeof(message), format, arguments);
	va_end(arguments);
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg_internal("%s", message),
			 hint ? errhint("%s", hint) : 0));
}

void
source_check_name(const char *name)
{
	if (*name == '\0')
		refuse(NAME_HINT, "the name of a source cannot be empty");
	if (strlen(name) >= NAMEDATALEN)
		refuse(NAME_HINT, "the name of a source cannot be longer than %d bytes", NAMEDATALEN - 1);
	if (catalog_source_by_name(name) != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("source \"%s\" already exists", name),
				 errhint("Choose another name, or change the one that is there with clickstream.alter_source.")));
}

static void
check_encoding(void)
{
	if (GetDatabaseEncoding() != PG_UTF8)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("a source needs a database in UTF8, and this one is in %s", GetDatabaseEncodingName()),
				 errhint("Make a database with ENCODING 'UTF8'.")));
}

static bool
is_positive(const Interval *interval)
{
	Interval	zero = {0};

	return DatumGetBool(DirectFunctionCall2(interval_gt, IntervalPGetDatum(interval), IntervalPGetDatum(&zero)));
}

static void
check_numbers(const Source *source)
{
	const Interval *wait = source->max_batch_wait;

	if (source->workers < 1 || source->workers > MOST_WORKERS)
		refuse("Each worker is a process that reads its share of the topic's partitions: 1 is right for most.",
			   "workers must be from 1 to %d, not %d", MOST_WORKERS, source->workers);
	if (source->max_batch_rows < 1 || source->max_batch_rows > MOST_BATCH_ROWS)
		refuse("It is how many rows a batch may grow to when there is much to read: 100000 is right for most.",
			   "max_batch_rows must be from 1 to %d, not %d", MOST_BATCH_ROWS, source->max_batch_rows);
	if (wait->month != 0 || wait->day != 0 || wait->time < 0 || wait->time > LONGEST_BATCH_WAIT_US)
		refuse("It is how long a batch may stay open while there is nothing to do, such as '50 ms'.",
			   "max_batch_wait must be from 0 to 1 minute");
	if (!is_positive(source->max_future))
		refuse("A record further ahead of now than that is a dead letter, such as '1 day'.",
			   "max_future must be positive");
	if (source->retention != NULL && !is_positive(source->retention))
		refuse("Leave it out to keep rows for ever.", "retention must be positive");
	if (source->partition_interval != NULL && !is_positive(source->partition_interval))
		refuse("Give the width of a partition, such as '1 day'.", "partition_interval must be positive");
}

/* A month, a day and a second are no multiples of each other: where would such a partition begin? */
static void
check_partition_interval(Interval *width)
{
	const char *hint = "Give months, or days, or a time of whole seconds: '1 month', '7 days', '6 hours'.";

	/* 24 hours are a day: partitions are cut in UTC */
	if (width->month == 0 && width->time != 0 && width->time % USECS_PER_DAY == 0)
	{
		width->day += width->time / USECS_PER_DAY;
		width->time = 0;
	}
	if ((width->month != 0) + (width->day != 0) + (width->time != 0) > 1)
		refuse(hint, "partition_interval cannot mix months, days and times");
	if (width->time % USECS_PER_SEC != 0)
		refuse(hint, "partition_interval cannot have fractions of a second");
}

static void
check_retention(const Interval *retention, const Interval *width)
{
	if (retention != NULL && width != NULL &&
		DatumGetBool(DirectFunctionCall2(interval_lt, IntervalPGetDatum(retention), IntervalPGetDatum(width))))
		refuse("Rows are dropped a partition at a time: keep them for one partition_interval at least.",
			   "retention cannot be shorter than partition_interval");
}

void
source_check_partition_interval(Interval *width, const Interval *retention, Oid type)
{
	if (!is_positive(width))
		refuse("Give the width of a partition, such as '1 day'.", "partition_interval must be positive");
	check_partition_interval(width);
	if (type == DATEOID && width->time != 0)
		refuse("Give days or months.", "partition_interval must be whole days where the time key is a date");
	check_retention(retention, width);
}

static void
check_words(const Source *source)
{
	if (strcmp(source->retention_action, "drop") != 0 && strcmp(source->retention_action, "detach") != 0)
		refuse("'drop' drops a partition that is older than retention, 'detach' leaves it as a table of its own.",
			   "retention_action cannot be \"%s\"", source->retention_action);
	if (strcmp(source->on_conflict, "error") != 0 && strcmp(source->on_conflict, "ignore") != 0 &&
		strcmp(source->on_conflict, "update") != 0)
		refuse("A record whose key is there already is a dead letter with 'error', a counted skip with 'ignore', "
			   "and with 'update' it becomes the row of that key.",
			   "on_conflict cannot be \"%s\"", source->on_conflict);
}

static void
check_consumer_group(const char *group)
{
	const char *hint = "Give a name of 1 to 255 bytes, '' for none, or 'clickstream.<database>.<source>', which it is when left out.";

	if (group == NULL)
		return;
	if (strlen(group) > LONGEST_GROUP)
		refuse(hint, "consumer_group cannot be longer than %d bytes", LONGEST_GROUP);
	for (const unsigned char *at = (const unsigned char *) group; *at; at++)
		if (*at < ' ' || *at == 0x7f)
			refuse(hint, "consumer_group cannot hold control characters");
}

static void
check_dead_letter_retention(const Interval *kept)
{
	if (kept != NULL && !is_positive(kept))
		refuse("Give a time such as '30 days', or NULL to keep dead letters for ever.",
			   "dead_letter_retention must be positive");
}

static int
compare_numbers(const void *a, const void *b)
{
	int32		x = *(const int32 *) a,
				y = *(const int32 *) b;

	return (x > y) - (x < y);
}

static void
check_partitions(Source *source)
{
	if (source->partitions == NULL)
		return;
	if (source->n_partitions == 0)
		refuse("Leave it out to read all of them.", "partitions cannot be empty");
	qsort(source->partitions, source->n_partitions, sizeof(int32), compare_numbers);
	for (int i = 0; i < source->n_partitions; i++)
	{
		if (source->partitions[i] < 0)
			refuse("They are counted from 0.", "there is no partition %d", source->partitions[i]);
		if (i > 0 && source->partitions[i] == source->partitions[i - 1])
			refuse("Name each partition once.", "partition %d is named twice", source->partitions[i]);
	}
}

void
source_check(Source *source)
{
	check_encoding();
	source_topics_check(source->topics);
	check_numbers(source);
	if (source->partition_interval != NULL)
		check_partition_interval(source->partition_interval);
	check_retention(source->retention, source->partition_interval);
	check_words(source);
	check_consumer_group(source->consumer_group);
	check_dead_letter_retention(source->dead_letter_retention);
	check_partitions(source);
	source_check_target(source);
}
