/*
 * rollup_query.h
 *		A rollup's query taken apart: its target, its group keys, its aggregates and their states.
 *
 * All of it lives in the memory context that was current at the call.
 */
#ifndef CLICKSTREAM_ROLLUP_QUERY_H
#define CLICKSTREAM_ROLLUP_QUERY_H

#include "postgres.h"

#include "access/attnum.h"
#include "nodes/parsenodes.h"
#include "nodes/primnodes.h"

/* what the table calls the key of a rollup without GROUP BY, and the number of rows of a group */
#define ROLLUP_KEY_COLUMN "_key"
#define ROLLUP_ROWS_COLUMN "_rows"

/*
 * A column of the query's result, and the column of that number of the rollup's table.  A column
 * is a group key, the state of an aggregate (where state and value are the same thing), or an
 * expression over keys and aggregates that is computed again whenever the group changes.
 */
typedef struct RollupOutput
{
	char	   *name;
	Node	   *value;			/* as the query has it */
	Oid			type;
	int32		typmod;
	Oid			collation;
	bool		is_key;
	bool		may_be_null;	/* of a key: false only if that is certain */
	bool		is_state;
} RollupOutput;

/* An aggregate that occurs in the query, once for all its occurrences. */
typedef struct RollupAggregate
{
	Aggref	   *aggref;
	Oid			argument_types[FUNC_MAX_ARGS];
	int			n_arguments;
	Oid			transition_type;
	Oid			state_type;		/* bytea where the transition type is internal */
	Oid			state_collation;
	Oid			combine;
	Oid			final;			/* InvalidOid: the state is the value */
	bool		can_be_merged;
	AttrNumber	column;			/* of the rollup's table, where its state is */
	char	   *name;			/* that column's, when the table is made */
	bool		is_output;		/* that column is an output */
} RollupAggregate;

typedef struct RollupQuery
{
	Query	   *query;
	Oid			target;
	int			target_index;	/* in the query's range table */
	bool		is_single_group;	/* no GROUP BY: one row, always */
	List	   *outputs;		/* of RollupOutput *, by column number */
	List	   *aggregates;		/* of RollupAggregate *, by column number */
	AttrNumber	key_column;		/* of a single group, else 0 */
	const char *key_name;		/* that column's, when the table is made */
	int			rows;			/* index in aggregates of the plain count(*) */
	int			n_columns;		/* of the rollup's table, as made */
	bool		needs_search_path;	/* it calls functions that may look for names when they run */
} RollupQuery;

/* A query that follows the rules of rollup_rules.c; the target by its range table index. */
extern RollupQuery *rollup_query_take_apart(Query *query, int target_index);

/* The query of a rollup's definition; checked when it was made. */
extern RollupQuery *rollup_query_of_definition(Oid definition, Oid target);

/*
 * The range table indexes of all tables in FROM, in order, but not those in sub-queries.  Those that
 * are on the nullable side of an outer join are added to *nullable_ones.
 */
extern List *rollup_query_tables(const Query *query, Node *from, bool nullable, List **nullable_ones);

/* The column numbers of the group keys, in the order of the index. */
extern List *rollup_query_keys(const RollupQuery *query);

/*
 * The query that gives, for each group, its keys and the aggregates (in order of
 * rollup_query_state_columns), with nothing above the aggregates; a fresh copy.
 */
extern Query *rollup_query_of_states(const RollupQuery *query);

/* The columns of the rollup's table that rollup_query_of_states computes, in its order. */
extern List *rollup_query_state_columns(const RollupQuery *query);

/* Whether an aggregate is a sum whose state is an int8: 0 may then be the sum of values that were taken away. */
extern bool rollup_query_is_sum_of_integers(const RollupAggregate *aggregate);

/* The number of an output that says when: the first group key that is a point in time, or 0. */
extern AttrNumber rollup_query_time_column(const RollupQuery *query);

#endif							/* CLICKSTREAM_ROLLUP_QUERY_H */
