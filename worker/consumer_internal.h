/*
 * consumer_internal.h
 *		What the files of the consumer share: consumer.c takes batches and calls the others, consumer_*.c.
 */
#ifndef CLICKSTREAM_CONSUMER_INTERNAL_H
#define CLICKSTREAM_CONSUMER_INTERNAL_H

#include "postgres.h"

#include "consumer.h"
#include "kafka_client.h"

typedef enum PartitionState
{
	PARTITION_FOREIGN,			/* another worker's, or none that the source reads */
	PARTITION_UNKNOWN,			/* ours, without a row: where to start is still to be asked */
	PARTITION_NEW,				/* where to start is known and has to be recorded first; maybe not ours */
	PARTITION_IDLE,				/* ours, position known, to be read from there as soon as may be */
	PARTITION_READING,
	PARTITION_BROKEN			/* an error came: read again from its position at retry_at */
} PartitionState;

typedef struct ConsumerPartition
{
	int32		number;
	PartitionState state;
	bool		started;		/* librdkafka fetches it */
	bool		check;			/* the record before position comes first, to be compared */
	bool		unchecked;		/* that record is not there any more */
	bool		out_of_range;	/* BROKEN: Kafka has nothing at this position */
	int			attempts;		/* tries since something last came of it */
	TimestampTz retry_at;

	int64		committed;		/* next_offset as the table has it */
	int64		position;		/* the next offset to take: after the batch in hand */
	int64		end;			/* as far as Kafka is known to hold it; -1 unknown */
	int64		target;			/* wait_for_source: where the answer lies */
	TimestampTz last_timestamp; /* of the record before committed; both 0 when unknown */
	int64		last_hash;

	/* the batch in hand */
	int64		taken;
	rd_kafka_message_t *last;
	int64		gap_from,		/* to_offset 0: no gap */
				gap_to;
	SourceOffset *row;			/* of the transaction under way */
} ConsumerPartition;

/* all in `context`, a child of TopMemoryContext */
struct Consumer
{
	MemoryContext context;
	WorkerSlot *slot;
	KafkaClient client;
	rd_kafka_topic_t *topic;
	rd_kafka_queue_t *queue;	/* all partitions feed it */
	int			wake[2];		/* a pipe: librdkafka writes when the queue fills */

	char	   *source;
	char	   *topic_name;
	char	   *start_at;
	int32	   *only;			/* NULL: all partitions */
	int			n_only;
	int			worker_no,
				n_workers;

	ConsumerPartition *partitions;	/* by number */
	int			n_partitions;
	bool		any_row;		/* the source has offsets */
	bool		news;
	bool		stopped;		/* needs a person */

	/* the batch in hand */
	rd_kafka_message_t **messages;
	int			n_messages,
				room;
	size_t		bytes;
	size_t		bytes_since_nudge;
	TimestampTz handed_out_at,
				committed_at;
	int64		last_effort;	/* microseconds the caller took for its last batch */

	/* what we know of the broker */
	WorkerState state;
	char		detail[WORKER_TEXT_LENGTH];
	bool		reachable;		/* the last look was answered */
	bool		reached_once;
	bool		seen_missing;	/* the topic was not there when we first looked */
	int			attempts;
	int			patience_ms;
	TimestampTz next_look,
				next_events,
				next_ends,
				next_nudge;
	uint64		question;		/* wait_for_source: the `asked` being answered; 0 none */
	bool		targets_known;
	bool		compared;		/* positions with the table's, since the question was heard */
};

/* what Kafka takes for a time, to say the ends of a partition */
#define AT_BEGIN ((int64) -2)
#define AT_END ((int64) -1)

#define MS(n) ((int64) (n) * 1000)

/* consumer_state.c */
extern void consumer_set_state(Consumer *consumer, WorkerState state, const char *format,...) pg_attribute_printf(3, 4);
extern void consumer_set_running(Consumer *consumer);	/* if it is so */
extern void consumer_unreachable(Consumer *consumer, const char *otherwise);
extern void consumer_stop(Consumer *consumer, const ConsumerPartition *partition, const char *why);
extern int64 consumer_pause_for(int attempts);	/* microseconds */

/* consumer_topic.c */
extern void consumer_attend(Consumer *consumer);	/* all that is due besides taking messages */
extern TimestampTz consumer_next_attention(const Consumer *consumer);
extern bool consumer_owns(const ConsumerPartition *partition);
extern bool consumer_find_ends(Consumer *consumer, bool (*wanted) (const ConsumerPartition *));

/* consumer_read.c */
extern void consumer_start_what_is_due(Consumer *consumer);
extern void consumer_take_error(Consumer *consumer, ConsumerPartition *partition,
								const rd_kafka_message_t *message);
extern void consumer_check_last(Consumer *consumer, ConsumerPartition *partition,
								rd_kafka_message_t *message);
extern void consumer_nudge(Consumer *consumer);

/* consumer_lag.c */
extern bool consumer_is_behind(Consumer *consumer);
extern void consumer_tell_lag(Consumer *consumer);
extern void consumer_refresh_lag(Consumer *consumer);
extern void consumer_hear_question(Consumer *consumer);
extern void consumer_set_targets(Consumer *consumer);
extern void consumer_answer(Consumer *consumer);

/* consumer.c */
extern ConsumerPartition *consumer_partition(Consumer *consumer, int32 number);	/* NULL when not known */
extern void consumer_know_partitions(Consumer *consumer, int n);
extern void consumer_claim_all(Consumer *consumer);
extern void consumer_last_record(ConsumerPartition *partition, TimestampTz *timestamp, int64 *hash);

#endif							/* CLICKSTREAM_CONSUMER_INTERNAL_H */
