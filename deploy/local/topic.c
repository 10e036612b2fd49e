/*
 * topic: makes, fills and looks into topics, for the demo's scripts and the tests.
 *
 * Kafka's own tools start a JVM for each call; this one answers in milliseconds. It talks to one
 * broker, waits for every acknowledgement, and exits non-zero with the reason when anything was
 * refused. It knows nothing of clickstream. Called through the script of the same name.
 */
#include <err.h>
#include <errno.h>
#include <jansson.h>
#include <librdkafka/rdkafka.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
	"usage: topic [--broker HOST:PORT] COMMAND ...      (the broker is $KAFKA if not given)\n"
	"  ready                              exit 0 if the broker answers\n"
	"  create NAME PARTITIONS [property=value ...]\n"
	"  grow NAME PARTITIONS               more partitions\n"
	"  delete NAME ...\n"
	"  list\n"
	"  offsets NAME                       a line for each partition: partition, first offset, next offset, with what\n"
	"                                     open transactions wrote\n"
	"  truncate NAME PARTITION OFFSET     forget what is before the offset, as retention does\n"
	"  committed GROUP NAME               a line for each partition: partition, offset that the group has committed\n"
	"  allow USER topic | group NAME      let a user read it, where the broker asks who may\n"
	"  produce NAME [--partition N] [--keys | --json] [--codec CODEC] [--transaction ID [--abort]]\n"
	"          a message for each line of standard input; --keys: key, tab, value;\n"
	"          --json: {\"key\", \"value\", \"headers\": [{\"key\", \"value\"}], \"partition\", \"timestamp\"}, where\n"
	"          a value that is missing or null is a tombstone, an object is sent as JSON, and \"\\u00XX\"\n"
	"          in \"bytes\" (in place of \"value\") stands for the byte XX\n"
	"  consume NAME [--partition N] [--from OFFSET]     what is there now, as lines of JSON\n";

#define TIMEOUT_MS 15000

static char error_text[512];

static void
delivered(rd_kafka_t *kafka, const rd_kafka_message_t *message, void *opaque)
{
	(void) kafka;
	(void) opaque;
	if (message->err)
		errx(1, "not delivered: %s", rd_kafka_err2str(message->err));
}

static void
set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
	if (rd_kafka_conf_set(conf, name, value, error_text, sizeof error_text) != RD_KAFKA_CONF_OK)
		errx(1, "%s", error_text);
}

static rd_kafka_t *
connect_with(rd_kafka_type_t type, rd_kafka_conf_t *conf, const char *broker)
{
	rd_kafka_t *kafka;

	set(conf, "bootstrap.servers", broker);
	set(conf, "log_level", "0");
	kafka = rd_kafka_new(type, conf, error_text, sizeof error_text);
	if (kafka == NULL)
		errx(1, "%s", error_text);
	return kafka;
}

static rd_kafka_t *
connect_consumer(const char *broker, const char *group, const char *isolation)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();

	set(conf, "group.id", group);
	set(conf, "isolation.level", isolation);
	set(conf, "enable.auto.commit", "false");
	set(conf, "enable.partition.eof", "true");
	return connect_with(RD_KAFKA_CONSUMER, conf, broker);
}

static rd_kafka_t *
connect_producer(const char *broker, const char *codec, const char *transaction)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();

	set(conf, "queue.buffering.max.messages", "1000000");
	set(conf, "message.max.bytes", "100000000");
	set(conf, "message.timeout.ms", "60000");
	set(conf, "linger.ms", "5");
	if (codec)
		set(conf, "compression.codec", codec);
	if (transaction)
		set(conf, "transactional.id", transaction);
	rd_kafka_conf_set_dr_msg_cb(conf, delivered);
	return connect_with(RD_KAFKA_PRODUCER, conf, broker);
}

static void
check(rd_kafka_resp_err_t code, const char *what)
{
	if (code)
		errx(1, "%s: %s", what, rd_kafka_err2str(code));
}

static void
check_error(rd_kafka_error_t *error, const char *what)
{
	if (error)
		errx(1, "%s: %s", what, rd_kafka_error_string(error));
}

static long
number(const char *text)
{
	char	   *end;
	long		value = strtol(text, &end, 10);

	if (*text == '\0' || *end != '\0')
		errx(2, "not a number: %s", text);
	return value;
}

