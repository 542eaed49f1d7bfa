/* SPDX-License-Identifier: Apache-2.0 */
#include "state/lease.h"

#include <string.h>

#include "lib/fixture.h"
#include "lib/test.h"
#include "state/quota.h"
#include "state/renewals.h"

static enum status_code try_grant(struct fixture *fx, int64_t id, int64_t ttl_sec)
{
	return fixture_apply(fx, &make_grant(&fx->arena, id, ttl_sec)->base).status;
}

static const Pb__LeaseGrantResponse *grant(struct fixture *fx, int64_t id)
{
	return fixture_run(fx, &make_grant(&fx->arena, id, 60)->base);
}

static enum status_code try_revoke(struct fixture *fx, int64_t id)
{
	return fixture_apply(fx, &make_revoke(&fx->arena, id)->base).status;
}

static enum status_code try_put(struct fixture *fx, const char *key, int64_t lease)
{
	Pb__PutRequest *request = make_put(&fx->arena, key, "1");

	request->lease = lease;
	return fixture_apply(fx, &request->base).status;
}

static void attach(struct fixture *fx, const char *key, int64_t lease)
{
	ck_assert_int_eq(try_put(fx, key, lease), STATUS_OK);
}

/* The time to live that the renewal gives: 0 when there is no such lease. */
static int64_t renew(struct fixture *fx, int64_t id)
{
	const Pb__LeaseRenewed *response = fixture_run(fx, &make_renew(&fx->arena, &id, 1)->base);

	ck_assert_uint_eq(response->n_ttls, 1);
	return response->ttls[0];
}

static struct applied expire(struct fixture *fx, int64_t id, int64_t renewal)
{
	return fixture_apply(fx, &make_expire(&fx->arena, &id, &renewal, 1)->base);
}

static void checkpoint(struct fixture *fx, int64_t id, int64_t renewal, int64_t remaining_sec)
{
	struct applied applied =
		fixture_apply(fx, &make_checkpoint(&fx->arena, &id, &renewal, &remaining_sec, 1)->base);

	ck_assert_int_eq(applied.status, STATUS_OK);
}

static enum status_code keep_row(void *arg, const struct lease_row *row)
{
	struct lease_row *wanted = arg;

	if (row->id == wanted->id)
		*wanted = *row;
	return STATUS_OK;
}

/* The lease as the database has it; all zero but for the id when it has not. */
static struct lease_row stored(struct fixture *fx, int64_t id)
{
	struct lease_row row = {.id = id};

	ck_assert_int_eq(view_refresh(fixture_reader(fx)), STATUS_OK);
	ck_assert_int_eq(lease_read_all(fixture_reader(fx), keep_row, &row), STATUS_OK);
	view_rest(fixture_reader(fx));
	return row;
}

/* "a b": the keys that would fall with the lease. */
static const char *attached(struct fixture *fx, int64_t id)
{
	const char *text = "";
	ProtobufCBinaryData *keys;
	size_t count;

	ck_assert_int_eq(view_refresh(fixture_reader(fx)), STATUS_OK);
	ck_assert_int_eq(lease_read_keys(fixture_reader(fx), id, &fx->arena, &count, &keys), STATUS_OK);
	view_rest(fixture_reader(fx));
	for (size_t i = 0; i < count; i++)
		text = arena_printf(&fx->arena, "%s%s%.*s", text, i > 0 ? " " : "", (int)keys[i].len,
		                    (const char *)keys[i].data);
	return text;
}

static void raise_alarm(struct fixture *fx, Pb__AlarmType kind)
{
	fixture_run(fx, &make_alarm(&fx->arena, PB__ALARM_REQUEST__ALARM_ACTION__ACTIVATE, kind)->base);
}

START_TEST(a_grant_gives_the_lease_that_was_asked_for)
{
	struct fixture fx;
	const Pb__LeaseGrantResponse *response;
	struct lease_row row;

	fixture_open(&fx);
	fixture_put(&fx, "a", "1");
	response = grant(&fx, -7);
	ck_assert_int_eq(response->id, -7);
	ck_assert_int_eq(response->ttl, 60);
	ck_assert_int_eq(response->header->revision, 2);
	row = stored(&fx, -7);
	ck_assert_int_eq(row.ttl_sec, 60);
	ck_assert_int_eq(row.remaining_sec, 60);
	ck_assert_int_eq(row.renewal, fx.offset);
	ck_assert_int_eq(fx.st->saved.revision, 2);
	fixture_close(&fx);
}
END_TEST

