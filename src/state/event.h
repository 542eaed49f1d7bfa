/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changes of keys as watchers see them, in batches of whole revisions.
 *
 * A batch is made once, by apply for what just happened or by history_read for
 * the past, and then read by any number of watchers on any thread: it is
 * counted by reference and does not change any more, but for the forms. A form
 * is the event as one edge sends it, or a run of events that follow each other;
 * the first that needs it makes it, and all share it.
 */
#ifndef KETA_EVENT_H
#define KETA_EVENT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/status.h"
#include "kv.pb-c.h"

/* How an event may be written: by codec, and with or without the pair before it. */
enum event_form { EVENT_JSON, EVENT_JSON_PREV, EVENT_WIRE, EVENT_WIRE_PREV, EVENT_FORMS };

struct event_bytes {
	size_t len;
	uint8_t data[];
};

struct event {
	Pb__Event pb; /* kv is set; prev_kv where the pair before it is known */
	Pb__KeyValue kv;
	Pb__KeyValue prev;
	struct event_batch *batch; /* that it lives in */
	size_t index;              /* its place there */
	_Atomic(struct event_bytes *) forms[EVENT_FORMS];
};

struct event_run;

struct event_batch {
	_Atomic int refs;
	/* Everything that happened in the revisions from first to last is in here
	 * (as far as it was asked for: see history_read). */
	int64_t first, last;
	bool missing;          /* but it was not kept: who needs it reads history */
	bool has_prev;         /* the pairs before were looked up */
	struct event **events; /* by revision, and as they happened within one */
	size_t count;
	size_t bytes;                     /* of keys and values, about */
	_Atomic int64_t *account;         /* see event_batch_charge; or NULL */
	_Atomic(struct event_run *) runs; /* the joined forms, a list that only grows */
	size_t size;
	struct arena arena;
};

/* An empty batch with one reference, its revisions unset; NULL without memory. */
struct event_batch *event_batch_new(void);

/* Any thread. */
struct event_batch *event_batch_hold(struct event_batch *batch);
void event_batch_release(struct event_batch *batch);

/* Adds an event, for its maker's thread only. Key and value are copied. A
 * deletion has only key and mod. NULL without memory. */
struct event *event_batch_add(struct event_batch *batch, bool deleted, const Pb__KeyValue *kv);

/* Gives the newest event the pair before it, copied. */
enum status_code event_batch_set_prev(struct event_batch *batch, const Pb__KeyValue *prev);

/* Adds what the batch takes, about, to an account, which must outlive it, until
 * it is freed: for who wants to know how much the slow readers keep. Keys and
 * values count three times, for the forms are kept as long. Once, when it is
 * complete. */
void event_batch_charge(struct event_batch *batch, _Atomic int64_t *account);

/* Takes back what was added after the first 'count' events, if nobody has seen
 * it yet. */
void event_batch_truncate(struct event_batch *batch, size_t count);

/* Takes back one that nobody has seen yet. */
void event_batch_remove(struct event_batch *batch, size_t at);

/* The revision that the event is of. */
static inline int64_t event_revision(const struct event *event)
{
	return event->kv.mod_revision;
}

/* A form of the event, made by 'encode' if it is the first time; NULL without
 * memory. It lives as long as the event. Any thread. */
typedef void event_encode_fn(const Pb__Event *event, struct buf *buf);
const struct event_bytes *event_form(struct event *event, enum event_form form, event_encode_fn *encode);

/* The forms of several events as one, made and shared in the same way: in JSON
 * with commas between, otherwise one behind the other. The events are given in
 * their order. NULL when they do not all follow each other in one batch, when
 * it has too many runs already, or without memory: take the single forms then,
 * which this neither needs nor makes. It lives as long as the batch. Any
 * thread. */
const struct event_bytes *event_run_form(struct event *const *events, size_t count, enum event_form form,
                                         event_encode_fn *encode);

#endif
