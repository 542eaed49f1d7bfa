/* SPDX-License-Identifier: Apache-2.0 */
#include "state/scan.h"

#include <stdio.h>
#include <string.h>

#include "lib/fixture.h"
#include "lib/test.h"
#include "state/range.h"
#include "state/txn.h"

/* More than three slices, whatever a slice is up to this. */
enum { MANY = 7000 };

static void fill(struct fixture *fx, int count, const char *value)
{
	struct applied applied;
	char key[32];

	ck_assert_int_eq(store_begin(fx->st), STATUS_OK);
	for (int i = 0; i < count; i++) {
		snprintf(key, sizeof key, "key-%05d", i);
		ck_assert_int_eq(fixture_apply_record(
					 fx,
					 make_record(&fx->arena, &make_put(&fx->arena, key, value)->base),
					 false, &applied),
		                 STATUS_OK);
	}
	ck_assert_int_eq(store_commit(fx->st), STATUS_OK);
}

static struct span all(void)
{
	return (struct span){
		.key = (const uint8_t *)"\0", .key_len = 1, .end = (const uint8_t *)"\0", .end_len = 1};
}

static struct span keys(const char *key, const char *end)
{
	return (struct span){
		.key = (const uint8_t *)key,
		.key_len = strlen(key),
		.end = (const uint8_t *)end,
		.end_len = strlen(end),
	};
}

/* Walks to the end; the number of keys, all of them with this value. */
static int walk(struct scan *scan, const char *value)
{
	struct version_row *row;
	int count = 0;

	for (;;) {
		char key[32];

		ck_assert_int_eq(scan_next(scan, &row), STATUS_OK);
		if (row == NULL)
			return count;
		snprintf(key, sizeof key, "key-%05d", count++);
		ck_assert_uint_eq(row->key_len, strlen(key));
		ck_assert_mem_eq(row->key, key, row->key_len);
		ck_assert_mem_eq(sqlite3_column_blob(row->stmt, 5), value, strlen(value));
	}
}

static void take(struct scan *scan, int count)
{
	struct version_row *row;

	for (int i = 0; i < count; i++) {
		ck_assert_int_eq(scan_next(scan, &row), STATUS_OK);
		ck_assert_ptr_nonnull(row);
	}
}

START_TEST(a_walk_gives_all_keys_in_order)
{
	struct fixture fx;
	struct span span = all();
	struct scan scan;

	fixture_open(&fx);
	fill(&fx, MANY, "v");
	ck_assert_int_eq(view_refresh(fixture_reader(&fx)), STATUS_OK);
	ck_assert_int_eq(scan_begin(&scan, &fx.reader, &span, 0), STATUS_OK);
	ck_assert_int_eq(walk(&scan, "v"), MANY);
	scan_end(&scan);
	fixture_close(&fx);
}
END_TEST

START_TEST(a_walk_on_the_writers_view_sees_its_changes)
{
	struct fixture fx;
	struct applied applied;
	struct span span = keys("a", "b");
	struct version_row *row;
	struct scan scan;

	fixture_open(&fx);
	ck_assert_int_eq(store_begin(fx.st), STATUS_OK);
	fixture_apply_record(&fx, make_record(&fx.arena, &make_put(&fx.arena, "a", "1")->base), false,
	                     &applied);
	ck_assert_int_eq(scan_begin(&scan, &fx.st->view, &span, 0), STATUS_OK);
	ck_assert_int_eq(scan_next(&scan, &row), STATUS_OK);
	ck_assert_ptr_nonnull(row);
	scan_end(&scan);
	store_rollback(fx.st);
	fixture_close(&fx);
}
END_TEST

/* Deletes, changes and adds keys ahead of a walk and behind it. */
static void change_everything(struct fixture *fx)
{
	fixture_delete(fx, "key-00000", "key-00010");
	fixture_delete(fx, "key-05000", "key-06000");
	fixture_put(fx, "key-00020", "new");
	fixture_put(fx, "key-04000", "new");
	fixture_put(fx, "key-04000a", "new");
	fixture_put(fx, "zzz", "new");
}