static const struct {
	int64_t asked, given; /* 0: refused */
} TTLS[] = {
	{INT64_MIN, 2},           {-1, 2},         {0, 2},         {1, 2}, {2, 2}, {3, 3}, {60, 60},
	{9000000000, 9000000000}, {9000000001, 0}, {INT64_MAX, 0},
};

START_TEST(a_time_to_live_is_at_least_two_seconds_and_not_too_long)
{
	struct fixture fx;

	fixture_open(&fx);
	ck_assert_int_eq(try_grant(&fx, 1, TTLS[_i].asked),
	                 TTLS[_i].given != 0 ? STATUS_OK : STATUS_LEASE_TTL_TOO_LARGE);
	ck_assert_int_eq(stored(&fx, 1).ttl_sec, TTLS[_i].given);
	fixture_close(&fx);
}
END_TEST

START_TEST(an_id_is_granted_once_until_it_is_free_again)
{
	struct fixture fx;

	fixture_open(&fx);
	ck_assert_int_eq(try_grant(&fx, 1, 60), STATUS_OK);
	ck_assert_int_eq(try_grant(&fx, 1, 5), STATUS_LEASE_EXISTS);
	ck_assert_int_eq(try_grant(&fx, 1, INT64_MAX), STATUS_LEASE_TTL_TOO_LARGE);
	ck_assert_int_eq(stored(&fx, 1).ttl_sec, 60);
	ck_assert_int_eq(try_revoke(&fx, 1), STATUS_OK);
	ck_assert_int_eq(try_revoke(&fx, 1), STATUS_LEASE_NOT_FOUND);
	ck_assert_int_eq(try_grant(&fx, 1, 5), STATUS_OK);
	ck_assert_int_eq(stored(&fx, 1).ttl_sec, 5);
	fixture_close(&fx);
}
END_TEST

START_TEST(keys_follow_the_lease_of_their_last_put)
{
	struct fixture fx;
	Pb__PutRequest *request;

	fixture_open(&fx);
	grant(&fx, 1);
	grant(&fx, 2);
	ck_assert_int_eq(try_put(&fx, "x", 3), STATUS_LEASE_NOT_FOUND);
	attach(&fx, "c", 1);
	attach(&fx, "a", 1);
	attach(&fx, "b", 1);
	ck_assert_str_eq(attached(&fx, 1), "a b c");
	attach(&fx, "b", 2);
	fixture_put(&fx, "c", "1");
	ck_assert_str_eq(attached(&fx, 1), "a");
	ck_assert_str_eq(attached(&fx, 2), "b");
	request = make_put(&fx.arena, "b", "2");
	request->ignore_lease = true;
	fixture_run(&fx, &request->base);
	fixture_delete(&fx, "a", NULL);
	ck_assert_str_eq(attached(&fx, 1), "");
	ck_assert_str_eq(attached(&fx, 2), "b");
	ck_assert_str_eq(attached(&fx, 0), "");
	fixture_close(&fx);
}
END_TEST

START_TEST(a_transaction_that_names_an_unknown_lease_changes_nothing)
{
	struct fixture fx;
	Pb__PutRequest *request;
	Pb__TxnRequest *txn;

	fixture_open(&fx);
	grant(&fx, 1);
	txn = make_txn(&fx.arena);
	request = make_put(&fx.arena, "a", "1");
	request->lease = 1;
	txn_add_success(&fx.arena, txn, &request->base);
	fixture_run(&fx, &txn->base);
	request = make_put(&fx.arena, "b", "1");
	request->lease = 2;
	txn_add_success(&fx.arena, txn, &request->base);
	ck_assert_int_eq(fixture_apply(&fx, &txn->base).status, STATUS_LEASE_NOT_FOUND);
	ck_assert_int_eq(fx.st->saved.revision, 2);
	ck_assert_str_eq(attached(&fx, 1), "a");
	fixture_close(&fx);
}
END_TEST

