/*
 * rollup_rules.h
 *		A user's query that can be a rollup, or an error that says why not and what to do instead.
 */
#ifndef CLICKSTREAM_ROLLUP_RULES_H
#define CLICKSTREAM_ROLLUP_RULES_H

#include "postgres.h"

#include "nodes/parsenodes.h"

#include "rollup_query.h"

/* `prefer` is asked for each table in FROM whether it is the one meant; else the first is. */
extern RollupQuery *rollup_rules_parse(const char *sql, bool (*prefer) (Oid relation), RawStmt **raw);

#endif							/* CLICKSTREAM_ROLLUP_RULES_H */
