/*
 * consumer_share.c
 *		Which topics and partitions there are, which of them are this worker's, and where each stands.
 *
 * Owns the two arrays of the consumer and how partitions are shared out: the rows of
 * clickstream.offsets that the source reads, in the order of topic and partition, go to its workers
 * in turn.  So all workers that see the same rows agree, and each has as many as the others, give or
 * take one, however many topics there are.  Rows only come in while no worker is in a transaction
 * (consumer_shares_out), and each looks at all rows in each transaction: no partition ever has two
 * owners.  Where a new partition starts is worker 0's to find out.  Called by the consumer's other
 * files and, for consumer_agrees and consumer_rewind, by source_main.c.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "consumer_internal.h"

/* ---------------------------------------------------------------- what there is */

ConsumerTopic *
consumer_topic(Consumer *consumer, const char *name)
{
	for (int i = 0; i < consumer->n_topics; i++)
		if (strcmp(consumer->topics[i]->name, name) == 0)
			return consumer->topics[i];
	return NULL;
}

/* room for one more pointer: arrays grow twofold */
static void *
grown(Consumer *consumer, void *array, int n)
{
	if (array == NULL)
		return MemoryContextAlloc(consumer->context, sizeof(void *) * 4);
	if (n < 4 || (n & (n - 1)) != 0)
		return array;
	return repalloc_huge(array, sizeof(void *) * n * 2);
}

static bool
is_named(const Consumer *consumer, const char *name)
{
	ListCell   *cell;

	foreach(cell, consumer->named)
		if (strcmp(lfirst(cell), name) == 0)
			return true;
	return false;
}

/* a handle that leads back to the topic */
void
consumer_open_topic(Consumer *consumer, ConsumerTopic *topic)
{
	rd_kafka_topic_conf_t *conf = rd_kafka_default_topic_conf_dup(consumer->client.rk);

	rd_kafka_topic_conf_set_opaque(conf, topic);
	topic->handle = rd_kafka_topic_new(consumer->client.rk, topic->name, conf);
}

ConsumerTopic *
consumer_know_topic(Consumer *consumer, const char *name)
{
	ConsumerTopic *topic = consumer_topic(consumer, name);

	if (topic != NULL)
		return topic;
	topic = MemoryContextAllocZero(consumer->context, sizeof(ConsumerTopic));
	topic->name = MemoryContextStrdup(consumer->context, name);
	topic->by_pattern = !is_named(consumer, name);
	consumer_open_topic(consumer, topic);
	consumer->topics = grown(consumer, consumer->topics, consumer->n_topics);
	consumer->topics[consumer->n_topics++] = topic;
	return topic;
}

ConsumerPartition *
consumer_partition(const ConsumerTopic *topic, int32 number)
{
	return number >= 0 && number < topic->n_partitions ? topic->partitions[number] : NULL;
}

static bool
is_read(const Consumer *consumer, int32 number)
{
	if (consumer->only == NULL)
		return true;
	for (int i = 0; i < consumer->n_only; i++)
		if (consumer->only[i] == number)
			return true;
	return false;
}

static void
know_partition(Consumer *consumer, ConsumerTopic *topic)
{
	ConsumerPartition *partition = MemoryContextAllocZero(consumer->context, sizeof(ConsumerPartition));

	partition->topic = topic;
	partition->number = topic->n_partitions;
	partition->slot = consumer->n_partitions;
	partition->end = -1;
	partition->state = is_read(consumer, partition->number) ? PARTITION_UNKNOWN : PARTITION_FOREIGN;
	topic->partitions = grown(consumer, topic->partitions, topic->n_partitions);
	topic->partitions[topic->n_partitions++] = partition;
	consumer->partitions = grown(consumer, consumer->partitions, consumer->n_partitions);
	consumer->partitions[consumer->n_partitions++] = partition;
}

