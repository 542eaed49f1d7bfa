/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A log that lives in an array: records stay in it and can be read again from
 * any offset, which is what a replay needs. One thread.
 */
#ifndef KETA_ARRAY_LOG_H
#define KETA_ARRAY_LOG_H

#include <stddef.h>
#include <stdint.h>

#include "log/log.h"

/* Empty; the first record gets offset 1. log_close frees it. */
struct log *array_log_new(void);

/* The next log_poll gives the record after this offset. */
void array_log_seek(struct log *log, int64_t applied);

/* The offset of the last record. */
int64_t array_log_end(const struct log *log);

#endif