START_TEST(a_walk_keeps_its_revision_over_later_snapshots)
{
	struct fixture fx;
	struct span span = all();
	struct scan scan;
	struct view *reader;
	int64_t revision;

	fixture_open(&fx);
	fill(&fx, MANY, "v");
	reader = fixture_reader(&fx);
	ck_assert_int_eq(view_refresh(reader), STATUS_OK);
	revision = reader->state.revision;
	ck_assert_int_eq(scan_begin(&scan, reader, &span, 0), STATUS_OK);
	change_everything(&fx);
	ck_assert_int_eq(walk(&scan, "v"), MANY);
	scan_end(&scan);
	ck_assert_int_gt(reader->state.revision, revision);
	fixture_close(&fx);
}
END_TEST

START_TEST(a_walk_at_an_old_revision_goes_in_slices_too)
{
	struct fixture fx;
	struct span span = all();
	struct scan scan;
	struct view *reader;
	int64_t revision;

	fixture_open(&fx);
	fill(&fx, MANY, "v");
	revision = fx.st->saved.revision;
	fixture_put(&fx, "key-00000", "other");
	reader = fixture_reader(&fx);
	ck_assert_int_eq(view_refresh(reader), STATUS_OK);
	ck_assert_int_eq(scan_begin(&scan, reader, &span, revision), STATUS_OK);
	change_everything(&fx);
	ck_assert_int_eq(walk(&scan, "v"), MANY);
	scan_end(&scan);
	ck_assert_int_gt(reader->state.revision, revision + 1);
	fixture_close(&fx);
}
END_TEST

START_TEST(a_walk_past_many_deleted_keys_goes_in_slices_too)
{
	struct fixture fx;
	struct span span = all();
	struct version_row *row;
	struct scan scan;
	struct view *reader;
	int64_t revision;

	fixture_open(&fx);
	fill(&fx, MANY, "v");
	fixture_delete(&fx, "key-", "key.");
	fixture_put(&fx, "zzz", "last");
	revision = fx.st->saved.revision;
	fixture_put(&fx, "a", "1");
	reader = fixture_reader(&fx);
	ck_assert_int_eq(view_refresh(reader), STATUS_OK);
	ck_assert_int_eq(scan_begin(&scan, reader, &span, revision), STATUS_OK);
	fixture_put(&fx, "a", "2");
	ck_assert_int_eq(scan_next(&scan, &row), STATUS_OK);
	ck_assert_ptr_nonnull(row);
	ck_assert_mem_eq(row->key, "zzz", 3);
	ck_assert_int_eq(reader->state.revision, fx.st->saved.revision);
	ck_assert_int_eq(scan_next(&scan, &row), STATUS_OK);
	ck_assert_ptr_null(row);
	scan_end(&scan);
	fixture_close(&fx);
}
END_TEST

START_TEST(a_compaction_that_overtakes_a_walk_ends_it)
{
	struct fixture fx;
	struct span span = all();
	struct version_row *row;
	struct scan scan;
	struct view *reader;
	enum status_code status = STATUS_OK;
	int count = 0;

	fixture_open(&fx);
	fill(&fx, MANY, "v");
	reader = fixture_reader(&fx);
	ck_assert_int_eq(view_refresh(reader), STATUS_OK);
	ck_assert_int_eq(scan_begin(&scan, reader, &span, 0), STATUS_OK);
	take(&scan, 10);
	fixture_put(&fx, "key-05000", "new");
	fixture_compact(&fx, fx.st->saved.revision);
	fixture_compact_rows(&fx, 1000);
	do {
		status = scan_next(&scan, &row);
		count++;
	} while (status == STATUS_OK && row != NULL);
	scan_end(&scan);
	ck_assert_str_eq(status_code_name(status), "COMPACTED");
	ck_assert_int_lt(count, MANY);
	fixture_close(&fx);
}
END_TEST

START_TEST(a_compaction_at_the_walks_revision_does_not_end_it)
{
	struct fixture fx;
	struct span span = all();
	struct scan scan;
	struct view *reader;

	fixture_open(&fx);
	fill(&fx, MANY, "old");
	fill(&fx, MANY, "v");
	reader = fixture_reader(&fx);
	ck_assert_int_eq(view_refresh(reader), STATUS_OK);
	ck_assert_int_eq(scan_begin(&scan, reader, &span, 0), STATUS_OK);
	fixture_compact(&fx, reader->state.revision);
	fixture_compact_rows(&fx, 1000);
	change_everything(&fx);
	ck_assert_int_eq(walk(&scan, "v"), MANY);
	scan_end(&scan);
	fixture_close(&fx);
}
END_TEST

