/*
 * rollup_command.h
 *		What is to be done before a command that drops or empties tables.
 */
#ifndef CLICKSTREAM_ROLLUP_COMMAND_H
#define CLICKSTREAM_ROLLUP_COMMAND_H

#include "postgres.h"

#include "nodes/nodes.h"

extern void rollup_before_command(Node *statement);

#endif							/* CLICKSTREAM_ROLLUP_COMMAND_H */
