/*
 * topk.c
 *		The aggregate clickstream.topk(value, k): the k most frequent values, in bounded memory.
 *
 * A Misra-Gries sketch with merging (Agarwal et al., "Mergeable summaries", 2012).  It keeps counters for at
 * least m = max(10 k, 100) values.  When there are twice as many, the (m + 1)th largest count is taken from
 * all of them, and those that have nothing left are forgotten.  What was taken so far is the sketch's
 * error: each value occurred at least as often as its counter says, and at most that much more; a value
 * without a counter occurred at most so often.  Each unit of it was taken from m + 1 counters at least, so it
 * is never more than (number of values) / (m + 1); two sketches are merged by adding counters and
 * errors, which keeps that.  While there are no more than m distinct values the result is exact.
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "libpq/pqformat.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"

#include "portable.h"

#define MOST_WANTED 1000

PG_FUNCTION_INFO_V1(clickstream_topk_step);
PG_FUNCTION_INFO_V1(clickstream_topk_combine);
PG_FUNCTION_INFO_V1(clickstream_topk_serial);
PG_FUNCTION_INFO_V1(clickstream_topk_deserial);
PG_FUNCTION_INFO_V1(clickstream_topk_end);

typedef struct Counter
{
	Datum		value;
	int64		count;
	uint32		hash;
	char		status;
} Counter;

typedef struct Sketch Sketch;

static uint32 hash_of(const Sketch *sketch, Datum value);
static bool is_same(const Sketch *sketch, Datum a, Datum b);

#define SH_PREFIX counters
#define SH_ELEMENT_TYPE Counter
#define SH_KEY_TYPE Datum
#define SH_KEY value
#define SH_HASH_KEY(table, key) hash_of((table)->private_data, key)
#define SH_EQUAL(table, a, b) is_same((table)->private_data, a, b)
#define SH_STORE_HASH
#define SH_GET_HASH(table, element) (element)->hash
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

/* a state; lives in the aggregate's memory */
struct Sketch
{
	Oid			type;
	Oid			collation;
	PortableType *portable;		/* of the call that is at work; not part of the state */
	int			k;
	int64		error;
	counters_hash *counters;
};

static uint32
hash_of(const Sketch *sketch, Datum value)
{
	return DatumGetUInt32(FunctionCall1Coll(sketch->portable->hash, sketch->collation, value));
}

static bool
is_same(const Sketch *sketch, Datum a, Datum b)
{
	return DatumGetBool(FunctionCall2Coll(sketch->portable->equal, sketch->collation, a, b));
}

/* ---------------------------------------------------------------- the sketch */

static int
capacity(const Sketch *sketch)
{
	return Max(10 * sketch->k, 100);
}

static Sketch *
make_sketch(Oid type, Oid collation, int k, MemoryContext context)
{
	Sketch	   *sketch = MemoryContextAllocZero(context, sizeof(Sketch));

	sketch->type = type;
	sketch->collation = collation;
	sketch->k = k;
	sketch->counters = counters_create(context, 16, sketch);
	return sketch;
}

static int
compare_counts(const void *a, const void *b)
{
	int64		left = *(const int64 *) a;
	int64		right = *(const int64 *) b;

	return (left < right) - (left > right);
}

/* the (m + 1)th largest count; there are more than m */
static int64
count_to_take(const Sketch *sketch)
{
	int64	   *counts = palloc(sizeof(int64) * sketch->counters->members);
	counters_iterator iterator;
	Counter    *counter;
	int			n = 0;
	int64		taken;

	counters_start_iterate(sketch->counters, &iterator);
	while ((counter = counters_iterate(sketch->counters, &iterator)) != NULL)
		counts[n++] = counter->count;
	qsort(counts, n, sizeof(int64), compare_counts);
	taken = counts[capacity(sketch)];
	pfree(counts);
	return taken;
}

