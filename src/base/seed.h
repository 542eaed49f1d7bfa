/* SPDX-License-Identifier: Apache-2.0 */
/* A number that nobody can foresee, so that clients cannot choose names and ids
 * that make a hash table or a random tree slow. */
#ifndef KETA_SEED_H
#define KETA_SEED_H

#include <stdint.h>

/* From the kernel; never 0. Any thread. */
uint64_t seed_draw(void);

#endif
