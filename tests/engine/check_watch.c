/* SPDX-License-Identifier: Apache-2.0 */
/* The Watch service on a real engine: requests, messages and their order. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/metrics.h"
#include "lib/fixture.h"
#include "lib/station.h"
#include "lib/test.h"

static Pb__WatchCreateRequest *create_request(struct station *station, const char *key, const char *end)
{
	Pb__WatchCreateRequest *create = arena_alloc(&station->arena, sizeof *create);

	pb__watch_create_request__init(create);
	create->key = make_bytes(&station->arena, key);
	create->range_end = make_bytes(&station->arena, end);
	return create;
}

static void send_create(struct tape *tape, Pb__WatchCreateRequest *create)
{
	Pb__WatchRequest request = PB__WATCH_REQUEST__INIT;

	request.request_union_case = PB__WATCH_REQUEST__REQUEST_UNION_CREATE_REQUEST;
	request.create_request = create;
	tape_send(tape, &request.base);
}

static void send_cancel(struct tape *tape, int64_t id)
{
	Pb__WatchRequest request = PB__WATCH_REQUEST__INIT;
	Pb__WatchCancelRequest cancel = PB__WATCH_CANCEL_REQUEST__INIT;

	cancel.watch_id = id;
	request.request_union_case = PB__WATCH_REQUEST__REQUEST_UNION_CANCEL_REQUEST;
	request.cancel_request = &cancel;
	tape_send(tape, &request.base);
}

static void send_progress(struct tape *tape)
{
	Pb__WatchRequest request = PB__WATCH_REQUEST__INIT;
	Pb__WatchProgressRequest progress = PB__WATCH_PROGRESS_REQUEST__INIT;

	request.request_union_case = PB__WATCH_REQUEST__REQUEST_UNION_PROGRESS_REQUEST;
	request.progress_request = &progress;
	tape_send(tape, &request.base);
}

static void compact(struct station *station, int64_t revision)
{
	call_free(station_call(station, "KV", "Compact", &make_compaction(&station->arena, revision)->base));
}

#define CREATED(revision) "{\"header\":{\"revision\":\"" revision "\"},\"created\":true}"
#define EVENTS(revision, events) "{\"header\":{\"revision\":\"" revision "\"},\"events\":[" events "]}"
#define PUT(created, mod, version, value)                                                                \
	"{\"kv\":{\"key\":\"YQ==\",\"create_revision\":\"" created "\",\"mod_revision\":\"" mod              \
	"\",\"version\":\"" version "\",\"value\":\"" value "\"}}"

START_TEST(a_watch_is_told_what_happens_after_it_was_created)
{
	struct station station;
	struct tape tape;

	station_open(&station, NULL);
	station_put(&station, "a", "1");
	tape_open(&tape, &station, "Watch", "Watch");
	send_create(&tape, create_request(&station, "a", NULL));
	ck_assert_str_eq(tape_next(&tape), CREATED("2"));
	station_put(&station, "b", "1");
	station_put(&station, "a", "2");
	ck_assert_str_eq(tape_next(&tape), EVENTS("4", PUT("2", "4", "2", "Mg==")));
	station_delete(&station, "a", "z");
	ck_assert_str_eq(tape_next(&tape),
	                 EVENTS("5", "{\"type\":\"DELETE\",\"kv\":{\"key\":\"YQ==\",\"mod_revision\":\"5\"}}"));
	ck_assert(tape_is_silent(&tape));
	tape_close(&tape);
	station_close(&station);
}
END_TEST

START_TEST(a_watch_from_the_past_is_told_of_it_and_goes_on)
{
	Pb__WatchCreateRequest *create;
	struct station station;
	struct tape tape;

	station_open(&station, NULL);
	station_put(&station, "a", "1");
	station_put(&station, "a", "2");
	tape_open(&tape, &station, "Watch", "Watch");
	create = create_request(&station, "a", NULL);
	create->start_revision = 1;
	send_create(&tape, create);
	ck_assert_str_eq(tape_next(&tape), CREATED("3"));
	ck_assert_str_eq(tape_next(&tape),
	                 EVENTS("3", PUT("2", "2", "1", "MQ==") "," PUT("2", "3", "2", "Mg==")));
	station_put(&station, "a", "3");
	ck_assert_str_eq(tape_next(&tape), EVENTS("4", PUT("2", "4", "3", "Mw==")));
	ck_assert(tape_is_silent(&tape));
	tape_close(&tape);
	station_close(&station);
}
END_TEST

START_TEST(a_watch_of_the_future_waits_for_it)
{
	Pb__WatchCreateRequest *create;
	struct station station;
	struct tape tape;

	station_open(&station, NULL);
	tape_open(&tape, &station, "Watch", "Watch");
	create = create_request(&station, "a", NULL);
	create->start_revision = 3;
	send_create(&tape, create);
	ck_assert_str_eq(tape_next(&tape), CREATED("1"));
	send_progress(&tape);
	station_put(&station, "a", "1");
	send_progress(&tape);
	ck_assert(tape_is_silent(&tape));
	station_put(&station, "a", "2");
	ck_assert_str_eq(tape_next(&tape), EVENTS("3", PUT("2", "3", "2", "Mg==")));
	tape_close(&tape);
	station_close(&station);
}
END_TEST

START_TEST(ids_are_given_or_taken_and_never_twice)
{
	static const struct {
		int64_t asked, given;
	} CASES[] = {{0, 0}, {2, 2}, {0, 1}, {0, 3}, {2, -1}, {-5, -5}, {3, -1}, {0, 4}};
	struct station station;
	struct tape tape;

	station_open(&station, NULL);
	tape_open(&tape, &station, "Watch", "Watch");
	for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
		Pb__WatchCreateRequest *create = create_request(&station, "a", NULL);
		const char *text;
		char wanted[32];

		create->watch_id = CASES[i].asked;
		send_create(&tape, create);
		text = tape_next(&tape);
		snprintf(wanted, sizeof wanted, "\"watch_id\":\"%d\"", (int)CASES[i].given);
		ck_assert(CASES[i].given == 0 ? strstr(text, "watch_id") == NULL : strstr(text, wanted) != NULL);
		ck_assert_int_eq(strstr(text, "mvcc: duplicate watch ID provided on the WatchStream") != NULL,
		                 CASES[i].given == -1);
	}
	tape_close(&tape);
	station_close(&station);
}
END_TEST

START_TEST(a_canceled_watch_is_told_nothing_more)
{
	struct station station;
	struct tape tape;

	station_open(&station, NULL);
	tape_open(&tape, &station, "Watch", "Watch");
	send_create(&tape, create_request(&station, "a", NULL));
	ck_assert_str_eq(tape_next(&tape), CREATED("1"));
	send_cancel(&tape, 7);
	ck_assert(tape_is_silent(&tape));
	send_cancel(&tape, 0);
	ck_assert_str_eq(tape_next(&tape), "{\"header\":{\"revision\":\"1\"},\"canceled\":true}");
	station_put(&station, "a", "1");
	ck_assert(tape_is_silent(&tape));
	tape_close(&tape);
	station_close(&station);
}
END_TEST

START_TEST(what_cannot_be_watched_is_refused_in_the_stream)
{
	Pb__WatchCreateRequest *create;
	struct station station;
	struct tape tape;

	station_open(&station, NULL);
	tape_open(&tape, &station, "Watch", "Watch");
	send_create(&tape, create_request(&station, "b", "a"));
	ck_assert_str_eq(tape_next(&tape), "{\"header\":{\"revision\":\"1\"},\"watch_id\":\"-1\",\"created\":true,"
	                                   "\"canceled\":true,\"cancel_reason\":\"mvcc: watcher range is empty\"}");
	create = create_request(&station, "a", NULL);
	create->start_revision = -1;
	send_create(&tape, create);
	ck_assert_str_eq(tape_next(&tape),
	                 "{\"header\":{\"revision\":\"1\"},\"watch_id\":\"-1\",\"created\":true,\"canceled\":true,"
	                 "\"cancel_reason\":\"etcdserver: mvcc: required revision has been compacted\"}");
	tape_close(&tape);
	station_close(&station);
}
END_TEST

START_TEST(a_start_that_was_compacted_cancels_the_watch)
{
	Pb__WatchCreateRequest *create;
	struct station station;
	struct tape tape;

	station_open(&station, NULL);
	for (int i = 0; i < 5; i++)
		station_put(&station, "a", "1");
	compact(&station, 4);
	tape_open(&tape, &station, "Watch", "Watch");
	create = create_request(&station, "a", NULL);
	create->start_revision = 2;
	send_create(&tape, create);
	ck_assert_str_eq(tape_next(&tape), CREATED("6"));
	ck_assert_str_eq(tape_next(&tape), "{\"header\":{},\"canceled\":true,\"compact_revision\":\"4\"}");
	station_put(&station, "a", "2");
	ck_assert(tape_is_silent(&tape));
	/* Its id is in use until it is canceled, as in etcd. */
	send_cancel(&tape, 0);
	ck_assert_str_eq(tape_next(&tape), "{\"header\":{\"revision\":\"7\"},\"canceled\":true}");
	send_cancel(&tape, 0);
	ck_assert(tape_is_silent(&tape));
	tape_close(&tape);
	station_close(&station);
}
END_TEST

