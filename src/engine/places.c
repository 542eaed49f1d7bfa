/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/places.h"

#include <stddef.h>

void places_reset(struct places *places, int64_t offset, uint64_t chain, uint64_t hash)
{
	places->first = offset;
	places->last = offset - 1;
	places_add(places, offset, chain, hash);
}

void places_add(struct places *places, int64_t offset, uint64_t chain, uint64_t hash)
{
	places->ring[offset & (PLACES_COUNT - 1)] = (struct place){chain, hash};
	places->last = offset;
	if (places->last - places->first >= PLACES_COUNT)
		places->first = places->last - PLACES_COUNT + 1;
}

const struct place *places_find(const struct places *places, int64_t offset)
{
	if (offset < places->first || offset > places->last)
		return NULL;
	return &places->ring[offset & (PLACES_COUNT - 1)];
}
