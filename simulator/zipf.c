/*
 * zipf.c
 *		Draws ranks 0 .. size-1 with Zipf-like popularity, in constant time.
 *
 * Owns the alias tables (Walker's method, built as Vose does). Each rank is a
 * column of equal width; what a rare rank leaves free of its column is given to
 * one popular rank. A draw is then one column and one coin. The tables are made
 * with +, -, *, / and sqrt alone, which IEEE 754 rounds in one way only, so that
 * every machine builds the same ones. Called by events.c.
 */
#include <math.h>
#include <stdlib.h>

#include "random.h"
#include "zipf.h"

static void *
allocate(size_t count, size_t size)
{
	void	   *memory = calloc(count, size);

	if (memory == NULL)
		abort();
	return memory;
}

/* widths[k]: the share of rank k, in columns (their mean is 1) */
static double *
column_widths(uint32_t size, enum zipf_slope slope)
{
	double	   *widths = allocate(size, sizeof(double));
	double		total = 0;

	for (uint32_t k = 0; k < size; k++)
	{
		widths[k] = 1.0 / (slope == ZIPF_STEEP ? (double) k + 1 : sqrt((double) k + 1));
		total += widths[k];
	}
	for (uint32_t k = 0; k < size; k++)
		widths[k] = widths[k] / total * size;
	return widths;
}

void
zipf_init(struct zipf *zipf, uint32_t size, enum zipf_slope slope)
{
	double	   *widths = column_widths(size, slope);
	uint32_t   *small = allocate(size, sizeof(uint32_t));
	uint32_t   *large = allocate(size, sizeof(uint32_t));
	uint32_t	nsmall = 0;
	uint32_t	nlarge = 0;

	zipf->size = size;
	zipf->threshold = allocate(size, sizeof(uint32_t));
	zipf->alias = allocate(size, sizeof(uint32_t));

	for (uint32_t k = 0; k < size; k++)
	{
		zipf->threshold[k] = UINT32_MAX;
		zipf->alias[k] = k;
		if (widths[k] < 1.0)
			small[nsmall++] = k;
		else
			large[nlarge++] = k;
	}
	while (nsmall > 0 && nlarge > 0)
	{
		uint32_t	rare = small[--nsmall];
		uint32_t	popular = large[nlarge - 1];

		zipf->threshold[rare] = (uint32_t) (widths[rare] * UINT32_MAX);
		zipf->alias[rare] = popular;
		widths[popular] -= 1.0 - widths[rare];
		if (widths[popular] < 1.0)
		{
			nlarge--;
			small[nsmall++] = popular;
		}
	}
	free(widths);
	free(small);
	free(large);
}

void
zipf_free(struct zipf *zipf)
{
	free(zipf->threshold);
	free(zipf->alias);
}

uint32_t
zipf_draw(const struct zipf *zipf, uint64_t *random)
{
	uint64_t	bits = random_next(random);
	uint32_t	column = (uint32_t) (((bits >> 32) * zipf->size) >> 32);

	return (uint32_t) bits <= zipf->threshold[column] ? column : zipf->alias[column];
}
