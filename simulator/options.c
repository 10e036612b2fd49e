/*
 * options.c
 *		The command line: defaults, parsing, checks, and the help text.
 *
 * Owns every default. Whatever leaves options_parse() can be used as it is;
 * anything else ends the program with status 2 and a line that says what is
 * wrong. Called once, by main.c.
 */
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "events.h"
#include "options.h"

#define FIXED_START INT64_C(1749038400) /* 2025-06-04T12:00:00Z */
#define DEFAULT_EVENT_RATE 1000
#define MAX_TOPIC 249			/* as Kafka has it */
#define LAST_SECOND INT64_C(253402300799)	/* 9999-12-31T23:59:59Z */

static const char help_text[] =
"clickstream_simulator sends simulated clicks to a Kafka topic\n"
"\n"
"Usage: clickstream_simulator [OPTION]...\n"
"\n"
"Where to:\n"
"  -b, --bootstrap HOST:PORT   Kafka's bootstrap servers (localhost:9092)\n"
"  -t, --topic NAME            topic (clicks)\n"
"      --route KIND=TOPIC      events of that kind to another topic; may be repeated\n"
"      --key WHAT              key of a message: user, page, event or none (user)\n"
"      --create-topic N        create topics that are missing, with N partitions\n"
"      --compression CODEC     none, gzip, snappy, lz4 or zstd (lz4)\n"
"  -X, --property NAME=VALUE   any other librdkafka property, such as security.protocol\n"
"      --print                 write the events to standard output instead, one a line\n"
"\n"
"How much:\n"
"  -r, --rate N                events a second; 0: as fast as possible (0)\n"
"  -n, --count N               stop after N events; 0 only makes the topic\n"
"  -s, --seconds S             stop after S seconds\n"
"                              without count and seconds: until SIGINT or SIGTERM\n"
"\n"
"What:\n"
"      --scenario NAME|FILE    shop: visitors who come, look around, perhaps buy, and go;\n"
"                              sale: the same on the evening of a sale; flat: each event is\n"
"                              drawn for itself; or a file, see simulator/scenarios (shop)\n"
"      --rhythm on|off         whether the rate is only the mean, and the hours of the day\n"
"                              are busy as the scenario says (off with --rate, else on)\n"
"      --seed N                the same seed gives the same bytes; events then start at\n"
"                              2025-06-04T12:00:00Z unless --start says otherwise. Without a\n"
"                              seed one is taken from the clock, and events start now\n"
"      --start TIME            time of the first event: 2025-06-04T12:00:00Z or now\n"
"      --event-rate N          events in a second of event time (the rate; 1000 if that is 0)\n"
"      --users N               number of users (100000)\n"
"      --pages N               number of product pages (2000)\n"
"      --late SHARE            share of events that carry an earlier time (0)\n"
"      --late-by SECONDS       how much earlier at most (3600)\n"
"      --malformed SHARE       share of messages that cannot become a row (0)\n"
"      --duplicates SHARE      share of messages that repeat a recent one (0)\n"
"      --tombstones SHARE      share of messages without a payload (0)\n"
"\n"
"Reports:\n"
"      --json                  totals as one JSON object on standard output\n"
"  -q, --quiet                 no progress on standard error\n"
"  -h, --help                  this text\n"
"\n"
"\"sent\" in the totals counts what the broker acknowledged. Status: 0 all acknowledged,\n"
"1 something was not, 2 wrong arguments.\n";

enum option_code
{
	OPTION_CREATE_TOPIC = 256,
	OPTION_ROUTE,
	OPTION_KEY,
	OPTION_SCENARIO,
	OPTION_RHYTHM,
	OPTION_COMPRESSION,
	OPTION_PRINT,
	OPTION_SEED,
	OPTION_START,
	OPTION_EVENT_RATE,
	OPTION_USERS,
	OPTION_PAGES,
	OPTION_LATE,
	OPTION_LATE_BY,
	OPTION_MALFORMED,
	OPTION_DUPLICATES,
	OPTION_TOMBSTONES,
	OPTION_JSON
};

