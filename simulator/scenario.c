/*
 * scenario.c
 *		Reads how people behave, from a scenario built in or from a file.
 *
 * Owns the language of scenario files and the scenarios that need no file. A file begins with the
 * shop that is built in and changes what its lines name:
 *
 *		hours W0 W1 ... W23			how busy each hour of UTC is, against the others
 *		weekend TIMES				Saturdays and Sundays, of a weekday
 *		bots SHARE					of all sessions
 *		dwell SECONDS				on a page, in the mean
 *		step FROM TO WEIGHT			how often FROM leads TO, against the other steps from there
 *		click PLACE SHARE			of its views, followed by a click on the same page
 *		campaign PAGE HH:MM MINUTES TIMES
 *
 * Places: entry front category search product add_to_cart cart checkout purchase campaign leave.
 * What stands behind a # is a comment. Called by options.c and visitors.c.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scenario.h"

#define MAX_LINE 512
#define MAX_WORDS 32

static const char *const place_names[PLACES] = {
	[PLACE_FRONT] = "front",
	[PLACE_CATEGORY] = "category",
	[PLACE_SEARCH] = "search",
	[PLACE_PRODUCT] = "product",
	[PLACE_ADD_TO_CART] = "add_to_cart",
	[PLACE_CART] = "cart",
	[PLACE_CHECKOUT] = "checkout",
	[PLACE_PURCHASE] = "purchase",
	[PLACE_CAMPAIGN] = "campaign",
	[PLACE_ENTRY] = "entry",
	[PLACE_LEAVE] = "leave",
};

/* an ordinary shop on an ordinary day */
static const struct scenario shop = {
	.hours = {24, 16, 11, 9, 9, 13, 25, 45, 62, 72, 78, 82,
	88, 84, 80, 78, 82, 92, 108, 128, 138, 122, 84, 46},
	.weekend = 1.2,
	.bots = 0.002,
	.dwell = 25,
	.steps = {
		[PLACE_ENTRY] = {[PLACE_FRONT] = 40, [PLACE_PRODUCT] = 30, [PLACE_CATEGORY] = 15, [PLACE_SEARCH] = 15},
		[PLACE_FRONT] = {[PLACE_CATEGORY] = 30, [PLACE_SEARCH] = 25, [PLACE_PRODUCT] = 25, [PLACE_LEAVE] = 20},
		[PLACE_CATEGORY] = {[PLACE_PRODUCT] = 60, [PLACE_CATEGORY] = 10, [PLACE_SEARCH] = 10, [PLACE_FRONT] = 5,
		[PLACE_LEAVE] = 15},
		[PLACE_SEARCH] = {[PLACE_PRODUCT] = 65, [PLACE_SEARCH] = 15, [PLACE_LEAVE] = 20},
		[PLACE_PRODUCT] = {[PLACE_PRODUCT] = 25, [PLACE_ADD_TO_CART] = 18, [PLACE_CATEGORY] = 12,
		[PLACE_SEARCH] = 12, [PLACE_FRONT] = 5, [PLACE_LEAVE] = 28},
		[PLACE_ADD_TO_CART] = {[PLACE_CART] = 45, [PLACE_PRODUCT] = 30, [PLACE_SEARCH] = 10, [PLACE_LEAVE] = 15},
		[PLACE_CART] = {[PLACE_CHECKOUT] = 60, [PLACE_PRODUCT] = 20, [PLACE_LEAVE] = 20},
		[PLACE_CHECKOUT] = {[PLACE_PURCHASE] = 75, [PLACE_LEAVE] = 25},
		[PLACE_PURCHASE] = {[PLACE_LEAVE] = 80, [PLACE_FRONT] = 20},
		[PLACE_CAMPAIGN] = {[PLACE_PRODUCT] = 55, [PLACE_CATEGORY] = 15, [PLACE_LEAVE] = 30},
	},
	.clicks = {[PLACE_FRONT] = 0.6, [PLACE_CATEGORY] = 0.7, [PLACE_SEARCH] = 0.3, [PLACE_PRODUCT] = 0.6,
	[PLACE_CART] = 0.4, [PLACE_CHECKOUT] = 0.3, [PLACE_CAMPAIGN] = 0.6},
	.campaigns = {{"/campaign/lunch-deals", 12 * 3600, 30 * 60, 1.5}},
	.ncampaigns = 1,
};

