/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The thread that reads history. Shards ask for one slice at a time and are
 * served in the order in which they asked, so each has its turn every few
 * milliseconds, however far behind its watchers are. No lock is held while it
 * reads.
 */
#include <time.h>

#include "base/clock.h"
#include "state/history.h"
#include "watch/internal.h"

/* Whether something was written since the last slice. */
static bool others_write(struct catchup *catchup)
{
	int64_t revision = atomic_load(catchup->revision);
	bool moved = revision != catchup->seen_revision;

	catchup->seen_revision = revision;
	return moved;
}

static void read_slice(struct catchup *catchup, struct catchup_request *request)
{
	struct history_slice slice = {
		.from = request->from,
		.spans = request->spans,
		.span_count = request->all_keys ? 0 : request->span_count,
		.with_prev = request->with_prev,
		.rows = SLICE_ROWS,
		.bytes = atomic_load(&catchup->slice_bytes) < SLICES_BYTES ? SLICE_BYTES : SLICE_BYTES_WHEN_SHORT,
	};

	if (others_write(catchup)) {
		slice.rows = SLICE_ROWS_BESIDE;
		catchup->not_before_us = clock_us() + SLICE_PAUSE_US;
	}
	request->status = history_read(&catchup->view, &slice, &request->slice);
	if (request->status == STATUS_OK)
		event_batch_charge(request->slice, &catchup->slice_bytes);
}

/* The request is not queued any more; its fields are the thread's. */
static void answer(struct catchup *catchup, struct catchup_request *request)
{
	request->slice = NULL;
	if (request->wants_slice) {
		read_slice(catchup, request);
	} else {
		request->status = view_refresh(&catchup->view);
		view_rest(&catchup->view);
	}
	request->compact_revision = catchup->view.state.compact_revision;
}

/* With the lock, which is given up meanwhile. */
static void wait_for_work(struct catchup *catchup)
{
	struct timespec until = {
		.tv_sec = catchup->not_before_us / 1000000,
		.tv_nsec = catchup->not_before_us % 1000000 * 1000,
	};

	if (catchup->head == NULL)
		pthread_cond_wait(&catchup->changed, &catchup->lock);
	else
		pthread_cond_timedwait(&catchup->changed, &catchup->lock, &until);
}

/* Only slices wait for the end of a pause. */
static bool is_due(const struct catchup *catchup)
{
	return catchup->head != NULL && (!catchup->head->wants_slice || clock_us() >= catchup->not_before_us);
}

static struct catchup_request *take(struct catchup *catchup)
{
	struct catchup_request *request = catchup->head;

	catchup->head = request->next;
	if (catchup->head == NULL)
		catchup->tail = &catchup->head;
	request->place = CATCHUP_READING;
	return request;
}

static void *run(void *arg)
{
	struct catchup *catchup = arg;

	pthread_mutex_lock(&catchup->lock);
	while (!catchup->stopping) {
		struct catchup_request *request;

		if (!is_due(catchup)) {
			wait_for_work(catchup);
			continue;
		}
		request = take(catchup);
		pthread_mutex_unlock(&catchup->lock);
		answer(catchup, request);
		pthread_mutex_lock(&catchup->lock);
		/* Once it is idle its shard may go, unless it waits for the lock to take it back. */
		inbox_post_task(&request->shard->inbox, &request->answered);
		request->place = CATCHUP_IDLE;
		pthread_cond_broadcast(&catchup->changed);
	}
	pthread_mutex_unlock(&catchup->lock);
	return NULL;
}

enum status_code catchup_start(struct catchup *catchup, struct store *store, const _Atomic int64_t *revision)
{
	pthread_condattr_t monotonic;
	enum status_code status = store_view(store, VIEW_LONG_READ, &catchup->view);

	if (status != STATUS_OK)
		return status;
	pthread_mutex_init(&catchup->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&catchup->changed, &monotonic);
	pthread_condattr_destroy(&monotonic);
	catchup->revision = revision;
	catchup->seen_revision = atomic_load(revision);
	catchup->tail = &catchup->head;
	if (pthread_create(&catchup->thread, NULL, run, catchup) != 0) {
		pthread_cond_destroy(&catchup->changed);
		pthread_mutex_destroy(&catchup->lock);
		view_close(&catchup->view);
		return STATUS_NO_MEMORY;
	}
	pthread_setname_np(catchup->thread, "keta-catchup");
	return STATUS_OK;
}

void catchup_stop(struct catchup *catchup)
{
	pthread_mutex_lock(&catchup->lock);
	catchup->stopping = true;
	pthread_cond_broadcast(&catchup->changed);
	pthread_mutex_unlock(&catchup->lock);
	pthread_join(catchup->thread, NULL);
	pthread_cond_destroy(&catchup->changed);
	pthread_mutex_destroy(&catchup->lock);
	view_close(&catchup->view);
}

void catchup_submit(struct catchup *catchup, struct catchup_request *request)
{
	request->next = NULL;
	pthread_mutex_lock(&catchup->lock);
	request->place = CATCHUP_QUEUED;
	*catchup->tail = request;
	catchup->tail = &request->next;
	pthread_cond_broadcast(&catchup->changed);
	pthread_mutex_unlock(&catchup->lock);
}

static void unqueue(struct catchup *catchup, const struct catchup_request *request)
{
	struct catchup_request **at = &catchup->head;

	while (*at != request)
		at = &(*at)->next;
	*at = request->next;
	if (catchup->tail == &request->next)
		catchup->tail = at;
}

void catchup_cancel(struct catchup *catchup, struct catchup_request *request)
{
	pthread_mutex_lock(&catchup->lock);
	if (request->place == CATCHUP_QUEUED)
		unqueue(catchup, request);
	while (request->place == CATCHUP_READING)
		pthread_cond_wait(&catchup->changed, &catchup->lock);
	request->place = CATCHUP_IDLE;
	pthread_mutex_unlock(&catchup->lock);
}
