/*
 * background.h
 *		The ground on which launcher, scouts and workers stand, whatever a role or database says.
 */
#ifndef CLICKSTREAM_BACKGROUND_H
#define CLICKSTREAM_BACKGROUND_H

#include "postgres.h"

/* after the connection: every setting that changes the meaning of what is read or written */
extern PGDLLEXPORT void background_pin_settings(void);

/* in a backend, until the GUC nest level ends: how values print, as in a worker */
extern void background_pin_forms(void);

/* a FATAL error for SIGTERM at the next safe point, and a note for those who would rather return */
extern PGDLLEXPORT void background_handle_signals(void);

#endif							/* CLICKSTREAM_BACKGROUND_H */
