/*
 * consumer.h
 *		The source worker's side of Kafka: this worker's partitions, one batch at a time.
 *
 * One round of the caller:
 *
 *		n = consumer_fetch(consumer, &messages, &slots, …);
 *		if (n == 0 && !consumer_has_news(consumer))
 *			look at the source again (at most once a second comes here when idle), next round;
 *		worker_begin; lock (alone, if consumer_shares_out) and read the source; offsets = catalog_offsets(source);
 *		if (!consumer_agrees(consumer, offsets))		-- seek_source was called, or it is the first round
 *			worker_commit; consumer_rewind(consumer, offsets); next round;
 *		write rows and dead letters;
 *		consumer_offset(consumer, slots[i])->rows += …, dead_letters, skipped;
 *		offsets = consumer_record(consumer, source, offsets);
 *		catalog_offsets_save(source, offsets); worker_commit;
 *		consumer_committed(consumer);
 *
 * After a rollback nothing is to be done: the next consumer_fetch hands out the same batch again.
 */
#ifndef CLICKSTREAM_CONSUMER_H
#define CLICKSTREAM_CONSUMER_H

#include "postgres.h"

#include <librdkafka/rdkafka.h>

#include "nodes/pg_list.h"

#include "catalog.h"
#include "worker_slot.h"

typedef struct Consumer Consumer;

/*
 * Opens what the process keeps until it ends (once a process): nothing is waited for, an
 * unreachable broker is a state in the slot.  options as connection_options gives them, offsets as
 * catalog_offsets does; both are copied.  Ends with the process, by itself.  NULL when librdkafka
 * refuses the options: the slot says why.
 */
extern Consumer *consumer_open(WorkerSlot *slot, const Source *source, List *options, List *offsets);

/*
 * The next batch: all that has arrived, at most max_rows or a little over max_bytes.  Waits for the
 * first, and at most max_wait_ms more where there is more to come or the last commit was only just.
 * Returns 0 when the latch was set or after a second without a record.  The messages are the
 * consumer's, good until consumer_committed or consumer_rewind; each has a partition of this
 * worker, in order, and no error, and its partition's number among all of them is in slots.
 * States and errors are in the worker's slot already.
 */
extern int	consumer_fetch(Consumer *consumer, rd_kafka_message_t ***messages, const int32 **slots,
						   int max_rows, size_t max_bytes, int max_wait_ms);

/* there is something to record even without a message: new partitions, gaps, an end that moved */
extern bool consumer_has_news(const Consumer *consumer);

/* rows for new partitions come, which share them out anew: no other worker may be in a transaction */
extern bool consumer_shares_out(const Consumer *consumer);

/* whether the batch begins where the table says that this worker stands; ties offsets to the batch */
extern bool consumer_agrees(Consumer *consumer, List *offsets);

/* forgets the batch in hand and reads on from where the table says, checked to be the same topic still */
extern void consumer_rewind(Consumer *consumer, List *offsets);

/*
 * Outside a transaction: these records of the batch, and those after them in their partitions, cannot
 * go in yet.  Their partitions go back to the first of them, and are read again from there after a
 * pause; the batch goes on without them, which the next consumer_fetch hands out.
 */
extern void consumer_give_back(Consumer *consumer, const int *records, int n, int pause_ms);

/* in the transaction, after consumer_agrees: the row of offsets that counts the records of this slot */
extern SourceOffset *consumer_offset(Consumer *consumer, int32 slot);

/*
 * In the transaction: gaps go into the catalog; next_offset, messages, last_timestamp and last_hash
 * of the offsets move over the batch; rows for new partitions are appended.  Rows, dead letters and
 * skips are the caller's to count.  Returns the list for catalog_offsets_save.
 */
extern List *consumer_record(Consumer *consumer, const char *source, List *offsets);

/* after the commit: the messages are released, lag and wait_for_source are told */
extern void consumer_committed(Consumer *consumer);

/* the state as far as Kafka is concerned into the slot, where the caller had put another */
extern void consumer_tell_state(const Consumer *consumer);

#endif							/* CLICKSTREAM_CONSUMER_H */
