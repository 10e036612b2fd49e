/*
 * elasticsearch_client.h
 *		What a client of Elasticsearch holds: for elasticsearch_open.c, which makes it, and elasticsearch.c,
 *		which uses it.
 */
#ifndef CLICKSTREAM_ELASTICSEARCH_CLIENT_H
#define CLICKSTREAM_ELASTICSEARCH_CLIENT_H

#include "postgres.h"

#include <curl/curl.h>

#include "lib/stringinfo.h"

#include "elasticsearch.h"

struct Elasticsearch
{
	List	   *urls;			/* of char *, without a slash at the end */
	int			current;		/* the one in use */
	int			left;			/* the one that answered before it, if that is still to be told; else -1 */
	StringInfoData path;		/* of the request under way */
	bool		repeatable;		/* it may reach two hosts and no harm is done */
	bool		may_come_late;	/* a try of it was given up that the host may have got */
	int			hosts_left;		/* that it has not been sent to */
	StringInfoData failures;	/* of the hosts that it was sent to, for people */
	MemoryContext context;		/* all of this */
	CURLM	   *multi;			/* one for all that work side by side; the first of them owns it */
	CURL	   *easy;
	struct curl_slist *headers; /* the first one's, too */
	struct curl_slist *headers_of_gzip; /* the same, and one that says so; NULL: bodies go as they are */
	StringInfoData compressed;	/* the body of the request under way */
	int			in_flight;		/* what bulks are to have at a time */
	struct Elasticsearch *first;	/* of those side by side; maybe this one */
	bool		refuses_us;		/* of the first: the last answer to any; see elasticsearch_refuses_us */
	bool		in_multi;		/* a request is under way */
	bool		ended;			/* its transfer is over, and nobody has looked at it yet */
	bool		finished;
	CURLcode	result;
	char		error[CURL_ERROR_SIZE];
	char	   *reply;			/* by malloc */
	size_t		length;
	size_t		size;
	MemoryContextCallback cleanup;
};

#endif							/* CLICKSTREAM_ELASTICSEARCH_CLIENT_H */