START_TEST(a_revoked_lease_deletes_its_keys_in_byte_order_and_one_revision)
{
	struct fixture fx;
	struct applied applied;
	struct event_batch *news;

	fixture_open(&fx);
	grant(&fx, 1);
	attach(&fx, "b", 1);
	attach(&fx, "c", 1);
	attach(&fx, "a", 1);
	fixture_put(&fx, "other", "1");
	fx.st->keeps_news = true;
	applied = fixture_apply(&fx, &make_revoke(&fx.arena, 1)->base);
	ck_assert_int_eq(applied.status, STATUS_OK);
	ck_assert_int_eq(applied.changes, 3);
	ck_assert_int_eq(((Pb__LeaseRevokeResponse *)applied.response)->header->revision, 6);
	news = store_take_news(fx.st);
	ck_assert_uint_eq(news->count, 3);
	for (size_t i = 0; i < 3; i++) {
		ck_assert_int_eq(news->events[i]->pb.type, PB__EVENT__EVENT_TYPE__DELETE);
		ck_assert_int_eq(news->events[i]->kv.key.data[0], "abc"[i]);
		ck_assert_int_eq(event_revision(news->events[i]), 6);
	}
	event_batch_release(news);
	ck_assert_int_eq(fx.st->saved.keys, 1);
	ck_assert_int_eq(stored(&fx, 1).ttl_sec, 0);
	fixture_close(&fx);
}
END_TEST

START_TEST(a_lease_without_keys_ends_without_a_revision)
{
	struct fixture fx;
	const Pb__LeaseRevokeResponse *response;

	fixture_open(&fx);
	grant(&fx, 1);
	attach(&fx, "a", 1);
	fixture_delete(&fx, "a", NULL);
	response = fixture_run(&fx, &make_revoke(&fx.arena, 1)->base);
	ck_assert_int_eq(response->header->revision, 3);
	grant(&fx, 1);
	ck_assert_int_eq(expire(&fx, 1, fx.offset).changes, 0);
	ck_assert_int_eq(stored(&fx, 1).ttl_sec, 0);
	ck_assert_int_eq(fx.st->saved.revision, 3);
	fixture_close(&fx);
}
END_TEST

START_TEST(each_lease_that_expires_makes_a_revision_of_its_own)
{
	struct fixture fx;
	int64_t ids[] = {2, 9, 3, 1, 2}, renewals[] = {3, 1, 4, 2, 3};
	struct applied applied;

	fixture_open(&fx);
	for (int64_t id = 1; id <= 3; id++)
		grant(&fx, id);
	attach(&fx, "a", 1);
	attach(&fx, "b", 1);
	attach(&fx, "c", 2);
	ck_assert_int_eq(fx.st->saved.revision, 4);
	applied = fixture_apply(&fx, &make_expire(&fx.arena, ids, renewals, 5)->base);
	ck_assert_int_eq(applied.status, STATUS_OK);
	ck_assert_ptr_null(applied.response);
	ck_assert_int_eq(applied.changes, 3);
	ck_assert_int_eq(applied.revision, 6);
	ck_assert_ptr_nonnull(fixture_get(&fx, "a", 5));
	ck_assert_ptr_null(fixture_get(&fx, "c", 5));
	ck_assert_ptr_null(fixture_get(&fx, "a", 6));
	ck_assert_int_eq(fx.st->saved.keys, 0);
	fixture_close(&fx);
}
END_TEST

START_TEST(an_expiry_that_did_not_know_of_the_last_renewal_does_nothing)
{
	struct fixture fx;
	int64_t granted, renewed;

	fixture_open(&fx);
	grant(&fx, 1);
	granted = fx.offset;
	attach(&fx, "a", 1);
	ck_assert_int_eq(renew(&fx, 1), 60);
	renewed = fx.offset;
	ck_assert_int_eq(expire(&fx, 1, granted).status, STATUS_OK);
	ck_assert_ptr_nonnull(fixture_get(&fx, "a", 0));
	fixture_put(&fx, "b", "1");
	ck_assert_int_eq(expire(&fx, 1, granted).changes, 0);
	ck_assert_int_eq(expire(&fx, 1, renewed).changes, 1);
	ck_assert_int_eq(renew(&fx, 1), 0);
	fixture_close(&fx);
}
END_TEST