START_TEST(pairs_before_and_filters_are_each_watchs_own)
{
	Pb__WatchCreateRequest__FilterType no_put = PB__WATCH_CREATE_REQUEST__FILTER_TYPE__NOPUT;
	Pb__WatchCreateRequest *create;
	struct station station;
	struct tape tape;

	station_open(&station, NULL);
	tape_open(&tape, &station, "Watch", "Watch");
	create = create_request(&station, "a", NULL);
	create->filters = &no_put;
	create->n_filters = 1;
	create->prev_kv = true;
	send_create(&tape, create);
	ck_assert_str_eq(tape_next(&tape), CREATED("1"));
	station_put(&station, "a", "1");
	station_delete(&station, "a", NULL);
	ck_assert_str_eq(tape_next(&tape),
	                 EVENTS("3", "{\"type\":\"DELETE\",\"kv\":{\"key\":\"YQ==\",\"mod_revision\":\"3\"},"
	                             "\"prev_kv\":{\"key\":\"YQ==\",\"create_revision\":\"2\",\"mod_revision\":\"2\","
	                             "\"version\":\"1\",\"value\":\"MQ==\"}}"));
	ck_assert(tape_is_silent(&tape));
	tape_close(&tape);
	station_close(&station);
}
END_TEST

/* Deletes of many keys with large values before them make one message of many events. */
static size_t watch_a_large_deletion(struct station *station, bool fragment, size_t *events)
{
	Pb__WatchCreateRequest *create = create_request(station, "k", "l");
	char *value = calloc(1, 100 * 1024 + 1);
	struct tape tape;
	size_t messages = 0;

	memset(value, 'v', 100 * 1024);
	for (int i = 0; i < 30; i++) {
		char key[8];

		snprintf(key, sizeof key, "k%02d", i);
		station_put(station, key, value);
	}
	free(value);
	tape_open(&tape, station, "Watch", "Watch");
	create->prev_kv = true;
	create->fragment = fragment;
	send_create(&tape, create);
	tape_next(&tape);
	station_delete(station, "k", "l");
	*events = 0;
	do {
		const char *text = tape_next(&tape);

		messages++;
		ck_assert_int_eq(strstr(text, "\"fragment\":true") != NULL, fragment && *events < 15);
		while ((text = strstr(text, "\"type\":\"DELETE\"")) != NULL) {
			++*events;
			text++;
		}
	} while (*events < 30);
	ck_assert(tape_is_silent(&tape));
	tape_close(&tape);
	return messages;
}

