/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the Kafka client share: struct kafka, the kinds of
 * librdkafka handles with their settings, and the topics. Only files under
 * src/log named kafka* include this or librdkafka's header.
 */
#ifndef KETA_KAFKA_INTERNAL_H
#define KETA_KAFKA_INTERNAL_H

#include <librdkafka/rdkafka.h>
#include <pthread.h>

#include "log/kafka.h"

/* TOPIC_KV and the five after it stand in the order of enum table. */
enum kafka_topic {
	TOPIC_COMMITS,
	TOPIC_KV,
	TOPIC_LEASES,
	TOPIC_AUTH,
	TOPIC_AUTH_USERS,
	TOPIC_AUTH_ROLES,
	TOPIC_TIMESTAMPS,
	TOPIC_ELECTION,
	TOPIC_COUNT
};

/* What a handle of librdkafka's is for; its settings follow from that. */
enum kafka_role {
	KAFKA_ADMIN,    /* topics, watermarks, single records */
	KAFKA_APPENDER, /* producer of the log */
	KAFKA_FOLLOWER, /* consumer of the log */
	KAFKA_WRITER,   /* transactional producer of the tables */
	KAFKA_READER,   /* consumer of the tables */
	KAFKA_VOTER,    /* group consumer of the election */
	KAFKA_ROLE_COUNT
};

enum {
	/* What Kafka's framing may add to the largest record, and a row's to a request's bytes. */
	KAFKA_OVERHEAD_BYTES = 64 << 10,
	KAFKA_HOLD_MAX_MS =
		400, /* the part of an append's time-out that it may wait before librdkafka has it */
	KAFKA_FAILURE_BYTES = 512,
};

struct kafka {
	struct kafka_options options;
	char *topics[TOPIC_COUNT];
	char *group; /* of the election */
	int64_t max_message_bytes;

	const volatile bool *canceled; /* the process is to end; NULL until kafka_prepare */

	pthread_mutex_t lock; /* guards the rest */
	rd_kafka_t *admin;    /* made when first asked for; then it stays */
	rd_kafka_topic_t *admin_topics[TOPIC_COUNT];
	char *cluster_id;
	char failure[KAFKA_FAILURE_BYTES]; /* the last that a connection said */
	bool refused;                      /* it was the broker's refusal of the login */
	int64_t warned_ms;
	int64_t left_out;   /* warnings since */
	int64_t advised_ms; /* when it was said that a right is missing */
};

/* The opaque of a handle. */
struct kafka_client {
	struct kafka *kafka;
	void *owner;
	void (*stats)(void *owner, const char *json); /* or NULL */
};

/* The settings for a role with the properties of the user; the caller owns them. NULL, with why
 * in errstr (of 512 bytes). */
rd_kafka_conf_t *kafka_conf_new(const struct kafka *kafka, enum kafka_role role, char *errstr);

/* A handle; takes the settings over in any case. NULL: logged. */
rd_kafka_t *kafka_handle_new(struct kafka_client *client, enum kafka_role role, rd_kafka_conf_t *conf);

/* The handle for requests that have no other, with its topics; NULL: logged. Any thread. */
rd_kafka_t *kafka_admin(struct kafka *kafka);

/* Serves the callbacks of the admin handle, if there is one. Any thread. */
void kafka_serve_admin(struct kafka *kafka);

/* Copies what a connection said last, "" for nothing. True: the login was refused. */
bool kafka_last_failure(struct kafka *kafka, char *text, size_t size);

/* Called with any error of a request: says how to find out which right is missing, if one is. Any thread.
 */
void kafka_note_refusal(struct kafka *kafka, rd_kafka_resp_err_t err);

/* The first and the next offset of a topic, in Kafka's numbers. STATUS_NO_KAFKA. */
enum status_code kafka_watermarks(struct kafka *kafka, enum kafka_topic topic, int64_t *low, int64_t *high,
                                  int64_t timeout_ms);

/* A property that the user gave, or NULL. */
const char *kafka_property(const struct kafka *kafka, const char *name);

/* What a missing topic means. */
enum kafka_missing {
	MISSING_IS_MADE,
	MISSING_IS_WRONG,
	MISSING_COUNTS, /* it is only counted */
};

/* Checks all topics. What is wrong goes into 'why', which is empty before, a line each; so does the
 * reason of STATUS_NO_KAFKA. 'canceled' and 'missing_count' may be NULL. */
enum status_code kafka_check_topics(struct kafka *kafka, enum kafka_missing missing, int64_t deadline_ms,
                                    const volatile bool *canceled, struct buf *why, int *missing_count);

/* Asks whether the topics that are missing could be made, making none. */
enum status_code kafka_try_make(struct kafka *kafka, int64_t deadline_ms, struct buf *why);

#endif
