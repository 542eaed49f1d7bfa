/* SPDX-License-Identifier: Apache-2.0 */
/* A log whose records can be kept from the applier for a while. */
#ifndef KETA_HELD_LOG_H
#define KETA_HELD_LOG_H

#include <stdatomic.h>
#include <stdbool.h>

#include "log/log.h"

/* A log that wraps the embedded one. While it is held, polls do not return. */
struct held_log {
	struct log base;
	struct log *inner;
	_Atomic bool held;
	int64_t applied;           /* as it was opened */
	_Atomic uint64_t last_tag; /* of the last append; a shared one confirms it when it is polled */
	uint64_t confirmed_tag;
};

/* A new one over an embedded log; the offset is that of the last record applied. */
struct held_log *held_log_open(int64_t applied);

/* The same, which passes for a shared log. */
struct held_log *held_log_open_shared(int64_t applied);

#endif
