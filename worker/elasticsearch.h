/*
 * elasticsearch.h
 *		Requests to one Elasticsearch cluster, and what an answer means.
 */
#ifndef CLICKSTREAM_ELASTICSEARCH_H
#define CLICKSTREAM_ELASTICSEARCH_H

#include "postgres.h"

#include "nodes/pg_list.h"

typedef struct Elasticsearch Elasticsearch;

typedef struct ElasticsearchReply
{
	int			status;			/* of HTTP; 0: nobody answered, and text says why */
	const char *text;			/* ends in a zero byte; stands until the next request */
	size_t		length;
} ElasticsearchReply;

/* what an outcome asks of the one who sent */
typedef enum Verdict
{
	VERDICT_DONE,
	VERDICT_CONFLICT,			/* the index holds a newer version */
	VERDICT_WAIT,				/* the surroundings: nothing moves until they are mended */
	VERDICT_REFUSED,			/* the document's own fault */
	VERDICT_DOUBTFUL,			/* the document's own fault if its neighbours pass */
	VERDICT_TOO_LARGE
} Verdict;

/*
 * A client of the connection's options (as connection_options gives them), in the current memory
 * context; its sockets are closed when that context goes.  Throws when the options are of no use.
 */
extern Elasticsearch *elasticsearch_open(List *options);

/*
 * Another one for requests beside those of the first, over connections of the same pool: each moves the
 * others' requests, too.  It goes when the first one does.
 */
extern Elasticsearch *elasticsearch_beside(Elasticsearch *first);

/* how many requests with documents the connection asks for at a time */
extern int	elasticsearch_in_flight(const Elasticsearch *client);

/*
 * One request at a time (one that may be carried out twice: it may be sent to several hosts): started, pumped now and then, finished.  The body must stand until then.
 * A path begins with a slash.  Finishing waits, obeys interrupts, and never throws for what the
 * other side does.
 */
extern void elasticsearch_start(Elasticsearch *client, const char *method, const char *path,
								const char *body, size_t length);
extern bool elasticsearch_pump(Elasticsearch *client);	/* whether the reply is there */
extern bool elasticsearch_await(Elasticsearch *client, int ms);	/* the same, and waits so long */
extern void elasticsearch_finish(Elasticsearch *client, ElasticsearchReply *reply);

/* start and finish in one; body may be NULL; only a GET is carried out twice */
extern void elasticsearch_ask(Elasticsearch *client, const char *method, const char *path,
							  const char *body, ElasticsearchReply *reply);

/* the same where the answer is of no interest: NULL when it went well, or why not */
extern char *elasticsearch_command(Elasticsearch *client, const char *method, const char *path,
								   const char *body, bool missing_is_well);

/* The last request, or one try of it, was given up, and may yet be carried out. */
extern bool elasticsearch_may_come_late(const Elasticsearch *client);

/* The last answer was that we are nobody, or may not; or no connection came about that we trust. */
extern bool elasticsearch_refuses_us(const Elasticsearch *client);

/* "/" and the name, with what a URL cannot hold escaped */
extern char *elasticsearch_index_path(Elasticsearch *client, const char *index, const char *rest);

/* by status and error type, never by the text of a reason; type may be NULL */
extern Verdict elasticsearch_judge(int status, const char *type, bool is_delete);

/* a refusal, for people: "index_closed_exception: closed (HTTP 400)"; type and reason may be NULL */
extern char *elasticsearch_describe(int status, const char *type, const char *reason);

/*
 * The error of a reply that failed as a whole, for people: "index_closed_exception: closed (HTTP
 * 400)".  The type alone goes to *type when that is not NULL (NULL for none).
 */
extern char *elasticsearch_error(const ElasticsearchReply *reply, char **type);

#endif							/* CLICKSTREAM_ELASTICSEARCH_H */
