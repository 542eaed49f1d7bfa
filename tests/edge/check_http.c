/* SPDX-License-Identifier: Apache-2.0 */
#include "edge/http.h"

#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/config.h"
#include "base/metrics.h"
#include "base/process.h"
#include "engine/method.h"
#include "lib/fake_engine.h"
#include "lib/http_client.h"
#include "lib/test.h"

/* Keys in base64. */
#define NOW "{\"key\":\"YQ==\"}"
#define LATER "{\"key\":\"bGF0ZXI=\"}"
#define SLOW "{\"key\":\"c2xvdw==\"}"
#define NEVER "{\"key\":\"bmV2ZXI=\"}"
#define ERROR "{\"key\":\"ZXJyb3I=\"}"

static struct engine *engine;
static struct http *http;
static struct http_answer answer;
static struct config config;

static void start(void)
{
	signal(SIGPIPE, SIG_IGN);
	method_init();
	config = (struct config){
		.listeners = "http://127.0.0.1:0",
		.max_request_bytes = 2048,
		.http_threads = 2,
		.slow_request_ms = 1000,
	};
	engine = fake_engine_new();
	ck_assert_int_eq(http_serve(&config, engine, &http), STATUS_OK);
}

static void stop(void)
{
	fake_engine_release(engine);
	http_stop(http);
	fake_engine_free(engine);
}

static void restart(void)
{
	http_stop(http);
	ck_assert_int_eq(http_serve(&config, engine, &http), STATUS_OK);
}

static int open_client(void)
{
	return http_connect(http_port(http, 0));
}

static void post(int fd, const char *path, const char *headers, const char *body)
{
	http_post(fd, path, headers, body);
	http_read(fd, &answer, false);
}

static void get(int fd, const char *path)
{
	http_get(fd, path);
	http_read(fd, &answer, false);
}

static void expect_header(const char *name, const char *value)
{
	const char *found = http_header(&answer, name);

	if (value == NULL)
		ck_assert_msg(found == NULL, "%s: %s", name, found);
	else
		ck_assert_str_eq(found != NULL ? found : "(absent)", value);
}

/* Waits until a gauge or counter has a value; loops run on their own threads. */
static void await_metric(enum metric metric, int64_t value)
{
	for (int i = 0; i < 10000 && metric_value(metric) != value; i++)
		poll(NULL, 0, 1);
	ck_assert_int_eq(metric_value(metric), value);
}

START_TEST(an_answer_that_is_there_is_sent_at_once)
{
	int fd = open_client();

	post(fd, "/v3/kv/range", "", NOW);
	ck_assert_int_eq(answer.status, 200);
	ck_assert_ptr_nonnull(strstr(answer.body, "\"kvs\":[{\"key\":\"YQ==\""));
	expect_header("Content-Type", "application/json");
	expect_header("Grpc-Metadata-Content-Type", "application/grpc");
	expect_header("Access-Control-Allow-Origin", "*");
	expect_header("Connection", NULL);
	close(fd);
}
END_TEST

START_TEST(an_answer_may_come_from_another_thread)
{
	int fd = open_client();

	for (int i = 0; i < 200; i++) {
		post(fd, "/v3/kv/range", "", i % 2 == 0 ? LATER : SLOW);
		ck_assert_int_eq(answer.status, 200);
	}
	ck_assert_int_eq(metric_value(METRIC_SUSPENDED), 0);
	close(fd);
}
END_TEST

START_TEST(an_error_has_its_code_and_no_grpc_header)
{
	int fd = open_client();

	fake_engine_fail_with(engine, STATUS_NO_SPACE);
	post(fd, "/v3/kv/range", "", ERROR);
	ck_assert_int_eq(answer.status, 429);
	ck_assert_str_eq(answer.body,
	                 "{\"code\":8,\"message\":\"etcdserver: mvcc: database space exceeded\"}");
	expect_header("Grpc-Metadata-Content-Type", NULL);
	close(fd);
}
END_TEST

START_TEST(pipelined_requests_are_answered_in_order)
{
	int fd = open_client();

	http_post(fd, "/v3/kv/range", "", LATER);
	http_post(fd, "/v3/kv/range", "", NOW);
	http_get(fd, "/version");
	http_read(fd, &answer, false);
	ck_assert_ptr_nonnull(strstr(answer.body, "bGF0ZXI="));
	http_read(fd, &answer, false);
	ck_assert_ptr_nonnull(strstr(answer.body, "YQ=="));
	http_read(fd, &answer, false);
	ck_assert_ptr_nonnull(strstr(answer.body, "etcdserver"));
	close(fd);
}
END_TEST

START_TEST(a_chunked_body_is_put_together)
{
	int fd = open_client();

	http_send(fd, "POST /v3/kv/range HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
	              "7\r\n{\"key\":\r\n");
	http_send(fd, "7\r\n\"YQ==\"}\r\n0\r\n\r\n");
	http_read(fd, &answer, false);
	ck_assert_int_eq(answer.status, 200);
	close(fd);
}
END_TEST

