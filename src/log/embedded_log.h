/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The embedded log: a bounded queue in this process. A record in it is durable
 * once the database transaction that applies it has committed, and not before:
 * whoever waits for it waits for that. Records that a crash catches in the
 * queue were acknowledged to nobody.
 */
#ifndef KETA_EMBEDDED_LOG_H
#define KETA_EMBEDDED_LOG_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "log/log.h"

extern const struct log_ops log_embedded;

/* A log whose first record gets the offset after 'applied'. Appends beyond
 * max_queued_bytes of waiting records are refused with
 * STATUS_TOO_MANY_REQUESTS. */
enum status_code embedded_log_open(int64_t applied, size_t max_queued_bytes, struct log **out);

#endif
