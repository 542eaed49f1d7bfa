/* SPDX-License-Identifier: Apache-2.0 */
#include "state/store.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/fixture.h"
#include "lib/test.h"

static char *database_path(const struct fixture *fx)
{
	static char path[400];

	snprintf(path, sizeof path, "%s/keta.db", fx->dir);
	return path;
}

/* Runs SQL on a file that no store has open. */
static void run_sql(const char *path, const char *sql)
{
	sqlite3 *db;

	ck_assert_int_eq(sqlite3_open(path, &db), SQLITE_OK);
	ck_assert_int_eq(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
}

START_TEST(a_new_store_is_empty_at_revision_1)
{
	struct fixture fx;

	ck_assert_int_eq(fixture_open_at(&fx, fixture_path("new"), NULL), STATUS_OK);
	ck_assert_int_eq(fx.st->saved.revision, 1);
	ck_assert_int_eq(fx.st->saved.compact_revision, -1);
	ck_assert_int_eq(fx.st->saved.applied_offset, 0);
	ck_assert_uint_eq(fx.st->saved.cluster_id, 0);
	ck_assert_int_eq(fx.st->saved.keys, 0);
	ck_assert_int_eq(fx.st->saved.logical_bytes, 0);
	fixture_close(&fx);
}
END_TEST

START_TEST(what_was_committed_is_there_after_a_reopen)
{
	struct fixture fx;
	struct store_state before;

	fixture_open(&fx);
	fixture_put(&fx, "a", "1");
	fixture_put(&fx, "b", "2");
	before = fx.st->saved;
	fixture_reopen(&fx);
	ck_assert_mem_eq(&fx.st->saved, &before, sizeof before);
	ck_assert_str_eq(fixture_get(&fx, "a", 0), "1");
	ck_assert_str_eq(fixture_get(&fx, "b", 0), "2");
	fixture_close(&fx);
}
END_TEST

START_TEST(a_second_store_on_the_directory_is_refused)
{
	struct fixture fx;
	struct store_options options;
	struct store *second = NULL;

	fixture_open(&fx);
	options = (struct store_options){.dir = fx.dir};
	ck_assert_int_eq(store_open(&options, &second), STATUS_BUSY);
	fixture_put(&fx, "a", "1");
	fixture_shut(&fx);
	ck_assert_int_eq(store_open(&options, &second), STATUS_OK);
	store_close(second);
	arena_release(&fx.arena);
}
END_TEST

START_TEST(a_newer_schema_is_refused)
{
	struct fixture fx;
	struct store_options options;
	struct store *st;

	fixture_open(&fx);
	fixture_shut(&fx);
	run_sql(database_path(&fx), "PRAGMA user_version = 999");
	options = (struct store_options){.dir = fx.dir};
	ck_assert_int_eq(store_open(&options, &st), STATUS_BAD_DATABASE);
	arena_release(&fx.arena);
}
END_TEST

START_TEST(a_database_of_others_is_refused)
{
	struct store_options options = {.dir = fixture_path("foreign")};
	struct store *st;

	mkdir(fixture_path("foreign"), 0700);
	run_sql(fixture_path("foreign/keta.db"), "CREATE TABLE t (a); INSERT INTO t VALUES (1)");
	options.dir = fixture_path("foreign");
	ck_assert_int_eq(store_open(&options, &st), STATUS_BAD_DATABASE);
}
END_TEST

/* The bytes 18 and 19 of a database tell whether it has a write-ahead log. */
START_TEST(a_database_of_others_is_left_as_it_was)
{
	struct store_options options;
	struct store *st;
	uint8_t before[4096], after[4096];
	int fd;

	mkdir(fixture_path("foreign"), 0700);
	run_sql(fixture_path("foreign/keta.db"), "CREATE TABLE t (a); INSERT INTO t VALUES (1)");
	fd = open(fixture_path("foreign/keta.db"), O_RDONLY | O_CLOEXEC);
	ck_assert_int_eq(pread(fd, before, sizeof before, 0), sizeof before);
	options = (struct store_options){.dir = fixture_path("foreign")};
	ck_assert_int_eq(store_open(&options, &st), STATUS_BAD_DATABASE);
	ck_assert_int_eq(pread(fd, after, sizeof after, 0), sizeof after);
	close(fd);
	ck_assert_mem_eq(after, before, sizeof before);
}
END_TEST

START_TEST(a_file_that_is_no_database_is_refused)
{
	struct store_options options;
	struct store *st;
	char junk[2000];
	int fd;

	memset(junk, 'x', sizeof junk);
	mkdir(fixture_path("junk"), 0700);
	fd = open(fixture_path("junk/keta.db"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	ck_assert_int_eq(write(fd, junk, sizeof junk), sizeof junk);
	close(fd);
	options = (struct store_options){.dir = fixture_path("junk")};
	ck_assert_int_eq(store_open(&options, &st), STATUS_BAD_DATABASE);
}
END_TEST

START_TEST(a_directory_that_cannot_be_made_is_refused)
{
	struct store_options options = {.dir = fixture_path("no/such/parent")};
	struct store *st;

	ck_assert_int_eq(store_open(&options, &st), STATUS_IO_ERROR);
}
END_TEST

START_TEST(a_data_directory_that_is_a_file_is_refused)
{
	struct store_options options = {.dir = fixture_path("file")};
	struct store *st;

	close(open(options.dir, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	ck_assert_int_eq(store_open(&options, &st), STATUS_IO_ERROR);
}
END_TEST

START_TEST(a_database_that_is_a_directory_is_refused)
{
	struct store_options options;
	struct store *st;

	mkdir(fixture_path("odd"), 0700);
	mkdir(fixture_path("odd/keta.db"), 0700);
	options = (struct store_options){.dir = fixture_path("odd")};
	ck_assert_int_eq(store_open(&options, &st), STATUS_IO_ERROR);
}
END_TEST

START_TEST(a_rollback_returns_to_the_last_commit)
{
	struct fixture fx;
	struct store_state before;
	struct applied applied;

	fixture_open(&fx);
	fixture_put(&fx, "a", "1");
	before = fx.st->view.state;
	ck_assert_int_eq(store_begin(fx.st), STATUS_OK);
	fixture_apply_record(&fx, make_record(&fx.arena, &make_put(&fx.arena, "a", "2")->base), false,
	                     &applied);
	fixture_apply_record(&fx, make_record(&fx.arena, &make_compaction(&fx.arena, 2)->base), false,
	                     &applied);
	fixture_apply_record(
		&fx,
		make_record(&fx.arena, &make_alarm(&fx.arena, PB__ALARM_REQUEST__ALARM_ACTION__ACTIVATE,
	                                           PB__ALARM_TYPE__NOSPACE)
	                                        ->base),
		false, &applied);
	ck_assert_int_eq(applied.status, STATUS_OK);
	ck_assert(fx.st->alarm_nospace);
	store_rollback(fx.st);
	ck_assert_mem_eq(&fx.st->view.state, &before, sizeof before);
	ck_assert(!fx.st->alarm_nospace);
	ck_assert_str_eq(fixture_get(&fx, "a", 0), "1");
	fixture_put(&fx, "a", "3");
	ck_assert_int_eq(fx.st->saved.revision, before.revision + 1);
	fixture_close(&fx);
}
END_TEST

/* A compaction that is refused changes nothing. */
static void refuse(struct fixture *fx)
{
	ck_assert_int_eq(fixture_apply(fx, &make_compaction(&fx->arena, 1000)->base).status,
	                 STATUS_FUTURE_REVISION);
}

START_TEST(a_transaction_that_changes_nothing_is_not_written)
{
	struct fixture fx;
	uint64_t commits;
	int pages;

	fixture_open(&fx);
	commits = fx.st->commits;
	pages = fx.st->wal_pages;
	refuse(&fx);
	ck_assert_int_eq(fx.st->saved.applied_offset, 2);
	ck_assert_int_eq(fx.st->written_offset, 1);
	ck_assert_int_eq(fx.st->wal_pages, pages);
	ck_assert_uint_eq(fx.st->commits, commits);
	fixture_compact(&fx, 1);
	ck_assert_int_eq(fx.st->written_offset, 3);
	ck_assert_uint_eq(fx.st->commits, commits + 1);
	refuse(&fx);
	fixture_reopen(&fx);
	ck_assert_int_eq(fx.st->saved.applied_offset, 4);
	fixture_close(&fx);
}
END_TEST

START_TEST(the_first_commit_after_a_rollback_is_written)
{
	struct fixture fx;
	int pages;

	fixture_open(&fx);
	ck_assert_int_eq(store_begin(fx.st), STATUS_OK);
	store_rollback(fx.st);
	for (int i = 0; i < 2; i++) {
		pages = fx.st->wal_pages;
		refuse(&fx);
		ck_assert_int_eq(fx.st->wal_pages > pages, i == 0);
		ck_assert_int_eq(fx.st->written_offset, 2);
	}
	fixture_close(&fx);
}
END_TEST

START_TEST(saved_scalars_follow_commits_only)
{
	struct fixture fx;
	struct applied applied;

	fixture_open(&fx);
	ck_assert_int_eq(store_begin(fx.st), STATUS_OK);
	fixture_apply_record(&fx, make_record(&fx.arena, &make_put(&fx.arena, "a", "1")->base), false,
	                     &applied);
	ck_assert_int_eq(fx.st->saved.revision, 1);
	ck_assert_int_eq(store_commit(fx.st), STATUS_OK);
	ck_assert_int_eq(fx.st->saved.revision, 2);
	ck_assert_int_eq(fx.st->saved.applied_offset, fx.offset);
	ck_assert(!fx.st->saved_nospace && !fx.st->saved_corrupt);
	fixture_close(&fx);
}
END_TEST

START_TEST(a_reader_sees_commits_only)
{
	struct fixture fx;
	struct applied applied;

	fixture_open(&fx);
	ck_assert_int_eq(store_begin(fx.st), STATUS_OK);
	fixture_apply_record(&fx, make_record(&fx.arena, &make_put(&fx.arena, "a", "1")->base), false,
	                     &applied);
	ck_assert_ptr_null(fixture_get(&fx, "a", 0));
	ck_assert_int_eq(store_commit(fx.st), STATUS_OK);
	ck_assert_str_eq(fixture_get(&fx, "a", 0), "1");
	fixture_close(&fx);
}
END_TEST

START_TEST(sizes_grow_with_the_data)
{
	struct fixture fx;
	int64_t file, used, wal, more_file, more_used, more_wal;
	char value[4000];

	memset(value, 'v', sizeof value - 1);
	value[sizeof value - 1] = '\0';
	fixture_open(&fx);
	ck_assert_int_eq(view_refresh(fixture_reader(&fx)), STATUS_OK);
	ck_assert_int_eq(store_sizes(fx.st, fixture_reader(&fx), &file, &used, &wal), STATUS_OK);
	view_rest(fixture_reader(&fx));
	ck_assert_int_gt(used, 0);
	ck_assert_int_ge(file, used);
	for (int i = 0; i < 50; i++)
		fixture_put(&fx, arena_printf(&fx.arena, "key-%d", i), value);
	ck_assert_int_eq(view_refresh(fixture_reader(&fx)), STATUS_OK);
	ck_assert_int_eq(store_sizes(fx.st, fixture_reader(&fx), &more_file, &more_used, &more_wal),
	                 STATUS_OK);
	view_rest(fixture_reader(&fx));
	ck_assert_int_ge(more_used, used + 50 * 4000);
	ck_assert_int_ge(more_file, more_used);
	ck_assert_int_gt(more_wal, wal);
	ck_assert_int_gt(fx.st->wal_pages, 0);
	fixture_close(&fx);
}
END_TEST

START_TEST(a_complete_checkpoint_empties_the_log)
{
	struct fixture fx;

	fixture_open(&fx);
	for (int i = 0; i < 100; i++)
		fixture_put(&fx, "a", "1");
	ck_assert_int_gt(fx.st->wal_pages, 100);
	ck_assert_int_eq(store_restart_wal(fx.st), STATUS_OK);
	fixture_put(&fx, "a", "2");
	ck_assert_int_lt(fx.st->wal_pages, 20);
	ck_assert_str_eq(fixture_get(&fx, "a", 0), "2");
	fixture_close(&fx);
}
END_TEST

START_TEST(a_reader_with_a_snapshot_does_not_fail_a_checkpoint)
{
	struct fixture fx;
	struct view *reader;

	fixture_open(&fx);
	fixture_put(&fx, "a", "1");
	reader = fixture_reader(&fx);
	ck_assert_int_eq(view_refresh(reader), STATUS_OK);
	fixture_put(&fx, "a", "2");
	ck_assert_int_eq(store_restart_wal(fx.st), STATUS_OK);
	ck_assert_int_eq(reader->state.revision, 2);
	view_rest(reader);
	ck_assert_int_eq(store_restart_wal(fx.st), STATUS_OK);
	fixture_close(&fx);
}
END_TEST

START_TEST(a_kept_snapshot_is_renewed_after_a_commit)
{
	struct fixture fx;
	struct view *reader;

	fixture_open(&fx);
	reader = fixture_reader(&fx);
	ck_assert_int_eq(view_refresh(reader), STATUS_OK);
	ck_assert_int_eq(view_refresh(reader), STATUS_OK);
	ck_assert_int_eq(reader->state.revision, 1);
	fixture_put(&fx, "a", "1");
	ck_assert_int_eq(view_refresh(reader), STATUS_OK);
	ck_assert_int_eq(reader->state.revision, 2);
	view_rest(reader);
	view_rest(reader);
	fixture_close(&fx);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("store");
	TCase *tcase = tcase_create("store");

	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, a_new_store_is_empty_at_revision_1);
	tcase_add_test(tcase, what_was_committed_is_there_after_a_reopen);
	tcase_add_test(tcase, a_second_store_on_the_directory_is_refused);
	tcase_add_test(tcase, a_newer_schema_is_refused);
	tcase_add_test(tcase, a_database_of_others_is_refused);
	tcase_add_test(tcase, a_database_of_others_is_left_as_it_was);
	tcase_add_test(tcase, a_file_that_is_no_database_is_refused);
	tcase_add_test(tcase, a_directory_that_cannot_be_made_is_refused);
	tcase_add_test(tcase, a_data_directory_that_is_a_file_is_refused);
	tcase_add_test(tcase, a_database_that_is_a_directory_is_refused);
	tcase_add_test(tcase, a_rollback_returns_to_the_last_commit);
	tcase_add_test(tcase, a_transaction_that_changes_nothing_is_not_written);
	tcase_add_test(tcase, the_first_commit_after_a_rollback_is_written);
	tcase_add_test(tcase, saved_scalars_follow_commits_only);
	tcase_add_test(tcase, a_reader_sees_commits_only);
	tcase_add_test(tcase, sizes_grow_with_the_data);
	tcase_add_test(tcase, a_complete_checkpoint_empties_the_log);
	tcase_add_test(tcase, a_reader_with_a_snapshot_does_not_fail_a_checkpoint);
	tcase_add_test(tcase, a_kept_snapshot_is_renewed_after_a_commit);
	suite_add_tcase(suite, tcase);
	return suite;
}

int main(void)
{
	return test_run(make_suite());
}
