/* SPDX-License-Identifier: Apache-2.0 */
#include "state/history.h"

#include <stdio.h>

#include "base/buf.h"
#include "lib/fixture.h"
#include "lib/test.h"

/* As much as there is. */
static struct history_slice from(int64_t revision)
{
	return (struct history_slice){.from = revision, .rows = SIZE_MAX, .bytes = SIZE_MAX};
}

static struct event_batch *read_slice(struct fixture *fx, const struct history_slice *slice)
{
	struct event_batch *batch = NULL;

	ck_assert_str_eq(status_code_name(history_read(fixture_reader(fx), slice, &batch)), "OK");
	ck_assert(!fixture_reader(fx)->holds);
	ck_assert_int_eq(batch->first, slice->from);
	return batch;
}

static void append_kv(struct buf *buf, const Pb__KeyValue *kv)
{
	buf_append(buf, kv->key.data, kv->key.len);
	if (kv->value.len > 0) {
		buf_append_byte(buf, '=');
		buf_append(buf, kv->value.data, kv->value.len);
	}
}

/* "2:a=1 3:-a(a=1)": revision, a minus for a deletion, the pair, the pair before. */
static const char *show(struct fixture *fx, const struct event_batch *batch)
{
	struct buf buf;
	const char *text;

	buf_init(&buf);
	for (size_t i = 0; i < batch->count; i++) {
		const struct event *event = batch->events[i];

		buf_append_text(&buf,
		                arena_printf(&fx->arena, "%s%ld:%s", i > 0 ? " " : "",
		                             (long)event_revision(event),
		                             event->pb.type == PB__EVENT__EVENT_TYPE__DELETE ? "-" : ""));
		append_kv(&buf, event->pb.kv);
		if (event->pb.prev_kv == NULL)
			continue;
		buf_append_byte(&buf, '(');
		append_kv(&buf, event->pb.prev_kv);
		buf_append_byte(&buf, ')');
	}
	buf_append_byte(&buf, '\0');
	text = arena_strdup(&fx->arena, (const char *)buf.data);
	buf_release(&buf);
	return text;
}

static const char *told(struct fixture *fx, struct history_slice slice)
{
	struct event_batch *batch = read_slice(fx, &slice);
	const char *text = show(fx, batch);

	event_batch_release(batch);
	return text;
}

static const char *told_with_prev(struct fixture *fx, int64_t revision)
{
	struct history_slice slice = from(revision);

	slice.with_prev = true;
	return told(fx, slice);
}

/* A transaction that puts a key, deletes it and puts it again: only a deletion up
 * to the end of the key space may meet a put. */
static void put_delete_put(struct fixture *fx, const char *key)
{
	Pb__DeleteRangeRequest *deletion = make_delete(&fx->arena, key, NULL);
	Pb__TxnRequest *txn = make_txn(&fx->arena);

	deletion->range_end = make_open_end(&fx->arena);
	txn_add_success(&fx->arena, txn, &make_put(&fx->arena, key, "x")->base);
	txn_add_success(&fx->arena, txn, &deletion->base);
	txn_add_success(&fx->arena, txn, &make_put(&fx->arena, key, "y")->base);
	fixture_run(fx, &txn->base);
}

START_TEST(changes_are_told_in_the_order_in_which_they_happened)
{
	struct fixture fx;

	fixture_open(&fx);
	fixture_put(&fx, "b", "1");
	fixture_put(&fx, "a", "2");
	fixture_put(&fx, "b", "3");
	fixture_delete(&fx, "a", "z");
	fixture_put(&fx, "a", "");
	ck_assert_str_eq(told(&fx, from(1)), "2:b=1 3:a=2 4:b=3 5:-a 5:-b 6:a");
	ck_assert_str_eq(told(&fx, from(5)), "5:-a 5:-b 6:a");
	fixture_close(&fx);
}
END_TEST

START_TEST(an_event_has_all_that_its_version_has)
{
	struct fixture fx;
	struct history_slice slice = from(3);
	struct event_batch *batch;
	Pb__PutRequest *put;

	fixture_open(&fx);
	fixture_run(&fx, &make_grant(&fx.arena, 7, 60)->base);
	fixture_put(&fx, "a", "1");
	put = make_put(&fx.arena, "a", "2");
	put->lease = 7;
	fixture_run(&fx, &put->base);
	fixture_delete(&fx, "a", NULL);
	batch = read_slice(&fx, &slice);
	ck_assert_int_eq(batch->events[0]->kv.create_revision, 2);
	ck_assert_int_eq(batch->events[0]->kv.mod_revision, 3);
	ck_assert_int_eq(batch->events[0]->kv.version, 2);
	ck_assert_int_eq(batch->events[0]->kv.lease, 7);
	ck_assert_int_eq(batch->events[1]->kv.create_revision, 0);
	ck_assert_int_eq(batch->events[1]->kv.version, 0);
	ck_assert_int_eq(batch->events[1]->kv.lease, 0);
	event_batch_release(batch);
	fixture_close(&fx);
}
END_TEST

