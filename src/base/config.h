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

/* What the command line asks for. */
enum config_action {
	CONFIG_RUN,
	CONFIG_HELP,
	CONFIG_VERSION,
	CONFIG_CHECK, /* only say whether the configuration is valid */
	CONFIG_PRINT_SAMPLE,
	CONFIG_PRINT_DOC,
};

/* Texts are never NULL once loaded, and live as long as the struct. */
struct config {
	enum config_action action; /* HELP, VERSION and PRINT_*: nothing else was read */
	const char *name;          /* member name */
	const char *data_dir;
	const char *listeners;            /* comma-separated URLs, checked */
	const char *advertised_listeners; /* what MemberList shows; empty: listeners */
	const char *cors_origins;         /* "*" or comma-separated origins */
	const char *host_whitelist;       /* "*" or comma-separated names */
	const char *host_name;            /* kept for the Kafka log, as are the next two */
	const char *cluster_group_id;
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
};

/* Reads everything. 'environment' ends with NULL. On STATUS_OK the caller owns *out
 * and gives it to config_free; 'message' then holds what the operator should
 * know (flags without effect), one line each, or nothing. Otherwise *out is
 * NULL and 'message' holds what is wrong, all of it, one line each:
 * STATUS_BAD_REQUEST for a command line that cannot be read, STATUS_BAD_CONFIG
 * for values, keys and files, STATUS_NO_MEMORY. No message quotes a password. */
enum status_code config_load(int argc, char **argv, char **environment, struct config **out,
                             struct buf *message);

/* NULL is fine. */
void config_free(struct config *config);

void config_print_help(struct buf *out);

/* etc/keta.properties. */
void config_print_sample(struct buf *out);

/* The tables of doc/configuration.md. */
void config_print_doc(struct buf *out);

#endif