START_TEST(a_batch_of_renewals_is_not_written)
{
	struct fixture fx;
	int64_t granted, written;
	uint64_t commits;

	fixture_open(&fx);
	grant(&fx, 1);
	granted = fx.offset;
	written = fx.st->written_offset;
	commits = fx.st->commits;
	ck_assert_int_eq(renew(&fx, 1), 60);
	ck_assert_int_eq(renew(&fx, 2), 0);
	ck_assert_int_eq(fx.st->saved.applied_offset, fx.offset);
	ck_assert_int_eq(fx.st->written_offset, written);
	ck_assert_uint_eq(fx.st->commits, commits);
	ck_assert_int_eq(stored(&fx, 1).renewal, granted);
	fixture_close(&fx);
}
END_TEST

START_TEST(renewals_are_written_with_the_next_change)
{
	struct fixture fx;
	int64_t renewed;

	fixture_open(&fx);
	grant(&fx, 1);
	renew(&fx, 1);
	renew(&fx, 1);
	renewed = fx.offset;
	fixture_put(&fx, "a", "1");
	ck_assert_int_eq(stored(&fx, 1).renewal, renewed);
	ck_assert_int_eq(fx.st->written_offset, fx.offset);
	ck_assert_uint_eq(fx.st->renewals->now.count, 0);
	fixture_close(&fx);
}
END_TEST

START_TEST(renewals_are_written_when_the_store_is_closed)
{
	struct fixture fx;
	int64_t renewed;

	fixture_open(&fx);
	grant(&fx, 1);
	renew(&fx, 1);
	renewed = fx.offset;
	fixture_reopen(&fx);
	ck_assert_int_eq(fx.st->saved.applied_offset, renewed);
	ck_assert_int_eq(stored(&fx, 1).renewal, renewed);
	fixture_close(&fx);
}
END_TEST

START_TEST(more_renewals_than_there_is_room_for_are_written)
{
	enum { LEASES = RENEWALS_MAX + 10 };
	static int64_t ids[LEASES];
	struct fixture fx;

	fixture_open(&fx);
	for (int64_t i = 0; i < LEASES; i++) {
		ids[i] = LEASES - i;
		grant(&fx, ids[i]);
	}
	fixture_run(&fx, &make_renew(&fx.arena, ids, RENEWALS_MAX)->base);
	ck_assert_uint_eq(fx.st->renewals->now.count, RENEWALS_MAX);
	ck_assert_int_lt(stored(&fx, LEASES).renewal, fx.offset);
	fixture_run(&fx, &make_renew(&fx.arena, ids, LEASES)->base);
	ck_assert_uint_eq(fx.st->renewals->now.count, 0);
	for (int64_t i = 0; i < LEASES; i++)
		ck_assert_int_eq(stored(&fx, ids[i]).renewal, fx.offset);
	fixture_close(&fx);
}
END_TEST

START_TEST(a_lease_granted_anew_has_no_renewal_of_the_one_before)
{
	struct fixture fx;
	const ProtobufCMessage *requests[3];
	struct applied results[3];
	int64_t id = 1;

	fixture_open(&fx);
	grant(&fx, 1);
	requests[0] = &make_renew(&fx.arena, &id, 1)->base;
	requests[1] = &make_revoke(&fx.arena, 1)->base;
	requests[2] = &make_grant(&fx.arena, 1, 60)->base;
	ck_assert_int_eq(fixture_apply_batch(&fx, requests, 3, results), STATUS_OK);
	ck_assert_int_eq(stored(&fx, 1).renewal, fx.offset);
	fixture_close(&fx);
}
END_TEST