/* Brings the sketch down to m counters. */
static void
compress(Sketch *sketch)
{
	counters_hash *old = sketch->counters;
	counters_iterator iterator;
	Counter    *counter;
	int64		taken;

	if (old->members <= capacity(sketch))
		return;
	taken = count_to_take(sketch);
	sketch->counters = counters_create(old->ctx, capacity(sketch), sketch);
	counters_start_iterate(old, &iterator);
	while ((counter = counters_iterate(old, &iterator)) != NULL)
	{
		bool		found;

		if (counter->count > taken)
			counters_insert_hash(sketch->counters, counter->value, counter->hash, &found)->count =
				counter->count - taken;
		else
			portable_free(sketch->portable, counter->value);
	}
	counters_destroy(old);
	sketch->error += taken;
}

/* Of equal values that are written in different ways, 1.0 and 1.00, the same one stays in any order. */
static void
keep_least(Sketch *sketch, Counter *counter, Datum value)
{
	PortableType *type = sketch->portable;
	MemoryContext caller;
	Datum		old = counter->value;

	if (type->by_value || datum_image_eq(old, value, false, type->length) ||
		portable_compare(type, sketch->collation, old, value) <= 0)
		return;
	caller = MemoryContextSwitchTo(sketch->counters->ctx);
	counter->value = portable_copy(type, value);
	MemoryContextSwitchTo(caller);
	portable_free(type, old);
}

static void
count(Sketch *sketch, Datum value, int64 times)
{
	bool		found;
	Counter    *counter = counters_insert(sketch->counters, value, &found);

	if (found)
	{
		counter->count += times;
		keep_least(sketch, counter, value);
		return;
	}
	else
	{
		MemoryContext caller = MemoryContextSwitchTo(sketch->counters->ctx);

		counter->count = times;
		counter->value = portable_copy(sketch->portable, value);
		MemoryContextSwitchTo(caller);
	}
	if (sketch->counters->members >= 2 * capacity(sketch))
		compress(sketch);
}

/* ---------------------------------------------------------------- what the functions share */

static MemoryContext
aggregate_context(FunctionCallInfo fcinfo)
{
	MemoryContext context;

	if (!AggCheckCallContext(fcinfo, &context))
		elog(ERROR, "a function of clickstream.topk was called outside an aggregate");
	return context;
}

static PortableType *
type_of(FunctionCallInfo fcinfo, Oid oid)
{
	PortableType *type = fcinfo->flinfo->fn_extra;
	MemoryContext caller;

	if (type != NULL)
		return type;
	if (!OidIsValid(oid))
		elog(ERROR, "could not determine the type of clickstream.topk");
	caller = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);
	type = palloc(sizeof(PortableType));
	portable_set_up(type, oid);
	MemoryContextSwitchTo(caller);
	if (type->hash == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("clickstream.topk cannot tell values of type %s apart", format_type_be(oid)),
				 errhint("Count a cast of it, for example to text.")));
	fcinfo->flinfo->fn_extra = type;
	return type;
}

static int
wanted_number(FunctionCallInfo fcinfo, int argument)
{
	if (PG_ARGISNULL(argument) || PG_GETARG_INT32(argument) < 1 ||
		PG_GETARG_INT32(argument) > MOST_WANTED)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the number of values that clickstream.topk keeps must be from 1 to %d", MOST_WANTED),
				 errhint("SELECT clickstream.topk(page, 10) FROM ….")));
	return PG_GETARG_INT32(argument);
}

static void
require_same_number(const Sketch *sketch, int k)
{
	if (sketch->k != k)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("clickstream.topk was asked for %d values of a group, and for %d", sketch->k, k),
				 errhint("Give a constant.")));
}

/* ---------------------------------------------------------------- the aggregate's functions */

/* (state internal, value, k int) */
Datum
clickstream_topk_step(PG_FUNCTION_ARGS)
{
	MemoryContext context = aggregate_context(fcinfo);
	Sketch	   *sketch = PG_ARGISNULL(0) ? NULL : (Sketch *) PG_GETARG_POINTER(0);
	int			k = wanted_number(fcinfo, 2);
	Oid			type = get_fn_expr_argtype(fcinfo->flinfo, 1);

	if (!PG_ARGISNULL(1))
	{
		if (sketch == NULL)
			sketch = make_sketch(type, PG_GET_COLLATION(), k, context);
		require_same_number(sketch, k);
		sketch->portable = type_of(fcinfo, type);
		count(sketch, PG_GETARG_DATUM(1), 1);
	}
	if (sketch == NULL)
		PG_RETURN_NULL();
	PG_RETURN_POINTER(sketch);
}

