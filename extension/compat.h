/*
 * compat.h
 *		The differences between the versions of PostgreSQL, and the only place for them.
 *
 * clickstream is written for PostgreSQL 15 to 18.  A file that needs an interface that changed
 * includes this header and uses the name given here.
 */
#ifndef CLICKSTREAM_COMPAT_H
#define CLICKSTREAM_COMPAT_H

#include "postgres.h"

#if PG_VERSION_NUM < 150000
#error "clickstream needs PostgreSQL 15 or newer"
#endif

#endif							/* CLICKSTREAM_COMPAT_H */