START_TEST(a_checkpoint_records_what_is_left)
{
	struct fixture fx;
	int64_t granted, renewed;

	fixture_open(&fx);
	grant(&fx, 1);
	granted = fx.offset;
	checkpoint(&fx, 1, granted, 50);
	ck_assert_int_eq(stored(&fx, 1).remaining_sec, 50);
	/* A crash would take the rest of its time, were this not written. */
	renew(&fx, 1);
	renewed = fx.offset;
	ck_assert_int_eq(stored(&fx, 1).remaining_sec, 60);
	ck_assert_int_eq(stored(&fx, 1).renewal, renewed);
	checkpoint(&fx, 1, granted, 40);
	checkpoint(&fx, 2, granted, 40);
	ck_assert_int_eq(stored(&fx, 1).remaining_sec, 60);
	renew(&fx, 1);
	checkpoint(&fx, 1, fx.offset, 30);
	ck_assert_int_eq(stored(&fx, 1).remaining_sec, 30);
	ck_assert_int_eq(stored(&fx, 1).renewal, fx.offset - 1);
	fixture_close(&fx);
}
END_TEST

START_TEST(lists_of_different_lengths_are_refused)
{
	struct fixture fx;
	int64_t ids[] = {1, 2}, renewals[] = {2, 3}, remaining[] = {1, 1};
	Pb__LeaseExpire *expiry;
	Pb__LeaseCheckpointed *request;

	fixture_open(&fx);
	grant(&fx, 1);
	expiry = make_expire(&fx.arena, ids, renewals, 2);
	expiry->n_renewals = 1;
	ck_assert_int_eq(fixture_apply(&fx, &expiry->base).status, STATUS_BAD_RECORD);
	request = make_checkpoint(&fx.arena, ids, renewals, remaining, 2);
	request->n_remaining = 1;
	ck_assert_int_eq(fixture_apply(&fx, &request->base).status, STATUS_BAD_RECORD);
	ck_assert_int_eq(stored(&fx, 1).remaining_sec, 60);
	fixture_close(&fx);
}
END_TEST

START_TEST(a_full_store_grants_no_lease_and_lets_others_end)
{
	struct fixture fx;

	fixture_open(&fx);
	for (int64_t id = 1; id <= 3; id++)
		grant(&fx, id);
	raise_alarm(&fx, PB__ALARM_TYPE__NOSPACE);
	ck_assert_int_eq(try_grant(&fx, 4, 60), STATUS_NO_SPACE);
	ck_assert_int_eq(renew(&fx, 1), 60);
	ck_assert_int_eq(try_revoke(&fx, 2), STATUS_OK);
	ck_assert_int_eq(expire(&fx, 1, fx.offset - 1).status, STATUS_OK);
	ck_assert_int_eq(stored(&fx, 1).ttl_sec, 0);
	fixture_close(&fx);
}
END_TEST

START_TEST(a_corrupt_store_keeps_the_leases_that_it_has)
{
	struct fixture fx;

	fixture_open(&fx);
	grant(&fx, 1);
	raise_alarm(&fx, PB__ALARM_TYPE__CORRUPT);
	ck_assert_int_eq(try_grant(&fx, 2, 60), STATUS_CORRUPT);
	ck_assert_int_eq(try_revoke(&fx, 1), STATUS_CORRUPT);
	ck_assert_int_eq(expire(&fx, 1, 2).status, STATUS_CORRUPT);
	ck_assert_int_eq(renew(&fx, 1), 60);
	checkpoint(&fx, 1, fx.offset, 9);
	ck_assert_int_eq(stored(&fx, 1).remaining_sec, 9);
	fixture_close(&fx);
}
END_TEST

static void check_note(const struct lease_note *note, enum lease_deed deed, int64_t id, int64_t ttl_sec,
                       int64_t renewal)
{
	ck_assert_int_eq(note->deed, deed);
	ck_assert_int_eq(note->id, id);
	ck_assert_int_eq(note->ttl_sec, ttl_sec);
	ck_assert_int_eq(note->renewal, renewal);
}

