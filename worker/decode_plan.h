/*
 * decode_plan.h
 *		What decode_plan.c builds, decode.c walks along and decode_value.c follows; for those three.
 */
#ifndef CLICKSTREAM_DECODE_PLAN_H
#define CLICKSTREAM_DECODE_PLAN_H

#include "postgres.h"

#include "fmgr.h"

#include "decode.h"
#include "json_text.h"

/* where a column takes its value from */
typedef enum ColumnSource
{
	FROM_FIELD,
	FROM_TOPIC,
	FROM_PARTITION,
	FROM_OFFSET,
	FROM_TIMESTAMP,
	FROM_KEY,
	FROM_HEADERS,
	FROM_VALUE,
	FROM_REST,
	FROM_DEFAULT				/* nothing in the record: default or, when generated, left to the writer */
} ColumnSource;

/* how a value is read: by hand where we can, else by the type's input function */
typedef enum ColumnInput
{
	INPUT_GENERAL,
	INPUT_TEXT,
	INPUT_BYTEA,				/* by hand only from the record's own bytes */
	INPUT_JSON,
	INPUT_JSONB,
	INPUT_INT2,
	INPUT_INT4,
	INPUT_INT8,
	INPUT_FLOAT8,
	INPUT_BOOL,
	INPUT_TIMESTAMPTZ,
	INPUT_TIMESTAMP,
	INPUT_DATE,
	INPUT_UUID
} ColumnInput;

typedef struct PlanColumn
{
	int			index;			/* in values[] */
	const char *name;
	ColumnSource from;
	int			field;			/* FROM_FIELD: in plan->found */
	ColumnInput input;
	int			text_limit;		/* INPUT_TEXT: bytes that surely fit, or -1 for any */
	int64		epoch;			/* units a second of a number that is a time, or 0 */
	bool		is_time;		/* of a date or time type, also below a domain */
	bool		has_times;		/* an array or range of those */
	bool		takes_array;	/* an array type, also below a domain */
	bool		takes_object;	/* a composite type, also below a domain */
	bool		takes_json;		/* json or jsonb, also below a domain */
	bool		takes_any_text; /* text or varchar, also below a domain: objects and arrays as they are written */

	Oid			type;
	int32		typmod;
	FmgrInfo	in_function;
	Oid			in_parameter;
	struct PopulateCall *populate;	/* made when an object or array first comes; see decode_nested.c */

	Expr	   *default_expr;	/* or NULL */
	ExprState  *default_state;	/* of this transaction, or NULL when it is a constant */
	bool		default_is_constant;
	Datum		default_value;
	bool		default_is_null;
} PlanColumn;

/* a key on some path: a level of the tree of all paths */
typedef struct PlanKey PlanKey;
struct PlanKey
{
	const char *name;
	uint32		length;
	int			field;			/* in plan->found, or -1 when only longer paths take something */
	uint64		seen;			/* the record in which it was last met */
	int			n_children;
	PlanKey   **children;
	uint32		mask;			/* of the hash table: its size less one */
	PlanKey   **table;
};

/* a field of the record at hand */
typedef struct FoundField
{
	uint64		record;			/* the record it is of: else it is missing */
	JsonValueText value;
} FoundField;

struct DecodePlan
{
	MemoryContext context;
	Oid			relid;
	TupleDesc	desc;			/* to tell whether the table changed */
	Jsonb	   *columns;

	int			natts;
	int			n_columns;
	PlanColumn *column;
	PlanKey    *root;
	int			n_fields;
	FoundField *found;
	uint64		record;			/* a number for each record, to know found fields from old ones */
	bool		wants_rest;
	const PlanColumn *reading;	/* the column whose input function runs; NULL none does */

	JsonIndexer *indexer;
	JsonText	json;
	MemoryContextCallback release;

	/* what strings and other values are made in: a block of the plan's, then blocks as needed */
	char	   *arena;
	size_t		arena_size;
	size_t		arena_used;
	MemoryContext overflow;

	ExprContext *econtext;		/* of this transaction: for defaults */
	MemoryContext faults;
};

/* decode_plan.c */
static inline uint32
plan_key_hash(const char *name, uint32 length)
{
	if (length == 0)
		return 0;
	return length * 7 + (unsigned char) name[0] * 31 + (unsigned char) name[length - 1] * 131 +
		(unsigned char) name[length / 2] * 17;
}

/* decode.c */
extern PlanKey *plan_child(const PlanKey *key, const char *name, uint32 length);

/* decode_value.c */
extern void *decode_alloc(DecodePlan *plan, size_t size);
extern DecodeOutcome decode_fault(DecodePlan *plan, DecodeFault *fault, int sqlstate,
								  const char *format,...) pg_attribute_printf(4, 5);
extern DecodeOutcome decode_value(DecodePlan *plan, PlanColumn *column, const JsonValueText *value,
								  bool may_throw,
								  Datum *datum, bool *is_null, DecodeFault *fault);
extern DecodeOutcome decode_time_of_record(DecodePlan *plan, PlanColumn *column, TimestampTz time,
										   bool may_throw,
										   Datum *datum, DecodeFault *fault);
extern DecodeOutcome decode_plain(DecodePlan *plan, PlanColumn *column, const char *text,
								  size_t length, bool may_throw,
								  Datum *datum, DecodeFault *fault);
extern Datum decode_call_input(DecodePlan *plan, PlanColumn *column, const char *text,
							   size_t length);
extern Datum decode_bytes(DecodePlan *plan, const char *bytes, size_t length);

/* decode_nested.c */
extern Datum decode_nested(DecodePlan *plan, PlanColumn *column, const JsonValueText *value,
						   bool *is_null);

/* decode_time.c */
extern bool decode_iso_time(const char *text, size_t length, ColumnInput input, Datum *datum);
extern bool decode_epoch(const char *text, size_t length, int64 units, int64 *microseconds);
extern const char *decode_refused_time(const char *text, size_t length);
extern const char *decode_refused_times(const char *text, size_t length);

#endif							/* CLICKSTREAM_DECODE_PLAN_H */
