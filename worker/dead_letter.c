/*
 * dead_letter.c
 *		Records that cannot become rows are kept, whole and with the reason.
 *
 * Owns the way from a batch's faults to rows of clickstream.dead_letters, in the order of the
 * records.  Called by source_main.c and by replay.
 */
#include "postgres.h"

#include "catalog.h"
#include "dead_letter.h"

/* letters are made and saved by portions, for their headers take memory */
#define PORTION 1000

static int
compare_faults(const void *a, const void *b)
{
	return ((const RecordFault *) a)->record - ((const RecordFault *) b)->record;
}

static void
fill_letter(DeadLetter *letter, const Batch *batch, const RecordFault *fault)
{
	Record		record;

	batch_record(batch, fault->record, &record);
	letter->topic = record.topic;
	letter->partition = record.partition;
	letter->offset = record.offset;
	letter->timestamp = record_time(&record);
	letter->key = record.key;
	letter->key_length = record.key_length;
	letter->value = record.value;
	letter->value_length = record.value_length;
	letter->headers = record_headers(&record);
	letter->sqlstate = fault->fault.sqlstate;
	letter->error = fault->fault.message;
}

void
dead_letters_save(const char *source, const Batch *batch)
{
	DeadLetter *letters;

	if (batch->n_faults == 0)
		return;
	qsort(batch->faults, batch->n_faults, sizeof(RecordFault), compare_faults);
	letters = palloc(sizeof(DeadLetter) * Min(batch->n_faults, PORTION));
	for (int from = 0; from < batch->n_faults; from += PORTION)
	{
		int			n = Min(batch->n_faults - from, PORTION);

		for (int i = 0; i < n; i++)
			fill_letter(&letters[i], batch, &batch->faults[from + i]);
		catalog_dead_letters_insert(source, letters, n);
	}
}