START_TEST(who_times_leases_is_told_of_each_deed)
{
	struct fixture fx;
	int64_t ids[] = {1, 3, 1};
	const ProtobufCMessage *requests[4];
	struct applied results[4];

	fixture_open(&fx);
	requests[0] = &make_grant(&fx.arena, 1, 60)->base;
	requests[1] = &make_grant(&fx.arena, 1, 60)->base;
	requests[2] = &make_renew(&fx.arena, ids, 3)->base;
	requests[3] = &make_revoke(&fx.arena, 1)->base;
	ck_assert_int_eq(fixture_apply_batch(&fx, requests, 4, results), STATUS_OK);
	ck_assert_int_eq(results[1].status, STATUS_LEASE_EXISTS);
	ck_assert_uint_eq(fx.st->lease_note_count, 4);
	check_note(&fx.st->lease_notes[0], LEASE_GRANTED, 1, 60, 2);
	check_note(&fx.st->lease_notes[1], LEASE_RENEWED, 1, 60, 4);
	check_note(&fx.st->lease_notes[2], LEASE_RENEWED, 1, 60, 4);
	check_note(&fx.st->lease_notes[3], LEASE_GONE, 1, 0, 0);
	fixture_put(&fx, "a", "1");
	ck_assert_uint_eq(fx.st->lease_note_count, 0);
	fixture_close(&fx);
}
END_TEST

START_TEST(a_roll_back_takes_back_what_was_done_to_leases)
{
	struct fixture fx;
	int64_t id = 1, granted;
	struct applied applied;

	fixture_open(&fx);
	grant(&fx, 1);
	granted = fx.offset;
	ck_assert_int_eq(store_begin(fx.st), STATUS_OK);
	fixture_apply_record(&fx, make_record(&fx.arena, &make_grant(&fx.arena, 2, 60)->base), false,
	                     &applied);
	fixture_apply_record(&fx, make_record(&fx.arena, &make_renew(&fx.arena, &id, 1)->base), false,
	                     &applied);
	ck_assert_int_eq(applied.status, STATUS_OK);
	store_rollback(fx.st);
	ck_assert_uint_eq(fx.st->lease_note_count, 0);
	ck_assert_uint_eq(fx.st->renewals->now.count, 0);
	ck_assert_int_eq(stored(&fx, 2).ttl_sec, 0);
	ck_assert_int_eq(expire(&fx, 1, granted).status, STATUS_OK);
	ck_assert_int_eq(stored(&fx, 1).ttl_sec, 0);
	fixture_close(&fx);
}
END_TEST

/* A refusal after changes; SQLite's own failures cannot be had at will. */
static void undo_record(struct fixture *fx)
{
	ck_assert(store_record_changed(fx->st));
	ck_assert_int_eq(store_record_end(fx->st, true, true), STATUS_OK);
}

START_TEST(an_undone_record_takes_back_what_it_did_to_leases)
{
	struct fixture fx;
	int64_t ids[] = {1, 2}, renewals[] = {2, 3};
	Pb__LeaseRenewed *response;
	struct store_state before;

	fixture_open(&fx);
	grant(&fx, 1);
	grant(&fx, 2);
	attach(&fx, "a", 1);
	attach(&fx, "b", 2);
	fx.st->keeps_news = true;
	ck_assert_int_eq(store_begin(fx.st), STATUS_OK);
	ck_assert_int_eq(store_record_begin(fx.st, true), STATUS_OK);
	ck_assert(!store_record_changed(fx.st));
	ck_assert_int_eq(lease_apply_renew(fx.st, make_renew(&fx.arena, ids, 2), 90, &fx.arena, &response),
	                 STATUS_OK);
	undo_record(&fx);
	before = fx.st->view.state;
	ck_assert_int_eq(store_record_begin(fx.st, true), STATUS_OK);
	ck_assert_int_eq(lease_apply_expire(fx.st, make_expire(&fx.arena, ids, renewals, 2), &fx.arena),
	                 STATUS_OK);
	ck_assert_int_eq(fx.st->view.state.revision, before.revision + 2);
	undo_record(&fx);
	ck_assert_mem_eq(&fx.st->view.state, &before, sizeof before);
	ck_assert_uint_eq(fx.st->lease_note_count, 0);
	ck_assert_int_eq(store_commit(fx.st), STATUS_OK);
	ck_assert_ptr_null(store_take_news(fx.st));
	ck_assert_str_eq(attached(&fx, 1), "a");
	ck_assert_int_eq(stored(&fx, 2).renewal, 3);
	fixture_close(&fx);
}
END_TEST

