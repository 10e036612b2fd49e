/*
 * rollup_forgery.h
 *		Commands by which the owner of a rollup's table could put rows of his own making into it: refused.
 */
#ifndef CLICKSTREAM_ROLLUP_FORGERY_H
#define CLICKSTREAM_ROLLUP_FORGERY_H

#include "postgres.h"

#include "nodes/pg_list.h"

extern void rollup_refuse_forgery(Node *statement);

/* tables that are there and have lost a guard trigger */
extern void rollup_refuse_lost_guards(List *relations);

#endif							/* CLICKSTREAM_ROLLUP_FORGERY_H */
