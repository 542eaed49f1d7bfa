/* SPDX-License-Identifier: Apache-2.0 */
#include "state/snapshot.h"

#include <stdlib.h>
#include <string.h>

#include "state/maintenance.h"

enum { ARENA_CAP_BYTES = 1 << 30 };

/* A lease that is to be written, or one that is to go: ttl_sec is 0 then. */
struct lease_change {
	int64_t id, ttl_sec, remaining_sec, renewal;
};

static enum status_code add_lease(struct snapshot *snapshot, const struct lease_change *change)
{
	snapshot->leases = arena_grow(&snapshot->arena, snapshot->leases, snapshot->lease_count,
	                              sizeof *snapshot->leases);
	if (snapshot->leases == NULL)
		return STATUS_NO_MEMORY;
	snapshot->leases[snapshot->lease_count++] = *change;
	return STATUS_OK;
}

/* All leases are summed up; those that may differ from their row are kept. */
static enum status_code read_leases(struct snapshot *snapshot)
{
	sqlite3_stmt *stmt = snapshot->view->stmts[SQL_LEASES];
	int64_t since = snapshot->since != NULL ? snapshot->since->offset : -1;
	struct row_sum sum = {0};
	enum status_code status = STATUS_OK;
	int code = SQLITE_DONE;

	while (status == STATUS_OK && (code = sqlite3_step(stmt)) == SQLITE_ROW) {
		struct lease_change row = {
			.id = sqlite3_column_int64(stmt, 0),
			.ttl_sec = sqlite3_column_int64(stmt, 1),
			.remaining_sec = sqlite3_column_int64(stmt, 2),
			.renewal = sqlite3_column_int64(stmt, 3),
		};

		row_pack_lease(row.ttl_sec, row.remaining_sec, row.renewal, &snapshot->row);
		row_sum_add(&sum, row.id, snapshot->row.data, snapshot->row.len);
		if (row.renewal > since || row.remaining_sec != row.ttl_sec)
			status = add_lease(snapshot, &row);
	}
	sqlite3_reset(stmt);
	snapshot->marker->lease_rows = sum.rows;
	snapshot->marker->lease_sum = sum.sum;
	if (snapshot->row.failed)
		return STATUS_NO_MEMORY;
	return status == STATUS_OK && code != SQLITE_DONE ? view_failed(snapshot->view, code) : status;
}

static enum status_code read_gone_leases(struct snapshot *snapshot)
{
	sqlite3_stmt *stmt = snapshot->view->stmts[SQL_GONE_LEASES];
	enum status_code status = STATUS_OK;
	int code = SQLITE_DONE;

	sqlite3_bind_int64(stmt, 1, snapshot->since != NULL ? snapshot->since->offset : -1);
	while (status == STATUS_OK && (code = sqlite3_step(stmt)) == SQLITE_ROW)
		status = add_lease(snapshot, &(struct lease_change){.id = sqlite3_column_int64(stmt, 0)});
	sqlite3_reset(stmt);
	return status == STATUS_OK && code != SQLITE_DONE ? view_failed(snapshot->view, code) : status;
}

static enum status_code read_member(sqlite3_stmt *stmt, struct arena *arena, Pb__MemberRow **out)
{
	Pb__MemberRow *row = arena_alloc(arena, sizeof *row);

	if (row == NULL)
		return STATUS_NO_MEMORY;
	pb__member_row__init(row);
	row->id = (uint64_t)sqlite3_column_int64(stmt, 0);
	row->name = arena_strdup(arena, (const char *)sqlite3_column_text(stmt, 1));
	row->client_urls = arena_strdup(arena, (const char *)sqlite3_column_text(stmt, 2));
	row->number = (uint64_t)sqlite3_column_int64(stmt, 3);
	row->incarnation = (uint64_t)sqlite3_column_int64(stmt, 4);
	row->sequence = (uint64_t)sqlite3_column_int64(stmt, 5);
	row->version = arena_strdup(arena, (const char *)sqlite3_column_text(stmt, 6));
	row->level = (uint32_t)sqlite3_column_int64(stmt, 7);
	*out = row;
	return row->name != NULL && row->client_urls != NULL && row->version != NULL ? STATUS_OK
	                                                                             : STATUS_NO_MEMORY;
}