/* --- topics --- */

static void
check_topic_results(const rd_kafka_topic_result_t **results, size_t n)
{
	for (size_t i = 0; i < n; i++)
	{
		if (rd_kafka_topic_result_error(results[i]))
			errx(1, "%s: %s", rd_kafka_topic_result_name(results[i]),
				 rd_kafka_topic_result_error_string(results[i]));
	}
}

/* The reply to an admin request that was just sent; the caller reads its results. */
static rd_kafka_event_t *
reply_on(rd_kafka_queue_t *queue, const char *what)
{
	rd_kafka_event_t *event = rd_kafka_queue_poll(queue, 2 * TIMEOUT_MS);

	if (event == NULL)
		errx(1, "%s: no reply", what);
	if (rd_kafka_event_error(event))
		errx(1, "%s: %s", what, rd_kafka_event_error_string(event));
	return event;
}

static rd_kafka_AdminOptions_t *
admin_options(rd_kafka_t *kafka)
{
	rd_kafka_AdminOptions_t *options = rd_kafka_AdminOptions_new(kafka, RD_KAFKA_ADMIN_OP_ANY);

	rd_kafka_AdminOptions_set_request_timeout(options, TIMEOUT_MS, NULL, 0);
	rd_kafka_AdminOptions_set_operation_timeout(options, TIMEOUT_MS, NULL, 0);
	return options;
}

/* A topic exists for its creator before every broker thread knows it: wait until all its leaders do. */
static void
wait_for_partitions(rd_kafka_t *kafka, const char *name, int partitions)
{
	for (int attempt = 0; attempt < 300; attempt++)
	{
		rd_kafka_topic_t *topic = rd_kafka_topic_new(kafka, name, NULL);
		const struct rd_kafka_metadata *meta;
		int			led = 0;

		if (rd_kafka_metadata(kafka, 0, topic, &meta, TIMEOUT_MS) == RD_KAFKA_RESP_ERR_NO_ERROR)
		{
			for (int i = 0; meta->topic_cnt == 1 && i < meta->topics[0].partition_cnt; i++)
				led += meta->topics[0].partitions[i].leader >= 0;
			rd_kafka_metadata_destroy(meta);
		}
		rd_kafka_topic_destroy(topic);
		if (led == partitions)
			return;
		rd_kafka_poll(kafka, 50);
	}
	errx(1, "%s: its partitions did not come up", name);
}

static void
create(rd_kafka_t *kafka, rd_kafka_queue_t *queue, int argc, char **argv)
{
	int			partitions = (int) number(argv[1]);
	rd_kafka_NewTopic_t *topic =
		rd_kafka_NewTopic_new(argv[0], partitions, 1, error_text, sizeof error_text);
	rd_kafka_event_t *event;
	const rd_kafka_topic_result_t **results;
	size_t		n;

	if (topic == NULL)
		errx(1, "%s", error_text);
	for (int i = 2; i < argc; i++)
	{
		char	   *equals = strchr(argv[i], '=');

		if (equals == NULL)
			errx(2, "not a property=value: %s", argv[i]);
		*equals = '\0';
		check(rd_kafka_NewTopic_set_config(topic, argv[i], equals + 1), argv[i]);
	}
	rd_kafka_CreateTopics(kafka, &topic, 1, admin_options(kafka), queue);
	event = reply_on(queue, argv[0]);
	results = rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &n);
	check_topic_results(results, n);
	wait_for_partitions(kafka, argv[0], partitions);
}

static void
grow(rd_kafka_t *kafka, rd_kafka_queue_t *queue, char **argv)
{
	int			partitions = (int) number(argv[1]);
	rd_kafka_NewPartitions_t *request =
		rd_kafka_NewPartitions_new(argv[0], partitions, error_text, sizeof error_text);
	rd_kafka_event_t *event;
	const rd_kafka_topic_result_t **results;
	size_t		n;

	if (request == NULL)
		errx(1, "%s", error_text);
	rd_kafka_CreatePartitions(kafka, &request, 1, admin_options(kafka), queue);
	event = reply_on(queue, argv[0]);
	results = rd_kafka_CreatePartitions_result_topics(
		rd_kafka_event_CreatePartitions_result(event), &n);
	check_topic_results(results, n);
	wait_for_partitions(kafka, argv[0], partitions);
}

