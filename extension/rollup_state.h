/*
 * rollup_state.h
 *		What the functions that take states of aggregates want to be given by those who may call them.
 */
#ifndef CLICKSTREAM_ROLLUP_STATE_H
#define CLICKSTREAM_ROLLUP_STATE_H

#include "postgres.h"

#include "nodes/params.h"

/* a number that nobody knows but this process, and the same as the $1 of an expression */
extern int64 rollup_state_pass(void);
extern ParamListInfo rollup_state_parameters(void);

#endif							/* CLICKSTREAM_ROLLUP_STATE_H */
