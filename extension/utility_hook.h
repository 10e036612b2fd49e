/*
 * utility_hook.h
 *		Commands on a whole database that its workers would stand in the way of.
 */
#ifndef CLICKSTREAM_UTILITY_HOOK_H
#define CLICKSTREAM_UTILITY_HOOK_H

/* in the postmaster, from _PG_init */
extern void utility_hook_register(void);

#endif							/* CLICKSTREAM_UTILITY_HOOK_H */
