/*
 * frame.c
 *		Makes the text of one look: a block of lines for sources, rollups, sinks and
 *		top pages.
 *
 * Owns columns, widths and what is worth a line; the marks in the text (top.h) say
 * how a piece is to look, and are left out where there is no screen. Names, pages
 * and errors come from outside: nothing of them but printable characters gets
 * through, so that no event can send commands to the terminal. Called by main.c.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <wchar.h>
#include <wctype.h>

#include "top.h"

#define NAME_WIDTH 26

/* text in a field: cut or filled to its width, each column being one on the screen; negative: to the right */
static void
put_cell(FILE *out, const char *text, int width)
{
	int			room = abs(width);
	int			used = 0;
	char	   *kept = NULL;
	size_t		size = 0;
	FILE	   *cell = open_memstream(&kept, &size);
	mbstate_t	state = {0};

	while (*text != '\0')
	{
		wchar_t		letter;
		size_t		length = mbrtowc(&letter, text, MB_CUR_MAX, &state);
		bool		broken = length == (size_t) -1 || length == (size_t) -2;
		int			columns = broken ? -1 : wcwidth(letter);

		if (broken)
			memset(&state, 0, sizeof(state));
		if (used + (columns < 0 ? 1 : columns) > room)
			break;
		if (columns < 0)
			fputc(broken || !iswspace((wint_t) letter) ? '?' : ' ', cell);
		else
			fwrite(text, 1, length, cell);
		used += columns < 0 ? 1 : columns;
		text += broken ? 1 : length;
	}
	fclose(cell);
	if (width < 0)
		fprintf(out, "%*s", room - used, "");
	fputs(kept, out);
	if (width > 0)
		fprintf(out, "%*s", room - used, "");
	free(kept);
}

/* 1234567 as 1,234,567 */
static const char *
grouped(double number, char *text, size_t size)
{
	char		digits[32];
	int			length = snprintf(digits, sizeof(digits), "%.0f", number);
	size_t		used = 0;

	for (int i = 0; i < length && used + 2 < size; i++)
	{
		if (i > 0 && (length - i) % 3 == 0 && digits[i - 1] != '-')
			text[used++] = ',';
		text[used++] = digits[i];
	}
	text[used] = '\0';
	return text;
}

static void
put_number(FILE *out, const Look *now, enum question question, int row, const char *column, int width)
{
	char		text[48];
	double		number;

	fputc(' ', out);
	put_cell(out, look_number(now, question, row, column, &number) ? grouped(number, text, sizeof(text)) : "-", -width);
}

static void
put_rate(FILE *out, const Look *now, const Look *before, enum question question, int row, const char *column, int width)
{
	char		text[48];
	double		rate;

	fputc(' ', out);
	put_cell(out, look_rate(now, before, question, row, column, &rate) ? grouped(rate, text, sizeof(text)) : "-", -width);
}

static void
put_bytes(FILE *out, const Look *now, enum question question, int row, const char *column, int width)
{
	static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
	char		text[48] = "-";
	double		number;
	int			unit = 0;

	if (look_number(now, question, row, column, &number))
	{
		for (; number >= 1000 && unit < 4; unit++)
			number /= 1000;
		snprintf(text, sizeof(text), unit ? "%.1f %s" : "%.0f %s", number, units[unit]);
	}
	fputc(' ', out);
	put_cell(out, text, -width);
}

static char
looks_of(const char *state)
{
	static const char *const good[] = {"running", "complete", NULL};
	static const char *const bad[] = {"stopped", "diverged", "incomplete", NULL};

	for (int i = 0; good[i]; i++)
		if (strcmp(state, good[i]) == 0)
			return LOOKS_GOOD;
	for (int i = 0; bad[i]; i++)
		if (strcmp(state, bad[i]) == 0)
			return LOOKS_BAD;
	return LOOKS_WAITING;
}

static void
put_who(FILE *out, const Look *now, enum question question, int row)
{
	const char *state = look_text(now, question, row, "state");

	put_cell(out, look_text(now, question, row, "name"), NAME_WIDTH);
	fprintf(out, " %c", looks_of(state));
	put_cell(out, state, 10);
	fputc(LOOKS_PLAIN, out);
}

/* Why it is in its state, and its last error if that is of the last minute or it is not well. */
static void
put_reasons(FILE *out, const Look *now, enum question question, int row, int width)
{
	const char *detail = look_text(now, question, row, "detail");
	const char *error = look_text(now, question, row, "last_error");
	bool		well = looks_of(look_text(now, question, row, "state")) == LOOKS_GOOD;

	fputc('\n', out);
	if (detail[0] != '\0')
	{
		fprintf(out, "%c  ", LOOKS_FAINT);
		put_cell(out, detail, width - 2);
		fprintf(out, "%c\n", LOOKS_PLAIN);
	}
	if (error[0] != '\0' && strcmp(error, detail) != 0 &&
		(!well || strcmp(look_text(now, question, row, "fresh"), "t") == 0))
	{
		fprintf(out, "%c  %s  ", LOOKS_BAD, look_text(now, question, row, "last_error_at"));
		put_cell(out, error, width - 12);
		fprintf(out, "%c\n", LOOKS_PLAIN);
	}
}

/* The columns are as wide as the cells below have them. Others' are not seen, so "none" is none of one's own. */
static void
put_heading(FILE *out, const Look *now, enum question question, const char *title, const char *columns)
{
	fprintf(out, "\n%c%-*s %-10s%s%c\n", LOOKS_HEADING, NAME_WIDTH, title, "state", columns, LOOKS_PLAIN);
	if (look_rows(now, question) == 0)
		fprintf(out, "%cnone of yours%c\n", LOOKS_FAINT, LOOKS_PLAIN);
}

