/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which calls of this node stand in a queue under which key. A client that lost
 * its connection calls again with the same lease, and finds the key that its
 * first call put. When that first call is given up, late, it must not delete
 * the key any more: it belongs to the newer call.
 *
 * Any thread; the claims have a lock of their own.
 */
#ifndef KETA_CLAIM_H
#define KETA_CLAIM_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <protobuf-c/protobuf-c.h>

enum { CLAIM_SLOTS = 256 };

struct claim;

struct claims {
	pthread_mutex_t lock;
	struct claim *slots[CLAIM_SLOTS];
	uint64_t seed;
};

/* A call's place among those of its key. All zero: none. */
struct claim_ticket {
	struct claim *claim;
	uint64_t number;
};

void claims_init(struct claims *claims);
void claims_release(struct claims *claims);

/* To be called before the key is put or looked for. False without memory. */
bool claim_join(struct claims *claims, ProtobufCBinaryData key, struct claim_ticket *ticket);

/* Again, or without a place, does no harm. */
void claim_leave(struct claims *claims, struct claim_ticket *ticket);

/* Whether no newer call has joined; between lock and unlock none does, so what
 * is put into the log there comes before all that newer calls do. */
void claims_lock(struct claims *claims);
bool claim_is_newest(const struct claim_ticket *ticket);
void claims_unlock(struct claims *claims);

#endif