static const struct option long_options[] = {
	{"bootstrap", required_argument, NULL, 'b'},
	{"topic", required_argument, NULL, 't'},
	{"route", required_argument, NULL, OPTION_ROUTE},
	{"key", required_argument, NULL, OPTION_KEY},
	{"scenario", required_argument, NULL, OPTION_SCENARIO},
	{"rhythm", required_argument, NULL, OPTION_RHYTHM},
	{"create-topic", required_argument, NULL, OPTION_CREATE_TOPIC},
	{"compression", required_argument, NULL, OPTION_COMPRESSION},
	{"property", required_argument, NULL, 'X'},
	{"print", no_argument, NULL, OPTION_PRINT},
	{"rate", required_argument, NULL, 'r'},
	{"count", required_argument, NULL, 'n'},
	{"seconds", required_argument, NULL, 's'},
	{"seed", required_argument, NULL, OPTION_SEED},
	{"start", required_argument, NULL, OPTION_START},
	{"event-rate", required_argument, NULL, OPTION_EVENT_RATE},
	{"users", required_argument, NULL, OPTION_USERS},
	{"pages", required_argument, NULL, OPTION_PAGES},
	{"late", required_argument, NULL, OPTION_LATE},
	{"late-by", required_argument, NULL, OPTION_LATE_BY},
	{"malformed", required_argument, NULL, OPTION_MALFORMED},
	{"duplicates", required_argument, NULL, OPTION_DUPLICATES},
	{"tombstones", required_argument, NULL, OPTION_TOMBSTONES},
	{"json", no_argument, NULL, OPTION_JSON},
	{"quiet", no_argument, NULL, 'q'},
	{"help", no_argument, NULL, 'h'},
	{NULL, 0, NULL, 0}
};

static void __attribute__((noreturn, format(printf, 1, 2)))
refuse(const char *format,...)
{
	va_list		args;

	fputs("clickstream_simulator: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputs(" (--help lists the options)\n", stderr);
	exit(2);
}

static uint64_t
parse_number(const char *name, const char *text, uint64_t least, uint64_t most)
{
	char	   *end;
	unsigned long long value;

	errno = 0;
	value = strtoull(text, &end, 10);
	if (*text < '0' || *text > '9' || *end != '\0' || errno != 0 || value < least || value > most)
		refuse("--%s must be a whole number from %llu to %llu, not \"%s\"", name,
			   (unsigned long long) least, (unsigned long long) most, text);
	return value;
}

static double
parse_real(const char *name, const char *text, double most)
{
	char	   *end;
	double		value = strtod(text, &end);

	if (end == text || *end != '\0' || !(value >= 0 && value <= most))
		refuse("--%s must be a number from 0 to %g, not \"%s\"", name, most, text);
	return value;
}

static int64_t
parse_start(const char *text)
{
	struct tm	tm = {0};
	const char *end;
	int64_t		seconds;
	char		again[32];

	if (strcmp(text, "now") == 0)
		return (int64_t) time(NULL);
	end = strptime(text, "%Y-%m-%dT%H:%M:%SZ", &tm);
	seconds = (end != NULL && *end == '\0') ? (int64_t) timegm(&tm) : -1;

	/* timegm() takes 31 June for 1 July: only what reads back the same is a time */
	if (seconds >= 0 && strftime(again, sizeof(again), "%Y-%m-%dT%H:%M:%SZ", &tm) > 0 &&
		strcmp(again, text) == 0)
		return seconds;
	refuse("--start must be \"now\" or a time like 2025-06-04T12:00:00Z, not \"%s\"", text);
}

static void
add_property(struct options *options, char *text)
{
	char	   *equals = strchr(text, '=');

	if (equals == NULL || equals == text)
		refuse("--property must be NAME=VALUE, not \"%s\"", text);
	if (options->nproperties == MAX_PROPERTIES)
		refuse("--property may be given %d times at most", MAX_PROPERTIES);
	options->properties[options->nproperties++] = text;
}

/* one of the words; its place among them */
static int
parse_choice(const char *name, const char *text, const char *const *words)
{
	for (int i = 0; words[i] != NULL; i++)
		if (strcmp(words[i], text) == 0)
			return i;
	refuse("--%s cannot be \"%s\"", name, text);
}

static void
add_route(struct options *options, const char *text)
{
	const char *equals = strchr(text, '=');

	if (equals == NULL || !kind_is_known(text, (size_t) (equals - text)) || equals[1] == '\0' ||
		strlen(equals + 1) > MAX_TOPIC)
		refuse("--route must be KIND=TOPIC, with a kind of event, not \"%s\"", text);
	if (options->nroutes == MAX_ROUTES)
		refuse("--route may be given %d times at most", MAX_ROUTES);
	options->routes[options->nroutes++] = text;
}

/* what is only decided when all options are known */
struct undecided
{
	bool		seeded;
	const char *start;
	const char *scenario;
	int			rhythm;			/* 0: on, 1: off, -1: not said */
};

static const char *const key_words[] = {"user", "page", "event", "none", NULL};
static const char *const on_off[] = {"on", "off", NULL};

static void
take_option(struct options *options, int code, char *text, struct undecided *undecided)
{
	switch (code)
	{
		case 'b':
			options->bootstrap = text;
			break;
		case 't':
			options->topic = text;
			break;
		case OPTION_ROUTE:
			add_route(options, text);
			break;
		case OPTION_KEY:
			options->key = (enum key_choice) parse_choice("key", text, key_words);
			break;
		case OPTION_SCENARIO:
			undecided->scenario = text;
			break;
		case OPTION_RHYTHM:
			undecided->rhythm = parse_choice("rhythm", text, on_off);
			break;
		case OPTION_CREATE_TOPIC:
			options->create_partitions = (int) parse_number("create-topic", text, 1, 10000);
			break;
		case OPTION_COMPRESSION:
			options->compression = text;
			break;
		case 'X':
			add_property(options, text);
			break;
		case OPTION_PRINT:
			options->print = true;
			break;
		case 'r':
			options->rate = parse_number("rate", text, 0, 100000000);
			break;
		case 'n':
			options->count = parse_number("count", text, 0, UINT64_C(1000000000000));
			break;
		case 's':
			options->seconds = parse_real("seconds", text, 1e9);
			if (options->seconds == 0)
				refuse("--seconds must be more than 0");
			break;
		case OPTION_SEED:
			options->seed = parse_number("seed", text, 0, UINT64_MAX);
			undecided->seeded = true;
			break;
		case OPTION_START:
			undecided->start = text;
			break;
		case OPTION_EVENT_RATE:
			options->event_rate = parse_number("event-rate", text, 1, 100000000);
			break;
		case OPTION_USERS:
			options->users = (uint32_t) parse_number("users", text, 1, 100000000);
			break;
		case OPTION_PAGES:
			options->pages = (uint32_t) parse_number("pages", text, 1, 100000000);
			break;
		case OPTION_LATE:
			options->late = parse_real("late", text, 1);
			break;
		case OPTION_LATE_BY:
			options->late_by = (uint32_t) parse_number("late-by", text, 1, 1000000000);
			break;
		case OPTION_MALFORMED:
			options->malformed = parse_real("malformed", text, 1);
			break;
		case OPTION_DUPLICATES:
			options->duplicates = parse_real("duplicates", text, 1);
			break;
		case OPTION_TOMBSTONES:
			options->tombstones = parse_real("tombstones", text, 1);
			break;
		case OPTION_JSON:
			options->json = true;
			break;
		case 'q':
			options->quiet = true;
			break;
		case 'h':
			fputs(help_text, stdout);
			exit(0);
		default:
			refuse("the arguments cannot be used");
	}
}

/* what one option alone cannot tell */
static void
check_together(const struct options *options)
{
	double		shares = options->late + options->malformed + options->duplicates +
		options->tombstones;

	if (shares > 1 + 1e-9)
		refuse("the shares of late, malformed, duplicate and tombstone messages add up to %g, "
			   "more than 1", shares);
	if (options->start < options->late_by)
		refuse("--late-by reaches back before 1970");
	if (options->count != NO_LIMIT &&
		options->count / options->event_rate + (uint64_t) options->start > (uint64_t) LAST_SECOND)
		refuse("--count and --event-rate reach beyond the year 9999");
	if (options->topic[0] == '\0' || strlen(options->topic) > MAX_TOPIC)
		refuse("--topic must be 1 to 249 characters long");
}

static uint64_t
seed_from_clock(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t) now.tv_sec * 1000000 + (uint64_t) now.tv_nsec / 1000;
}

