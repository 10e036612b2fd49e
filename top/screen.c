/*
 * screen.c
 *		The terminal: drawn over in place by curses, keys read.
 *
 * Owns all of curses. Where it was built without, there is no screen and the
 * program prints plain text. Called by main.c.
 */
#define _GNU_SOURCE
#define NCURSES_WIDECHAR 1
#include "top.h"

#ifdef HAVE_CURSES

#include <curses.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wchar.h>

static bool open_now = false;

/* how each mark looks */
static attr_t
attributes(char mark)
{
	switch (mark)
	{
		case LOOKS_HEADING:
			return A_BOLD;
		case LOOKS_GOOD:
			return has_colors() ? (attr_t) COLOR_PAIR(1) : A_NORMAL;
		case LOOKS_WAITING:
			return has_colors() ? (attr_t) COLOR_PAIR(2) : A_UNDERLINE;
		case LOOKS_BAD:
			return (has_colors() ? (attr_t) COLOR_PAIR(3) : A_REVERSE) | A_BOLD;
		case LOOKS_FAINT:
			return A_DIM;
		default:
			return A_NORMAL;
	}
}

bool
screen_open(void)
{
	const char *kind = getenv("TERM");

	if (!isatty(STDOUT_FILENO) || !isatty(STDIN_FILENO) || !kind || strcmp(kind, "dumb") == 0 || !initscr())
		return false;
	open_now = true;
	cbreak();
	noecho();
	curs_set(0);
	keypad(stdscr, TRUE);
	if (has_colors())
	{
		start_color();
		use_default_colors();
		init_pair(1, COLOR_GREEN, -1);
		init_pair(2, COLOR_YELLOW, -1);
		init_pair(3, COLOR_RED, -1);
	}
	return true;
}

void
screen_close(void)
{
	if (open_now)
		endwin();
	open_now = false;
}

int
screen_width(void)
{
	return COLS;
}

/* A piece of a line, up to the edge of the screen. */
static void
draw_piece(const char *text, size_t length)
{
	wchar_t		letters[1024];
	char		piece[1024];
	size_t		count;
	int			room = COLS - 1 - getcurx(stdscr);

	if (length >= sizeof(piece))
		length = sizeof(piece) - 1;
	memcpy(piece, text, length);
	piece[length] = '\0';
	count = mbstowcs(letters, piece, sizeof(letters) / sizeof(letters[0]) - 1);
	if (count == (size_t) -1 || room <= 0)
		return;
	while (count > 0 && wcswidth(letters, count) > room)
		count--;
	addnwstr(letters, (int) count);
}

/* The last line is for the keys. */
void
screen_draw(const char *text)
{
	int			line = 0;

	erase();
	while (*text != '\0' && line < LINES - 1)
	{
		size_t		length = strcspn(text, "\n\001\002\003\004\005\006");

		draw_piece(text, length);
		text += length;
		if (*text == '\n')
			move(++line, 0);
		else if (*text != '\0')
			attrset(attributes(*text));
		text += *text != '\0';
	}
	attrset(A_DIM);
	move(LINES - 1, 0);
	clrtoeol();
	addnstr("q ends, space stops the picture", COLS - 1);
	attrset(A_NORMAL);
	refresh();
}

/* A key, or -1 once the time is over. */
int
screen_key(double seconds)
{
	int			key;

	timeout((int) (seconds * 1000));
	key = getch();
	return key == ERR ? -1 : key;
}

#else

bool
screen_open(void)
{
	return false;
}

void
screen_close(void)
{
}

int
screen_width(void)
{
	return 80;
}

void
screen_draw(const char *text)
{
	(void) text;
}

int
screen_key(double seconds)
{
	(void) seconds;
	return -1;
}

#endif
