/*
 * decode_time.c
 *		Times as events carry them: ISO 8601 by hand, numbers since 1970, and what is refused.
 *
 * Owns those forms; a text that is none of them goes to PostgreSQL's own input function, in
 * decode_value.c.  Allocates nothing, throws nothing.
 */
#include "postgres.h"

#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

#include "decode_plan.h"

#define UNIX_EPOCH_US ((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY)

static inline bool
two_digits(const char *at, int *number)
{
	unsigned int high = (unsigned int) (at[0] - '0'),
				low = (unsigned int) (at[1] - '0');

	*number = high * 10 + low;
	return high <= 9 && low <= 9;
}

/* days since 2000-01-01 of YYYY-MM-DD */
static bool
read_date(const char *at, int32 *days)
{
	static const int in_month[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	int			century,
				year,
				month,
				day;

	if (!two_digits(at, &century) || !two_digits(at + 2, &year) || at[4] != '-' ||
		!two_digits(at + 5, &month) || at[7] != '-' || !two_digits(at + 8, &day))
		return false;
	year += century * 100;
	if (year == 0 || month < 1 || month > 12 || day < 1 ||
		day > in_month[month - 1] + (month == 2 && isleap(year)))
		return false;
	*days = date2j(year, month, day) - POSTGRES_EPOCH_JDATE;
	return true;
}

/* .123: microseconds, rounded by the seventh digit */
static const char *
read_fraction(const char *at, const char *end, int64 *microseconds)
{
	int			n = 0;

	for (; at < end && *at >= '0' && *at <= '9'; at++, n++)
	{
		if (n < 6)
			*microseconds = *microseconds * 10 + (*at - '0');
		else if (n == 6 && *at >= '5')
			(*microseconds)++;
	}
	if (n == 0)
		return NULL;
	for (; n < 6; n++)
		*microseconds *= 10;
	return at;
}

/* HH:MM[:SS[.fraction]]: where it ends, or NULL */
static const char *
read_time_of_day(const char *at, const char *end, int64 *time)
{
	int			hour,
				minute,
				second = 0;
	int64		microseconds = 0;

	if (end - at < 5 || !two_digits(at, &hour) || at[2] != ':' || !two_digits(at + 3, &minute))
		return NULL;
	at += 5;
	if (end - at >= 3 && *at == ':')
	{
		if (!two_digits(at + 1, &second))
			return NULL;
		at += 3;
		if (at < end && *at == '.')
			at = read_fraction(at + 1, end, &microseconds);
	}
	if (hour > 23 || minute > 59 || second > 59)
		return NULL;
	*time = ((hour * 60 + minute) * 60 + second) * USECS_PER_SEC + microseconds;
	return at;
}

/* Z, +HH, +HHMM or +HH:MM up to the end: seconds east of Greenwich */
static bool
read_zone(const char *at, const char *end, int *east)
{
	int			hours,
				minutes = 0;

	if (end - at == 1 && (*at == 'Z' || *at == 'z'))
	{
		*east = 0;
		return true;
	}
	if (end - at < 3 || (*at != '+' && *at != '-') || !two_digits(at + 1, &hours))
		return false;
	*east = *at == '-' ? -1 : 1;
	at += 3;
	if (at < end && *at == ':')
		at++;
	if (at < end && (end - at != 2 || !two_digits(at, &minutes)))
		return false;
	if (hours > 15 || minutes > 59 || (at == end && at[-1] == ':'))
		return false;
	*east *= (hours * 60 + minutes) * 60;
	return true;
}

/*
 * YYYY-MM-DD, or with T or a space HH:MM[:SS[.fraction]] and a zone; no zone is UTC, as the
 * worker's
 * own is.  A zone is only for timestamptz read here: other types ignore it in PostgreSQL's ways.
 */
bool
decode_iso_time(const char *text, size_t length, ColumnInput input, Datum *datum)
{
	const char *at = text + 10,
			   *end = text + length;
	int32		days;
	int64		time = 0;
	int			east = 0;

	if (length < 10 || !read_date(text, &days))
		return false;
	if (at < end)
	{
		if (*at != 'T' && *at != ' ' && *at != 't')
			return false;
		at = read_time_of_day(at + 1, end, &time);
		if (at == NULL)
			return false;
		if (at < end && !read_zone(at, end, &east))
			return false;
		if (east != 0 && input != INPUT_TIMESTAMPTZ)
			return false;
	}
	if (input == INPUT_DATE)
		*datum = DateADTGetDatum(days);
	else
		*datum = TimestampTzGetDatum(days * USECS_PER_DAY + time - east * USECS_PER_SEC);
	return true;
}

/* ---------------------------------------------------------------- numbers */

/* mantissa and power of ten of a number as JSON or a digit string writes it; exact or false */
static bool
read_decimal(const char *at, const char *end, __int128 *mantissa, int *power)
{
	bool		negative = at < end && *at == '-',
				after_point = false;
	int			digits = 0,
				exponent = 0,
				sign = 1;

	*mantissa = 0;
	*power = 0;
	for (at += negative; at < end && *at != 'e' && *at != 'E'; at++)
	{
		if (*at == '.' && !after_point && digits > 0)
		{
			after_point = true;
			continue;
		}
		if (*at < '0' || *at > '9' || ++digits > 32)
			return false;
		*mantissa = *mantissa * 10 + (*at - '0');
		*power -= after_point;
	}
	if (digits == 0)
		return false;
	if (at < end)
	{
		at++;
		if (at < end && (*at == '-' || *at == '+'))
			sign = *at++ == '-' ? -1 : 1;
		if (at == end || end - at > 3)
			return false;
		for (; at < end; at++)
		{
			if (*at < '0' || *at > '9')
				return false;
			exponent = exponent * 10 + (*at - '0');
		}
	}
	*power += sign * exponent;
	if (negative)
		*mantissa = -*mantissa;
	return true;
}

/* microseconds since 2000 of a number since 1970, `units` a second; rounded to the nearest */
bool
decode_epoch(const char *text, size_t length, int64 units, int64 *microseconds)
{
	const __int128 bound = (__int128) PG_INT64_MAX * 1000;
	__int128	number;
	int			power,
				last = 0;

	if (!read_decimal(text, text + length, &number, &power))
		return false;
	for (int64 unit = units; unit < USECS_PER_SEC; unit *= 10)
		power++;
	for (int64 unit = units; unit > USECS_PER_SEC; unit /= 10)
		power--;
	for (; power > 0 && number != 0; power--)
	{
		if (number > bound || number < -bound)
			return false;
		number *= 10;
	}
	for (; power < 0 && (number != 0 || last != 0); power++)
	{
		last = (int) (number % 10);
		number /= 10;
	}
	if (last >= 5)
		number++;
	else if (last <= -5)
		number--;
	number -= UNIX_EPOCH_US;
	if (number > PG_INT64_MAX || number < PG_INT64_MIN || !IS_VALID_TIMESTAMP((int64) number))
		return false;
	*microseconds = (int64) number;
	return true;
}

/* ---------------------------------------------------------------- what is refused */

static bool
is_refused_word(const char *word, size_t length)
{
	static const char *const words[] = {"now", "today", "tomorrow", "yesterday", "allballs",
										"epoch"};

	for (int i = 0; i < lengthof(words); i++)
		if (strlen(words[i]) == length && pg_strncasecmp(words[i], word, length) == 0)
			return true;
	return false;
}

/*
 * why a text that PostgreSQL would take for a time is not taken from an event; NULL when it may
 * be
 */
const char *
decode_refused_time(const char *text, size_t length)
{
	bool		bare = true;
	int			points = 0;

	if (strspn(text, " ") >= length)
		return "it is empty";
	for (size_t at = 0; at < length; at++)
	{
		size_t		from = at;

		while (at < length && isalpha((unsigned char) text[at]))
			at++;
		if (at > from && is_refused_word(text + from, at - from))
			return "such a word means another time whenever it is read";
		if (at < length && strchr("0123456789.+ ", text[at]) == NULL &&
			!(text[at] == '-' && at == 0))
			bare = false;
		points += at < length && text[at] == '.';
		if (at > from)
			bare = false;
	}
	if (bare && points < 2)
		return "a bare number is taken with a declared unit only, such as {\"path\": …, \"epoch\": \"ms\"}";
	return NULL;
}

/* of any of the times in the text of an array or range */
const char *
decode_refused_times(const char *text, size_t length)
{
	size_t		from = 0;

	for (size_t at = 0; at <= length; at++)
	{
		const char *refused;

		if (at < length && strchr("[]{}(),\"\\", text[at]) == NULL)
			continue;
		while (from < at && isspace((unsigned char) text[from]))
			from++;
		if (from < at && (refused = decode_refused_time(text + from, at - from)) != NULL)
			return refused;
		from = at + 1;
	}
	return NULL;
}
