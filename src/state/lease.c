/* SPDX-License-Identifier: Apache-2.0 */
#include "state/lease.h"

#include <stdlib.h>

#include "state/quota.h"
#include "state/renewals.h"
#include "state/write.h"

enum { NOTES_FIRST = 64 };

static void read_row(sqlite3_stmt *stmt, struct lease_row *row)
{
	*row = (struct lease_row){
		.id = sqlite3_column_int64(stmt, 0),
		.ttl_sec = sqlite3_column_int64(stmt, 1),
		.remaining_sec = sqlite3_column_int64(stmt, 2),
		.renewal = sqlite3_column_int64(stmt, 3),
	};
}

/* The lease as it is now, renewals that are not written yet included. */
static enum status_code find_lease(struct store *st, int64_t id, bool *found, struct lease_row *row)
{
	sqlite3_stmt *stmt = st->view.stmts[SQL_LEASE];
	int code;

	sqlite3_bind_int64(stmt, 1, id);
	code = sqlite3_step(stmt);
	*found = code == SQLITE_ROW;
	if (*found) {
		read_row(stmt, row);
		renewals_find(st->renewals, id, &row->renewal);
	}
	sqlite3_reset(stmt);
	return code == SQLITE_ROW || code == SQLITE_DONE ? STATUS_OK : view_failed(&st->view, code);
}

static enum status_code add_row(struct store *st, int64_t id, int64_t ttl_sec, int64_t renewal)
{
	sqlite3_stmt *stmt = st->view.stmts[SQL_ADD_LEASE];

	sqlite3_bind_int64(stmt, 1, id);
	sqlite3_bind_int64(stmt, 2, ttl_sec);
	sqlite3_bind_int64(stmt, 3, renewal);
	return view_run(&st->view, SQL_ADD_LEASE);
}

/* Writes a renewal that cannot stay in memory. */
static enum status_code write_renewal(struct store *st, int64_t id, int64_t offset)
{
	sqlite3_stmt *stmt = st->view.stmts[SQL_RENEW_LEASE];

	renewals_drop(st->renewals, id);
	sqlite3_bind_int64(stmt, 1, id);
	sqlite3_bind_int64(stmt, 2, offset);
	return view_run(&st->view, SQL_RENEW_LEASE);
}

static enum status_code write_remaining(struct store *st, const struct lease_row *row,
                                        int64_t remaining_sec)
{
	sqlite3_stmt *stmt = st->view.stmts[SQL_SET_REMAINING];

	renewals_drop(st->renewals, row->id);
	sqlite3_bind_int64(stmt, 1, row->id);
	sqlite3_bind_int64(stmt, 2, row->renewal);
	sqlite3_bind_int64(stmt, 3, remaining_sec);
	return view_run(&st->view, SQL_SET_REMAINING);
}

/* Chains the beginning or the end of a lease into the state's hash. When it was
 * renewed is not a part of it: a log that was truncated gives other offsets. */
static void mix(struct store *st, enum lease_deed deed, int64_t id, int64_t ttl_sec)
{
	int64_t fields[] = {deed, id, ttl_sec};

	store_mix(st, fields, sizeof fields);
}

/* Tells who times leases. */
static enum status_code note(struct store *st, enum lease_deed deed, int64_t id, int64_t ttl_sec,
                             int64_t renewal)
{
	if (st->lease_note_count == st->lease_note_size) {
		size_t size = st->lease_note_size == 0 ? NOTES_FIRST : st->lease_note_size * 2;
		struct lease_note *notes = realloc(st->lease_notes, size * sizeof *notes);

		if (notes == NULL)
			return STATUS_NO_MEMORY;
		st->lease_notes = notes;
		st->lease_note_size = size;
	}
	st->lease_notes[st->lease_note_count++] =
		(struct lease_note){.deed = deed, .id = id, .ttl_sec = ttl_sec, .renewal = renewal};
	return STATUS_OK;
}

static Pb__LeaseGrantResponse *make_granted(const struct store *st, int64_t id, int64_t ttl_sec,
                                            struct arena *arena)
{
	Pb__LeaseGrantResponse *response = arena_alloc(arena, sizeof *response);

