/*
 * source_topic.c
 *		What create_source and seek_source ask of Kafka: the topic's partitions, and where to start in each.
 *
 * Owns how the answer is judged: a topic, partition or offset that is not there is an error at the
 * call.  Changes nothing.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "connection.h"
#include "inquiry.h"
#include "source_api.h"

#define TIMEOUT_MS 5000

static void
push_pair(JsonbParseState **state, const char *key, const char *text, int64 number)
{
	JsonbValue	value;

	value.type = jbvString;
	value.val.string.val = unconstify(char *, key);
	value.val.string.len = strlen(key);
	pushJsonbValue(state, WJB_KEY, &value);
	if (text != NULL)
	{
		value.val.string.val = unconstify(char *, text);
		value.val.string.len = strlen(text);
	}
	else
	{
		value.type = jbvNumeric;
		value.val.numeric = int64_to_numeric(number);
	}
	pushJsonbValue(state, WJB_VALUE, &value);
}

/* the first millisecond since 1970 that is not before the time */
static int64
kafka_time(TimestampTz time)
{
	int64		us = time + (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;

	return (us + 999) / 1000;
}

static Jsonb *
make_request(const Source *source, const SourcePosition *position)
{
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	push_pair(&state, "topic", (char *) linitial(source->topics), 0);
	if (position->kind == POSITION_TIME)
		push_pair(&state, "start", NULL, kafka_time(position->time));
	else
		push_pair(&state, "start", position->kind == POSITION_LATEST ? "latest" : "earliest", 0);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

static int64
field_number(JsonbContainer *object, const char *name)
{
	JsonbValue	value;

	if (getKeyJsonValueFromContainer(object, name, strlen(name), &value) == NULL || value.type != jbvNumeric)
		elog(ERROR, "the answer about the topic has no number \"%s\"", name);
	return DatumGetInt64(DirectFunctionCall1(numeric_int8, NumericGetDatum(value.val.numeric)));
}

static void
refuse_missing_topic(const Source *source, Jsonb *answer)
{
	JsonbValue	brokers;

	if (getKeyJsonValueFromContainer(&answer->root, "brokers", 7, &brokers) == NULL)
		elog(ERROR, "the answer about the topic names no brokers");
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("topic \"%s\" does not exist", (char *) linitial(source->topics)),
			 errdetail("The brokers of server \"%s\" (%.*s) have no topic of that name.", source->server,
					   brokers.val.string.len, brokers.val.string.val),
			 errhint("Make the topic in Kafka first, or name one that is there.")));
}

static List *
read_partitions(const Source *source, const char *text)
{
	Jsonb	   *answer = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text)));
	JsonbValue	array,
				element;
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	List	   *partitions = NIL;

	if (getKeyJsonValueFromContainer(&answer->root, "partitions", 10, &array) == NULL)
		refuse_missing_topic(source, answer);
	iterator = JsonbIteratorInit(array.val.binary.data);
	while ((token = JsonbIteratorNext(&iterator, &element, true)) != WJB_DONE)
	{
		TopicPartition *partition;

		if (token != WJB_ELEM)
			continue;
		partition = palloc0(sizeof(TopicPartition));
		partition->partition = (int32) field_number(element.val.binary.data, "partition");
		partition->begin = field_number(element.val.binary.data, "begin");
		partition->end = field_number(element.val.binary.data, "end");
		partition->start = field_number(element.val.binary.data, "start");
		partitions = lappend(partitions, partition);
	}
	return partitions;
}

static TopicPartition *
find_partition(List *partitions, int32 number)
{
	ListCell   *cell;

	foreach(cell, partitions)
	{
		TopicPartition *partition = lfirst(cell);

		if (partition->partition == number)
			return partition;
	}
	return NULL;
}

static void
refuse_missing_partition(const Source *source, List *partitions, int32 number)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("topic \"%s\" has no partition %d", (char *) linitial(source->topics), number),
			 errdetail_plural("It has %d partition, counted from 0.", "It has %d partitions, counted from 0.",
							  list_length(partitions), list_length(partitions)),
			 errhint("Name partitions that are there.")));
}

/* only those that the source was told to read */
static List *
choose_partitions(const Source *source, List *partitions)
{
	List	   *chosen = NIL;

	if (source->partitions == NULL)
		return partitions;
	for (int i = 0; i < source->n_partitions; i++)
	{
		TopicPartition *partition = find_partition(partitions, source->partitions[i]);

		if (partition == NULL)
			refuse_missing_partition(source, partitions, source->partitions[i]);
		chosen = lappend(chosen, partition);
	}
	return chosen;
}

static void
set_offsets(const Source *source, List *partitions, List *chosen, List *offsets)
{
	ListCell   *cell;

	foreach(cell, offsets)
	{
		PartitionOffset *offset = lfirst(cell);
		TopicPartition *partition = find_partition(partitions, offset->partition);

		if (partition == NULL)
			refuse_missing_partition(source, partitions, offset->partition);
		if (find_partition(chosen, offset->partition) == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("source \"%s\" does not read partition %d", source->name, offset->partition),
					 errhint("Leave it out, or add it to the partitions of the source.")));
		if (offset->offset < partition->begin || offset->offset > partition->end)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("offset " INT64_FORMAT " of partition %d is not in topic \"%s\"",
							offset->offset, offset->partition, (char *) linitial(source->topics)),
					 errdetail("Kafka holds the offsets from " INT64_FORMAT " on; the next one written is " INT64_FORMAT ".",
							   partition->begin, partition->end),
					 errhint("Give an offset from " INT64_FORMAT " to " INT64_FORMAT ", or 'earliest' or 'latest'.",
							 partition->begin, partition->end)));
		partition->start = offset->offset;
		partition->named = true;
	}
}

List *
source_ask_topic(const Source *source, const SourcePosition *position, char **unreachable)
{
	List	   *options = connection_options(source->server, CONNECTION_KAFKA, source->owner);
	char	   *answer;
	List	   *partitions,
			   *chosen;

	*unreachable = NULL;
	switch (inquiry_ask("topic", make_request(source, position), options, TIMEOUT_MS, &answer))
	{
		case INQUIRY_ANSWERED:
			break;
		case INQUIRY_UNREACHABLE:
			*unreachable = answer;
			return NIL;
		case INQUIRY_REFUSED:
			ereport(ERROR,
					(errcode(ERRCODE_SQLSERVER_REJECTED_ESTABLISHMENT_OF_SQLCONNECTION),
					 errmsg("Kafka refuses to tell about topic \"%s\"", (char *) linitial(source->topics)),
					 errdetail("%s.", answer),
					 errhint("Look at the options of server \"%s\" and of its user mapping.", source->server)));
	}
	partitions = read_partitions(source, answer);
	chosen = choose_partitions(source, partitions);
	set_offsets(source, partitions, chosen, position->offsets);
	return chosen;
}
