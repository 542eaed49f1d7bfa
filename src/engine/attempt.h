/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Remembers across crashes which record was being applied: one that brings the
 * process down twice would do so for ever. A page of a file that is mapped
 * survives the process, so noting a record costs a write to memory. Only the
 * process's own crashes count, not that somebody killed it.
 *
 * One per process; the applier's thread, but for opening and closing.
 */
#ifndef KETA_ATTEMPT_H
#define KETA_ATTEMPT_H

#include <stdint.h>

#include "base/status.h"

enum { ATTEMPTS_MAX = 2 };

/* Opens, or makes, the file in the directory, and watches the signals of a crash.
 * *poison is the offset of a record that has crashed this version of the server
 * ATTEMPTS_MAX times, or 0. STATUS_IO_ERROR, logged. */
enum status_code attempt_open(const char *dir, int64_t *poison);
void attempt_close(void);

/* The record at this offset is being applied; 0: none is. Does nothing unless open. */
void attempt_note(int64_t offset);

#endif
