/*
 * batch.h
 *		Records that become rows together, in one transaction, and what became of each.
 *
 * Lives as long as its records are neither committed nor given up: when the transaction fails, the
 * same batch is tried again, and what is already known of a record is not found out twice.
 */
#ifndef CLICKSTREAM_BATCH_H
#define CLICKSTREAM_BATCH_H

#include "postgres.h"

#include "decode.h"
#include "record.h"

typedef enum RecordOutcome
{
	RECORD_PENDING,
	RECORD_ROW,
	RECORD_DEAD_LETTER,
	RECORD_SKIPPED
} RecordOutcome;

/* a record that cannot become a row, and why */
typedef struct RecordFault
{
	int			record;
	DecodeFault fault;
} RecordFault;

typedef struct Batch
{
	int			n;
	struct rd_kafka_message_s **messages;	/* the records, either as messages ... */
	const Record *records;		/* ... or as they are */
	uint8	   *outcome;		/* a RecordOutcome for each */
	const int32 *slots;			/* the partition of each, as the consumer numbers them; or NULL */

	/* the faults, in no order; they and their messages live in `memory` */
	MemoryContext memory;
	RecordFault *faults;
	int			n_faults;
	int			room_for_faults;
} Batch;

static inline void
batch_record(const Batch *batch, int i, Record *record)
{
	if (batch->messages != NULL)
		record_of_message(record, batch->messages[i]);
	else
		*record = batch->records[i];
}

/* how far ahead of the record at hand memory is asked for what will be needed */
#define BATCH_AHEAD 8

static inline void
batch_prefetch(const Batch *batch, int i)
{
	if (batch->messages != NULL && i + 2 * BATCH_AHEAD < batch->n)
		record_prefetch(batch->messages[i + 2 * BATCH_AHEAD], batch->messages[i + BATCH_AHEAD]);
}

extern void batch_add_fault(Batch *batch, int record, const DecodeFault *fault);

#endif							/* CLICKSTREAM_BATCH_H */
