/* SPDX-License-Identifier: Apache-2.0 */
#include "watch/hub.h"

#include <assert.h>
#include <stdlib.h>

#include "watch/internal.h"

enum {
	/* What a batch takes beside its events: the struct and its arena's first chunk. */
	BATCH_OVERHEAD_BYTES = 4096 + sizeof(struct event_batch),
};

enum status_code hub_open(struct store *store, struct hub **out)
{
	struct hub *hub = calloc(1, sizeof *hub);
	enum status_code status;

	if (hub == NULL)
		return STATUS_NO_MEMORY;
	atomic_init(&hub->revision, store->saved.revision);
	hub->ring_first = hub->ring_first_prev = store->saved.revision + 1;
	pthread_mutex_init(&hub->lock, NULL);
	status = catchup_start(&hub->catchup, store, &hub->revision);
	if (status != STATUS_OK) {
		pthread_mutex_destroy(&hub->lock);
		free(hub);
		return status;
	}
	*out = hub;
	return STATUS_OK;
}

/* Forgets the oldest batch. */
static void drop_oldest(struct hub *hub)
{
	struct event_batch *batch = hub->ring[hub->ring_head];

	hub->ring_head = (hub->ring_head + 1) % RING_BATCHES;
	hub->ring_count--;
	hub->ring_first = batch->last + 1;
	if (hub->ring_first_prev < hub->ring_first)
		hub->ring_first_prev = hub->ring_first;
	hub->ring_bytes -= BATCH_OVERHEAD_BYTES + 2 * batch->bytes + batch->count * sizeof(struct event);
	event_batch_release(batch);
}

void hub_close(struct hub *hub)
{
	if (hub == NULL)
		return;
	assert(hub->shards == NULL);
	catchup_stop(&hub->catchup);
	while (hub->ring_count > 0)
		drop_oldest(hub);
	pthread_mutex_destroy(&hub->lock);
	free(hub);
}

bool hub_wants_events(const struct hub *hub)
{
	return atomic_load(&hub->watchers) > 0;
}

bool hub_wants_prev(const struct hub *hub)
{
	return atomic_load(&hub->prev_watchers) > 0;
}

int64_t hub_revision(const struct hub *hub)
{
	return atomic_load(&hub->revision);
}

/* Takes over the reference. An event counts double: there will be a form of it. */
static void remember(struct hub *hub, struct event_batch *batch)
{
	hub->ring_bytes += BATCH_OVERHEAD_BYTES + 2 * batch->bytes + batch->count * sizeof(struct event);
	if (hub->ring_count == RING_BATCHES)
		drop_oldest(hub);
	hub->ring[(hub->ring_head + hub->ring_count++) % RING_BATCHES] = batch;
	if (!batch->has_prev)
		hub->ring_first_prev = batch->last + 1;
	while (hub->ring_bytes > RING_BYTES && hub->ring_count > 0)
		drop_oldest(hub);
}

/* What is remembered has no holes. */
static void forget(struct hub *hub, int64_t revision)
{
	while (hub->ring_count > 0)
		drop_oldest(hub);
	hub->ring_first = hub->ring_first_prev = revision + 1;
}

void hub_publish(struct hub *hub, struct event_batch *batch)
{
	if (batch->missing) {
		hub_advance(hub, batch->last);
		event_batch_release(batch);
		return;
	}
	pthread_mutex_lock(&hub->lock);
	assert(batch->first == hub_revision(hub) + 1);
	atomic_store(&hub->revision, batch->last);
	for (struct shard *shard = hub->shards; shard != NULL; shard = shard->next)
		inbox_post(&shard->inbox, batch);
	remember(hub, batch);
	pthread_mutex_unlock(&hub->lock);
}

void hub_advance(struct hub *hub, int64_t revision)
{
	int64_t first;

	pthread_mutex_lock(&hub->lock);
	first = hub_revision(hub) + 1;
	if (revision >= first) {
		atomic_store(&hub->revision, revision);
		forget(hub, revision);
		for (struct shard *shard = hub->shards; shard != NULL; shard = shard->next)
			inbox_post_gap(&shard->inbox, first, revision);
	}
	pthread_mutex_unlock(&hub->lock);
}

void hub_compacted(struct hub *hub, int64_t revision)
{
	pthread_mutex_lock(&hub->lock);
	if (hub->ring_first_prev <= revision)
		hub->ring_first_prev = revision + 1;
	pthread_mutex_unlock(&hub->lock);
}

int64_t hub_enlist(struct hub *hub, struct shard *shard)
{
	int64_t revision;

	pthread_mutex_lock(&hub->lock);
	revision = hub_revision(hub);
	shard->prev = NULL;
	shard->next = hub->shards;
	if (hub->shards != NULL)
		hub->shards->prev = shard;
	hub->shards = shard;
	pthread_mutex_unlock(&hub->lock);
	return revision;
}

void hub_delist(struct hub *hub, struct shard *shard)
{
	pthread_mutex_lock(&hub->lock);
	if (shard->prev != NULL)
		shard->prev->next = shard->next;
	else
		hub->shards = shard->next;
	if (shard->next != NULL)
		shard->next->prev = shard->prev;
	pthread_mutex_unlock(&hub->lock);
}

void hub_remembered(struct hub *hub, int64_t *first, int64_t *first_prev)
{
	pthread_mutex_lock(&hub->lock);
	*first = hub->ring_first;
	*first_prev = hub->ring_first_prev;
	pthread_mutex_unlock(&hub->lock);
}

static struct event_batch *ring_at(const struct hub *hub, size_t index)
{
	return hub->ring[(hub->ring_head + index) % RING_BATCHES];
}

/* The batch that has the revision; ring_count when none has. */
static size_t find_batch(const struct hub *hub, int64_t revision)
{
	size_t low = 0, high = hub->ring_count;

	if (revision < hub->ring_first)
		return hub->ring_count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (ring_at(hub, middle)->last < revision)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Takes references of batches that are alike in having the pairs before or not,
 * so that one window serves all who can be served from here. With the lock. */
static void hold_batches(const struct hub *hub, size_t index, int64_t last, struct window *out)
{
	size_t events = 0;

	while (index < hub->ring_count && out->batch_count < WINDOW_BATCHES && events < WINDOW_EVENTS) {
		struct event_batch *batch = ring_at(hub, index++);

		if (batch->first > last || (out->batch_count > 0 && batch->has_prev != out->has_prev))
			break;
		out->batches[out->batch_count++] = event_batch_hold(batch);
		out->has_prev = batch->has_prev;
		out->last = batch->last < last ? batch->last : last;
		events += batch->count;
	}
}

bool hub_recall(struct hub *hub, int64_t from, int64_t last, bool with_prev, struct window *out)
{
	size_t index;

	pthread_mutex_lock(&hub->lock);
	index = find_batch(hub, from);
	if (!with_prev || from >= hub->ring_first_prev)
		hold_batches(hub, index, last, out);
	out->has_prev = out->has_prev && from >= hub->ring_first_prev;
	pthread_mutex_unlock(&hub->lock);
	if (out->batch_count == 0)
		return false;
	out->first = from;
	return window_sort(out);
}