static const struct rd_kafka_metadata *
metadata_of_all(rd_kafka_t *kafka, int timeout_ms)
{
	const struct rd_kafka_metadata *meta;

	check(rd_kafka_metadata(kafka, 1, NULL, &meta, timeout_ms), "metadata");
	return meta;
}

static bool
exists(rd_kafka_t *kafka, const char *name)
{
	const struct rd_kafka_metadata *meta = metadata_of_all(kafka, TIMEOUT_MS);
	bool		found = false;

	for (int i = 0; i < meta->topic_cnt; i++)
		found |= strcmp(meta->topics[i].topic, name) == 0;
	rd_kafka_metadata_destroy(meta);
	return found;
}

/* Returns when the names are free again. */
static void
delete(rd_kafka_t *kafka, rd_kafka_queue_t *queue, int argc, char **argv)
{
	rd_kafka_DeleteTopic_t *topics[argc];
	rd_kafka_event_t *event;
	const rd_kafka_topic_result_t **results;
	size_t		n;

	for (int i = 0; i < argc; i++)
		topics[i] = rd_kafka_DeleteTopic_new(argv[i]);
	rd_kafka_DeleteTopics(kafka, topics, argc, admin_options(kafka), queue);
	event = reply_on(queue, argv[0]);
	results = rd_kafka_DeleteTopics_result_topics(rd_kafka_event_DeleteTopics_result(event), &n);
	check_topic_results(results, n);
	for (int i = 0; i < argc; i++)
	{
		for (int attempt = 0; attempt < 300 && exists(kafka, argv[i]); attempt++)
			rd_kafka_poll(kafka, 50);
	}
}

static void
list(rd_kafka_t *kafka)
{
	const struct rd_kafka_metadata *meta = metadata_of_all(kafka, TIMEOUT_MS);

	for (int i = 0; i < meta->topic_cnt; i++)
		printf("%s\t%d\n", meta->topics[i].topic, meta->topics[i].partition_cnt);
	rd_kafka_metadata_destroy(meta);
}

static int
partition_count(rd_kafka_t *kafka, const char *name)
{
	rd_kafka_topic_t *topic = rd_kafka_topic_new(kafka, name, NULL);
	const struct rd_kafka_metadata *meta;
	int			n;

	check(rd_kafka_metadata(kafka, 0, topic, &meta, TIMEOUT_MS), name);
	check(meta->topics[0].err, name);
	n = meta->topics[0].partition_cnt;
	rd_kafka_metadata_destroy(meta);
	rd_kafka_topic_destroy(topic);
	return n;
}

static void
offsets(rd_kafka_t *kafka, const char *name)
{
	int			n = partition_count(kafka, name);

	for (int i = 0; i < n; i++)
	{
		int64_t		low;
		int64_t		high;

		check(rd_kafka_query_watermark_offsets(kafka, name, i, &low, &high, TIMEOUT_MS), name);
		printf("%d\t%lld\t%lld\n", i, (long long) low, (long long) high);
	}
}

static void
truncate_before(rd_kafka_t *kafka, rd_kafka_queue_t *queue, char **argv)
{
	rd_kafka_topic_partition_list_t *before = rd_kafka_topic_partition_list_new(1);
	rd_kafka_DeleteRecords_t *request;
	rd_kafka_event_t *event;
	const rd_kafka_topic_partition_list_t *results;

	rd_kafka_topic_partition_list_add(before, argv[0], (int32_t) number(argv[1]))->offset =
		number(argv[2]);
	request = rd_kafka_DeleteRecords_new(before);
	rd_kafka_DeleteRecords(kafka, &request, 1, admin_options(kafka), queue);
	event = reply_on(queue, argv[0]);
	results = rd_kafka_DeleteRecords_result_offsets(rd_kafka_event_DeleteRecords_result(event));
	for (int i = 0; i < results->cnt; i++)
		check(results->elems[i].err, argv[0]);
}

/* --- groups and rights --- */