/* the same shop on the evening of a sale */
static const struct campaign sale = {"/campaign/summer-sale", 19 * 3600, 60 * 60, 5};

/* ---------------------------------------------------------------- a line of a file */

static int
find_place(const char *name)
{
	for (int place = 0; place < PLACES; place++)
		if (strcmp(place_names[place], name) == 0)
			return place;
	return -1;
}

static bool
read_number(const char *word, double least, double most, double *value)
{
	char	   *end;

	*value = strtod(word, &end);
	return end != word && *end == '\0' && *value >= least && *value <= most;
}

static const char *
take_hours(struct scenario *scenario, char **words)
{
	for (int hour = 0; hour < 24; hour++)
		if (!read_number(words[hour], 0, 1e6, &scenario->hours[hour]))
			return "an hour is a number from 0 to 1000000";
	return NULL;
}

static const char *
take_weekend(struct scenario *scenario, char **words)
{
	return read_number(words[0], 0, 1000, &scenario->weekend) ? NULL : "weekend is a number from 0 to 1000";
}

static const char *
take_bots(struct scenario *scenario, char **words)
{
	return read_number(words[0], 0, 1, &scenario->bots) ? NULL : "bots are a share from 0 to 1";
}

static const char *
take_dwell(struct scenario *scenario, char **words)
{
	return read_number(words[0], 1, 600, &scenario->dwell) ? NULL : "dwell is 1 to 600 seconds";
}

static const char *
take_step(struct scenario *scenario, char **words)
{
	int			from = find_place(words[0]);
	int			to = find_place(words[1]);
	double		weight;

	if (from < 0 || from == PLACE_LEAVE || to < 0 || to == PLACE_ENTRY)
		return "a step leads from a place to another";
	if (!read_number(words[2], 0, 1000000, &weight))
		return "a weight is a number from 0 to 1000000";
	scenario->steps[from][to] = (uint32_t) weight;
	return NULL;
}

static const char *
take_click(struct scenario *scenario, char **words)
{
	int			place = find_place(words[0]);

	if (place < 0 || place == PLACE_ENTRY || place == PLACE_LEAVE)
		return "there is no such place to click";
	return read_number(words[1], 0, 1, &scenario->clicks[place]) ? NULL : "clicks are a share from 0 to 1";
}

