/*
 * inquiry_segment.h
 *		How a backend and the inquiry worker it started lay out the memory they share.
 *
 * The segment is a table of contents: who asks and what, the options of the connection, and the
 * queue on which the one answer comes back.  An answer begins with one character, an InquiryReply.
 */
#ifndef CLICKSTREAM_INQUIRY_SEGMENT_H
#define CLICKSTREAM_INQUIRY_SEGMENT_H

#include "postgres.h"

#define INQUIRY_MAGIC UINT64CONST(0x636c69636b617368)
#define INQUIRY_QUEUE_SIZE ((Size) 65536)
#define INQUIRY_KIND_LENGTH 32

typedef enum InquiryKey
{
	INQUIRY_KEY_HEADER,
	INQUIRY_KEY_REQUEST,		/* JSON text, ends in a zero byte */
	INQUIRY_KEY_OPTIONS,		/* name and value in turn, each ends in a zero byte; holds secrets */
	INQUIRY_KEY_QUEUE,
	INQUIRY_N_KEYS
} InquiryKey;

typedef struct InquiryHeader
{
	char		kind[INQUIRY_KIND_LENGTH];
	int			timeout_ms;		/* -1: as long as the backend waits */
	Oid			database;
	Oid			role;			/* who asks */
	Size		options_length;
} InquiryHeader;

typedef enum InquiryReply
{
	INQUIRY_REPLY_ANSWER = 'A', /* JSON follows */
	INQUIRY_REPLY_REFUSED = 'R',	/* a reason follows */
	INQUIRY_REPLY_UNREACHABLE = 'U',	/* a reason follows */
	INQUIRY_REPLY_ERROR = 'E'	/* follow SQLSTATE, message, detail, hint, each ends in a zero byte */
} InquiryReply;

#endif							/* CLICKSTREAM_INQUIRY_SEGMENT_H */
