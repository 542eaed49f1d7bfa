/* SPDX-License-Identifier: Apache-2.0 */
#include "state/compact.h"

#include <string.h>

#include "lib/fixture.h"
#include "lib/test.h"

static enum status_code try_compact(struct fixture *fx, int64_t revision)
{
	return fixture_apply(fx, &make_compaction(&fx->arena, revision)->base).status;
}

static enum status_code try_get(struct fixture *fx, const char *key, int64_t revision)
{
	Pb__RangeRequest *request = make_range(&fx->arena, key, NULL);
	Pb__RangeResponse *response;

	request->revision = revision;
	return fixture_try_range(fx, request, &response);
}

/* One step; what it dropped. */
static size_t step(struct fixture *fx, size_t rows)
{
	size_t dropped;
	bool done;

	ck_assert_int_eq(store_begin(fx->st), STATUS_OK);
	ck_assert_int_eq(compact_step(fx->st, rows, &dropped, &done), STATUS_OK);
	ck_assert_int_eq(store_commit(fx->st), STATUS_OK);
	return dropped;
}

START_TEST(revisions_that_cannot_be_compacted_are_refused)
{
	struct fixture fx;

	fixture_open(&fx);
	ck_assert_int_eq(try_compact(&fx, -1), STATUS_COMPACTED);
	ck_assert_int_eq(try_compact(&fx, 0), STATUS_OK);
	ck_assert_int_eq(try_compact(&fx, 0), STATUS_COMPACTED);
	ck_assert_int_eq(try_compact(&fx, 2), STATUS_FUTURE_REVISION);
	ck_assert_int_eq(try_compact(&fx, 1), STATUS_OK);
	ck_assert_int_eq(try_compact(&fx, 1), STATUS_COMPACTED);
	fixture_put(&fx, "a", "1");
	ck_assert_int_eq(try_compact(&fx, 2), STATUS_OK);
	ck_assert_int_eq(try_compact(&fx, 1), STATUS_COMPACTED);
	ck_assert_int_eq(fx.st->saved.compact_revision, 2);
	fixture_close(&fx);
}
END_TEST

START_TEST(what_was_superseded_cannot_be_read_at_once)
{
	struct fixture fx;

	fixture_open(&fx);
	for (int i = 0; i < 5; i++)
		fixture_put(&fx, "a", arena_printf(&fx.arena, "%d", i));
	fixture_compact(&fx, 4);
	ck_assert_int_eq(try_get(&fx, "a", 3), STATUS_COMPACTED);
	ck_assert_str_eq(fixture_get(&fx, "a", 4), "2");
	ck_assert_str_eq(fixture_get(&fx, "a", 5), "3");
	ck_assert_str_eq(fixture_get(&fx, "a", 0), "4");
	ck_assert_int_eq(fx.st->saved.revision, 6);
	fixture_close(&fx);
}
END_TEST

START_TEST(the_rows_go_in_steps_and_no_read_notices)
{
	struct fixture fx;
	uint64_t content;
	size_t dropped = 0;

	fixture_open(&fx);
	for (int i = 0; i < 100; i++)
		fixture_put(&fx, i % 3 == 0 ? "a" : "b", arena_printf(&fx.arena, "%d", i));
	fixture_delete(&fx, "b", NULL);
	fixture_put(&fx, "c", "1");
	fixture_compact(&fx, 95);
	content = fixture_content_hash(&fx);
	ck_assert(compact_is_due(fx.st));
	while (compact_is_due(fx.st)) {
		size_t now = step(&fx, 7);

		ck_assert_uint_le(now, 14);
		dropped += now;
		ck_assert_uint_eq(fixture_content_hash(&fx), content);
	}
	/* Of the 94 puts up to revision 95 one each of 'a' and 'b' is still seen. */
	ck_assert_uint_eq(dropped, 92);
	fixture_close(&fx);
}
END_TEST

