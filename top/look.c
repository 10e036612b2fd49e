/*
 * look.c
 *		Asks PostgreSQL what clickstream_top shows.
 *
 * Owns the queries, all over the stat views but the one for the top pages, which
 * reads a rollup. They run in one read-only snapshot. It must never write, and
 * must never fail for good: a look without an answer carries the reason instead.
 * Called by main.c; frame.c reads the answers through the functions here.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "top.h"

static const char *const questions[QUESTIONS] = {
	[ASK_CLOCK] = "SELECT to_char(clock_timestamp(), 'HH24:MI:SS') AS clock, current_database() AS database, current_user AS \"user\","
	" inet_server_addr() AS address, current_setting('port') AS port, pg_is_in_recovery() AS standby",
	[ASK_SOURCES] = "SELECT source AS name, state, detail, messages, rows, dead_letters, skipped, lag, last_error,"
	" to_char(last_error_at, 'HH24:MI:SS') AS last_error_at, last_error_at > now() - interval '1 minute' AS fresh"
	" FROM clickstream.stat_sources ORDER BY source",
	[ASK_ROLLUPS] = "SELECT rollup AS name, target, state, coalesce(detail, phase) AS detail, blocks_done, blocks_total, last_error,"
	" to_char(last_error_at, 'HH24:MI:SS') AS last_error_at, last_error_at > now() - interval '1 minute' AS fresh"
	" FROM clickstream.stat_rollups ORDER BY rollup::text",
	[ASK_SINKS] = "SELECT sink AS name, state, detail, documents, deletes, failures, retries, lag_bytes, last_error,"
	" to_char(last_error_at, 'HH24:MI:SS') AS last_error_at, last_error_at > now() - interval '1 minute' AS fresh"
	" FROM clickstream.stat_sinks ORDER BY sink",
	/* ASK_PAGES names a relation, so it is made in look_pages */
};

static double
now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double) time.tv_sec + (double) time.tv_nsec / 1e9;
}

/*
 * Where libpq's variables, or the argument, say. Both of the settings given here
 * can be overruled there.
 */
PGconn *
look_connect(const char *conninfo)
{
	const char *keywords[] = {"connect_timeout", "fallback_application_name", "client_encoding", "dbname", NULL};
	const char *values[] = {getenv("PGCONNECT_TIMEOUT") ? NULL : "5", "clickstream_top", "auto", conninfo, NULL};

	return PQconnectdbParams(keywords, values, 1);
}

/* Why a fresh connection is of no use here, or NULL. */
const char *
look_refusal(PGconn *conn)
{
	static const char *refusal;
	PGresult   *answer = PQexec(conn, "SELECT FROM pg_extension WHERE extname = 'clickstream'");

	if (PQresultStatus(answer) != PGRES_TUPLES_OK)
		refusal = PQerrorMessage(conn);
	else if (PQntuples(answer) == 0)
		refusal = "this database has no clickstream: connect to another, or run CREATE EXTENSION clickstream\n";
	else
		refusal = NULL;
	PQclear(answer);
	return refusal;
}

/* A complete answer, or NULL with the reason in the look. */
static PGresult *
ask(PGconn *conn, const char *query, int parameters, const char *const *values, Look *look)
{
	PGresult   *answer = PQexecParams(conn, query, parameters, NULL, values, NULL, NULL, 0);

	if (PQresultStatus(answer) == PGRES_TUPLES_OK || PQresultStatus(answer) == PGRES_COMMAND_OK)
		return answer;
	if (look->error == NULL)
		look->error = strdup(PQerrorMessage(conn));
	PQclear(answer);
	return NULL;
}

/*
 * The pages of the last five minutes, of a rollup that has the columns minute,
 * page and views and that the user may read; nothing where there is none.
 */
static PGresult *
look_pages(PGconn *conn, const char *pages, Look *look)
{
	static const char fits[] =
		"SELECT c.oid::regclass FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND NOT a.attisdropped"
		" WHERE c.oid = to_regclass($1) AND a.attname IN ('minute', 'page', 'views')"
		" AND has_table_privilege(c.oid, 'SELECT') GROUP BY c.oid HAVING count(*) = 3";
	PGresult   *found = ask(conn, fits, 1, &pages, look);
	PGresult   *answer = NULL;
	char		query[1024];

	/* the name as PostgreSQL itself writes it, with quotes where they are needed */
	if (found && PQntuples(found) == 1 &&
		snprintf(query, sizeof(query), "SELECT page, sum(views)::bigint AS views FROM %s"
				 " WHERE minute > now() - interval '5 minutes' AND minute <= now()"
				 " GROUP BY page ORDER BY 2 DESC, 1 LIMIT 10", PQgetvalue(found, 0, 0)) < (int) sizeof(query))
		answer = ask(conn, query, 0, NULL, look);
	PQclear(found);
	return answer;
}

/* A look; a connection that broke is made anew for it. */
void
look_take(PGconn *conn, const char *pages, Look *look)
{
	memset(look, 0, sizeof(*look));
	if (PQstatus(conn) != CONNECTION_OK)
		PQreset(conn);
	if (PQstatus(conn) != CONNECTION_OK)
	{
		look->error = strdup(PQerrorMessage(conn));
		return;
	}
	PQclear(ask(conn, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", 0, NULL, look));
	for (int i = 0; i < ASK_PAGES && !look->error; i++)
		look->answers[i] = ask(conn, questions[i], 0, NULL, look);
	if (!look->error && pages[0] != '\0')
		look->answers[ASK_PAGES] = look_pages(conn, pages, look);
	look->at = now();
	PQclear(PQexec(conn, "ROLLBACK"));
}

void
look_free(Look *look)
{
	for (int i = 0; i < QUESTIONS; i++)
		PQclear(look->answers[i]);
	free(look->error);
	memset(look, 0, sizeof(*look));
}

/* --- what an answer holds --- */

int
look_rows(const Look *look, enum question question)
{
	return look->answers[question] ? PQntuples(look->answers[question]) : 0;
}

/* A column's text; "" for NULL. */
const char *
look_text(const Look *look, enum question question, int row, const char *column)
{
	PGresult   *answer = look->answers[question];
	int			number = PQfnumber(answer, column);

	return number < 0 ? "" : PQgetvalue(answer, row, number);
}

bool
look_number(const Look *look, enum question question, int row, const char *column, double *number)
{
	const char *text = look_text(look, question, row, column);

	*number = strtod(text, NULL);
	return text[0] != '\0';
}

/*
 * How fast a counter grew since the look before, for the source or sink of this
 * row; false where that is not known: it was not there, or began anew.
 */
bool
look_rate(const Look *now, const Look *before, enum question question, int row, const char *column, double *rate)
{
	const char *name = look_text(now, question, row, "name");
	double		newer,
				older;

	for (int i = 0; i < look_rows(before, question); i++)
	{
		if (strcmp(look_text(before, question, i, "name"), name) != 0)
			continue;
		if (!look_number(now, question, row, column, &newer) || !look_number(before, question, i, column, &older) ||
			newer < older || now->at <= before->at)
			return false;
		*rate = (newer - older) / (now->at - before->at);
		return true;
	}
	return false;
}