static void
committed(rd_kafka_t *kafka, const char *name)
{
	int			n = partition_count(kafka, name);
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(n);

	for (int i = 0; i < n; i++)
		rd_kafka_topic_partition_list_add(list, name, i);
	check(rd_kafka_committed(kafka, list, TIMEOUT_MS), name);
	for (int i = 0; i < n; i++)
	{
		check(list->elems[i].err, name);
		if (list->elems[i].offset >= 0)
			printf("%d\t%lld\n", i, (long long) list->elems[i].offset);
	}
	rd_kafka_topic_partition_list_destroy(list);
}

static void
allow(rd_kafka_t *kafka, rd_kafka_queue_t *queue, char **argv)
{
	char		principal[256];
	rd_kafka_AclBinding_t *rule;
	const rd_kafka_acl_result_t **results;
	size_t		n;

	snprintf(principal, sizeof principal, "User:%s", argv[0]);
	rule = rd_kafka_AclBinding_new(strcmp(argv[1], "group") == 0 ? RD_KAFKA_RESOURCE_GROUP : RD_KAFKA_RESOURCE_TOPIC,
								   argv[2], RD_KAFKA_RESOURCE_PATTERN_LITERAL, principal, "*", RD_KAFKA_ACL_OPERATION_READ,
								   RD_KAFKA_ACL_PERMISSION_TYPE_ALLOW, error_text, sizeof error_text);
	if (rule == NULL)
		errx(1, "%s", error_text);
	rd_kafka_CreateAcls(kafka, &rule, 1, admin_options(kafka), queue);
	results = rd_kafka_CreateAcls_result_acls(rd_kafka_event_CreateAcls_result(reply_on(queue, argv[2])), &n);
	for (size_t i = 0; i < n; i++)
		if (rd_kafka_acl_result_error(results[i]))
			errx(1, "%s: %s", argv[2], rd_kafka_error_string(rd_kafka_acl_result_error(results[i])));
}

/* --- messages --- */

typedef struct Produce
{
	rd_kafka_t *kafka;
	const char *topic;
	int32_t		partition;
	bool		keys;
	bool		json;
	const char *codec;
	const char *transaction;
	bool		abort;
} Produce;

static void
send_message(Produce *p, const char *key, size_t key_length, const char *value, size_t length,
			 int32_t partition, int64_t timestamp, rd_kafka_headers_t *headers)
{
	for (;;)
	{
		rd_kafka_resp_err_t code = rd_kafka_producev(
			p->kafka, RD_KAFKA_V_TOPIC(p->topic), RD_KAFKA_V_PARTITION(partition),
			RD_KAFKA_V_KEY(key, key_length), RD_KAFKA_V_VALUE((void *) value, length),
			RD_KAFKA_V_TIMESTAMP(timestamp), RD_KAFKA_V_HEADERS(headers),
			RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END);

		if (code != RD_KAFKA_RESP_ERR__QUEUE_FULL)
		{
			check(code, p->topic);
			break;
		}
		rd_kafka_poll(p->kafka, 100);
	}
	rd_kafka_poll(p->kafka, 0);
}

/* "bytes": each character up to U+00FF is the byte of that number. */
static char *
latin1(const char *utf8, size_t size, size_t *length)
{
	char	   *out = malloc(size + 1);
	size_t		n = 0;

	for (size_t i = 0; i < size; i++)
	{
		unsigned char c = (unsigned char) utf8[i];

		if (c >= 0xC4)
			errx(1, "\"bytes\" holds a character beyond \\u00ff");
		if (c >= 0xC2)
			c = (unsigned char) ((c << 6) | (utf8[++i] & 0x3F));
		out[n++] = (char) c;
	}
	*length = n;
	return out;
}

static rd_kafka_headers_t *
headers_of(json_t *list)
{
	rd_kafka_headers_t *headers = rd_kafka_headers_new(json_array_size(list));
	size_t		i;
	json_t	   *header;

	json_array_foreach(list, i, header)
	{
		json_t	   *value = json_object_get(header, "value");
		json_t	   *bytes = json_object_get(header, "bytes");
		const char *key = json_string_value(json_object_get(header, "key"));
		size_t		n = json_string_length(value);
		const char *content = json_string_value(value);

		if (bytes)
			content = latin1(json_string_value(bytes), json_string_length(bytes), &n);
		rd_kafka_header_add(headers, key ? key : "", -1, content, content ? (ssize_t) n : 0);
		if (bytes)
			free((char *) content);
	}
	return headers;
}

