/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads what happened, in revision order: for watchers that start in the past
 * or have fallen behind.
 */
#ifndef KETA_HISTORY_H
#define KETA_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "state/event.h"
#include "state/scan.h"
#include "state/view.h"

/* The version of a key that a read at the revision before this one sees, looked
 * for from version 'id' back. If there is one the row is valid until it is
 * passed to view_release. On any view. */
enum status_code history_find_prev(struct view *view, int64_t id, int64_t revision, bool *found,
                                   struct version_row *row);

/* What to read. A slice ends after about 'rows' changes were looked at or
 * 'bytes' of keys and values were taken, at the end of a revision. */
struct history_slice {
	int64_t from;            /* the first revision, at least 1 */
	const struct span *spans; /* changes outside of all of these are left out; none: all are taken */
	size_t span_count;
	bool with_prev;          /* the pairs before are looked up as well */
	size_t rows;
	size_t bytes;
};

/* Reads a slice on a fresh snapshot of its own, which it gives back. *out is
 * the caller's: first is slice->from, and last the last revision that was gone
 * through, the newest one if there is nothing more. When 'from' is ahead of the
 * newest revision, last is from - 1.
 *
 * STATUS_COMPACTED when 'from' is below the compaction revision, which view->state
 * then tells; STATUS_NO_MEMORY; an I/O error.
 *
 * The pair before a change is the one at the revision before, and left out where
 * etcd leaves it out: at the key's creation, and when that revision has been
 * compacted. A deletion at the compaction revision is still told, as in etcd. */
enum status_code history_read(struct view *view, const struct history_slice *slice, struct event_batch **out);

#endif
