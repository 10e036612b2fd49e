/*
 * inquiry_topic.c
 *		The inquiry "topic": which partitions topics have, and where each begins, ends and is to start.
 *
 * Request: {"topics": ["clicks", "^views-.*"], "start": "earliest" | "latest" | milliseconds since 1970}.
 * Answer: {"brokers": "host:port, …", "missing": "clicks",
 * "partitions": [{"topic": "clicks", "partition": 0, "begin": 0, "end": 17, "start": 0}, …]}, where "missing" is a
 * topic asked for by name that there is none of, and then there are no "partitions".  Offsets are asked for all partitions at once,
 * one request a broker, so that 120 partitions take no longer than one.
 */
#include "postgres.h"

#include <jansson.h>

#include "kafka_client.h"
#include "source_api.h"
#include "inquiry_kinds.h"

/* a question of Kafka's waits this long at first, then twice as long, so that we notice the end */
#define FIRST_WAIT_MS 500
#define LAST_WAIT_MS 4000

typedef struct TopicInquiry
{
	const Inquiry *inquiry;
	List	   *topics;			/* as they were asked for */
	TopicMatcher *matcher;
	List	   *handles;		/* librdkafka's, of the topics named */
	KafkaClient client;
	int			wait_ms;
	char		problem[256];	/* why the last try failed, when librdkafka reported nothing itself */
	char		refusal[256];	/* why no other try would help; empty otherwise */
} TopicInquiry;

static bool
try_again(TopicInquiry *ask)
{
	(void) kafka_client_reason(&ask->client, NULL);
	if (ask->client.refused || ask->refusal[0] != '\0' || inquiry_time_left(ask->inquiry, ask->wait_ms) <= 0)
		return false;
	ask->wait_ms = Min(ask->wait_ms * 2, LAST_WAIT_MS);
	return true;
}

/* an error that only a person can mend is a refusal, all others are worth another try */
static void
take_error(TopicInquiry *ask, rd_kafka_resp_err_t error)
{
	char	   *text = ask->problem;

	if (error == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED ||
		error == RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED ||
		error == RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION)
		text = ask->refusal;
	snprintf(text, sizeof(ask->problem), "%s", rd_kafka_err2str(error));
}

/* waits a moment where the broker answered at once that it is not ready */
static void
short_rest(TopicInquiry *ask)
{
	pg_usleep(Min(inquiry_time_left(ask->inquiry, 100), 100) * 1000L);
}

static json_t *
brokers_of(const rd_kafka_metadata_t *metadata)
{
	StringInfoData text;

	initStringInfo(&text);
	for (int i = 0; i < metadata->broker_cnt; i++)
		appendStringInfo(&text, "%s%s:%d", i > 0 ? ", " : "",
						 metadata->brokers[i].host, metadata->brokers[i].port);
	return json_string(text.data);
}

/* Kafka's word on one topic of those meant; false when it cannot tell yet, or refuses to */
static bool
take_topic(TopicInquiry *ask, const rd_kafka_metadata_topic_t *topic, rd_kafka_topic_partition_list_t *list)
{
	if (topic->err == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART || !source_topics_mean(ask->matcher, topic->topic))
		return true;
	if (topic->err != RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		take_error(ask, topic->err);
		return false;
	}
	for (int i = 0; i < topic->partition_cnt; i++)
		rd_kafka_topic_partition_list_add(list, topic->topic, topic->partitions[i].id);
	return true;
}

/* the partitions of all topics meant; NULL when nobody says */
static rd_kafka_topic_partition_list_t *
take_partitions(TopicInquiry *ask, const rd_kafka_metadata_t *metadata)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(16);

	for (int i = 0; i < metadata->topic_cnt; i++)
		if (!take_topic(ask, &metadata->topics[i], list))
		{
			rd_kafka_topic_partition_list_destroy(list);
			return NULL;
		}
	rd_kafka_topic_partition_list_sort(list, NULL, NULL);
	return list;
}

/* librdkafka asks about the topics that it was told of, or about all */
static rd_kafka_topic_partition_list_t *
ask_partitions(TopicInquiry *ask, json_t **brokers)
{
	rd_kafka_topic_partition_list_t *list = NULL;
	ListCell   *cell;

	foreach(cell, ask->topics)
		if (!source_topic_is_pattern(lfirst(cell)))
			ask->handles = lappend(ask->handles, rd_kafka_topic_new(ask->client.rk, lfirst(cell), NULL));
	do
	{
		const struct rd_kafka_metadata *metadata;
		rd_kafka_resp_err_t error = rd_kafka_metadata(ask->client.rk, source_topics_have_pattern(ask->matcher), NULL,
													  &metadata, inquiry_time_left(ask->inquiry, ask->wait_ms));

		if (error != RD_KAFKA_RESP_ERR_NO_ERROR)
		{
			take_error(ask, error);
			continue;
		}
		list = take_partitions(ask, metadata);
		if (list != NULL)
			*brokers = brokers_of(metadata);
		else
			short_rest(ask);
		rd_kafka_metadata_destroy(metadata);
	} while (list == NULL && try_again(ask));
	return list;
}

/* a topic asked for by name that has no partition, or NULL */
static const char *
missing_topic(TopicInquiry *ask, const rd_kafka_topic_partition_list_t *list)
{
	ListCell   *cell;

	foreach(cell, ask->topics)
	{
		bool		found = source_topic_is_pattern(lfirst(cell));

		for (int i = 0; i < list->cnt && !found; i++)
			found = strcmp(list->elems[i].topic, lfirst(cell)) == 0;
		if (!found)
			return lfirst(cell);
	}
	return NULL;
}

