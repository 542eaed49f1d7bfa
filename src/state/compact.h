/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compaction: from a revision on, what was superseded by then can no longer be
 * read. The record makes that so at once; the rows leave the file afterwards,
 * in small steps beside the traffic, from where the last step or the last
 * process left off.
 */
#ifndef KETA_COMPACT_H
#define KETA_COMPACT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "state/store.h"

/* Inside apply: STATUS_COMPACTED, STATUS_FUTURE_REVISION. */
enum status_code compact_apply(struct store *st, int64_t revision);

/* What a compaction to this revision makes obsolete may leave the file. Inside
 * apply; without a shared log compact_apply does it. */
enum status_code compact_allow_drop(struct store *st, int64_t revision);

/* Drops up to about max_rows rows in the open transaction. *done when nothing
 * is left to drop. */
enum status_code compact_step(struct store *st, size_t max_rows, size_t *dropped, bool *done);

/* Whether a step would find anything. */
bool compact_is_due(const struct store *st);

#endif
