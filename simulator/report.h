#ifndef SIMULATOR_REPORT_H
#define SIMULATOR_REPORT_H

#include <stdbool.h>
#include <stdio.h>

#include "options.h"
#include "producer.h"

/* one line: a terminal's is rewritten in place */
extern void report_progress(const struct deliveries *deliveries, double seconds, double rate);
extern void report_progress_end(void);

extern void report_totals(FILE *to, const struct options *options,
						  const struct deliveries *deliveries, double seconds);

#endif							/* SIMULATOR_REPORT_H */
