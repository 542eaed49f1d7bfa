/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/engine.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/clock.h"
#include "base/logger.h"
#include "engine/internal.h"
#include "engine/lessor.h"
#include "watch/hub.h"

enum { GENESIS_TIMEOUT_MS = 60 * 1000, POLL_MS = 1 };

static void pause_ms(long ms)
{
	nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL);
}

enum status_code engine_draw_id(uint64_t *id)
{
	do {
		if (getrandom(id, sizeof *id, 0) != sizeof *id)
			return STATUS_INTERNAL;
		*id >>= 1;
	} while (*id == 0);
	return STATUS_OK;
}

/* On an empty state the first record founds the cluster. */
static enum status_code found_cluster(struct engine *engine)
{
	Pb__Genesis genesis;
	const char *advertised = engine->config->advertised_listeners;
	char *urls;
	int64_t give_up_ms = clock_ms() + GENESIS_TIMEOUT_MS;
	enum status_code status;

	if (atomic_load(&engine->cluster_id) != 0)
		return STATUS_OK;
	pb__genesis__init(&genesis);
	status = engine_draw_id(&genesis.cluster_id);
	if (status == STATUS_OK)
		status = engine_draw_id(&genesis.member_id);
	if (status != STATUS_OK)
		return status;
	if (advertised == NULL || advertised[0] == '\0')
		advertised = engine->config->listeners;
	urls = (char *)(uintptr_t)advertised;
	genesis.member_name = (char *)(uintptr_t)engine->config->name;
	genesis.client_urls = &urls;
	genesis.n_client_urls = 1;
	status = propose_internal(engine, &genesis.base);
	while (status == STATUS_OK && atomic_load(&engine->cluster_id) == 0) {
		if (atomic_load(&engine->fault) != NULL)
			return STATUS_IO_ERROR;
		if (clock_ms() > give_up_ms)
			return STATUS_TIMEOUT;
		pause_ms(POLL_MS);
	}
	return status;
}

static enum status_code init_engine(struct engine *engine)
{
	pthread_condattr_t monotonic;

	pthread_mutex_init(&engine->propose_lock, NULL);
	pthread_mutex_init(&engine->read_lock, NULL);
	pthread_mutex_init(&engine->tick_lock, NULL);
	pthread_cond_init(&engine->read_ready, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&engine->tick, &monotonic);
	pthread_condattr_destroy(&monotonic);
	claims_init(&engine->claims);
	buf_init(&engine->record);
	call_queue_init(&engine->reads);
	call_queue_init(&engine->barred);
	engine->pending.first = engine->pending.next = 1;
	return engine_draw_id(&engine->incarnation);
}

enum status_code engine_start(const struct config *config, struct log *log, struct store *store,
                              struct engine **out)
{
	struct engine *engine = calloc(1, sizeof *engine);
	enum status_code status;

	if (engine == NULL)
		return STATUS_NO_MEMORY;
	engine->config = config;
	engine->log = log;
	engine->store = store;
	method_init();
	status = init_engine(engine);
	if (status == STATUS_OK)
		status = hub_open(store, &engine->hub);
	if (status == STATUS_OK)
		status = lessor_new(&store->view, clock_ms(), &engine->lessor);
	if (status == STATUS_OK)
		status = applier_start(engine);
	if (status == STATUS_OK)
		status = found_cluster(engine);
	if (status == STATUS_OK)
		status = read_start_threads(engine);
	if (status == STATUS_OK)
		status = housekeeper_start(engine);
	if (status != STATUS_OK) {
		engine_stop(engine);
		return status;
	}
	*out = engine;
	return STATUS_OK;
}

void engine_drain(struct engine *engine)
{
	atomic_store(&engine->draining, true);
}

int64_t engine_pending(const struct engine *engine)
{
	return atomic_load(&engine->in_flight);
}

/* The housekeeper ends what takes too long. */
static void await_calls(const struct engine *engine)
{
	while (engine->housekeeper_started && engine_pending(engine) > 0)
		pause_ms(POLL_MS);
}

void engine_stop(struct engine *engine)
{
	engine_drain(engine);
	await_calls(engine);
	/* The next start gives leases what was left of them, and not their time anew. */
	if (engine->housekeeper_started)
		expiry_record(engine, true);
	await_calls(engine);
	atomic_store(&engine->stopping, true);
	housekeeper_stop(engine);
	read_stop_threads(engine);
	applier_stop(engine);
	lessor_free(engine->lessor);
	hub_close(engine->hub);
	claims_release(&engine->claims);
	buf_release(&engine->record);
	free(engine->pending.slots);
	pthread_cond_destroy(&engine->tick);
	pthread_cond_destroy(&engine->read_ready);
	pthread_mutex_destroy(&engine->tick_lock);
	pthread_mutex_destroy(&engine->read_lock);
	pthread_mutex_destroy(&engine->propose_lock);
	free(engine);
}

void engine_info(struct engine *engine, struct engine_info *out)
{
	*out = (struct engine_info){
		.cluster_id = atomic_load(&engine->cluster_id),
		.member_id = atomic_load(&engine->member_id),
		.revision = atomic_load(&engine->revision),
		.compact_revision = atomic_load(&engine->compact_revision),
		.applied_offset = atomic_load(&engine->applied_offset),
		.term = atomic_load(&engine->term),
		.alarm_nospace = atomic_load(&engine->alarm_nospace),
		.alarm_corrupt = atomic_load(&engine->alarm_corrupt),
		.fault = atomic_load(&engine->fault),
	};
}

void engine_sizes(struct engine *engine, struct reader *reader, struct engine_sizes *out)
{
	*out = (struct engine_sizes){0};
	if (view_refresh(&reader->view) != STATUS_OK)
		return;
	store_sizes(engine->store, &reader->view, &out->file_bytes, &out->used_bytes, &out->wal_bytes);
	out->logical_bytes = reader->view.state.logical_bytes;
	out->keys = reader->view.state.keys;
}