/* A transaction of reads stays at one revision, though a long range in it moves
 * the view on; a single key after that must not be read from what is gone. */
START_TEST(a_single_key_at_a_compacted_revision_is_refused)
{
	struct fixture fx;
	struct span span = {.key = (const uint8_t *)"key-00001", .key_len = 9};
	struct scan scan;
	struct view *reader;
	int64_t revision;

	fixture_open(&fx);
	fill(&fx, 3, "v");
	revision = fx.st->saved.revision;
	fixture_put(&fx, "key-00001", "new");
	fixture_compact(&fx, fx.st->saved.revision);
	fixture_compact_rows(&fx, 10);
	reader = fixture_reader(&fx);
	ck_assert_int_eq(view_refresh(reader), STATUS_OK);
	ck_assert_int_eq(scan_begin(&scan, reader, &span, revision), STATUS_COMPACTED);
	scan_end(&scan);
	fixture_close(&fx);
}
END_TEST

static int64_t count(struct fixture *fx, const struct span *span, int64_t revision)
{
	int64_t found = -1;

	ck_assert_int_eq(view_refresh(fixture_reader(fx)), STATUS_OK);
	ck_assert_int_eq(scan_count(&fx->reader, span, revision, &found), STATUS_OK);
	return found;
}

static enum status_code count_bounded(struct fixture *fx, const struct span *span, int64_t revision,
                                      int64_t rows)
{
	int64_t found = -1;
	enum status_code status;

	ck_assert_int_eq(view_refresh(fixture_reader(fx)), STATUS_OK);
	fx->reader.terms = (struct read_terms){.bounded = true, .rows = rows, .bytes = INT64_MAX};
	status = scan_count(&fx->reader, span, revision, &found);
	fx->reader.terms = (struct read_terms){0};
	return status;
}

START_TEST(counting_stops_above_its_budget)
{
	struct fixture fx;
	struct span every = all(), some = keys("key-00100", "key-00200"), none = keys("x", "y");
	struct span one = {.key = (const uint8_t *)"key-00001", .key_len = 9};

	fixture_open(&fx);
	fill(&fx, MANY, "v");
	ck_assert_int_eq(count(&fx, &every, 0), MANY);
	ck_assert_int_eq(count(&fx, &some, 0), 100);
	ck_assert_int_eq(count(&fx, &none, 0), 0);
	ck_assert_int_eq(count(&fx, &one, 0), 1);
	ck_assert_int_eq(count(&fx, &every, 101), 100);
	ck_assert_int_eq(count_bounded(&fx, &every, 0, MANY - 1), STATUS_OVER_BUDGET);
	ck_assert_int_eq(count_bounded(&fx, &every, 0, MANY), STATUS_OK);
	ck_assert_int_eq(count_bounded(&fx, &one, 0, 0), STATUS_OVER_BUDGET);
	/* 100 of these are in the answer; all that were made later are looked at. */
	ck_assert_int_eq(count_bounded(&fx, &every, 101, 2000), STATUS_OVER_BUDGET);
	ck_assert_int_eq(count_bounded(&fx, &every, 101, VIEW_OLD_ROW_COST * MANY), STATUS_OK);
	fixture_close(&fx);
}
END_TEST

START_TEST(a_walk_that_keeps_its_snapshot_is_not_overtaken)
{
	struct fixture fx;
	struct span span = all();
	struct scan scan;
	struct view *reader;
	int64_t revision, found;

	fixture_open(&fx);
	fill(&fx, MANY, "v");
	reader = fixture_reader(&fx);
	ck_assert_int_eq(view_refresh(reader), STATUS_OK);
	revision = reader->state.revision;
	reader->terms = (struct read_terms){.one_snapshot = true};
	ck_assert_int_eq(scan_begin(&scan, reader, &span, 0), STATUS_OK);
	take(&scan, 1);
	scan_end(&scan);
	ck_assert_int_eq(scan_begin(&scan, reader, &span, 0), STATUS_OK);
	change_everything(&fx);
	fixture_compact(&fx, fx.st->saved.revision);
	fixture_compact_rows(&fx, 1000);
	ck_assert_int_eq(walk(&scan, "v"), MANY);
	scan_end(&scan);
	ck_assert_int_eq(scan_count(reader, &span, revision - 1, &found), STATUS_OK);
	ck_assert_int_eq(found, MANY - 1);
	ck_assert_int_eq(reader->state.revision, revision);
	fixture_close(&fx);
}
END_TEST

