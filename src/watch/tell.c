/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tells synced watchers of the batches that come.
 *
 * A revision is matched first, event by event: each watcher that it concerns is
 * put on the list of the touched, with its events. Then those are told, one
 * after the other. Between any two of these steps a run may end, and watchers
 * may come and go: one that comes wants later revisions, one that goes is taken
 * off the list. Watchers that are not concerned cost nothing.
 */
#include <assert.h>
#include <stdlib.h>

#include "watch/internal.h"

enum {
	HITS_FIRST = 256,
	/* Who is concerned by more of one revision, with others, is told of it as if he lagged. */
	HITS_MAX = 1 << 20,
	HITS_KEPT = 1 << 14,
};

/* In place of a watcher's first and last hit: there was no memory for them. */
#define HITS_LOST UINT32_MAX

void tell_forget(struct shard *shard, struct watcher *w)
{
	if (w->first_hit == 0)
		return;
	if (w->prev_touched != NULL)
		w->prev_touched->next_touched = w->next_touched;
	else
		shard->touched.head = w->next_touched;
	if (w->next_touched != NULL)
		w->next_touched->prev_touched = w->prev_touched;
	else
		shard->touched.tail = w->prev_touched;
	w->first_hit = w->last_hit = 0;
}

static void touch(struct shard *shard, struct watcher *w)
{
	w->next_touched = NULL;
	w->prev_touched = shard->touched.tail;
	if (shard->touched.tail != NULL)
		shard->touched.tail->next_touched = w;
	else
		shard->touched.head = w;
	shard->touched.tail = w;
}

static uint32_t new_hit(struct shard *shard, struct event *event)
{
	if (shard->hit_count >= shard->hit_size) {
		uint32_t size = shard->hit_size > 0 ? shard->hit_size * 2 : HITS_FIRST;
		struct hit *hits = size <= HITS_MAX ? realloc(shard->hits, size * sizeof *hits) : NULL;

		if (hits == NULL)
			return HITS_LOST;
		shard->hits = hits;
		shard->hit_size = size;
	}
	shard->hits[shard->hit_count] = (struct hit){.event = event};
	return shard->hit_count++;
}

struct match {
	struct shard *shard;
	struct event *event;
};

static void add_hit(struct watcher *w, void *arg)
{
	const struct match *match = arg;
	struct shard *shard = match->shard;
	uint32_t hit;

	if (w->from > shard->revision || !watcher_wants(w, match->event) || w->first_hit == HITS_LOST)
		return;
	hit = new_hit(shard, match->event);
	if (w->first_hit == 0)
		touch(shard, w);
	if (w->first_hit == 0 || hit == HITS_LOST)
		w->first_hit = hit;
	else
		shard->hits[w->last_hit].next = hit;
	w->last_hit = hit;
}

static void match_event(struct shard *shard)
{
	struct match match = {.shard = shard, .event = shard->batch->events[shard->next_event++]};
	int64_t revision = event_revision(match.event);

	if (revision != shard->revision) {
		assert(revision > shard->revision && shard->touched.head == NULL);
		shard->revision = revision;
		shard->finished = revision - 1;
		shard->hit_count = 1;
	}
	interval_find(&shard->index, match.event->kv.key.data, match.event->kv.key.len, add_hit, &match);
}

/* Copies the watcher's events to where a callback can read them. */
static bool collect(struct shard *shard, const struct watcher *w)
{
	struct selection *selection = &shard->selection;

	selection->count = 0;
	if (w->first_hit == HITS_LOST)
		return false;
	for (uint32_t hit = w->first_hit; hit != 0; hit = shard->hits[hit].next) {
		if (!selection_reserve(selection, selection->count + 1))
			return false;
		selection->events[selection->count++] = shard->hits[hit].event;
	}
	return true;
}

/* Returns how many events were told. The watcher may be gone afterwards. */
static size_t tell_one(struct shard *shard, struct watcher *w)
{
	bool complete = collect(shard, w) && (shard->batch->has_prev || !w->prev_kv);

	tell_forget(shard, w);
	if (!complete || !shard_has_room(w)) {
		w->from = shard->revision;
		watcher_move(w, WATCHER_READY);
		return 1;
	}
	w->group->ops->events(w, shard->revision, shard->selection.events, shard->selection.count);
	return shard->selection.count;
}

static void finish_batch(struct shard *shard)
{
	/* Unless it was skipped. */
	if (shard->revision < shard->batch->last)
		shard->revision = shard->batch->last;
	shard->finished = shard->revision;
	event_batch_release(shard->batch);
	shard->batch = NULL;
	if (shard->hit_size > HITS_KEPT) {
		free(shard->hits);
		shard->hits = NULL;
		shard->hit_count = shard->hit_size = 0;
	}
}

/* Whoever was told of everything so far lags from the gap on. */
static void pass_gap(struct shard *shard, const struct arrival *gap)
{
	int64_t first = gap->first > shard->revision ? gap->first : shard->revision + 1;

	for (struct watcher *w = shard->synced.head, *next; w != NULL; w = next) {
		next = w->next;
		if (w->from > gap->last)
			continue;
		if (w->from < first)
			w->from = first;
		watcher_move(w, WATCHER_READY);
	}
	shard->revision = shard->finished = gap->last;
}

static bool take_batch(struct shard *shard)
{
	struct arrival arrival;

	while (inbox_take(&shard->inbox, &arrival)) {
		if (arrival.last <= shard->revision) {
			event_batch_release(arrival.batch);
		} else if (arrival.batch == NULL) {
			pass_gap(shard, &arrival);
		} else {
			shard->batch = arrival.batch;
			shard->next_event = 0;
			return true;
		}
	}
	return false;
}

/* Whether all events of the revision have been matched. */
static bool is_matched(const struct shard *shard)
{
	return shard->next_event == shard->batch->count ||
	       event_revision(shard->batch->events[shard->next_event]) != shard->revision;
}

bool tell_run(struct shard *shard, size_t work)
{
	size_t done = 0;

	while (done < work) {
		if (shard->batch == NULL && !take_batch(shard))
			return false;
		if (shard->touched.head != NULL && is_matched(shard)) {
			done += tell_one(shard, shard->touched.head);
			continue;
		}
		if (shard->next_event < shard->batch->count)
			match_event(shard);
		else
			finish_batch(shard);
		done++;
	}
	return shard->batch != NULL;
}

void tell_skip(struct shard *shard, int64_t revision)
{
	shard->revision = shard->finished = revision;
	/* It goes when its callback, which may be the caller, has returned. */
	if (shard->batch != NULL)
		shard->next_event = shard->batch->count;
}

void tell_release(struct shard *shard)
{
	event_batch_release(shard->batch);
	free(shard->hits);
}
