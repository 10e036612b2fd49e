/*
 * bulk.h
 *		What is waiting to be sent: by _id, newest wins; by size and time.
 */
#ifndef CLICKSTREAM_BULK_H
#define CLICKSTREAM_BULK_H

#include "postgres.h"

#include "access/xlogdefs.h"
#include "datatype/timestamp.h"
#include "lib/stringinfo.h"
#include "nodes/pg_list.h"

#include "elasticsearch.h"
#include "worker_slot.h"

typedef struct Bulk Bulk;

/* requests at a time, whatever is asked for */
#define MOST_IN_FLIGHT 16

/* a document that Elasticsearch refused for a fault of its own */
typedef struct Refusal
{
	char	   *id;
	XLogRecPtr	version;
	char	   *document;		/* NULL: a delete, or too much to keep */
	int			status;
	char	   *type;
	char	   *reason;
} Refusal;

typedef struct BulkOptions
{
	const char *alias;			/* requests demand that it is an alias */
	const char *pipeline;		/* documents go through it, or NULL */
	bool		create_only;	/* what is there stays; no versions are given */
	bool		many_indexes;	/* the alias leads to more than one */
	uint64		version_base;	/* what versions are above positions of the log */
	Size		bytes;			/* a request is sent when it has so many */
	int			in_flight;		/* requests at a time; 0 for one */
	WorkerSlot *slot;			/* counters, state and last error are shown there */
	WorkerState working_state;	/* the state while all is well */
	XLogRecPtr	told_until;		/* a process before this one may have sent changes up to here; 0: none */
	int			patience_ms;	/* how long bulk_settle waits for the surroundings before it gives up */
} BulkOptions;

/* In the current memory context. */
extern Bulk *bulk_open(Elasticsearch *client, const BulkOptions *options);

/*
 * A document is known by its address (document_address: "_id":"17").  Adds one: begin gives the buffer that it is appended to (one line of JSON), end closes it.
 * What was collected before under the same address is forgotten.  A version never goes back.
 */
extern StringInfo bulk_begin_index(Bulk *bulk, const char *address, int length, XLogRecPtr version);
extern void bulk_end_index(Bulk *bulk);
extern void bulk_delete(Bulk *bulk, const char *address, int length, XLogRecPtr version);

extern bool bulk_is_empty(const Bulk *bulk);	/* nothing is collected */
extern bool bulk_is_full(const Bulk *bulk);
extern TimestampTz bulk_since(const Bulk *bulk);	/* when the first of what is collected came */
extern bool bulk_in_flight(const Bulk *bulk);

/*
 * Whether settling the first request would not wait; drives the transfers of all.  The second form waits
 * so long for it.
 */
extern bool bulk_has_answer(Bulk *bulk);
extern bool bulk_await_answer(Bulk *bulk, int ms);

/* a request can be in flight beside those that are, and no document is in it that is in one of those */
extern bool bulk_may_send(Bulk *bulk);

/*
 * Sends what is collected, when bulk_may_send.  `covers`: all changes before this position are in this
 * request or were in one before.
 */
extern void bulk_send(Bulk *bulk, XLogRecPtr covers);

/*
 * Each waits until every document of a request is in the index or refused, sending again what has to be:
 * of all requests in flight, of the one sent first, of those that are in the way of the next.  False when
 * the surroundings stay broken for longer than the options' patience: what is not settled then stays in
 * flight, and settling can go on.
 */
extern bool bulk_settle(Bulk *bulk);
extern bool bulk_settle_first(Bulk *bulk);
extern bool bulk_make_room(Bulk *bulk);

/* everything before it is settled */
extern XLogRecPtr bulk_settled(const Bulk *bulk);

/* the refusals since the last call, NIL for none; stands until bulk_forget_refusals */
extern List *bulk_refusals(const Bulk *bulk);
extern void bulk_forget_refusals(Bulk *bulk);

/*
 * Why the index cannot be trusted, NULL for no reason: it holds a version that this log has not reached
 * yet, so another server, or this one before it was set back in time, wrote into it.
 */
extern const char *bulk_diverged(const Bulk *bulk);

/*
 * Documents, by their ids, that may yet arrive once more in a form that was replaced within its transaction, NIL
 * for none.  To be sent again under a later version, when all that is collected is sent, and before what
 * bulk_settled says is relied upon.  *too_many: there are more than these.
 */
extern List *bulk_doubtful(const Bulk *bulk, bool *too_many);
extern void bulk_forget_doubtful(Bulk *bulk);

/* a document that cannot be sent at all; NULL: nor kept */
extern void bulk_refuse(Bulk *bulk, const char *id, XLogRecPtr version, const char *document,
						const char *type, const char *reason);

#endif							/* CLICKSTREAM_BULK_H */
