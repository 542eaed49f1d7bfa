/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The thread for what time brings: waiting calls whose deadline has passed,
 * pages of the write-ahead log that can move to the database file, leases that
 * are due, and automatic compaction.
 */
#include <stdlib.h>

#include "base/clock.h"
#include "base/logger.h"
#include "engine/autocompact.h"
#include "engine/internal.h"
#include "engine/lessor.h"

enum {
	TICK_MS = 50,
	/* Small enough that a restart reads little, large enough to write hot pages once. */
	WAL_CHECKPOINT_PAGES = 1000,
	/* Between two looks for leases of which so much less is left than was recorded that it matters. */
	LEASE_RECORD_MS = 60 * 1000,
	/* Of a batch, or between two ticks: renewals that came meanwhile had to wait. */
	STALL_MS = 1000,
	/* From the end of a stall until those renewals are in the log. */
	STALL_GRACE_MS = 1000,
};

/* What is remembered from tick to tick to hold the time of leases. */
struct stall {
	int64_t ticked_ms;
	int64_t hold_until_ms;
	int64_t leases_since_ms; /* since when there are any */
};

struct housekeeping {
	struct reader *reader; /* NULL: there is no memory for checkpoints of the file */
	struct autocompact plan;
	struct stall stall;
	int64_t record_leases_ms;
};

static void propose_compaction(struct engine *engine, int64_t revision)
{
	Pb__CompactionRequest request = PB__COMPACTION_REQUEST__INIT;

	request.revision = revision;
	if (propose_internal(engine, &request.base, NULL) == STATUS_OK)
		logger_info("housekeeper", "compacting", LOG_I64("revision", revision), LOG_END);
}

static void pause_tick(struct engine *engine)
{
	const struct timespec until = clock_deadline(TICK_MS);

	pthread_mutex_lock(&engine->tick_lock);
	if (!atomic_load(&engine->stopping))
		pthread_cond_timedwait(&engine->tick, &engine->tick_lock, &until);
	pthread_mutex_unlock(&engine->tick_lock);
}

/* Under a shared log: whether records have stopped to come. While there are
 * leases the leader keeps them coming; it goes by those of its own that the log
 * has confirmed. */
static bool is_log_silent(const struct engine *engine, struct stall *stall, int64_t now_ms)
{
	int64_t last_ms =
		atomic_load(atomic_load(&engine->leading) ? &engine->confirmed_ms : &engine->applied_ms);

	if (lessor_count(engine->lessor) == 0)
		stall->leases_since_ms = now_ms;
	if (last_ms < stall->leases_since_ms)
		last_ms = stall->leases_since_ms;
	return now_ms - last_ms >= STALL_MS;
}

/* Whether no time is to pass for leases, since nobody could renew them. A stall
 * is held against them for a while longer: the records that end leases must not
 * get in front of the renewals that waited. */
static bool is_time_held(const struct engine *engine, struct stall *stall, int64_t now_ms)
{
	int64_t since_ms = atomic_load(&engine->applying_since_ms);

	if ((since_ms != 0 && now_ms - since_ms >= STALL_MS) || now_ms - stall->ticked_ms >= STALL_MS ||
	    (engine->shared && is_log_silent(engine, stall, now_ms)))
		stall->hold_until_ms = now_ms + STALL_GRACE_MS;
	stall->ticked_ms = now_ms;
	return now_ms < stall->hold_until_ms || atomic_load(&engine->fault) != NULL;
}

/* Of a shared log only its leader does what would do harm or work twice. */
static bool is_in_charge(const struct engine *engine)
{
	return !engine->shared || atomic_load(&engine->leading);
}

static void turn(struct engine *engine, struct housekeeping *house, int64_t now_ms)
{
	int64_t revision = autocompact_tick(&house->plan, now_ms, atomic_load(&engine->revision));

	propose_expire(engine, now_ms);
	read_expire(engine, now_ms);
	if (engine->shared && !atomic_load(&engine->draining))
		entry_turn(engine->entry);
	if (engine->shared)
		read_retry_barrier(engine);
	if (engine->watermark != NULL)
		watermark_applied(engine, now_ms);
	lessor_tick(engine->lessor, now_ms, is_time_held(engine, &house->stall, now_ms));
	if (is_in_charge(engine)) {
		expiry_run(engine);
		if (now_ms >= house->record_leases_ms) {
			expiry_record(engine, false);
			house->record_leases_ms = now_ms + LEASE_RECORD_MS;
		}
		if (revision > 0)
			propose_compaction(engine, revision);
	}
	if (house->reader != NULL && atomic_load(&engine->store->wal_pages) > WAL_CHECKPOINT_PAGES)
		store_checkpoint(&house->reader->view);
}

void housekeeper_turn(struct engine *engine, int64_t now_ms)
{
	turn(engine, engine->housekeeping, now_ms);
}

static void *run(void *arg)
{
	struct engine *engine = arg;

	while (!atomic_load(&engine->stopping)) {
		turn(engine, engine->housekeeping, clock_ms());
		pause_tick(engine);
	}
	return NULL;
}

static enum status_code make_housekeeping(struct engine *engine)
{
	struct housekeeping *house = calloc(1, sizeof *house);
	const struct config *config = engine->config;
	int64_t now_ms = clock_ms();

	if (house == NULL)
		return STATUS_NO_MEMORY;
	engine->housekeeping = house;
	house->stall.ticked_ms = house->stall.leases_since_ms = now_ms;
	house->record_leases_ms = now_ms + LEASE_RECORD_MS;
	autocompact_init(&house->plan, config->compaction_mode, config->compaction_retention, now_ms,
	                 atomic_load(&engine->revision));
	if (engine_reader_new(engine, &house->reader) != STATUS_OK)
		logger_error("housekeeper", "no database connection for checkpoints", LOG_END);
	return STATUS_OK;
}

enum status_code housekeeper_start(struct engine *engine)
{
	enum status_code status = make_housekeeping(engine);

	if (status != STATUS_OK || engine->cluster.manual)
		return status;
	if (pthread_create(&engine->housekeeper, NULL, run, engine) != 0)
		return STATUS_NO_MEMORY;
	pthread_setname_np(engine->housekeeper, "keta-housekeep");
	engine->housekeeper_started = true;
	return STATUS_OK;
}

static void join_thread(struct engine *engine)
{
	pthread_mutex_lock(&engine->tick_lock);
	pthread_cond_signal(&engine->tick);
	pthread_mutex_unlock(&engine->tick_lock);
	pthread_join(engine->housekeeper, NULL);
	engine->housekeeper_started = false;
}

void housekeeper_stop(struct engine *engine)
{
	if (engine->housekeeper_started)
		join_thread(engine);
	if (engine->housekeeping != NULL)
		engine_reader_free(engine->housekeeping->reader);
	free(engine->housekeeping);
	engine->housekeeping = NULL;
}
