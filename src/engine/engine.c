/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/engine.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/clock.h"
#include "base/logger.h"
#include "base/metrics.h"
#include "engine/internal.h"
#include "engine/lessor.h"
#include "log/record.h"
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
	status = propose_internal(engine, &genesis.base, NULL);
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
	pthread_mutex_init(&engine->place_lock, NULL);
	pthread_mutex_init(&engine->early_lock, NULL);
	pthread_cond_init(&engine->read_ready, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&engine->tick, &monotonic);
	pthread_cond_init(&engine->early_over, &monotonic);
	pthread_condattr_destroy(&monotonic);
	claims_init(&engine->claims);
	buf_init(&engine->record);
	call_queue_init(&engine->reads);
	call_queue_init(&engine->barred);
	propose_init(engine);
	engine->poison_offset = engine->cluster.poison_offset;
	engine->incarnation = engine->cluster.incarnation;
	return engine->incarnation != 0 ? STATUS_OK : engine_draw_id(&engine->incarnation);
}

static enum status_code start_cluster(struct engine *engine)
{
	enum status_code status = votes_new(&engine->votes);

	if (status == STATUS_OK)
		status = entry_new(engine, &engine->entry);
	if (status == STATUS_OK && engine->config->read_barrier == CONFIG_BARRIER_WATERMARK)
		status = watermark_start(engine);
	if (status == STATUS_OK)
		status = applier_start(engine);
	if (status == STATUS_OK)
		status = guard_start(engine);
	if (status == STATUS_OK)
		status = leader_start(engine);
	return status;
}

static enum status_code start_alone(struct engine *engine)
{
	enum status_code status = applier_start(engine);

	return status == STATUS_OK ? found_cluster(engine) : status;
}

enum status_code engine_join(const struct config *config, struct log *log, struct store *store,
                             const struct engine_cluster *cluster, struct engine **out)
{
	struct engine *engine = calloc(1, sizeof *engine);
	enum status_code status;

	if (engine == NULL)
		return STATUS_NO_MEMORY;
	engine->config = config;
	engine->log = log;
	engine->store = store;
	engine->shared = log_is_shared(log);
	if (cluster != NULL)
		engine->cluster = *cluster;
	if (engine->cluster.max_level == 0)
		engine->cluster.max_level = RECORD_LEVEL;
	method_init();
	status = init_engine(engine);
	if (status == STATUS_OK)
		status = hub_open(store, &engine->hub);
	if (status == STATUS_OK)
		status = lessor_new(&store->view, clock_ms(), &engine->lessor);
	if (status == STATUS_OK)
		status = engine->shared ? start_cluster(engine) : start_alone(engine);
	if (status == STATUS_OK && !engine->cluster.manual)
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

enum status_code engine_start(const struct config *config, struct log *log, struct store *store,
                              struct engine **out)
{
	return engine_join(config, log, store, NULL, out);
}

void engine_drain(struct engine *engine)
{
	if (!atomic_exchange(&engine->draining, true) && engine->leader != NULL)
		leader_resign(engine->leader);
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
	leader_stop(engine);
	await_calls(engine);
	/* The next start gives leases what was left of them, and not their time anew. */
	if (engine->housekeeper_started)
		expiry_record(engine, true);
	await_calls(engine);
	atomic_store(&engine->stopping, true);
	guard_stop(engine);
	housekeeper_stop(engine);
	read_stop_threads(engine);
	applier_stop(engine);
	watermark_stop(engine);
	/* The log may still have records on their way for which nobody waits. */
	log_listen(engine->log, NULL, NULL);
	leader_free(engine);
	entry_free(engine->entry);
	votes_free(engine->votes);
	lessor_free(engine->lessor);
	hub_close(engine->hub);
	claims_release(&engine->claims);
	buf_release(&engine->record);
	free(engine->pending.slots);
	pthread_cond_destroy(&engine->tick);
	pthread_cond_destroy(&engine->early_over);
	pthread_cond_destroy(&engine->read_ready);
	pthread_mutex_destroy(&engine->early_lock);
	pthread_mutex_destroy(&engine->place_lock);
	pthread_mutex_destroy(&engine->tick_lock);
	pthread_mutex_destroy(&engine->read_lock);
	pthread_mutex_destroy(&engine->propose_lock);
	free(engine);
}

static void fill_shared_info(struct engine *engine, struct engine_info *out)
{
	int64_t checkpoint_offset, checkpoint_age_ms;
	uint64_t hash;

	out->shared = true;
	out->ready = atomic_load(&engine->joined) && atomic_load(&engine->verdict) == STATUS_OK;
	out->leads = atomic_load(&engine->leading);
	out->has_leader = atomic_load(&engine->owner) != 0;
	out->log_fault = engine_log_fault(engine);
	pthread_mutex_lock(&engine->place_lock);
	out->applied_offset = atomic_load(&engine->applied_offset);
	hash = atomic_load(&engine->state_hash);
	pthread_mutex_unlock(&engine->place_lock);
	out->state_hash = hash;
	out->newest_offset = metric_value(METRIC_LOG_END);
	if (out->newest_offset < out->applied_offset)
		out->newest_offset = out->applied_offset;
	leader_checkpoint_info(engine->leader, &checkpoint_offset, &checkpoint_age_ms);
	metric_set(METRIC_CHECKPOINT_OFFSET, checkpoint_offset);
	metric_set(METRIC_CHECKPOINT_AGE, checkpoint_age_ms * 1000);
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
	if (engine->shared)
		fill_shared_info(engine, out);
}

const char *engine_log_fault(const struct engine *engine)
{
	const char *fault = atomic_load_explicit(&engine->log_fault, memory_order_relaxed);

	return fault == NULL && engine->shared ? atomic_load_explicit(&engine->fault, memory_order_relaxed)
	                                       : fault;
}

void engine_give_up(struct engine *engine, enum status_code verdict)
{
	enum status_code none = STATUS_OK;

	if (!atomic_compare_exchange_strong(&engine->verdict, &none, verdict))
		return;
	atomic_store(&engine->draining, true);
	if (engine->cluster.give_up != NULL)
		engine->cluster.give_up(engine->cluster.give_up_arg);
}

void engine_note_replaced(struct engine *engine)
{
	logger_error("engine", "another node has joined under the name of this one, which stops",
	             LOG_STR("name", engine->cluster.node_name),
	             LOG_STR("advice", "give every node a kafkacache.group.id of its own"), LOG_END);
	engine_give_up(engine, STATUS_REPLACED);
}

enum status_code engine_verdict(const struct engine *engine)
{
	return atomic_load(&engine->verdict);
}

void engine_request_checkpoint(struct engine *engine)
{
	atomic_store(&engine->checkpoint_requested, true);
	atomic_store(&engine->check_requested, true);
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
