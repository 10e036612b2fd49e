/*
 * kafka_scram.h
 *		A user proves to a broker by SCRAM that it knows its password, and the broker that it does.
 */
#ifndef CLICKSTREAM_KAFKA_SCRAM_H
#define CLICKSTREAM_KAFKA_SCRAM_H

#include <stdbool.h>
#include <stddef.h>

/* a connection, however it is made: both give or take all of n bytes, or return false */
typedef struct ScramChannel
{
	bool		(*send) (void *link, const void *bytes, size_t n);
	bool		(*receive) (void *link, void *bytes, size_t n);
	void	   *link;
} ScramChannel;

typedef struct ScramUser
{
	const char *mechanism;		/* SCRAM-SHA-256 or SCRAM-SHA-512 */
	const char *name;
	const char *password;
} ScramUser;

typedef enum ScramOutcome
{
	SCRAM_DONE,
	SCRAM_REFUSED,				/* the broker says no, or is not who it says: a person has to mend it */
	SCRAM_BROKEN				/* the connection ended, or what came is no answer */
} ScramOutcome;

/* no memory of PostgreSQL's: for any thread; why it failed goes to reason, never with a secret in it */
extern ScramOutcome scram_authenticate(const ScramChannel *channel, const ScramUser *user, char *reason, size_t room);

#endif							/* CLICKSTREAM_KAFKA_SCRAM_H */
