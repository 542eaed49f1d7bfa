/* SPDX-License-Identifier: Apache-2.0 */
/* placeholder: filled by the configuration work */
#ifndef KETA_CONFIG_H
#define KETA_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum config_compaction { COMPACTION_OFF, COMPACTION_PERIODIC, COMPACTION_REVISION };

struct config {
	const char *name;                   /* member name */
	const char *data_dir;
	const char *listeners;              /* comma-separated URLs, checked */
	const char *advertised_listeners;   /* what MemberList shows; empty: listeners */
	const char *cors_origins;           /* "*" or comma-separated origins */
	const char *host_whitelist;         /* "*" or comma-separated names */
	int64_t max_request_bytes;
	int64_t max_txn_ops;
	int64_t quota_backend_bytes;        /* 0: 2 GiB, negative: none */
	enum config_compaction compaction_mode;
	int64_t compaction_retention;       /* milliseconds, or revisions */
	int64_t slow_request_ms;            /* a request that takes longer is logged */
	int64_t progress_notify_ms;
	int64_t http_threads;               /* event loops; 0: one per core */
	bool debug;
};

#endif
