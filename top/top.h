/*
 * top.h
 *		What the files of clickstream_top show each other: one look at the database,
 *		and the text made of it.
 */
#ifndef TOP_H
#define TOP_H

#include <stdbool.h>
#include <stdio.h>
#include <libpq-fe.h>

/* which answer is which in a look; see look.c for their columns */
enum question
{
	ASK_CLOCK,
	ASK_SOURCES,
	ASK_ROLLUPS,
	ASK_SINKS,
	ASK_PAGES,
	QUESTIONS
};

/* One look: an answer for each question (NULL where it was not asked), or why there is none. */
typedef struct Look
{
	double		at;				/* by a clock that nobody sets, in seconds */
	PGresult   *answers[QUESTIONS];
	char	   *error;
} Look;

/* what stands before a piece of the text: how it is to look on a screen */
#define LOOKS_PLAIN		'\001'
#define LOOKS_HEADING	'\002'
#define LOOKS_GOOD		'\003'
#define LOOKS_WAITING	'\004'
#define LOOKS_BAD		'\005'
#define LOOKS_FAINT		'\006'

/* look.c */
extern PGconn *look_connect(const char *conninfo);
extern const char *look_refusal(PGconn *conn);
extern void look_take(PGconn *conn, const char *pages, Look *look);
extern void look_free(Look *look);
extern bool look_number(const Look *look, enum question question, int row, const char *column, double *number);
extern bool look_rate(const Look *now, const Look *before, enum question question, int row, const char *column, double *rate);
extern const char *look_text(const Look *look, enum question question, int row, const char *column);
extern int	look_rows(const Look *look, enum question question);

/* frame.c */
extern char *frame_text(const Look *now, const Look *before, const char *pages, int width);
extern void frame_print_plain(FILE *out, const char *text);

/* screen.c */
extern bool screen_open(void);
extern void screen_draw(const char *text);
extern int	screen_key(double seconds);
extern int	screen_width(void);
extern void screen_close(void);

#endif