START_TEST(a_large_message_is_sent_in_fragments_if_asked_for)
{
	struct station station;
	size_t events;

	station_open(&station, NULL);
	ck_assert_uint_eq(watch_a_large_deletion(&station, false, &events), 1);
	ck_assert_uint_eq(events, 30);
	/* 2 MiB hold some twenty of them. */
	ck_assert_uint_eq(watch_a_large_deletion(&station, true, &events), 2);
	ck_assert_uint_eq(events, 30);
	station_close(&station);
}
END_TEST

START_TEST(progress_is_told_on_request_and_from_time_to_time)
{
	Pb__WatchCreateRequest *create;
	struct station station;
	struct tape tape;

	station_open(&station, NULL);
	station.config.progress_notify_ms = 20;
	tape_open(&tape, &station, "Watch", "Watch");
	send_progress(&tape);
	ck_assert(tape_is_silent(&tape));
	send_create(&tape, create_request(&station, "a", NULL));
	ck_assert_str_eq(tape_next(&tape), CREATED("1"));
	send_progress(&tape);
	ck_assert_str_eq(tape_next(&tape), "{\"header\":{\"revision\":\"1\"},\"watch_id\":\"-1\"}");
	station_put(&station, "b", "1");
	create = create_request(&station, "a", NULL);
	create->progress_notify = true;
	send_create(&tape, create);
	ck_assert_str_eq(tape_next(&tape), "{\"header\":{\"revision\":\"2\"},\"watch_id\":\"1\",\"created\":true}");
	for (int i = 0; i < 3; i++)
		ck_assert_str_eq(tape_next(&tape), "{\"header\":{\"revision\":\"2\"},\"watch_id\":\"1\"}");
	tape_close(&tape);
	station_close(&station);
}
END_TEST