static void
merge(Sketch *sketch, const Sketch *other)
{
	counters_iterator iterator;
	Counter    *counter;

	sketch->error += other->error;
	counters_start_iterate(other->counters, &iterator);
	while ((counter = counters_iterate(other->counters, &iterator)) != NULL)
		count(sketch, counter->value, counter->count);
}

/* The state that others are added to; one just read back knows no collation, and is made anew with it. */
static Sketch *
to_be_added_to(Sketch *sketch, const Sketch *other, Oid collation, MemoryContext context)
{
	Sketch	   *fresh;

	if (sketch != NULL)
		sketch->portable = other->portable;
	if (sketch != NULL && sketch->collation == collation)
		return sketch;
	fresh = make_sketch(other->type, collation, other->k, context);
	fresh->portable = other->portable;
	if (sketch != NULL)
	{
		require_same_number(sketch, other->k);
		merge(fresh, sketch);
	}
	return fresh;
}

Datum
clickstream_topk_combine(PG_FUNCTION_ARGS)
{
	MemoryContext context = aggregate_context(fcinfo);
	Sketch	   *sketch = PG_ARGISNULL(0) ? NULL : (Sketch *) PG_GETARG_POINTER(0);

	if (!PG_ARGISNULL(1))
	{
		Sketch	   *other = (Sketch *) PG_GETARG_POINTER(1);

		other->portable = type_of(fcinfo, other->type);
		sketch = to_be_added_to(sketch, other, PG_GET_COLLATION(), context);
		require_same_number(sketch, other->k);
		merge(sketch, other);
	}
	if (sketch == NULL)
		PG_RETURN_NULL();
	PG_RETURN_POINTER(sketch);
}

/* the counters, the largest first, those of the same count in the order of their values */
typedef struct Ranking
{
	const Sketch *sketch;
	Counter   **counters;
	int			n;
} Ranking;

static int
compare_ranks(const void *a, const void *b, void *context)
{
	const Counter *left = *(Counter *const *) a;
	const Counter *right = *(Counter *const *) b;
	const Sketch *sketch = context;

	if (left->count != right->count)
		return left->count > right->count ? -1 : 1;
	return portable_compare(sketch->portable, sketch->collation, left->value, right->value);
}

static Ranking
rank(const Sketch *sketch)
{
	Ranking		ranking = {sketch, palloc(sizeof(Counter *) * (sketch->counters->members + 1)), 0};
	counters_iterator iterator;
	Counter    *counter;

	counters_start_iterate(sketch->counters, &iterator);
	while ((counter = counters_iterate(sketch->counters, &iterator)) != NULL)
		ranking.counters[ranking.n++] = counter;
	qsort_arg(ranking.counters, ranking.n, sizeof(Counter *), compare_ranks, (void *) sketch);
	return ranking;
}

Datum
clickstream_topk_serial(PG_FUNCTION_ARGS)
{
	Sketch	   *sketch = (Sketch *) PG_GETARG_POINTER(0);
	StringInfoData bytes;
	Ranking		ranking;
	int			i;

	sketch->portable = type_of(fcinfo, sketch->type);
	compress(sketch);
	ranking = rank(sketch);
	pq_begintypsend(&bytes);
	portable_send_type(&bytes, sketch->type);
	pq_sendint32(&bytes, sketch->k);
	pq_sendint64(&bytes, sketch->error);
	pq_sendint32(&bytes, ranking.n);
	for (i = 0; i < ranking.n; i++)
	{
		pq_sendint64(&bytes, ranking.counters[i]->count);
		portable_send(&bytes, sketch->portable, ranking.counters[i]->value);
	}
	PG_RETURN_BYTEA_P(pq_endtypsend(&bytes));
}

