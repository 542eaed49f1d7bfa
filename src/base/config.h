/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the server is told before it starts: a file of properties, then
 * variables of the environment, then the command line, each over the one
 * before.
 *
 *     file         listeners=http://127.0.0.1:2379
 *     environment  KETA_LISTENERS=http://127.0.0.1:2379
 *     command      --set listeners=http://127.0.0.1:2379
 *                  --listen-client-urls http://127.0.0.1:2379   (etcd's name)
 *
 * Nothing is guessed and nothing is dropped: an unknown key, a bad value, a
 * key that this version cannot honour each refuse the start, and the message
 * says where it stands. Keys are rows of config_table.c, flags of
 * config_flags.c; the help, the sample file and the tables of
 * doc/configuration.md are printed from these.
 */
#ifndef KETA_CONFIG_H
#define KETA_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/logger.h"
#include "base/status.h"

enum config_compaction { COMPACTION_OFF, COMPACTION_PERIODIC, COMPACTION_REVISION };

/* How a linearizable read learns how far it has to wait (read.barrier). */
enum config_barrier { CONFIG_BARRIER_RECORD, CONFIG_BARRIER_WATERMARK };

/* What the command line asks for. */
enum config_action {
	CONFIG_RUN,
	CONFIG_HELP,
	CONFIG_VERSION,
	CONFIG_CHECK, /* only say whether the configuration is valid */
	CONFIG_PRINT_SAMPLE,
	CONFIG_PRINT_DOC,
};

/* A property of Kafka's client library, as yet unchecked: a key that begins with
 * kafkacache. and is none of ours. */
struct config_property {
	const char *name;   /* without kafkacache. */
	const char *value;  /* may be a password: see config_property_is_secret */
	const char *origin; /* where it was set; begins a message */
};

/* Texts are never NULL once loaded, and live as long as the struct. */
struct config {
	enum config_action action;        /* HELP, VERSION and PRINT_*: nothing else was read */
	const char *name;                 /* member name */
	const char *data_dir;             /* once loaded, kafka_data_dir where that is set */
	const char *listeners;            /* comma-separated URLs, checked */
	const char *advertised_listeners; /* what MemberList shows; empty: listeners */
	const char *cors_origins;         /* "*" or comma-separated origins */
	const char *host_whitelist;       /* "*" or comma-separated names */
	const char *host_name;            /* in advertised URLs; empty: as in listeners */
	const char *cluster_group_id;     /* the cluster's name, and its election's */
	bool leader_eligibility;
	int64_t max_request_bytes;
	int64_t max_txn_ops;
	int64_t quota_backend_bytes; /* 0: 2 GiB, negative: none; once loaded never 0 */
	enum config_compaction compaction_mode;
	int64_t compaction_retention; /* milliseconds, or revisions */
	int64_t auth_token_ttl_sec;
	int64_t bcrypt_cost;
	int64_t slow_request_ms; /* a request that takes longer is logged */
	int64_t progress_notify_ms;
	int64_t http_threads;     /* event loops; 0: one per core */
	int64_t connection_limit; /* client connections open at once */
	enum logger_level log_level;
	enum logger_format log_format;
	bool debug;

	/* A node of a replicated store; the rest has no meaning while kafka_servers is empty. */
	const char *kafka_servers; /* empty: the store is this node's alone */
	const char
		*kafka_group_id; /* the node's name in the cluster; empty: made from host name and port */
	const char *kafka_data_dir; /* empty: data.dir */
	int64_t kafka_replication_factor;
	int64_t kafka_init_timeout_ms;
	int64_t kafka_timeout_ms;
	const struct config_property *kafka_properties; /* each name once */
	size_t kafka_property_count;
	const char *topic_prefix;
	enum config_barrier read_barrier;
	int64_t checkpoint_interval_ms;
	int64_t checkpoint_log_bytes;
	int64_t log_skip_offset; /* a record to pass over; -1: none */
};

/* Reads everything. 'environment' ends with NULL. On STATUS_OK the caller owns *out
 * and gives it to config_free; 'message' then holds what the operator should
 * know (flags without effect), one line each, or nothing. Otherwise *out is
 * NULL and 'message' holds what is wrong, all of it, one line each:
 * STATUS_BAD_REQUEST for a command line that cannot be read, STATUS_BAD_CONFIG
 * for values, keys and files, STATUS_NO_MEMORY. No message quotes a password. */
enum status_code config_load(int argc, char **argv, char **environment, struct config **out,
                             struct buf *message);

/* Whether the value of a property of this name must not be shown, be it in a
 * message of the library's that quotes it. */
bool config_property_is_secret(const char *name);

/* NULL is fine. */
void config_free(struct config *config);

void config_print_help(struct buf *out);

/* etc/keta.properties. */
void config_print_sample(struct buf *out);

/* The tables of doc/configuration.md. */
void config_print_doc(struct buf *out);

#endif
