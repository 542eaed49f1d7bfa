/* SPDX-License-Identifier: Apache-2.0 */
#include "edge/lobby.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/config.h"
#include "base/metrics.h"
#include "base/progress.h"
#include "edge/http.h"
#include "edge/listen_set.h"
#include "engine/method.h"
#include "lib/fake_engine.h"
#include "lib/http_client.h"
#include "lib/test.h"

static struct listen_set *set;
static struct lobby *lobby;
static struct http_answer answer;

static void start(void)
{
	ck_assert_int_eq(listen_set_open("http://127.0.0.1:0,http://localhost:0", &set), STATUS_OK);
	ck_assert_int_eq(lobby_start(set, &lobby), STATUS_OK);
}

static void stop(void)
{
	lobby_stop(lobby);
	listen_set_free(set);
	lobby = NULL;
	set = NULL;
}

static void get(const char *path)
{
	int fd = http_connect(listen_set_port(set, 0));

	http_get(fd, path);
	http_read(fd, &answer, false);
	ck_assert(http_is_closed(fd));
	close(fd);
}

static void post(const char *path, const char *body)
{
	int fd = http_connect(listen_set_port(set, 0));

	http_post(fd, path, "", body);
	http_read(fd, &answer, false);
	ck_assert(http_is_closed(fd));
	close(fd);
}

static void expect(int status, const char *body)
{
	ck_assert_int_eq(answer.status, status);
	ck_assert_str_eq(answer.body, body);
}

START_TEST(a_node_that_starts_is_alive_and_not_ready)
{
	progress_begin("rebuilding from Kafka", "records");
	get("/livez");
	expect(200, "ok\n");
	get("/readyz");
	expect(503, "[-]catch_up failed: rebuilding from Kafka\n\n");
	get("/health");
	expect(503, "{\"health\":\"false\",\"reason\":\"NOT READY:rebuilding from Kafka\"}\n");
	get("/readyz/linearizable_read");
	ck_assert_int_eq(answer.status, 503);
	progress_set(50, 200);
	get("/readyz?verbose");
	ck_assert_int_eq(answer.status, 503);
	ck_assert_ptr_nonnull(
		strstr(answer.body, "[-]catch_up failed: rebuilding from Kafka: 25 % of 200 records"));
	progress_end();
	get("/readyz");
	expect(503, "[-]catch_up failed: starting\n\n");
}
END_TEST

START_TEST(version_and_metrics_are_served)
{
	get("/version");
	ck_assert_int_eq(answer.status, 200);
	ck_assert_ptr_nonnull(strstr(answer.body, "\"etcdserver\":\""));
	progress_begin("rebuilding from Kafka", "records");
	progress_set(3, 4);
	ck_assert_int_eq(metric_value(METRIC_BOOTSTRAP_DONE), 3);
	ck_assert_int_eq(metric_value(METRIC_BOOTSTRAP_TOTAL), 4);
	get("/metrics");
	ck_assert_int_eq(answer.status, 200);
	ck_assert_ptr_nonnull(strstr(answer.body, "\nprocess_start_time_seconds "));
	progress_end();
	ck_assert_int_eq(metric_value(METRIC_BOOTSTRAP_TOTAL), 0);
}
END_TEST

static const char REFUSAL[] =
	"{\"code\":14,\"message\":\"etcdserver: this node is not ready yet, see /readyz?verbose\"}";

START_TEST(everything_else_is_told_to_come_back)
{
	post("/v3/kv/range", "{\"key\":\"YQ==\"}");
	expect(503, REFUSAL);
	ck_assert_str_eq(http_header(&answer, "Content-Type"), "application/json");
	get("/nowhere");
	expect(503, REFUSAL);
	get("/%zz");
	expect(503, REFUSAL);
	post("/livez", "");
	ck_assert_int_eq(answer.status, 405);
}
END_TEST

/* More than the sockets hold: a lobby that did not read it would never be heard. */
START_TEST(a_large_body_is_read_and_dropped)
{
	enum { BODY_BYTES = 8 << 20 };
	char *body = malloc(BODY_BYTES + 1);

	ck_assert_ptr_nonnull(body);
	memset(body, 'x', BODY_BYTES);
	body[BODY_BYTES] = '\0';
	post("/v3/kv/put", body);
	expect(503, REFUSAL);
	free(body);
}
END_TEST

START_TEST(every_listener_answers)
{
	for (size_t i = 0; i < listen_set_count(set); i++) {
		int fd = http_connect(listen_set_port(set, i));

		http_get(fd, "/livez");
		http_read(fd, &answer, false);
		expect(200, "ok\n");
		close(fd);
	}
}
END_TEST

START_TEST(those_who_say_nothing_do_not_hold_up_the_stop)
{
	int fd = http_connect(listen_set_port(set, 0));
	int64_t before_ms = clock_ms();

	get("/livez"); /* the one before was accepted by then */
	lobby_stop(lobby);
	lobby = NULL;
	ck_assert_int_lt(clock_ms() - before_ms, 5000);
	ck_assert(http_is_closed(fd));
	close(fd);
}
END_TEST

START_TEST(a_request_under_way_is_answered_before_the_stop)
{
	int fd = http_connect(listen_set_port(set, 0));

	http_send(fd, "POST /v3/kv/put HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{");
	get("/livez");
	http_send(fd, "}");
	lobby_stop(lobby);
	lobby = NULL;
	http_read(fd, &answer, false);
	expect(503, REFUSAL);
	close(fd);
}
END_TEST

static void *stop_lobby(void *arg)
{
	lobby_stop(arg);
	return NULL;
}

