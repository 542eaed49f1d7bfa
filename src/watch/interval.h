/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which watchers cover a key.
 *
 * Watchers of one key are in a hash table, those of a range in a tree by where
 * the range begins, each node of which knows how far the ranges below it reach:
 * a search enters only what can hold an answer. The tree is a treap: its shape
 * is that of a random order of insertion, whatever the real one, so it is some
 * dozens of levels deep with ten thousand watchers and needs no rebalancing.
 *
 * The links are inside the watchers, so adding one cannot fail.
 */
#ifndef KETA_INTERVAL_H
#define KETA_INTERVAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "watch/shard.h"

struct interval_index {
	struct watcher **slots; /* a power of two of them; by hash of the key */
	size_t slot_count;
	struct watcher *only_slot; /* serves as long as there is no table */
	size_t single_count;
	struct watcher *root; /* of the ranges */
	uint64_t seed;        /* of the hash; nobody is to foresee it, nor the next */
	uint64_t generator;   /* of the tree's priorities; never 0 */
};

/* An empty index, which must not be moved in memory. */
void interval_init(struct interval_index *index);

/* Frees the table; the watchers are their owners'. */
void interval_release(struct interval_index *index);

/* The watcher's span must stay as it is until it is removed. */
void interval_add(struct interval_index *index, struct watcher *w);
void interval_remove(struct interval_index *index, struct watcher *w);

/* Visits each watcher whose span holds the key, once, in no certain order. The
 * visit must not change the index. */
typedef void interval_visit_fn(struct watcher *w, void *arg);
void interval_find(const struct interval_index *index, const uint8_t *key, size_t len,
                   interval_visit_fn *visit, void *arg);

#endif
