/*
 * scenario.h
 *		How the people of the simulation behave: read once, then only looked at.
 */
#ifndef SIMULATOR_SCENARIO_H
#define SIMULATOR_SCENARIO_H

#include <stdbool.h>
#include <stdint.h>

/* where a visitor is; from each place but the last, steps lead to others */
enum place
{
	PLACE_FRONT,
	PLACE_CATEGORY,
	PLACE_SEARCH,
	PLACE_PRODUCT,
	PLACE_ADD_TO_CART,
	PLACE_CART,
	PLACE_CHECKOUT,
	PLACE_PURCHASE,
	PLACE_CAMPAIGN,
	PLACE_ENTRY,				/* not yet there */
	PLACE_LEAVE					/* gone */
};
#define PLACES (PLACE_LEAVE + 1)

#define MAX_CAMPAIGNS 8
#define MAX_CAMPAIGN_PAGE 64

/* every day at that time, so many times the usual visitors; those beyond the usual enter by its page */
struct campaign
{
	char		page[MAX_CAMPAIGN_PAGE];
	uint32_t	from;			/* second of the day, UTC */
	uint32_t	seconds;
	double		times;
};

struct scenario
{
	bool		flat;			/* no people: each event is drawn for itself */
	double		hours[24];		/* of UTC, the mean is 1 */
	double		weekend;		/* Saturdays and Sundays, times that */
	double		bots;			/* share of the sessions */
	double		dwell;			/* mean seconds on a page */
	uint32_t	steps[PLACES][PLACES];	/* weights, from and to */
	double		clicks[PLACES]; /* how often a view is followed by a click on the same page */
	struct campaign campaigns[MAX_CAMPAIGNS];
	int			ncampaigns;
};

/*
 * "flat", "shop", "sale" or the name of a file.  False: why says what is wrong, with the line.
 */
extern bool scenario_load(struct scenario *scenario, const char *name, char *why, int size);

/* visitors at that second, of the mean; and the campaign that brings some of them, or NULL, with its share */
extern double scenario_rhythm(const struct scenario *scenario, int64_t second);
extern const struct campaign *scenario_campaign(const struct scenario *scenario, int64_t second, double *share);

#endif							/* SIMULATOR_SCENARIO_H */