static enum status_code read_members(struct snapshot *snapshot)
{
	sqlite3_stmt *stmt = snapshot->view->stmts[SQL_MEMBERS];
	Pb__Marker *marker = snapshot->marker;
	enum status_code status = STATUS_OK;
	int code = SQLITE_DONE;

	while (status == STATUS_OK && (code = sqlite3_step(stmt)) == SQLITE_ROW) {
		marker->members = arena_grow(&snapshot->arena, marker->members, marker->n_members,
		                             sizeof(Pb__MemberRow *));
		if (marker->members == NULL)
			status = STATUS_NO_MEMORY;
		else
			status = read_member(stmt, &snapshot->arena, &marker->members[marker->n_members++]);
	}
	sqlite3_reset(stmt);
	return status == STATUS_OK && code != SQLITE_DONE ? view_failed(snapshot->view, code) : status;
}

static void fill_scalars(Pb__Marker *marker, const struct store_state *state)
{
	marker->cluster_id = state->cluster_id;
	marker->offset = state->applied_offset;
	marker->record_hash = state->record_hash;
	marker->chain = state->chain;
	marker->hash = state->hash;
	marker->revision = state->revision;
	marker->compact_revision = state->compact_revision;
	marker->last_id = state->last_id;
	marker->term = state->term;
	marker->owner = state->owner;
	marker->owner_member = state->owner_member;
	marker->level = (uint32_t)state->level;
}

static enum status_code read_all(struct snapshot *snapshot)
{
	Pb__Marker *marker = snapshot->marker;
	enum status_code status = view_refresh(snapshot->view);

	if (status != STATUS_OK)
		return status;
	fill_scalars(marker, &snapshot->view->state);
	status = maintenance_read_alarms(snapshot->view, PB__ALARM_TYPE__NONE, &snapshot->arena,
	                                 &marker->n_alarms, &marker->alarms);
	if (status == STATUS_OK)
		status = read_members(snapshot);
	if (status == STATUS_OK)
		status = read_leases(snapshot);
	if (status == STATUS_OK)
		status = read_gone_leases(snapshot);
	view_rest(snapshot->view);
	return status;
}

enum status_code snapshot_begin(struct snapshot *snapshot, struct view *view, const Pb__Marker *since)
{
	enum status_code status = STATUS_NO_MEMORY;

	*snapshot = (struct snapshot){.view = view, .since = since};
	arena_init(&snapshot->arena, ARENA_CAP_BYTES, NULL, 0);
	buf_init(&snapshot->row);
	if (since != NULL) {
		snapshot->kv = (struct row_sum){since->kv_rows, since->kv_sum};
		snapshot->at_id = since->last_id;
	}
	snapshot->marker = arena_alloc(&snapshot->arena, sizeof *snapshot->marker);
	if (snapshot->marker != NULL) {
		pb__marker__init(snapshot->marker);
		status = read_all(snapshot);
	}
	if (status != STATUS_OK)
		snapshot_release(snapshot);
	return status;
}

void snapshot_release(struct snapshot *snapshot)
{
	arena_release(&snapshot->arena);
	buf_release(&snapshot->row);
}

static enum status_code put_leases(struct snapshot *snapshot, size_t max, snapshot_put_fn *put, void *arg)
{
	enum status_code status = STATUS_OK;