static void
decide(struct options *options, const struct undecided *undecided)
{
	char		why[256];

	if (!scenario_load(&options->scenario, undecided->scenario, why, sizeof(why)))
		refuse("--scenario: %s", why);
	options->rhythm = undecided->rhythm == -1 ? options->rate == 0 : undecided->rhythm == 0;
	if (!undecided->seeded)
		options->seed = seed_from_clock();
	if (undecided->start != NULL)
		options->start = parse_start(undecided->start);
	else
		options->start = undecided->seeded ? FIXED_START : (int64_t) time(NULL);
	if (options->event_rate == 0)
		options->event_rate = options->rate > 0 ? options->rate : DEFAULT_EVENT_RATE;
}

void
options_parse(struct options *options, int argc, char **argv)
{
	struct undecided undecided = {.scenario = "shop", .rhythm = -1};
	int			code;

	*options = (struct options) {
		.bootstrap = "localhost:9092",
		.topic = "clicks",
		.compression = "lz4",
		.count = NO_LIMIT,
		.users = 100000,
		.pages = 2000,
		.late_by = 3600,
	};
	while ((code = getopt_long(argc, argv, "b:t:X:r:n:s:qh", long_options, NULL)) != -1)
		take_option(options, code, optarg, &undecided);
	if (optind < argc)
		refuse("\"%s\" is not an option", argv[optind]);
	decide(options, &undecided);
	check_together(options);
}
