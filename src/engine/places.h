/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the log and the state were at the offsets applied last: the hash chained
 * over all records, and the hash of the state. By the first, nodes notice that
 * they do not follow the same log; by the second, that apply did not do the same.
 * One thread.
 */
#ifndef KETA_PLACES_H
#define KETA_PLACES_H

#include <stdbool.h>
#include <stdint.h>

enum { PLACES_COUNT = 1 << 16 }; /* a second's worth, and more */

struct places {
	int64_t first, last; /* known are those from first to last */
	struct place {
		uint64_t chain, hash;
	} ring[PLACES_COUNT];
};

/* Begins anew from one offset. */
void places_reset(struct places *places, int64_t offset, uint64_t chain, uint64_t hash);

/* Adds the next offset; one that was added before, and all after it, are replaced. */
void places_add(struct places *places, int64_t offset, uint64_t chain, uint64_t hash);

/* NULL when it is not known. */
const struct place *places_find(const struct places *places, int64_t offset);

#endif
