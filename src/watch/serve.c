/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Serves lagging watchers, in turn, until they are synced.
 *
 * What a watcher needs comes from one of two windows: 'recent' is filled from
 * the hub's memory whenever the next one in turn needs another part of it;
 * 'past' is the answer of the catch-up thread, for all who were waiting when it
 * was asked, and stays until each of them has had a look at it. Only then the
 * next request is made, for the one who has waited longest.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "watch/internal.h"

enum {
	/* Sorting so many events of a window costs as much as telling one. */
	SORTED_PER_TOLD = 8,
};

static void lose(struct watcher *w, enum status_code why, int64_t compact_revision)
{
	watch_remove(w);
	w->group->ops->lost(w, why, compact_revision);
}

/* Tells the watcher what the window has for it, in one message. It is READY, and
 * may be gone afterwards. Returns how many events it was. */
static size_t serve(struct shard *shard, struct watcher *w, const struct window *window)
{
	const struct selection *selection = &shard->selection;

	if (!window_select(window, w, &shard->selection)) {
		lose(w, STATUS_NO_MEMORY, 0);
		return 0;
	}
	if (selection->count > 0 && !shard_has_room(w)) {
		watcher_move(w, WATCHER_PARKED);
		return 0;
	}
	w->from = window->last + 1;
	if (selection->count > 0)
		w->group->ops->events(w, hub_revision(shard->hub), selection->events, selection->count);
	return selection->count;
}

/* ---- From the hub's memory ---- */

static size_t serve_ready(struct shard *shard, struct watcher *w)
{
	size_t done = 1;

	if (w->from > shard->revision) {
		watcher_move(w, WATCHER_SYNCED);
		return done;
	}
	if (!shard_has_room(w)) {
		watcher_move(w, WATCHER_PARKED);
		return done;
	}
	if (!window_continues(&shard->recent, w)) {
		window_clear(&shard->recent);
		if (!hub_recall(shard->hub, w->from, shard->revision, w->prev_kv, &shard->recent)) {
			watcher_move(w, WATCHER_WAITING);
			return done;
		}
		done += shard->recent.count / SORTED_PER_TOLD;
	}
	watcher_move(w, WATCHER_READY); /* behind the others */
	return done + serve(shard, w, &shard->recent);
}

/* ---- From the database ---- */

static bool covers(const struct span *outer, const struct span *inner)
{
	if (span_is_single(inner))
		return span_contains(outer, inner->key, inner->key_len);
	if (span_is_single(outer) ||
	    bytes_compare(outer->key, outer->key_len, inner->key, inner->key_len) > 0)
		return false;
	return span_is_open(outer) ||
	       (!span_is_open(inner) &&
	        bytes_compare(outer->end, outer->end_len, inner->end, inner->end_len) >= 0);
}

static bool request_covers(const struct catchup_request *request, const struct span *span)
{
	bool covered = request->all_keys;

	for (size_t i = 0; i < request->span_count && !covered; i++)
		covered = covers(&request->spans[i], span);
	return covered;
}

static const uint8_t *copy_bytes(struct catchup_request *request, const uint8_t *bytes, size_t len)
{
	uint8_t *copy = request->bytes + request->bytes_used;

	if (len > 0)
		memcpy(copy, bytes, len);
	request->bytes_used += len;
	return copy;
}

/* The watcher may be gone when the slice is read: its span is copied. */
static void request_add_span(struct catchup_request *request, const struct span *span)
{
	if (request_covers(request, span))
		return;
	if (request->span_count == REQUEST_SPANS || span->key_len > REQUEST_SPAN_BYTES ||
	    span->end_len > REQUEST_SPAN_BYTES - span->key_len ||
	    span->key_len + span->end_len > REQUEST_SPAN_BYTES - request->bytes_used) {
		request->all_keys = true;
		return;
	}
	request->spans[request->span_count++] = (struct span){
		.key = copy_bytes(request, span->key, span->key_len),
		.key_len = span->key_len,
		.end = copy_bytes(request, span->end, span->end_len),
		.end_len = span->end_len,
	};
}

/* Whether the hub had forgotten what the watcher needs when it was last asked. */
static bool needs_history(const struct shard *shard, const struct watcher *w)
{
	return w->from < (w->prev_kv ? shard->remembered_prev : shard->remembered);
}

