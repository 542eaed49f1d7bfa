/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log: an ordered, durable sequence of records. Every change of the state
 * is one record; every node reads the same records in the same order.
 *
 * Offsets only grow, by one from record to record, from 1. A record appended
 * comes back from log_poll, at the node that appended it too, and that is the only
 * way to learn that it is in the log, and where.
 *
 * Two implementations: embedded (log/embedded_log.h), where a record is
 * durable when the database transaction that applies it has committed, and
 * Kafka (log/kafka_log.h). What is above this header knows of a log only
 * whether it is shared.
 */
#ifndef KETA_LOG_H
#define KETA_LOG_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"

struct log;

struct log_record {
	int64_t offset;
	const uint8_t *data;
	size_t len;
};

/* What became of an append to a shared log: OK, it is as durable as the log
 * makes it; anything else, it may be in the log or may not, but will not be
 * added after its time-out. Once for each append that was taken, on a thread of the log's. */
typedef void log_done_fn(void *arg, uint64_t tag, enum status_code status);

struct log_ops {
	const char *name;
	/* Other nodes append to it as well, and it outlives this node's database. */
	bool shared;
	enum status_code (*append)(struct log *log, const uint8_t *data, size_t len, uint64_t tag);
	enum status_code (*poll)(struct log *log, struct log_record *records, size_t max, size_t *count,
	                         int timeout_ms);
	enum status_code (*bounds)(struct log *log, int64_t *first, int64_t *end);
	enum status_code (*read_at)(struct log *log, int64_t offset, struct buf *out);
	enum status_code (*trim)(struct log *log, int64_t before);
	void (*wake)(struct log *log);
	void (*close)(struct log *log);
};

/* An implementation's struct starts with this. */
struct log {
	const struct log_ops *ops;
	pthread_mutex_t done_lock; /* held while somebody is told */
	log_done_fn *done;
	void *done_arg;
};

/* For implementations: the start of their struct, and its end. */
static inline void log_init(struct log *log, const struct log_ops *ops)
{
	log->ops = ops;
	pthread_mutex_init(&log->done_lock, NULL);
	log->done = NULL;
	log->done_arg = NULL;
}

static inline void log_release(struct log *log)
{
	pthread_mutex_destroy(&log->done_lock);
}

/* For implementations: says what became of an append. */
static inline void log_tell(struct log *log, uint64_t tag, enum status_code status)
{
	pthread_mutex_lock(&log->done_lock);
	if (log->done != NULL)
		log->done(log->done_arg, tag, status);
	pthread_mutex_unlock(&log->done_lock);
}

static inline bool log_is_shared(const struct log *log)
{
	return log->ops->shared;
}

/* Who is told what became of appends. Before the first append; NULL when nobody is to be told any
 * more: once this returns nobody is. Not from 'done'. */
static inline void log_listen(struct log *log, log_done_fn *done, void *arg)
{
	pthread_mutex_lock(&log->done_lock);
	log->done = done;
	log->done_arg = arg;
	pthread_mutex_unlock(&log->done_lock);
}

/* Adds a record; the bytes are copied. Anything but OK means that it was not
 * and will not be added. The tag comes back in 'done', from a shared log. Any thread;
 * records are added in the order of the calls. */
static inline enum status_code log_append(struct log *log, const uint8_t *data, size_t len, uint64_t tag)
{
	return log->ops->append(log, data, len, tag);
}

/* Up to 'max' next records, waiting at most timeout_ms for the first (0: do
 * not wait). The bytes are the log's, valid until the next poll. *count is 0
 * after a time-out or log_wake. STATUS_BAD_LOG: there is no going on from here,
 * because the next record is gone or never was; it was logged. The applier's thread only. */
static inline enum status_code log_poll(struct log *log, struct log_record *records, size_t max,
                                        size_t *count, int timeout_ms)
{
	return log->ops->poll(log, records, max, count, timeout_ms);
}

/* Of a shared log: the oldest offset that is there (or would be next, in an empty
 * one), and the one after the newest. Waits for an answer, seconds at most:
 * STATUS_NO_KAFKA. Not the applier's thread. */
static inline enum status_code log_bounds(struct log *log, int64_t *first, int64_t *end)
{
	return log->ops->bounds(log, first, end);
}

/* Of a shared log: reads one record again, in place of what is in 'out'. STATUS_BAD_LOG when there is none
 * at that offset, STATUS_NO_KAFKA, STATUS_NO_MEMORY. Not the applier's thread. */
static inline enum status_code log_read_at(struct log *log, int64_t offset, struct buf *out)
{
	return log->ops->read_at(log, offset, out);
}

/* Records below 'before' are no longer needed by anybody. */
static inline enum status_code log_trim(struct log *log, int64_t before)
{
	return log->ops->trim(log, before);
}

/* Ends a waiting log_poll early. Any thread. */
static inline void log_wake(struct log *log)
{
	log->ops->wake(log);
}

/* Frees the log. No other call may be under way; NULL is fine. */
static inline void log_close(struct log *log)
{
	if (log != NULL)
		log->ops->close(log);
}

#endif
