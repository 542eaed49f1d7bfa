/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A node under Kafka, from its configuration to a store that is a sound state of
 * the log: connects, looks, builds the database anew where that is called for.
 * For main.c.
 *
 *     replica_open ─ replica_load ─┬─ replica_join ─ ... engine_stop ─ replica_unload ─┬─ replica_close
 *                        ▲         └──────────────────────────────────────────────────┘
 */
#ifndef KETA_REPLICA_H
#define KETA_REPLICA_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/status.h"

struct config;
struct engine;
struct replica;
struct store;

/* Whether librdkafka takes the properties that are for it; what is wrong goes
 * into 'message', a line each. Connects to nothing. STATUS_BAD_CONFIG. */
enum status_code replica_check_properties(const struct config *config, struct buf *message);

/* Asks Kafka and tells, for a person; see kafka_report. */
enum status_code replica_report(const struct config *config, struct buf *out);

/* Connects and sees to the topics. Blocks, up to kafkacache.init.timeout.ms, unless *canceled becomes
 * true. 'config' is borrowed. STATUS_BAD_CONFIG, STATUS_NO_KAFKA, STATUS_BAD_KAFKA: it was logged. */
enum status_code replica_open(const struct config *config, const volatile bool *canceled,
                              struct replica **out);

/* Opens log and store; builds the database anew where it has to be ('discard': in
 * any case). Blocks as long as that takes. STATUS_BAD_LOG, STATUS_BAD_DATABASE, ...: it was logged. */
enum status_code replica_load(struct replica *replica, bool discard);

/* Starts the engine; it is ready later (engine_info). give_up: see struct engine_cluster. */
enum status_code replica_join(struct replica *replica, void (*give_up)(void *arg), void *arg,
                              struct engine **out);

/* When the engine is stopped: closes store and log. Does nothing when they are not open. */
void replica_unload(struct replica *replica);

/* NULL is fine. */
void replica_close(struct replica *replica);

#endif