START_TEST(nothing_is_told_of_a_revision_to_come)
{
	struct fixture fx;
	struct history_slice slice = from(3);
	struct event_batch *batch;

	fixture_open(&fx);
	fixture_put(&fx, "a", "1");
	batch = read_slice(&fx, &slice);
	ck_assert_uint_eq(batch->count, 0);
	ck_assert_int_eq(batch->last, 2);
	event_batch_release(batch);
	fixture_close(&fx);
}
END_TEST

START_TEST(only_the_keys_asked_for_are_told)
{
	struct fixture fx;
	struct span spans[3];
	struct history_slice slice = from(1);
	struct event_batch *batch;

	fixture_open(&fx);
	for (const char *key = "abcdefg"; *key != '\0'; key++)
		fixture_put(&fx, arena_printf(&fx.arena, "%c", *key), "1");
	slice.spans = spans;
	slice.span_count = 3;
	spans[0] = span_make(make_bytes(&fx.arena, "f"), make_open_end(&fx.arena));
	spans[1] = span_make(make_bytes(&fx.arena, "b"), make_bytes(&fx.arena, "d"));
	spans[2] = span_make(make_bytes(&fx.arena, "c"), make_bytes(&fx.arena, NULL));
	ck_assert_str_eq(told(&fx, slice), "3:b=1 4:c=1 7:f=1 8:g=1");
	slice.spans = &spans[2];
	slice.span_count = 1;
	batch = read_slice(&fx, &slice);
	ck_assert_uint_eq(batch->count, 1);
	ck_assert_int_eq(batch->last, 8);
	event_batch_release(batch);
	fixture_close(&fx);
}
END_TEST

/* Lengths around what the walk shows. */
START_TEST(a_value_of_any_length_is_told)
{
	static const size_t LENGTHS[] = {0, 1, 1999, 2000, 2001, 5000, 100000};
	size_t len = LENGTHS[_i / 2];
	struct fixture fx;
	struct span span;
	struct history_slice slice = from(1);
	Pb__PutRequest *put;
	struct event_batch *batch;

	fixture_open(&fx);
	put = make_put(&fx.arena, "a", "");
	put->value = (ProtobufCBinaryData){.len = len, .data = arena_calloc(&fx.arena, len + 1, 1)};
	if (len > 0)
		put->value.data[len - 1] = 'x';
	fixture_run(&fx, &put->base);
	span = span_make(make_bytes(&fx.arena, "a"), make_bytes(&fx.arena, NULL));
	slice.spans = &span;
	slice.span_count = (size_t)_i % 2;
	batch = read_slice(&fx, &slice);
	ck_assert_uint_eq(batch->events[0]->kv.value.len, len);
	if (len > 0)
		ck_assert_mem_eq(batch->events[0]->kv.value.data, put->value.data, len);
	event_batch_release(batch);
	fixture_close(&fx);
}
END_TEST

START_TEST(a_slice_ends_at_the_end_of_a_revision)
{
	struct fixture fx;
	struct history_slice slice = from(1);
	struct event_batch *batch;

	fixture_open(&fx);
	fixture_put(&fx, "a", "1");
	fixture_put(&fx, "b", "1");
	fixture_delete(&fx, "a", "z");
	fixture_put(&fx, "c", "1");
	slice.rows = 3;
	batch = read_slice(&fx, &slice);
	ck_assert_str_eq(show(&fx, batch), "2:a=1 3:b=1 4:-a 4:-b");
	ck_assert_int_eq(batch->last, 4);
	event_batch_release(batch);
	slice.rows = 1;
	batch = read_slice(&fx, &slice);
	ck_assert_int_eq(batch->last, 2);
	event_batch_release(batch);
	slice.rows = SIZE_MAX;
	slice.bytes = 3;
	batch = read_slice(&fx, &slice);
	ck_assert_int_eq(batch->last, 3);
	event_batch_release(batch);
	fixture_close(&fx);
}
END_TEST

START_TEST(rows_that_nobody_wants_use_up_a_slice_too)
{
	struct fixture fx;
	struct span span;
	struct history_slice slice = from(1);
	struct event_batch *batch;

	fixture_open(&fx);
	for (int i = 0; i < 10; i++)
		fixture_put(&fx, "a", "1");
	span = span_make(make_bytes(&fx.arena, "b"), make_bytes(&fx.arena, NULL));
	slice.spans = &span;
	slice.span_count = 1;
	slice.rows = 4;
	batch = read_slice(&fx, &slice);
	ck_assert_uint_eq(batch->count, 0);
	ck_assert_int_eq(batch->last, 5);
	event_batch_release(batch);
	fixture_close(&fx);
}
END_TEST

