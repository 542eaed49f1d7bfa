/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looks now and then whether the log is still the one that was applied: a topic
 * that was deleted and made anew, or that has lost its tail on a broker, reads on
 * as if nothing had happened. The record at this node's position is read again
 * and compared with what was applied; nothing that is newer can be built on
 * another one. And it asks whether what holds the log is set up as it must be.
 */
#include <stdlib.h>
#include <time.h>
#include <xxhash.h>

#include "base/clock.h"
#include "base/logger.h"
#include "engine/internal.h"

enum {
	TURN_MS = 100,
	LOOK_MS = 10 * 1000,
	CHECK_MS = 3 * 60 * 1000,
	CHECK_AGAIN_MS = 10 * 1000, /* while something is wrong */
	/* A broker that has just taken over may not know yet how far the log goes. */
	SHORT_LOG_MS = 30 * 1000,
};

struct guard {
	struct engine *engine;
	int64_t look_ms, check_ms; /* when to do it next */
	int64_t short_since_ms;    /* the log ends before this node's position; 0: it does not */
	int64_t seen_offset;       /* of the record that the last look found to be the right one */
	uint64_t seen_hash;
	struct buf record;
	pthread_t thread;
	bool started;
};

static void refuse(struct guard *guard, int64_t offset, const char *found)
{
	logger_error("guard", found, LOG_I64("offset", offset),
	             LOG_STR("advice",
	                     "find out what became of the topic; when the log that is there now is the "
	                     "one to keep, delete this node's data directory and start it again"),
	             LOG_END);
	engine_give_up(guard->engine, STATUS_BAD_LOG);
}

/* True when it could be read and is the one. */
static bool compare(struct guard *guard, int64_t offset, uint64_t hash)
{
	enum status_code status = log_read_at(guard->engine->log, offset, &guard->record);

	if (status == STATUS_OK && XXH3_64bits(guard->record.data, guard->record.len) != hash)
		refuse(guard, offset,
		       "the record at this node's position is not the one that it has applied");
	return status == STATUS_OK && atomic_load(&guard->engine->verdict) == STATUS_OK;
}

static int64_t place(struct engine *engine, uint64_t *hash)
{
	int64_t offset;

	pthread_mutex_lock(&engine->place_lock);
	offset = engine->place_offset;
	*hash = engine->place_record;
	pthread_mutex_unlock(&engine->place_lock);
	return offset;
}

/* The record of the last look comes first: a log that was made anew, and has been
 * filled beyond this node's position since, holds at that what this node has read there. */
static void compare_both(struct guard *guard, int64_t first, int64_t offset, uint64_t hash)
{
	if (guard->seen_offset >= first && guard->seen_offset != offset &&
	    !compare(guard, guard->seen_offset, guard->seen_hash))
		return;
	if (offset >= first && compare(guard, offset, hash)) {
		guard->seen_offset = offset;
		guard->seen_hash = hash;
	}
}

static void look(struct guard *guard, int64_t now_ms)
{
	struct engine *engine = guard->engine;
	int64_t first, end;
	uint64_t hash;
	int64_t offset = place(engine, &hash);

	if (offset == 0)
		return;
	if (log_bounds(engine->log, &first, &end) != STATUS_OK) {
		guard->check_ms = now_ms; /* there may be more to say than that it did not answer */
		return;
	}
	if (offset < end) {
		guard->short_since_ms = 0;
		compare_both(guard, first, offset, hash);
		return;
	}
	if (guard->short_since_ms == 0)
		guard->short_since_ms = now_ms;
	if (now_ms >= guard->short_since_ms + SHORT_LOG_MS)
		refuse(guard, offset, "the log ends before what this node has applied");
}

/* All nodes look at the same moments: one that refuses renewals while the leader
 * goes on ending leases would do harm. */
static void plan_check(struct guard *guard, int64_t now_ms, bool soon)
{
	guard->check_ms = now_ms + (soon ? CHECK_AGAIN_MS : CHECK_MS - clock_wall_ms() % CHECK_MS);
}

static void check(struct guard *guard, int64_t now_ms)
{
	struct engine *engine = guard->engine;
	struct buf why;
	enum status_code status;

	buf_init(&why);
	status = engine->cluster.check(engine->cluster.check_arg, &why);
	buf_append_byte(&why, '\0');
	if (status == STATUS_BAD_KAFKA) {
		logger_error("guard", "Kafka is not set up as it must be: nothing is written until it is",
		             LOG_STR("found", why.failed ? "" : (const char *)why.data), LOG_END);
		atomic_store(&engine->log_fault,
		             "etcdserver: Kafka is not set up as it must be, see the server's log");
	} else if (status == STATUS_OK && atomic_exchange(&engine->log_fault, NULL) != NULL) {
		logger_info("guard", "Kafka is set up as it must be again", LOG_END);
	}
	buf_release(&why);
	plan_check(guard, now_ms, engine->log_fault != NULL);
}

void guard_turn(struct guard *guard, int64_t now_ms)
{
	if (atomic_load(&guard->engine->verdict) != STATUS_OK)
		return;
	if (guard->seen_offset == 0) /* the start has compared this one */
		guard->seen_offset = place(guard->engine, &guard->seen_hash);
	if (now_ms >= guard->look_ms || atomic_load(&guard->engine->check_requested)) {
		guard->look_ms = now_ms + LOOK_MS;
		look(guard, now_ms);
	}
	if (guard->engine->cluster.check != NULL &&
	    (now_ms >= guard->check_ms || atomic_exchange(&guard->engine->check_requested, false)))
		check(guard, now_ms);
}

static void *run(void *arg)
{
	struct guard *guard = arg;
	const struct timespec pause = {.tv_nsec = (long)TURN_MS * 1000000};

	while (!atomic_load(&guard->engine->stopping)) {
		guard_turn(guard, clock_ms());
		nanosleep(&pause, NULL);
	}
	return NULL;
}

enum status_code guard_start(struct engine *engine)
{
	struct guard *guard = calloc(1, sizeof *guard);

	if (guard == NULL)
		return STATUS_NO_MEMORY;
	guard->engine = engine;
	guard->look_ms = clock_ms() + LOOK_MS;
	plan_check(guard, clock_ms(), false);
	buf_init(&guard->record);
	guard->seen_offset =
		place(engine, &guard->seen_hash); /* the look before the start has verified it */
	engine->guard = guard;
	if (engine->cluster.manual)
		return STATUS_OK;
	if (pthread_create(&guard->thread, NULL, run, guard) != 0)
		return STATUS_NO_MEMORY;
	pthread_setname_np(guard->thread, "keta-guard");
	guard->started = true;
	return STATUS_OK;
}

void guard_stop(struct engine *engine)
{
	struct guard *guard = engine->guard;

	if (guard == NULL)
		return;
	if (guard->started)
		pthread_join(guard->thread, NULL);
	buf_release(&guard->record);
	free(guard);
	engine->guard = NULL;
}
