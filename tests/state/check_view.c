/* SPDX-License-Identifier: Apache-2.0 */
#include "state/view.h"

#include <stdio.h>
#include <string.h>

#include "lib/fixture.h"
#include "lib/test.h"

START_TEST(a_database_without_a_write_ahead_log_is_refused)
{
	_Atomic uint64_t commits = 0;
	struct view view;

	/* One in memory has no log, as one on a file system without shared memory. */
	ck_assert_int_eq(view_open(&view, ":memory:", NULL, VIEW_WRITE, &commits), STATUS_IO_ERROR);
}
END_TEST

/* As SQLite does by itself after some errors. */
static void lose_snapshot(struct view *view)
{
	ck_assert_int_eq(sqlite3_exec(view->db, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
}

START_TEST(a_lost_snapshot_is_taken_again)
{
	struct fixture fx;
	struct view *view;

	fixture_open(&fx);
	view = fixture_reader(&fx);
	ck_assert_int_eq(view_refresh(view), STATUS_OK);
	lose_snapshot(view);
	ck_assert_int_eq(view_refresh(view), STATUS_OK);
	ck_assert_int_eq(sqlite3_get_autocommit(view->db), 0);
	lose_snapshot(view);
	view_rest(view);
	ck_assert_int_eq(sqlite3_errcode(view->db), SQLITE_OK);
	fixture_put(&fx, "k", "v");
	ck_assert_str_eq(fixture_get(&fx, "k", 0), "v");
	fixture_close(&fx);
}
END_TEST

static enum status_code apply_put(struct fixture *fx, const char *key, const char *value)
{
	struct applied applied;

	return fixture_apply_record(fx, make_record(&fx->arena, &make_put(&fx->arena, key, value)->base),
	                            false, &applied);
}

/* Puts a key whose version gets this id, and makes all that follow it. */
static void put_at(struct fixture *fx, int64_t id, const char *value)
{
	ck_assert_int_eq(store_begin(fx->st), STATUS_OK);
	fx->st->view.state.last_id = id - 1;
	ck_assert_int_eq(apply_put(fx, "k", value), STATUS_OK);
	ck_assert_int_eq(store_commit(fx->st), STATUS_OK);
}

/* Versions of revision 2 as they would be after more than REVISION_SHIFT bits of
 * changes: they reach over the usual places of the two revisions after it. */
static int64_t fill_revision(struct fixture *fx, int64_t count)
{
	int64_t first = (INT64_C(4) << REVISION_SHIFT) + 5;
	sqlite3 *db = fx->st->view.db;
	char sql[400];

	put_at(fx, INT64_C(2) << REVISION_SHIFT, "2");
	ck_assert_int_eq(store_begin(fx->st), STATUS_OK);
	snprintf(sql, sizeof sql,
	         "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < %lld)"
	         " INSERT INTO version (id, key, mod, created, version, lease, previous, deleted, value)"
	         " SELECT %lld + i, 'x', 2, 2, 1, 0, 0, 0, 'x' FROM n",
	         (long long)count, (long long)first);
	ck_assert_int_eq(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	fx->st->view.state.last_id = first + count - 1;
	ck_assert_int_eq(apply_put(fx, "k", "3"), STATUS_OK);
	ck_assert_int_eq(apply_put(fx, "k", "4"), STATUS_OK);
	ck_assert_int_eq(apply_put(fx, "k", "5"), STATUS_OK);
	ck_assert_int_eq(store_commit(fx->st), STATUS_OK);
	return first + count - 1;
}

static int count_steps(struct view *view)
{
	int steps = 0;

	for (int i = 0; i < SQL_READ_COUNT; i++)
		steps += sqlite3_stmt_status(view->stmts[i], SQLITE_STMTSTATUS_VM_STEP, 1);
	return steps;
}

START_TEST(a_revision_of_very_many_changes_ends_where_the_next_begins)
{
	static const int64_t COUNTS[] = {1, 2, 3, 1000, 50000};
	struct fixture fx;
	struct view *view;
	int64_t last, id;

	fixture_open(&fx);
	last = fill_revision(&fx, COUNTS[_i]);
	view = fixture_reader(&fx);
	ck_assert_int_eq(view_refresh(view), STATUS_OK);
	count_steps(view);
	for (int64_t i = 0; i < 4; i++) {
		ck_assert_int_eq(view_last_id(view, 2 + i, &id), STATUS_OK);
		/* From revision 5 on the places are the usual ones again. */
		if (i < 2)
			ck_assert_int_eq(id, last + i);
		else
			ck_assert_int_ge(id, last + i);
		ck_assert(i == 3 || id < INT64_C(5) << REVISION_SHIFT);
	}
	ck_assert_int_eq(view_last_id(view, 1, &id), STATUS_OK);
	ck_assert_int_lt(id, INT64_C(2) << REVISION_SHIFT);
	ck_assert_int_lt(count_steps(view), 2000);
	for (int64_t i = 0; i < 4; i++) {
		char wanted[8];

		snprintf(wanted, sizeof wanted, "%d", (int)i + 2);
		ck_assert_str_eq(fixture_get(&fx, "k", 2 + i), wanted);
	}
	fixture_close(&fx);
}
END_TEST

static void drop_versions_of(struct fixture *fx, int64_t revision)
{
	char sql[80];

	snprintf(sql, sizeof sql, "DELETE FROM version WHERE mod = %d", (int)revision);
	ck_assert_int_eq(store_begin(fx->st), STATUS_OK);
	ck_assert_int_eq(sqlite3_exec(fx->st->view.db, sql, NULL, NULL, NULL), SQLITE_OK);
	ck_assert_int_eq(store_commit(fx->st), STATUS_OK);
}

START_TEST(a_version_that_is_missing_is_not_taken_for_a_deletion)
{
	struct fixture fx;
	Pb__RangeRequest *request;
	Pb__RangeResponse *response;

	fixture_open(&fx);
	fixture_put(&fx, "k", "2");
	fixture_put(&fx, "k", "3");
	fixture_delete(&fx, "k", NULL);
	fixture_put(&fx, "k", "5");
	fixture_put(&fx, "k", "6");
	/* The deletion may be missing: compaction drops it. */
	drop_versions_of(&fx, 4);
	ck_assert_ptr_null(fixture_get(&fx, "k", 4));
	drop_versions_of(&fx, 5);
	for (int i = 0; i < 2; i++) {
		request = make_range(&fx.arena, "k", i == 0 ? NULL : "l");
		request->revision = 5;
		ck_assert_int_eq(fixture_try_range(&fx, request, &response), STATUS_IO_ERROR);
	}
	fixture_close(&fx);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("view");
	TCase *tcase = tcase_create("view");

	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, a_database_without_a_write_ahead_log_is_refused);
	tcase_add_test(tcase, a_lost_snapshot_is_taken_again);
	tcase_add_loop_test(tcase, a_revision_of_very_many_changes_ends_where_the_next_begins, 0, 5);
	tcase_add_test(tcase, a_version_that_is_missing_is_not_taken_for_a_deletion);
	suite_add_tcase(suite, tcase);
	return suite;
}

int main(void)
{
	return test_run(make_suite());
}
