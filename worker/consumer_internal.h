/*
 * consumer_internal.h
 *		What the files of the consumer share: consumer.c takes batches and calls the others, consumer_*.c.
 */
#ifndef CLICKSTREAM_CONSUMER_INTERNAL_H
#define CLICKSTREAM_CONSUMER_INTERNAL_H

#include "postgres.h"

#include "consumer.h"
#include "kafka_client.h"
#include "source_api.h"

typedef enum PartitionState
{
	PARTITION_FOREIGN,			/* another worker's, or none that the source reads */
	PARTITION_UNKNOWN,			/* without a row yet: worker 0 asks where to start, the others wait for its row */
	PARTITION_NEW,				/* where to start is known and has to be recorded first */
	PARTITION_IDLE,				/* ours, position known, to be read from there as soon as may be */
	PARTITION_READING,
	PARTITION_BROKEN			/* an error came: read again from its position at retry_at */
} PartitionState;

struct ConsumerPartition;

typedef struct ConsumerTopic
{
	char	   *name;
	rd_kafka_topic_t *handle;	/* its opaque pointer leads back here */
	struct ConsumerPartition **partitions;	/* by number */
	int			n_partitions;
	bool		there;			/* the last look found nothing amiss */
	bool		by_pattern;		/* no name of the source's: it may come and go */
	bool		stopped;		/* needs a person */
	char		amiss[WORKER_TEXT_LENGTH];	/* why it is not read on; empty for no reason */
} ConsumerTopic;

typedef struct ConsumerPartition
{
	ConsumerTopic *topic;
	int32		number;
	int32		slot;			/* its place among all of the consumer's */
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
	int64		low,			/* what the last fetch said of the log; neither ever goes back */
				high;
	int64		told;			/* to the consumer group, plus one; 0 unknown */
	int64		target;			/* wait_for_source: where the answer lies */
	TimestampTz last_timestamp; /* of the record before committed; both 0 when unknown */
	int64		last_hash;

	/* the batch in hand */
	int64		taken;
	rd_kafka_message_t *last;
	int64		gap_from,		/* to_offset 0: no gap */
				gap_to;
	SourceOffset *row;			/* of the transaction under way */
	int64		given_back;		/* from this offset on; scratch of consumer_give_back */
} ConsumerPartition;

/* the consumer group that is told how far we are; answers is NULL when none is */
typedef struct ConsumerGroup
{
	char	   *name;
	rd_kafka_queue_t *answers;
	bool		waiting;		/* for one */
	TimestampTz asked;			/* since then */
	bool		failing;
	int			pause_ms;
	TimestampTz next,
				again;			/* all is told again then */
} ConsumerGroup;

/* all in `context`, a child of TopMemoryContext */
struct Consumer
{
	MemoryContext context;
	WorkerSlot *slot;
	List	   *options;		/* the connection's */
	KafkaClient client;
	rd_kafka_queue_t *queue;	/* all partitions feed it */
	ConsumerGroup group;
	int			wake[2];		/* a pipe: librdkafka writes when the queue fills */

	/* how much is asked for at a time, and what came of it since a while */
	int			fetch_bytes;
	uint64		fetched_before,
				fetches_before;
	size_t		expanded_bytes;
	bool		wrong_size;		/* to be mended before more is taken */

	char	   *source;
	List	   *named;			/* as the source names them: names and patterns */
	TopicMatcher *matcher;
	char	   *start_at;
	int32	   *only;			/* NULL: all partitions */
	int			n_only;
	int			worker_no,
				n_workers;

	ConsumerTopic **topics;		/* all that the source means, and that were ever seen */
	int			n_topics;
	ConsumerPartition **partitions; /* of all of them, by slot */
	int			n_partitions;
	bool		any_row;		/* the source has offsets */
	bool		news;
	bool		doubtful;		/* what is read may be of a topic made anew: compare first */

	/* the batch in hand */
	rd_kafka_message_t **messages;
	int32	   *slots;			/* of each message's partition */
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
	bool		seen_missing;	/* no topic was there when we first looked */
	int			attempts;
	int			patience_ms;
	TimestampTz next_look,
				next_events,
				next_ends,
				next_rows,
				next_nudge;
	uint64		question;		/* wait_for_source: the `asked` being answered; 0 none */
	bool		targets_known;
	bool		compared;		/* positions with the table's, since the question was heard */
};

#define MS(n) ((int64) (n) * 1000)

/* consumer_state.c */
extern void consumer_set_state(Consumer *consumer, WorkerState state, const char *format,...) pg_attribute_printf(3, 4);
extern void consumer_set_running(Consumer *consumer);	/* if it is so */
extern void consumer_unreachable(Consumer *consumer, const char *otherwise);
extern void consumer_topic_amiss(Consumer *consumer, ConsumerTopic *topic, const char *what);
extern void consumer_stop(Consumer *consumer, ConsumerPartition *partition, const char *why);
extern int64 consumer_pause_for(int attempts);	/* microseconds */

/* consumer_topic.c */
extern void consumer_attend(Consumer *consumer);	/* all that is due besides taking messages */
extern TimestampTz consumer_next_attention(const Consumer *consumer);
extern bool consumer_owns(const ConsumerPartition *partition);
extern bool consumer_find_ends(Consumer *consumer, bool (*wanted) (const ConsumerPartition *));

/* consumer_fetch_size.c */
extern bool consumer_open_client(Consumer *consumer);
extern void consumer_close_client(Consumer *consumer);
extern bool consumer_size_is_wrong(Consumer *consumer);
extern void consumer_mend_size(Consumer *consumer); /* if it is; without a message in hand */

/* consumer_share.c */
extern void consumer_open_topic(Consumer *consumer, ConsumerTopic *topic);
extern ConsumerTopic *consumer_topic(Consumer *consumer, const char *name); /* NULL when not known */
extern ConsumerTopic *consumer_know_topic(Consumer *consumer, const char *name);
extern ConsumerPartition *consumer_partition(const ConsumerTopic *topic, int32 number);	/* NULL when not known */
extern void consumer_know_partitions(Consumer *consumer, ConsumerTopic *topic, int n);
extern bool consumer_has(const Consumer *consumer, PartitionState state);

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

/* consumer_group.c */
extern void consumer_group_open(Consumer *consumer, const Source *source);
extern void consumer_group_attend(Consumer *consumer, TimestampTz now);
extern void consumer_group_close(Consumer *consumer);
extern void consumer_group_forget(Consumer *consumer);	/* the handle is closed, and another one opened: */
extern void consumer_group_again(Consumer *consumer);

/* consumer.c */
extern void consumer_last_record(ConsumerPartition *partition, TimestampTz *timestamp, int64 *hash);
extern void consumer_drop_batch(Consumer *consumer);

#endif							/* CLICKSTREAM_CONSUMER_INTERNAL_H */
