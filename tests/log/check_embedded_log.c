/* SPDX-License-Identifier: Apache-2.0 */
#include "log/embedded_log.h"

#include <pthread.h>
#include <string.h>

#include "base/clock.h"
#include "lib/test.h"

enum {
	POLL_MAX = 64,
	LONG_MS = 20000, /* a wait that nobody sits out */
	THREADS = 4,
	PER_THREAD = 5000,
};

static struct log *open_log(int64_t applied, size_t max_bytes)
{
	struct log *log;

	ck_assert_int_eq(embedded_log_open(applied, max_bytes, &log), STATUS_OK);
	return log;
}

static enum status_code append(struct log *log, const char *text)
{
	return log_append(log, (const uint8_t *)text, strlen(text), 0);
}

static size_t poll(struct log *log, struct log_record *records, size_t max, int timeout_ms)
{
	size_t count = 99;

	ck_assert_int_eq(log_poll(log, records, max, &count, timeout_ms), STATUS_OK);
	return count;
}

START_TEST(records_come_in_order_from_the_next_offset)
{
	struct log *log = open_log(41, 1000);
	struct log_record records[POLL_MAX];

	ck_assert_int_eq(append(log, "one"), STATUS_OK);
	ck_assert_int_eq(append(log, "two"), STATUS_OK);
	ck_assert_int_eq(append(log, ""), STATUS_OK);
	ck_assert_uint_eq(poll(log, records, 2, 0), 2);
	ck_assert_int_eq(records[0].offset, 42);
	ck_assert_int_eq(records[1].offset, 43);
	ck_assert_uint_eq(records[0].len, 3);
	ck_assert_mem_eq(records[0].data, "one", 3);
	ck_assert_mem_eq(records[1].data, "two", 3);
	ck_assert_uint_eq(poll(log, records, POLL_MAX, LONG_MS), 1);
	ck_assert_int_eq(records[0].offset, 44);
	ck_assert_uint_eq(records[0].len, 0);
	ck_assert_uint_eq(poll(log, records, POLL_MAX, 0), 0);
	ck_assert_int_eq(append(log, "four"), STATUS_OK);
	ck_assert_uint_eq(poll(log, records, POLL_MAX, 0), 1);
	log_close(log);
}
END_TEST

START_TEST(a_record_is_a_copy)
{
	struct log *log = open_log(0, 1000);
	struct log_record records[POLL_MAX];
	char text[] = "text";

	ck_assert_int_eq(append(log, text), STATUS_OK);
	memset(text, 'x', sizeof text);
	ck_assert_uint_eq(poll(log, records, POLL_MAX, 0), 1);
	ck_assert_mem_eq(records[0].data, "text", 4);
	log_close(log);
}
END_TEST

START_TEST(a_full_queue_refuses_until_it_is_emptied)
{
	struct log *log = open_log(0, 10);
	struct log_record records[POLL_MAX];

	ck_assert_int_eq(append(log, "12345"), STATUS_OK);
	ck_assert_int_eq(append(log, "12345"), STATUS_OK);
	ck_assert_int_eq(append(log, "1"), STATUS_TOO_MANY_REQUESTS);
	ck_assert_uint_eq(poll(log, records, 1, 0), 1);
	ck_assert_int_eq(append(log, "12345"), STATUS_OK);
	ck_assert_uint_eq(poll(log, records, POLL_MAX, 0), 2);
	/* The refused one has taken no offset. */
	ck_assert_int_eq(records[1].offset, 3);
	/* One that is larger than the queue goes through an empty one. */
	ck_assert_int_eq(append(log, "1234567890123"), STATUS_OK);
	ck_assert_int_eq(append(log, "1"), STATUS_TOO_MANY_REQUESTS);
	log_close(log);
}
END_TEST

START_TEST(a_poll_gives_up_in_time)
{
	struct log *log = open_log(0, 10);
	struct log_record records[POLL_MAX];
	int64_t started_ms = clock_ms();

	ck_assert_uint_eq(poll(log, records, POLL_MAX, 20), 0);
	ck_assert_int_ge(clock_ms() - started_ms, 19);
	log_close(log);
}
END_TEST

