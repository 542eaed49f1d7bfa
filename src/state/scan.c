/* SPDX-License-Identifier: Apache-2.0 */
#include "state/scan.h"

#include <stdlib.h>
#include <string.h>

enum {
	/* About two milliseconds each: of rows as they are, of rows looked for in their chains, of keys. */
	SCAN_SLICE_ROWS = 2000,
	SCAN_SLICE_OLD_ROWS = 400,
	COUNT_SLICE_ROWS = 50000,
};

struct span span_make(ProtobufCBinaryData key, ProtobufCBinaryData range_end)
{
	return (struct span){
		.key = key.data,
		.key_len = key.len,
		.end = range_end.data,
		.end_len = range_end.len,
	};
}

bool span_is_single(const struct span *span)
{
	return span->end_len == 0;
}

static bool span_is_open(const struct span *span)
{
	return span->end_len == 1 && span->end[0] == 0;
}

static void bind_span(sqlite3_stmt *stmt, const struct span *span)
{
	/* A NULL pointer would bind NULL, which compares with nothing. */
	sqlite3_bind_blob(stmt, 1, span->key_len > 0 ? (const void *)span->key : "", (int)span->key_len,
	                  SQLITE_STATIC);
	if (!span_is_open(span))
		sqlite3_bind_blob(stmt, 2, span->end, (int)span->end_len, SQLITE_STATIC);
}

/* A writing view's newest state has changes that no revision counts yet. */
static bool is_newest(const struct scan *scan)
{
	return scan->revision == 0 || (!scan->view->writes && scan->revision == scan->view->state.revision);
}

/* The view may have moved on since the caller looked. */
static enum status_code check_revision(const struct scan *scan)
{
	return scan->revision < scan->view->state.compact_revision ? STATUS_COMPACTED : STATUS_OK;
}

/* Binds the statement that walks from the resume point, or from the start. */
static enum status_code open_slice(struct scan *scan)
{
	struct view *view = scan->view;
	struct span rest = scan->span;
	bool open = span_is_open(&scan->span);
	enum status_code status = STATUS_OK;

	scan->historical = !is_newest(scan);
	scan->slice_left = view->writes ? SIZE_MAX : scan->historical ? SCAN_SLICE_OLD_ROWS : SCAN_SLICE_ROWS;
	if (scan->historical) {
		if (scan->revision < view->state.compact_revision)
			return STATUS_COMPACTED;
		status = view_last_id(view, scan->revision, &scan->last_id);
	}
	if (status != STATUS_OK)
		return status;
	if (scan->historical)
		scan->stmt = view->stmts[open ? SQL_SCAN_ALL_FROM : SQL_SCAN_ALL];
	else
		scan->stmt = view->stmts[open ? SQL_SCAN_FROM : SQL_SCAN];
	if (scan->resume_len > 0) {
		rest.key = scan->resume;
		rest.key_len = scan->resume_len;
	}
	bind_span(scan->stmt, &rest);
	return STATUS_OK;
}

enum status_code scan_begin(struct scan *scan, struct view *view, const struct span *span, int64_t revision)
{
	*scan = (struct scan){.view = view, .span = *span, .revision = revision};
	/* What a reader calls newest must stay the same from slice to slice. */
	if (revision == 0 && !view->writes)
		scan->revision = view->state.revision;
	if (span_is_single(span)) {
		scan->single = true;
		return is_newest(scan) ? STATUS_OK : check_revision(scan);
	}
	return open_slice(scan);
}

static void release(struct scan *scan)
{
	if (scan->row.stmt != NULL && scan->row.stmt != scan->stmt)
		view_release(&scan->row);
	scan->row.stmt = NULL;
}

void scan_end(struct scan *scan)
{
	release(scan);
	if (scan->stmt != NULL)
		sqlite3_reset(scan->stmt);
	scan->stmt = NULL;
	free(scan->resume);
	scan->resume = NULL;
}

static enum status_code remember(struct scan *scan, const uint8_t *key, size_t len)
{
	if (len + 1 > scan->resume_size) {
		size_t size = (len + 1) * 2;
		uint8_t *grown = realloc(scan->resume, size);

		if (grown == NULL)
			return STATUS_NO_MEMORY;
		scan->resume = grown;
		scan->resume_size = size;
	}
	memcpy(scan->resume, key, len);
	scan->resume[len] = 0;
	scan->resume_len = len + 1;
	return STATUS_OK;
}

/* Gives the snapshot back and goes on in another. */
static enum status_code next_slice(struct scan *scan)
{
	enum status_code status;

	sqlite3_reset(scan->stmt);
	scan->stmt = NULL;
	if (scan->view->canceled != NULL && atomic_load(scan->view->canceled))
		return STATUS_CANCELED;
	status = view_refresh(scan->view);
	return status == STATUS_OK ? open_slice(scan) : status;
}

/* *more tells whether the statement stands on a row. Of the last row of a slice
 * the key is kept. */
static enum status_code step(struct scan *scan, bool *more)
{
	sqlite3_stmt *stmt = scan->stmt;
	int code = sqlite3_step(stmt);

	*more = code == SQLITE_ROW;
	if (*more) {
		if (--scan->slice_left > 0)
			return STATUS_OK;
		return remember(scan, sqlite3_column_blob(stmt, 0), (size_t)sqlite3_column_bytes(stmt, 0));
	}
	sqlite3_reset(stmt);
	scan->stmt = NULL;
	return code == SQLITE_DONE ? STATUS_OK : view_failed(scan->view, code);
}

