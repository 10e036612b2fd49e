/*
 * visitors.c
 *		A shop's visitors: they come, look around, perhaps buy, and go.
 *
 * Owns the sessions under way. Each waits in the bucket of the second of its next step; a ring of
 * buckets is the calendar. In each second those who are due take their step, and as many new ones
 * come in as the rhythm of the day has room for: so the number of events in a second is the
 * scenario's, and a burst of visitors fades as slowly as people leave. Must never look at a clock.
 * Called by events.c.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "random.h"
#include "visitors.h"
#include "zipf.h"

#define RING 4096				/* seconds, a power of two; no one stays longer on a page */
#define DWELLS 1024				/* steps of the distribution of times on a page */
#define CLICK_IS_FASTER 4		/* than a step to another page */
#define BOT_STEPS 400			/* of a bot's session, in the mean */
#define BOT_USERS 20			/* the numbers of bots follow those of people */
#define CATEGORIES 24
#define NOBODY UINT32_MAX

/* of the sessions that begin in the first minutes of the run, these many began before it */
#define WARM_SECONDS 300
#define WARM_SHARE 0.85
#define WARM_STEPS 6

struct session
{
	uint32_t	next;			/* in the same bucket, or in the list of free ones */
	uint32_t	user;
	uint32_t	number;			/* of the product or category last seen */
	uint8_t		place;			/* the last one */
	uint8_t		campaign;
	bool		clicks;			/* its next step is a click where it is */
	bool		bot;
};

struct bucket
{
	uint32_t	first,
				last;
	uint32_t	count;
};

struct visitors
{
	struct scenario scenario;
	struct zipf users;
	struct zipf pages;
	uint32_t	nusers;
	uint8_t    *present;		/* a bit for each user: has a session under way */
	int64_t		start;
	double		event_rate;		/* in the mean, or at all times without the rhythm of the day */
	bool		rhythm;

	uint32_t	dwells[DWELLS];
	uint32_t	clicks[PLACES]; /* shares, of 2^32 */
	uint32_t	bots;
	uint32_t	sums[PLACES];	/* of the steps from there */

	struct session *sessions;
	uint32_t	nsessions;
	uint32_t	free;			/* NOBODY: the pool must grow */
	struct bucket ring[RING];

	int64_t		second;			/* the one under way, since the start */
	struct bucket due;
	uint32_t	newcomers;		/* still to come in it */
	uint32_t	surplus;		/* so many more are due than it has room for */
	uint32_t	total;			/* events in it */
	double		owed;			/* events that the seconds so far had room for, less those that were */
	uint32_t	campaign_share; /* of the newcomers, of 2^32 */
	uint8_t		campaign;
};

/* ---------------------------------------------------------------- the calendar */

static void
bucket_add(struct visitors *visitors, struct bucket *bucket, uint32_t who)
{
	visitors->sessions[who].next = NOBODY;
	if (bucket->count++ == 0)
		bucket->first = who;
	else
		visitors->sessions[bucket->last].next = who;
	bucket->last = who;
}

static uint32_t
bucket_take(struct visitors *visitors, struct bucket *bucket)
{
	uint32_t	who = bucket->first;

	bucket->first = visitors->sessions[who].next;
	bucket->count--;
	return who;
}

static void
session_free(struct visitors *visitors, uint32_t who)
{
	visitors->sessions[who].next = visitors->free;
	visitors->free = who;
}

static void
pool_grow(struct visitors *visitors)
{
	uint32_t	size = visitors->nsessions ? visitors->nsessions * 2 : 1024;

	visitors->sessions = realloc(visitors->sessions, size * sizeof(struct session));
	if (visitors->sessions == NULL)
		abort();
	for (uint32_t who = size; who-- > visitors->nsessions;)
		session_free(visitors, who);
	visitors->nsessions = size;
}

static uint32_t
session_new(struct visitors *visitors)
{
	uint32_t	who;

	if (visitors->free == NOBODY)
		pool_grow(visitors);
	who = visitors->free;
	visitors->free = visitors->sessions[who].next;
	return who;
}

/* ---------------------------------------------------------------- a step */

static inline bool
happens(uint64_t *random, uint32_t share)
{
	return (uint32_t) (random_next(random) >> 32) < share;
}

static uint32_t
share_of_32_bits(double share)
{
	return (uint32_t) (share * UINT32_MAX);
}

static enum place
next_place(const struct visitors *visitors, uint64_t *random, enum place from)
{
	uint32_t	draw = random_below(random, visitors->sums[from]);
	const uint32_t *weights = visitors->scenario.steps[from];
	int			place = 0;

	while (draw >= weights[place])
		draw -= weights[place++];
	return (enum place) place;
}

/* the first page of the shop is not among its products */
static uint32_t
draw_product(const struct visitors *visitors, uint64_t *random)
{
	uint32_t	rank = zipf_draw(&visitors->pages, random);

	return rank ? rank : 1;
}

