/*
 * events.c
 *		Makes the stream of simulated clicks: the same options give the same bytes.
 *
 * Owns the random state, and with it which message is late, malformed, a duplicate or a tombstone,
 * and the text of each. Who does what and when comes from visitors.c, or, in the flat scenario, is
 * drawn here for each event. It must never look at a clock or at anything outside its struct. The
 * hot path writes text with copies and a small integer printer; no printf. Called by main.c.
 *
 * In the flat scenario a page's popularity falls as 1/rank, a user's activity as 1/sqrt(rank);
 * searches happen on /search and purchases on /checkout, everything else on a product page or the
 * front page.
 */
#include <stdlib.h>
#include <string.h>

#include "events.h"
#include "random.h"

static const char *const kind_names[EVENT_KINDS] = {
	[KIND_VIEW] = "view",
	[KIND_CLICK] = "click",
	[KIND_SEARCH] = "search",
	[KIND_ADD_TO_CART] = "add_to_cart",
	[KIND_PURCHASE] = "purchase",
};

bool
kind_is(enum event_kind kind, const char *name, size_t length)
{
	return strlen(kind_names[kind]) == length && memcmp(kind_names[kind], name, length) == 0;
}

bool
kind_is_known(const char *name, size_t length)
{
	for (int kind = 0; kind < EVENT_KINDS; kind++)
		if (kind_is((enum event_kind) kind, name, length))
			return true;
	return false;
}

/* what happens in the flat scenario, of 100 events */
static const struct
{
	enum event_kind kind;
	enum place	place;
	uint32_t	below;
}			flat_kinds[] = {
	{KIND_VIEW, PLACE_PRODUCT, 50},
	{KIND_CLICK, PLACE_PRODUCT, 85},
	{KIND_SEARCH, PLACE_SEARCH, 92},
	{KIND_ADD_TO_CART, PLACE_PRODUCT, 97},
	{KIND_PURCHASE, PLACE_CHECKOUT, 100},
};

/*
 * Messages that cannot become a row, each by the field that is wrong: NULL keeps
 * the field as it is, "" leaves it out, anything else stands in its place.
 */
static const struct
{
	const char *user_id;
	const char *page;
	const char *timestamp;
}			spoilt_fields[] = {
	{"", NULL, NULL},
	{"null", NULL, NULL},
	{NULL, "", NULL},
	{NULL, "\"/product/\\u0000\"", NULL},
	{NULL, "\"/product/\\ud800\"", NULL},
	{NULL, "\"/product/\xc3\x28\"", NULL},
	{NULL, "\"/product/\xff\"", NULL},
	{NULL, "tru", NULL},
	{NULL, NULL, ""},
	{NULL, NULL, "true"},
	{NULL, NULL, "[\"2025-06-04T12:00:00Z\"]"},
	{NULL, NULL, "\"yesterday afternoon\""},
	{NULL, NULL, "\"2025-13-45T25:61:00Z\""},
	{NULL, NULL, "\"2999-01-01T00:00:00Z\""},
};

/* and those that are wrong as a whole */
enum spoilt_whole
{
	SPOILT_CUT_SHORT,
	SPOILT_ARRAY,
	SPOILT_TEXT,
	SPOILT_TWO_DOCUMENTS
};
#define SPOILT_WHOLES (SPOILT_TWO_DOCUMENTS + 1)
#define SPOILT_FIELDS (sizeof(spoilt_fields) / sizeof(spoilt_fields[0]))

static inline char *
put_bytes(char *to, const char *from, size_t length)
{
	memcpy(to, from, length);
	return to + length;
}

#define put_literal(to, literal) put_bytes(to, literal, sizeof(literal) - 1)

static inline char *
put_text(char *to, const char *text)
{
	return put_bytes(to, text, strlen(text));
}

static inline char *
put_number(char *to, uint32_t number)
{
	char		digits[10];
	int			n = 0;

	do
		digits[n++] = (char) ('0' + number % 10);
	while ((number /= 10) > 0);
	while (n > 0)
		*to++ = digits[--n];
	return to;
}