static void
produce_json(Produce *p, const char *line, size_t length)
{
	json_error_t error;
	json_t	   *o = json_loadb(line, length, JSON_ALLOW_NUL, &error);
	json_t	   *value = json_object_get(o, "value");
	json_t	   *bytes = json_object_get(o, "bytes");
	json_t	   *key = json_object_get(o, "key");
	json_t	   *partition = json_object_get(o, "partition");
	char	   *text = NULL;
	size_t		n = 0;

	if (!json_is_object(o))
		errx(1, "not a JSON object (%s): %s", error.text, line);
	if (bytes)
		text = latin1(json_string_value(bytes), json_string_length(bytes), &n);
	else if (json_is_string(value))
	{
		n = json_string_length(value);
		text = malloc(n + 1);
		memcpy(text, json_string_value(value), n);
	}
	else if (value && !json_is_null(value))
	{
		text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
		n = strlen(text);
	}
	send_message(p, json_string_value(key), json_string_length(key), text, n,
				 partition ? (int32_t) json_integer_value(partition) : p->partition,
				 json_integer_value(json_object_get(o, "timestamp")),
				 headers_of(json_object_get(o, "headers")));
	free(text);
	json_decref(o);
}

static void
produce_line(Produce *p, const char *line, size_t length)
{
	const char *tab = p->keys ? memchr(line, '\t', length) : NULL;

	if (p->json)
		produce_json(p, line, length);
	else if (tab)
		send_message(p, line, tab - line, tab + 1, length - (tab + 1 - line), p->partition, 0, NULL);
	else
		send_message(p, NULL, 0, line, length, p->partition, 0, NULL);
}

static void
produce(Produce *p)
{
	char	   *line = NULL;
	size_t		size = 0;
	ssize_t		length;

	if (p->transaction)
	{
		check_error(rd_kafka_init_transactions(p->kafka, TIMEOUT_MS), "init_transactions");
		check_error(rd_kafka_begin_transaction(p->kafka), "begin_transaction");
	}
	while ((length = getline(&line, &size, stdin)) >= 0)
	{
		if (length > 0 && line[length - 1] == '\n')
			line[--length] = '\0';
		produce_line(p, line, (size_t) length);
	}
	free(line);
	check(rd_kafka_flush(p->kafka, 60000), "flush");
	if (p->transaction && p->abort)
		check_error(rd_kafka_abort_transaction(p->kafka, TIMEOUT_MS), "abort_transaction");
	else if (p->transaction)
		check_error(rd_kafka_commit_transaction(p->kafka, TIMEOUT_MS), "commit_transaction");
}

static json_t *
text_or_bytes(const void *data, size_t length)
{
	json_t	   *text = data ? json_stringn(data, length) : json_null();
	json_t	   *bytes;

	if (text)
		return text;
	bytes = json_array();
	for (size_t i = 0; i < length; i++)
		json_array_append_new(bytes, json_integer(((const unsigned char *) data)[i]));
	return bytes;
}

static void
print_message(const rd_kafka_message_t *m)
{
	rd_kafka_timestamp_type_t type;
	json_t	   *o = json_pack("{s:i, s:I, s:I, s:o, s:o}", "partition", (int) m->partition, "offset",
							  (json_int_t) m->offset, "timestamp",
							  (json_int_t) rd_kafka_message_timestamp(m, &type), "key",
							  text_or_bytes(m->key, m->key_len), "value",
							  text_or_bytes(m->payload, m->len));

	json_dumpf(o, stdout, JSON_COMPACT);
	putchar('\n');
	json_decref(o);
}

static void
consume(rd_kafka_t *kafka, const char *name, int32_t only, int64_t from)
{
	int			n = partition_count(kafka, name);
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(n);
	int			open = 0;

	for (int i = 0; i < n; i++)
	{
		if (only == RD_KAFKA_PARTITION_UA || only == i)
		{
			rd_kafka_topic_partition_list_add(list, name, i)->offset = from;
			open++;
		}
	}
	check(rd_kafka_assign(kafka, list), name);
	while (open > 0)
	{
		rd_kafka_message_t *m = rd_kafka_consumer_poll(kafka, TIMEOUT_MS);

		if (m == NULL)
			errx(1, "%s: no answer", name);
		if (m->err == RD_KAFKA_RESP_ERR__PARTITION_EOF)
			open--;
		else
		{
			check(m->err, name);
			print_message(m);
		}
		rd_kafka_message_destroy(m);
	}
	rd_kafka_topic_partition_list_destroy(list);
	rd_kafka_consumer_close(kafka);
}

