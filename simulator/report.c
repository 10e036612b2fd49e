/*
 * report.c
 *		What the user sees: a progress line on stderr, totals as text or JSON.
 *
 * Owns the wording and nothing else. Called by main.c.
 */
#include <inttypes.h>
#include <unistd.h>

#include "report.h"

void
report_progress(const struct deliveries *deliveries, double seconds, double rate)
{
	bool		terminal = isatty(STDERR_FILENO);

	fprintf(stderr, "%s%.0f s: sent %" PRIu64 " (%.0f/s)", terminal ? "\r\033[K" : "", seconds,
			deliveries->sent, rate);
	if (deliveries->failed > 0)
		fprintf(stderr, ", failed %" PRIu64, deliveries->failed);
	if (deliveries->last_error[0] != '\0')
		fprintf(stderr, ", last error: %s", deliveries->last_error);
	if (!terminal)
		fputc('\n', stderr);
	fflush(stderr);
}

void
report_progress_end(void)
{
	if (isatty(STDERR_FILENO))
		fputs("\r\033[K", stderr);
}

/* a string of JSON; the texts here are a topic's name and librdkafka's own messages */
static void
put_json_text(FILE *to, const char *text)
{
	fputc('"', to);
	for (; *text != '\0'; text++)
	{
		unsigned char c = (unsigned char) *text;

		if (c == '"' || c == '\\')
			fprintf(to, "\\%c", c);
		else if (c < 0x20)
			fprintf(to, "\\u%04x", c);
		else
			fputc(c, to);
	}
	fputc('"', to);
}

static void
report_json(FILE *to, const struct options *options, const struct deliveries *deliveries,
			double seconds, double rate)
{
	fputs("{\"topic\":", to);
	put_json_text(to, options->topic);
	fprintf(to, ",\"seed\":%" PRIu64 ",\"sent\":%" PRIu64 ",\"plain\":%" PRIu64
			",\"late\":%" PRIu64 ",\"malformed\":%" PRIu64 ",\"duplicates\":%" PRIu64
			",\"tombstones\":%" PRIu64 ",\"failed\":%" PRIu64 ",\"bytes\":%" PRIu64
			",\"seconds\":%.3f,\"rate\":%.0f",
			options->seed, deliveries->sent, deliveries->sent_of[EVENT_PLAIN],
			deliveries->sent_of[EVENT_LATE], deliveries->sent_of[EVENT_MALFORMED],
			deliveries->sent_of[EVENT_DUPLICATE], deliveries->sent_of[EVENT_TOMBSTONE],
			deliveries->failed, deliveries->bytes, seconds, rate);
	if (deliveries->last_error[0] != '\0')
	{
		fputs(",\"last_error\":", to);
		put_json_text(to, deliveries->last_error);
	}
	fputs("}\n", to);
}

static void
report_text(FILE *to, const struct options *options, const struct deliveries *deliveries,
			double seconds, double rate)
{
	const struct
	{
		const char *name;
		uint64_t	value;
	}			lines[] = {
		{"sent", deliveries->sent},
		{"  plain", deliveries->sent_of[EVENT_PLAIN]},
		{"  late", deliveries->sent_of[EVENT_LATE]},
		{"  malformed", deliveries->sent_of[EVENT_MALFORMED]},
		{"  duplicates", deliveries->sent_of[EVENT_DUPLICATE]},
		{"  tombstones", deliveries->sent_of[EVENT_TOMBSTONE]},
		{"failed", deliveries->failed},
		{"bytes", deliveries->bytes},
	};

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		fprintf(to, "%-14s%12" PRIu64 "\n", lines[i].name, lines[i].value);
	fprintf(to, "%-14s%12.3f\n%-14s%12.0f\n%-14s%12" PRIu64 "\n", "seconds", seconds,
			"events/s", rate, "seed", options->seed);
	if (deliveries->last_error[0] != '\0')
		fprintf(to, "%-14s%s\n", "last error", deliveries->last_error);
}

void
report_totals(FILE *to, const struct options *options, const struct deliveries *deliveries,
			  double seconds)
{
	double		rate = seconds > 0 ? (double) deliveries->sent / seconds : 0;

	if (options->json)
		report_json(to, options, deliveries, seconds, rate);
	else
		report_text(to, options, deliveries, seconds, rate);
	fflush(to);
}
