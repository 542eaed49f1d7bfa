/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/held_log.h"

#include <sched.h>
#include <stdlib.h>

#include "lib/test.h"
#include "log/embedded_log.h"

enum { QUEUE_BYTES = 64 << 20 };

static enum status_code held_append(struct log *base, const uint8_t *data, size_t len, uint64_t tag)
{
	struct held_log *log = (struct held_log *)base;
	enum status_code status = log_append(log->inner, data, len, tag);

	if (status == STATUS_OK)
		atomic_store(&log->last_tag, tag);
	return status;
}

static void confirm(struct held_log *log)
{
	uint64_t last = atomic_load(&log->last_tag);

	while (log->confirmed_tag < last)
		log_tell(&log->base, ++log->confirmed_tag, STATUS_OK);
}

static enum status_code held_poll(struct log *base, struct log_record *records, size_t max, size_t *count,
                                  int timeout_ms)
{
	struct held_log *log = (struct held_log *)base;
	enum status_code status = log_poll(log->inner, records, max, count, timeout_ms);

	while (atomic_load(&log->held))
		sched_yield();
	if (log_is_shared(base))
		confirm(log);
	return status;
}

static enum status_code held_bounds(struct log *base, int64_t *first, int64_t *end)
{
	*first = 1;
	*end = ((struct held_log *)base)->applied + 1;
	return STATUS_OK;
}

static enum status_code held_read_at(struct log *base, int64_t offset, struct buf *out)
{
	(void)base;
	(void)offset;
	(void)out;
	return STATUS_NO_KAFKA;
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
	log_release(base);
	free(log);
}

static const struct log_ops HELD_OPS = {
	.name = "held",
	.append = held_append,
	.poll = held_poll,
	.trim = held_trim,
	.wake = held_wake,
	.close = held_close,
};

static const struct log_ops SHARED_OPS = {
	.name = "held",
	.shared = true,
	.append = held_append,
	.poll = held_poll,
	.bounds = held_bounds,
	.read_at = held_read_at,
	.trim = held_trim,
	.wake = held_wake,
	.close = held_close,
};

static struct held_log *open_log(const struct log_ops *ops, int64_t applied)
{
	struct held_log *log = calloc(1, sizeof *log);

	ck_assert_ptr_nonnull(log);
	log_init(&log->base, ops);
	log->applied = applied;
	ck_assert_int_eq(embedded_log_open(applied, QUEUE_BYTES, &log->inner), STATUS_OK);
	return log;
}

struct held_log *held_log_open(int64_t applied)
{
	return open_log(&HELD_OPS, applied);
}

struct held_log *held_log_open_shared(int64_t applied)
{
	return open_log(&SHARED_OPS, applied);
}