/* --- the command line --- */

typedef struct Options
{
	const char *broker;
	int64_t		from;
	Produce		produce;
	int			argc;
	char	   *argv[256];		/* what is no option: the command and its arguments */
} Options;

static void
read_options(Options *o, int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
	{
		const char *value = i + 1 < argc ? argv[i + 1] : NULL;

		if (strcmp(argv[i], "--keys") == 0)
			o->produce.keys = true;
		else if (strcmp(argv[i], "--json") == 0)
			o->produce.json = true;
		else if (strcmp(argv[i], "--abort") == 0)
			o->produce.abort = true;
		else if (strcmp(argv[i], "--broker") == 0 && value)
			o->broker = argv[++i];
		else if (strcmp(argv[i], "--codec") == 0 && value)
			o->produce.codec = argv[++i];
		else if (strcmp(argv[i], "--transaction") == 0 && value)
			o->produce.transaction = argv[++i];
		else if (strcmp(argv[i], "--partition") == 0 && value)
			o->produce.partition = (int32_t) number(argv[++i]);
		else if (strcmp(argv[i], "--from") == 0 && value)
			o->from = number(argv[++i]);
		else if (argv[i][0] == '-' && argv[i][1] == '-')
			errx(2, "no such option: %s\n%s", argv[i], usage);
		else if (o->argc < 256)
			o->argv[o->argc++] = argv[i];
	}
	if (o->broker == NULL || o->argc == 0)
		errx(2, "%s\n%s", o->argc ? "no broker: set KAFKA or give --broker" : "no command", usage);
}

static void
run_admin(Options *o, rd_kafka_t *kafka)
{
	const char *command = o->argv[0];
	int			argc = o->argc - 1;
	char	  **argv = o->argv + 1;
	rd_kafka_queue_t *queue = rd_kafka_queue_new(kafka);

	if (strcmp(command, "ready") == 0 && argc == 0)
		exit(metadata_of_all(kafka, 1000)->broker_cnt > 0 ? 0 : 1);
	else if (strcmp(command, "create") == 0 && argc >= 2)
		create(kafka, queue, argc, argv);
	else if (strcmp(command, "grow") == 0 && argc == 2)
		grow(kafka, queue, argv);
	else if (strcmp(command, "delete") == 0 && argc >= 1)
		delete(kafka, queue, argc, argv);
	else if (strcmp(command, "list") == 0 && argc == 0)
		list(kafka);
	else if (strcmp(command, "offsets") == 0 && argc == 1)
		offsets(kafka, argv[0]);
	else if (strcmp(command, "truncate") == 0 && argc == 3)
		truncate_before(kafka, queue, argv);
	else if (strcmp(command, "committed") == 0 && argc == 2)
		committed(kafka, argv[1]);
	else if (strcmp(command, "allow") == 0 && argc == 3)
		allow(kafka, queue, argv);
	else
		errx(2, "no such command: %s with %d arguments\n%s", command, argc, usage);
}

int
main(int argc, char **argv)
{
	Options		o = {.broker = getenv("KAFKA"),.from = RD_KAFKA_OFFSET_BEGINNING,
		.produce = {.partition = RD_KAFKA_PARTITION_UA}};

	read_options(&o, argc, argv);
	if (strcmp(o.argv[0], "produce") == 0 && o.argc == 2)
	{
		o.produce.topic = o.argv[1];
		o.produce.kafka = connect_producer(o.broker, o.produce.codec, o.produce.transaction);
		produce(&o.produce);
	}
	else if (strcmp(o.argv[0], "consume") == 0 && o.argc == 2)
		consume(connect_consumer(o.broker, "topic", "read_committed"), o.argv[1], o.produce.partition, o.from);
	else
	{
		const char *group = strcmp(o.argv[0], "committed") == 0 && o.argc > 1 ? o.argv[1] : "topic";

		run_admin(&o, connect_consumer(o.broker, group, "read_uncommitted"));
	}
	return fflush(stdout) == 0 ? 0 : 1;
}