	for (; status == STATUS_OK && max > 0 && snapshot->lease_at < snapshot->lease_count; max--) {
		const struct lease_change *change = &snapshot->leases[snapshot->lease_at++];
		uint8_t key[ROW_KEY_BYTES];

		row_key(change->id, key);
		if (change->ttl_sec == 0) {
			status = put(arg, true, key, NULL, 0);
			continue;
		}
		row_pack_lease(change->ttl_sec, change->remaining_sec, change->renewal, &snapshot->row);
		if (snapshot->row.failed)
			return STATUS_NO_MEMORY;
		status = put(arg, true, key, snapshot->row.data, snapshot->row.len);
	}
	return status;
}

/* The versions in (from, to], as rows to write or, if 'drops', to remove. */
static enum status_code put_versions(struct snapshot *snapshot, int64_t from, int64_t to, size_t max,
                                     bool drops, snapshot_put_fn *put, void *arg, size_t *count,
                                     int64_t *last)
{
	sqlite3_stmt *stmt = snapshot->view->stmts[SQL_KV_ROWS];
	enum status_code status = STATUS_OK;
	int code = SQLITE_DONE;

	*count = 0;
	sqlite3_bind_int64(stmt, 1, from);
	sqlite3_bind_int64(stmt, 2, to);
	sqlite3_bind_int64(stmt, 3, (int64_t)max);
	while (status == STATUS_OK && *count < max && (code = sqlite3_step(stmt)) == SQLITE_ROW) {
		int64_t id = sqlite3_column_int64(stmt, 6);
		uint8_t key[ROW_KEY_BYTES];

		row_key(id, key);
		row_pack_kv(stmt, &snapshot->row);
		if (snapshot->row.failed) {
			status = STATUS_NO_MEMORY;
		} else if (drops) {
			row_sum_remove(&snapshot->kv, id, snapshot->row.data, snapshot->row.len);
			status = put(arg, false, key, NULL, 0);
		} else {
			row_sum_add(&snapshot->kv, id, snapshot->row.data, snapshot->row.len);
			status = put(arg, false, key, snapshot->row.data, snapshot->row.len);
		}
		*last = id;
		++*count;
	}
	sqlite3_reset(stmt);
	if (status == STATUS_OK && code != SQLITE_DONE && code != SQLITE_ROW)
		status = view_failed(snapshot->view, code);
	return status;
}

/* A version that compaction has gone through. */
struct passed {
	int64_t id, mod, previous;
	bool deleted;
};

static enum status_code read_passed(struct snapshot *snapshot, struct passed *passed, size_t max,
                                    size_t *count, bool *done)
{
	sqlite3_stmt *stmt = snapshot->view->stmts[SQL_PASSED];
	int code = SQLITE_DONE;

	*count = 0;
	*done = true;
	sqlite3_bind_int64(stmt, 1, snapshot->at_id);
	sqlite3_bind_int64(stmt, 2, (int64_t)max);
	while (*count < max && (code = sqlite3_step(stmt)) == SQLITE_ROW) {
		struct passed *it = &passed[*count];

		*it = (struct passed){sqlite3_column_int64(stmt, 0), sqlite3_column_int64(stmt, 1),
		                      sqlite3_column_int64(stmt, 2), sqlite3_column_int(stmt, 3) != 0};
		if (it->mod > snapshot->marker->compact_revision)
			break;
		++*count;
	}
	*done = *count < max;
	sqlite3_reset(stmt);
	return code == SQLITE_DONE || code == SQLITE_ROW ? STATUS_OK : view_failed(snapshot->view, code);
}

static enum status_code drop_version(struct snapshot *snapshot, int64_t id, snapshot_put_fn *put, void *arg)
{
	size_t count;
	int64_t last;

	return put_versions(snapshot, id - 1, id, 1, true, put, arg, &count, &last);
}

/* What a version that has been gone through makes obsolete: the one that it superseded, unless
 * the compaction that the tables know of did so; a deletion itself, once its revision is below.
 * A superseded deletion goes by its own row. */