START_TEST(the_token_comes_from_one_of_two_headers)
{
	int fd = open_client();

	post(fd, "/v3/kv/range", "Authorization: Bearer abc\r\n", NOW);
	ck_assert_str_eq(fake_engine_last_token(engine), "abc");
	post(fd, "/v3/kv/range", "Authorization: abc.1\r\n", NOW);
	ck_assert_str_eq(fake_engine_last_token(engine), "abc.1");
	post(fd, "/v3/kv/range", "Authorization: abc\r\nGrpc-Metadata-Token: Bearer xyz\r\n", NOW);
	ck_assert_str_eq(fake_engine_last_token(engine), "xyz");
	post(fd, "/v3/kv/range", "", NOW);
	ck_assert_str_eq(fake_engine_last_token(engine), "");
	close(fd);
}
END_TEST

static const struct {
	const char *text;
	int status;
	int64_t least_ms, most_ms;
} TIMEOUTS[] = {
	{"5S", 200, 1000, 5000},
	{"2H", 200, 3600000, 7200000},
	{"3M", 200, 60000, 180000},
	{"90000m", 200, 60000, 90000},
	{"90000000u", 200, 60000, 90000},
	{"90000000000n", 200, 60000, 90000},
	{"+5S", 200, 1000, 5000},
	{"0S", 200, 0, 0},
	{"9223372036854775807H", 200, 1000000000, INT64_MAX},
	{"5S \t", 200, 1000, 5000},
	{"-1S", 504, 0, 0},
	{"1n", 504, 0, 0},
	{"999u", 504, 0, 0},
	{"bogus", 400, 0, 0},
	{"5", 400, 0, 0},
	{"S", 400, 0, 0},
	{"-S", 400, 0, 0},
	{"5x", 400, 0, 0},
	{"5 S", 400, 0, 0},
	{"9223372036854775808S", 400, 0, 0},
};

START_TEST(the_time_limit_is_read)
{
	char header[64];
	int fd = open_client();

	snprintf(header, sizeof header, "Grpc-Timeout: %s\r\n", TIMEOUTS[_i].text);
	post(fd, "/v3/kv/range", header, NOW);
	ck_assert_int_eq(answer.status, TIMEOUTS[_i].status);
	if (answer.status == 200) {
		ck_assert_int_ge(fake_engine_last_timeout_ms(engine), TIMEOUTS[_i].least_ms);
		ck_assert_int_le(fake_engine_last_timeout_ms(engine), TIMEOUTS[_i].most_ms);
	}
	if (answer.status == 400) {
		char body[128];

		snprintf(body, sizeof body, "{\"code\":3,\"message\":\"invalid grpc-timeout: %s\"}",
		         TIMEOUTS[_i].text);
		ck_assert_str_eq(answer.body, body);
	}
	close(fd);
}
END_TEST

