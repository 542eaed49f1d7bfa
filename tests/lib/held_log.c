/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/held_log.h"

#include <sched.h>
#include <stdlib.h>

#include "lib/test.h"
#include "log/embedded_log.h"

enum { QUEUE_BYTES = 64 << 20 };

static enum status_code held_append(struct log *base, const uint8_t *data, size_t len, log_done_fn *done,
                                    void *arg)
{
	return log_append(((struct held_log *)base)->inner, data, len, done, arg);
}

static enum status_code held_poll(struct log *base, struct log_record *records, size_t max, size_t *count,
                                  int timeout_ms)
{
	struct held_log *log = (struct held_log *)base;
	enum status_code status = log_poll(log->inner, records, max, count, timeout_ms);

	while (atomic_load(&log->held))
		sched_yield();
	return status;
}

static enum status_code held_barrier(struct log *base, log_done_fn *done, void *arg)
{
	struct held_log *log = (struct held_log *)base;

	if (!atomic_load(&log->held))
		return log_barrier(log->inner, done, arg);
	pthread_mutex_lock(&log->lock);
	log->done = done;
	log->arg = arg;
	pthread_mutex_unlock(&log->lock);
	return STATUS_OK;
}

static enum status_code held_trim(struct log *base, int64_t before)
{
	return log_trim(((struct held_log *)base)->inner, before);
}

static void held_wake(struct log *base)
{
	log_wake(((struct held_log *)base)->inner);
}

static void held_close(struct log *base)
{
	struct held_log *log = (struct held_log *)base;

	log_close(log->inner);
	pthread_mutex_destroy(&log->lock);
	free(log);
}

static const struct log_ops held_ops = {
	.name = "held",
	.append = held_append,
	.poll = held_poll,
	.barrier = held_barrier,
	.trim = held_trim,
	.wake = held_wake,
	.close = held_close,
};

void held_log_answer_barrier(struct held_log *log)
{
	log_done_fn *done = NULL;
	void *arg = NULL;

	while (done == NULL) {
		pthread_mutex_lock(&log->lock);
		done = log->done;
		arg = log->arg;
		log->done = NULL;
		pthread_mutex_unlock(&log->lock);
	}
	done(arg, STATUS_OK, log->offset);
}

struct held_log *held_log_open(int64_t applied)
{
	struct held_log *log = calloc(1, sizeof *log);

	ck_assert_ptr_nonnull(log);
	log->base.ops = &held_ops;
	pthread_mutex_init(&log->lock, NULL);
	ck_assert_int_eq(embedded_log_open(applied, QUEUE_BYTES, &log->inner), STATUS_OK);
	return log;
}
