/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Durations as Go's time.ParseDuration reads them, which is how etcd's flags
 * are written: "5m", "1h30m", "1.5s", "250ms", "0". Only those that do not
 * point backwards.
 */
#ifndef KETA_DURATION_H
#define KETA_DURATION_H

#include <stdbool.h>
#include <stdint.h>

/* In whole milliseconds, rounded up: what is not 0 stays so. False when the
 * text has another form or does not fit 64 bits of nanoseconds, Go's limit. */
bool duration_parse(const char *text, int64_t *out_ms);

#endif
