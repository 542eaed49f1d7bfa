/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table 'version' from one point on is history as it happened; almost. At
 * the compaction revision, the oldest that can be read, compaction drops what
 * the revision itself put and then superseded. Whether it has got there is each
 * node's own business, so such changes are left out in any case. Deletions at
 * that revision stay, as in etcd, until the next compaction.
 */
#include "state/history.h"

#include "base/bytes.h"

enum {
	/* The walk over changes of which some are wanted shows values up to here, which
	 * stand in the same page as their row; of a longer one it would read all. */
	SHOWN_VALUE_BYTES = 2000,

	/* Of the statements HISTORY and HISTORY_AT, after the usual columns. */
	COLUMN_PREVIOUS = 7,
	COLUMN_DELETED,
};

struct reading {
	struct view *view;
	const struct history_slice *slice;
	struct event_batch *batch;
	int64_t first_id; /* where the slice's first revision begins */
	int64_t at;       /* the revision that is being gone through */
	size_t rows;
};

enum status_code history_find_prev(struct view *view, int64_t id, int64_t revision, bool *found,
                                   struct version_row *row)
{
	sqlite3_stmt *stmt = view->stmts[SQL_HISTORY_AT];
	int code;

	for (*found = false; id != 0;
	     id = sqlite3_column_int64(stmt, COLUMN_PREVIOUS), sqlite3_reset(stmt)) {
		sqlite3_bind_int64(stmt, 1, id);
		code = sqlite3_step(stmt);
		if (code != SQLITE_ROW) {
			sqlite3_reset(stmt);
			/* Only a deletion can have been dropped by compaction. */
			return code == SQLITE_DONE ? STATUS_OK : view_failed(view, code);
		}
		if (sqlite3_column_int64(stmt, 1) < revision)
			break;
	}
	if (id == 0)
		return STATUS_OK;
	*found = sqlite3_column_int(stmt, COLUMN_DELETED) == 0;
	if (*found)
		view_read_row(stmt, row);
	else
		sqlite3_reset(stmt);
	return STATUS_OK;
}

static bool is_wanted(const struct history_slice *slice, const struct version_row *row)
{
	for (size_t i = 0; i < slice->span_count; i++)
		if (span_contains(&slice->spans[i], row->key, row->key_len))
			return true;
	return slice->span_count == 0;
}

static enum status_code add_prev(struct reading *reading, const struct version_row *row, int64_t previous)
{
	struct version_row found_row;
	Pb__KeyValue prev;
	bool found;
	enum status_code status;

	if (row->created == row->mod || row->mod <= reading->view->state.compact_revision)
		return STATUS_OK;
	status = history_find_prev(reading->view, previous, row->mod, &found, &found_row);
	if (status != STATUS_OK || !found)
		return status;
	view_lend_row(&found_row, &prev);
	status = event_batch_set_prev(reading->batch, &prev);
	view_release(&found_row);
	return status;
}

/* Reads the value that the walk did not show. *stmt is to be reset. */
static enum status_code read_value(struct view *view, int64_t id, sqlite3_stmt **stmt,
                                   ProtobufCBinaryData *value)
{
	int code;

	*stmt = view->stmts[SQL_HISTORY_AT];
	sqlite3_bind_int64(*stmt, 1, id);
	code = sqlite3_step(*stmt);
	if (code != SQLITE_ROW)
		return code == SQLITE_DONE ? view_misses(id) : view_failed(view, code);
	*value = view_lend(sqlite3_column_blob(*stmt, 5), (size_t)sqlite3_column_bytes(*stmt, 5));
	return STATUS_OK;
}

static enum status_code add_event(struct reading *reading, const struct version_row *row, bool deleted)
{
	enum status_code status = STATUS_OK;
	sqlite3_stmt *stmt = NULL;
	Pb__KeyValue kv;