START_TEST(a_wake_before_the_poll_ends_it_once)
{
	struct log *log = open_log(0, 10);
	struct log_record records[POLL_MAX];
	int64_t started_ms = clock_ms();

	log_wake(log);
	ck_assert_uint_eq(poll(log, records, POLL_MAX, LONG_MS), 0);
	ck_assert_int_lt(clock_ms() - started_ms, LONG_MS / 2);
	started_ms = clock_ms();
	ck_assert_uint_eq(poll(log, records, POLL_MAX, 20), 0);
	ck_assert_int_ge(clock_ms() - started_ms, 19);
	log_close(log);
}
END_TEST

static void *wake_from_afar(void *arg)
{
	log_wake(arg);
	return NULL;
}

static void *append_from_afar(void *arg)
{
	append(arg, "x");
	return NULL;
}

START_TEST(a_waiting_poll_is_woken_and_given_records)
{
	struct log *log = open_log(0, 10);
	struct log_record records[POLL_MAX];
	int64_t started_ms = clock_ms();
	pthread_t thread;

	for (int i = 0; i < 200; i++) {
		ck_assert_int_eq(pthread_create(&thread, NULL, wake_from_afar, log), 0);
		ck_assert_uint_eq(poll(log, records, POLL_MAX, LONG_MS), 0);
		pthread_join(thread, NULL);
		ck_assert_int_eq(pthread_create(&thread, NULL, append_from_afar, log), 0);
		ck_assert_uint_eq(poll(log, records, POLL_MAX, LONG_MS), 1);
		pthread_join(thread, NULL);
	}
	ck_assert_int_lt(clock_ms() - started_ms, LONG_MS);
	log_close(log);
}
END_TEST

struct producer {
	struct log *log;
	pthread_t thread;
	uint32_t number;
};

static void *produce(void *arg)
{
	struct producer *self = arg;

	for (uint32_t i = 0; i < PER_THREAD; i++) {
		uint32_t record[2] = {self->number, i};

		while (log_append(self->log, (const uint8_t *)record, sizeof record, 0) ==
		       STATUS_TOO_MANY_REQUESTS)
			continue;
	}
	return NULL;
}

START_TEST(appends_of_many_threads_lose_and_mix_nothing)
{
	struct log *log = open_log(0, 1000);
	struct log_record records[POLL_MAX];
	struct producer producers[THREADS];
	uint32_t next[THREADS] = {0};
	int64_t offset = 0;

	for (uint32_t i = 0; i < THREADS; i++) {
		producers[i] = (struct producer){.log = log, .number = i};
		ck_assert_int_eq(pthread_create(&producers[i].thread, NULL, produce, &producers[i]), 0);
	}
	while (offset < THREADS * PER_THREAD) {
		size_t count = poll(log, records, POLL_MAX, LONG_MS);

		for (size_t i = 0; i < count; i++) {
			uint32_t record[2];

			ck_assert_int_eq(records[i].offset, ++offset);
			memcpy(record, records[i].data, sizeof record);
			ck_assert_uint_lt(record[0], THREADS);
			ck_assert_uint_eq(record[1], next[record[0]]++);
		}
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(producers[i].thread, NULL);
	ck_assert_uint_eq(poll(log, records, POLL_MAX, 0), 0);
	log_close(log);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("embedded_log");
	TCase *tcase = tcase_create("embedded_log");

	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, records_come_in_order_from_the_next_offset);
	tcase_add_test(tcase, a_record_is_a_copy);
	tcase_add_test(tcase, a_full_queue_refuses_until_it_is_emptied);
	tcase_add_test(tcase, a_poll_gives_up_in_time);
	tcase_add_test(tcase, a_wake_before_the_poll_ends_it_once);
	tcase_add_test(tcase, a_waiting_poll_is_woken_and_given_records);
	tcase_add_test(tcase, appends_of_many_threads_lose_and_mix_nothing);
	suite_add_tcase(suite, tcase);
	return suite;
}

int main(void)
{
	return test_run(make_suite());
}
