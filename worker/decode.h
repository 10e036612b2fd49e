/*
 * decode.h
 *		A record becomes the values of a row, by a plan that is built once for a table.
 */
#ifndef CLICKSTREAM_DECODE_H
#define CLICKSTREAM_DECODE_H

#include "postgres.h"

#include "nodes/execnodes.h"
#include "utils/jsonb.h"
#include "utils/relcache.h"

#include "record.h"

typedef struct DecodePlan DecodePlan;

typedef enum DecodeOutcome
{
	DECODED_ROW,
	DECODED_DEAD_LETTER,		/* the fault says why */
	DECODED_SKIP,				/* a tombstone */
	DECODED_LATER				/* only an input function can tell: call again with may_throw */
} DecodeOutcome;

/* why a record cannot be a row; the message lives in the context given to decode_begin */
typedef struct DecodeFault
{
	int			sqlstate;
	char	   *message;
} DecodeFault;

/*
 * Needs a transaction.  `columns` as in clickstream.sources.  The plan lives in a context of its
 * own below the current one; after decode_plan_fits has become false, build another.
 */
extern DecodePlan *decode_plan_build(Relation target, Jsonb *columns);
extern bool decode_plan_fits(const DecodePlan *plan, Relation target, Jsonb *columns);

/*
 * Whether an error that looks like one of the surroundings, thrown in decode_record, is the record's: some input
 * functions say of a value what the parser says of a statement, "syntax error" or "does not exist", or give no
 * SQLSTATE of their own.
 * decode_error_taken ends that question.
 */
extern bool decode_owns_error(const DecodePlan *plan, int sqlstate);
extern void decode_error_taken(DecodePlan *plan);
extern void decode_plan_free(DecodePlan *plan);

/*
 * once in each transaction: prepares defaults in the executor state; messages of faults go to
 * `faults`
 */
extern void decode_begin(DecodePlan *plan, EState *estate, MemoryContext faults);

/*
 * Fills values and nulls, as many as the target has columns.  What is not by value lives in the
 * plan until decode_forget, or in the current memory context.  Without may_throw nothing that could
 * throw is called, but for defaults.
 */
extern DecodeOutcome decode_record(DecodePlan *plan, const Record *record, bool may_throw,
								   Datum *values, bool *nulls, DecodeFault *fault);

/* the values made since the last call are no longer needed */
extern void decode_forget(DecodePlan *plan);

#endif							/* CLICKSTREAM_DECODE_H */