	view_lend_row(row, &kv);
	if (sqlite3_column_type(row->stmt, 5) == SQLITE_NULL)
		status = read_value(reading->view, row->id, &stmt, &kv.value);
	if (status == STATUS_OK && event_batch_add(reading->batch, deleted, &kv) == NULL)
		status = STATUS_NO_MEMORY;
	sqlite3_reset(stmt);
	return status;
}

/* Takes back the put of a key that the same revision has superseded: one that
 * compaction drops, if it has not yet. */
static void forget_superseded(struct event_batch *batch, const struct version_row *row)
{
	for (size_t i = batch->count; i-- > 0;) {
		const struct event *event = batch->events[i];

		if (bytes_compare(event->kv.key.data, event->kv.key.len, row->key, row->key_len) != 0)
			continue;
		if (event->pb.type == PB__EVENT__EVENT_TYPE__PUT)
			event_batch_remove(batch, i);
		return;
	}
}

static enum status_code take_row(struct reading *reading, sqlite3_stmt *stmt, const struct version_row *row)
{
	int64_t previous = sqlite3_column_int64(stmt, COLUMN_PREVIOUS);
	bool deleted = sqlite3_column_int(stmt, COLUMN_DELETED) != 0;
	enum status_code status;

	reading->rows++;
	if (!is_wanted(reading->slice, row))
		return STATUS_OK;
	if (row->mod == reading->view->state.compact_revision && previous >= reading->first_id)
		forget_superseded(reading->batch, row);
	status = add_event(reading, row, deleted);
	if (status == STATUS_OK && reading->slice->with_prev)
		status = add_prev(reading, row, previous);
	return status;
}

static bool is_full(const struct reading *reading)
{
	return reading->rows >= reading->slice->rows || reading->batch->bytes >= reading->slice->bytes;
}

static enum status_code walk(struct reading *reading)
{
	sqlite3_stmt *stmt = reading->view->stmts[SQL_HISTORY];
	enum status_code status = STATUS_OK;
	int code = SQLITE_DONE;

	reading->batch->last = reading->view->state.revision;
	sqlite3_bind_int64(stmt, 1, reading->first_id - 1);
	sqlite3_bind_int64(stmt, 2, reading->slice->span_count == 0 ? INT64_MAX : SHOWN_VALUE_BYTES);
	while (status == STATUS_OK && (code = sqlite3_step(stmt)) == SQLITE_ROW) {
		struct version_row row;

		view_read_row(stmt, &row);
		if (row.mod != reading->at && is_full(reading)) {
			reading->batch->last = reading->at;
			break;
		}
		reading->at = row.mod;
		status = take_row(reading, stmt, &row);
	}
	sqlite3_reset(stmt);
	if (status == STATUS_OK && code != SQLITE_DONE && code != SQLITE_ROW)
		status = view_failed(reading->view, code);
	return status;
}

static enum status_code read_slice(struct view *view, const struct history_slice *slice,
                                   struct event_batch *batch)
{
	struct reading reading = {.view = view, .slice = slice, .batch = batch, .at = slice->from - 1};
	enum status_code status;
	int64_t last_id;

	batch->first = slice->from;
	batch->last = slice->from - 1;
	batch->has_prev = slice->with_prev;
	if (slice->from > view->state.revision)
		return STATUS_OK;
	status = view_last_id(view, slice->from - 1, &last_id);
	reading.first_id = last_id + 1;
	return status == STATUS_OK ? walk(&reading) : status;
}

enum status_code history_read(struct view *view, const struct history_slice *slice,
                              struct event_batch **out)
{
	enum status_code status = view_refresh(view);
	struct event_batch *batch = NULL;

	if (status != STATUS_OK)
		return status;
	if (slice->from < view->state.compact_revision)
		status = STATUS_COMPACTED;
	if (status == STATUS_OK && (batch = event_batch_new()) == NULL)
		status = STATUS_NO_MEMORY;
	if (status == STATUS_OK)
		status = read_slice(view, slice, batch);
	view_rest(view);
	if (status == STATUS_OK)
		*out = batch;
	else
		event_batch_release(batch);
	return status;
}
