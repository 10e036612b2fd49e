/*
 * visitors.h
 *		Who does what next: visits in the order of their time.
 */
#ifndef SIMULATOR_VISITORS_H
#define SIMULATOR_VISITORS_H

#include <stdint.h>

#include "options.h"
#include "scenario.h"

enum event_kind
{
	KIND_VIEW,
	KIND_CLICK,
	KIND_SEARCH,
	KIND_ADD_TO_CART,
	KIND_PURCHASE
};
#define EVENT_KINDS (KIND_PURCHASE + 1)

struct visit
{
	int64_t		second;			/* since 1970 */
	uint32_t	user;
	uint32_t	number;			/* of the category or product */
	enum event_kind kind;
	enum place	place;
	const char *page;			/* of a campaign, or NULL */
};

struct visitors;

extern struct visitors *visitors_create(const struct options *options);
extern void visitors_free(struct visitors *visitors);

/* the next visit; random is the state of the random numbers */
extern void visitors_next(struct visitors *visitors, uint64_t *random, struct visit *visit);

/* the time of that, in seconds since the start */
extern double visitors_time(const struct visitors *visitors);

#endif							/* SIMULATOR_VISITORS_H */
