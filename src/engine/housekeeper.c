/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The thread for what time brings: waiting calls whose deadline has passed,
 * pages of the write-ahead log that can move to the database file, leases that
 * are due, and automatic compaction.
 */
#include <time.h>

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
};

static void propose_compaction(struct engine *engine, int64_t revision)
{
	Pb__CompactionRequest request = PB__COMPACTION_REQUEST__INIT;

	request.revision = revision;
	if (propose_internal(engine, &request.base) == STATUS_OK)
		logger_info("housekeeper", "compacting", LOG_I64("revision", revision), LOG_END);
}

static void pause_tick(struct engine *engine)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += (long)TICK_MS * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	pthread_mutex_lock(&engine->tick_lock);
	if (!atomic_load(&engine->stopping))
		pthread_cond_timedwait(&engine->tick, &engine->tick_lock, &until);
	pthread_mutex_unlock(&engine->tick_lock);
}

/* Whether no time is to pass for leases, since nobody could renew them. A stall
 * is held against them for a while longer: the records that end leases must not
 * get in front of the renewals that waited. */
static bool is_time_held(const struct engine *engine, struct stall *stall, int64_t now_ms)
{
	int64_t since_ms = atomic_load(&engine->applying_since_ms);

	if ((since_ms != 0 && now_ms - since_ms >= STALL_MS) || now_ms - stall->ticked_ms >= STALL_MS)
		stall->hold_until_ms = now_ms + STALL_GRACE_MS;
	stall->ticked_ms = now_ms;
	return now_ms < stall->hold_until_ms || atomic_load(&engine->fault) != NULL;
}

static void *run(void *arg)
{
	struct engine *engine = arg;
	const struct config *config = engine->config;
	struct reader *reader = NULL;
	struct autocompact plan;
	struct stall stall = {.ticked_ms = clock_ms()};
	int64_t record_leases_ms = clock_ms() + LEASE_RECORD_MS;

	autocompact_init(&plan, config->compaction_mode, config->compaction_retention, clock_ms(),
	                 atomic_load(&engine->revision));
	if (engine_reader_new(engine, &reader) != STATUS_OK)
		logger_error("housekeeper", "no database connection for checkpoints", LOG_END);
	while (!atomic_load(&engine->stopping)) {
		int64_t now_ms = clock_ms();
		int64_t revision = autocompact_tick(&plan, now_ms, atomic_load(&engine->revision));

		propose_expire(engine, now_ms);
		read_expire(engine, now_ms);
		lessor_tick(engine->lessor, now_ms, is_time_held(engine, &stall, now_ms));
		expiry_run(engine);
		if (now_ms >= record_leases_ms) {
			expiry_record(engine, false);
			record_leases_ms = now_ms + LEASE_RECORD_MS;
		}
		if (revision > 0)
			propose_compaction(engine, revision);
		if (reader != NULL && atomic_load(&engine->store->wal_pages) > WAL_CHECKPOINT_PAGES)
			store_checkpoint(&reader->view);
		pause_tick(engine);
	}
	engine_reader_free(reader);
	return NULL;
}

enum status_code housekeeper_start(struct engine *engine)
{
	if (pthread_create(&engine->housekeeper, NULL, run, engine) != 0)
		return STATUS_NO_MEMORY;
	pthread_setname_np(engine->housekeeper, "keta-housekeep");
	engine->housekeeper_started = true;
	return STATUS_OK;
}

void housekeeper_stop(struct engine *engine)
{
	if (!engine->housekeeper_started)
		return;
	pthread_mutex_lock(&engine->tick_lock);
	pthread_cond_signal(&engine->tick);
	pthread_mutex_unlock(&engine->tick_lock);
	pthread_join(engine->housekeeper, NULL);
	engine->housekeeper_started = false;
}
