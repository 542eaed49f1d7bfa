/* SPDX-License-Identifier: Apache-2.0 */
#include "state/apply.h"

#include "lib/fixture.h"
#include "lib/test.h"
#include "log/record.h"

static struct applied apply_in_batch(struct fixture *fx, const Pb__Record *rec, bool undoable)
{
	struct applied applied;

	ck_assert_int_eq(fixture_apply_record(fx, rec, undoable, &applied), STATUS_OK);
	return applied;
}

static Pb__Record *put_record(struct fixture *fx, const char *key, const char *value)
{
	return make_record(&fx->arena, &make_put(&fx->arena, key, value)->base);
}

START_TEST(the_offset_is_saved_with_the_change)
{
	struct fixture fx;

	fixture_open(&fx);
	ck_assert_int_eq(store_begin(fx.st), STATUS_OK);
	fx.offset = 40;
	apply_in_batch(&fx, put_record(&fx, "a", "1"), false);
	apply_in_batch(&fx, put_record(&fx, "a", "2"), false);
	ck_assert_int_eq(fx.st->view.state.applied_offset, 42);
	ck_assert_int_eq(fx.st->saved.applied_offset, 1);
	ck_assert_int_eq(store_commit(fx.st), STATUS_OK);
	fixture_reopen(&fx);
	ck_assert_int_eq(fx.st->saved.applied_offset, 42);
	ck_assert_int_eq(fx.st->saved.revision, 3);
	fixture_close(&fx);
}
END_TEST

START_TEST(a_refusal_moves_the_offset_and_nothing_else)
{
	struct fixture fx;
	struct applied applied;
	struct store_state before;

	fixture_open(&fx);
	before = fx.st->saved;
	applied = fixture_apply(&fx, &make_compaction(&fx.arena, 100)->base);
	ck_assert_int_eq(applied.status, STATUS_FUTURE_REVISION);
	ck_assert_ptr_null(applied.response);
	ck_assert_int_eq(applied.revision, 1);
	before.applied_offset++;
	ck_assert_mem_eq(&fx.st->saved, &before, sizeof before);
	fixture_close(&fx);
}
END_TEST

START_TEST(what_a_record_made_is_told)
{
	struct fixture fx;
	struct applied applied;

	fixture_open(&fx);
	applied = fixture_apply(&fx, &make_put(&fx.arena, "a", "1")->base);
	ck_assert_int_eq(applied.changes, 1);
	ck_assert_int_eq(applied.revision, 2);
	fixture_put(&fx, "b", "1");
	applied = fixture_apply(&fx, &make_delete(&fx.arena, "a", "z")->base);
	ck_assert_int_eq(applied.changes, 2);
	ck_assert_int_eq(applied.revision, 4);
	applied = fixture_apply(&fx, &make_delete(&fx.arena, "a", "z")->base);
	ck_assert_int_eq(applied.changes, 0);
	ck_assert_int_eq(applied.revision, 4);
	fixture_close(&fx);
}
END_TEST

START_TEST(a_record_of_another_cluster_is_refused)
{
	struct fixture fx;
	Pb__Record *rec;

	fixture_open(&fx);
	ck_assert_int_eq(store_begin(fx.st), STATUS_OK);
	rec = put_record(&fx, "a", "1");
	rec->cluster_id++;
	ck_assert_int_eq(apply_in_batch(&fx, rec, false).status, STATUS_BAD_RECORD);
	rec->cluster_id = 0;
	ck_assert_int_eq(apply_in_batch(&fx, rec, false).status, STATUS_BAD_RECORD);
	rec->cluster_id = FIXTURE_CLUSTER_ID;
	ck_assert_int_eq(apply_in_batch(&fx, rec, false).status, STATUS_OK);
	ck_assert_int_eq(store_commit(fx.st), STATUS_OK);
	fixture_close(&fx);
}
END_TEST

START_TEST(an_empty_state_takes_genesis_only)
{
	struct fixture fx;
	Pb__Record *rec;

	ck_assert_int_eq(fixture_open_at(&fx, fixture_path("unborn"), NULL), STATUS_OK);
	ck_assert_int_eq(store_begin(fx.st), STATUS_OK);
	rec = put_record(&fx, "a", "1");
	rec->cluster_id = 0;
	ck_assert_int_eq(apply_in_batch(&fx, rec, false).status, STATUS_BAD_RECORD);
	ck_assert_int_eq(store_commit(fx.st), STATUS_OK);
	fixture_bear(&fx);
	fixture_put(&fx, "a", "1");
	fixture_close(&fx);
}
END_TEST

