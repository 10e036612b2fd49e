/*
 * inquiry_elasticsearch.c
 *		The inquiry "elasticsearch": whether the cluster answers, and with which version.
 *
 * Request: {}.  Answer: {"version": "8.19.0"}.
 */
#include "postgres.h"

#include "inquiry_kinds.h"

InquiryResult
inquiry_elasticsearch(const Inquiry *inquiry, StringInfo answer)
{
	appendStringInfoString(answer, "Elasticsearch cannot be asked yet");
	return INQUIRY_UNREACHABLE;
}