START_TEST(the_pair_before_is_that_of_the_revision_before)
{
	struct fixture fx;

	fixture_open(&fx);
	fixture_put(&fx, "a", "1");
	fixture_put(&fx, "a", "2");
	fixture_delete(&fx, "a", NULL);
	fixture_put(&fx, "a", "3");
	put_delete_put(&fx, "a");
	ck_assert_str_eq(told_with_prev(&fx, 1),
	                 "2:a=1 3:a=2(a=1) 4:-a(a=2) 5:a=3 6:a=x(a=3) 6:-a(a=3) 6:a=y");
	ck_assert_str_eq(told(&fx, from(6)), "6:a=x 6:-a 6:a=y");
	fixture_close(&fx);
}
END_TEST

START_TEST(a_key_that_came_and_went_at_once_has_no_pair_before)
{
	struct fixture fx;

	fixture_open(&fx);
	put_delete_put(&fx, "a");
	ck_assert_str_eq(told_with_prev(&fx, 1), "2:a=x 2:-a 2:a=y");
	fixture_delete(&fx, "a", NULL);
	put_delete_put(&fx, "a");
	ck_assert_str_eq(told_with_prev(&fx, 3), "3:-a(a=y) 4:a=x 4:-a 4:a=y");
	fixture_close(&fx);
}
END_TEST

START_TEST(a_compacted_revision_is_refused)
{
	struct fixture fx;
	struct history_slice slice = from(3);
	struct event_batch *batch;

	fixture_open(&fx);
	for (int i = 0; i < 5; i++)
		fixture_put(&fx, "a", "1");
	fixture_compact(&fx, 4);
	ck_assert_int_eq(history_read(fixture_reader(&fx), &slice, &batch), STATUS_COMPACTED);
	ck_assert_int_eq(fixture_reader(&fx)->state.compact_revision, 4);
	ck_assert(!fixture_reader(&fx)->holds);
	fixture_close(&fx);
}
END_TEST

/* Before and after the rows are dropped, and with the row of the revision
 * before dropped. */
START_TEST(the_compaction_revision_is_told_the_same_before_and_after_its_rows_go)
{
	struct fixture fx;

	fixture_open(&fx);
	fixture_put(&fx, "a", "1");
	fixture_put(&fx, "b", "1");
	fixture_delete(&fx, "a", NULL);
	fixture_put(&fx, "b", "2");
	fixture_compact(&fx, 4);
	for (int i = 0; i < 2; i++) {
		ck_assert_str_eq(told_with_prev(&fx, 4), "4:-a 5:b=2(b=1)");
		fixture_compact_rows(&fx, 1);
	}
	fixture_compact(&fx, 5);
	for (int i = 0; i < 2; i++) {
		ck_assert_str_eq(told_with_prev(&fx, 5), "5:b=2");
		fixture_compact_rows(&fx, 1);
	}
	fixture_close(&fx);
}
END_TEST

START_TEST(what_the_compaction_revision_superseded_itself_is_not_told)
{
	struct fixture fx;
	struct history_slice slice = from(3);
	struct span span;

	fixture_open(&fx);
	fixture_put(&fx, "a", "1");
	put_delete_put(&fx, "a");
	ck_assert_str_eq(told_with_prev(&fx, 3), "3:a=x(a=1) 3:-a(a=1) 3:a=y");
	fixture_compact(&fx, 3);
	span = span_make(make_bytes(&fx.arena, "a"), make_bytes(&fx.arena, NULL));
	slice.spans = &span;
	slice.span_count = 1;
	for (int i = 0; i < 2; i++) {
		ck_assert_str_eq(told_with_prev(&fx, 3), "3:-a 3:a=y");
		ck_assert_str_eq(told(&fx, slice), "3:-a 3:a=y");
		fixture_compact_rows(&fx, 1);
	}
	fixture_close(&fx);
}
END_TEST

START_TEST(what_is_told_later_is_what_was_news)
{
	struct fixture fx;
	struct event_batch *news;

	fixture_open(&fx);
	fixture_put(&fx, "a", "1");
	fx.st->keeps_news = fx.st->keeps_prev = true;
	put_delete_put(&fx, "a");
	news = store_take_news(fx.st);
	ck_assert_ptr_nonnull(news);
	ck_assert_int_eq(news->first, 3);
	ck_assert_int_eq(news->last, 3);
	ck_assert(news->has_prev && !news->missing);
	ck_assert_str_eq(show(&fx, news), told_with_prev(&fx, 3));
	event_batch_release(news);
	ck_assert_ptr_null(store_take_news(fx.st));
	fixture_compact(&fx, 2);
	ck_assert_ptr_null(store_take_news(fx.st));
	fixture_put(&fx, "b", "1");
	fixture_put(&fx, "c", "1");
	news = store_take_news(fx.st);
	ck_assert_int_eq(news->first, 5);
	event_batch_release(news);
	fixture_put(&fx, "d", "1");
	fixture_close(&fx);
}
END_TEST

