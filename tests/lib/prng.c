/* SPDX-License-Identifier: Apache-2.0 */
/* SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators"). */
#include "lib/prng.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

void prng_init(struct prng *prng, uint64_t seed)
{
	prng->state = seed;
}

uint64_t prng_next(struct prng *prng)
{
	uint64_t mixed = prng->state += UINT64_C(0x9e3779b97f4a7c15);

	mixed = (mixed ^ (mixed >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	mixed = (mixed ^ (mixed >> 27)) * UINT64_C(0x94d049bb133111eb);
	return mixed ^ (mixed >> 31);
}

unsigned prng_below(struct prng *prng, unsigned n)
{
	return (unsigned)(prng_next(prng) % n);
}

bool prng_chance(struct prng *prng, unsigned percent)
{
	return prng_below(prng, 100) < percent;
}

int64_t prng_setting(const char *variable, int64_t fallback)
{
	const char *text = getenv(variable);

	return text != NULL && *text != '\0' ? strtoll(text, NULL, 10) : fallback;
}

uint64_t prng_seed(const char *test)
{
	struct timespec now;
	uint64_t seed;

	clock_gettime(CLOCK_REALTIME, &now);
	seed = (uint64_t)now.tv_nsec ^ ((uint64_t)now.tv_sec << 20) ^ (uint64_t)getpid();
	seed = (uint64_t)prng_setting("KETA_SEED", (int64_t)(seed % 1000000000));
	printf("%s: KETA_SEED=%" PRIu64 "\n", test, seed);
	fflush(stdout);
	return seed;
}