static inline char *
put_two_digits(char *to, uint32_t number)
{
	*to++ = (char) ('0' + number / 10);
	*to++ = (char) ('0' + number % 10);
	return to;
}

/* 2025-06-04T12:00:00Z; the days by the civil calendar, years 1970 to 9999 */
static char *
put_time(char *to, int64_t second)
{
	uint32_t	of_day = (uint32_t) (second % 86400);
	uint32_t	days = (uint32_t) (second / 86400) + 719468;	/* since 0000-03-01 */
	uint32_t	era = days / 146097;
	uint32_t	of_era = days % 146097;
	uint32_t	year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
	uint32_t	of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
	uint32_t	shifted_month = (5 * of_year + 2) / 153;	/* March is 0 */
	uint32_t	month = shifted_month < 10 ? shifted_month + 3 : shifted_month - 9;
	uint32_t	year = year_of_era + era * 400 + (month <= 2);

	to = put_two_digits(to, year / 100);
	to = put_two_digits(to, year % 100);
	*to++ = '-';
	to = put_two_digits(to, month);
	*to++ = '-';
	to = put_two_digits(to, of_year - (153 * shifted_month + 2) / 5 + 1);
	*to++ = 'T';
	to = put_two_digits(to, of_day / 3600);
	*to++ = ':';
	to = put_two_digits(to, of_day / 60 % 60);
	*to++ = ':';
	to = put_two_digits(to, of_day % 60);
	*to++ = 'Z';
	return to;
}

/* most events share their second with the one before */
static const char *
time_text(struct generator *generator, int64_t second)
{
	if (second != generator->cached_second)
	{
		*put_time(generator->cached_time, second) = '\0';
		generator->cached_second = second;
	}
	return generator->cached_time;
}

static char *
put_page(char *to, const struct visit *visit)
{
	switch (visit->place)
	{
		case PLACE_CATEGORY:
			to = put_literal(to, "/category/");
			return put_number(to, visit->number);
		case PLACE_PRODUCT:
		case PLACE_ADD_TO_CART:
			to = put_literal(to, "/product/");
			return put_number(to, visit->number);
		case PLACE_SEARCH:
			return put_literal(to, "/search");
		case PLACE_CART:
			return put_literal(to, "/cart");
		case PLACE_CHECKOUT:
		case PLACE_PURCHASE:
			return put_literal(to, "/checkout");
		case PLACE_CAMPAIGN:
			return put_text(to, visit->page);
		default:
			return put_literal(to, "/");
	}
}

static char *
put_user(char *to, uint32_t user)
{
	to = put_literal(to, "user_");
	return put_number(to, user);
}

/* what Kafka chooses the partition by, and a compacted topic keeps the last of */
static void
set_key(const struct generator *generator, struct event *event, const struct visit *visit)
{
	char	   *to = event->key;

	switch (generator->key)
	{
		case KEY_USER:
			to = put_user(to, visit->user);
			break;
		case KEY_PAGE:
			to = put_page(to, visit);
			break;
		case KEY_EVENT:
			to = put_text(to, kind_names[visit->kind]);
			break;
		case KEY_NONE:
			break;
	}
	event->kind = visit->kind;
	event->key_length = (size_t) (to - event->key);
}

static void
draw_flat_visit(struct generator *generator, struct visit *visit)
{
	uint32_t	percent = random_below(&generator->random, 100);
	uint32_t	i = 0;

	while (percent >= flat_kinds[i].below)
		i++;
	visit->kind = flat_kinds[i].kind;
	visit->place = flat_kinds[i].place;
	visit->number = zipf_draw(&generator->pages, &generator->random);
	if (visit->place == PLACE_PRODUCT && visit->number == 0)
		visit->place = PLACE_FRONT;
	visit->user = zipf_draw(&generator->users, &generator->random) + 1;
}

