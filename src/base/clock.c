/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"

#include <stddef.h>

static int64_t (*replaced_monotonic_us)(void);
static int64_t (*replaced_wall_us)(void);

void clock_replace(int64_t (*monotonic_us)(void), int64_t (*wall_us)(void))
{
	replaced_monotonic_us = monotonic_us;
	replaced_wall_us = wall_us;
}

static int64_t read_us(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int64_t clock_us(void)
{
	return replaced_monotonic_us != NULL ? replaced_monotonic_us() : read_us(CLOCK_MONOTONIC);
}

int64_t clock_ms(void)
{
	return clock_us() / 1000;
}

struct timespec clock_deadline(int64_t after_ms)
{
	int64_t until_us = read_us(CLOCK_MONOTONIC) + after_ms * 1000;

	return (struct timespec){.tv_sec = until_us / 1000000, .tv_nsec = until_us % 1000000 * 1000};
}

int64_t clock_wall_ms(void)
{
	return (replaced_wall_us != NULL ? replaced_wall_us() : read_us(CLOCK_REALTIME)) / 1000;
}
