/*
 * mock_kafka.c
 *		A broker that fails to order: librdkafka's mock cluster, ruled by lines of standard input.
 *
 *	  mock_kafka TOPIC PARTITIONS	prints its address; ends with its standard input
 *	  fetch CODE COUNT				the next COUNT fetches are answered by Kafka's error CODE
 *	  topic CODE					the topic is answered by error CODE from now on, 0 for none
 *	  coordinator MS				who has a group is told so much later, the next time it is asked
 *	  down | up						the broker goes, and comes back
 *
 * Each line is answered by one.  For tests of errors that a real broker cannot be made to give.
 */
#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Kafka's numbers of requests */
#define FETCH 1
#define FIND_COORDINATOR 10

static void
fail_fetches(rd_kafka_mock_cluster_t *cluster, int code, int count)
{
	while (count-- > 0)
		rd_kafka_mock_push_request_errors(cluster, FETCH, 1, (rd_kafka_resp_err_t) code);
}

static int
obey(rd_kafka_mock_cluster_t *cluster, const char *topic, const char *line)
{
	int			code,
				count;

	if (sscanf(line, "fetch %d %d", &code, &count) == 2)
		fail_fetches(cluster, code, count);
	else if (sscanf(line, "topic %d", &code) == 1)
		rd_kafka_mock_topic_set_error(cluster, topic, (rd_kafka_resp_err_t) code);
	else if (sscanf(line, "coordinator %d", &count) == 1)
		rd_kafka_mock_broker_push_request_error_rtts(cluster, 1, FIND_COORDINATOR, (size_t) 1,
													 RD_KAFKA_RESP_ERR_NO_ERROR, count);
	else if (strcmp(line, "down\n") == 0)
		rd_kafka_mock_broker_set_down(cluster, 1);
	else if (strcmp(line, "up\n") == 0)
		rd_kafka_mock_broker_set_up(cluster, 1);
	else
		return 0;
	return 1;
}

int
main(int argc, char **argv)
{
	char		line[256];
	rd_kafka_t *handle;
	rd_kafka_mock_cluster_t *cluster;

	if (argc != 3)
	{
		fprintf(stderr, "usage: mock_kafka TOPIC PARTITIONS\n");
		return 2;
	}
	handle = rd_kafka_new(RD_KAFKA_PRODUCER, rd_kafka_conf_new(), line, sizeof(line));
	cluster = rd_kafka_mock_cluster_new(handle, 1);
	rd_kafka_mock_topic_create(cluster, argv[1], atoi(argv[2]), 1);
	printf("%s\n", rd_kafka_mock_cluster_bootstraps(cluster));
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin) != NULL)
	{
		puts(obey(cluster, argv[1], line) ? "done" : "what?");
		fflush(stdout);
	}
	rd_kafka_mock_cluster_destroy(cluster);
	rd_kafka_destroy(handle);
	return 0;
}
