/*
 * source_topic.c
 *		What create_source and seek_source ask of Kafka: the topics' partitions, and where to start in each.
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
push_text(JsonbParseState **state, JsonbIteratorToken token, const char *text)
{
	JsonbValue	value = {.type = jbvString};

	value.val.string.val = unconstify(char *, text);
	value.val.string.len = strlen(text);
	pushJsonbValue(state, token, &value);
}

static void
push_number(JsonbParseState **state, int64 number)
{
	JsonbValue	value = {.type = jbvNumeric};

	value.val.numeric = int64_to_numeric(number);
	pushJsonbValue(state, WJB_VALUE, &value);
}

int64
source_kafka_time(TimestampTz time)
{
	int64		us = time + (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;

	return (us + 999) / 1000;
}

static Jsonb *
make_request(List *topics, const SourcePosition *position)
{
	JsonbParseState *state = NULL;
	ListCell   *cell;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	push_text(&state, WJB_KEY, "topics");
	pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	foreach(cell, topics)
		push_text(&state, WJB_ELEM, lfirst(cell));
	pushJsonbValue(&state, WJB_END_ARRAY, NULL);
	push_text(&state, WJB_KEY, "start");
	if (position->kind == POSITION_TIME)
		push_number(&state, source_kafka_time(position->time));
	else
		push_text(&state, WJB_VALUE, position->kind == POSITION_LATEST ? "latest" : "earliest");
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/* ---------------------------------------------------------------- the answer */

static int64
field_number(JsonbContainer *object, const char *name)
{
	JsonbValue	value;

	if (getKeyJsonValueFromContainer(object, name, strlen(name), &value) == NULL || value.type != jbvNumeric)
		elog(ERROR, "the answer about the topic has no number \"%s\"", name);
	return DatumGetInt64(DirectFunctionCall1(numeric_int8, NumericGetDatum(value.val.numeric)));
}

static char *
field_text(JsonbContainer *object, const char *name)
{
	JsonbValue	value;

	if (getKeyJsonValueFromContainer(object, name, strlen(name), &value) == NULL || value.type != jbvString)
		elog(ERROR, "the answer about the topic has no text \"%s\"", name);
	return pnstrdup(value.val.string.val, value.val.string.len);
}

/* the first of the topics asked for by name that Kafka does not have */
static void
refuse_missing_topic(const Source *source, Jsonb *answer)
{
	JsonbValue	missing;

	if (getKeyJsonValueFromContainer(&answer->root, "missing", 7, &missing) == NULL)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("topic \"%.*s\" does not exist", missing.val.string.len, missing.val.string.val),
			 errdetail("The brokers of server \"%s\" (%s) have no topic of that name.", source->server,
					   field_text(&answer->root, "brokers")),
			 errhint("Make the topic in Kafka first, or name one that is there.")));
}

static TopicPartition *
read_partition(JsonbContainer *object)
{
	TopicPartition *partition = palloc0(sizeof(TopicPartition));

	partition->topic = field_text(object, "topic");
	partition->partition = (int32) field_number(object, "partition");
	partition->begin = field_number(object, "begin");
	partition->end = field_number(object, "end");
	partition->start = field_number(object, "start");
	return partition;
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

	refuse_missing_topic(source, answer);
	if (getKeyJsonValueFromContainer(&answer->root, "partitions", 10, &array) == NULL)
		elog(ERROR, "the answer about the topic has no partitions");
	iterator = JsonbIteratorInit(array.val.binary.data);
	while ((token = JsonbIteratorNext(&iterator, &element, true)) != WJB_DONE)
		if (token == WJB_ELEM)
			partitions = lappend(partitions, read_partition(element.val.binary.data));
	if (partitions == NIL)
		ereport(NOTICE,
				(errmsg("no topic of server \"%s\" matches \"%s\" yet", source->server, source_topics_text(source->topics)),
				 errdetail("Those that come are read from their beginning.")));
	return partitions;
}

/* ---------------------------------------------------------------- the partitions asked for */

/* of that topic, or of any topic where none is given */
static TopicPartition *
find_partition(List *partitions, const char *topic, int32 number)
{
	ListCell   *cell;

	foreach(cell, partitions)
	{
		TopicPartition *partition = lfirst(cell);

		if (partition->partition == number && (topic == NULL || strcmp(partition->topic, topic) == 0))
			return partition;
	}
	return NULL;
}

static int
count_partitions(List *partitions, const char *topic)
{
	int			n = 0;
	ListCell   *cell;

	foreach(cell, partitions)
		n += strcmp(((TopicPartition *) lfirst(cell))->topic, topic) == 0;
	return n;
}