START_TEST(what_is_left_is_counted_as_live_data)
{
	struct fixture fx;

	fixture_open(&fx);
	for (int i = 0; i < 50; i++)
		fixture_put(&fx, "key", "some value");
	fixture_put(&fx, "gone", "value");
	fixture_delete(&fx, "gone", NULL);
	fixture_put(&fx, "last", "");
	fixture_compact(&fx, fx.st->saved.revision);
	fixture_compact_rows(&fx, 10);
	ck_assert_int_eq(fx.st->saved.logical_bytes, version_cost(3, 10) + version_cost(4, 0));
	ck_assert_int_eq(fx.st->saved.keys, 2);
	fixture_delete(&fx, "key", "l\xff");
	fixture_put(&fx, "x", "");
	fixture_compact(&fx, fx.st->saved.revision);
	fixture_compact_rows(&fx, 10);
	ck_assert_int_eq(fx.st->saved.logical_bytes, version_cost(1, 0));
	fixture_close(&fx);
}
END_TEST

/* A watch may start at the compacted revision and must find its deletions. */
START_TEST(deletions_of_the_compacted_revision_stay_until_the_next)
{
	struct fixture fx;
	int64_t live;

	fixture_open(&fx);
	fixture_put(&fx, "a", "1");
	fixture_put(&fx, "b", "1");
	fixture_delete(&fx, "a", NULL);
	live = version_cost(1, 1);
	fixture_compact(&fx, 4);
	ck_assert_uint_eq(fixture_compact_rows(&fx, 10), 1);
	ck_assert_int_eq(fx.st->saved.logical_bytes, live + version_cost(1, 0));
	fixture_put(&fx, "b", "2");
	fixture_compact(&fx, 5);
	ck_assert_uint_eq(fixture_compact_rows(&fx, 10), 2);
	ck_assert_int_eq(fx.st->saved.logical_bytes, live);
	ck_assert_ptr_null(fixture_get(&fx, "a", 5));
	fixture_close(&fx);
}
END_TEST

START_TEST(a_key_recreated_is_kept_and_its_first_life_goes)
{
	struct fixture fx;

	fixture_open(&fx);
	fixture_put(&fx, "a", "1");
	fixture_delete(&fx, "a", NULL);
	fixture_put(&fx, "a", "2");
	fixture_compact(&fx, 4);
	fixture_compact_rows(&fx, 1);
	ck_assert_int_eq(fx.st->saved.logical_bytes, version_cost(1, 1));
	ck_assert_str_eq(fixture_get(&fx, "a", 0), "2");
	ck_assert_str_eq(fixture_get(&fx, "a", 4), "2");
	fixture_close(&fx);
}
END_TEST

START_TEST(a_step_that_was_rolled_back_is_done_again)
{
	struct fixture fx;
	size_t dropped;
	bool done;

	fixture_open(&fx);
	for (int i = 0; i < 20; i++)
		fixture_put(&fx, "a", "1");
	fixture_compact(&fx, 21);
	ck_assert_int_eq(store_begin(fx.st), STATUS_OK);
	ck_assert_int_eq(compact_step(fx.st, 100, &dropped, &done), STATUS_OK);
	ck_assert(done);
	store_rollback(fx.st);
	ck_assert(compact_is_due(fx.st));
	ck_assert_uint_eq(fixture_compact_rows(&fx, 100), 19);
	fixture_close(&fx);
}
END_TEST

START_TEST(an_interrupted_compaction_goes_on_after_a_restart)
{
	struct fixture fx;
	size_t dropped;

	fixture_open(&fx);
	for (int i = 0; i < 40; i++)
		fixture_put(&fx, "a", "1");
	fixture_compact(&fx, 41);
	dropped = step(&fx, 10);
	ck_assert_uint_lt(dropped, 39);
	fixture_reopen(&fx);
	ck_assert(compact_is_due(fx.st));
	ck_assert_int_eq(try_get(&fx, "a", 40), STATUS_COMPACTED);
	ck_assert_uint_eq(dropped + fixture_compact_rows(&fx, 10), 39);
	ck_assert_int_eq(fx.st->saved.logical_bytes, version_cost(1, 1));
	/* Nothing is left for the one after that. */
	fixture_reopen(&fx);
	ck_assert_uint_eq(fixture_compact_rows(&fx, 10), 0);
	fixture_close(&fx);
}
END_TEST