START_TEST(a_refused_record_is_no_news)
{
	struct fixture fx;
	Pb__TxnRequest *txn;
	Pb__PutRequest *put;
	Pb__DeleteRangeRequest *deletion;
	const ProtobufCMessage *requests[3];
	struct applied results[3];
	struct event_batch *news;

	fixture_open(&fx);
	fixture_put(&fx, "a", "1");
	/* Deletes the key whose value it then takes over. */
	txn = make_txn(&fx.arena);
	deletion = make_delete(&fx.arena, "a", NULL);
	deletion->range_end = make_open_end(&fx.arena);
	put = make_put(&fx.arena, "a", NULL);
	put->ignore_value = true;
	txn_add_success(&fx.arena, txn, &deletion->base);
	txn_add_success(&fx.arena, txn, &put->base);
	requests[0] = &make_put(&fx.arena, "b", "1")->base;
	requests[1] = &txn->base;
	requests[2] = &make_put(&fx.arena, "c", "1")->base;
	fx.st->keeps_news = true;
	ck_assert_int_eq(fixture_apply_batch(&fx, requests, 3, results), STATUS_OK);
	ck_assert_int_eq(results[1].status, STATUS_KEY_NOT_FOUND);
	news = store_take_news(fx.st);
	ck_assert_str_eq(show(&fx, news), "3:b=1 4:c=1");
	event_batch_release(news);
	fixture_close(&fx);
}
END_TEST

START_TEST(news_for_which_there_was_no_memory_are_marked_as_missing)
{
	struct fixture fx;
	struct applied applied;
	struct event_batch *news;

	fixture_open(&fx);
	fx.st->keeps_news = true;
	ck_assert_int_eq(store_begin(fx.st), STATUS_OK);
	fixture_apply_record(&fx, make_record(&fx.arena, &make_put(&fx.arena, "a", "1")->base), false,
	                     &applied);
	fx.st->news->arena.cap_bytes = 0;
	for (int i = 0; i < 100; i++)
		fixture_apply_record(&fx, make_record(&fx.arena, &make_put(&fx.arena, "b", "1")->base),
		                     false, &applied);
	ck_assert_int_eq(applied.status, STATUS_OK);
	ck_assert_int_eq(store_commit(fx.st), STATUS_OK);
	news = store_take_news(fx.st);
	ck_assert(news->missing);
	ck_assert_uint_eq(news->count, 0);
	ck_assert_int_eq(news->first, 2);
	ck_assert_int_eq(news->last, 102);
	event_batch_release(news);
	fixture_put(&fx, "a", "2");
	news = store_take_news(fx.st);
	ck_assert(!news->missing);
	ck_assert_str_eq(show(&fx, news), "103:a=2");
	event_batch_release(news);
	fixture_close(&fx);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("history");
	TCase *tcase = tcase_create("history");

	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, changes_are_told_in_the_order_in_which_they_happened);
	tcase_add_test(tcase, an_event_has_all_that_its_version_has);
	tcase_add_test(tcase, nothing_is_told_of_a_revision_to_come);
	tcase_add_test(tcase, only_the_keys_asked_for_are_told);
	tcase_add_loop_test(tcase, a_value_of_any_length_is_told, 0, 14);
	tcase_add_test(tcase, a_slice_ends_at_the_end_of_a_revision);
	tcase_add_test(tcase, rows_that_nobody_wants_use_up_a_slice_too);
	tcase_add_test(tcase, the_pair_before_is_that_of_the_revision_before);
	tcase_add_test(tcase, a_key_that_came_and_went_at_once_has_no_pair_before);
	tcase_add_test(tcase, a_compacted_revision_is_refused);
	tcase_add_test(tcase, the_compaction_revision_is_told_the_same_before_and_after_its_rows_go);
	tcase_add_test(tcase, what_the_compaction_revision_superseded_itself_is_not_told);
	tcase_add_test(tcase, what_is_told_later_is_what_was_news);
	tcase_add_test(tcase, a_refused_record_is_no_news);
	tcase_add_test(tcase, news_for_which_there_was_no_memory_are_marked_as_missing);
	suite_add_tcase(suite, tcase);
	return suite;
}

int main(void)
{
	return test_run(make_suite());
}