START_TEST(the_hash_knows_which_leases_there_are)
{
	struct fixture fx;
	uint64_t hash;

	fixture_open(&fx);
	hash = fx.st->saved.hash;
	grant(&fx, 1);
	ck_assert_uint_ne(fx.st->saved.hash, hash);
	hash = fx.st->saved.hash;
	renew(&fx, 1);
	checkpoint(&fx, 1, fx.offset, 9);
	ck_assert_uint_eq(fx.st->saved.hash, hash);
	try_revoke(&fx, 1);
	ck_assert_uint_ne(fx.st->saved.hash, hash);
	fixture_close(&fx);
}
END_TEST

START_TEST(a_lease_counts_towards_the_quota_while_it_is_there)
{
	struct fixture fx;

	fixture_open(&fx);
	grant(&fx, 1);
	ck_assert_int_eq(fx.st->saved.logical_bytes, QUOTA_LEASE_BYTES);
	try_revoke(&fx, 1);
	ck_assert_int_eq(fx.st->saved.logical_bytes, 0);
	fixture_close(&fx);
}
END_TEST

START_TEST(attached_keys_are_found_by_their_index)
{
	static const enum sql STATEMENTS[] = {SQL_ATTACHED, SQL_SCAN_ATTACHED};
	struct fixture fx;
	sqlite3_stmt *stmt;
	const char *sql;

	fixture_open(&fx);
	sql = arena_printf(&fx.arena, "EXPLAIN QUERY PLAN %s", schema_sql(STATEMENTS[_i]));
	ck_assert_int_eq(sqlite3_prepare_v2(fx.st->view.db, sql, -1, &stmt, NULL), SQLITE_OK);
	ck_assert_int_eq(sqlite3_step(stmt), SQLITE_ROW);
	ck_assert_ptr_nonnull(
		strstr((const char *)sqlite3_column_text(stmt, 3), "INDEX attached (lease=?)"));
	ck_assert_int_eq(sqlite3_step(stmt), SQLITE_DONE);
	sqlite3_finalize(stmt);
	fixture_close(&fx);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("lease");
	TCase *tcase = tcase_create("lease");

	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, a_grant_gives_the_lease_that_was_asked_for);
	tcase_add_loop_test(tcase, a_time_to_live_is_at_least_two_seconds_and_not_too_long, 0,
	                    (int)(sizeof TTLS / sizeof TTLS[0]));
	tcase_add_test(tcase, an_id_is_granted_once_until_it_is_free_again);
	tcase_add_test(tcase, keys_follow_the_lease_of_their_last_put);
	tcase_add_test(tcase, a_transaction_that_names_an_unknown_lease_changes_nothing);
	tcase_add_test(tcase, a_revoked_lease_deletes_its_keys_in_byte_order_and_one_revision);
	tcase_add_test(tcase, a_lease_without_keys_ends_without_a_revision);
	tcase_add_test(tcase, each_lease_that_expires_makes_a_revision_of_its_own);
	tcase_add_test(tcase, an_expiry_that_did_not_know_of_the_last_renewal_does_nothing);
	tcase_add_test(tcase, a_batch_of_renewals_is_not_written);
	tcase_add_test(tcase, renewals_are_written_with_the_next_change);
	tcase_add_test(tcase, renewals_are_written_when_the_store_is_closed);
	tcase_add_test(tcase, more_renewals_than_there_is_room_for_are_written);
	tcase_add_test(tcase, a_lease_granted_anew_has_no_renewal_of_the_one_before);
	tcase_add_test(tcase, a_checkpoint_records_what_is_left);
	tcase_add_test(tcase, lists_of_different_lengths_are_refused);
	tcase_add_test(tcase, a_full_store_grants_no_lease_and_lets_others_end);
	tcase_add_test(tcase, a_corrupt_store_keeps_the_leases_that_it_has);
	tcase_add_test(tcase, who_times_leases_is_told_of_each_deed);
	tcase_add_test(tcase, a_roll_back_takes_back_what_was_done_to_leases);
	tcase_add_test(tcase, an_undone_record_takes_back_what_it_did_to_leases);
	tcase_add_test(tcase, the_hash_knows_which_leases_there_are);
	tcase_add_test(tcase, a_lease_counts_towards_the_quota_while_it_is_there);
	tcase_add_loop_test(tcase, attached_keys_are_found_by_their_index, 0, 2);
	suite_add_tcase(suite, tcase);
	return suite;
}

int main(void)
{
	return test_run(make_suite());
}