static bool
all_answered(TopicInquiry *ask, const rd_kafka_topic_partition_list_t *list)
{
	for (int i = 0; i < list->cnt; i++)
		if (list->elems[i].err != RD_KAFKA_RESP_ERR_NO_ERROR)
		{
			take_error(ask, list->elems[i].err);
			return false;
		}
	return true;
}

/* the offset of each partition at a time, or at AT_BEGIN or AT_END; NULL when nobody says */
static rd_kafka_topic_partition_list_t *
ask_offsets(TopicInquiry *ask, const rd_kafka_topic_partition_list_t *partitions, int64 at)
{
	do
	{
		rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_copy(partitions);
		rd_kafka_resp_err_t error;

		for (int i = 0; i < list->cnt; i++)
			list->elems[i].offset = at;
		error = rd_kafka_offsets_for_times(ask->client.rk, list, inquiry_time_left(ask->inquiry, ask->wait_ms));
		if (error == RD_KAFKA_RESP_ERR_NO_ERROR && all_answered(ask, list))
			return list;
		if (error != RD_KAFKA_RESP_ERR_NO_ERROR)
			take_error(ask, error);
		rd_kafka_topic_partition_list_destroy(list);
		short_rest(ask);
	} while (try_again(ask));
	return NULL;
}

static json_t *
describe(const rd_kafka_topic_partition_list_t *begin, const rd_kafka_topic_partition_list_t *end,
		 const rd_kafka_topic_partition_list_t *start)
{
	json_t	   *all = json_array();

	for (int i = 0; i < end->cnt; i++)
	{
		/* no record as late as the time asked for: the end */
		int64		offset = start->elems[i].offset < 0 ? end->elems[i].offset : start->elems[i].offset;

		json_array_append_new(all, json_pack("{s:s, s:i, s:I, s:I, s:I}", "topic", end->elems[i].topic,
											 "partition", end->elems[i].partition,
											 "begin", (json_int_t) begin->elems[i].offset,
											 "end", (json_int_t) end->elems[i].offset,
											 "start", (json_int_t) offset));
	}
	return all;
}

/* begin, end and start of each partition; NULL when nobody says */
static json_t *
ask_all_offsets(TopicInquiry *ask, const rd_kafka_topic_partition_list_t *partitions)
{
	json_t	   *start = json_object_get(ask->inquiry->request, "start");
	const char *word = json_string_value(start);
	rd_kafka_topic_partition_list_t *begins,
			   *ends,
			   *times = NULL;
	json_t	   *all = NULL;

	if (partitions->cnt == 0)
		return json_array();
	begins = ask_offsets(ask, partitions, AT_BEGIN);
	ends = begins == NULL ? NULL : ask_offsets(ask, partitions, AT_END);
	if (ends != NULL && json_is_integer(start))
		times = ask_offsets(ask, partitions, json_integer_value(start));

	if (ends != NULL && (times != NULL || !json_is_integer(start)))
		all = describe(begins, ends, times != NULL ? times :
					   word != NULL && strcmp(word, "latest") == 0 ? ends : begins);
	if (times != NULL)
		rd_kafka_topic_partition_list_destroy(times);
	if (ends != NULL)
		rd_kafka_topic_partition_list_destroy(ends);
	if (begins != NULL)
		rd_kafka_topic_partition_list_destroy(begins);
	return all;
}

static InquiryResult
ask_topic(TopicInquiry *ask, StringInfo answer)
{
	json_t	   *brokers = NULL,
			   *offsets = NULL;
	const char *missing = NULL;
	rd_kafka_topic_partition_list_t *partitions = ask_partitions(ask, &brokers);

	if (partitions != NULL)
	{
		missing = missing_topic(ask, partitions);
		offsets = missing != NULL ? NULL : ask_all_offsets(ask, partitions);
		rd_kafka_topic_partition_list_destroy(partitions);
	}
	if (missing == NULL && offsets == NULL)
	{
		appendStringInfoString(answer, ask->refusal[0] != '\0' ? ask->refusal :
							   kafka_client_reason(&ask->client, ask->problem));
		return ask->client.refused || ask->refusal[0] != '\0' ? INQUIRY_REFUSED : INQUIRY_UNREACHABLE;
	}
	appendStringInfoString(answer, json_dumps(json_pack("{s:o, s:s*, s:o*}", "brokers", brokers, "missing", missing,
														"partitions", offsets), JSON_COMPACT));
	return INQUIRY_ANSWERED;
}

InquiryResult
inquiry_topic(const Inquiry *inquiry, StringInfo answer)
{
	TopicInquiry ask = {.inquiry = inquiry, .wait_ms = FIRST_WAIT_MS};
	InquiryResult result;
	ListCell   *cell;
	size_t		i;
	json_t	   *topic;

	json_array_foreach(json_object_get(inquiry->request, "topics"), i, topic)
		ask.topics = lappend(ask.topics, pstrdup(json_string_value(topic)));
	ask.matcher = source_topics_matcher(ask.topics);
	if (!kafka_client_open(&ask.client, inquiry->options, NULL))
	{
		appendStringInfoString(answer, ask.client.reason);
		return INQUIRY_REFUSED;
	}
	result = ask_topic(&ask, answer);
	foreach(cell, ask.handles)
		rd_kafka_topic_destroy(lfirst(cell));
	kafka_client_close(&ask.client);
	return result;
}
