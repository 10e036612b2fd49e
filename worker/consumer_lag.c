/*
 * consumer_lag.c
 *		How far Kafka goes beyond what is committed: the lag in the slot, and the answer to wait_for_source.
 *
 * Goes by positions, not by records: a topic that ends in transaction markers or holes counts as read
 * once its end was seen.  Called by consumer.c.
 */
#include "postgres.h"

#include "storage/condition_variable.h"
#include "utils/timestamp.h"

#include "consumer_internal.h"

#define ENDS_EVERY_MS 200

static void
refresh_end(Consumer *consumer, ConsumerPartition *partition)
{
	int64		low,
				high;

	if (rd_kafka_get_watermark_offsets(consumer->client.rk, partition->topic->name, partition->number, &low, &high) != 0 || high < 0)
		return;
	low = Max(low, 0);			/* not told yet */
	/* a log only ever grows at its end, and shrinks at its beginning: else it is another one */
	if (high < partition->high || low < partition->low)
		consumer->doubtful = true;
	partition->low = low;
	partition->high = high;
	partition->end = high;
}

/* whether Kafka is known to hold more of what the batch has */
bool
consumer_is_behind(Consumer *consumer)
{
	for (int i = 0; i < consumer->n_partitions; i++)
	{
		ConsumerPartition *partition = consumer->partitions[i];

		if (partition->taken == 0)
			continue;
		refresh_end(consumer, partition);
		if (partition->end > partition->position)
			return true;
	}
	return false;
}

void
consumer_tell_lag(Consumer *consumer)
{
	int64		lag = 0;

	for (int i = 0; i < consumer->n_partitions; i++)
	{
		ConsumerPartition *partition = consumer->partitions[i];

		if (consumer_owns(partition) && partition->state != PARTITION_UNKNOWN)
			lag += Max(Max(partition->end, partition->position) - partition->committed, 0);
	}
	if (!consumer->reached_once)
		lag = -1;
	SpinLockAcquire(&consumer->slot->mutex);
	consumer->slot->lag = lag;
	SpinLockRelease(&consumer->slot->mutex);
}

/* what has been fetched of each partition tells where it ends; the batch in hand counts as lag, too */
void
consumer_refresh_lag(Consumer *consumer)
{
	TimestampTz now = GetCurrentTimestamp();

	if (now >= consumer->next_ends)
	{
		consumer->next_ends = now + MS(ENDS_EVERY_MS);
		for (int i = 0; i < consumer->n_partitions; i++)
			if (consumer->partitions[i]->state == PARTITION_READING)
				refresh_end(consumer, consumer->partitions[i]);
	}
	consumer_tell_lag(consumer);
}

/* ends are asked for after the question was seen, partitions too: nothing that was there is left out */
void
consumer_hear_question(Consumer *consumer)
{
	uint64		asked,
				answered;

	SpinLockAcquire(&consumer->slot->mutex);
	asked = consumer->slot->asked;
	answered = consumer->slot->answered;
	SpinLockRelease(&consumer->slot->mutex);
	if (consumer->question == 0 && asked > answered)
	{
		consumer->question = asked;
		consumer->targets_known = false;
		consumer->compared = false;
		consumer->news = true;	/* a seek_source before the question must have been seen */
		if (consumer->reachable)
			consumer->next_look = 0;
	}
}

/* Kafka holds nothing of a topic that is not there */
void
consumer_set_targets(Consumer *consumer)
{
	if (consumer->question == 0 || consumer->targets_known || !consumer->reachable || !consumer_find_ends(consumer, consumer_owns))
		return;
	for (int i = 0; i < consumer->n_partitions; i++)
	{
		ConsumerPartition *partition = consumer->partitions[i];

		partition->target = partition->topic->there ? partition->end : partition->committed;
	}
	consumer->targets_known = true;
}

/* where none of the topics that were named is there, nobody knows */
static bool
can_tell(const Consumer *consumer)
{
	bool		any = source_topics_have_pattern(consumer->matcher);

	for (int i = 0; i < consumer->n_topics; i++)
	{
		if (consumer->topics[i]->stopped)
			return false;
		any = any || consumer->topics[i]->there;
	}
	return any && consumer->targets_known && consumer->compared;
}

/* a partition that has no row yet may be anybody's */
static bool
is_pending(const ConsumerPartition *partition)
{
	return consumer_owns(partition) &&
		(partition->state == PARTITION_UNKNOWN || partition->state == PARTITION_NEW || partition->committed < partition->target);
}

void
consumer_answer(Consumer *consumer)
{
	if (consumer->question == 0 || !can_tell(consumer))
		return;
	for (int i = 0; i < consumer->n_partitions; i++)
		if (is_pending(consumer->partitions[i]))
			return;
	SpinLockAcquire(&consumer->slot->mutex);
	consumer->slot->answered = Max(consumer->slot->answered, consumer->question);
	SpinLockRelease(&consumer->slot->mutex);
	consumer->question = 0;
	ConditionVariableBroadcast(&consumer->slot->changed);
}
