/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When to compact by itself, and to which revision, as etcd does it.
 *
 * Periodic: what was the newest revision one retention period ago; looked at
 * once per period, but at least hourly. By revision: the newest but so many;
 * looked at every five minutes. Time is passed in.
 */
#ifndef KETA_AUTOCOMPACT_H
#define KETA_AUTOCOMPACT_H

#include <stdint.h>

#include "base/config.h"

enum { AUTOCOMPACT_SAMPLES = 1024 };

struct autocompact {
	enum config_compaction mode;
	int64_t retention; /* milliseconds, or revisions */
	int64_t interval_ms; /* between two compactions */
	int64_t sample_ms;   /* between two samples of the revision */
	int64_t next_ms;
	int64_t next_sample_ms;
	int64_t compacted; /* the last revision returned */
	struct {
		int64_t at_ms, revision;
	} samples[AUTOCOMPACT_SAMPLES]; /* a ring */
	uint64_t first, end;
};

void autocompact_init(struct autocompact *plan, enum config_compaction mode, int64_t retention,
                      int64_t now_ms, int64_t revision);

/* The revision to compact to now, or 0. To be called some times a second. */
int64_t autocompact_tick(struct autocompact *plan, int64_t now_ms, int64_t revision);

#endif
