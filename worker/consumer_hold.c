/*
 * consumer_hold.c
 *		Records of the batch in hand that cannot go in yet are given back, and read again later.
 *
 * The order within a partition of the topic is kept: whatever follows such a record there waits with
 * it, and other partitions go on.  Nothing is lost by that: the position of the partition goes back
 * to the first of them, as after an error.  Called by source_partitions.c.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "consumer_internal.h"

static void
mark(Consumer *consumer, const int *records, int n)
{
	for (int i = 0; i < consumer->n_partitions; i++)
		consumer->partitions[i]->given_back = -1;
	for (int i = 0; i < n; i++)
	{
		ConsumerPartition *partition = consumer->partitions[consumer->slots[records[i]]];
		int64		offset = consumer->messages[records[i]]->offset;

		if (partition->given_back < 0 || offset < partition->given_back)
			partition->given_back = offset;
	}
}

static void
hold(ConsumerPartition *partition, TimestampTz retry_at)
{
	partition->position = partition->given_back;
	partition->taken = 0;
	partition->last = NULL;
	partition->check = false;
	partition->state = PARTITION_BROKEN;
	partition->out_of_range = false;
	partition->retry_at = retry_at;
}

/* the records that stay, in their order */
static void
keep_others(Consumer *consumer)
{
	int			kept = 0;

	for (int i = 0; i < consumer->n_messages; i++)
	{
		ConsumerPartition *partition = consumer->partitions[consumer->slots[i]];
		rd_kafka_message_t *message = consumer->messages[i];

		if (partition->given_back >= 0 && message->offset >= partition->given_back)
		{
			rd_kafka_message_destroy(message);
			continue;
		}
		if (partition->given_back >= 0)
		{
			partition->taken++;
			partition->last = message;
		}
		consumer->slots[kept] = consumer->slots[i];
		consumer->messages[kept++] = message;
	}
	consumer->n_messages = kept;
}

void
consumer_give_back(Consumer *consumer, const int *records, int n, int pause_ms)
{
	TimestampTz retry_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), pause_ms);

	mark(consumer, records, n);
	for (int i = 0; i < consumer->n_partitions; i++)
		if (consumer->partitions[i]->given_back >= 0)
			hold(consumer->partitions[i], retry_at);
	keep_others(consumer);
	if (consumer->n_messages > 0)
		return;
	consumer->handed_out_at = 0;
	consumer->bytes = 0;
}
