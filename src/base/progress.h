/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How far the start of a node has come, for whoever waits for it: described for
 * /readyz, logged every few seconds, and in two gauges. One piece of work at a
 * time, the process's.
 *
 *     progress_begin("rebuilding from Kafka", "records")
 *     progress_set(done, total) ...       a line in the log every 5 s
 *     progress_end()                      a line that says how long it took
 *
 * Any thread may call any of these.
 */
#ifndef KETA_PROGRESS_H
#define KETA_PROGRESS_H

#include <stdint.h>

#include "base/buf.h"

/* Starts a piece of work, in place of one that was under way. Both texts are static: what
 * is done, and in what it is counted. */
void progress_begin(const char *what, const char *unit);

/* So much of so much is done. The total may change; 0 while it is not known.
 * Does nothing between pieces of work. Cheap enough to be called for each of them. */
void progress_set(int64_t done, int64_t total);

/* The work is done, or given up. */
void progress_end(void);

/* Appends what is known, without a line end: "rebuilding from Kafka: 42 % of 1000000
 * records, 310000 records/s, 2 s left". "starting" between pieces of work. */
void progress_describe(struct buf *out);

#endif
