#ifndef SIMULATOR_EVENTS_H
#define SIMULATOR_EVENTS_H

#include <stddef.h>
#include <stdint.h>

#include "options.h"
#include "zipf.h"

/* what a message is; each is exactly one of these */
enum event_class
{
	EVENT_PLAIN,
	EVENT_LATE,
	EVENT_MALFORMED,
	EVENT_DUPLICATE,
	EVENT_TOMBSTONE
};
#define EVENT_CLASSES (EVENT_TOMBSTONE + 1)

#define EVENT_MAX_PAYLOAD 256
#define EVENT_MAX_KEY 24
#define RECENT_EVENTS 1024		/* a power of two */

struct event
{
	enum event_class class;
	size_t		key_length;
	size_t		payload_length;
	char		key[EVENT_MAX_KEY];
	char		payload[EVENT_MAX_PAYLOAD];
};

struct generator
{
	uint64_t	random;			/* state of the random numbers */
	struct zipf users;
	struct zipf pages;
	uint32_t	below[EVENT_CLASSES];	/* cumulated shares of the classes, of 2^32 */
	uint32_t	late_by;

	int64_t		start;			/* seconds since 1970 */
	uint64_t	event_rate;
	uint64_t	sequence;		/* events made so far */
	int64_t		cached_second;	/* the time whose text is in cached_time */
	char		cached_time[21];

	struct event recent[RECENT_EVENTS]; /* good events that a duplicate may repeat */
	uint64_t	nrecent;
	struct event scratch;		/* malformed ones, duplicates and tombstones */
};

extern struct generator *generator_create(const struct options *options);
extern void generator_free(struct generator *generator);

/* the next event, valid until the following call; payload_length 0 is a tombstone */
extern const struct event *generator_next(struct generator *generator);

#endif							/* SIMULATOR_EVENTS_H */
