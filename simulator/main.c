/*
 * main.c
 *		clickstream_simulator: simulated clicks into a Kafka topic, or onto standard output.
 *
 * Owns the run: how many events are due, when to stop, when to report. A first SIGINT or SIGTERM
 * stops making events, waits for the broker's answers and prints the totals; a second one does
 * not wait.
 */
#include <signal.h>
#include <stdlib.h>
#include <time.h>

#include "events.h"
#include "options.h"
#include "producer.h"
#include "report.h"

#define EVENTS_A_TURN 1000
#define ANSWERS_AT_END 130.0	/* seconds: longer than librdkafka's own message time-out */
#define ANSWERS_AFTER_SIGNAL 10.0

struct run
{
	const struct options *options;
	struct generator *generator;
	struct producer *producer;	/* NULL: print */
	struct deliveries printed;
	double		started;
	double		looked_at;		/* seconds since then, of this turn */
	uint64_t	made;			/* events handed on */
	double		reported_at;
	uint64_t	reported_sent;
};

static volatile sig_atomic_t stop_requests = 0;

static void
on_signal(int signal_number)
{
	(void) signal_number;
	if (++stop_requests > 1)
		_Exit(1);
}

static double
seconds_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double) now.tv_sec + (double) now.tv_nsec / 1e9;
}

static void
pause_ms(long ms)
{
	nanosleep(&(struct timespec) {.tv_nsec = ms * 1000000}, NULL);
}

static const struct deliveries *
deliveries_of(const struct run *run)
{
	return run->producer != NULL ? producer_deliveries(run->producer) : &run->printed;
}

static bool
is_over(const struct run *run)
{
	const struct options *options = run->options;

	return stop_requests > 0 ||
		run->made >= options->count ||
		(options->seconds > 0 && seconds_now() - run->started >= options->seconds);
}

/*
 * Whether the next event is to be made now. At a rate, the time of the events runs as fast as the
 * rate is to that of the scenario.
 */
static bool
is_due(const struct run *run)
{
	const struct options *options = run->options;
	double		event_seconds;

	if (run->made >= options->count)
		return false;
	if (options->rate == 0)
		return true;
	event_seconds = run->looked_at * (double) options->rate / (double) options->event_rate;
	return generator_time(run->generator) <= event_seconds;
}

static void
print_event(struct run *run, const struct event *event)
{
	fwrite(event->payload, 1, event->payload_length, stdout);
	if (putchar('\n') == EOF)
		stop_requests = 1;
	run->printed.sent++;
	run->printed.sent_of[event->class]++;
	run->printed.bytes += event->payload_length + event->key_length;
}

/* false: the run is over before there was room for the event */
static bool
hand_on(struct run *run, const struct event *event)
{
	if (run->producer == NULL)
		print_event(run, event);
	else
		while (!producer_send(run->producer, event))
		{
			if (is_over(run))
				return false;
			producer_poll(run->producer, 50);
		}
	run->made++;
	return true;
}

static void
show_progress(struct run *run)
{
	double		now = seconds_now();
	uint64_t	sent = deliveries_of(run)->sent;

	if (run->options->quiet || now - run->reported_at < 1)
		return;
	report_progress(deliveries_of(run), now - run->started,
					(double) (sent - run->reported_sent) / (now - run->reported_at));
	run->reported_at = now;
	run->reported_sent = sent;
}

/* a turn's worth, or what is due; how many */
static int
make_turn(struct run *run)
{
	int			n = 0;

	run->looked_at = seconds_now() - run->started;
	while (n < EVENTS_A_TURN && is_due(run) && hand_on(run, generator_next(run->generator)))
		n++;
	return n;
}

static void
make_events(struct run *run)
{
	while (!is_over(run))
	{
		int			made = make_turn(run);

		if (run->producer != NULL)
			producer_poll(run->producer, made > 0 ? 0 : 1);
		else if (made == 0)
		{
			fflush(stdout);
			pause_ms(1);
		}
		show_progress(run);
	}
}

/* the broker's last answers, with progress while they come */
static void
await_answers(struct run *run)
{
	if (run->producer == NULL)
	{
		if (fflush(stdout) != 0)
			run->printed.failed++;
		return;
	}
	producer_finish(run->producer, stop_requests > 0 ? ANSWERS_AFTER_SIGNAL : ANSWERS_AT_END);
}

static bool
open_producer(struct run *run)
{
	run->producer = producer_open(run->options);
	return run->producer != NULL && producer_prepare_topics(run->producer, run->options);
}

int
main(int argc, char **argv)
{
	struct options options;
	struct run	run = {.options = &options};
	double		seconds;
	bool		all_sent;

	options_parse(&options, argc, argv);
	if (!options.print && !open_producer(&run))
		return 1;
	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);

	run.generator = generator_create(&options);
	run.started = run.reported_at = seconds_now();
	make_events(&run);
	await_answers(&run);
	seconds = seconds_now() - run.started;
	if (!options.quiet)
		report_progress_end();

	/* when the events themselves went to standard output, the totals must not */
	report_totals(options.print ? stderr : stdout, &options, deliveries_of(&run), seconds);
	all_sent = deliveries_of(&run)->failed == 0;
	generator_free(run.generator);
	if (run.producer != NULL)
		producer_close(run.producer);
	return all_sent ? 0 : 1;
}
