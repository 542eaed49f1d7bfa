/* SPDX-License-Identifier: Apache-2.0 */
#include "watch/window.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "watch/interval.h"

enum { SELECTION_FIRST = 64 };

void window_init(struct window *window)
{
	*window = (struct window){.first = 1};
}

void window_clear(struct window *window)
{
	for (size_t i = 0; i < window->batch_count; i++)
		event_batch_release(window->batches[i]);
	window->batch_count = 0;
	window->count = 0;
	window->first = 1;
	window->last = 0;
}

void window_release(struct window *window)
{
	window_clear(window);
	free(window->entries);
	*window = (struct window){.first = 1};
}

static int compare_entries(const void *a, const void *b)
{
	const struct window_entry *x = a, *y = b;
	int order = bytes_compare(x->event->kv.key.data, x->event->kv.key.len, y->event->kv.key.data,
	                          y->event->kv.key.len);

	return order != 0 ? order : (x->place > y->place) - (x->place < y->place);
}

static int compare_places(const void *a, const void *b)
{
	const struct window_entry *x = a, *y = b;

	return (x->place > y->place) - (x->place < y->place);
}

/* Much is in order already: the events of one key, or of a deleted range. */
static void sort(struct window_entry *entries, size_t count, int (*compare)(const void *, const void *))
{
	size_t i = 1;

	while (i < count && compare(&entries[i - 1], &entries[i]) <= 0)
		i++;
	if (i < count)
		qsort(entries, count, sizeof *entries, compare);
}

static bool reserve(struct window *window)
{
	struct window_entry *entries;
	size_t count = 0;

	for (size_t i = 0; i < window->batch_count; i++)
		count += window->batches[i]->count;
	if (count <= window->size)
		return true;
	entries = realloc(window->entries, count * sizeof *entries);
	if (entries == NULL)
		return false;
	window->entries = entries;
	window->size = count;
	return true;
}

bool window_sort(struct window *window)
{
	window->count = 0;
	if (!reserve(window)) {
		window_clear(window);
		return false;
	}
	for (size_t i = 0; i < window->batch_count; i++) {
		const struct event_batch *batch = window->batches[i];

		for (size_t j = 0; j < batch->count; j++) {
			int64_t revision = event_revision(batch->events[j]);

			if (revision < window->first || revision > window->last)
				continue;
			window->entries[window->count] =
				(struct window_entry){.event = batch->events[j], .place = window->count};
			window->count++;
		}
	}
	sort(window->entries, window->count, compare_entries);
	return true;
}

bool window_continues(const struct window *window, const struct watcher *w)
{
	return w->from >= window->first && w->from <= window->last && (window->has_prev || !w->prev_kv);
}

bool selection_reserve(struct selection *selection, size_t size)
{
	size_t wanted = selection->size > 0 ? selection->size : SELECTION_FIRST;
	struct window_entry *entries;
	struct event **events;

	if (size <= selection->size)
		return true;
	while (wanted < size)
		wanted *= 2;
	entries = realloc(selection->entries, wanted * sizeof *entries);
	if (entries == NULL)
		return false;
	selection->entries = entries;
	events = realloc(selection->events, wanted * sizeof *events);
	if (events == NULL)
		return false;
	selection->events = events;
	selection->size = wanted;
	return true;
}

void selection_release(struct selection *selection)
{
	free(selection->entries);
	free(selection->events);
	*selection = (struct selection){0};
}

/* The first entry whose key is at or after this one, or after it. */
static size_t find_bound(const struct window *window, const uint8_t *key, size_t len, bool after)
{
	size_t low = 0, high = window->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct event *event = window->entries[middle].event;
		int order = bytes_compare(event->kv.key.data, event->kv.key.len, key, len);

		if (order < 0 || (after && order == 0))
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

bool watcher_wants(const struct watcher *w, const struct event *event)
{
	return event->pb.type == PB__EVENT__EVENT_TYPE__PUT ? !w->no_put : !w->no_delete;
}

bool window_select(const struct window *window, const struct watcher *w, struct selection *out)
{
	const struct span *span = &w->span;
	size_t start = find_bound(window, span->key, span->key_len, false);
	size_t end = window->count;

	out->count = 0;
	if (span_is_single(span))
		end = find_bound(window, span->key, span->key_len, true);
	else if (!span_is_open(span))
		end = find_bound(window, span->end, span->end_len, false);
	if (start >= end)
		return true;
	if (!selection_reserve(out, end - start))
		return false;
	for (size_t i = start; i < end; i++) {
		const struct window_entry *entry = &window->entries[i];

		if (event_revision(entry->event) >= w->from && watcher_wants(w, entry->event))
			out->entries[out->count++] = *entry;
	}
	sort(out->entries, out->count, compare_places);
	for (size_t i = 0; i < out->count; i++)
		out->events[i] = out->entries[i].event;
	return true;
}
