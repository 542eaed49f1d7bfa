/* SPDX-License-Identifier: Apache-2.0 */
/* The two clocks. Nothing under src/state reads either. */
#ifndef KETA_CLOCK_H
#define KETA_CLOCK_H

#include <stdint.h>
#include <time.h>

/* Monotonic: for time-outs, durations and leases. */
int64_t clock_ms(void);
int64_t clock_us(void);

/* So many milliseconds from now by the system's CLOCK_MONOTONIC, replaced or not: for
 * pthread_cond_timedwait on a condition with that clock. */
struct timespec clock_deadline(int64_t after_ms);

/* Makes both clocks tell what these functions do, in microseconds: for tests
 * that pass time themselves. NULL: the system's again. While nothing else runs. */
void clock_replace(int64_t (*monotonic_us)(void), int64_t (*wall_us)(void));

/* Milliseconds since 1970: for people and for records that carry a time. */
int64_t clock_wall_ms(void);

#endif
