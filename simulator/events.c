/*
 * events.c
 *		Makes the stream of simulated clicks: the same options give the same bytes.
 *
 * Owns the random state, and with it every choice: who, where, what, when, and
 * which message is late, malformed, a duplicate or a tombstone. It must never
 * look at a clock or at anything outside its struct. The hot path writes text
 * with copies and a small integer printer; no printf. Called by main.c.
 *
 * People are not alike and pages are not either: a page's popularity falls as
 * 1/rank, a user's activity as 1/sqrt(rank). Searches happen on /search and
 * purchases on /checkout, everything else on a product page or the front page.
 */
#include <stdlib.h>
#include <string.h>

#include "events.h"
#include "random.h"

/* what happens, of 100 events */
static const struct
{
	const char *name;
	const char *page;			/* NULL: a page by popularity */
	uint32_t	below;
}			event_names[] = {
	{"view", NULL, 50},
	{"click", NULL, 85},
	{"search", "/search", 92},
	{"add_to_cart", NULL, 97},
	{"purchase", "/checkout", 100},
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
put_page(char *to, uint32_t rank)
{
	if (rank == 0)
		return put_literal(to, "/");
	to = put_literal(to, "/product/");
	return put_number(to, rank);
}

static uint32_t
draw_event_name(struct generator *generator)
{
	uint32_t	percent = random_below(&generator->random, 100);
	uint32_t	name = 0;

	while (percent >= event_names[name].below)
		name++;
	return name;
}

static void
set_key(struct event *event, uint32_t user)
{
	char	   *to = put_literal(event->key, "user_");

	event->key_length = (size_t) (put_number(to, user) - event->key);
}

/* a good event that happened at the given second */
static void
make_event(struct generator *generator, struct event *event, int64_t second)
{
	uint32_t	name = draw_event_name(generator);
	uint32_t	page = zipf_draw(&generator->pages, &generator->random);
	char	   *to = event->payload;

	set_key(event, zipf_draw(&generator->users, &generator->random) + 1);

	to = put_literal(to, "{\"user_id\":\"");
	to = put_bytes(to, event->key, event->key_length);
	to = put_literal(to, "\",\"page\":\"");
	if (event_names[name].page != NULL)
		to = put_text(to, event_names[name].page);
	else
		to = put_page(to, page);
	to = put_literal(to, "\",\"event\":\"");
	to = put_text(to, event_names[name].name);
	to = put_literal(to, "\",\"timestamp\":\"");
	to = put_bytes(to, time_text(generator, second), 20);
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
make_event_with_spoilt_field(struct generator *generator, struct event *event, size_t which,
							 int64_t second)
{
	char		user_id[EVENT_MAX_KEY + 3];
	char		timestamp[24];
	char	   *to;

	set_key(event, zipf_draw(&generator->users, &generator->random) + 1);

	to = put_literal(user_id, "\"");
	to = put_bytes(to, event->key, event->key_length);
	strcpy(to, "\"");
	to = put_literal(timestamp, "\"");
	to = put_bytes(to, time_text(generator, second), 20);
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
make_malformed(struct generator *generator, struct event *event, int64_t second)
{
	uint32_t	kind = random_below(&generator->random, SPOILT_FIELDS + SPOILT_WHOLES);

	if (kind < SPOILT_FIELDS)
		make_event_with_spoilt_field(generator, event, kind, second);
	else
	{
		make_event(generator, event, second);
		spoil_whole(generator, event, (enum spoilt_whole) (kind - SPOILT_FIELDS));
	}
}

static void
make_duplicate(struct generator *generator, struct event *event)
{
	uint64_t	reach = generator->nrecent < RECENT_EVENTS ? generator->nrecent : RECENT_EVENTS;
	uint64_t	back = 1 + random_below(&generator->random, (uint32_t) reach);

	*event = generator->recent[(generator->nrecent - back) % RECENT_EVENTS];
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
	int64_t		second = generator->start +
		(int64_t) (generator->sequence++ / generator->event_rate);

	switch (class)
	{
		case EVENT_MALFORMED:
			make_malformed(generator, event, second);
			break;
		case EVENT_DUPLICATE:
			make_duplicate(generator, event);
			break;
		case EVENT_TOMBSTONE:
			set_key(event, zipf_draw(&generator->users, &generator->random) + 1);
			event->payload_length = 0;
			break;
		case EVENT_LATE:
			second -= 1 + random_below(&generator->random, generator->late_by);
			/* FALLTHROUGH */
		case EVENT_PLAIN:
			event = &generator->recent[generator->nrecent++ % RECENT_EVENTS];
			make_event(generator, event, second);
			break;
	}
	event->class = class;
	return event;
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
	zipf_init(&generator->users, options->users, ZIPF_GENTLE);
	zipf_init(&generator->pages, options->pages + 1, ZIPF_STEEP);
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
	zipf_free(&generator->users);
	zipf_free(&generator->pages);
	free(generator);
}