/* only who, for a message that has no more; in the flat scenario that is one draw */
static void
next_visitor(struct generator *generator, struct visit *visit)
{
	if (generator->visitors)
		visitors_next(generator->visitors, &generator->random, visit);
	else
	{
		*visit = (struct visit) {.second = generator->second, .kind = KIND_CLICK, .place = PLACE_FRONT};
		visit->user = zipf_draw(&generator->users, &generator->random) + 1;
	}
}

static void
next_visit(struct generator *generator, struct visit *visit)
{
	if (generator->visitors)
		visitors_next(generator->visitors, &generator->random, visit);
	else
	{
		visit->second = generator->second;
		draw_flat_visit(generator, visit);
	}
}

/* a good event, so many seconds before it is sent */
static void
make_event(struct generator *generator, struct event *event, uint32_t late)
{
	struct visit visit;
	char	   *to = event->payload;

	next_visit(generator, &visit);
	set_key(generator, event, &visit);
	to = put_literal(to, "{\"user_id\":\"");
	to = put_user(to, visit.user);
	to = put_literal(to, "\",\"page\":\"");
	to = put_page(to, &visit);
	to = put_literal(to, "\",\"event\":\"");
	to = put_text(to, kind_names[visit.kind]);
	to = put_literal(to, "\",\"timestamp\":\"");
	to = put_bytes(to, time_text(generator, visit.second - late), 20);
	to = put_literal(to, "\"}");
	event->payload_length = (size_t) (to - event->payload);
}

static char *
put_field(char *to, const char *name, const char *usual, const char *spoilt)
{
	const char *value = spoilt != NULL ? spoilt : usual;

	if (*value == '\0')
		return to;
	if (to[-1] != '{')
		*to++ = ',';
	*to++ = '"';
	to = put_text(to, name);
	to = put_literal(to, "\":");
	return put_text(to, value);
}

static void
make_event_with_spoilt_field(struct generator *generator, struct event *event, size_t which)
{
	struct visit visit;
	char		user_id[20];
	char		timestamp[24];
	char	   *to;

	next_visitor(generator, &visit);
	set_key(generator, event, &visit);

	to = put_literal(user_id, "\"");
	to = put_user(to, visit.user);
	strcpy(to, "\"");
	to = put_literal(timestamp, "\"");
	to = put_bytes(to, time_text(generator, visit.second), 20);
	strcpy(to, "\"");

	to = put_literal(event->payload, "{");
	to = put_field(to, "user_id", user_id, spoilt_fields[which].user_id);
	to = put_field(to, "page", "\"/\"", spoilt_fields[which].page);
	to = put_field(to, "event", "\"click\"", NULL);
	to = put_field(to, "timestamp", timestamp, spoilt_fields[which].timestamp);
	to = put_literal(to, "}");
	event->payload_length = (size_t) (to - event->payload);
}

static void
spoil_whole(struct generator *generator, struct event *event, enum spoilt_whole how)
{
	size_t		length = event->payload_length;

	switch (how)
	{
		case SPOILT_CUT_SHORT:
			event->payload_length = 1 + random_below(&generator->random, (uint32_t) length - 1);
			break;
		case SPOILT_ARRAY:
			memmove(event->payload + 1, event->payload, length);
			event->payload[0] = '[';
			event->payload[length + 1] = ']';
			event->payload_length = length + 2;
			break;
		case SPOILT_TEXT:
			event->payload_length =
				(size_t) (put_literal(event->payload, "click click click") - event->payload);
			break;
		case SPOILT_TWO_DOCUMENTS:
			event->payload_length =
				(size_t) (put_literal(event->payload + length, " {}") - event->payload);
			break;
	}
}

static void
make_malformed(struct generator *generator, struct event *event)
{
	uint32_t	kind = random_below(&generator->random, SPOILT_FIELDS + SPOILT_WHOLES);

	if (kind < SPOILT_FIELDS)
		make_event_with_spoilt_field(generator, event, kind);
	else
	{
		make_event(generator, event, 0);
		spoil_whole(generator, event, (enum spoilt_whole) (kind - SPOILT_FIELDS));
	}
}

