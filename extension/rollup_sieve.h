/*
 * rollup_sieve.h
 *		Which rows a table's rollups would refuse, before these rows are written.
 */
#ifndef CLICKSTREAM_ROLLUP_SIEVE_H
#define CLICKSTREAM_ROLLUP_SIEVE_H

#include "postgres.h"

#include "executor/tuptable.h"

#include "rollup_delta.h"

/* for one transaction, in the memory context that is current at the open */
typedef struct RollupSieve RollupSieve;

extern PGDLLEXPORT RollupSieve *rollup_sieve_open(RollupSet *set, TupleDesc desc);
extern PGDLLEXPORT int rollup_sieve_count(const RollupSieve *sieve);

/* told of a row whose key is too wide; the message is in the current memory context */
typedef void (*RollupSieveRefusal) (void *argument, int at, const char *message);

/*
 * Evaluates, for each of the rows from *at on, what one rollup computes of a row alone.  Throws at the first
 * that fails, with *at its index, naming the rollup; ends with *at == n.
 */
extern PGDLLEXPORT void rollup_sieve_rows(RollupSieve *sieve, int rollup, TupleTableSlot **rows,
										  int n, volatile int *at, RollupSieveRefusal refuse,
										  void *argument);

/* whether a row that failed so is surely refused; else the rollup has to be asked about that row */
extern PGDLLEXPORT bool rollup_sieve_is_sure(const RollupSieve *sieve, int rollup);

/* whether there is no more to a row than that; else the rollup has to be asked about those that passed */
extern PGDLLEXPORT bool rollup_sieve_is_complete(const RollupSieve *sieve, int rollup);

/* computes what the rollup makes of the rows, and throws it away; throws, naming the rollup, if it cannot */
extern PGDLLEXPORT void rollup_sieve_ask(RollupSieve *sieve, int rollup, TupleTableSlot **rows, int n);

#endif							/* CLICKSTREAM_ROLLUP_SIEVE_H */