	if (response == NULL)
		return NULL;
	pb__lease_grant_response__init(response);
	response->header = view_header(store_revision(st), arena);
	response->id = id;
	response->ttl = ttl_sec;
	return response->header != NULL ? response : NULL;
}

enum status_code lease_apply_grant(struct store *st, const Pb__LeaseGrantRequest *request, int64_t offset,
                                   struct arena *arena, Pb__LeaseGrantResponse **response)
{
	int64_t ttl_sec = request->ttl < LEASE_MIN_TTL_SEC ? LEASE_MIN_TTL_SEC : request->ttl;
	struct lease_row row;
	enum status_code status;
	bool found;

	if (ttl_sec > LEASE_MAX_TTL_SEC)
		return STATUS_LEASE_TTL_TOO_LARGE;
	status = find_lease(st, request->id, &found, &row);
	if (status != STATUS_OK)
		return status;
	if (found)
		return STATUS_LEASE_EXISTS;
	*response = make_granted(st, request->id, ttl_sec, arena);
	if (*response == NULL)
		return STATUS_NO_MEMORY;
	status = add_row(st, request->id, ttl_sec, offset);
	if (status != STATUS_OK)
		return status;
	mix(st, LEASE_GRANTED, request->id, ttl_sec);
	st->view.state.logical_bytes += QUOTA_LEASE_BYTES;
	return note(st, LEASE_GRANTED, request->id, ttl_sec, offset);
}

/* The tables may have a row of it, which the next checkpoint has to remove. */
static enum status_code note_gone(struct store *st, int64_t id)
{
	sqlite3_stmt *stmt = st->view.stmts[SQL_ADD_GONE_LEASE];

	if (!st->shared)
		return STATUS_OK;
	sqlite3_bind_int64(stmt, 1, id);
	sqlite3_bind_int64(stmt, 2, st->view.state.applied_offset + 1);
	return view_run(&st->view, SQL_ADD_GONE_LEASE);
}

/* Deletes the keys first: without its row they could not be attached. */
static enum status_code end_lease(struct store *st, int64_t id, struct arena *arena)
{
	enum status_code status = write_delete_attached(st, id, arena);

	if (status != STATUS_OK)
		return status;
	sqlite3_bind_int64(st->view.stmts[SQL_DROP_LEASE], 1, id);
	status = view_run(&st->view, SQL_DROP_LEASE);
	if (status != STATUS_OK)
		return status;
	renewals_drop(st->renewals, id);
	status = note_gone(st, id);
	if (status != STATUS_OK)
		return status;
	mix(st, LEASE_GONE, id, 0);
	st->view.state.logical_bytes -= QUOTA_LEASE_BYTES;
	return note(st, LEASE_GONE, id, 0, 0);
}

enum status_code lease_apply_revoke(struct store *st, const Pb__LeaseRevokeRequest *request,
                                    struct arena *arena, Pb__LeaseRevokeResponse **out)
{
	Pb__LeaseRevokeResponse *response = arena_alloc(arena, sizeof *response);
	struct lease_row row;
	enum status_code status;
	bool found;

	if (response == NULL)
		return STATUS_NO_MEMORY;
	status = find_lease(st, request->id, &found, &row);
	if (status == STATUS_OK && !found)
		status = STATUS_LEASE_NOT_FOUND;
	if (status == STATUS_OK)
		status = end_lease(st, request->id, arena);
	if (status != STATUS_OK)
		return status;
	pb__lease_revoke_response__init(response);
	response->header = view_header(store_revision(st), arena);
	*out = response;
	return response->header != NULL ? STATUS_OK : STATUS_NO_MEMORY;
}

enum status_code lease_apply_expire(struct store *st, const Pb__LeaseExpire *request, struct arena *arena)
{
	enum status_code status = STATUS_OK;

	if (request->n_renewals != request->n_ids)
		return STATUS_BAD_RECORD;
	for (size_t i = 0; status == STATUS_OK && i < request->n_ids; i++) {
		struct lease_row row;
		bool found;

		status = find_lease(st, request->ids[i], &found, &row);
		if (status != STATUS_OK || !found || row.renewal != request->renewals[i])
			continue;
		status = end_lease(st, row.id, arena);
		store_next_revision(st);
	}
	return status;
}

