/* SPDX-License-Identifier: Apache-2.0 */
#include "base/seed.h"

#include <sys/random.h>

#include "base/clock.h"

uint64_t seed_draw(void)
{
	uint64_t seed = 0;

	/* It cannot fail for so few bytes, once the kernel has started; if it does, an address and the
	 * time are better than nothing. */
	if (getrandom(&seed, sizeof seed, 0) != sizeof seed)
		seed = (uint64_t)(uintptr_t)&seed ^ (uint64_t)clock_us();
	return seed | 1;
}
