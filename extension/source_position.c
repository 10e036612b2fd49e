/*
 * source_position.c
 *		Where a source shall read from, as it is written: earliest, latest, a time, or offsets as JSON.
 *
 * Owns the forms and their one canonical text, which is what clickstream.sources keeps.  Knows
 * nothing of Kafka.  Called by create_source and seek_source.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/json.h"
#include "utils/timestamp.h"

#include "source_api.h"

/* 1970: no record has an earlier time */
#define BEFORE_KAFKA ((int64) (UNIX_EPOCH_JDATE - POSTGRES_EPOCH_JDATE) * USECS_PER_DAY)

#define FORMS_HINT \
	"Give 'earliest', 'latest', a time such as '2025-06-04T12:00:00Z', or an offset for each " \
	"partition such as '{\"0\": 42}', with several topics '{\"clicks\": {\"0\": 42}}'."

static void
refuse(const char *argument, const char *text, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s cannot be \"%s\"", argument, text),
			 detail ? errdetail_internal("%s", detail) : 0,
			 errhint(FORMS_HINT)));
}

/* Calls an input function and tells its error as one of ours; an error it always is. */
static Datum
read_as(PGFunction input, const char *text, const char *argument)
{
	MemoryContext context = CurrentMemoryContext;
	Datum		value = (Datum) 0;

	PG_TRY();
	{
		value = DirectFunctionCall3(input, CStringGetDatum(text), ObjectIdGetDatum(InvalidOid),
									Int32GetDatum(-1));
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		if (ERRCODE_TO_CATEGORY(error->sqlerrcode) != ERRCODE_DATA_EXCEPTION)
			PG_RE_THROW();
		FlushErrorState();
		refuse(argument, text, error->detail ? error->detail : error->message);
	}
	PG_END_TRY();
	return value;
}

/* digits only, so that neither 1.5 nor 1e3 is rounded to something nobody meant */
static bool
whole_number(const char *text, int64 most, int64 *number)
{
	char	   *end;

	if (*text == '\0' || strspn(text, "0123456789") != strlen(text))
		return false;
	errno = 0;
	*number = strtoll(text, &end, 10);
	return errno == 0 && *number <= most;
}

static PartitionOffset *
read_offset(const char *topic, const JsonbValue *key, const JsonbValue *value)
{
	PartitionOffset *offset = palloc(sizeof(PartitionOffset));
	int64		partition;
	char	   *number;

	if (value->type != jbvNumeric ||
		!whole_number(pnstrdup(key->val.string.val, key->val.string.len), PG_INT32_MAX, &partition))
		return NULL;
	number = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric)));
	offset->topic = topic ? pstrdup(topic) : NULL;
	offset->partition = (int32) partition;
	return whole_number(number, PG_INT64_MAX, &offset->offset) ? offset : NULL;
}

/* the pairs of one object: partition and offset, or, on the outside, topic and such an object */
static List *
read_object(JsonbContainer *object, const char *topic, const char *text, const char *argument)
{
	JsonbIterator *iterator = JsonbIteratorInit(object);
	JsonbIteratorToken token;
	JsonbValue	key,
				value;
	List	   *offsets = NIL;

	while ((token = JsonbIteratorNext(&iterator, &key, true)) != WJB_DONE)
	{
		PartitionOffset *offset;

		if (token != WJB_KEY)
			continue;
		(void) JsonbIteratorNext(&iterator, &value, true);
		if (topic == NULL && value.type == jbvBinary && JsonContainerIsObject(value.val.binary.data))
		{
			offsets = list_concat(offsets, read_object(value.val.binary.data, pnstrdup(key.val.string.val, key.val.string.len),
													   text, argument));
			continue;
		}
		offset = read_offset(topic, &key, &value);
		if (offset == NULL)
			refuse(argument, text, "Partitions and offsets are whole numbers from 0 on.");
		offsets = lappend(offsets, offset);
	}
	return offsets;
}

static List *
read_offsets(const char *text, const char *argument)
{
	Jsonb	   *json = DatumGetJsonbP(read_as(jsonb_in, text, argument));
	List	   *offsets = JB_ROOT_IS_OBJECT(json) ? read_object(&json->root, NULL, text, argument) : NIL;
	ListCell   *cell;

	if (offsets == NIL)
		refuse(argument, text, "There has to be an offset for one partition at least.");
	foreach(cell, offsets)
		if ((((PartitionOffset *) lfirst(cell))->topic == NULL) != (((PartitionOffset *) linitial(offsets))->topic == NULL))
			refuse(argument, text, "It names a topic for some partitions, and none for others.");
	return offsets;
}

static TimestampTz
read_time(const char *text, const char *argument)
{
	TimestampTz time;

	if (*text != '\0' && strspn(text, "0123456789.+- ") == strlen(text) &&
		strchr(text + (*text == '-'), '-') == NULL)
		refuse(argument, text,
			   "A number could be seconds or milliseconds, or an offset of which partition.");
	time = DatumGetTimestampTz(read_as(timestamptz_in, text, argument));
	if (TIMESTAMP_NOT_FINITE(time))
		refuse(argument, text, NULL);
	return time;
}

SourcePosition *
source_position_parse(const char *text, const char *argument)
{
	SourcePosition *position = palloc0(sizeof(SourcePosition));

	while (isspace((unsigned char) *text))
		text++;
	if (pg_strcasecmp(text, "earliest") == 0)
		position->kind = POSITION_EARLIEST;
	else if (pg_strcasecmp(text, "latest") == 0)
		position->kind = POSITION_LATEST;
	else if (*text == '{' || *text == '[')
	{
		position->kind = POSITION_OFFSETS;
		position->offsets = read_offsets(text, argument);
	}
	else
	{
		position->kind = POSITION_TIME;
		position->time = read_time(text, argument);
		if (position->time < BEFORE_KAFKA)
			position->kind = POSITION_EARLIEST;
	}
	return position;
}

/* a time as ISO 8601 in UTC, whatever the session's settings: a worker reads it again */
static char *
time_text(TimestampTz time)
{
	char	   *text = palloc(MAXDATELEN + 2);
	struct pg_tm tm;
	fsec_t		fraction;

	if (timestamp2tm(time, NULL, &tm, &fraction, NULL, NULL) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp out of range"),
				 errhint(FORMS_HINT)));
	EncodeDateTime(&tm, fraction, false, 0, NULL, USE_XSD_DATES, text);
	return strcat(text, "Z");
}

char *
source_position_text(const SourcePosition *position)
{
	StringInfoData text;
	ListCell   *cell;
	const char *topic = NULL;

	switch (position->kind)
	{
		case POSITION_EARLIEST:
			return pstrdup("earliest");
		case POSITION_LATEST:
			return pstrdup("latest");
		case POSITION_TIME:
			return time_text(position->time);
		case POSITION_OFFSETS:
			break;
	}
	initStringInfo(&text);
	foreach(cell, position->offsets)
	{
		PartitionOffset *offset = lfirst(cell);
		bool		of_before = topic != NULL && strcmp(topic, offset->topic) == 0;

		if (topic != NULL && !of_before)
			appendStringInfoChar(&text, '}');
		appendStringInfoString(&text, text.len == 0 ? "{" : ", ");
		if (offset->topic != NULL && !of_before)
		{
			escape_json(&text, offset->topic);
			appendStringInfoString(&text, ": {");
		}
		topic = offset->topic;
		appendStringInfo(&text, "\"%d\": " INT64_FORMAT, offset->partition, offset->offset);
	}
	appendStringInfoString(&text, topic != NULL ? "}}" : "}");
	return text.data;
}
