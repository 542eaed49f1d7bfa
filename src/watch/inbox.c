/* SPDX-License-Identifier: Apache-2.0 */
#include "watch/inbox.h"

void inbox_init(struct inbox *inbox, shard_wake_fn *wake, void *wake_arg)
{
	*inbox = (struct inbox){.wake = wake, .wake_arg = wake_arg};
	pthread_mutex_init(&inbox->lock, NULL);
	inbox->tasks_end = &inbox->tasks;
}

static void drop_batches(struct inbox *inbox)
{
	for (; inbox->count > 0; inbox->count--) {
		event_batch_release(inbox->batches[inbox->head]);
		inbox->head = (inbox->head + 1) % INBOX_BATCHES;
	}
	inbox->bytes = 0;
}

void inbox_release(struct inbox *inbox)
{
	pthread_mutex_lock(&inbox->lock);
	drop_batches(inbox);
	pthread_mutex_unlock(&inbox->lock);
	pthread_mutex_destroy(&inbox->lock);
}

/* With the lock: without it the shard could run, and be gone, before the call. */
static void wake(struct inbox *inbox)
{
	if (!inbox->is_woken)
		inbox->wake(inbox->wake_arg);
	inbox->is_woken = true;
}

/* What is there, up to 'last', becomes a gap. With the lock. */
static void leave_gap(struct inbox *inbox, int64_t first, int64_t last)
{
	if (inbox->gap_last == 0)
		inbox->gap_first = inbox->count > 0 ? inbox->batches[inbox->head]->first : first;
	inbox->gap_last = last;
	drop_batches(inbox);
}

void inbox_post(struct inbox *inbox, struct event_batch *batch)
{
	pthread_mutex_lock(&inbox->lock);
	if (inbox->count == INBOX_BATCHES ||
	    (inbox->count > 0 && inbox->bytes + batch->bytes > INBOX_BYTES)) {
		leave_gap(inbox, batch->first, batch->last);
	} else {
		inbox->batches[(inbox->head + inbox->count++) % INBOX_BATCHES] = event_batch_hold(batch);
		inbox->bytes += batch->bytes;
	}
	wake(inbox);
	pthread_mutex_unlock(&inbox->lock);
}

void inbox_post_gap(struct inbox *inbox, int64_t first, int64_t last)
{
	pthread_mutex_lock(&inbox->lock);
	leave_gap(inbox, first, last);
	wake(inbox);
	pthread_mutex_unlock(&inbox->lock);
}

void inbox_post_task(struct inbox *inbox, struct shard_task *task)
{
	task->next = NULL;
	pthread_mutex_lock(&inbox->lock);
	*inbox->tasks_end = task;
	inbox->tasks_end = &task->next;
	wake(inbox);
	pthread_mutex_unlock(&inbox->lock);
}

void inbox_wake(struct inbox *inbox)
{
	pthread_mutex_lock(&inbox->lock);
	wake(inbox);
	pthread_mutex_unlock(&inbox->lock);
}

struct shard_task *inbox_open(struct inbox *inbox)
{
	struct shard_task *tasks;

	pthread_mutex_lock(&inbox->lock);
	inbox->is_woken = false;
	tasks = inbox->tasks;
	inbox->tasks = NULL;
	inbox->tasks_end = &inbox->tasks;
	pthread_mutex_unlock(&inbox->lock);
	return tasks;
}

bool inbox_take(struct inbox *inbox, struct arrival *out)
{
	bool taken = true;

	pthread_mutex_lock(&inbox->lock);
	if (inbox->gap_last > 0) {
		*out = (struct arrival){.first = inbox->gap_first, .last = inbox->gap_last};
		inbox->gap_last = 0;
	} else if (inbox->count > 0) {
		struct event_batch *batch = inbox->batches[inbox->head];

		*out = (struct arrival){.batch = batch, .first = batch->first, .last = batch->last};
		inbox->bytes -= batch->bytes;
		inbox->head = (inbox->head + 1) % INBOX_BATCHES;
		inbox->count--;
	} else {
		taken = false;
	}
	pthread_mutex_unlock(&inbox->lock);
	return taken;
}

bool inbox_is_empty(struct inbox *inbox)
{
	bool empty;

	pthread_mutex_lock(&inbox->lock);
	empty = inbox->count == 0 && inbox->gap_last == 0 && inbox->tasks == NULL;
	pthread_mutex_unlock(&inbox->lock);
	return empty;
}
