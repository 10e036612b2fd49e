#ifndef SIMULATOR_OPTIONS_H
#define SIMULATOR_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "scenario.h"

#define MAX_ROUTES 8
#define MAX_PROPERTIES 32
#define NO_LIMIT UINT64_MAX

enum key_choice
{
	KEY_USER,
	KEY_PAGE,
	KEY_EVENT,
	KEY_NONE
};

struct options
{
	const char *bootstrap;
	const char *topic;
	const char *routes[MAX_ROUTES]; /* "kind=topic": events of that kind go there */
	size_t		nroutes;
	enum key_choice key;
	int			create_partitions;	/* 0: the topics must exist */
	const char *compression;
	char	   *properties[MAX_PROPERTIES]; /* "name=value", librdkafka's own */
	size_t		nproperties;

	uint64_t	rate;			/* events a second; 0: as fast as possible */
	uint64_t	count;			/* NO_LIMIT, or stop after so many */
	double		seconds;		/* 0: no limit */

	uint64_t	seed;
	int64_t		start;			/* time of the first event, seconds since 1970 */
	uint64_t	event_rate;		/* events in a second of event time */
	struct scenario scenario;
	bool		rhythm;			/* of the day; else the same rate at all times */
	uint32_t	users;
	uint32_t	pages;
	double		late;			/* shares of all events, together at most 1 */
	uint32_t	late_by;		/* seconds, at most */
	double		malformed;
	double		duplicates;
	double		tombstones;

	bool		print;
	bool		json;
	bool		quiet;
};

/* exits with 2 and one line on stderr when the arguments cannot be used */
extern void options_parse(struct options *options, int argc, char **argv);

#endif							/* SIMULATOR_OPTIONS_H */
