/*
 * source_worker.h
 *		What a source worker knows, and what its files ask of each other.
 *
 * source_main.c has the loop and the pauses, source_now.c the source as it is at the moment,
 * source_batch.c the transaction of a batch.
 */
#ifndef CLICKSTREAM_SOURCE_WORKER_H
#define CLICKSTREAM_SOURCE_WORKER_H

#include "postgres.h"

#include "batch.h"
#include "catalog.h"
#include "consumer.h"
#include "decode.h"
#include "rollup_delta.h"
#include "worker.h"
#include "writer.h"

/* what a worker keeps; lives as long as the process */
typedef struct SourceWorker
{
	WorkerSlot *slot;
	MemoryContext memory;		/* with the worker */
	MemoryContext source_memory;	/* of `source`, replaced with it */
	MemoryContext batch_memory; /* with the batch */
	MemoryContext round_memory; /* with one round of the loop */
	Source	   *source;
	List	   *options;		/* of its connection */
	TimestampTz next_options;	/* when they are looked at again */
	Consumer   *consumer;
	DecodePlan *plan;
	RollupSet  *rollups;
	Oid			rollups_of;		/* the target they are of */

	Batch		batch;
	WriterCare	care;			/* that the last batches have needed */
	TimestampTz *missing;		/* times whose partitions the batch waits for */
	int		   *missing_records;	/* the records that have them */
	int			n_missing;
	MemoryContext default_memory;
	List	   *in_default;		/* of TimeRange *: the default partition holds rows of these, so it has them */
	TimestampTz default_until;	/* as of a while ago: asked again after this */
	TimestampTz held_until;		/* some partitions of the topic wait for one of the table */
	int			holds;			/* in a row */
	int64		n_messages;		/* that the source has read, as of the last transaction */
	TimestampTz reported_at,	/* when ps and pg_stat_activity were told */
				ahead_at,		/* when partitions were last made ahead */
				retired_at;		/* and old ones retired */
	int			ahead_failures, /* in a row */
				retire_failures;
	int			partition_tries;	/* how often the batch came back for partitions */
	int			failures;		/* in a row, of the surroundings */
	int			fetched_again;	/* at which of them the batch was fetched again */
	bool		waiting;		/* said so in state and log */
} SourceWorker;

/* how a round's transaction ended */
typedef enum RoundResult
{
	ROUND_COMMITTED,
	ROUND_REWIND,				/* the offsets in the table are others: seek_source */
	ROUND_PARTITIONS			/* rows wait for partitions */
} RoundResult;

/*
 * source_now.c: begins a transaction in which the source stands still: pause, alter, seek and drop
 * wait for its end.  Ends the process instead where this worker cannot go on with the source.
 */
extern void source_begin(SourceWorker *worker);

/* nothing moves, for a reason that a person can read */
extern void source_tell_waiting(SourceWorker *worker, const char *reason);

/*
 * Outside a transaction, after a failure: ends the process where the extension has been dropped, or the
 * owner, so that the table is another's now.
 */
extern void source_leave_if_obsolete(SourceWorker *worker);

/* in a transaction: the options of the connection as they are now */
extern List *source_options(SourceWorker *worker);

/* source_batch.c: the records that were fetched become the batch, unless they are it already */
extern void source_batch_take(SourceWorker *worker, rd_kafka_message_t **messages, const int32 *slots, int n);
extern void source_batch_forget(SourceWorker *worker);
extern void source_count_messages(SourceWorker *worker, List *offsets);

/* rows, dead letters, rollups and offsets of the batch in one transaction; throws with nothing moved */
extern RoundResult source_batch_run(SourceWorker *worker);

/*
 * source_partitions.c: makes the partitions that the batch misses.  Where one is not to be had in a
 * moment, its records are given back to the consumer for a while, and the batch goes on without them.
 */
extern void source_make_partitions(SourceWorker *worker);
extern bool source_default_takes(void *worker, TimestampTz time);
extern void source_forget_default(SourceWorker *worker);	/* if that was found out too long ago */

#endif							/* CLICKSTREAM_SOURCE_WORKER_H */
