/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log: an ordered, durable sequence of records. Every change of the state
 * is one record; every node reads the same records in the same order.
 *
 * Offsets only grow. A record appended is read back by log_poll, by the node
 * that appended it too, and that is the only way to learn of success: 'done'
 * reports refusals.
 *
 * Two implementations: embedded (log/embedded_log.h), where a record is
 * durable when the database transaction that applies it has committed, and
 * Kafka. Nothing above this header knows which.
 */
#ifndef KETA_LOG_H
#define KETA_LOG_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct log;

struct log_record {
	int64_t offset;
	const uint8_t *data;
	size_t len;
};

/* The outcome of an append that was refused or timed out (status other than
 * OK), or the offset that a barrier waits for. Any thread. */
typedef void log_done_fn(void *arg, enum status_code status, int64_t offset);

struct log_ops {
	const char *name;
	enum status_code (*append)(struct log *log, const uint8_t *data, size_t len, log_done_fn *done,
	                           void *arg);
	enum status_code (*poll)(struct log *log, struct log_record *records, size_t max, size_t *count,
	                         int timeout_ms);
	enum status_code (*barrier)(struct log *log, log_done_fn *done, void *arg);
	enum status_code (*trim)(struct log *log, int64_t before);
	void (*wake)(struct log *log);
	void (*close)(struct log *log);
};

/* An implementation's struct starts with this. */
struct log {
	const struct log_ops *ops;
};

/* Adds a record; the bytes are copied. Anything but OK means that it was not
 * and will not be added, and 'done' is not called. After OK, 'done' is called
 * at most once, only if the append fails or its outcome stays unknown
 * (STATUS_TIMEOUT). Any thread. */
static inline enum status_code log_append(struct log *log, const uint8_t *data, size_t len,
                                          log_done_fn *done, void *arg)
{
	return log->ops->append(log, data, len, done, arg);
}

/* Up to 'max' next records, waiting at most timeout_ms for the first (0: do
 * not wait). The bytes are the log's, valid until the next poll. *count is 0
 * after a time-out or log_wake. The applier's thread only. */
static inline enum status_code log_poll(struct log *log, struct log_record *records, size_t max,
                                        size_t *count, int timeout_ms)
{
	return log->ops->poll(log, records, max, count, timeout_ms);
}

/* Calls 'done' with an offset such that a state in which it is applied holds
 * every write acknowledged anywhere before this call. It may be called before
 * log_barrier returns. Any thread. */
static inline enum status_code log_barrier(struct log *log, log_done_fn *done, void *arg)
{
	return log->ops->barrier(log, done, arg);
}

/* Records below 'before' are no longer needed. */
static inline enum status_code log_trim(struct log *log, int64_t before)
{
	return log->ops->trim(log, before);
}

/* Ends a waiting log_poll early. Any thread. */
static inline void log_wake(struct log *log)
{
	log->ops->wake(log);
}

/* Frees the log. No other call may be under way. */
static inline void log_close(struct log *log)
{
	log->ops->close(log);
}

#endif
