/*
 * sink_dates.h
 *		The indexes of a date pattern, each made when the first document for it comes.
 */
#ifndef CLICKSTREAM_SINK_DATES_H
#define CLICKSTREAM_SINK_DATES_H

#include "postgres.h"

#include "catalog.h"
#include "document.h"
#include "elasticsearch.h"

typedef struct SinkDates SinkDates;

/* In the current memory context; `physical` is the index that bears the sink's mark, of a copy or not. */
extern SinkDates *sink_dates_open(Elasticsearch *client, const Sink *sink, const char *physical,
								  bool is_copy);

/* what has to come after names that the pattern makes: nothing, but for a copy */
extern char *sink_dates_suffix(const char *physical, bool is_copy);

/* whether it is known to be there */
extern bool sink_dates_has(SinkDates *dates, const char *name, int length);

/* NULL when it is there now, or why not */
extern char *sink_dates_make(SinkDates *dates, const DocumentPlan *plan, const char *name);

/* the same for a document's address; nothing to do where that names no date, or `dates` is NULL */
extern char *sink_dates_make_for(SinkDates *dates, const DocumentPlan *plan, const char *address, int length);

/* Takes in what is there: NULL, or why not.  *lost: one that was known is gone, or NULL. */
extern char *sink_dates_look(SinkDates *dates, char **lost);

/* clicks-2025.06.04-000002 as clicks-2025.06.04 */
extern char *sink_dates_name(const char *physical);

#endif							/* CLICKSTREAM_SINK_DATES_H */