static void
receive_counters(Sketch *sketch, StringInfo bytes)
{
	int			n = pq_getmsgint(bytes, 4);

	while (n-- > 0)
	{
		int64		times = pq_getmsgint64(bytes);

		count(sketch, portable_receive(bytes, sketch->portable), times);
	}
	pq_getmsgend(bytes);
}

/* Whoever keeps states says after the two arguments which types the aggregate has. */
Datum
clickstream_topk_deserial(PG_FUNCTION_ARGS)
{
	MemoryContext context = aggregate_context(fcinfo);
	MemoryContext caller = MemoryContextSwitchTo(context);
	StringInfoData bytes;
	Sketch	   *sketch;
	Oid			type;
	int			k;

	portable_open(&bytes, PG_GETARG_DATUM(0));
	type = portable_receive_type(&bytes, get_fn_expr_argtype(fcinfo->flinfo, 2));
	k = pq_getmsgint(&bytes, 4);
	if (k < 1 || k > MOST_WANTED)
		elog(ERROR, "invalid state of clickstream.topk");
	sketch = make_sketch(type, type_is_collatable(type) ? C_COLLATION_OID : InvalidOid, k, context);
	sketch->portable = type_of(fcinfo, type);
	sketch->error = pq_getmsgint64(&bytes);
	receive_counters(sketch, &bytes);
	MemoryContextSwitchTo(caller);
	PG_RETURN_POINTER(sketch);
}

/* ---------------------------------------------------------------- the result */

/* a function that takes values of a type that only now is known */
static void
set_up_to_jsonb(FmgrInfo *function, Oid type)
{
	Param	   *value = makeNode(Param);

	value->paramkind = PARAM_EXEC;
	value->paramid = -1;
	value->paramtype = type;
	value->paramtypmod = -1;
	fmgr_info(F_TO_JSONB, function);
	fmgr_info_set_expr((Node *) makeFuncExpr(F_TO_JSONB, JSONBOID, list_make1(value), InvalidOid,
											 InvalidOid, COERCE_EXPLICIT_CALL), function);
}

static void
push_key(JsonbParseState **state, const char *key)
{
	JsonbValue	value;

	value.type = jbvString;
	value.val.string.val = (char *) key;
	value.val.string.len = strlen(key);
	pushJsonbValue(state, WJB_KEY, &value);
}

static void
push_number(JsonbParseState **state, const char *key, int64 number)
{
	JsonbValue	value;

	push_key(state, key);
	value.type = jbvNumeric;
	value.val.numeric = DatumGetNumeric(DirectFunctionCall1(int8_numeric, Int64GetDatum(number)));
	pushJsonbValue(state, WJB_VALUE, &value);
}

static void
push_value(JsonbParseState **state, const char *key, Jsonb *document)
{
	JsonbValue	value;

	push_key(state, key);
	value.type = jbvBinary;
	value.val.binary.data = &document->root;
	value.val.binary.len = VARSIZE_ANY_EXHDR(document);
	pushJsonbValue(state, WJB_VALUE, &value);
}

/* [{"value": …, "count": …, "error": …}, …] */
Datum
clickstream_topk_end(PG_FUNCTION_ARGS)
{
	Sketch	   *sketch = PG_ARGISNULL(0) ? NULL : (Sketch *) PG_GETARG_POINTER(0);
	JsonbParseState *state = NULL;
	FmgrInfo	to_jsonb;
	Ranking		ranking;
	int			i;

	if (sketch == NULL)
		PG_RETURN_NULL();
	sketch->portable = type_of(fcinfo, sketch->type);
	sketch->collation = PG_GET_COLLATION();
	set_up_to_jsonb(&to_jsonb, sketch->type);
	ranking = rank(sketch);
	pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	for (i = 0; i < Min(ranking.n, sketch->k); i++)
	{
		pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
		push_value(&state, "value", DatumGetJsonbP(FunctionCall1(&to_jsonb, ranking.counters[i]->value)));
		push_number(&state, "count", ranking.counters[i]->count);
		push_number(&state, "error", sketch->error);
		pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	}
	PG_RETURN_JSONB_P(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_ARRAY, NULL)));
}