static enum status_code next_newest(struct scan *scan, struct version_row **row)
{
	bool more;
	enum status_code status = step(scan, &more);

	if (status != STATUS_OK || !more)
		return status;
	view_read_row(scan->stmt, &scan->row);
	*row = &scan->row;
	return STATUS_OK;
}

/* The version that the walk sees of the key on which the statement stands; 0 for none. */
static enum status_code choose(struct scan *scan, int64_t *id)
{
	bool deleted = sqlite3_column_int(scan->stmt, 4) != 0;
	struct chain chain;

	chain_read(&chain, scan->stmt, 1, 2, 3);
	*id = deleted ? 0 : chain.id;
	if (chain.id <= scan->last_id)
		return STATUS_OK;
	return chain_find(scan->view, &chain, scan->last_id, id);
}

static enum status_code next_historical(struct scan *scan, struct version_row **row)
{
	bool more, found = false;
	enum status_code status = STATUS_OK;
	int64_t id;

	while (status == STATUS_OK && !found) {
		if (scan->slice_left == 0)
			status = next_slice(scan);
		if (status == STATUS_OK)
			status = step(scan, &more);
		if (status != STATUS_OK || !more)
			return status;
		status = choose(scan, &id);
		if (status == STATUS_OK && id != 0)
			status = view_find_version(scan->view, id, &found, &scan->row);
	}
	if (found)
		*row = &scan->row;
	return status;
}

static enum status_code next_single(struct scan *scan, struct version_row **row)
{
	int64_t revision = is_newest(scan) ? 0 : scan->revision;
	enum status_code status;
	bool found;

	if (scan->taken)
		return STATUS_OK;
	scan->taken = true;
	status = view_find(scan->view, scan->span.key, scan->span.key_len, revision, &found, &scan->row);
	if (status == STATUS_OK && found)
		*row = &scan->row;
	return status;
}

enum status_code scan_next(struct scan *scan, struct version_row **row)
{
	enum status_code status = STATUS_OK;

	*row = NULL;
	release(scan);
	if (scan->single)
		return next_single(scan, row);
	/* Keys that were deleted give no row: however many, they are walked in slices too. */
	while (status == STATUS_OK && *row == NULL && scan->stmt != NULL) {
		if (scan->slice_left == 0)
			status = next_slice(scan);
		if (status == STATUS_OK)
			status = scan->historical ? next_historical(scan, row) : next_newest(scan, row);
	}
	return status;
}

/* Steps a statement that gives one row or none, and leaves it standing there. */
static enum status_code step_once(struct scan *scan, sqlite3_stmt *stmt, bool *found)
{
	int code = sqlite3_step(stmt);

	*found = code == SQLITE_ROW;
	if (*found || code == SQLITE_DONE)
		return STATUS_OK;
	sqlite3_reset(stmt);
	return view_failed(scan->view, code);
}

/* Adds the keys of one slice of the newest state: skips over as many as it may
 * have, which costs little per key, and if there are fewer, counts them. */
static enum status_code count_slice(struct scan *scan, int64_t max, bool *more, int64_t *count)
{
	bool open = span_is_open(&scan->span);
	int64_t slice = max < COUNT_SLICE_ROWS ? max + 1 : COUNT_SLICE_ROWS;
	sqlite3_stmt *skip = scan->view->stmts[open ? SQL_SKIP_FROM : SQL_SKIP];
	sqlite3_stmt *rest = scan->view->stmts[open ? SQL_COUNT_FROM : SQL_COUNT_TO];
	struct span span = scan->span;
	enum status_code status;
	bool found;

	if (scan->resume_len > 0) {
		span.key = scan->resume;
		span.key_len = scan->resume_len;
	}
	bind_span(skip, &span);
	sqlite3_bind_int64(skip, 3, slice - 1);
	status = step_once(scan, skip, more);
	if (status != STATUS_OK)
		return status;
	if (*more) {
		*count += slice;
		status = remember(scan, sqlite3_column_blob(skip, 0), (size_t)sqlite3_column_bytes(skip, 0));
		sqlite3_reset(skip);
		return status;
	}
	sqlite3_reset(skip);
	bind_span(rest, &span);
	status = step_once(scan, rest, &found);
	if (status != STATUS_OK)
		return status;
	*count += sqlite3_column_int64(rest, 0);
	sqlite3_reset(rest);
	return STATUS_OK;
}

static enum status_code count_newest(struct scan *scan, int64_t max, int64_t *count)
{
	enum status_code status;
	bool more;

	sqlite3_reset(scan->stmt);
	scan->stmt = NULL;
	for (;;) {
		status = count_slice(scan, max, &more, count);
		if (status != STATUS_OK || !more || *count > max)
			return status;
		if (scan->view->writes)
			continue;
		status = view_refresh(scan->view);
		if (status != STATUS_OK)
			return status;
		if (scan->view->state.revision != scan->revision)
			return open_slice(scan); /* the rest is history now */
	}
}

enum status_code scan_count(struct view *view, const struct span *span, int64_t revision, int64_t max,
                            int64_t *count)
{
	struct scan scan;
	struct version_row *row;
	enum status_code status = scan_begin(&scan, view, span, revision);

	*count = 0;
	if (status == STATUS_OK && !scan.historical && !scan.single)
		status = count_newest(&scan, max, count);
	while (status == STATUS_OK && *count <= max && (scan.single || scan.stmt != NULL)) {
		status = scan_next(&scan, &row);
		if (row == NULL)
			break;
		++*count;
	}
	scan_end(&scan);
	return status;
}
