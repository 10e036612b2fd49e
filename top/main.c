/*
 * main.c
 *		clickstream_top: sources, rollups and sinks on a terminal, once a second.
 *
 * Owns the command line, the loop and the exit status. A database that goes away
 * while it runs is waited for; one that cannot be reached at the start ends it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <locale.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "top.h"

typedef struct Options
{
	bool		batch;
	long		count;			/* looks; 0: until it is ended */
	double		delay;
	const char *pages;
	const char *conninfo;
} Options;

static volatile sig_atomic_t ended = false;

static void
end_soon(int signal)
{
	(void) signal;
	ended = true;
}

static const char help_text[] =
"clickstream_top shows sources, rollups and sinks: states, rates, lags, errors, and the top pages\n"
"\n"
"Usage: clickstream_top [OPTION]... [DATABASE | CONNECTION STRING]\n"
"\n"
"  -b, --batch            plain text, one look after the other, for a file or a pipe\n"
"  -n, --count N          end after N looks\n"
"  -d, --delay SECONDS    between two looks (1)\n"
"  -p, --pages ROLLUP     the rollup with minute, page and views that the top pages come from\n"
"                         (page_views_1m); '' for none\n"
"  -h, --help             this text\n"
"\n"
"It connects as psql does, by PGHOST, PGPORT, PGDATABASE, PGUSER, PGPASSWORD, PGSERVICE, ...,\n"
"reads the views clickstream.stat_sources, stat_rollups and stat_sinks, which show what the\n"
"user may see, and writes nothing. Rates are those since the look before.\n"
"Status: 0; 1 no connection, or a database without clickstream; 2 wrong arguments.\n";

static void __attribute__((noreturn, format(printf, 1, 2)))
refuse(const char *format,...)
{
	va_list		arguments;

	fputs("clickstream_top: ", stderr);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputs(" (--help lists the options)\n", stderr);
	exit(2);
}

static double
number_from(const char *text, const char *option, double least, double most)
{
	char	   *end;
	double		number = strtod(text, &end);

	if (*text == '\0' || *end != '\0' || !isfinite(number) || number < least || number > most)
		refuse("--%s takes a number from %g to %g, not \"%s\"", option, least, most, text);
	return number;
}

static void
parse(int argc, char **argv, Options *options)
{
	static const struct option known[] = {
		{"batch", no_argument, NULL, 'b'},
		{"count", required_argument, NULL, 'n'},
		{"delay", required_argument, NULL, 'd'},
		{"pages", required_argument, NULL, 'p'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0}
	};
	int			option;

	while ((option = getopt_long(argc, argv, "bn:d:p:h", known, NULL)) != -1)
	{
		switch (option)
		{
			case 'b':
				options->batch = true;
				break;
			case 'n':
				options->count = (long) number_from(optarg, "count", 1, 1e9);
				break;
			case 'd':
				options->delay = number_from(optarg, "delay", 0.1, 86400);
				break;
			case 'p':
				options->pages = optarg;
				break;
			case 'h':
				fputs(help_text, stdout);
				exit(0);
			default:
				exit(2);
		}
	}
	if (optind < argc)
		options->conninfo = argv[optind++];
	if (optind < argc)
		refuse("one database at a time, not also \"%s\"", argv[optind]);
}

static PGconn *
connect_or_end(const Options *options)
{
	PGconn	   *conn = look_connect(options->conninfo);
	const char *refusal = PQstatus(conn) == CONNECTION_OK ? look_refusal(conn) : PQerrorMessage(conn);

	if (refusal)
	{
		fprintf(stderr, "clickstream_top: %s", refusal);
		if (PQstatus(conn) != CONNECTION_OK)
			fputs("clickstream_top: PGHOST, PGPORT, PGDATABASE and PGUSER say where to connect, or an argument such as \"host=... dbname=...\"\n", stderr);
		PQfinish(conn);
		exit(1);
	}
	return conn;
}

/* Waits for the next look; a key may end the program or stop the picture. */
static void
pause_for(double seconds, bool screen)
{
	struct timespec time = {(time_t) seconds, (long) (fmod(seconds, 1) * 1e9)};
	int			key;

	if (!screen)
	{
		nanosleep(&time, NULL);		/* a signal ends it early */
		return;
	}
	key = screen_key(seconds);
	while (key == ' ' && !ended && (key = screen_key(3600)) != ' ' && key != 'q')
		key = ' ';
	if (key == 'q')
		ended = true;
}

static void
show(const Look *now, const Look *before, const Options *options, bool screen)
{
	char	   *text = frame_text(now, before, options->pages, screen ? screen_width() - 1 : 140);

	if (screen)
		screen_draw(text);
	else
		frame_print_plain(stdout, text);
	free(text);
}

int
main(int argc, char **argv)
{
	Options		options = {.delay = 1, .pages = "page_views_1m"};
	struct sigaction action = {.sa_handler = end_soon};
	Look		looks[2] = {0};
	PGconn	   *conn;
	bool		screen;

	setlocale(LC_ALL, "");
	setlocale(LC_NUMERIC, "C");
	parse(argc, argv, &options);
	conn = connect_or_end(&options);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	screen = !options.batch && screen_open();

	for (long i = 0; !ended; i++)
	{
		Look	   *now = &looks[i % 2];

		look_free(now);
		look_take(conn, options.pages, now);
		show(now, &looks[(i + 1) % 2], &options, screen);
		if (options.count > 0 && i + 1 >= options.count)
			break;
		pause_for(options.delay, screen);
	}
	screen_close();
	look_free(&looks[0]);
	look_free(&looks[1]);
	PQfinish(conn);
	return 0;
}