/* A client that comes while nobody accepts waits for the edge, at the same port. */
START_TEST(nobody_is_refused_between_lobby_and_edge)
{
	const struct config config = {.listeners = "", .max_request_bytes = 2048, .slow_request_ms = 1000};
	const uint16_t port = listen_set_port(set, 0);
	struct engine *engine;
	struct http *http;
	int fd;

	method_init();
	engine = fake_engine_new();
	get("/livez");
	lobby_stop(lobby);
	lobby = NULL;
	fd = http_connect(port);
	http_get(fd, "/readyz");
	ck_assert_int_eq(http_start(&config, set, engine, &http), STATUS_OK);
	set = NULL;
	ck_assert_uint_eq(http_port(http, 0), port);
	http_read(fd, &answer, false);
	expect(200, "ok\n");
	close(fd);
	fake_engine_release(engine);
	http_stop(http);
	fake_engine_free(engine);
}
END_TEST

/* Clients ask without pause while the lobby gives way to the edge. */
struct asker {
	pthread_t thread;
	uint16_t port;
	atomic_bool stop;
	atomic_int ready, not_ready;
};

static void *ask(void *arg)
{
	struct asker *asker = arg;
	static _Thread_local struct http_answer heard;

	while (!atomic_load(&asker->stop)) {
		int fd = http_connect(asker->port);

		http_get(fd, "/readyz");
		http_read(fd, &heard, false);
		ck_assert_msg(heard.status == 200 || heard.status == 503, "%d", heard.status);
		atomic_fetch_add(heard.status == 200 ? &asker->ready : &asker->not_ready, 1);
		close(fd);
	}
	return NULL;
}

static void await(atomic_int *count)
{
	int64_t until_ms = clock_ms() + 20000;

	while (atomic_load(count) < 20 && clock_ms() < until_ms)
		sched_yield();
	ck_assert_int_ge(atomic_load(count), 20);
}

START_TEST(every_request_is_answered_while_the_edge_takes_over)
{
	const struct config config = {.listeners = "", .max_request_bytes = 2048, .slow_request_ms = 1000};
	struct asker asker = {.port = listen_set_port(set, 0)};
	struct engine *engine;
	struct http *http;
	pthread_t stopper;

	method_init();
	engine = fake_engine_new();
	ck_assert_int_eq(pthread_create(&asker.thread, NULL, ask, &asker), 0);
	await(&asker.not_ready);
	ck_assert_int_eq(pthread_create(&stopper, NULL, stop_lobby, lobby), 0);
	pthread_join(stopper, NULL);
	lobby = NULL;
	ck_assert_int_eq(http_start(&config, set, engine, &http), STATUS_OK);
	set = NULL;
	await(&asker.ready);
	atomic_store(&asker.stop, true);
	pthread_join(asker.thread, NULL);
	fake_engine_release(engine);
	http_stop(http);
	fake_engine_free(engine);
}
END_TEST

/* ---- Progress ---- */

static const char *described(void)
{
	static char text[256];
	struct buf out;

	buf_init(&out);
	progress_describe(&out);
	snprintf(text, sizeof text, "%.*s", (int)out.len, (const char *)out.data);
	buf_release(&out);
	return text;
}

START_TEST(progress_tells_what_is_known)
{
	ck_assert_str_eq(described(), "starting");
	progress_set(1, 2); /* of nothing that is under way */
	ck_assert_str_eq(described(), "starting");
	ck_assert_int_eq(metric_value(METRIC_BOOTSTRAP_TOTAL), 0);
	progress_begin("connecting to Kafka", "brokers");
	ck_assert_str_eq(described(), "connecting to Kafka");
	progress_begin("catching up", "records");
	progress_set(0, 1000);
	ck_assert_str_eq(described(), "catching up: 0 % of 1000 records");
	progress_set(10, 0);
	ck_assert_ptr_eq(strstr(described(), "catching up: 10 records"), described());
	progress_set(2000, 1000); /* the log grew after its end was asked for */
	ck_assert_ptr_eq(strstr(described(), "catching up: 100 % of 1000 records"), described());
	progress_end();
	progress_end();
	ck_assert_str_eq(described(), "starting");
}
END_TEST

START_TEST(progress_tells_rate_and_time_left)
{
	int64_t until_ms = clock_ms() + 10;
	const char *text;

	progress_begin("catching up", "records");
	while (clock_ms() <= until_ms)
		sched_yield();
	progress_set(INT64_C(1000000000), INT64_C(9000000000000));
	text = described();
	ck_assert_ptr_nonnull(strstr(text, " records/s, "));
	ck_assert_ptr_nonnull(strstr(text, " s left"));
	progress_end();
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("lobby");
	TCase *answers = tcase_create("answers");
	TCase *progress = tcase_create("progress");

	tcase_add_checked_fixture(answers, start, stop);
	tcase_set_timeout(answers, 60);
	tcase_add_test(answers, a_node_that_starts_is_alive_and_not_ready);
	tcase_add_test(answers, version_and_metrics_are_served);
	tcase_add_test(answers, everything_else_is_told_to_come_back);
	tcase_add_test(answers, a_large_body_is_read_and_dropped);
	tcase_add_test(answers, every_listener_answers);
	tcase_add_test(answers, those_who_say_nothing_do_not_hold_up_the_stop);
	tcase_add_test(answers, a_request_under_way_is_answered_before_the_stop);
	tcase_add_test(answers, nobody_is_refused_between_lobby_and_edge);
	tcase_add_test(answers, every_request_is_answered_while_the_edge_takes_over);
	suite_add_tcase(suite, answers);
	tcase_add_test(progress, progress_tells_what_is_known);
	tcase_add_test(progress, progress_tells_rate_and_time_left);
	suite_add_tcase(suite, progress);
	return suite;
}

int main(void)
{
	return test_run(make_suite());
}