/* What etcd's server refuses and libmicrohttpd would let pass. */
static const struct {
	const char *request;
	int status;
} BAD_HEADS[] = {
	{"GET /version HTTP/1.1\r\n\r\n", 400},
	{"GET /version HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400},
	{"GET /version HTTP/1.1\r\nHost: a b\r\n\r\n", 400},
	{"GET /version HTTP/1.1\r\nHost: a\"b\r\n\r\n", 400},
	{"POST /v3/kv/range HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400},
	/* Libmicrohttpd's own answer; 0.9.75 sends its head twice. */
	{"POST /v3/kv/range HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n{}", 400},
	{"POST /v3/kv/range HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501},
	{"POST /v3/kv/range HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501},
	{"POST /v3/kv/range HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
         400},
	{"POST /v3/kv/range HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
	{"POST /v3/kv/range HTTP/1.1\r\nHost: a\r\nExpect: cake\r\nContent-Length: 2\r\n\r\n{}", 417},
	{"GET /vers%zzion HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	{"GET /ver\001sion HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	{"GET /version HTTP/1.1\r\nHost: a\r\nX: a\001b\r\n\r\n", 400},
	{"GET /version HTTP/1.1\r\nHost: a\r\nX Y: ab\r\n\r\n", 400},
	{"G(T /version HTTP/1.1\r\nHost: a\r\n\r\n", 400},
};

START_TEST(a_head_that_cannot_be_trusted_ends_the_connection)
{
	int fd = open_client();

	http_send(fd, BAD_HEADS[_i].request);
	http_read(fd, &answer, false);
	ck_assert_int_eq(answer.status, BAD_HEADS[_i].status);
	expect_header("Connection", "close");
	ck_assert_int_eq(fake_engine_started(engine), 0);
	close(fd);
}
END_TEST

START_TEST(http_1_0_needs_no_host)
{
	int fd = open_client();

	http_send(fd, "GET /version HTTP/1.0\r\n\r\n");
	http_read(fd, &answer, false);
	ck_assert_int_eq(answer.status, 200);
	close(fd);
}
END_TEST

START_TEST(expect_100_continue_is_answered)
{
	int fd = open_client();

	http_send(fd, "POST /v3/kv/range HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: "
	              "14\r\n\r\n");
	http_read(fd, &answer, true);
	ck_assert_int_eq(answer.status, 100);
	http_send(fd, NOW);
	http_read(fd, &answer, false);
	ck_assert_int_eq(answer.status, 200);
	close(fd);
}
END_TEST

static const struct {
	const char *method, *path;
	int status;
	const char *type, *body;
} PATHS[] = {
	{"GET", "/v3/kv/range", 501, "application/json",
         "{\"code\":12,\"message\":\"Method Not Allowed\"}"},
	{"BREW", "/v3/kv/range", 501, "application/json",
         "{\"code\":12,\"message\":\"Method Not Allowed\"}"},
	{"HEAD", "/v3/kv/range", 501, "application/json", ""},
	{"POST", "/v3/kv/nope", 404, "application/json", "{\"code\":5,\"message\":\"Not Found\"}"},
	{"GET", "/v3/kv/range/", 404, "application/json", "{\"code\":5,\"message\":\"Not Found\"}"},
	{"GET", "/nowhere", 404, "text/plain; charset=utf-8", "404 page not found\n"},
	{"OPTIONS", "/nowhere", 200, NULL, ""},
	{"OPTIONS", "/v3/kv/range", 200, NULL, ""},
	{"GET", "/v3", 307, "text/html; charset=utf-8", "<a href=\"/v3/\">Temporary Redirect</a>.\n\n"},
	{"POST", "/v3//kv/range", 307, NULL, ""},
	{"POST", "/v3/kv%2Frange", 200, "application/json", NULL},
	{"POST", "/v3beta/kv/range", 200, "application/json", NULL},
	{"GET", "/version", 200, "application/json",
         "{\"etcdserver\":\"3.7.1\",\"etcdcluster\":\"3.7.0\",\"storage\":\"3.7.0\"}"},
	{"POST", "/version", 405, "text/plain; charset=utf-8", "Method Not Allowed\n"},
	{"PUT", "/health", 405, "text/plain; charset=utf-8", "Method Not Allowed\n"},
	{"HEAD", "/readyz", 405, "text/plain; charset=utf-8", ""},
	{"GET", "/health", 200, "text/plain; charset=utf-8", "{\"health\":\"true\",\"reason\":\"\"}"},
	{"GET", "/health?serializable=true", 200, "text/plain; charset=utf-8",
         "{\"health\":\"true\",\"reason\":\"\"}"},
	{"GET", "/livez", 200, "text/plain; charset=utf-8", "ok\n"},
	{"GET", "/livez?verbose", 200, "text/plain; charset=utf-8", "[+]serializable_read ok\nok\n"},
	{"GET", "/livez?exclude=serializable_read&verbose", 200, "text/plain; charset=utf-8", "ok\n"},
	{"GET", "/livez/nope", 404, "text/plain; charset=utf-8", "404 page not found\n"},
	{"GET", "/readyz/non_learner?verbose", 200, "text/plain; charset=utf-8", "[+]non_learner ok\nok\n"},
	{"GET", "/readyz?verbose", 200, "text/plain; charset=utf-8",
         "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner "
         "ok\nok\n"},
	{"POST", "/metrics", 200, "text/plain; version=0.0.4; charset=utf-8; escaping=underscores", NULL},
};

START_TEST(every_path_has_its_answer)
{
	char request[512];
	int fd = open_client();

	snprintf(request, sizeof request, "%s %s HTTP/1.1\r\nHost: a\r\nContent-Length: 14\r\n\r\n" NOW,
	         PATHS[_i].method, PATHS[_i].path);
	http_send(fd, request);
	http_read(fd, &answer, strcmp(PATHS[_i].method, "HEAD") == 0);
	ck_assert_int_eq(answer.status, PATHS[_i].status);
	expect_header("Content-Type", PATHS[_i].type);
	if (PATHS[_i].body != NULL)
		ck_assert_str_eq(answer.body, PATHS[_i].body);
	/* The connection goes on. */
	get(fd, "/version");
	ck_assert_int_eq(answer.status, 200);
	close(fd);
}
END_TEST

START_TEST(health_follows_the_alarms)
{
	int fd = open_client();

	fake_engine_raise(engine, true, false);
	get(fd, "/health");
	ck_assert_int_eq(answer.status, 503);
	ck_assert_str_eq(answer.body, "{\"health\":\"false\",\"reason\":\"ALARM NOSPACE\"}\n");
	get(fd, "/health?exclude=NOSPACE");
	ck_assert_int_eq(answer.status, 200);
	get(fd, "/readyz");
	ck_assert_int_eq(answer.status, 200);
	fake_engine_raise(engine, true, true);
	get(fd, "/health?exclude=NOSPACE");
	ck_assert_str_eq(answer.body, "{\"health\":\"false\",\"reason\":\"ALARM CORRUPT\"}\n");
	get(fd, "/health?exclude=NOSPACE&exclude=CORRUPT");
	ck_assert_int_eq(answer.status, 200);
	get(fd, "/readyz");
	ck_assert_int_eq(answer.status, 503);
	ck_assert_str_eq(answer.body,
	                 "[-]data_corruption failed: alarm activated: CORRUPT\n"
	                 "[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\n\n");
	get(fd, "/livez");
	ck_assert_int_eq(answer.status, 200);
	close(fd);
}
END_TEST

START_TEST(a_node_of_a_shared_log_is_ready_when_it_has_caught_up)
{
	int fd = open_client();

	fake_engine_share(engine, false, NULL);
	get(fd, "/readyz?exclude=data_corruption&exclude=non_learner");
	ck_assert_int_eq(answer.status, 503);
	ck_assert_str_eq(answer.body, "[+]serializable_read ok\n[+]linearizable_read ok\n"
	                              "[-]catch_up failed: starting\n\n");
	get(fd, "/readyz/catch_up");
	ck_assert_int_eq(answer.status, 503);
	get(fd, "/readyz?exclude=catch_up");
	ck_assert_int_eq(answer.status, 200);
	get(fd, "/livez");
	ck_assert_int_eq(answer.status, 200);
	fake_engine_share(engine, true, NULL);
	get(fd, "/readyz?verbose");
	ck_assert_int_eq(answer.status, 200);
	ck_assert_ptr_nonnull(strstr(answer.body, "[+]non_learner ok\n[+]catch_up ok\nok\n"));
	fake_engine_share(engine, true, "Kafka does not answer");
	get(fd, "/readyz/catch_up");
	ck_assert_str_eq(answer.body, "[-]catch_up failed: Kafka does not answer\n\n");
	get(fd, "/health");
	ck_assert_str_eq(answer.body,
	                 "{\"health\":\"false\",\"reason\":\"RANGE ERROR:Kafka does not answer\"}\n");
	close(fd);
}
END_TEST

/* A node alone leads always; one of several only when it does. */
START_TEST(metrics_tell_leader_lag_and_hash_of_a_shared_log)
{
	int fd = open_client();

	get(fd, "/metrics");
	ck_assert_int_eq(metric_value(METRIC_IS_LEADER), 1);
	ck_assert_int_eq(metric_value(METRIC_LOG_LAG), 0);
	fake_engine_share(engine, true, NULL);
	get(fd, "/metrics");
	ck_assert_int_eq(metric_value(METRIC_IS_LEADER), 0);
	ck_assert_int_eq(metric_value(METRIC_HAS_LEADER), 1);
	ck_assert_int_eq(metric_value(METRIC_LOG_LAG), 3); /* 8 to 10 */
	ck_assert_int_eq(metric_value(METRIC_LOG_APPLIED_OFFSET), 7);
	ck_assert_ptr_nonnull(strstr(answer.body, "keta_state_hash{hex=\"0000000000000abc\"} 1\n"));
	close(fd);
}
END_TEST

START_TEST(a_server_that_cannot_write_is_not_healthy)
{
	int fd = open_client();

	fake_engine_break(engine, "disk full");
	get(fd, "/health");
	ck_assert_int_eq(answer.status, 503);
	ck_assert_str_eq(answer.body, "{\"health\":\"false\",\"reason\":\"RANGE ERROR:disk full\"}\n");
	get(fd, "/readyz");
	ck_assert_int_eq(answer.status, 503);
	get(fd, "/livez");
	ck_assert_int_eq(answer.status, 200);
	fake_engine_break(engine, NULL);
	get(fd, "/health");
	ck_assert_int_eq(answer.status, 200);
	close(fd);
}
END_TEST

static void post_large(int fd, size_t value_len)
{
	char *body = malloc(value_len + 64);

	strcpy(body, "{\"key\":\"YQ==\",\"value\":\"");
	memset(body + strlen(body) + value_len, 0, 8);
	memset(body + strlen(body), 'A', value_len);
	strcat(body, "\"}");
	post(fd, "/v3/kv/put", "", body);
	free(body);
}

/* The limit is 2048 + 524288 bytes of protobuf: a message has 3 bytes of key
 * and 4 of the value's tag and length before the value. */
START_TEST(a_message_above_the_limit_is_read_and_refused)
{
	int fd = open_client();

	post_large(fd, 4 * (size_t)((526336 - 7) / 3));
	ck_assert_int_eq(answer.status, 200);
	post_large(fd, 4 * (size_t)(526336 / 3));
	ck_assert_int_eq(answer.status, 429);
	ck_assert_str_eq(
		answer.body,
		"{\"code\":8,\"message\":\"grpc: received message larger than max (526342 vs. 526336)\"}");
	/* A body is kept up to twice that, however short the message in it may be. */
	post_large(fd, 4 << 20);
	ck_assert_int_eq(answer.status, 429);
	ck_assert_str_eq(answer.body, "{\"code\":8,\"message\":\"grpc: received message larger than max "
	                              "(4194329 vs. 1052672)\"}");
	post(fd, "/v3/kv/range", "", NOW);
	ck_assert_int_eq(answer.status, 200);
	close(fd);
}
END_TEST

START_TEST(only_listed_origins_get_cors_headers)
{
	int fd;

	config.cors_origins = "http://good.example:8080,http://also.example";
	restart();
	fd = open_client();
	post(fd, "/v3/kv/range", "Origin: http://good.example:8080\r\n", NOW);
	expect_header("Access-Control-Allow-Origin", "http://good.example:8080");
	post(fd, "/v3/kv/range", "Origin: http://bad.example\r\n", NOW);
	ck_assert_int_eq(answer.status, 200);
	expect_header("Access-Control-Allow-Origin", NULL);
	post(fd, "/v3/kv/range", "", NOW);
	expect_header("Access-Control-Allow-Methods", NULL);
	close(fd);
}
END_TEST

START_TEST(other_hosts_are_refused)
{
	int fd;

	config.host_whitelist = "localhost,good.example";
	restart();
	fd = open_client();
	post(fd, "/v3/kv/range", "", NOW);
	ck_assert_int_eq(answer.status, 200);
	http_send(fd, "GET /health HTTP/1.1\r\nHost: bad.example:99\r\n\r\n");
	http_read(fd, &answer, false);
	ck_assert_int_eq(answer.status, 421);
	ck_assert_ptr_nonnull(strstr(answer.body, "--host-whitelist \"bad.example\"\n"));
	expect_header("Access-Control-Allow-Origin", NULL);
	http_send(fd, "GET /health HTTP/1.1\r\nHost: good.example:99\r\n\r\n");
	http_read(fd, &answer, false);
	ck_assert_int_eq(answer.status, 200);
	close(fd);
}
END_TEST

START_TEST(a_form_may_stand_for_another_method)
{
	int fd = open_client();

	post(fd, "/v3/kv/range",
	     "Content-Type: application/x-www-form-urlencoded\r\nX-HTTP-Method-Override: GET\r\n", "key=a");
	ck_assert_int_eq(answer.status, 501);
	post(fd, "/v3/kv/range", "X-HTTP-Method-Override: GET\r\n", NOW);
	ck_assert_int_eq(answer.status, 200);
	close(fd);
}
END_TEST

START_TEST(http_2_is_closed)
{
	int fd = open_client();

	http_send(fd, "PRI * HTTP/2.0\r\n");
	http_send(fd, "\r\nSM\r\n\r\n");
	ck_assert(http_is_closed(fd));
	close(fd);
	await_metric(METRIC_CONNECTIONS, 0);
	fd = open_client();
	http_send(fd, "P");
	http_send(fd, "OST /v3/kv/range HTTP/1.1\r\nHost: a\r\nContent-Length: 14\r\n\r\n" NOW);
	http_read(fd, &answer, false);
	ck_assert_int_eq(answer.status, 200);
	close(fd);
}
END_TEST

START_TEST(a_client_that_leaves_frees_its_connection_before_the_call_ends)
{
	int fd = open_client();

	http_post(fd, "/v3/kv/range", "", NEVER);
	fake_engine_wait_held(engine, 1);
	await_metric(METRIC_SUSPENDED, 1);
	close(fd);
	await_metric(METRIC_SUSPENDED, 0);
	await_metric(METRIC_CONNECTIONS, 0);
	ck_assert_int_eq(metric_value(METRIC_ABANDONED), 1);
	ck_assert_int_eq(fake_engine_held(engine), 1);
}
END_TEST

START_TEST(a_half_closed_client_is_told_that_it_canceled)
{
	int fd = open_client();

	http_post(fd, "/v3/kv/range", "", NEVER);
	fake_engine_wait_held(engine, 1);
	shutdown(fd, SHUT_WR);
	http_read(fd, &answer, false);
	ck_assert_int_eq(answer.status, 499);
	ck_assert(http_is_closed(fd));
	close(fd);
}
END_TEST

/* Both before and after its request was read. */
START_TEST(a_client_that_half_closed_with_its_request_is_told_too)
{
	for (int i = 0; i < 50; i++) {
		int fd = open_client();

		http_post(fd, "/v3/kv/range", "", NEVER);
		shutdown(fd, SHUT_WR);
		http_read(fd, &answer, false);
		ck_assert_int_eq(answer.status, 499);
		close(fd);
	}
	ck_assert_int_eq(fake_engine_held(engine), 50);
	for (int i = 0; i < 50; i++) {
		int fd = open_client();

		http_post(fd, "/v3/kv/range", "", NOW);
		shutdown(fd, SHUT_WR);
		http_read(fd, &answer, false);
		ck_assert_int_eq(answer.status, 200);
		close(fd);
	}
}
END_TEST

/* On connections that were used before: libmicrohttpd does not hear of an end that came
 * together with a request. */
START_TEST(half_closed_connections_are_closed)
{
	static const char *const BODIES[] = {NEVER, LATER, NOW};
	int fds[30];

	for (int i = 0; i < 30; i++) {
		fds[i] = open_client();
		post(fds[i], "/v3/kv/range", "", NOW);
		http_post(fds[i], "/v3/kv/range", "", BODIES[i % 3]);
		shutdown(fds[i], SHUT_WR);
		http_read(fds[i], &answer, false);
		ck_assert_int_ne(answer.status, 0);
	}
	for (int i = 0; i < 30; i++) {
		ck_assert(http_is_closed(fds[i]));
		close(fds[i]);
	}
	await_metric(METRIC_CONNECTIONS, 0);
}
END_TEST

START_TEST(all_that_came_before_a_half_close_is_answered)
{
	for (int i = 0; i < 50; i++) {
		int fd = open_client();

		for (int k = 0; k < 3; k++)
			http_post(fd, "/v3/kv/range", "", NOW);
		shutdown(fd, SHUT_WR);
		for (int k = 0; k < 3; k++) {
			http_read(fd, &answer, false);
			ck_assert_int_eq(answer.status, 200);
		}
		close(fd);
	}
}
END_TEST

/* In every state a client can be in; with the sanitizers on, this finds what
 * is left behind. */
START_TEST(clients_vanish_at_random_and_leave_nothing)
{
	static const char *const PARTS[] = {
		"",
		"P",
		"POST /v3/kv/ran",
		"POST /v3/kv/range HTTP/1.1\r\nHost: a\r\nContent-Le",
		"POST /v3/kv/range HTTP/1.1\r\nHost: a\r\nContent-Length: 14\r\n\r\n{\"ke",
		"POST /v3/kv/range HTTP/1.1\r\nHost: a\r\nContent-Length: 14\r\n\r\n" NOW,
		"POST /v3/kv/range HTTP/1.1\r\nHost: a\r\nContent-Length: 18\r\n\r\n" LATER,
		"POST /v3/kv/range HTTP/1.1\r\nHost: a\r\nContent-Length: 18\r\n\r\n" NEVER,
		"POST /v3/kv/range HTTP/1.1\r\nHost: a\r\nContent-Length: 16\r\n\r\n" SLOW,
		"POST /v3/kv/range HTTP/1.1\r\nHost: a\r\nContent-Length: 18\r\n\r\n" LATER "GET /ver",
		"GET /v3/kv/%zz HTTP/1.1\r\nHost: a\r\n\r\n",
	};
	const struct linger reset = {.l_onoff = 1, .l_linger = 0};
	unsigned random = 12345;
	int fds[64];
	struct process_info before, after;

	process_read(&before);
	for (size_t i = 0; i < 64; i++)
		fds[i] = -1;
	for (int i = 0; i < 3000; i++) {
		size_t slot;

		random = random * 1103515245 + 12345;
		slot = random >> 16 & 63;
		if (fds[slot] >= 0) {
			if (random >> 24 & 1)
				setsockopt(fds[slot], SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
			close(fds[slot]);
		}
		fds[slot] = open_client();
		http_send(fds[slot], PARTS[(random >> 8) % (sizeof PARTS / sizeof PARTS[0])]);
	}
	for (size_t i = 0; i < 64; i++) {
		if (fds[i] >= 0)
			close(fds[i]);
	}
	await_metric(METRIC_CONNECTIONS, 0);
	ck_assert_int_eq(metric_value(METRIC_SUSPENDED), 0);
	process_read(&after);
	ck_assert_int_eq(after.open_fds, before.open_fds);
	fake_engine_release(engine);
}
END_TEST

/* One loop, so that they meet. What waits is new in each round, and lingers at first: the daemon
 * then always says that it has something to do, so the loop has to know when that is so. */
START_TEST(requests_that_wait_hold_up_no_others)
{
	enum { ROUNDS = 20, OTHERS = 2 };
	int waiting[ROUNDS], others[OTHERS];
	int64_t since_ms;

	config.http_threads = 1;
	restart();
	for (int k = 0; k < OTHERS; k++)
		others[k] = open_client();
	since_ms = clock_ms();
	for (int i = 0; i < ROUNDS; i++) {
		waiting[i] = open_client();
		http_post(waiting[i], "/v3/kv/range", "", NEVER);
		fake_engine_wait_held(engine, i + 1);
		for (int k = 0; k < OTHERS; k++) {
			http_post(others[k], "/v3/kv/range", "", NEVER);
			fake_engine_wait_held(engine, i + 2 + k);
			/* Not read before the one before it is answered. */
			http_post(others[k], "/v3/kv/range", "", NOW);
		}
		for (int k = 0; k < OTHERS; k++)
			fake_engine_release_newest(engine);
		for (int k = 0; k < 2 * OTHERS; k++) {
			http_read(others[k / 2], &answer, false);
			ck_assert_int_eq(answer.status, 200);
		}
	}
	/* Otherwise some would be found when the loop wakes up by itself, after 50 ms. */
	ck_assert_int_lt(clock_ms() - since_ms, ROUNDS * 40);
	for (int i = 0; i < ROUNDS; i++)
		close(waiting[i]);
	for (int k = 0; k < OTHERS; k++)
		close(others[k]);
}
END_TEST

/* Of a request target that fills libmicrohttpd's first read nobody hears until it is read on. */
START_TEST(a_long_target_is_read_beside_requests_that_wait)
{
	enum { ROUNDS = 20, TARGET_BYTES = 5000 };
	static char request[TARGET_BYTES + 64];
	int waiting[ROUNDS];
	int64_t since_ms;

	memcpy(request, "GET /", 5);
	memset(request + 5, 'a', TARGET_BYTES);
	strcpy(request + 5 + TARGET_BYTES, " HTTP/1.1\r\nHost: a\r\n\r\n");
	config.http_threads = 1;
	restart();
	since_ms = clock_ms();
	for (int i = 0; i < ROUNDS; i++) {
		int fd = open_client();

		waiting[i] = open_client();
		http_post(waiting[i], "/v3/kv/range", "", NEVER);
		fake_engine_wait_held(engine, i + 1);
		http_send(fd, request);
		http_read(fd, &answer, false);
		ck_assert_int_eq(answer.status, 404);
		close(fd);
	}
	ck_assert_int_lt(clock_ms() - since_ms, ROUNDS * 40);
	for (int i = 0; i < ROUNDS; i++)
		close(waiting[i]);
}
END_TEST

START_TEST(large_messages_pass_requests_that_wait)
{
	enum { ROUNDS = 5, KEY_BASE64_BYTES = 4 << 20 };
	static char body[KEY_BASE64_BYTES + 16];
	int waiting[ROUNDS], other;

	memset(body, 'A', KEY_BASE64_BYTES + 8);
	memcpy(body, "{\"key\":\"", 8);
	strcpy(body + KEY_BASE64_BYTES + 8, "\"}");
	config.http_threads = 1;
	config.max_request_bytes = KEY_BASE64_BYTES;
	restart();
	other = open_client();
	for (int i = 0; i < ROUNDS; i++) {
		waiting[i] = open_client();
		http_post(waiting[i], "/v3/kv/range", "", NEVER);
		fake_engine_wait_held(engine, i + 1);
		post(other, "/v3/kv/range", "", body);
		ck_assert_int_eq(answer.status, 200);
		ck_assert_uint_gt(answer.body_len, 2 * KEY_BASE64_BYTES);
	}
	for (int i = 0; i < ROUNDS; i++)
		close(waiting[i]);
	close(other);
}
END_TEST

START_TEST(waiting_costs_no_time)
{
	struct pollfd silent = {.events = POLLIN};
	int reading = open_client(), fds[4];
	clock_t before;

	http_send(reading, "POST /v3/kv/range HTTP/1.1\r\nHost: a\r\nContent-Le");
	for (int i = 0; i < 4; i++) {
		fds[i] = open_client();
		http_post(fds[i], "/v3/kv/range", "", NEVER);
	}
	fake_engine_wait_held(engine, 4);
	before = clock();
	silent.fd = fds[0];
	ck_assert_int_eq(poll(&silent, 1, 300), 0);
	ck_assert_int_lt((clock() - before) * 1000 / CLOCKS_PER_SEC, 30); /* it did not spin */
	fake_engine_release(engine);
	for (int i = 0; i < 4; i++) {
		http_read(fds[i], &answer, false);
		ck_assert_int_eq(answer.status, 200);
		close(fds[i]);
	}
	close(reading);
}
END_TEST

START_TEST(at_the_limit_clients_wait_to_be_accepted)
{
	int one, two, three;

	config.connection_limit = 2;
	restart();
	one = open_client();
	two = open_client();
	get(one, "/version");
	get(two, "/version");
	three = open_client();
	http_get(three, "/version");
	await_metric(METRIC_ACCEPT_PAUSES, 1);
	ck_assert_int_eq(metric_value(METRIC_CONNECTIONS), 2);
	close(one);
	http_read(three, &answer, false);
	ck_assert_int_eq(answer.status, 200);
	close(two);
	close(three);
}
END_TEST

/* Takes every descriptor that is left below a lowered limit. */
static int use_up_descriptors(int *fds, int max)
{
	int count = 0;

	while (count < max && (fds[count] = dup(0)) >= 0)
		count++;
	ck_assert_int_lt(count, max);
	return count;
}

START_TEST(without_descriptors_accepting_pauses_and_goes_on)
{
	struct rlimit before, low;
	int client = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	int fds[256], count;
	int64_t since_ms;

	getrlimit(RLIMIT_NOFILE, &before);
	low = (struct rlimit){.rlim_cur = (rlim_t)client + 8, .rlim_max = before.rlim_max};
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &low), 0);
	count = use_up_descriptors(fds, 256);
	since_ms = clock_ms();
	address.sin_port = htons(http_port(http, 0));
	ck_assert_int_eq(connect(client, (struct sockaddr *)&address, sizeof address), 0);
	http_get(client, "/version");
	while (metric_value(METRIC_ACCEPT_PAUSES) < 3)
		poll(NULL, 0, 1);
	ck_assert_int_ge(clock_ms() - since_ms, 30); /* it did not spin */
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
	http_read(client, &answer, false);
	ck_assert_int_eq(answer.status, 200);
	while (count > 0)
		close(fds[--count]);
	close(client);
}
END_TEST

static void *drain(void *arg)
{
	http_drain(arg);
	return NULL;
}

START_TEST(draining_finishes_what_was_started)
{
	int waiting = open_client();
	int idle = open_client();
	pthread_t thread;

	get(idle, "/version");
	http_post(waiting, "/v3/kv/range", "", NEVER);
	fake_engine_wait_held(engine, 1);
	ck_assert_int_eq(pthread_create(&thread, NULL, drain, http), 0);
	ck_assert(http_is_closed(idle));
	fake_engine_release(engine);
	http_read(waiting, &answer, false);
	ck_assert_int_eq(answer.status, 200);
	expect_header("Connection", "close");
	pthread_join(thread, NULL);
	close(waiting);
	close(idle);
}
END_TEST

START_TEST(stopping_with_suspended_requests_waits_for_their_calls)
{
	int fds[8];

	for (int i = 0; i < 8; i++) {
		fds[i] = open_client();
		http_post(fds[i], "/v3/kv/range", "", i % 2 == 0 ? NEVER : LATER);
	}
	fake_engine_wait_held(engine, 4);
	fake_engine_release(engine);
	restart();
	ck_assert_int_eq(metric_value(METRIC_CONNECTIONS), 0);
	for (int i = 0; i < 8; i++)
		close(fds[i]);
}
END_TEST

START_TEST(a_listener_that_is_no_url_is_refused)
{
	static const char *const BAD[] = {"",
	                                  "127.0.0.1:1",
	                                  "http://127.0.0.1",
	                                  "http://127.0.0.1:x",
	                                  "http://127.0.0.1:65536",
	                                  "https://127.0.0.1:0"};
	struct http *other;

	config.listeners = BAD[_i];
	ck_assert_int_eq(http_serve(&config, engine, &other), STATUS_BAD_CONFIG);
}
END_TEST

START_TEST(a_port_in_use_is_refused)
{
	struct http *other;
	char url[64];

	snprintf(url, sizeof url, "http://127.0.0.1:%u", http_port(http, 0));
	config.listeners = url;
	ck_assert_int_eq(http_serve(&config, engine, &other), STATUS_CANNOT_LISTEN);
}
END_TEST

START_TEST(a_host_that_is_not_here_is_refused)
{
	/* RFC 5737 keeps the first from being anybody's, RFC 6761 the second. */
	static const char *const BAD[] = {"http://192.0.2.1:0", "http://nobody.invalid:0"};
	struct http *other;

	config.listeners = BAD[_i];
	ck_assert_int_eq(http_serve(&config, engine, &other), STATUS_CANNOT_LISTEN);
}
END_TEST

START_TEST(a_listener_is_named_with_the_port_it_got)
{
	static const struct {
		const char *listener;
		const char *host;
		bool is_loopback;
	} LISTENERS[] = {
		{"HTTP://127.0.0.2:0/", "127.0.0.2", true},
		{"http://localhost:0", "localhost", true},
		{"http://0.0.0.0:0", "0.0.0.0", false},
		{"http://:0", "", false},
	};
	char url[64];

	config.listeners = LISTENERS[_i].listener;
	restart();
	snprintf(url, sizeof url, "http://%s:%u", LISTENERS[_i].host, http_port(http, 0));
	ck_assert_str_eq(http_url(http, 0), url);
	ck_assert_int_eq(http_is_loopback(http, 0), LISTENERS[_i].is_loopback);
}
END_TEST

START_TEST(several_listeners_serve_at_once)
{
	config.listeners = "http://127.0.0.1:0,http://localhost:0/";
	restart();
	ck_assert_uint_eq(http_listener_count(http), 2);
	for (size_t i = 0; i < 2; i++) {
		int fd = http_connect(http_port(http, i));

		get(fd, "/version");
		ck_assert_int_eq(answer.status, 200);
		close(fd);
	}
}
END_TEST

#define COUNT(array) ((int)(sizeof(array) / sizeof(array)[0]))

static Suite *make_suite(void)
{
	Suite *suite = suite_create("http");
	TCase *requests = tcase_create("requests");
	TCase *life = tcase_create("life");

	tcase_add_checked_fixture(requests, start, stop);
	tcase_set_timeout(requests, 60);
	tcase_add_test(requests, an_answer_that_is_there_is_sent_at_once);
	tcase_add_test(requests, an_answer_may_come_from_another_thread);
	tcase_add_test(requests, an_error_has_its_code_and_no_grpc_header);
	tcase_add_test(requests, pipelined_requests_are_answered_in_order);
	tcase_add_test(requests, a_chunked_body_is_put_together);
	tcase_add_test(requests, the_token_comes_from_one_of_two_headers);
	tcase_add_loop_test(requests, the_time_limit_is_read, 0, COUNT(TIMEOUTS));
	tcase_add_loop_test(requests, a_head_that_cannot_be_trusted_ends_the_connection, 0,
	                    COUNT(BAD_HEADS));
	tcase_add_test(requests, http_1_0_needs_no_host);
	tcase_add_test(requests, expect_100_continue_is_answered);
	tcase_add_loop_test(requests, every_path_has_its_answer, 0, COUNT(PATHS));
	tcase_add_test(requests, health_follows_the_alarms);
	tcase_add_test(requests, a_node_of_a_shared_log_is_ready_when_it_has_caught_up);
	tcase_add_test(requests, metrics_tell_leader_lag_and_hash_of_a_shared_log);
	tcase_add_test(requests, a_server_that_cannot_write_is_not_healthy);
	tcase_add_test(requests, a_message_above_the_limit_is_read_and_refused);
	tcase_add_test(requests, only_listed_origins_get_cors_headers);
	tcase_add_test(requests, other_hosts_are_refused);
	tcase_add_test(requests, a_form_may_stand_for_another_method);
	suite_add_tcase(suite, requests);

	tcase_add_checked_fixture(life, start, stop);
	tcase_set_timeout(life, 120);
	tcase_add_test(life, http_2_is_closed);
	tcase_add_test(life, a_client_that_leaves_frees_its_connection_before_the_call_ends);
	tcase_add_test(life, a_half_closed_client_is_told_that_it_canceled);
	tcase_add_test(life, a_client_that_half_closed_with_its_request_is_told_too);
	tcase_add_test(life, half_closed_connections_are_closed);
	tcase_add_test(life, all_that_came_before_a_half_close_is_answered);
	tcase_add_test(life, clients_vanish_at_random_and_leave_nothing);
	tcase_add_test(life, requests_that_wait_hold_up_no_others);
	tcase_add_test(life, a_long_target_is_read_beside_requests_that_wait);
	tcase_add_test(life, large_messages_pass_requests_that_wait);
	tcase_add_test(life, waiting_costs_no_time);
	tcase_add_test(life, at_the_limit_clients_wait_to_be_accepted);
	tcase_add_test(life, without_descriptors_accepting_pauses_and_goes_on);
	tcase_add_test(life, draining_finishes_what_was_started);
	tcase_add_test(life, stopping_with_suspended_requests_waits_for_their_calls);
	tcase_add_loop_test(life, a_listener_that_is_no_url_is_refused, 0, 6);
	tcase_add_test(life, a_port_in_use_is_refused);
	tcase_add_loop_test(life, a_host_that_is_not_here_is_refused, 0, 2);
	tcase_add_loop_test(life, a_listener_is_named_with_the_port_it_got, 0, 4);
	tcase_add_test(life, several_listeners_serve_at_once);
	suite_add_tcase(suite, life);
	return suite;
}

int main(void)
{
	return test_run(make_suite());
}
