/*
 * read_only.h
 *		Whether ALTER DATABASE or ALTER ROLE makes transactions of a role here read only.
 */
#ifndef CLICKSTREAM_READ_ONLY_H
#define CLICKSTREAM_READ_ONLY_H

#include "postgres.h"

/* needs a transaction; a worker that runs would not notice otherwise */
extern bool read_only_by_alter(Oid role);

#endif							/* CLICKSTREAM_READ_ONLY_H */