/* what needs no escaping in JSON, nor in an URL */
static bool
is_page(const char *page)
{
	return page[0] == '/' && strlen(page) < MAX_CAMPAIGN_PAGE &&
		page[strspn(page, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/-_.")] == '\0';
}

static const char *
take_campaign(struct scenario *scenario, char **words)
{
	struct campaign *campaign = &scenario->campaigns[scenario->ncampaigns];
	unsigned	hour,
				minute;
	double		minutes;
	char		rest;

	if (scenario->ncampaigns == MAX_CAMPAIGNS)
		return "there are too many campaigns";
	if (!is_page(words[0]))
		return "a campaign's page begins with / and is short and plain";
	if (sscanf(words[1], "%2u:%2u%c", &hour, &minute, &rest) != 2 || hour > 23 || minute > 59)
		return "a campaign begins at a time like 19:30";
	if (!read_number(words[2], 1, 1440, &minutes) || !read_number(words[3], 1, 1000, &campaign->times))
		return "a campaign lasts 1 to 1440 minutes and brings 1 to 1000 times the visitors";
	strcpy(campaign->page, words[0]);
	campaign->from = hour * 3600 + minute * 60;
	campaign->seconds = (uint32_t) (minutes * 60);
	scenario->ncampaigns++;
	return NULL;
}

static const struct
{
	const char *name;
	int			nwords;
	const char *(*take) (struct scenario *scenario, char **words);
}			settings[] = {
	{"hours", 24, take_hours},
	{"weekend", 1, take_weekend},
	{"bots", 1, take_bots},
	{"dwell", 1, take_dwell},
	{"step", 3, take_step},
	{"click", 2, take_click},
	{"campaign", 4, take_campaign},
};

/* NULL, or what is wrong */
static const char *
take_line(struct scenario *scenario, char *line)
{
	char	   *words[MAX_WORDS];
	char	   *rest;
	int			n = 0;

	line[strcspn(line, "#\r\n")] = '\0';
	for (char *word = strtok_r(line, " \t", &rest); word != NULL && n < MAX_WORDS; word = strtok_r(NULL, " \t", &rest))
		words[n++] = word;
	if (n == 0)
		return NULL;
	for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++)
		if (strcmp(settings[i].name, words[0]) == 0)
			return n - 1 == settings[i].nwords ? settings[i].take(scenario, words + 1)
				: "the number of words is wrong";
	return "there is no such setting";
}

/* ---------------------------------------------------------------- the whole */

static bool
read_file(struct scenario *scenario, const char *name, char *why, int size)
{
	FILE	   *file = fopen(name, "r");
	char		line[MAX_LINE];
	const char *wrong = NULL;
	int			number = 0;

	if (file == NULL)
	{
		snprintf(why, size, "\"%s\" is neither flat, shop or sale nor a file: %s", name, strerror(errno));
		return false;
	}
	/* a file names the campaigns it has */
	scenario->ncampaigns = 0;
	while (wrong == NULL && fgets(line, sizeof(line), file) != NULL)
	{
		number++;
		wrong = strchr(line, '\n') == NULL && !feof(file) ? "the line is too long" : take_line(scenario, line);
	}
	if (wrong == NULL && ferror(file))
		wrong = "it cannot be read";
	fclose(file);
	if (wrong != NULL)
		snprintf(why, size, "line %d of \"%s\": %s", number, name, wrong);
	return wrong == NULL;
}

static uint64_t
sum_of(const uint32_t *weights)
{
	uint64_t	sum = 0;

	for (int place = 0; place < PLACES; place++)
		sum += weights[place];
	return sum;
}

/* what one line alone cannot tell; sets the hours' mean to 1 */
static const char *
check_together(struct scenario *scenario)
{
	double		sum = 0;

	for (int hour = 0; hour < 24; hour++)
		sum += scenario->hours[hour];
	if (sum == 0)
		return "no hour has visitors";
	for (int hour = 0; hour < 24; hour++)
		scenario->hours[hour] *= 24 / sum;
	for (int place = 0; place < PLACE_LEAVE; place++)
		if (sum_of(scenario->steps[place]) == 0)
			return "from some place no step leads on";
	return NULL;
}

bool
scenario_load(struct scenario *scenario, const char *name, char *why, int size)
{
	const char *wrong;

	*scenario = shop;
	if (strcmp(name, "flat") == 0)
		scenario->flat = true;
	else if (strcmp(name, "sale") == 0)
		scenario->campaigns[0] = sale;
	else if (strcmp(name, "shop") != 0 && !read_file(scenario, name, why, size))
		return false;
	wrong = check_together(scenario);
	if (wrong != NULL)
		snprintf(why, size, "\"%s\": %s", name, wrong);
	return wrong == NULL;
}

/* ---------------------------------------------------------------- what it says of a moment */

const struct campaign *
scenario_campaign(const struct scenario *scenario, int64_t second, double *share)
{
	uint32_t	of_day = (uint32_t) (second % 86400);

	for (int i = 0; i < scenario->ncampaigns; i++)
	{
		const struct campaign *campaign = &scenario->campaigns[i];

		if ((of_day + 86400 - campaign->from) % 86400 < campaign->seconds)
		{
			*share = 1 - 1 / campaign->times;
			return campaign;
		}
	}
	*share = 0;
	return NULL;
}

/* from the middle of an hour to that of the next in a straight line */
double
scenario_rhythm(const struct scenario *scenario, int64_t second)
{
	int			of_day = (int) (second % 86400);
	int			shifted = (of_day + 86400 - 1800) % 86400;
	int			hour = shifted / 3600;
	double		part = shifted % 3600 / 3600.0;
	int			weekday = (int) (second / 86400 % 7);	/* 1 January 1970 was a Thursday */
	double		rhythm = scenario->hours[hour] * (1 - part) + scenario->hours[(hour + 1) % 24] * part;
	double		share;

	if (weekday == 2 || weekday == 3)
		rhythm *= scenario->weekend;
	if (scenario_campaign(scenario, second, &share) != NULL)
		rhythm /= 1 - share;
	return rhythm;
}
