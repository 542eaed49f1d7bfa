/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stretch of the past, by key: what lagging watchers are served from.
 *
 * A window holds a few batches, from the hub's memory or one slice of history,
 * and their events in the order of keys. Each of many watchers finds what
 * concerns it without going through all of it.
 */
#ifndef KETA_WINDOW_H
#define KETA_WINDOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "state/event.h"
#include "watch/shard.h"

enum {
	/* As many revisions as one message of etcd's holds at most. */
	WINDOW_EVENTS = 1000,
	WINDOW_BATCHES = WINDOW_EVENTS,
};

/* An event and its place in the order of events. */
struct window_entry {
	struct event *event;
	size_t place;
};

struct window {
	int64_t first, last; /* revisions; first > last: it holds nothing */
	bool has_prev;
	struct event_batch *batches[WINDOW_BATCHES];
	size_t batch_count;
	struct window_entry *entries; /* by key, and as they happened */
	size_t count, size;
};

void window_init(struct window *window);
void window_release(struct window *window);

/* Lets the batches go. */
void window_clear(struct window *window);

/* Fills a window that has batches set, and first, last and has_prev: only
 * revisions between these two count. False without memory; it is clear then. */
bool window_sort(struct window *window);

/* Whether the window continues where the watcher is. What of the key space the
 * window covers is for the caller to know. */
bool window_continues(const struct window *window, const struct watcher *w);

/* A growing array of events. */
struct selection {
	struct window_entry *entries;
	struct event **events; /* the same, for a callback */
	size_t count, size;
};

bool selection_reserve(struct selection *selection, size_t size);
void selection_release(struct selection *selection);

/* The events that the watcher has not been told of and wants to be, as they
 * happened. False without memory. */
bool window_select(const struct window *window, const struct watcher *w, struct selection *out);

/* Whether the watcher wants to know about events of this kind. */
bool watcher_wants(const struct watcher *w, const struct event *event);

#endif
