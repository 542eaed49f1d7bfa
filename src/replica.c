/* SPDX-License-Identifier: Apache-2.0 */
#include "replica.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/config.h"
#include "base/logger.h"
#include "base/progress.h"
#include "engine/attempt.h"
#include "engine/boot.h"
#include "engine/engine.h"
#include "log/kafka.h"
#include "state/data_dir.h"
#include "state/store.h"

enum {
	PAUSE_MS = 250,
	/* An append has failed a little before the client is told that its request timed out. */
	APPEND_TIMEOUT_MS = 6500,
	/* A request in its record: the envelope, and who proposed it. */
	RECORD_OVERHEAD_BYTES = 64 << 10,
	NAME_BYTES = 300,
};

struct replica {
	const struct config *config;
	const volatile bool *canceled;
	struct kafka_property *properties;
	char name[NAME_BYTES];
	struct kafka *kafka;
	struct tables *tables;
	struct election *election; /* taken part in while there is an engine */
	struct log *log;
	struct store *store;
	struct boot boot;
	int64_t poison_offset;
};

static void pause_ms(long ms)
{
	nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}

enum status_code replica_check_properties(const struct config *config, struct buf *message)
{
	enum status_code worst = STATUS_OK;

	for (size_t i = 0; i < config->kafka_property_count; i++) {
		const struct config_property *property = &config->kafka_properties[i];
		struct buf why;
		enum status_code status;

		buf_init(&why);
		status = kafka_check_property(property->name, property->value, &why);
		if (status != STATUS_OK) {
			worst = status;
			buf_printf(message, "%s: %.*s\n", property->origin, (int)why.len,
			           (const char *)why.data);
		}
		buf_release(&why);
	}
	return worst;
}

/* The port of the first listener, or 0. */
static unsigned first_port(const char *listeners)
{
	const char *end = strchrnul(listeners, ',');
	const char *colon = memrchr(listeners, ':', (size_t)(end - listeners));

	return colon != NULL ? (unsigned)strtoul(colon + 1, NULL, 10) : 0;
}

/* Unique in the cluster, and the same at the next start. */
static void choose_name(struct replica *replica)
{
	const struct config *config = replica->config;
	char host[256] = "localhost";

	if (config->kafka_group_id[0] != '\0') {
		snprintf(replica->name, sizeof replica->name, "%s", config->kafka_group_id);
		return;
	}
	gethostname(host, sizeof host - 1);
	snprintf(replica->name, sizeof replica->name, "%s-%u",
	         config->host_name[0] != '\0' ? config->host_name : host, first_port(config->listeners));
	logger_info("replica", "kafkacache.group.id is not set; this node has a name of its host and port",
	            LOG_STR("name", replica->name), LOG_END);
}

static enum status_code copy_properties(struct replica *replica)
{
	const struct config *config = replica->config;

	replica->properties = calloc(config->kafka_property_count + 1, sizeof *replica->properties);
	if (replica->properties == NULL)
		return STATUS_NO_MEMORY;
	for (size_t i = 0; i < config->kafka_property_count; i++)
		replica->properties[i] = (struct kafka_property){
			.name = config->kafka_properties[i].name,
			.value = config->kafka_properties[i].value,
			.origin = config->kafka_properties[i].origin,
		};
	return STATUS_OK;
}

static enum status_code open_kafka(struct replica *replica)
{
	const struct config *config = replica->config;
	struct kafka_options options = {
		.servers = config->kafka_servers,
		.prefix = config->topic_prefix,
		.group_id = config->cluster_group_id,
		.node_name = replica->name,
		.replication_factor = (int)config->kafka_replication_factor,
		.init_timeout_ms = config->kafka_init_timeout_ms,
		.timeout_ms = config->kafka_timeout_ms,
		.append_timeout_ms = APPEND_TIMEOUT_MS,
		.max_record_bytes = config->max_request_bytes + RECORD_OVERHEAD_BYTES,
		.properties = replica->properties,
		.property_count = config->kafka_property_count,
	};

	return kafka_open(&options, &replica->kafka);
}

static enum status_code make_replica(const struct config *config, struct replica **out)
{
	struct replica *replica = calloc(1, sizeof *replica);
	enum status_code status;

	if (replica == NULL)
		return STATUS_NO_MEMORY;
	replica->config = config;
	choose_name(replica);
	status = copy_properties(replica);
	if (status == STATUS_OK)
		status = open_kafka(replica);
	if (status != STATUS_OK) {
		replica_close(replica);
		return status;
	}
	*out = replica;
	return STATUS_OK;
}

enum status_code replica_report(const struct config *config, struct buf *out)
{
	struct replica *replica;
	enum status_code status = make_replica(config, &replica);

	if (status != STATUS_OK)
		return status;
	status = kafka_report(replica->kafka, out);
	replica_close(replica);
	return status;
}

