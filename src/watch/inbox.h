/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What other threads have for a shard: batches, and tasks.
 *
 * Posting neither fails nor waits for the shard. If the shard does not run for
 * long, what has piled up beyond some megabytes is dropped, and a gap is left
 * that says so: the shard's watchers then read it elsewhere.
 */
#ifndef KETA_INBOX_H
#define KETA_INBOX_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "state/event.h"
#include "watch/shard.h"

enum {
	/* Half a second's commits of a busy writer. */
	INBOX_BATCHES = 1024,
	INBOX_BYTES = 8 << 20,
};

struct inbox {
	shard_wake_fn *wake;
	void *wake_arg;

	pthread_mutex_t lock;                       /* guards what follows */
	struct event_batch *batches[INBOX_BATCHES]; /* a ring */
	size_t head, count;
	size_t bytes;                /* of these */
	int64_t gap_first, gap_last; /* revisions that were dropped, before the batches; 0: none */
	struct shard_task *tasks, **tasks_end;
	bool is_woken; /* wake was called since the last inbox_open */
};

/* The next thing for a shard to tell: a batch, or revisions without one. */
struct arrival {
	struct event_batch *batch; /* a reference; NULL: a gap */
	int64_t first, last;
};

void inbox_init(struct inbox *inbox, shard_wake_fn *wake, void *wake_arg);

/* When nobody posts any more, but for one who is just about to return. */
void inbox_release(struct inbox *inbox);

/* Any thread. The reference stays the caller's. */
void inbox_post(struct inbox *inbox, struct event_batch *batch);
void inbox_post_gap(struct inbox *inbox, int64_t first, int64_t last);
void inbox_post_task(struct inbox *inbox, struct shard_task *task);

/* Asks for a run without anything new. */
void inbox_wake(struct inbox *inbox);

/* A run begins: what comes from here on wakes again. Returns the tasks that have
 * come, in order. */
struct shard_task *inbox_open(struct inbox *inbox);

/* The oldest batch or gap; false when there is none. */
bool inbox_take(struct inbox *inbox, struct arrival *out);

bool inbox_is_empty(struct inbox *inbox);

#endif
