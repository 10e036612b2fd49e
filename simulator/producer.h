#ifndef SIMULATOR_PRODUCER_H
#define SIMULATOR_PRODUCER_H

#include <stdbool.h>
#include <stdint.h>

#include "events.h"
#include "options.h"

/* what the broker said about the messages handed to it */
struct deliveries
{
	uint64_t	sent;			/* acknowledged */
	uint64_t	sent_of[EVENT_CLASSES];
	uint64_t	bytes;			/* of acknowledged payloads and keys */
	uint64_t	failed;			/* given up */
	char		last_error[256];
};

struct producer;

/* each of these two says on stderr why it failed */
extern struct producer *producer_open(const struct options *options);
extern bool producer_prepare_topics(struct producer *producer, const struct options *options);

/* false: the queue is full, poll and try again */
extern bool producer_send(struct producer *producer, const struct event *event);
extern void producer_poll(struct producer *producer, int timeout_ms);
extern const struct deliveries *producer_deliveries(const struct producer *producer);

/* wait for all answers, at most that long; what is still open then has failed */
extern void producer_finish(struct producer *producer, double seconds);
extern void producer_close(struct producer *producer);

#endif							/* SIMULATOR_PRODUCER_H */