static enum status_code drop_for(struct snapshot *snapshot, const struct passed *it, bool previous_deleted,
                                 snapshot_put_fn *put, void *arg)
{
	int64_t known = snapshot->since != NULL ? snapshot->since->compact_revision : 0;
	enum status_code status = STATUS_OK;

	if (it->mod > known && it->previous != 0 && !previous_deleted)
		status = drop_version(snapshot, it->previous, put, arg);
	if (status == STATUS_OK && it->deleted && it->mod < snapshot->marker->compact_revision &&
	    it->mod >= known)
		status = drop_version(snapshot, it->id, put, arg);
	return status;
}

static enum status_code is_deletion(struct snapshot *snapshot, int64_t id, bool *deleted)
{
	sqlite3_stmt *stmt = snapshot->view->stmts[SQL_PASSED];
	int code;

	*deleted = false;
	if (id == 0)
		return STATUS_OK;
	sqlite3_bind_int64(stmt, 1, id - 1);
	sqlite3_bind_int64(stmt, 2, 1);
	code = sqlite3_step(stmt);
	/* One that is not there any more was a deletion: others are dropped by whom they are superseded. */
	*deleted = code == SQLITE_DONE || (code == SQLITE_ROW && (sqlite3_column_int64(stmt, 0) != id ||
	                                                          sqlite3_column_int(stmt, 3) != 0));
	sqlite3_reset(stmt);
	return code == SQLITE_DONE || code == SQLITE_ROW ? STATUS_OK : view_failed(snapshot->view, code);
}

static enum status_code drop_obsolete(struct snapshot *snapshot, size_t max, snapshot_put_fn *put,
                                      void *arg)
{
	struct passed *passed = calloc(max, sizeof *passed);
	enum status_code status = STATUS_NO_MEMORY;
	size_t count = 0;

	if (passed != NULL)
		status = read_passed(snapshot, passed, max, &count, &snapshot->obsolete_done);
	for (size_t i = 0; status == STATUS_OK && i < count; i++) {
		bool previous_deleted;

		status = is_deletion(snapshot, passed[i].previous, &previous_deleted);
		if (status == STATUS_OK)
			status = drop_for(snapshot, &passed[i], previous_deleted, put, arg);
		snapshot->at_id = passed[i].id;
	}
	free(passed);
	return status;
}

/* From where versions may have become obsolete since the tables' marker. */
static enum status_code begin_obsolete(struct snapshot *snapshot)
{
	const Pb__Marker *since = snapshot->since;

	snapshot->written = true;
	snapshot->at_id = 0;
	snapshot->obsolete_done =
		snapshot->marker->compact_revision <= 0 ||
		(since != NULL && since->compact_revision == snapshot->marker->compact_revision);
	if (snapshot->obsolete_done || since == NULL || since->compact_revision <= 0)
		return STATUS_OK;
	return view_last_id(snapshot->view, since->compact_revision - 1, &snapshot->at_id);
}

static enum status_code put_new(struct snapshot *snapshot, size_t max, snapshot_put_fn *put, void *arg)
{
	size_t count;
	enum status_code status = put_versions(snapshot, snapshot->at_id, snapshot->marker->last_id, max,
	                                       false, put, arg, &count, &snapshot->at_id);

	return status == STATUS_OK && count < max ? begin_obsolete(snapshot) : status;
}

enum status_code snapshot_step(struct snapshot *snapshot, size_t max, snapshot_put_fn *put, void *arg,
                               bool *done)
{
	enum status_code status;

	*done = false;
	if (snapshot->lease_at < snapshot->lease_count) {
		status = put_leases(snapshot, max, put, arg);
	} else if (!snapshot->written || !snapshot->obsolete_done) {
		status = view_refresh(snapshot->view);
		if (status == STATUS_OK)
			status = !snapshot->written ? put_new(snapshot, max, put, arg)
			                            : drop_obsolete(snapshot, max, put, arg);
		view_rest(snapshot->view);
	} else {
		snapshot->marker->kv_rows = snapshot->kv.rows;
		snapshot->marker->kv_sum = snapshot->kv.sum;
		*done = true;
		return STATUS_OK;
	}
	return status;
}
