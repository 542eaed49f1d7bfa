/* SPDX-License-Identifier: Apache-2.0 */
#include "log/embedded_log.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

struct entry {
	struct entry *next;
	int64_t offset;
	size_t len;
	uint8_t data[];
};

struct embedded_log {
	struct log base;

	pthread_mutex_t lock; /* guards what follows, up to 'handed' */
	pthread_cond_t filled;
	struct entry *head;
	struct entry **tail;
	size_t queued_bytes;
	size_t max_queued_bytes;
	int64_t last_offset;
	bool waiting; /* the poller sleeps */
	bool woken;

	struct entry *handed; /* given out by the last poll; the poller's thread only */
};

static enum status_code append(struct log *base, const uint8_t *data, size_t len, uint64_t tag)
{
	struct embedded_log *log = (struct embedded_log *)base;
	struct entry *entry;
	bool waiting;

	/* A record that was taken always reaches apply: there is nothing to report. */
	(void)tag;
	entry = malloc(sizeof *entry + len);
	if (entry == NULL)
		return STATUS_NO_MEMORY;
	entry->next = NULL;
	entry->len = len;
	memcpy(entry->data, data, len);

	pthread_mutex_lock(&log->lock);
	if (log->head != NULL && log->queued_bytes + len > log->max_queued_bytes) {
		pthread_mutex_unlock(&log->lock);
		free(entry);
		return STATUS_TOO_MANY_REQUESTS;
	}
	entry->offset = ++log->last_offset;
	*log->tail = entry;
	log->tail = &entry->next;
	log->queued_bytes += len;
	waiting = log->waiting;
	log->waiting = false;
	pthread_mutex_unlock(&log->lock);
	if (waiting)
		pthread_cond_signal(&log->filled);
	return STATUS_OK;
}

static void free_entries(struct entry *entry)
{
	while (entry != NULL) {
		struct entry *next = entry->next;
		free(entry);
		entry = next;
	}
}

static void wait_filled(struct embedded_log *log, int timeout_ms)
{
	const struct timespec until = clock_deadline(timeout_ms);

	while (log->head == NULL && !log->woken) {
		log->waiting = true;
		if (pthread_cond_timedwait(&log->filled, &log->lock, &until) == ETIMEDOUT)
			break;
	}
	log->waiting = false;
}

static enum status_code poll_records(struct log *base, struct log_record *records, size_t max,
                                     size_t *count, int timeout_ms)
{
	struct embedded_log *log = (struct embedded_log *)base;
	struct entry **cut = &log->head;

	free_entries(log->handed);
	log->handed = NULL;
	*count = 0;

	pthread_mutex_lock(&log->lock);
	if (log->head == NULL && timeout_ms > 0)
		wait_filled(log, timeout_ms);
	log->woken = false;
	while (*count < max && *cut != NULL) {
		struct entry *entry = *cut;

		records[(*count)++] = (struct log_record){entry->offset, entry->data, entry->len};
		log->queued_bytes -= entry->len;
		cut = &entry->next;
	}
	if (*count > 0) {
		log->handed = log->head;
		log->head = *cut;
		*cut = NULL;
		if (log->head == NULL)
			log->tail = &log->head;
	}
	pthread_mutex_unlock(&log->lock);
	return STATUS_OK;
}

static enum status_code trim(struct log *base, int64_t before)
{
	(void)base;
	(void)before;
	return STATUS_OK;
}

static void wake(struct log *base)
{
	struct embedded_log *log = (struct embedded_log *)base;

	pthread_mutex_lock(&log->lock);
	log->woken = true;
	pthread_mutex_unlock(&log->lock);
	pthread_cond_signal(&log->filled);
}

static void close_log(struct log *base)
{
	struct embedded_log *log = (struct embedded_log *)base;

	free_entries(log->handed);
	free_entries(log->head);
	pthread_cond_destroy(&log->filled);
	pthread_mutex_destroy(&log->lock);
	log_release(base);
	free(log);
}

const struct log_ops log_embedded = {
	.name = "embedded",
	.append = append,
	.poll = poll_records,
	.trim = trim,
	.wake = wake,
	.close = close_log,
};

enum status_code embedded_log_open(int64_t applied, size_t max_queued_bytes, struct log **out)
{
	struct embedded_log *log = calloc(1, sizeof *log);
	pthread_condattr_t monotonic;

	if (log == NULL)
		return STATUS_NO_MEMORY;
	log_init(&log->base, &log_embedded);
	log->tail = &log->head;
	log->max_queued_bytes = max_queued_bytes;
	log->last_offset = applied;
	pthread_mutex_init(&log->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&log->filled, &monotonic);
	pthread_condattr_destroy(&monotonic);
	*out = &log->base;
	return STATUS_OK;
}
