/* SPDX-License-Identifier: Apache-2.0 */
#include "base/metrics.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/process.h"
#include "lib/test.h"

static char *text_of(void (*write)(struct buf *buf))
{
	struct buf buf;

	buf_init(&buf);
	write(&buf);
	buf_append_byte(&buf, '\0');
	ck_assert(!buf.failed);
	return (char *)buf_detach(&buf);
}

static void expect_line(const char *text, const char *line)
{
	char wanted[256];

	snprintf(wanted, sizeof wanted, "\n%s\n", line);
	ck_assert_msg(strstr(text, wanted) != NULL, "missing: %s", line);
}

static void *put_often(void *arg)
{
	for (int i = 0; i < 1000; i++)
		metric_add(METRIC_PUTS, 1);
	return arg;
}

/* More threads than there are copies of the cells. */
START_TEST(a_counter_adds_up_over_threads)
{
	pthread_t threads[40];
	char *text;

	for (size_t i = 0; i < 40; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, put_often, NULL), 0);
	for (size_t i = 0; i < 40; i++)
		pthread_join(threads[i], NULL);
	ck_assert_int_eq(metric_value(METRIC_PUTS), 40000);
	text = text_of(metrics_write);
	expect_line(text, "# TYPE etcd_mvcc_put_total counter");
	expect_line(text, "etcd_mvcc_put_total 40000");
	free(text);
}
END_TEST

START_TEST(a_gauge_is_set_or_goes_up_and_down)
{
	char *text;

	metric_set(METRIC_REVISION, 5);
	metric_set(METRIC_REVISION, 7);
	metric_add(METRIC_SUSPENDED, 3);
	metric_add(METRIC_SUSPENDED, -1);
	text = text_of(metrics_write);
	expect_line(text, "etcd_debugging_mvcc_current_revision 7");
	expect_line(text, "keta_http_suspended_requests 2");
	free(text);
}
END_TEST

START_TEST(a_histogram_counts_into_buckets_of_seconds)
{
	char *text;

	metric_observe(METRIC_COMMIT_SECONDS, 1000); /* on a bound: inside it */
	metric_observe(METRIC_COMMIT_SECONDS, 1001);
	metric_observe(METRIC_COMMIT_SECONDS, 60000000); /* above the last */
	ck_assert_int_eq(metric_value(METRIC_COMMIT_SECONDS), 3);
	text = text_of(metrics_write);
	expect_line(text, "# TYPE etcd_disk_backend_commit_duration_seconds histogram");
	expect_line(text, "etcd_disk_backend_commit_duration_seconds_bucket{le=\"0.001\"} 1");
	expect_line(text, "etcd_disk_backend_commit_duration_seconds_bucket{le=\"0.002\"} 2");
	expect_line(text, "etcd_disk_backend_commit_duration_seconds_bucket{le=\"8.192\"} 2");
	expect_line(text, "etcd_disk_backend_commit_duration_seconds_bucket{le=\"+Inf\"} 3");
	expect_line(text, "etcd_disk_backend_commit_duration_seconds_sum 60.002001");
	expect_line(text, "etcd_disk_backend_commit_duration_seconds_count 3");
	free(text);
}
END_TEST

START_TEST(a_histogram_of_numbers_has_no_unit)
{
	char *text;

	metric_observe(METRIC_BATCH_RECORDS, 64);
	text = text_of(metrics_write);
	expect_line(text, "keta_apply_batch_records_bucket{le=\"32\"} 0");
	expect_line(text, "keta_apply_batch_records_bucket{le=\"64\"} 1");
	expect_line(text, "keta_apply_batch_records_bucket{le=\"4096\"} 1");
	expect_line(text, "keta_apply_batch_records_sum 64");
	free(text);
}
END_TEST

START_TEST(labels_are_fixed_or_set_once)
{
	char *text;

	metric_set_label(METRIC_SERVER_ID, "8e9e05c52164694d");
	metric_add(metric_refused(16), 4);
	text = text_of(metrics_write);
	expect_line(text, "etcd_server_id{server_id=\"8e9e05c52164694d\"} 1");
	expect_line(text, "keta_refused_total{code=\"CANCELED\"} 0");
	expect_line(text, "keta_refused_total{code=\"UNAUTHENTICATED\"} 4");
	free(text);
}
END_TEST

START_TEST(a_family_is_announced_once)
{
	char *text = text_of(metrics_write);
	const char *first = strstr(text, "# TYPE keta_refused_total ");

	ck_assert_ptr_nonnull(first);
	ck_assert_ptr_null(strstr(first + 1, "# TYPE keta_refused_total "));
	free(text);
}
END_TEST

START_TEST(the_list_in_the_documentation_is_current)
{
	const char *source = getenv("srcdir");
	char path[4096];
	char *wanted = text_of(metrics_document);
	char *found = calloc(1, strlen(wanted) + 2);
	FILE *file;

	snprintf(path, sizeof path, "%s/doc/metrics.md", source != NULL ? source : ".");
	file = fopen(path, "r");
	ck_assert_msg(file != NULL, "cannot open %s", path);
	ck_assert_uint_eq(fread(found, 1, strlen(wanted) + 1, file), strlen(wanted));
	fclose(file);
	ck_assert_str_eq(found, wanted);
	free(found);
	free(wanted);
}
END_TEST

START_TEST(the_process_knows_itself)
{
	struct process_info info;

	process_read(&info);
	ck_assert_int_gt(info.resident_bytes, 0);
	ck_assert_int_gt(info.virtual_bytes, info.resident_bytes);
	ck_assert_int_ge(info.open_fds, 3);
	ck_assert_int_ge(info.max_fds, info.open_fds);
	ck_assert_int_gt(info.start_us, 0);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("metrics");
	TCase *tcase = tcase_create("metrics");

	tcase_add_test(tcase, a_counter_adds_up_over_threads);
	tcase_add_test(tcase, a_gauge_is_set_or_goes_up_and_down);
	tcase_add_test(tcase, a_histogram_counts_into_buckets_of_seconds);
	tcase_add_test(tcase, a_histogram_of_numbers_has_no_unit);
	tcase_add_test(tcase, labels_are_fixed_or_set_once);
	tcase_add_test(tcase, a_family_is_announced_once);
	tcase_add_test(tcase, the_list_in_the_documentation_is_current);
	tcase_add_test(tcase, the_process_knows_itself);
	suite_add_tcase(suite, tcase);
	return suite;
}

/* With --print it writes doc/metrics.md's content instead. */
int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "--print") == 0) {
		struct buf buf;

		buf_init(&buf);
		metrics_document(&buf);
		fwrite(buf.data, 1, buf.len, stdout);
		buf_release(&buf);
		return 0;
	}
	return test_run(make_suite());
}
