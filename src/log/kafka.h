/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kafka as this node uses it: the settings of its clients, and the topics. The
 * log, the tables and the election are made of it (log/kafka_log.h,
 * kafka_tables.h, kafka_election.h).
 *
 * Offsets of Kafka begin at 0, those of log/log.h at 1.
 */
#ifndef KETA_KAFKA_H
#define KETA_KAFKA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"
#include "log/election.h"
#include "log/log.h"
#include "log/tables.h"

struct kafka;

/* A property of librdkafka's, without our prefix. */
struct kafka_property {
	const char *name;
	const char *value;
	const char *origin; /* where it was set, for messages */
};

/* Borrowed for as long as the struct kafka made of it. */
struct kafka_options {
	const char *servers;       /* bootstrap.servers */
	const char *prefix;        /* of topics, consumer group and transactional id */
	const char *group_id;      /* of the election: cluster.group.id */
	const char *node_name;     /* client.id */
	int replication_factor;    /* topics must have at least this */
	int64_t init_timeout_ms;   /* for kafka_prepare */
	int64_t timeout_ms;        /* for every other request */
	int64_t append_timeout_ms; /* until an append has failed */
	int64_t max_record_bytes;  /* that the log must take */
	const struct kafka_property *properties;
	size_t property_count;
};

/* Whether librdkafka has this property and takes the value for a client of this
 * server's, and if not, why: STATUS_BAD_CONFIG. Properties that the guarantees
 * rest on are reserved and are refused as well. Connects to nothing. */
enum status_code kafka_check_property(const char *name, const char *value, struct buf *why);

/* Makes the settings. Connects to nothing yet. STATUS_BAD_CONFIG, logged. */
enum status_code kafka_open(const struct kafka_options *options, struct kafka **out);

/* After everything that was made of it. NULL is fine. */
void kafka_close(struct kafka *kafka);

/* Connects, makes the topics that are missing, and checks all of them. What is
 * wrong was logged, with the command that mends it. Blocks, up to init_timeout_ms.
 * 'canceled' is kept: when it becomes true
 * this ends early, and so does later what waits for the tables. STATUS_NO_KAFKA, STATUS_BAD_KAFKA. */
enum status_code kafka_prepare(struct kafka *kafka, const volatile bool *canceled);

/* Checks the topics as kafka_prepare does, making none. On STATUS_BAD_KAFKA 'why' says what
 * is wrong and which command mends it, a line each. Blocks for seconds; any one thread. */
enum status_code kafka_check(struct kafka *kafka, struct buf *why);

/* Kafka's own id of its cluster, known after kafka_prepare; "" if it has none. */
const char *kafka_cluster_id(const struct kafka *kafka);

/* For a person: connects and says, line by line into 'out', what works and what does not
 * (servers, login, topics as they are or would be made, rights), and ends with the
 * kafka-acls commands for the least rights that are enough. STATUS_OK when a node could start. */
enum status_code kafka_report(struct kafka *kafka, struct buf *out);

/* The log, from the record after this offset on. */
enum status_code kafka_log_open(struct kafka *kafka, int64_t after, struct log **out);

/* The tables. The cluster's id is part of the writer's transactional id. */
enum status_code kafka_tables_open(struct kafka *kafka, struct tables **out);

/* The election, which this node takes part in from now on. */
enum status_code kafka_election_open(struct kafka *kafka, struct election **out);

#endif
