/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Walks the keys of a range in order, as of one revision.
 *
 * On a reader's view the walk goes in slices: after some rows the snapshot is
 * given back and another is taken, so that no read holds up the write-ahead
 * log, however long the range. The revision stays the same; a compaction that
 * overtakes it ends the walk with STATUS_COMPACTED. The view's terms can have it
 * stay in one snapshot, or bound what it costs (struct read_terms).
 */
#ifndef KETA_SCAN_H
#define KETA_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "state/view.h"

/* Keys from 'key' up to, not including, 'end'; one key when end is empty; all
 * from key on when end is one zero byte: the ranges of etcd's API. */
struct span {
	const uint8_t *key;
	size_t key_len;
	const uint8_t *end;
	size_t end_len;
};

struct span span_make(ProtobufCBinaryData key, ProtobufCBinaryData range_end);
bool span_is_single(const struct span *span);

/* Whether it goes on to the end of the key space. */
static inline bool span_is_open(const struct span *span)
{
	return span->end_len == 1 && span->end[0] == 0;
}
bool span_contains(const struct span *span, const uint8_t *key, size_t len);

struct scan {
	struct view *view;
	struct span span;
	int64_t revision;   /* 0: the newest with the view's own uncommitted changes */
	int64_t last_id;    /* the newest version that a historical walk may see */
	sqlite3_stmt *stmt; /* NULL when the walk is over */
	size_t slice_left;  /* rows until the snapshot is given back */
	uint8_t *resume;    /* the last key of the slice and a zero byte: its successor */
	size_t resume_len;
	size_t resume_size;
	bool historical; /* stmt gives the ends of chains, in which a version is found */
	bool bare;       /* rows come without their values */
	bool single;     /* one key, found without a walk */
	bool taken;      /* single: it was looked up */
	struct version_row row;
};

/* Starts a walk. The view is fresh; the span's bytes are borrowed until
 * scan_end. revision is 0 for the newest, or one that the caller has checked.
 * A view walks one range at a time. scan_end is due whatever this returns. */
enum status_code scan_begin(struct scan *scan, struct view *view, const struct span *span,
                            int64_t revision);

/* The same for rows without their values, which are not read then; the rows
 * have NULL for them. */
enum status_code scan_begin_bare(struct scan *scan, struct view *view, const struct span *span,
                                 int64_t revision);

/* The next key: *row, valid until the next call; NULL at the end. */
enum status_code scan_next(struct scan *scan, struct version_row **row);

void scan_end(struct scan *scan);

/* How many keys the span has as of the revision. */
enum status_code scan_count(struct view *view, const struct span *span, int64_t revision, int64_t *count);

#endif