/* Asks for a slice that the first of those who need one needs, and with it those
 * who may be served by the same; and for all who wait, what has been compacted. */
static void ask(struct shard *shard)
{
	struct catchup_request *request = &shard->request;

	window_clear(&shard->past);
	request->wants_slice = request->with_prev = request->all_keys = false;
	request->span_count = request->bytes_used = 0;
	hub_remembered(shard->hub, &shard->remembered, &shard->remembered_prev);
	while (shard->waiting.head != NULL) {
		struct watcher *w = shard->waiting.head;

		watcher_move(w, WATCHER_ASKED);
		if (!needs_history(shard, w))
			continue;
		if (!request->wants_slice)
			request->from = w->from;
		else if (w->from < request->from || w->from - request->from >= SLICE_ROWS)
			continue;
		request->wants_slice = true;
		request->with_prev |= w->prev_kv;
		request_add_span(request, &w->span);
	}
	shard->has_asked = true;
	catchup_submit(&shard->hub->catchup, request);
}

/* Whether the request was answered by an error, for this watcher. */
static bool has_failed(const struct catchup_request *request, const struct watcher *w)
{
	return request->status != STATUS_OK && request->status != STATUS_COMPACTED &&
	       request->wants_slice && w->from == request->from && request_covers(request, &w->span);
}

static bool is_in_slice(const struct shard *shard, const struct watcher *w)
{
	return window_continues(&shard->past, w) && request_covers(&shard->request, &w->span);
}

/* Those for whom the answer has nothing wait on, before those who will have been
 * served by it: so all have their turn. */
static void sort_out(struct shard *shard)
{
	const struct catchup_request *request = &shard->request;

	for (struct watcher *w = shard->asked.head, *next; w != NULL; w = next) {
		bool needs_more = needs_history(shard, w) && w->from <= shard->revision;

		next = w->next;
		if (w->from >= request->compact_revision && !has_failed(request, w) &&
		    !is_in_slice(shard, w))
			watcher_move(w, needs_more ? WATCHER_WAITING : WATCHER_READY);
	}
}

static void take_answer(struct shard *shard, struct shard_task *task)
{
	struct catchup_request *request = (struct catchup_request *)task;
	struct event_batch *slice = request->slice;
	struct window *past = &shard->past;

	shard->has_asked = false;
	if (slice != NULL) {
		request->slice = NULL;
		past->batches[past->batch_count++] = slice;
		past->first = slice->first;
		past->last = slice->last < shard->revision ? slice->last : shard->revision;
		past->has_prev = slice->has_prev;
		if (!window_sort(past))
			request->status = STATUS_NO_MEMORY;
	}
	sort_out(shard);
}

/* The watcher is one that the answer is for. */
static size_t serve_asked(struct shard *shard, struct watcher *w)
{
	const struct catchup_request *request = &shard->request;

	if (w->from < request->compact_revision) {
		lose(w, STATUS_COMPACTED, request->compact_revision);
		return 1;
	}
	if (has_failed(request, w)) {
		lose(w, request->status, 0);
		return 1;
	}
	watcher_move(w, WATCHER_READY);
	return 1 + serve(shard, w, &shard->past);
}

/* ---- Both ---- */

bool serve_run(struct shard *shard, size_t work)
{
	size_t done = 0;

	while (!shard->has_asked && shard->asked.head != NULL && done < work)
		done += serve_asked(shard, shard->asked.head);
	done = 0;
	while (shard->ready.head != NULL && done < work)
		done += serve_ready(shard, shard->ready.head);
	if (!shard->has_asked && shard->asked.head == NULL && shard->waiting.head != NULL)
		ask(shard);
	return shard->ready.head != NULL || (!shard->has_asked && shard->asked.head != NULL);
}

void serve_init(struct shard *shard)
{
	window_init(&shard->recent);
	window_init(&shard->past);
	shard->request.answered.run = take_answer;
	shard->request.shard = shard;
}

void serve_rest(struct shard *shard)
{
	window_release(&shard->recent);
	window_release(&shard->past);
	if (shard->selection.size > WINDOW_EVENTS)
		selection_release(&shard->selection);
}

void serve_release(struct shard *shard)
{
	catchup_cancel(&shard->hub->catchup, &shard->request);
	event_batch_release(shard->request.slice);
	serve_rest(shard);
	selection_release(&shard->selection);
}
