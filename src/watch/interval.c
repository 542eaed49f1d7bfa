/* SPDX-License-Identifier: Apache-2.0 */
#include "watch/interval.h"

#include <stdlib.h>
#include <xxhash.h>

#include "base/bytes.h"
#include "base/seed.h"

enum { SLOTS_FIRST = 64 };

void interval_init(struct interval_index *index)
{
	*index = (struct interval_index){.slot_count = 1, .seed = seed_draw(), .generator = seed_draw()};
	index->slots = &index->only_slot;
}

void interval_release(struct interval_index *index)
{
	if (index->slots != &index->only_slot)
		free(index->slots);
}

/* ---- Single keys ---- */

static struct watcher **slot_of(const struct interval_index *index, uint32_t hash)
{
	return &index->slots[hash & (index->slot_count - 1)];
}

static void link_single(struct interval_index *index, struct watcher *w)
{
	struct watcher **slot = slot_of(index, w->index.single.hash);

	w->index.single.next = *slot;
	w->index.single.link = slot;
	if (*slot != NULL)
		(*slot)->index.single.link = &w->index.single.next;
	*slot = w;
}

/* Without memory the table stays as it is, which only makes it slower. */
static void grow(struct interval_index *index)
{
	struct watcher **old = index->slots;
	size_t old_count = index->slot_count;
	size_t count = old_count < SLOTS_FIRST ? SLOTS_FIRST : old_count * 2;
	struct watcher **slots = calloc(count, sizeof(struct watcher *));

	if (slots == NULL)
		return;
	index->slots = slots;
	index->slot_count = count;
	for (size_t i = 0; i < old_count; i++) {
		for (struct watcher *w = old[i], *next; w != NULL; w = next) {
			next = w->index.single.next;
			link_single(index, w);
		}
	}
	if (old != &index->only_slot)
		free(old);
}

static void add_single(struct interval_index *index, struct watcher *w)
{
	if (index->single_count++ >= index->slot_count)
		grow(index);
	w->index.single.hash = (uint32_t)XXH3_64bits_withSeed(w->span.key, w->span.key_len, index->seed);
	link_single(index, w);
}

static void remove_single(struct interval_index *index, struct watcher *w)
{
	*w->index.single.link = w->index.single.next;
	if (w->index.single.next != NULL)
		w->index.single.next->index.single.link = w->index.single.link;
	index->single_count--;
}

static void find_single(const struct interval_index *index, const uint8_t *key, size_t len,
                        interval_visit_fn *visit, void *arg)
{
	uint32_t hash = (uint32_t)XXH3_64bits_withSeed(key, len, index->seed);

	for (struct watcher *w = *slot_of(index, hash); w != NULL; w = w->index.single.next)
		if (w->index.single.hash == hash &&
		    bytes_compare(key, len, w->span.key, w->span.key_len) == 0)
			visit(w, arg);
}

/* ---- Ranges ---- */

/* The order of the tree: by where the range begins; those that begin alike by
 * their addresses, so that each one can be found again. */
static bool is_before(const struct watcher *a, const struct watcher *b)
{
	int order = bytes_compare(a->span.key, a->span.key_len, b->span.key, b->span.key_len);

	return order != 0 ? order < 0 : (uintptr_t)a < (uintptr_t)b;
}

static bool ends_after_key(const struct span *span, const uint8_t *key, size_t len)
{
	return span_is_open(span) || bytes_compare(span->end, span->end_len, key, len) > 0;
}

static bool ends_after(const struct span *a, const struct span *b)
{
	return !span_is_open(b) && ends_after_key(a, b->end, b->end_len);
}

static void update(struct watcher *node)
{
	struct watcher *below[] = {node->index.range.left, node->index.range.right};

	node->index.range.furthest = node;
	for (int i = 0; i < 2; i++) {
		struct watcher *other = below[i] != NULL ? below[i]->index.range.furthest : NULL;

		if (other != NULL && ends_after(&other->span, &node->index.range.furthest->span))
			node->index.range.furthest = other;
	}
}

/* Parts a tree into what comes before w and what comes after. */
static void split(struct watcher *node, const struct watcher *w, struct watcher **before,
                  struct watcher **after)
{
	if (node == NULL) {
		*before = *after = NULL;
		return;
	}
	if (is_before(node, w)) {
		*before = node;
		split(node->index.range.right, w, &node->index.range.right, after);
	} else {
		*after = node;
		split(node->index.range.left, w, before, &node->index.range.left);
	}
	update(node);
}

/* Joins two trees, the first of which is all before the second. */
static struct watcher *join(struct watcher *before, struct watcher *after)
{
	struct watcher *top;

	if (before == NULL || after == NULL)
		return before != NULL ? before : after;
	if (before->index.range.priority > after->index.range.priority) {
		top = before;
		top->index.range.right = join(before->index.range.right, after);
	} else {
		top = after;
		top->index.range.left = join(before, after->index.range.left);
	}
	update(top);
	return top;
}

static struct watcher *insert(struct watcher *node, struct watcher *w)
{
	if (node == NULL || w->index.range.priority > node->index.range.priority) {
		split(node, w, &w->index.range.left, &w->index.range.right);
		node = w;
	} else if (is_before(w, node)) {
		node->index.range.left = insert(node->index.range.left, w);
	} else {
		node->index.range.right = insert(node->index.range.right, w);
	}
	update(node);
	return node;
}

static struct watcher *erase(struct watcher *node, const struct watcher *w)
{
	if (node == w)
		return join(node->index.range.left, node->index.range.right);
	if (is_before(w, node))
		node->index.range.left = erase(node->index.range.left, w);
	else
		node->index.range.right = erase(node->index.range.right, w);
	update(node);
	return node;
}

static void find_ranges(struct watcher *node, const uint8_t *key, size_t len, interval_visit_fn *visit,
                        void *arg)
{
	while (node != NULL && ends_after_key(&node->index.range.furthest->span, key, len)) {
		find_ranges(node->index.range.left, key, len, visit, arg);
		if (bytes_compare(node->span.key, node->span.key_len, key, len) > 0)
			return; /* so does all that is to the right */
		if (ends_after_key(&node->span, key, len))
			visit(node, arg);
		node = node->index.range.right;
	}
}

static uint32_t draw_priority(struct interval_index *index)
{
	uint64_t x = index->generator;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	index->generator = x;
	return (uint32_t)(x >> 32);
}

/* ---- Both ---- */

void interval_add(struct interval_index *index, struct watcher *w)
{
	if (span_is_single(&w->span)) {
		add_single(index, w);
		return;
	}
	w->index.range.priority = draw_priority(index);
	index->root = insert(index->root, w);
}

void interval_remove(struct interval_index *index, struct watcher *w)
{
	if (span_is_single(&w->span))
		remove_single(index, w);
	else
		index->root = erase(index->root, w);
}

void interval_find(const struct interval_index *index, const uint8_t *key, size_t len,
                   interval_visit_fn *visit, void *arg)
{
	if (index->single_count > 0)
		find_single(index, key, len, visit, arg);
	find_ranges(index->root, key, len, visit, arg);
}
