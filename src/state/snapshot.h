/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a checkpoint writes to the tables: what differs between the state that
 * they hold, told by their newest marker, and the state now; and the next marker.
 *
 *     snapshot_begin ─ snapshot_step* ─ snapshot_release
 *
 * Everything small is read in one snapshot of the database, whose position in
 * the log is the new marker's. Versions are read afterwards in slices: those up
 * to the newest one of that moment do not change, and none of them leaves the
 * file before tables with a newer marker do without it.
 *
 * A deletion at the revision compacted to stays, as everywhere; it goes with the
 * next compaction.
 */
#ifndef KETA_SNAPSHOT_H
#define KETA_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/status.h"
#include "state/rows.h"
#include "state/store.h"

/* A row of a table; value NULL: it is to go. Anything but OK ends the step, which returns it. */
typedef enum status_code snapshot_put_fn(void *arg, bool is_lease, const uint8_t key[ROW_KEY_BYTES],
                                         const void *value, size_t len);

struct snapshot {
	struct view *view;
	struct arena arena;
	const Pb__Marker *since; /* NULL: the tables are empty */
	Pb__Marker *marker;      /* of the state that is being written; complete when the steps are done */
	struct row_sum kv;
	int64_t at_id; /* the last version written, then the last one passed by compaction */
	bool written;  /* all new versions are */
	bool obsolete_done;
	struct lease_change *leases;
	size_t lease_count, lease_at;
	struct buf row;
};

/* Reads everything but versions. The view is the caller's own and borrowed, as is
 * 'since'. STATUS_NO_MEMORY or an I/O error: nothing is to be released. */
enum status_code snapshot_begin(struct snapshot *snapshot, struct view *view, const Pb__Marker *since);

/* Tells of about 'max' more rows. *done when it was the last step. */
enum status_code snapshot_step(struct snapshot *snapshot, size_t max, snapshot_put_fn *put, void *arg,
                               bool *done);

/* Once for each snapshot_begin() that was STATUS_OK. */
void snapshot_release(struct snapshot *snapshot);

#endif
