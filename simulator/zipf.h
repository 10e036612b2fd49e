#ifndef SIMULATOR_ZIPF_H
#define SIMULATOR_ZIPF_H

#include <stdint.h>

/* how fast popularity falls with the rank k: as 1/k (pages) or as 1/sqrt(k) (users) */
enum zipf_slope
{
	ZIPF_STEEP,
	ZIPF_GENTLE
};

struct zipf
{
	uint32_t	size;
	uint32_t   *threshold;		/* keep the column drawn when the coin is below this */
	uint32_t   *alias;			/* else take this rank */
};

extern void zipf_init(struct zipf *zipf, uint32_t size, enum zipf_slope slope);
extern void zipf_free(struct zipf *zipf);
extern uint32_t zipf_draw(const struct zipf *zipf, uint64_t *random);

#endif							/* SIMULATOR_ZIPF_H */
