/*
 * sink_swap.h
 *		A new index takes the place of the old one behind the alias, and the old one goes.
 */
#ifndef CLICKSTREAM_SINK_SWAP_H
#define CLICKSTREAM_SINK_SWAP_H

#include "postgres.h"

#include "catalog.h"
#include "elasticsearch.h"

/*
 * The alias leads to this index from now on.  What it led to before leaves it, and, if it was this sink's, is
 * marked to be deleted.  NULL when it is done, or why not.
 */
extern char *sink_swap_in(Elasticsearch *client, const Sink *sink, const char *physical);

/*
 * Deletes what was marked, once no search reads it any more, or at_once; true when nothing is left of it.  After
 * a crash, too: the mark is in Elasticsearch.
 */
extern bool sink_swap_clear(Elasticsearch *client, const Sink *sink, bool at_once);

#endif							/* CLICKSTREAM_SINK_SWAP_H */
