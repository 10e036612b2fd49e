/*
 * random.h
 *		splitmix64: small, fast, and the same sequence from the same seed everywhere.
 *
 * Each draw advances the state that the caller holds; there is no hidden state.
 * Used by the event generator and its Zipf tables.
 */
#ifndef SIMULATOR_RANDOM_H
#define SIMULATOR_RANDOM_H

#include <stdint.h>

static inline uint64_t
random_next(uint64_t *state)
{
	uint64_t	z = (*state += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

/* a number in [0, bound), by multiplication instead of division */
static inline uint32_t
random_below(uint64_t *state, uint32_t bound)
{
	return (uint32_t) (((random_next(state) >> 32) * bound) >> 32);
}

#endif							/* SIMULATOR_RANDOM_H */