/* of one of the last messages, in the place of what the visitor did */
static void
make_duplicate(struct generator *generator, struct event *event)
{
	uint64_t	reach = generator->nrecent < RECENT_EVENTS ? generator->nrecent : RECENT_EVENTS;
	uint64_t	back = 1 + random_below(&generator->random, (uint32_t) reach);
	struct visit unseen;

	if (generator->visitors)
		visitors_next(generator->visitors, &generator->random, &unseen);
	*event = generator->recent[(generator->nrecent - back) % RECENT_EVENTS];
}

static void
make_tombstone(struct generator *generator, struct event *event)
{
	struct visit visit;

	next_visitor(generator, &visit);
	set_key(generator, event, &visit);
	event->payload_length = 0;
}

static enum event_class
draw_class(struct generator *generator)
{
	uint32_t	draw = (uint32_t) (random_next(&generator->random) >> 32);

	for (int class = EVENT_LATE; class < EVENT_CLASSES; class++)
		if (draw < generator->below[class])
		{
			if (class == EVENT_DUPLICATE && generator->nrecent == 0)
				break;
			return (enum event_class) class;
		}
	return EVENT_PLAIN;
}

const struct event *
generator_next(struct generator *generator)
{
	enum event_class class = draw_class(generator);
	struct event *event = &generator->scratch;
	uint32_t	late = 0;

	generator->second = generator->start + (int64_t) (generator->sequence++ / generator->event_rate);
	switch (class)
	{
		case EVENT_MALFORMED:
			make_malformed(generator, event);
			break;
		case EVENT_DUPLICATE:
			make_duplicate(generator, event);
			break;
		case EVENT_TOMBSTONE:
			make_tombstone(generator, event);
			break;
		case EVENT_LATE:
			late = 1 + random_below(&generator->random, generator->late_by);
			/* FALLTHROUGH */
		case EVENT_PLAIN:
			event = &generator->recent[generator->nrecent++ % RECENT_EVENTS];
			make_event(generator, event, late);
			break;
	}
	event->class = class;
	return event;
}

double
generator_time(const struct generator *generator)
{
	return generator->visitors ? visitors_time(generator->visitors) :
		(double) generator->sequence / (double) generator->event_rate;
}

/* cumulate the shares; a share of 1 takes all but one draw of 2^32, near enough */
static void
set_shares(struct generator *generator, const struct options *options)
{
	const double shares[EVENT_CLASSES] = {
		[EVENT_LATE] = options->late,
		[EVENT_MALFORMED] = options->malformed,
		[EVENT_DUPLICATE] = options->duplicates,
		[EVENT_TOMBSTONE] = options->tombstones,
	};
	double		sum = 0;

	for (int class = EVENT_LATE; class < EVENT_CLASSES; class++)
	{
		sum += shares[class];
		generator->below[class] = (uint32_t) ((sum < 1 ? sum : 1) * UINT32_MAX);
	}
}

struct generator *
generator_create(const struct options *options)
{
	struct generator *generator = calloc(1, sizeof(struct generator));

	if (generator == NULL)
		abort();
	generator->random = options->seed;
	if (options->scenario.flat)
	{
		zipf_init(&generator->users, options->users, ZIPF_GENTLE);
		zipf_init(&generator->pages, options->pages + 1, ZIPF_STEEP);
	}
	else
		generator->visitors = visitors_create(options);
	generator->key = options->key;
	set_shares(generator, options);
	generator->late_by = options->late_by;
	generator->start = options->start;
	generator->event_rate = options->event_rate;
	generator->cached_second = -1;
	return generator;
}

void
generator_free(struct generator *generator)
{
	if (generator->visitors)
		visitors_free(generator->visitors);
	zipf_free(&generator->users);
	zipf_free(&generator->pages);
	free(generator);
}
