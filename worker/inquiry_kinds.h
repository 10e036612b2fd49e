/*
 * inquiry_kinds.h
 *		What an inquiry worker can be asked: each kind is one function, listed in inquiry_main.c.
 *
 * A kind reads its question and writes its answer; it neither knows who asks nor how the answer
 * travels.  It ends early when inquiry_is_over() says so.
 */
#ifndef CLICKSTREAM_INQUIRY_KINDS_H
#define CLICKSTREAM_INQUIRY_KINDS_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "lib/stringinfo.h"
#include "nodes/pg_list.h"

#include "inquiry.h"

typedef struct Inquiry
{
	struct json_t *request;		/* jansson's */
	List	   *options;		/* of DefElem *, as connection_options gives them; holds secrets */
	Oid			role;			/* who asks */
	TimestampTz deadline;		/* DT_NOEND: as long as the backend waits */
} Inquiry;

/* appends the answer, or the reason why there is none, to `answer` */
typedef InquiryResult (*InquiryKind) (const Inquiry *inquiry, StringInfo answer);

extern InquiryResult inquiry_topic(const Inquiry *inquiry, StringInfo answer);
extern InquiryResult inquiry_elasticsearch(const Inquiry *inquiry, StringInfo answer);
extern InquiryResult inquiry_check_sink(const Inquiry *inquiry, StringInfo answer);
extern InquiryResult inquiry_replay_sink(const Inquiry *inquiry, StringInfo answer);
extern InquiryResult inquiry_preview(const Inquiry *inquiry, StringInfo answer);
extern InquiryResult inquiry_replay(const Inquiry *inquiry, StringInfo answer);

/* a number of the request, 0 when there is none of that name */
extern int64 inquiry_number(const Inquiry *inquiry, const char *name);

/* a list of whole numbers; NULL when the request has none of that name */
extern int64 *inquiry_numbers(const Inquiry *inquiry, const char *name, int *n);

/* milliseconds left, at most `most`; 0 when the time is up or nobody waits any more */
extern int	inquiry_time_left(const Inquiry *inquiry, int most);

#endif							/* CLICKSTREAM_INQUIRY_KINDS_H */