static void
refuse_missing_partition(const Source *source, List *partitions, const char *topic, int32 number)
{
	int			n;

	if (topic == NULL)
		topic = partitions != NIL ? ((TopicPartition *) linitial(partitions))->topic :
			source_topics_text(source->topics);
	n = count_partitions(partitions, topic);
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("topic \"%s\" has no partition %d", topic, number),
			 errdetail_plural("It has %d partition, counted from 0.", "It has %d partitions, counted from 0.", n, n),
			 errhint("Name partitions that are there.")));
}

/* only those that the source was told to read; each of them has to be in one topic at least */
static List *
choose_partitions(const Source *source, List *partitions)
{
	List	   *chosen = NIL;
	ListCell   *cell;

	if (source->partitions == NULL || partitions == NIL)
		return partitions;
	for (int i = 0; i < source->n_partitions; i++)
	{
		if (find_partition(partitions, NULL, source->partitions[i]) == NULL)
			refuse_missing_partition(source, partitions, NULL, source->partitions[i]);
		foreach(cell, partitions)
			if (((TopicPartition *) lfirst(cell))->partition == source->partitions[i])
				chosen = lappend(chosen, lfirst(cell));
	}
	return chosen;
}

/* the one topic there is where the position names none */
static const char *
topic_of_offset(const Source *source, List *partitions, const PartitionOffset *offset)
{
	const char *only;

	if (offset->topic != NULL)
	{
		if (count_partitions(partitions, offset->topic) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("source \"%s\" does not read topic \"%s\"", source->name, offset->topic),
					 errhint("It reads: %s.", source_topics_text(source->topics))));
		return offset->topic;
	}
	only = partitions != NIL ? ((TopicPartition *) linitial(partitions))->topic : "";
	if (count_partitions(partitions, only) != list_length(partitions))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("source \"%s\" reads several topics, and the position says of none which it means", source->name),
				 errhint("Give the offsets of each topic, such as '{\"%s\": {\"0\": 42}}'.", only)));
	return only;
}

static void
set_offset(const Source *source, List *partitions, List *chosen, const PartitionOffset *offset)
{
	const char *topic = topic_of_offset(source, partitions, offset);
	TopicPartition *partition = find_partition(partitions, topic, offset->partition);

	if (partition == NULL)
		refuse_missing_partition(source, partitions, topic, offset->partition);
	if (find_partition(chosen, topic, offset->partition) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("source \"%s\" does not read partition %d", source->name, offset->partition),
				 errhint("Leave it out, or add it to the partitions of the source.")));
	if (offset->offset < partition->begin || offset->offset > partition->end)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("offset " INT64_FORMAT " of partition %d is not in topic \"%s\"",
						offset->offset, offset->partition, topic),
				 errdetail("Kafka holds the offsets from " INT64_FORMAT " on; the next one written is " INT64_FORMAT ".",
						   partition->begin, partition->end),
				 errhint("Give an offset from " INT64_FORMAT " to " INT64_FORMAT ", or 'earliest' or 'latest'.",
						 partition->begin, partition->end)));
	partition->start = offset->offset;
	partition->named = true;
}

/* ---------------------------------------------------------------- the call */

List *
source_ask_topic(const Source *source, const SourcePosition *position, char **unreachable)
{
	List	   *options = connection_options(source->server, CONNECTION_KAFKA, source->owner);
	char	   *answer;
	List	   *topics = source->topics,
			   *partitions,
			   *chosen;
	ListCell   *cell;

	*unreachable = NULL;
	switch (inquiry_ask("topic", make_request(topics, position), options, TIMEOUT_MS, &answer))
	{
		case INQUIRY_ANSWERED:
			break;
		case INQUIRY_UNREACHABLE:
			*unreachable = answer;
			return NIL;
		case INQUIRY_REFUSED:
			ereport(ERROR,
					(errcode(ERRCODE_SQLSERVER_REJECTED_ESTABLISHMENT_OF_SQLCONNECTION),
					 errmsg("Kafka refuses to tell about topic \"%s\"", source_topics_text(topics)),
					 errdetail("%s.", answer),
					 errhint("Look at the options of server \"%s\" and of its user mapping.", source->server)));
	}
	partitions = read_partitions(source, answer);
	chosen = choose_partitions(source, partitions);
	foreach(cell, position->offsets)
		set_offset(source, partitions, chosen, lfirst(cell));
	return chosen;
}