enum status_code replica_open(const struct config *config, const volatile bool *canceled,
                              struct replica **out)
{
	struct replica *replica;
	enum status_code status = make_replica(config, &replica);

	if (status != STATUS_OK)
		return status;
	replica->canceled = canceled;
	progress_begin("connecting to Kafka", "steps");
	status = kafka_prepare(replica->kafka, canceled);
	progress_end();
	if (status == STATUS_OK)
		status = kafka_tables_open(replica->kafka, &replica->tables);
	if (status != STATUS_OK) {
		replica_close(replica);
		return status;
	}
	*out = replica;
	return STATUS_OK;
}

/* Opens what says how far the node is, and asks the log whether it is sound. */
static enum status_code look(struct replica *replica, bool discard)
{
	struct store_options options = {
		.dir = replica->config->data_dir,
		.log_kind = LOG_KAFKA,
		.kafka_id = kafka_cluster_id(replica->kafka),
	};
	enum status_code status = store_open(&options, &replica->store);

	if (status == STATUS_OK)
		status =
			kafka_log_open(replica->kafka, replica->store->saved.applied_offset, &replica->log);
	replica->boot = (struct boot){0};
	while (status == STATUS_OK) {
		status = boot_look(&replica->boot, replica->store, replica->log, replica->tables, discard,
		                   clock_ms());
		if (status != STATUS_BUSY && status != STATUS_NO_KAFKA)
			return status;
		if (*replica->canceled)
			return STATUS_STOPPED;
		pause_ms(PAUSE_MS);
		status = STATUS_OK;
	}
	return status;
}

/* The log stays open: of it only the bounds are asked. */
static enum status_code rebuild(struct replica *replica)
{
	struct rebuild *rebuild;
	enum status_code status;

	store_close(replica->store);
	replica->store = NULL;
	status = rebuild_new(replica->config->data_dir, NULL, kafka_cluster_id(replica->kafka),
	                     replica->log, replica->tables, &rebuild);
	if (status != STATUS_OK)
		return status;
	do {
		status = rebuild_turn(rebuild, clock_ms());
		if (*replica->canceled)
			status = STATUS_STOPPED;
		else if (status == STATUS_NO_KAFKA)
			pause_ms(PAUSE_MS);
	} while (status == STATUS_BUSY || status == STATUS_NO_KAFKA);
	rebuild_free(rebuild);
	return status;
}

enum status_code replica_load(struct replica *replica, bool discard)
{
	const char *dir = replica->config->data_dir;
	enum status_code status = STATUS_OK;

	if (discard)
		status = data_dir_note_discard(dir);
	if (status == STATUS_OK)
		status = look(replica, discard || data_dir_is_discarded(dir));
	while (status == STATUS_OK && replica->boot.rebuild) {
		status = rebuild(replica);
		replica_unload(replica);
		if (status == STATUS_OK)
			status = data_dir_forget_discard(dir);
		if (status == STATUS_OK)
			status = look(replica, false);
	}
	if (status == STATUS_OK)
		status = attempt_open(dir, &replica->poison_offset);
	return status;
}

static enum status_code check_kafka(void *arg, struct buf *why)
{
	return kafka_check(arg, why);
}

static bool holds_never(struct election *election)
{
	(void)election;
	return false;
}

static void stand_never(struct election *election, bool stands)
{
	(void)election;
	(void)stands;
}

static void do_nothing(struct election *election)
{
	(void)election;
}

/* For a node that must not lead. */
static const struct election_ops NO_ELECTION = {holds_never, stand_never, do_nothing, do_nothing};
static struct election no_election = {&NO_ELECTION};

enum status_code replica_join(struct replica *replica, void (*give_up)(void *arg), void *arg,
                              struct engine **out)
{
	struct engine_cluster cluster = {
		.tables = replica->tables,
		.election = &no_election,
		.node_name = replica->name,
		.caught_up_at = replica->boot.caught_up_at,
		.found = replica->boot.found,
		.check = check_kafka,
		.check_arg = replica->kafka,
		.poison_offset = replica->poison_offset,
		.give_up = give_up,
		.give_up_arg = arg,
	};
	enum status_code status = STATUS_OK;

	if (replica->config->leader_eligibility)
		status = kafka_election_open(replica->kafka, &replica->election);
	if (status != STATUS_OK)
		return status;
	if (replica->election != NULL)
		cluster.election = replica->election;
	return engine_join(replica->config, replica->log, replica->store, &cluster, out);
}

void replica_unload(struct replica *replica)
{
	/* The store first: librdkafka may take its time, or not end at all. */
	store_close(replica->store);
	replica->store = NULL;
	attempt_close();
	election_close(replica->election);
	replica->election = NULL;
	log_close(replica->log);
	replica->log = NULL;
}

void replica_close(struct replica *replica)
{
	if (replica == NULL)
		return;
	replica_unload(replica);
	tables_close(replica->tables);
	kafka_close(replica->kafka);
	free(replica->properties);
	free(replica);
}