START_TEST(a_cluster_is_born_once)
{
	struct fixture fx;
	Pb__Record rec;
	Pb__Genesis genesis;

	pb__record__init(&rec);
	pb__genesis__init(&genesis);
	fixture_open(&fx);
	genesis.cluster_id = genesis.member_id = 1;
	genesis.member_name = arena_strdup(&fx.arena, "second");
	ck_assert_int_eq(record_set_request(&rec, &genesis.base), STATUS_OK);
	ck_assert_int_eq(store_begin(fx.st), STATUS_OK);
	ck_assert_int_eq(apply_in_batch(&fx, &rec, false).status, STATUS_BAD_RECORD);
	rec.cluster_id = FIXTURE_CLUSTER_ID;
	ck_assert_int_eq(apply_in_batch(&fx, &rec, false).status, STATUS_BAD_RECORD);
	ck_assert_int_eq(store_commit(fx.st), STATUS_OK);
	ck_assert_uint_eq(fx.st->saved.cluster_id, FIXTURE_CLUSTER_ID);
	fixture_close(&fx);
}
END_TEST

START_TEST(a_record_without_a_request_that_is_known_is_refused)
{
	struct fixture fx;
	Pb__Record rec;

	pb__record__init(&rec);
	fixture_open(&fx);
	rec.cluster_id = FIXTURE_CLUSTER_ID;
	ck_assert_int_eq(store_begin(fx.st), STATUS_OK);
	ck_assert_int_eq(apply_in_batch(&fx, &rec, false).status, STATUS_UNIMPLEMENTED);
	ck_assert_int_eq(store_commit(fx.st), STATUS_OK);
	fixture_close(&fx);
}
END_TEST

/* Undoable or not, a record that does not fail gives the same. */
START_TEST(undoable_changes_nothing_for_a_record_that_holds)
{
	struct fixture one, two;
	struct applied a, b;

	fixture_open(&one);
	fixture_open(&two);
	ck_assert_int_eq(store_begin(one.st), STATUS_OK);
	ck_assert_int_eq(store_begin(two.st), STATUS_OK);
	for (int i = 0; i < 3; i++) {
		a = apply_in_batch(&one, put_record(&one, "a", "1"), false);
		b = apply_in_batch(&two, put_record(&two, "a", "1"), true);
		assert_same_message(a.response, b.response);
	}
	ck_assert_int_eq(store_commit(one.st), STATUS_OK);
	ck_assert_int_eq(store_commit(two.st), STATUS_OK);
	ck_assert_mem_eq(&one.st->saved, &two.st->saved, sizeof one.st->saved);
	fixture_close(&one);
	fixture_close(&two);
}
END_TEST

START_TEST(too_small_an_arena_refuses_the_record_alone)
{
	struct fixture fx;
	struct arena small;
	struct applied applied;
	Pb__DeleteRangeRequest *request;
	struct store_state before;

	fixture_open(&fx);
	for (int i = 0; i < 10; i++)
		fixture_put(&fx, arena_printf(&fx.arena, "k%d", i), "value");
	request = make_delete(&fx.arena, "k", "l");
	request->prev_kv = true;
	before = fx.st->saved;
	/* With every cap until it fits: before, between or after the changes. */
	for (size_t cap = 0;; cap += 64) {
		enum status_code status;

		arena_init(&small, cap, NULL, 0);
		ck_assert_int_eq(store_begin(fx.st), STATUS_OK);
		status = apply(fx.st, make_record(&fx.arena, &request->base), fx.offset + 1, true, &small,
		               &applied);
		ck_assert_int_eq(status, STATUS_OK);
		ck_assert_int_eq(store_commit(fx.st), STATUS_OK);
		arena_release(&small);
		if (applied.status == STATUS_OK)
			break;
		ck_assert_int_eq(applied.status, STATUS_NO_MEMORY);
		before.applied_offset = fx.offset + 1;
		ck_assert_mem_eq(&fx.st->saved, &before, sizeof before);
	}
	ck_assert_int_eq(fx.st->saved.keys, 0);
	fixture_check_integrity(&fx);
	fixture_close(&fx);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("apply");
	TCase *tcase = tcase_create("apply");

	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, the_offset_is_saved_with_the_change);
	tcase_add_test(tcase, a_refusal_moves_the_offset_and_nothing_else);
	tcase_add_test(tcase, what_a_record_made_is_told);
	tcase_add_test(tcase, a_record_of_another_cluster_is_refused);
	tcase_add_test(tcase, an_empty_state_takes_genesis_only);
	tcase_add_test(tcase, a_cluster_is_born_once);
	tcase_add_test(tcase, a_record_without_a_request_that_is_known_is_refused);
	tcase_add_test(tcase, undoable_changes_nothing_for_a_record_that_holds);
	tcase_add_test(tcase, too_small_an_arena_refuses_the_record_alone);
	suite_add_tcase(suite, tcase);
	return suite;
}

int main(void)
{
	return test_run(make_suite());
}
