/* SPDX-License-Identifier: Apache-2.0 */
#include "state/cluster.h"

#include <string.h>
#include <xxhash.h>

#include "base/buf.h"
#include "state/compact.h"

uint64_t cluster_member_id(uint64_t cluster_id, const char *name)
{
	uint64_t id = XXH3_64bits_withSeed(name, strlen(name), cluster_id) >> 1;

	return id != 0 ? id : 1;
}

bool cluster_is_for_leaders(const Pb__Record *rec)
{
	switch (rec->request_case) {
	case PB__RECORD__REQUEST_LEASE_EXPIRE:
	case PB__RECORD__REQUEST_LEASE_CHECKPOINT:
	case PB__RECORD__REQUEST_COVERED:
	case PB__RECORD__REQUEST_HASH_ASK:
	case PB__RECORD__REQUEST_HASH_VERDICT:
	case PB__RECORD__REQUEST_RAISE_LEVEL:
		return true;
	default:
		return false;
	}
}

static bool is_by_leader(const struct store *st, const Pb__Record *rec)
{
	return rec->term == st->view.state.term && rec->incarnation == st->view.state.owner;
}

enum status_code cluster_admit(struct store *st, const Pb__Record *rec, int64_t offset, bool *counts)
{
	struct store_member *member = store_find_member(st, rec->member_id);
	bool is_registered = member != NULL && member->incarnation == rec->incarnation;

	*counts = false;
	if (rec->request_case == PB__RECORD__REQUEST_GENESIS) {
		*counts = st->view.state.cluster_id == 0;
		return STATUS_OK;
	}
	if (rec->cluster_id != st->view.state.cluster_id)
		return STATUS_BAD_LOG;
	if (rec->seen_offset >= offset)
		return STATUS_OK;
	if (rec->request_case == PB__RECORD__REQUEST_JOIN && !is_registered) {
		*counts = true;
		return STATUS_OK;
	}
	if (!is_registered || rec->sequence <= member->sequence)
		return STATUS_OK;
	member->sequence = rec->sequence;
	*counts = !cluster_is_for_leaders(rec) || is_by_leader(st, rec);
	return STATUS_OK;
}

static enum status_code write_member(struct store *st, const Pb__Record *rec)
{
	sqlite3_stmt *stmt = st->view.stmts[SQL_ADD_MEMBER];
	const Pb__Join *join = rec->join;
	struct buf urls;
	enum status_code status = STATUS_NO_MEMORY;

	buf_init(&urls);
	for (size_t i = 0; i < join->n_client_urls; i++) {
		if (i > 0)
			buf_append_byte(&urls, ',');
		buf_append_text(&urls, join->client_urls[i]);
	}
	sqlite3_bind_int64(stmt, 1, (int64_t)rec->member_id);
	sqlite3_bind_text(stmt, 2, join->name, -1, SQLITE_STATIC);
	sqlite3_bind_text(stmt, 3, urls.len > 0 ? (const char *)urls.data : "", (int)urls.len,
	                  SQLITE_STATIC);
	sqlite3_bind_int64(stmt, 4, (int64_t)join->number);
	sqlite3_bind_int64(stmt, 5, (int64_t)rec->incarnation);
	sqlite3_bind_int64(stmt, 6, (int64_t)rec->sequence);
	sqlite3_bind_text(stmt, 7, join->version, -1, SQLITE_STATIC);
	sqlite3_bind_int64(stmt, 8, join->level);
	if (!urls.failed)
		status = view_run(&st->view, SQL_ADD_MEMBER);
	buf_release(&urls);
	return status;
}

enum status_code cluster_apply_join(struct store *st, const Pb__Record *rec)
{
	const Pb__Join *join = rec->join;
	struct store_member *member = store_find_member(st, rec->member_id);
	uint64_t fields[] = {rec->member_id, join->number, rec->incarnation};
	enum status_code status;

	if (member != NULL && join->number <= member->number)
		return STATUS_REPLACED;
	if (member == NULL && st->member_count == STORE_MEMBERS_MAX)
		return STATUS_TOO_MANY_REQUESTS;
	status = write_member(st, rec);
	if (status != STATUS_OK)
		return status;
	if (member == NULL)
		member = &st->members[st->member_count++];
	*member = (struct store_member){
		.id = rec->member_id,
		.number = join->number,
		.incarnation = rec->incarnation,
		.sequence = rec->sequence,
		.level = join->level,
	};
	/* The row has the number of this record now: what comes after it in the same transaction must be
	 * written, even if it is the number that the incarnation before had. */
	st->written_sequences[member - st->members] = UINT64_MAX;
	store_mix(st, fields, sizeof fields);
	return STATUS_OK;
}

enum status_code cluster_apply_take_office(struct store *st, const Pb__Record *rec)
{
	struct store_state *state = &st->view.state;
	uint64_t fields[] = {rec->take_office->term, rec->incarnation};

	if (rec->take_office->term <= state->term)
		return STATUS_FENCED;
	state->term = rec->take_office->term;
	state->owner = rec->incarnation;
	state->owner_member = rec->member_id;
	store_mix(st, fields, sizeof fields);
	return STATUS_OK;
}

enum status_code cluster_apply_covered(struct store *st, const Pb__Covered *request)
{
	enum status_code status;

	if (request->offset > st->view.state.covered_offset)
		st->view.state.covered_offset = request->offset;
	sqlite3_bind_int64(st->view.stmts[SQL_FORGET_GONE_LEASES], 1, request->offset);
	status = view_run(&st->view, SQL_FORGET_GONE_LEASES);
	if (status == STATUS_OK)
		status = compact_allow_drop(st, request->compact_revision);
	return status;
}

enum status_code cluster_apply_hash_verdict(struct store *st, const Pb__Record *rec)
{
	sqlite3_stmt *stmt = st->view.stmts[SQL_ADD_ALARM];
	int64_t fields[] = {(int64_t)rec->member_id, PB__ALARM_TYPE__CORRUPT, true};
	enum status_code status;

	if (!rec->hash_verdict->undecided || st->alarm_corrupt)
		return STATUS_OK;
	sqlite3_bind_int64(stmt, 1, (int64_t)rec->member_id);
	sqlite3_bind_int(stmt, 2, PB__ALARM_TYPE__CORRUPT);
	status = view_run(&st->view, SQL_ADD_ALARM);
	if (status != STATUS_OK)
		return status;
	st->alarm_corrupt = true;
	store_mix(st, fields, sizeof fields);
	return STATUS_OK;
}

void cluster_apply_raise_level(struct store *st, const Pb__RaiseLevel *request)
{
	uint64_t level = request->level;

	if (level <= st->view.state.level)
		return;
	for (size_t i = 0; i < st->member_count; i++)
		if (st->members[i].level < level)
			return;
	st->view.state.level = level;
	store_mix(st, &level, sizeof level);
}
