/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/claim.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/seed.h"

struct claim {
	struct claim *next; /* in its slot */
	size_t calls;       /* that are still under way */
	uint64_t newest;    /* the number of the last that joined */
	size_t slot;
	size_t key_len;
	uint8_t key[];
};

void claims_init(struct claims *claims)
{
	*claims = (struct claims){.seed = seed_draw()};
	pthread_mutex_init(&claims->lock, NULL);
}

void claims_release(struct claims *claims)
{
	pthread_mutex_destroy(&claims->lock);
}

static struct claim *find_or_add(struct claims *claims, ProtobufCBinaryData key)
{
	size_t slot = XXH3_64bits_withSeed(key.data, key.len, claims->seed) % CLAIM_SLOTS;
	struct claim *claim = claims->slots[slot];

	while (claim != NULL && (claim->key_len != key.len || memcmp(claim->key, key.data, key.len) != 0))
		claim = claim->next;
	if (claim != NULL)
		return claim;
	claim = calloc(1, sizeof *claim + key.len);
	if (claim == NULL)
		return NULL;
	memcpy(claim->key, key.data, key.len);
	claim->key_len = key.len;
	claim->slot = slot;
	claim->next = claims->slots[slot];
	claims->slots[slot] = claim;
	return claim;
}

bool claim_join(struct claims *claims, ProtobufCBinaryData key, struct claim_ticket *ticket)
{
	pthread_mutex_lock(&claims->lock);
	ticket->claim = find_or_add(claims, key);
	if (ticket->claim != NULL) {
		ticket->claim->calls++;
		ticket->number = ++ticket->claim->newest;
	}
	pthread_mutex_unlock(&claims->lock);
	return ticket->claim != NULL;
}

static void drop(struct claims *claims, struct claim *claim)
{
	struct claim **at = &claims->slots[claim->slot];

	while (*at != claim)
		at = &(*at)->next;
	*at = claim->next;
	free(claim);
}

void claim_leave(struct claims *claims, struct claim_ticket *ticket)
{
	if (ticket->claim == NULL)
		return;
	pthread_mutex_lock(&claims->lock);
	if (--ticket->claim->calls == 0)
		drop(claims, ticket->claim);
	pthread_mutex_unlock(&claims->lock);
	ticket->claim = NULL;
}

void claims_lock(struct claims *claims)
{
	pthread_mutex_lock(&claims->lock);
}

bool claim_is_newest(const struct claim_ticket *ticket)
{
	return ticket->claim->newest == ticket->number;
}

void claims_unlock(struct claims *claims)
{
	pthread_mutex_unlock(&claims->lock);
}
