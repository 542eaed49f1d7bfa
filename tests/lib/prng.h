/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers that look random and repeat: the same seed gives the same test. */
#ifndef KETA_PRNG_H
#define KETA_PRNG_H

#include <stdbool.h>
#include <stdint.h>

struct prng {
	uint64_t state;
};

void prng_init(struct prng *prng, uint64_t seed);

/* Any number. */
uint64_t prng_next(struct prng *prng);

/* One of 0 to n - 1; n is not 0. */
unsigned prng_below(struct prng *prng, unsigned n);

/* True this many times out of a hundred. */
bool prng_chance(struct prng *prng, unsigned percent);

/* The number in this environment variable, or the fallback. */
int64_t prng_setting(const char *variable, int64_t fallback);

/* KETA_SEED, or one that differs from run to run; printed, to repeat the run. */
uint64_t prng_seed(const char *test);

#endif