static void
go_to(const struct visitors *visitors, uint64_t *random, struct session *session, enum place place)
{
	/* what is put into the cart is the product that was looked at */
	if (place == PLACE_PRODUCT || (place == PLACE_ADD_TO_CART && session->place != PLACE_PRODUCT))
		session->number = draw_product(visitors, random);
	else if (place == PLACE_CATEGORY)
		session->number = draw_product(visitors, random) % CATEGORIES + 1;
	session->place = (uint8_t) place;
}

static void
bot_step(const struct visitors *visitors, uint64_t *random, struct session *session)
{
	session->number = session->number % (visitors->pages.size - 1) + 1;
	session->place = random_below(random, BOT_STEPS) == 0 ? PLACE_LEAVE : PLACE_PRODUCT;
}

/* to where the session goes on; the click that follows a view stays where it is */
static bool
take_step(const struct visitors *visitors, uint64_t *random, struct session *session)
{
	if (session->bot)
		bot_step(visitors, random, session);
	else if (session->clicks)
	{
		session->clicks = false;
		return true;
	}
	else
		go_to(visitors, random, session, next_place(visitors, random, session->place));
	return false;
}

static enum event_kind
kind_at(enum place place)
{
	switch (place)
	{
		case PLACE_SEARCH:
			return KIND_SEARCH;
		case PLACE_ADD_TO_CART:
			return KIND_ADD_TO_CART;
		case PLACE_PURCHASE:
			return KIND_PURCHASE;
		default:
			return KIND_VIEW;
	}
}

static uint32_t
seconds_to_next(const struct visitors *visitors, uint64_t *random, const struct session *session)
{
	uint32_t	dwell = visitors->dwells[random_below(random, DWELLS)];

	if (session->bot)
		return random_below(random, 2);
	return session->clicks ? dwell / CLICK_IS_FASTER : dwell;
}

/* the visit that the session has come to, and its next one into the calendar */
static void
tell(struct visitors *visitors, uint64_t *random, uint32_t who, bool click, struct visit *visit)
{
	struct session *session = &visitors->sessions[who];
	uint32_t	wait;

	visit->second = visitors->start + visitors->second;
	visit->user = session->user;
	visit->number = session->number;
	visit->place = (enum place) session->place;
	visit->kind = click ? KIND_CLICK : kind_at(visit->place);
	visit->page = visit->place == PLACE_CAMPAIGN ? visitors->scenario.campaigns[session->campaign].page : NULL;

	visitors->owed -= 1;
	session->clicks = !click && !session->bot && happens(random, visitors->clicks[session->place]);
	wait = seconds_to_next(visitors, random, session);
	bucket_add(visitors, &visitors->ring[(visitors->second + 1 + wait) % RING], who);
}

/* ---------------------------------------------------------------- those who come in */

/* a run does not begin in an empty shop */
static bool
began_before(const struct visitors *visitors, uint64_t *random)
{
	return visitors->second < WARM_SECONDS &&
		happens(random, share_of_32_bits(WARM_SHARE * (double) (WARM_SECONDS - visitors->second) / WARM_SECONDS));
}

static void
enter(const struct visitors *visitors, uint64_t *random, struct session *session)
{
	enum place	place;

	if (visitors->campaign_share && happens(random, visitors->campaign_share))
	{
		session->campaign = visitors->campaign;
		place = PLACE_CAMPAIGN;
	}
	else
		place = next_place(visitors, random, PLACE_ENTRY);
	go_to(visitors, random, session, place == PLACE_LEAVE ? PLACE_FRONT : place);
	if (!began_before(visitors, random))
		return;
	for (uint32_t steps = random_below(random, WARM_STEPS); steps > 0; steps--)
	{
		place = next_place(visitors, random, session->place);
		if (place == PLACE_LEAVE)
			return;
		go_to(visitors, random, session, place);
	}
}

static void
set_present(struct visitors *visitors, uint32_t user, bool present)
{
	uint8_t		bit = (uint8_t) (1 << (user & 7));

	if (present)
		visitors->present[user >> 3] |= bit;
	else
		visitors->present[user >> 3] &= (uint8_t) ~bit;
}

/* nobody is there twice, unless almost all are there */
static uint32_t
draw_user(struct visitors *visitors, uint64_t *random)
{
	uint32_t	user = zipf_draw(&visitors->users, random);

	for (int tries = 0; tries < 8 && (visitors->present[user >> 3] & (1 << (user & 7))); tries++)
		user = tries < 2 ? zipf_draw(&visitors->users, random) : random_below(random, visitors->nusers);
	set_present(visitors, user, true);
	return user + 1;
}

