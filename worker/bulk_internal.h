/*
 * bulk_internal.h
 *		What the parts of a bulk share: bulk.c (collecting), bulk_batch.c, bulk_send.c, bulk_reply.c.
 */
#ifndef CLICKSTREAM_BULK_INTERNAL_H
#define CLICKSTREAM_BULK_INTERNAL_H

#include "postgres.h"

#include "bulk.h"

typedef struct Entry
{
	uint32		hash;			/* of the id */
	int			id;				/* where it begins in ids */
	int			id_length;
	int			line;			/* where its lines begin in body */
	int			document;		/* where the document begins; 0 for a delete */
	int			length;			/* of its lines */
	XLogRecPtr	version;
	bool		is_delete;
	bool		dead;			/* replaced, or settled */
	bool		repeats;		/* it replaced one of the same transaction */
	bool		waits;			/* scratch: of the last reply, to be sent again */
} Entry;

typedef struct Batch
{
	StringInfoData body;
	StringInfoData ids;
	Entry	   *entries;
	int			n_entries;
	int			size;			/* room for entries */
	int			n_dead;
	int		   *buckets;		/* entry + 1 by hash, 0: free */
	int			n_buckets;		/* a power of two */
	TimestampTz since;
	XLogRecPtr	covers;

	/* while it is in flight */
	Elasticsearch *client;		/* sends it; NULL until it is needed */
	bool		requested;		/* a request is under way, or its answer is there */
	int			portion;		/* entries in that request, at most */
	int			request_first;	/* entries of that request: from here */
	int			request_end;	/* up to here */
	StringInfoData request;		/* its body, when it is not the batch's own */
} Batch;

/* see bulk_doubt.c */
typedef struct BulkDoubt
{
	XLogRecPtr	until;			/* a process before this one may have told changes up to here */
	XLogRecPtr	version;		/* of the transaction in question, 0 for none */
	struct bloom_filter *remembered;	/* its documents that may come late, or NULL */
	MemoryContext context;		/* of what is listed */
	List	   *listed;			/* of char *: ids */
	bool		too_many;
} BulkDoubt;

struct Bulk
{
	MemoryContext context;
	Elasticsearch *client;
	BulkOptions options;
	char	   *path;
	char	   *index_path;
	char	   *versions_path;
	char	   *pipeline_path;	/* or NULL */
	bool		pipeline_seen;	/* it was there at the last look */
	Batch		batches[MOST_IN_FLIGHT + 1];	/* a ring of as many as may be in flight, and one more */
	Batch	   *collecting;		/* the one behind those in flight */
	Batch	   *sent;			/* the first of those in flight, the next to be settled */
	int			n_in_flight;
	bool		split;			/* the last reply made the portion smaller */
	int			attempt;		/* failures in a row */
	TimestampTz failing_since;	/* 0: it is not */
	XLogRecPtr	settled;
	char	   *diverged;		/* or NULL */
	BulkDoubt	doubt;
	MemoryContext refusal_context;
	List	   *refusals;
	Size		refused_bytes;
};

/* ---- bulk_batch.c */

extern void batch_init(Batch *batch);
extern void batch_reset(Batch *batch);

/* an entry for the address, which replaces what there was; its lines are not there yet */
extern Entry *batch_add(Batch *batch, const char *address, int length, XLogRecPtr version);

/* the newest entry of an address, or NULL */
extern Entry *batch_find(const Batch *batch, const char *address, int length, uint32 hash);

/* entries that are neither replaced nor settled */
extern int	batch_living(const Batch *batch);

/* ---- bulk.c */

extern void bulk_keep_refusal(Bulk *bulk, const char *id, XLogRecPtr version, const char *document,
							  int length, int status, const char *type, const char *reason);

/* ---- bulk_doubt.c */

extern void bulk_doubt_open(Bulk *bulk);

/* The batch, which is not empty, is sent for the first time. */
extern void bulk_doubt_sent(Bulk *bulk, const Batch *batch);

/* Its request was given up, and may be carried out later. */
extern void bulk_doubt_late(Bulk *bulk, const Batch *batch);

/* ---- bulk_reply.c */

/* What the answer says of the documents in the first request in flight: NULL, or a failure of the surroundings. */
extern char *bulk_take_reply(Bulk *bulk, const ElasticsearchReply *reply);

#endif							/* CLICKSTREAM_BULK_INTERNAL_H */