/* partitions 0 .. n - 1 exist */
void
consumer_know_partitions(Consumer *consumer, ConsumerTopic *topic, int n)
{
	while (topic->n_partitions < n)
		know_partition(consumer, topic);
}

bool
consumer_has(const Consumer *consumer, PartitionState state)
{
	for (int i = 0; i < consumer->n_partitions; i++)
		if (consumer->partitions[i]->state == state)
			return true;
	return false;
}

/* ---------------------------------------------------------------- whose it is */

/* goes over the rows that the source reads, in their order: whose each is follows from its place */
typedef struct Share
{
	int			rank;
	bool		ours;
} Share;

static bool
take_share(const Consumer *consumer, const SourceOffset *offset, Share *share)
{
	if (!is_read(consumer, offset->partition) || !source_topics_mean(consumer->matcher, offset->topic))
		return false;
	share->ours = share->rank++ % consumer->n_workers == consumer->worker_no;
	return true;
}

bool
consumer_shares_out(const Consumer *consumer)
{
	return consumer->n_workers > 1 && consumer_has(consumer, PARTITION_NEW);
}

static bool
stands_at(const ConsumerPartition *partition, const SourceOffset *offset)
{
	return partition->state >= PARTITION_IDLE && partition->committed == offset->next_offset &&
		partition->last_hash == offset->last_hash && partition->last_timestamp == offset->last_timestamp;
}

/* whether what we do with the partition is what its row says; ties the two together */
static bool
agrees(Consumer *consumer, SourceOffset *offset, bool ours)
{
	ConsumerTopic *topic = consumer_topic(consumer, offset->topic);
	ConsumerPartition *partition = topic ? consumer_partition(topic, offset->partition) : NULL;

	if (partition == NULL)
		return !ours;
	if (!ours)
		return partition->state == PARTITION_FOREIGN;
	partition->row = offset;
	return stands_at(partition, offset);
}

bool
consumer_agrees(Consumer *consumer, List *offsets)
{
	Share		share = {0};
	ListCell   *cell;

	for (int i = 0; i < consumer->n_partitions; i++)
		consumer->partitions[i]->row = NULL;
	foreach(cell, offsets)
		if (take_share(consumer, lfirst(cell), &share) && !agrees(consumer, lfirst(cell), share.ours))
			return false;
	/* a row that was there has gone */
	for (int i = 0; i < consumer->n_partitions; i++)
		if (consumer->partitions[i]->state >= PARTITION_IDLE && consumer->partitions[i]->row == NULL)
			return false;
	consumer->compared = true;
	return true;
}

static void
place(Consumer *consumer, const SourceOffset *offset, bool ours)
{
	ConsumerTopic *topic = consumer_know_topic(consumer, offset->topic);
	ConsumerPartition *partition;

	consumer_know_partitions(consumer, topic, offset->partition + 1);
	partition = topic->partitions[offset->partition];
	partition->committed = partition->position = offset->next_offset;
	partition->last_timestamp = offset->last_timestamp;
	partition->last_hash = offset->last_hash;
	partition->check = partition->unchecked = false;
	partition->attempts = 0;
	partition->state = ours ? PARTITION_IDLE : PARTITION_FOREIGN;
}

void
consumer_rewind(Consumer *consumer, List *offsets)
{
	Share		share = {0};
	ListCell   *cell;

	consumer_drop_batch(consumer);
	for (int i = 0; i < consumer->n_partitions; i++)
		consumer->partitions[i]->state = is_read(consumer, consumer->partitions[i]->number) ? PARTITION_UNKNOWN : PARTITION_FOREIGN;
	foreach(cell, offsets)
		if (take_share(consumer, lfirst(cell), &share))
			place(consumer, lfirst(cell), share.ours);
	for (int i = 0; i < consumer->n_topics; i++)
	{
		consumer->topics[i]->stopped = false;
		consumer->topics[i]->amiss[0] = '\0';
	}
	consumer->any_row = offsets != NIL;
	consumer->compared = true;
	consumer->next_look = 0;
}
