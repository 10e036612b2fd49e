/*
 * dead_letter.h
 *		Records that cannot become rows are kept, whole and with the reason.
 */
#ifndef CLICKSTREAM_DEAD_LETTER_H
#define CLICKSTREAM_DEAD_LETTER_H

#include "postgres.h"

#include "batch.h"
#include "catalog.h"
#include "worker_slot.h"

/* in the transaction of the batch's rows, once each record has its outcome */
extern void dead_letters_save(const char *source, const Batch *batch);

/* outside a transaction, now and then: those that dead_letter_retention keeps no longer */
extern void dead_letters_expire(WorkerSlot *slot, const Source *source);

#endif							/* CLICKSTREAM_DEAD_LETTER_H */