START_TEST(a_reader_that_stalls_misses_nothing)
{
	struct station station;
	struct tape tape;
	int64_t seen = 1;

	station_open(&station, NULL);
	tape_open(&tape, &station, "Watch", "Watch");
	send_create(&tape, create_request(&station, "a", "b"));
	ck_assert_str_eq(tape_next(&tape), CREATED("1"));
	for (int round = 0; round < 5; round++) {
		tape.full = true;
		for (int i = 0; i < 50; i++)
			station_put(&station, "a", "1");
		ck_assert(tape_is_silent(&tape));
		ck_assert_int_eq(metric_value(METRIC_SLOW_WATCHERS), 1);
		tape.full = false;
		stream_resume(&tape.stream);
		for (int i = 0; i < 10; i++)
			station_put(&station, "a", "1");
		while (seen < 1 + 60 * (round + 1)) {
			for (const char *at = tape_next(&tape); (at = strstr(at, "\"mod_revision\":\"")) != NULL; at++)
				ck_assert_int_eq(strtoll(at + 16, NULL, 10), ++seen);
		}
	}
	ck_assert(tape_is_silent(&tape));
	ck_assert_int_eq(metric_value(METRIC_SLOW_WATCHERS), 0);
	tape_close(&tape);
	station_close(&station);
}
END_TEST

START_TEST(a_stream_holds_many_watches_and_lets_all_of_them_go)
{
	enum { MANY = 5000 };
	int64_t before = metric_value(METRIC_WATCHERS);
	struct station station;
	struct tape tape;

	station_open(&station, NULL);
	tape_open(&tape, &station, "Watch", "Watch");
	for (int i = 0; i < MANY; i++) {
		char key[16];

		snprintf(key, sizeof key, "key-%05d", i);
		send_create(&tape, create_request(&station, key, NULL));
		tape_next(&tape);
	}
	ck_assert_int_eq(metric_value(METRIC_WATCHERS), before + MANY);
	station_put(&station, "key-04321", "1");
	ck_assert_ptr_nonnull(strstr(tape_next(&tape), "\"watch_id\":\"4321\""));
	ck_assert(tape_is_silent(&tape));
	tape_close(&tape);
	ck_assert_int_eq(metric_value(METRIC_WATCHERS), before);
	station_close(&station);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("watch");
	TCase *tcase = tcase_create("watch");

	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, a_watch_is_told_what_happens_after_it_was_created);
	tcase_add_test(tcase, a_watch_from_the_past_is_told_of_it_and_goes_on);
	tcase_add_test(tcase, a_watch_of_the_future_waits_for_it);
	tcase_add_test(tcase, ids_are_given_or_taken_and_never_twice);
	tcase_add_test(tcase, a_canceled_watch_is_told_nothing_more);
	tcase_add_test(tcase, what_cannot_be_watched_is_refused_in_the_stream);
	tcase_add_test(tcase, a_start_that_was_compacted_cancels_the_watch);
	tcase_add_test(tcase, pairs_before_and_filters_are_each_watchs_own);
	tcase_add_test(tcase, a_large_message_is_sent_in_fragments_if_asked_for);
	tcase_add_test(tcase, progress_is_told_on_request_and_from_time_to_time);
	tcase_add_test(tcase, a_reader_that_stalls_misses_nothing);
	tcase_add_test(tcase, a_stream_holds_many_watches_and_lets_all_of_them_go);
	suite_add_tcase(suite, tcase);
	return suite;
}

int main(void)
{
	return test_run(make_suite());
}