static uint32_t
come_in(struct visitors *visitors, uint64_t *random)
{
	uint32_t	who = session_new(visitors);
	struct session *session = &visitors->sessions[who];

	memset(session, 0, sizeof(*session));
	session->place = PLACE_ENTRY;
	session->bot = happens(random, visitors->bots);
	if (session->bot)
	{
		session->user = visitors->nusers + 1 + random_below(random, BOT_USERS);
		session->number = draw_product(visitors, random);
		session->place = PLACE_PRODUCT;
	}
	else
	{
		session->user = draw_user(visitors, random);
		enter(visitors, random, session);
	}
	return who;
}

/* ---------------------------------------------------------------- second after second */

static void
open_second(struct visitors *visitors)
{
	int64_t		second = visitors->start + visitors->second;
	struct bucket *bucket = &visitors->ring[visitors->second % RING];
	const struct campaign *campaign;
	double		share;
	uint32_t	quota;

	visitors->due = *bucket;
	bucket->count = 0;
	visitors->owed += visitors->event_rate;
	if (visitors->rhythm)
		visitors->owed += visitors->event_rate * (scenario_rhythm(&visitors->scenario, second) - 1);
	quota = visitors->owed > 0 ? (uint32_t) visitors->owed : 0;
	visitors->newcomers = quota > visitors->due.count ? quota - visitors->due.count : 0;
	visitors->surplus = quota < visitors->due.count ? visitors->due.count - quota : 0;
	visitors->total = visitors->due.count + visitors->newcomers;
	campaign = scenario_campaign(&visitors->scenario, second, &share);
	visitors->campaign_share = share_of_32_bits(share);
	visitors->campaign = campaign ? (uint8_t) (campaign - visitors->scenario.campaigns) : 0;
}

/* someone comes in the place of who goes, unless the second is full without */
static void
leave(struct visitors *visitors, uint32_t who)
{
	if (!visitors->sessions[who].bot)
		set_present(visitors, visitors->sessions[who].user - 1, false);
	session_free(visitors, who);
	if (visitors->surplus == 0)
		visitors->newcomers++;
	else
	{
		visitors->surplus--;
		visitors->total--;
	}
}

void
visitors_next(struct visitors *visitors, uint64_t *random, struct visit *visit)
{
	for (;;)
	{
		uint32_t	left = visitors->due.count + visitors->newcomers;
		uint32_t	who;
		bool		click = false;

		if (left == 0)
		{
			visitors->second++;
			open_second(visitors);
			continue;
		}
		if (random_below(random, left) < visitors->newcomers)
		{
			visitors->newcomers--;
			who = come_in(visitors, random);
		}
		else
		{
			who = bucket_take(visitors, &visitors->due);
			click = take_step(visitors, random, &visitors->sessions[who]);
		}
		if (visitors->sessions[who].place == PLACE_LEAVE)
			leave(visitors, who);
		else
		{
			tell(visitors, random, who, click, visit);
			return;
		}
	}
}

double
visitors_time(const struct visitors *visitors)
{
	uint32_t	left = visitors->due.count + visitors->newcomers;

	if (visitors->total == 0)
		return (double) visitors->second;
	return (double) visitors->second + 1 - (double) left / visitors->total;
}

/* ---------------------------------------------------------------- the beginning and the end */

/* exponential: many look shortly, few for long */
static void
set_dwells(struct visitors *visitors)
{
	for (int i = 0; i < DWELLS; i++)
	{
		double		seconds = -visitors->scenario.dwell * log((i + 0.5) / DWELLS);

		visitors->dwells[i] = seconds < RING - 2 ? (uint32_t) seconds : RING - 2;
	}
}

struct visitors *
visitors_create(const struct options *options)
{
	struct visitors *visitors = calloc(1, sizeof(struct visitors));

	if (visitors == NULL)
		abort();
	visitors->scenario = options->scenario;
	visitors->nusers = options->users;
	visitors->present = calloc(options->users / 8 + 1, 1);
	if (visitors->present == NULL)
		abort();
	visitors->start = options->start;
	visitors->event_rate = (double) options->event_rate;
	visitors->rhythm = options->rhythm;
	visitors->free = NOBODY;
	zipf_init(&visitors->users, options->users, ZIPF_GENTLE);
	zipf_init(&visitors->pages, options->pages + 1, ZIPF_STEEP);
	set_dwells(visitors);
	visitors->bots = share_of_32_bits(options->scenario.bots);
	for (int place = 0; place < PLACES; place++)
	{
		visitors->clicks[place] = share_of_32_bits(options->scenario.clicks[place]);
		for (int to = 0; to < PLACES; to++)
			visitors->sums[place] += options->scenario.steps[place][to];
	}
	open_second(visitors);
	return visitors;
}

void
visitors_free(struct visitors *visitors)
{
	zipf_free(&visitors->users);
	zipf_free(&visitors->pages);
	free(visitors->present);
	free(visitors->sessions);
	free(visitors);
}
