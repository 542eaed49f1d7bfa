/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls that the engine makes itself on behalf of a client, from a reader's
 * thread. Their end is told on the same thread, wherever they finished.
 *
 *     inner_new ─ fill in call->request, in the call's arena ─ inner_start ─ done
 */
#ifndef KETA_INNER_H
#define KETA_INNER_H

#include "engine/internal.h"
#include "watch/shard.h"

struct inner;

/* The call is over. It is freed when this returns; 'inner' may be used again. */
typedef void inner_done_fn(struct inner *inner, const struct call *call);

struct inner {
	struct shard_task task;
	struct reader *reader;
	struct call *call; /* under way, or being made; NULL between two */
	inner_done_fn *done;
};

/* A call of this method, for a client with this token and deadline (0: none),
 * or NULL without memory. */
struct call *inner_new(struct inner *inner, const char *service, const char *name, const char *token,
                       int64_t deadline_ms);

/* Starts it; 'done' may be called before this returns. A call without a request,
 * for lack of memory, fails. */
void inner_start(struct inner *inner, inner_done_fn *done);

/* The same in two steps, for who holds a lock: 'done' is not called by the first
 * one. True when the call is over already, and inner_conclude due. */
bool inner_launch(struct inner *inner, inner_done_fn *done);
void inner_conclude(struct inner *inner);

#endif
