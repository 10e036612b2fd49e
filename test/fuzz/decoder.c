/*
 * decoder.c
 *		Bent documents through the parts of the decoder that read a record's bytes by hand: json.cpp, json_text.c
 *		and decode_time.c.  Built with the sanitizers, without a server; fuzz.t builds and runs it.
 *
 *	decoder SEED DOCUMENTS
 *
 * Each text lies at the very end of a block of its own, so that a read past it is found.  What is read must lie
 * within the text, and reading twice must give the same answer.  Prints how many were JSON.
 */
#include "postgres.h"

#include "decode_plan.h"
#include "json_text.h"

#define LONGEST 4096

static uint64 state;

static uint32
chance(uint32 below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32) ((state >> 16) % Max(below, 1));
}

static void
require(bool holds, const char *what)
{
	if (holds)
		return;
	fprintf(stderr, "does not hold: %s\n", what);
	abort();
}

/* ---------------------------------------------------------------- texts */

static const char *const seeds[] = {
	"{\"user_id\":\"user_42\",\"page\":\"/product/1234\",\"event\":\"click\",\"timestamp\":\"2025-06-04T12:00:00Z\"}",
	"{\"a\": [1, -2.5e3, 0.1E-2, true, false, null, {}, [], {\"b\": [[[\"c\"]]]}], \"d\\\"e\": \"\\\\ \\u00e9 \\ud83d\\ude00 \\/ \\b\\f\\n\\r\\t\"}",
	" { \"\" : \"\" , \"x\" : { \"y\" : { \"z\" : 12345678901234567890.5 } } } ",
	"\xEF\xBB\xBF{\"k\"\r:\n1}", "2025-06-04T12:00:00.123456789+05:30", "1749038400123456789.5", "-1e-300", "[[[[[[[[[[", "4 June 2025 Europe/Berlin",
	"{\"t\":\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"}",
};

static const char pieces[] = "{}[]:,\"\\ tfn0123456789eE+-.u/TZ\n\t\x01\xc3\xa9\xe2\x82\xff\xf0";

static size_t
bend(char *text, size_t length)
{
	size_t		at = chance(length + 1);

	switch (chance(4))
	{
		case 0:
			if (length == LONGEST)
				return length;
			memmove(text + at + 1, text + at, length - at);
			text[at] = pieces[chance(sizeof(pieces))];
			return length + 1;
		case 1:
			if (at == length)
				return length;
			memmove(text + at, text + at + 1, length - at - 1);
			return length - 1;
		case 2:
			if (at < length)
				text[at] = pieces[chance(sizeof(pieces))];
			return length;
		default:
			{
				size_t		from = chance(length + 1),
							n = Min(chance(200), length - from);
				char		part[200];

				if (length + n > LONGEST)
					return length;
				memcpy(part, text + from, n);
				memmove(text + at + n, text + at, length - at);
				memcpy(text + at, part, n);
				return length + n;
			}
	}
}

static size_t
make_text(char *text)
{
	const char *seed = seeds[chance(lengthof(seeds))];
	size_t		length = strlen(seed);

	memcpy(text, seed, length);
	for (int n = chance(6); n > 0; n--)
		length = bend(text, length);
	return length;
}

/* ---------------------------------------------------------------- what is read */

static uint64
read_string(const JsonText *json, const JsonValueText *string)
{
	char	   *into = malloc(Max(string->end - string->start, 1));
	bool		has_zero;
	size_t		length;
	uint64		sum = 0;

	require(string->start >= json->text && string->end <= json->text + json->length &&
			string->start <= string->end, "a value lies in the text");
	length = json_unescape(string, into, &has_zero);
	require(length <= string->end - string->start, "a string grows no longer");
	for (size_t i = 0; i < length; i++)
		sum = sum * 31 + (unsigned char) into[i];
	free(into);
	return sum;
}

/* members one by one, as decode.c goes; a number for all that was read, or 0 when it is no object */
static uint64
read_object(JsonText *json)
{
	uint64		sum = 1;

	if (json_peek(json) != '{')
		return 0;
	json->at++;
	while (json_peek(json) != '}')
	{
		JsonValueText key,
					value;

		if (!json_read_key(json, &key) || !json_read_value(json, &value))
			return 0;
		sum = sum * 31 + read_string(json, &key);
		sum = sum * 31 + (value.kind == JSON_STRING ? read_string(json, &value) :
						  (uint64) (value.end - value.start));
		require(value.end <= json->text + json->length, "a value ends in the text");
		if (json_peek(json) == ',')
		{
			json->at++;
			if (json_peek(json) == '}')
				return 0;
		}
		else if (json_peek(json) != '}')
			return 0;
	}
	json->at++;
	return json->at == json->n ? sum : 0;
}

static uint64
read_json(JsonIndexer *indexer, const char *text, size_t length)
{
	JsonText	json;

	return json_text_open(&json, indexer, text, length) ? read_object(&json) : 0;
}

static void
read_times(const char *text, size_t length)
{
	static const ColumnInput inputs[] = {INPUT_TIMESTAMPTZ, INPUT_TIMESTAMP, INPUT_DATE};
	static const int64 units[] = {1, 1000, 1000000, 1000000000};
	Datum		datum;
	int64		microseconds;

	for (int i = 0; i < lengthof(inputs); i++)
		(void) decode_iso_time(text, length, inputs[i], &datum);
	for (int i = 0; i < lengthof(units); i++)
		(void) decode_epoch(text, length, units[i], &microseconds);
	(void) decode_refused_time(text, length);
	(void) decode_refused_times(text, length);
}

/* ---------------------------------------------------------------- the program */

/* what a server has: reached for want of memory alone */
bool
errstart(int elevel, const char *domain)
{
	abort();
}

bool
errstart_cold(int elevel, const char *domain)
{
	abort();
}

void
errfinish(const char *filename, int lineno, const char *funcname)
{
	abort();
}

int
errcode(int sqlerrcode)
{
	return 0;
}

int
errmsg(const char *fmt,...)
{
	return 0;
}

int
errdetail(const char *fmt,...)
{
	return 0;
}

/* the Julian day: which one is not looked at here */
int
date2j(int year, int month, int day)
{
	return 1721426 + 365 * (year - 1) + year / 4 - year / 100 + year / 400 + 31 * (month - 1) + day;
}

int
main(int argc, char **argv)
{
	JsonIndexer *indexer = json_indexer_create();
	long		documents = argc > 2 ? atol(argv[2]) : 100000,
				objects = 0;
	char		text[LONGEST];

	state = (argc > 1 ? strtoull(argv[1], NULL, 10) : 1) * UINT64CONST(0x9E3779B97F4A7C15) + 1;
	for (long i = 0; i < documents; i++)
	{
		size_t		length = make_text(text);
		char	   *alone = malloc(Max(length, 1));
		uint64		sum;

		memcpy(alone, text, length);
		sum = read_json(indexer, alone, length);
		require(sum == read_json(indexer, alone, length), "reading twice gives the same");
		read_times(alone, length);
		objects += sum != 0;
		free(alone);
	}
	json_indexer_destroy(indexer);
	printf("%ld of %ld are objects\n", objects, documents);
	return 0;
}