static void
put_sources(FILE *out, const Look *now, const Look *before, int width)
{
	put_heading(out, now, ASK_SOURCES, "SOURCES", "           rows    rows/s          lag  dead letters    skipped");
	for (int row = 0; row < look_rows(now, ASK_SOURCES); row++)
	{
		put_who(out, now, ASK_SOURCES, row);
		put_number(out, now, ASK_SOURCES, row, "rows", 14);
		put_rate(out, now, before, ASK_SOURCES, row, "rows", 9);
		put_number(out, now, ASK_SOURCES, row, "lag", 12);
		put_number(out, now, ASK_SOURCES, row, "dead_letters", 13);
		put_number(out, now, ASK_SOURCES, row, "skipped", 10);
		put_reasons(out, now, ASK_SOURCES, row, width);
	}
}

static void
put_rollups(FILE *out, const Look *now, int width)
{
	double		done,
				all;

	put_heading(out, now, ASK_ROLLUPS, "ROLLUPS", " over");
	for (int row = 0; row < look_rows(now, ASK_ROLLUPS); row++)
	{
		put_who(out, now, ASK_ROLLUPS, row);
		fputc(' ', out);
		put_cell(out, look_text(now, ASK_ROLLUPS, row, "target"), NAME_WIDTH);
		if (look_number(now, ASK_ROLLUPS, row, "blocks_done", &done) && look_number(now, ASK_ROLLUPS, row, "blocks_total", &all) && all > 0)
			fprintf(out, " %3.0f %% read", 100 * done / all);
		put_reasons(out, now, ASK_ROLLUPS, row, width);
	}
}

static void
put_sinks(FILE *out, const Look *now, const Look *before, int width)
{
	put_heading(out, now, ASK_SINKS, "SINKS", "      documents    docs/s          lag       refused    retries");
	for (int row = 0; row < look_rows(now, ASK_SINKS); row++)
	{
		put_who(out, now, ASK_SINKS, row);
		put_number(out, now, ASK_SINKS, row, "documents", 14);
		put_rate(out, now, before, ASK_SINKS, row, "documents", 9);
		put_bytes(out, now, ASK_SINKS, row, "lag_bytes", 12);
		put_number(out, now, ASK_SINKS, row, "failures", 13);
		put_number(out, now, ASK_SINKS, row, "retries", 10);
		put_reasons(out, now, ASK_SINKS, row, width);
	}
}

static void
put_pages(FILE *out, const Look *now, const char *pages, int width)
{
	double		most = 1,
				views;

	if (now->answers[ASK_PAGES] == NULL)
		return;
	fprintf(out, "\n%cTOP PAGES of the last five minutes, by ", LOOKS_HEADING);
	put_cell(out, pages, (int) strlen(pages));
	fprintf(out, "%c\n", LOOKS_PLAIN);
	for (int row = 0; row < look_rows(now, ASK_PAGES); row++)
	{
		look_number(now, ASK_PAGES, row, "views", &views);
		if (row == 0 && views > 0)
			most = views;
		put_cell(out, look_text(now, ASK_PAGES, row, "page"), NAME_WIDTH + 11);
		put_number(out, now, ASK_PAGES, row, "views", 14);
		fprintf(out, "  %c", LOOKS_FAINT);
		for (int i = 0; i < views / most * (width > 90 ? 30 : 20); i++)
			fputc('=', out);
		fprintf(out, "%c\n", LOOKS_PLAIN);
	}
}

/* Where and when, in one line. */
static void
put_title(FILE *out, const Look *now)
{
	fprintf(out, "%cclickstream_top%c  ", LOOKS_HEADING, LOOKS_PLAIN);
	put_cell(out, look_text(now, ASK_CLOCK, 0, "database"), (int) strlen(look_text(now, ASK_CLOCK, 0, "database")));
	fprintf(out, ", port %s, as %s, %s%s\n", look_text(now, ASK_CLOCK, 0, "port"), look_text(now, ASK_CLOCK, 0, "user"),
			look_text(now, ASK_CLOCK, 0, "clock"), look_text(now, ASK_CLOCK, 0, "standby")[0] == 't' ? ", a standby" : "");
}

/* The lines of a look, allocated; rates are against the look before. */
char *
frame_text(const Look *now, const Look *before, const char *pages, int width)
{
	char	   *text = NULL;
	size_t		size = 0;
	FILE	   *out = open_memstream(&text, &size);

	if (now->error)
	{
		fprintf(out, "%cPostgreSQL does not answer, it is asked again:%c\n", LOOKS_BAD, LOOKS_PLAIN);
		put_cell(out, now->error, width);
		fputc('\n', out);
	}
	else
	{
		put_title(out, now);
		put_sources(out, now, before, width);
		put_rollups(out, now, width);
		put_sinks(out, now, before, width);
		put_pages(out, now, pages, width);
	}
	fclose(out);
	return text;
}

/* The text without its marks, and without blanks at the ends of lines. */
void
frame_print_plain(FILE *out, const char *text)
{
	int			blanks = 0;

	for (; *text != '\0'; text++)
	{
		if (*text >= LOOKS_PLAIN && *text <= LOOKS_FAINT)
			continue;
		if (*text == ' ')
		{
			blanks++;
			continue;
		}
		if (*text != '\n')
			fprintf(out, "%*s", blanks, "");
		blanks = 0;
		fputc(*text, out);
	}
	fputc('\n', out);
	fflush(out);
}
