/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One checkpoint: writes to the tables, in one transaction, what changed since
 * their newest marker, and a new marker. For the leader (engine/leader.c).
 */
#ifndef KETA_CHECKPOINT_H
#define KETA_CHECKPOINT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"
#include "log/tables.h"
#include "rows.pb-c.h"
#include "state/snapshot.h"

/* The newest marker of the tables, with its bytes. */
struct marker {
	struct arena arena;
	Pb__Marker *pb; /* NULL: there is none */
};

/* Empty. marker_release() is due in the end. */
void marker_init(struct marker *marker);
void marker_release(struct marker *marker);

/* Reads it. STATUS_BUSY: ask again; STATUS_BAD_RECORD when it cannot be read; what tables_read returns. */
enum status_code marker_read(struct marker *marker, struct tables *tables);

/* Replaces it by a copy. STATUS_NO_MEMORY. */
enum status_code marker_set(struct marker *marker, const Pb__Marker *pb);

struct checkpoint {
	struct tables *tables;
	struct snapshot snapshot;
	struct buf packed;
	int64_t rows; /* written so far */
};

/* Reads what is small and begins the transaction. 'view' and 'since' are borrowed. On
 * anything but OK there is nothing to release. */
enum status_code checkpoint_begin(struct checkpoint *checkpoint, struct tables *tables, struct view *view,
                                  const Pb__Marker *since);

/* Writes some more rows; *done when nothing is left but to commit. */
enum status_code checkpoint_step(struct checkpoint *checkpoint, bool *done);

/* Writes the marker and commits. The marker is in checkpoint->snapshot until it is released. */
enum status_code checkpoint_commit(struct checkpoint *checkpoint, int64_t now_wall_ms);

/* After the commit, or instead of it: the transaction is then for the caller to abort. */
void checkpoint_release(struct checkpoint *checkpoint);

#endif
