#ifndef SIMULATOR_EVENTS_H
#define SIMULATOR_EVENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "options.h"
#include "visitors.h"
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
#define EVENT_MAX_KEY 72
#define RECENT_EVENTS 1024		/* a power of two */

struct event
{
	enum event_class class;
	enum event_kind kind;		/* of what is or was meant to be a good one */
	size_t		key_length;
	size_t		payload_length;
	char		key[EVENT_MAX_KEY];
	char		payload[EVENT_MAX_PAYLOAD];
};

struct generator
{
	uint64_t	random;			/* state of the random numbers */
	struct visitors *visitors;	/* NULL: each event is drawn for itself, from these two */
	struct zipf users;
	struct zipf pages;
	enum key_choice key;
	uint32_t	below[EVENT_CLASSES];	/* cumulated shares of the classes, of 2^32 */
	uint32_t	late_by;

	int64_t		start;			/* seconds since 1970 */
	uint64_t	event_rate;
	uint64_t	sequence;		/* events made so far */
	int64_t		second;			/* of the last one */
	int64_t		cached_second;	/* the time whose text is in cached_time */
	char		cached_time[21];

	struct event recent[RECENT_EVENTS]; /* good events that a duplicate may repeat */
	uint64_t	nrecent;
	struct event scratch;		/* malformed ones, duplicates and tombstones */
};

/* whether it is the name of a kind: "view", "click" and so on; and whether of that one */
extern bool kind_is_known(const char *name, size_t length);
extern bool kind_is(enum event_kind kind, const char *name, size_t length);

extern struct generator *generator_create(const struct options *options);
extern void generator_free(struct generator *generator);

/* the next event, valid until the following call; payload_length 0 is a tombstone */
extern const struct event *generator_next(struct generator *generator);

/* the time of the next event, in seconds since the start */
extern double generator_time(const struct generator *generator);

#endif							/* SIMULATOR_EVENTS_H */
