/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A call of the Lock or Election service under way. It walks through steps, all
 * on the thread of its reader; a step ends with a call of the engine's own
 * (engine/inner.h) or with a watch, and its outcome leads to the next.
 *
 *     waiter_new ─ waiter_begin ─ [a lease is granted] ─ step ─ ... ─ waiter_answer
 *                                                          └ failed, canceled: the key is deleted
 *
 * A caller that goes away, or whose time is up, takes its key with it. While a
 * step is under way that only sets a flag, which waiter_is_over looks at.
 */
#ifndef KETA_WAITER_H
#define KETA_WAITER_H

#include "engine/claim.h"
#include "engine/compose.h"
#include "engine/inner.h"
#include "watch/shard.h"

/* In the arena of the client's call, and gone with it. */
struct waiter {
	struct inner inner; /* first: its callbacks find the waiter by it */
	struct watch_group group;
	struct watcher watcher;
	struct reader_timer deadline;
	struct waiter *next, *prev;         /* of the reader's */
	struct call *call;                  /* the client's */
	void (*first)(struct waiter *self); /* the step after it has a lease */
	bool is_election;
	bool has_key; /* to be deleted when it gives up */
	bool watching;
	enum status_code gone; /* why it is to give up, or STATUS_OK */

	struct prefix prefix;
	ProtobufCBinaryData key; /* its own */
	ProtobufCBinaryData value;
	int64_t lease;
	int64_t revision;        /* the key's create revision; 0: it is not known whether it is there */
	struct claim_ticket ticket;
	int64_t header_revision; /* of the answer */
};

struct waiter *waiter_of(struct inner *inner);

/* A waiter for a client's call, or NULL without memory. */
struct waiter *waiter_new(struct reader *reader, struct call *call);

/* Runs the first step with the client's lease, or with one of the server's if
 * that is 0. Returns false, to end a handler with: the call is, or was, pending. */
bool waiter_begin(struct waiter *self, int64_t lease, void (*first)(struct waiter *self));

/* Whether the step that has ended was the last: it failed, or nobody waits any
 * more. Then the rest has been taken care of, and the waiter may be gone. */
bool waiter_is_over(struct waiter *self, const struct call *call);

/* A call of its own on the client's behalf, to be started with inner_start; NULL
 * without memory: the waiter has failed, and is gone. */
struct call *waiter_inner(struct waiter *self, const char *service, const char *name);

/* A step: gives the waiter's key its value, if it is still the one it put. */
void waiter_proclaim(struct waiter *self, inner_done_fn *done);

/* The three ends: the waiter is gone after each. A response without a header, for
 * lack of memory, is a failure. etcd gives every error of these services the same
 * code; what the server or the client's patience did keeps its own. */
void waiter_answer(struct waiter *self, ProtobufCMessage *response, const Pb__ResponseHeader *header);
void waiter_fail(struct waiter *self, const struct status *status);
void waiter_fail_code(struct waiter *self, enum status_code code);

/* A header in the call's arena, or NULL. */
Pb__ResponseHeader *waiter_header(struct waiter *self, int64_t revision);

/* Ends its watch, if it has one. */
void waiter_unwatch(struct waiter *self);

/* The server stops: those who wait on this reader's thread are told so. Their
 * keys stay, so that they find their place again. */
void waiters_drain(struct reader *reader);

#endif