static enum status_code renew(struct store *st, const struct lease_row *row, int64_t offset)
{
	enum status_code status = STATUS_OK;

	if (row->remaining_sec != row->ttl_sec || !renewals_set(st->renewals, row->id, offset))
		status = write_renewal(st, row->id, offset);
	if (status == STATUS_OK)
		status = note(st, LEASE_RENEWED, row->id, row->ttl_sec, offset);
	return status;
}

enum status_code lease_apply_renew(struct store *st, const Pb__LeaseRenew *request, int64_t offset,
                                   struct arena *arena, Pb__LeaseRenewed **out)
{
	Pb__LeaseRenewed *response = arena_alloc(arena, sizeof *response);
	enum status_code status = STATUS_OK;

	if (response == NULL)
		return STATUS_NO_MEMORY;
	pb__lease_renewed__init(response);
	response->ttls = arena_calloc(arena, request->n_ids, sizeof *response->ttls);
	if (response->ttls == NULL)
		return STATUS_NO_MEMORY;
	response->n_ttls = request->n_ids;
	for (size_t i = 0; status == STATUS_OK && i < request->n_ids; i++) {
		struct lease_row row;
		bool found;

		status = find_lease(st, request->ids[i], &found, &row);
		if (status != STATUS_OK || !found)
			continue;
		response->ttls[i] = row.ttl_sec;
		status = renew(st, &row, offset);
	}
	*out = response;
	return status;
}

enum status_code lease_apply_checkpoint(struct store *st, const Pb__LeaseCheckpointed *request)
{
	enum status_code status = STATUS_OK;

	if (request->n_renewals != request->n_ids || request->n_remaining != request->n_ids)
		return STATUS_BAD_RECORD;
	for (size_t i = 0; status == STATUS_OK && i < request->n_ids; i++) {
		struct lease_row row;
		bool found;

		status = find_lease(st, request->ids[i], &found, &row);
		/* A rest of all its time says nothing. */
		if (status == STATUS_OK && found && row.renewal == request->renewals[i] &&
		    request->remaining[i] < row.ttl_sec)
			status = write_remaining(st, &row, request->remaining[i]);
	}
	return status;
}

enum status_code lease_read_keys(struct view *view, int64_t id, struct arena *arena, size_t *count,
                                 ProtobufCBinaryData **keys)
{
	sqlite3_stmt *stmt = view->stmts[SQL_ATTACHED];
	enum status_code status = STATUS_OK;
	int code = SQLITE_DONE;

	*count = 0;
	*keys = NULL;
	sqlite3_bind_int64(stmt, 1, id);
	while (status == STATUS_OK && (code = sqlite3_step(stmt)) == SQLITE_ROW) {
		size_t len = (size_t)sqlite3_column_bytes(stmt, 0);
		uint8_t *key = arena_copy(arena, sqlite3_column_blob(stmt, 0), len);

		*keys = arena_grow(arena, *keys, *count, sizeof **keys);
		if (key == NULL || *keys == NULL)
			status = STATUS_NO_MEMORY;
		else
			(*keys)[(*count)++] = (ProtobufCBinaryData){.len = len, .data = key};
	}
	sqlite3_reset(stmt);
	if (status == STATUS_OK && code != SQLITE_DONE)
		status = view_failed(view, code);
	return status;
}

enum status_code lease_read_all(struct view *view, lease_row_fn *tell, void *arg)
{
	sqlite3_stmt *stmt = view->stmts[SQL_LEASES];
	enum status_code status = STATUS_OK;
	int code = SQLITE_DONE;

	while (status == STATUS_OK && (code = sqlite3_step(stmt)) == SQLITE_ROW) {
		struct lease_row row;

		read_row(stmt, &row);
		status = tell(arg, &row);
	}
	sqlite3_reset(stmt);
	if (status == STATUS_OK && code != SQLITE_DONE)
		status = view_failed(view, code);
	return status;
}
