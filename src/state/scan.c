/* SPDX-License-Identifier: Apache-2.0 */
#include "state/scan.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

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

bool span_contains(const struct span *span, const uint8_t *key, size_t len)
{
	int order = bytes_compare(key, len, span->key, span->key_len);

	if (span_is_single(span))
		return order == 0;
	return order >= 0 && (span_is_open(span) || bytes_compare(key, len, span->end, span->end_len) < 0);
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

static void start_slice(struct scan *scan)
{
	if (scan->view->writes)
		scan->slice_left = SIZE_MAX;
	else
		scan->slice_left = scan->historical ? SCAN_SLICE_OLD_ROWS : SCAN_SLICE_ROWS;
}

static enum sql choose_statement(const struct scan *scan)
{
	bool open = span_is_open(&scan->span);

	if (scan->historical)
		return open ? SQL_SCAN_ALL_FROM : SQL_SCAN_ALL;
	if (scan->bare)
		return open ? SQL_SCAN_BARE_FROM : SQL_SCAN_BARE;
	return open ? SQL_SCAN_FROM : SQL_SCAN;
}

/* Binds the statement that walks from the resume point, or from the start. */
static enum status_code open_slice(struct scan *scan)
{
	struct view *view = scan->view;
	struct span rest = scan->span;
	enum status_code status = STATUS_OK;

	scan->historical = !is_newest(scan);
	start_slice(scan);
	if (scan->historical) {
		status = check_revision(scan);
		if (status == STATUS_OK)
			status = view_last_id(view, scan->revision, &scan->last_id);
	}
	if (status != STATUS_OK)
		return status;
	scan->stmt = view->stmts[choose_statement(scan)];
	if (scan->resume_len > 0) {
		rest.key = scan->resume;
		rest.key_len = scan->resume_len;
	}
	bind_span(scan->stmt, &rest);
	return STATUS_OK;
}

static enum status_code begin(struct scan *scan, struct view *view, const struct span *span,
                              int64_t revision, bool bare)
{
	*scan = (struct scan){.view = view, .span = *span, .revision = revision, .bare = bare};
	/* What a reader calls newest must stay the same from slice to slice. */
	if (revision == 0 && !view->writes)
		scan->revision = view->state.revision;
	if (span_is_single(span)) {
		scan->single = true;
		return is_newest(scan) ? STATUS_OK : check_revision(scan);
	}
	return open_slice(scan);
}

enum status_code scan_begin(struct scan *scan, struct view *view, const struct span *span, int64_t revision)
{
	return begin(scan, view, span, revision, false);
}

enum status_code scan_begin_bare(struct scan *scan, struct view *view, const struct span *span,
                                 int64_t revision)
{
	return begin(scan, view, span, revision, true);
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

static bool is_canceled(const struct view *view)
{
	return view->canceled != NULL && atomic_load(view->canceled);
}

/* Gives the snapshot back and goes on in another, unless it is to be kept. */
static enum status_code next_slice(struct scan *scan)
{
	struct view *view = scan->view;
	enum status_code status;

	if (is_canceled(view))
		return STATUS_CANCELED;
	if (view->terms.one_snapshot) {
		start_slice(scan);
		return STATUS_OK;
	}
	sqlite3_reset(scan->stmt);
	scan->stmt = NULL;
	status = view_refresh(view);
	return status == STATUS_OK ? open_slice(scan) : status;
}

/* *more tells whether the statement stands on a row. Of the last row of a slice
 * the key is kept. Each row is paid for here, seen by the walk or not. */
static enum status_code step(struct scan *scan, bool *more)
{
	sqlite3_stmt *stmt = scan->stmt;
	int code = sqlite3_step(stmt);
	enum status_code status;

	*more = code == SQLITE_ROW;
	if (*more) {
		size_t key_len = (size_t)sqlite3_column_bytes(stmt, 0);

		status = view_spend(scan->view, scan->historical ? VIEW_OLD_ROW_COST : 1, (int64_t)key_len);
		if (status == STATUS_OK && --scan->slice_left == 0)
			status = remember(scan, sqlite3_column_blob(stmt, 0), key_len);
		return status;
	}
	sqlite3_reset(stmt);
	scan->stmt = NULL;
	return code == SQLITE_DONE ? STATUS_OK : view_failed(scan->view, code);
}

/* The walk stands on a row whose value SQLite has read. */
static enum status_code give(struct scan *scan, struct version_row **row)
{
	enum status_code status = view_spend(scan->view, 0, sqlite3_column_bytes(scan->row.stmt, 5));

	if (status == STATUS_OK)
		*row = &scan->row;
	return status;
}

static enum status_code next_newest(struct scan *scan, struct version_row **row)
{
	bool more;
	enum status_code status = step(scan, &more);

	if (status != STATUS_OK || !more)
		return status;
	view_read_row(scan->stmt, &scan->row);
	return give(scan, row);
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
	enum status_code status = STATUS_OK;
	int64_t id = 0;
	bool more;

	while (status == STATUS_OK && id == 0) {
		if (scan->slice_left == 0)
			return STATUS_OK; /* scan_next begins another, of whichever kind */
		status = step(scan, &more);
		if (status != STATUS_OK || !more)
			return status;
		status = choose(scan, &id);
	}
	if (status == STATUS_OK)
		status = view_read_version(scan->view, id, scan->bare, &scan->row);
	return status == STATUS_OK ? give(scan, row) : status;
}

static enum status_code next_single(struct scan *scan, struct version_row **row)
{
	int64_t revision = is_newest(scan) ? 0 : scan->revision;
	const struct span *span = &scan->span;
	enum status_code status;
	int64_t bytes;
	bool found;

	if (scan->taken)
		return STATUS_OK;
	scan->taken = true;
	if (scan->bare)
		status = view_find_bare(scan->view, span->key, span->key_len, revision, &found, &scan->row);
	else
		status = view_find(scan->view, span->key, span->key_len, revision, &found, &scan->row);
	if (status != STATUS_OK)
		return status;
	bytes = (int64_t)span->key_len + (found ? sqlite3_column_bytes(scan->row.stmt, 5) : 0);
	status = view_spend(scan->view, revision == 0 ? 1 : VIEW_OLD_ROW_COST, bytes);
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

/* How many keys a slice of counting may have: no more than the read may still look at. */
static int64_t count_slice_rows(const struct view *view)
{
	const struct read_terms *terms = &view->terms;

	return terms->bounded && terms->rows < COUNT_SLICE_ROWS ? terms->rows + 1 : COUNT_SLICE_ROWS;
}

/* Adds the keys of one slice of the newest state: skips over as many as it may
 * have, which costs little per key, and if there are fewer, counts them. */
static enum status_code count_slice(struct scan *scan, bool *more, int64_t *count)
{
	bool open = span_is_open(&scan->span);
	int64_t rows = count_slice_rows(scan->view);
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
	sqlite3_bind_int64(skip, 3, rows - 1);
	status = step_once(scan, skip, more);
	if (status != STATUS_OK)
		return status;
	if (*more) {
		*count += rows;
		status =
			remember(scan, sqlite3_column_blob(skip, 0), (size_t)sqlite3_column_bytes(skip, 0));
		sqlite3_reset(skip);
		return status == STATUS_OK ? view_spend(scan->view, rows, 0) : status;
	}
	sqlite3_reset(skip);
	bind_span(rest, &span);
	status = step_once(scan, rest, &found);
	if (status != STATUS_OK)
		return status;
	rows = sqlite3_column_int64(rest, 0);
	sqlite3_reset(rest);
	*count += rows;
	return view_spend(scan->view, rows, 0);
}

static enum status_code count_newest(struct scan *scan, int64_t *count)
{
	struct view *view = scan->view;
	enum status_code status;
	bool more;

	sqlite3_reset(scan->stmt);
	scan->stmt = NULL;
	for (;;) {
		status = count_slice(scan, &more, count);
		if (status != STATUS_OK || !more)
			return status;
		if (is_canceled(view))
			return STATUS_CANCELED;
		if (view->writes || view->terms.one_snapshot)
			continue;
		status = view_refresh(view);
		if (status != STATUS_OK)
			return status;
		if (view->state.revision != scan->revision)
			return open_slice(scan); /* the rest is history now */
	}
}

enum status_code scan_count(struct view *view, const struct span *span, int64_t revision, int64_t *count)
{
	struct scan scan;
	struct version_row *row;
	enum status_code status = scan_begin_bare(&scan, view, span, revision);

	*count = 0;
	if (status == STATUS_OK && !scan.historical && !scan.single)
		status = count_newest(&scan, count);
	while (status == STATUS_OK && (scan.single || scan.stmt != NULL)) {
		status = scan_next(&scan, &row);
		if (row == NULL)
			break;
		++*count;
	}
	scan_end(&scan);
	return status;
}