START_TEST(a_new_compaction_may_overtake_the_steps_of_the_last)
{
	struct fixture fx;
	uint64_t content;

	fixture_open(&fx);
	for (int i = 0; i < 40; i++) {
		fixture_put(&fx, "a", "1");
		fixture_put(&fx, "b", "1");
		fixture_delete(&fx, "b", NULL);
	}
	fixture_compact(&fx, 30);
	step(&fx, 5);
	fixture_compact(&fx, 60);
	step(&fx, 5);
	fixture_compact(&fx, fx.st->saved.revision);
	content = fixture_content_hash(&fx);
	fixture_compact_rows(&fx, 3);
	ck_assert_uint_eq(fixture_content_hash(&fx), content);
	/* 'a', and the deletion of 'b' in the compacted revision. */
	ck_assert_int_eq(fx.st->saved.logical_bytes, version_cost(1, 1) + version_cost(1, 0));
	fixture_close(&fx);
}
END_TEST

/* Keys changed twice in one revision, which only a delete inside a transaction allows. */
START_TEST(several_changes_of_a_key_in_one_revision_are_compacted_alike)
{
	struct fixture fx;
	Pb__TxnRequest *txn, *inner;

	fixture_open(&fx);
	fixture_put(&fx, "a", "1");
	for (int i = 0; i < 3; i++) {
		inner = make_txn(&fx.arena);
		txn_add_success(&fx.arena, inner, &make_delete(&fx.arena, "a", NULL)->base);
		txn = make_txn(&fx.arena);
		txn_add_success(&fx.arena, txn, &inner->base);
		txn_add_success(&fx.arena, txn,
		                &make_put(&fx.arena, "a", arena_printf(&fx.arena, "%d", i))->base);
		fixture_run(&fx, &txn->base);
	}
	ck_assert_str_eq(fixture_get(&fx, "a", 2), "1");
	ck_assert_str_eq(fixture_get(&fx, "a", 3), "0");
	ck_assert_str_eq(fixture_get(&fx, "a", 4), "1");
	fixture_compact(&fx, 5);
	fixture_compact_rows(&fx, 2);
	ck_assert_str_eq(fixture_get(&fx, "a", 5), "2");
	/* The deletion of the compacted revision stays, for a watch that starts there. */
	ck_assert_int_eq(fx.st->saved.logical_bytes, version_cost(1, 1) + version_cost(1, 0));
	fixture_put(&fx, "a", "x");
	fixture_compact(&fx, 6);
	fixture_compact_rows(&fx, 2);
	ck_assert_int_eq(fx.st->saved.logical_bytes, version_cost(1, 1));
	fixture_close(&fx);
}
END_TEST

START_TEST(the_file_is_used_again)
{
	struct fixture fx;
	int64_t file, used, first_used, wal;
	char value[2000];

	memset(value, 'v', sizeof value - 1);
	value[sizeof value - 1] = '\0';
	fixture_open(&fx);
	for (int round = 0; round < 6; round++) {
		for (int i = 0; i < 100; i++)
			fixture_put(&fx, arena_printf(&fx.arena, "key-%d", i), value);
		fixture_compact(&fx, fx.st->saved.revision);
		fixture_compact_rows(&fx, 50);
		ck_assert_int_eq(view_refresh(fixture_reader(&fx)), STATUS_OK);
		ck_assert_int_eq(store_sizes(fx.st, fixture_reader(&fx), &file, &used, &wal), STATUS_OK);
		view_rest(fixture_reader(&fx));
		if (round == 0)
			first_used = used;
	}
	ck_assert_int_le(used, first_used * 2);
	ck_assert_int_le(file, first_used * 4);
	fixture_close(&fx);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("compact");
	TCase *tcase = tcase_create("compact");

	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, revisions_that_cannot_be_compacted_are_refused);
	tcase_add_test(tcase, what_was_superseded_cannot_be_read_at_once);
	tcase_add_test(tcase, the_rows_go_in_steps_and_no_read_notices);
	tcase_add_test(tcase, what_is_left_is_counted_as_live_data);
	tcase_add_test(tcase, deletions_of_the_compacted_revision_stay_until_the_next);
	tcase_add_test(tcase, a_key_recreated_is_kept_and_its_first_life_goes);
	tcase_add_test(tcase, a_step_that_was_rolled_back_is_done_again);
	tcase_add_test(tcase, an_interrupted_compaction_goes_on_after_a_restart);
	tcase_add_test(tcase, a_new_compaction_may_overtake_the_steps_of_the_last);
	tcase_add_test(tcase, several_changes_of_a_key_in_one_revision_are_compacted_alike);
	tcase_add_test(tcase, the_file_is_used_again);
	suite_add_tcase(suite, tcase);
	return suite;
}

int main(void)
{
	return test_run(make_suite());
}