START_TEST(a_count_of_more_keys_than_a_slice_is_exact)
{
	enum { VERY_MANY = 45000 };
	struct fixture fx;
	struct span every = all();

	fixture_open(&fx);
	fill(&fx, VERY_MANY, "");
	ck_assert_int_eq(count(&fx, &every, 0), VERY_MANY);
	ck_assert_int_eq(count_bounded(&fx, &every, 0, VERY_MANY), STATUS_OK);
	ck_assert_int_eq(count_bounded(&fx, &every, 0, VERY_MANY - 1), STATUS_OVER_BUDGET);
	fixture_close(&fx);
}
END_TEST

START_TEST(a_long_range_answers_as_of_its_start)
{
	struct fixture fx;
	Pb__RangeRequest *request;
	Pb__RangeResponse *response = NULL;
	struct view *reader;

	fixture_open(&fx);
	fill(&fx, MANY, "v");
	request = make_range(&fx.arena, "key-", "key.");
	request->limit = 10;
	reader = fixture_reader(&fx);
	ck_assert_int_eq(view_refresh(reader), STATUS_OK);
	change_everything(&fx);
	ck_assert_int_eq(range_run(reader, request, reader->state.revision, &fx.arena, &response),
	                 STATUS_OK);
	ck_assert_uint_eq(response->n_kvs, 10);
	ck_assert(response->more);
	ck_assert_int_eq(response->count, MANY);
	fixture_close(&fx);
}
END_TEST

/* Two long ranges and a compare see one revision. */
START_TEST(a_long_transaction_of_reads_has_one_revision)
{
	struct fixture fx;
	Pb__TxnRequest *txn;
	Pb__TxnResponse *response = NULL;
	struct view *reader;
	int64_t revision;

	fixture_open(&fx);
	fill(&fx, MANY, "v");
	txn = make_txn(&fx.arena);
	for (int i = 0; i < 2; i++)
		txn_add_success(&fx.arena, txn, &make_range(&fx.arena, "key-", "key.")->base);
	txn_add_success(&fx.arena, txn, &make_range(&fx.arena, "key-04000", NULL)->base);
	reader = fixture_reader(&fx);
	ck_assert_int_eq(view_refresh(reader), STATUS_OK);
	revision = reader->state.revision;
	change_everything(&fx);
	ck_assert_int_eq(txn_read(reader, txn, &fx.arena, &response), STATUS_OK);
	ck_assert_int_gt(reader->state.revision, revision);
	ck_assert_int_eq(response->header->revision, revision);
	ck_assert_uint_eq(response->responses[0]->response_range->n_kvs, MANY);
	ck_assert_uint_eq(response->responses[1]->response_range->n_kvs, MANY);
	ck_assert_mem_eq(response->responses[2]->response_range->kvs[0]->value.data, "v", 1);
	fixture_close(&fx);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("scan");
	TCase *tcase = tcase_create("scan");

	tcase_set_timeout(tcase, 120);
	tcase_add_test(tcase, a_walk_gives_all_keys_in_order);
	tcase_add_test(tcase, a_walk_on_the_writers_view_sees_its_changes);
	tcase_add_test(tcase, a_walk_keeps_its_revision_over_later_snapshots);
	tcase_add_test(tcase, a_walk_at_an_old_revision_goes_in_slices_too);
	tcase_add_test(tcase, a_walk_past_many_deleted_keys_goes_in_slices_too);
	tcase_add_test(tcase, a_compaction_that_overtakes_a_walk_ends_it);
	tcase_add_test(tcase, a_compaction_at_the_walks_revision_does_not_end_it);
	tcase_add_test(tcase, a_single_key_at_a_compacted_revision_is_refused);
	tcase_add_test(tcase, counting_stops_above_its_budget);
	tcase_add_test(tcase, a_walk_that_keeps_its_snapshot_is_not_overtaken);
	tcase_add_test(tcase, a_count_of_more_keys_than_a_slice_is_exact);
	tcase_add_test(tcase, a_long_range_answers_as_of_its_start);
	tcase_add_test(tcase, a_long_transaction_of_reads_has_one_revision);
	suite_add_tcase(suite, tcase);
	return suite;
}

int main(void)
{
	return test_run(make_suite());
}
