/* SPDX-License-Identifier: Apache-2.0 */
/* Streams over HTTP, against the fake engine. */
#include "edge/http.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/config.h"
#include "base/metrics.h"
#include "base/process.h"
#include "edge/json.h"
#include "edge/out_queue.h"
#include "edge/stream_json.h"
#include "engine/method.h"
#include "engine/stream.h"
#include "lib/fake_engine.h"
#include "lib/fake_streams.h"
#include "lib/http_client.h"
#include "lib/test.h"
#include "rpc.pb-c.h"
#include "state/event.h"

/* Keys in base64. */
#define CREATE "{\"create_request\":{\"key\":\"YQ==\"}}"
#define QUIET "{\"create_request\":{\"key\":\"cXVpZXQ=\"}}"
#define ERROR "{\"create_request\":{\"key\":\"ZXJyb3I=\"}}"
#define FLOOD "{\"create_request\":{\"key\":\"Zmxvb2Q=\"}}"
#define CANCEL "{\"cancel_request\":{}}"
#define CREATED(id)                                                                                        \
	"{\"result\":{\"header\":{\"revision\":\"2\"},\"watch_id\":\"" id "\",\"created\":true}}\n"
#define PUT_A                                                                                              \
	"{\"result\":{\"header\":{\"revision\":\"2\"},\"events\":[{\"kv\":{\"key\":\"YQ==\","              \
	"\"mod_revision\":\"3\",\"value\":\"Yg==\"}}]}}\n"

enum { IDLE_STREAMS = 500, LARGE_BYTES = 30000, MANY_EVENTS = 200, MESSAGE_BYTES = 64 << 10 };

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
	http_stop(http);
	fake_engine_free(engine);
}

/* Loops run on their own threads. */
static void await(int (*count)(void), int value)
{
	for (int i = 0; i < 10000 && count() != value; i++)
		poll(NULL, 0, 1);
	ck_assert_int_eq(count(), value);
}

static int connections(void)
{
	return (int)metric_value(METRIC_CONNECTIONS);
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

/* A watch whose first message has come. */
static int open_watch(void)
{
	int fd = open_client();

	http_post(fd, "/v3/watch", "", CREATE);
	http_read_head(fd, &answer);
	ck_assert_int_eq(answer.status, 200);
	http_read_chunk(fd, &answer);
	ck_assert_str_eq(answer.body, CREATED("1"));
	return fd;
}

static void expect_header(const char *name, const char *value)
{
	const char *found = http_header(&answer, name);

	if (value == NULL)
		ck_assert_msg(found == NULL, "%s: %s", name, found);
	else
		ck_assert_str_eq(found != NULL ? found : "(absent)", value);
}

static void expect_silence(int fd)
{
	struct pollfd readable = {.fd = fd, .events = POLLIN};

	ck_assert_int_eq(poll(&readable, 1, 50), 0);
}

/* ---- Messages ---- */

START_TEST(a_stream_is_a_response_in_chunks)
{
	int fd = open_client();

	http_post(fd, "/v3/watch", "", CREATE);
	http_read_head(fd, &answer);
	ck_assert_int_eq(answer.status, 200);
	expect_header("Content-Type", "application/json");
	expect_header("Grpc-Metadata-Content-Type", "application/grpc");
	expect_header("Access-Control-Allow-Origin", "*");
	expect_header("Transfer-Encoding", "chunked");
	expect_header("Connection", "close");
	expect_header("Content-Length", NULL);
	ck_assert_uint_eq(strlen(http_header(&answer, "Date")), strlen("Mon, 23 Nov 2026 07:06:14 GMT"));
	http_read_chunk(fd, &answer);
	ck_assert_str_eq(answer.body, CREATED("1"));
	close(fd);
}
END_TEST

START_TEST(events_from_another_thread_reach_every_watch)
{
	int fds[20];

	for (int i = 0; i < 20; i++)
		fds[i] = open_watch();
	for (int turn = 0; turn < 50; turn++)
		fake_streams_publish("a", "b", 1);
	for (int i = 0; i < 20; i++) {
		for (int turn = 0; turn < 50; turn++) {
			http_read_chunk(fds[i], &answer);
			ck_assert_str_eq(answer.body, PUT_A);
		}
		close(fds[i]);
	}
}
END_TEST

START_TEST(large_events_are_not_copied_and_are_let_go)
{
	static char value[LARGE_BYTES];
	int fds[4];

	memset(value, 'v', sizeof value);
	for (int i = 0; i < 4; i++)
		fds[i] = open_watch();
	fake_streams_publish("a", value, sizeof value);
	for (int i = 0; i < 4; i++) {
		ck_assert_uint_gt(http_read_chunk(fds[i], &answer), sizeof value);
		ck_assert_str_eq(answer.body + strlen(answer.body) - strlen("}}]}}\n"), "}}]}}\n");
		close(fds[i]);
	}
	await(fake_streams_batches, 0);
}
END_TEST

START_TEST(nothing_is_sent_before_the_first_message)
{
	int fd = open_client();

	http_post(fd, "/v3/watch", "", QUIET);
	await(fake_streams_requests, 1);
	expect_silence(fd);
	fake_streams_publish("a", "b", 1);
	http_read_head(fd, &answer);
	ck_assert_int_eq(answer.status, 200);
	http_read_chunk(fd, &answer);
	ck_assert_str_eq(answer.body, PUT_A);
	close(fd);
}
END_TEST

START_TEST(a_body_may_hold_several_messages)
{
	int fd = open_client();

	http_post(fd, "/v3/watch", "", " " CREATE CREATE "\n\t" CREATE "\r\n");
	http_read_head(fd, &answer);
	http_read_chunk(fd, &answer);
	ck_assert_str_eq(answer.body, CREATED("1"));
	http_read_chunk(fd, &answer);
	ck_assert_str_eq(answer.body, CREATED("2"));
	http_read_chunk(fd, &answer);
	ck_assert_str_eq(answer.body, CREATED("3"));
	expect_silence(fd);
	close(fd);
}
END_TEST

static const char *const AFTER_FIRST[] = {"garbage", "[]", "{\"create_request\":5}", "}", "{\"a\""};

START_TEST(what_comes_before_garbage_holds)
{
	int fd = open_client();
	char body[256];

	snprintf(body, sizeof body, "%s%s", CREATE, AFTER_FIRST[_i]);
	http_post(fd, "/v3/watch", "", body);
	http_read_head(fd, &answer);
	http_read_chunk(fd, &answer);
	ck_assert_str_eq(answer.body, CREATED("1"));
	fake_streams_publish("a", "b", 1);
	http_read_chunk(fd, &answer);
	ck_assert_str_eq(answer.body, PUT_A);
	close(fd);
}
END_TEST

static const char *const SILENT[] = {"{}", "{\"bogus\":{}}", "{\"create_request\":null}", "{}{}{}"};

START_TEST(messages_that_open_nothing_leave_it_open)
{
	int fd = open_client();

	http_post(fd, "/v3/watch", "", SILENT[_i]);
	await(fake_streams_count, 1);
	expect_silence(fd);
	close(fd);
}
END_TEST

static const char *const BROKEN[] = {
	"", " \n", "garbage", "[]", "null", "{\"create_request\":{\"key\":5}}", "{\"a", "5"};

START_TEST(a_body_without_a_message_is_refused)
{
	int fd = open_client();

	post(fd, "/v3/watch", "", BROKEN[_i]);
	ck_assert_int_eq(answer.status, 400);
	expect_header("Content-Type", "application/json");
	ck_assert_ptr_nonnull(strstr(answer.body, "{\"code\":3,\"message\":\""));
	/* The connection stays. */
	post(fd, "/v3/kv/range", "", "{\"key\":\"YQ==\"}");
	ck_assert_int_eq(answer.status, 200);
	ck_assert_int_eq(fake_streams_opened(), 0);
	close(fd);
}
END_TEST

START_TEST(a_body_of_too_many_messages_is_worked_off_to_the_limit)
{
	static char body[2 * 3000000 + 1];
	int fd = open_client();

	stop();
	config.max_request_bytes = 4 << 20;
	engine = fake_engine_new();
	ck_assert_int_eq(http_serve(&config, engine, &http), STATUS_OK);
	close(fd);
	fd = open_client();
	for (size_t i = 0; i + 2 < sizeof body; i += 2)
		memcpy(body + i, "{}", 2);
	http_post(fd, "/v3/watch", "", body);
	await(fake_streams_requests, 10000);
	expect_silence(fd);
	close(fd);
	await(fake_streams_count, 0);
	ck_assert_int_eq(fake_streams_requests(), 10000);
}
END_TEST

START_TEST(a_body_beyond_the_limit_is_refused)
{
	static char body[3 << 20];
	int fd = open_client();

	memset(body, ' ', sizeof body - 1);
	post(fd, "/v3/watch", "", body);
	ck_assert_int_eq(answer.status, 429);
	ck_assert_int_eq(fake_streams_opened(), 0);
	close(fd);
}
END_TEST

START_TEST(a_client_of_http_1_0_gets_lines)
{
	char request[256];
	int fd = open_client();

	snprintf(request, sizeof request,
	         "POST /v3/watch HTTP/1.0\r\nHost: localhost\r\nContent-Length: %zu\r\n\r\n%s",
	         strlen(CREATE CANCEL), CREATE CANCEL);
	http_send(fd, request);
	http_read_head(fd, &answer);
	ck_assert_int_eq(answer.status, 200);
	expect_header("Transfer-Encoding", NULL);
	ck_assert(http_receive(fd, answer.body, strlen(CREATED("1"))));
	ck_assert_mem_eq(answer.body, CREATED("1"), strlen(CREATED("1")));
	ck_assert(http_is_closed(fd));
	close(fd);
}
END_TEST

START_TEST(a_method_of_one_request_takes_the_first)
{
	int fd = open_client();

	http_post(fd, "/v3/election/observe", "", "{\"name\":\"YQ==\"}{\"name\":\"Yg==\"}");
	http_read_head(fd, &answer);
	http_read_chunk(fd, &answer);
	ck_assert_str_eq(answer.body, "{\"result\":{\"kv\":{\"key\":\"YQ==\"}}}\n");
	expect_silence(fd);
	ck_assert_int_eq(fake_streams_requests(), 1);
	close(fd);
	await(fake_streams_count, 0);

	fd = open_client();
	http_post(fd, "/v3/election/observe", "", "");
	http_read_head(fd, &answer);
	http_read_chunk(fd, &answer);
	ck_assert_str_eq(answer.body, "{\"result\":{\"kv\":{}}}\n");
	close(fd);
}
END_TEST

/* ---- The end ---- */

START_TEST(a_stream_that_ends_has_a_last_chunk)
{
	int fd = open_client();

	http_post(fd, "/v3/watch", "", CREATE CANCEL);
	http_read_head(fd, &answer);
	ck_assert_uint_gt(http_read_chunk(fd, &answer), 0);
	ck_assert_uint_eq(http_read_chunk(fd, &answer), 0);
	ck_assert(http_is_closed(fd));
	close(fd);
	await(connections, 0);
	ck_assert_int_eq(fake_streams_count(), 0);
}
END_TEST

START_TEST(an_error_before_the_first_message_decides_the_status)
{
	int fd = open_client();

	fake_engine_fail_with(engine, STATUS_NO_SPACE);
	post(fd, "/v3/watch", "", ERROR);
	ck_assert_int_eq(answer.status, 429);
	expect_header("Content-Type", "application/json");
	expect_header("Grpc-Metadata-Content-Type", NULL);
	ck_assert_str_eq(
		answer.body,
		"{\"error\":{\"code\":8,\"message\":\"etcdserver: mvcc: database space exceeded\"}}\n");
	ck_assert(http_is_closed(fd));
	close(fd);
}
END_TEST

START_TEST(an_error_after_it_is_a_line)
{
	int fd = open_client();

	fake_engine_fail_with(engine, STATUS_NO_SPACE);
	http_post(fd, "/v3/watch", "", CREATE ERROR CREATE);
	http_read_head(fd, &answer);
	ck_assert_int_eq(answer.status, 200);
	http_read_chunk(fd, &answer);
	http_read_chunk(fd, &answer);
	ck_assert_str_eq(
		answer.body,
		"{\"error\":{\"code\":8,\"message\":\"etcdserver: mvcc: database space exceeded\"}}\n");
	ck_assert_uint_eq(http_read_chunk(fd, &answer), 0);
	close(fd);
}
END_TEST

START_TEST(a_stream_may_be_refused_at_once)
{
	int fd = open_client();

	fake_engine_fail_with(engine, STATUS_UNIMPLEMENTED);
	post(fd, "/v3/watch", "Authorization: Bearer refused\r\n", CREATE);
	ck_assert_int_eq(answer.status, 501);
	ck_assert_str_eq(answer.body, "{\"error\":{\"code\":12,\"message\":\"unimplemented\"}}\n");
	close(fd);
	await(connections, 0);
	ck_assert_int_eq(fake_streams_requests(), 0);
}
END_TEST

START_TEST(a_time_limit_ends_a_stream)
{
	int fd = open_client();

	http_post(fd, "/v3/watch", "Grpc-Timeout: 30m\r\n", CREATE);
	http_read_head(fd, &answer);
	http_read_chunk(fd, &answer);
	http_read_chunk(fd, &answer);
	ck_assert_str_eq(answer.body,
	                 "{\"error\":{\"code\":4,\"message\":\"context deadline exceeded\"}}\n");
	ck_assert_uint_eq(http_read_chunk(fd, &answer), 0);
	close(fd);
	await(fake_streams_count, 0);
}
END_TEST

START_TEST(a_bad_time_limit_is_refused)
{
	int fd = open_client();

	post(fd, "/v3/watch", "Grpc-Timeout: soon\r\n", CREATE);
	ck_assert_int_eq(answer.status, 400);
	close(fd);
}
END_TEST

/* ---- Clients that leave ---- */

START_TEST(a_client_that_leaves_closes_the_stream)
{
	int fd = open_watch();

	await(fake_streams_count, 1);
	close(fd);
	await(fake_streams_count, 0);
	await(connections, 0);
}
END_TEST

START_TEST(a_client_that_half_closes_does_too)
{
	int fd = open_watch();

	shutdown(fd, SHUT_WR);
	ck_assert(http_is_closed(fd));
	await(fake_streams_count, 0);
	close(fd);
}
END_TEST

START_TEST(a_client_that_resets_does_too)
{
	const struct linger now = {.l_onoff = 1};
	int fd = open_watch();

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
	close(fd);
	await(fake_streams_count, 0);
	await(connections, 0);
}
END_TEST

START_TEST(a_client_that_left_with_its_request_is_noticed)
{
	for (int i = 0; i < 50; i++) {
		int fd = open_client();

		http_post(fd, "/v3/watch", "", i % 2 == 0 ? CREATE : FLOOD);
		close(fd);
	}
	await(connections, 0);
	await(fake_streams_count, 0);
}
END_TEST

static int64_t cpu_ms(void)
{
	struct process_info info;

	process_read(&info);
	return info.cpu_us / 1000;
}

START_TEST(what_a_client_sends_on_is_ignored_and_costs_nothing)
{
	int fd = open_watch();
	int64_t before_ms;

	http_post(fd, "/v3/watch", "", CREATE);
	before_ms = cpu_ms();
	poll(NULL, 0, 200);
	ck_assert_int_lt(cpu_ms() - before_ms, 100);
	fake_streams_publish("a", "b", 1);
	http_read_chunk(fd, &answer);
	ck_assert_str_eq(answer.body, PUT_A);
	ck_assert_int_eq(fake_streams_opened(), 1);
	close(fd);
}
END_TEST

START_TEST(a_client_that_does_not_read_holds_the_engine_back)
{
	int fd = open_client();
	int sent, got = 0;

	http_post(fd, "/v3/watch", "", FLOOD);
	await(fake_streams_requests, 1);
	/* Until nothing moves any more. */
	for (sent = -1; sent != fake_streams_flooded(); poll(NULL, 0, 50))
		sent = fake_streams_flooded();
	ck_assert_int_lt(sent, FAKE_FLOOD_MESSAGES);
	http_read_head(fd, &answer);
	http_read_chunk(fd, &answer);
	while (got < FAKE_FLOOD_MESSAGES) {
		ck_assert_uint_gt(http_read_chunk(fd, &answer), FAKE_FLOOD_BYTES);
		got++;
	}
	ck_assert_int_eq(fake_streams_flooded(), FAKE_FLOOD_MESSAGES);
	close(fd);
}
END_TEST

/* ---- Many ---- */

/* A sanitizer's allocator keeps what was freed. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

START_TEST(idle_streams_take_little_memory)
{
	static int fds[IDLE_STREAMS];
	struct process_info before, after;

	for (int i = 0; i < 8; i++)
		close(open_watch());
	await(fake_streams_count, 0);
	process_read(&before);
	for (int i = 0; i < IDLE_STREAMS; i++)
		fds[i] = open_watch();
	ck_assert_int_eq(fake_streams_count(), IDLE_STREAMS);
	process_read(&after);
	if (!SANITIZED)
		ck_assert_int_lt((after.resident_bytes - before.resident_bytes) / IDLE_STREAMS, 4096);
	for (int i = 0; i < IDLE_STREAMS; i++)
		close(fds[i]);
	await(fake_streams_count, 0);
	await(connections, 0);
}
END_TEST

START_TEST(connections_may_be_reused_before_a_stream)
{
	int fd = open_client();

	for (int i = 0; i < 5; i++) {
		post(fd, "/v3/kv/range", "", "{\"key\":\"YQ==\"}");
		ck_assert_int_eq(answer.status, 200);
	}
	http_post(fd, "/v3/watch", "", CREATE);
	http_read_head(fd, &answer);
	http_read_chunk(fd, &answer);
	ck_assert_str_eq(answer.body, CREATED("1"));
	ck_assert_int_eq(connections(), 1);
	close(fd);
	await(connections, 0);
}
END_TEST

/* ---- One answer for many requests ---- */

START_TEST(a_keep_alive_is_one_answer)
{
	int fd = open_client();

	for (int i = 0; i < 3; i++) {
		post(fd, "/v3/lease/keepalive", "",
		     i == 0 ? "{\"ID\":1}" : "{\"ID\":1}{\"ID\":\"2\"}garbage");
		ck_assert_int_eq(answer.status, 200);
		expect_header("Content-Type", "application/json");
		expect_header("Grpc-Metadata-Content-Type", "application/grpc");
		expect_header("Connection", NULL);
		ck_assert_str_eq(answer.body, i == 0 ? "{\"result\":{\"ID\":\"1\",\"TTL\":\"60\"}}\n"
		                                     : "{\"result\":{\"ID\":\"1\",\"TTL\":\"60\"}}\n"
		                                       "{\"result\":{\"ID\":\"2\",\"TTL\":\"60\"}}\n");
	}
	await(fake_streams_count, 0); /* it goes once the answer is sent */
	close(fd);
}
END_TEST

START_TEST(a_keep_alive_may_be_answered_later)
{
	int fd = open_client();

	for (int i = 0; i < 100; i++) {
		post(fd, "/v3/lease/keepalive", "", "{\"ID\":2000}");
		ck_assert_int_eq(answer.status, 200);
		ck_assert_str_eq(answer.body, "{\"result\":{\"ID\":\"2000\",\"TTL\":\"60\"}}\n");
	}
	close(fd);
}
END_TEST

START_TEST(a_keep_alive_without_a_request_is_answered_with_nothing)
{
	static const char *const bodies[] = {"", "garbage", "{\"ID\":\"x\"}"};
	int fd = open_client();

	post(fd, "/v3/lease/keepalive", "", bodies[_i]);
	ck_assert_int_eq(answer.status, 200);
	expect_header("Content-Type", NULL);
	expect_header("Content-Length", "0");
	post(fd, "/v3/lease/keepalive", "", "{}");
	ck_assert_str_eq(answer.body, "{\"result\":{\"TTL\":\"60\"}}\n");
	close(fd);
}
END_TEST

START_TEST(a_keep_alive_may_be_refused)
{
	int fd = open_client();

	fake_engine_fail_with(engine, STATUS_STOPPED);
	post(fd, "/v3/lease/keepalive", "Authorization: refused\r\n", "{\"ID\":1}");
	ck_assert_int_eq(answer.status, 503);
	ck_assert_str_eq(answer.body,
	                 "{\"error\":{\"code\":14,\"message\":\"etcdserver: server stopped\"}}\n");
	close(fd);
}
END_TEST

/* ---- Draining ---- */

START_TEST(draining_ends_streams)
{
	int begun = open_watch();
	int silent = open_client();

	http_post(silent, "/v3/watch", "", QUIET);
	await(fake_streams_count, 2);
	http_drain(http);
	ck_assert_uint_eq(http_read_chunk(begun, &answer), 0);
	ck_assert(http_is_closed(begun));
	http_read(silent, &answer, false);
	ck_assert_int_eq(answer.status, 503);
	ck_assert_str_eq(answer.body,
	                 "{\"error\":{\"code\":14,\"message\":\"etcdserver: server stopped\"}}\n");
	ck_assert_int_eq(fake_streams_count(), 0);
	close(begun);
	close(silent);
}
END_TEST

START_TEST(stopping_cuts_streams)
{
	int fds[3];

	for (int i = 0; i < 3; i++)
		fds[i] = open_watch();
	http_stop(http);
	http = NULL;
	ck_assert_int_eq(fake_streams_count(), 0);
	for (int i = 0; i < 3; i++) {
		ck_assert(http_is_closed(fds[i]));
		close(fds[i]);
	}
}
END_TEST

/* ---- Many events in one message ---- */

static struct event_batch *make_deletions(void)
{
	struct event_batch *batch = event_batch_new();
	uint8_t key[8] = {0};
	Pb__KeyValue kv;

	pb__key_value__init(&kv);
	kv.key = (ProtobufCBinaryData){.len = sizeof key, .data = key};
	kv.mod_revision = 3;
	for (size_t i = 0; i < MANY_EVENTS; i++) {
		key[0] = (uint8_t)i;
		ck_assert_ptr_nonnull(event_batch_add(batch, true, &kv));
	}
	return batch;
}

/* Queues a message of these events, and checks that it has the length it says. */
static void queue_events(struct out_queue *queue, struct event *const *events, size_t count)
{
	Pb__WatchResponse head;
	struct watch_message message = {.head = &head.base, .events = events, .count = count};
	struct stream_json json;
	struct buf text;

	pb__watch_response__init(&head);
	buf_init(&text);
	ck_assert(stream_json_events(&json, &text, &message));
	stream_json_append(&json, queue);
	ck_assert_uint_eq(queue->len, json.len);
	buf_release(&text);
}

/* Sends what is queued, and shows it. */
static void show_queue(struct out_queue *queue, char shown[static MESSAGE_BYTES])
{
	size_t len = queue->len;
	int ends[2];

	ck_assert_uint_lt(len, MESSAGE_BYTES);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	ck_assert_int_eq(out_queue_send(queue, ends[0]), OUT_EMPTY);
	ck_assert_int_eq(recv(ends[1], shown, len, MSG_WAITALL), (ssize_t)len);
	shown[len] = '\0';
	close(ends[0]);
	close(ends[1]);
}

/* The same, event by event. */
static void write_events(char *to, struct event *const *events, size_t count)
{
	struct buf buf;

	buf_init(&buf);
	buf_append_text(&buf, "{\"result\":{\"events\":[");
	for (size_t i = 0; i < count; i++) {
		buf_append_text(&buf, i > 0 ? "," : "");
		json_encode(&events[i]->pb.base, &buf);
	}
	buf_append_text(&buf, "]}}");
	buf_append_byte(&buf, '\0');
	ck_assert(!buf.failed && buf.len <= MESSAGE_BYTES);
	memcpy(to, buf.data, buf.len);
	buf_release(&buf);
}

START_TEST(streams_share_the_text_of_many_events)
{
	static char expected[MESSAGE_BYTES], shown[MESSAGE_BYTES];
	struct event_batch *batch = make_deletions();
	struct out_queue queues[2];

	for (int i = 0; i < 2; i++) {
		out_queue_init(&queues[i]);
		queue_events(&queues[i], batch->events, MANY_EVENTS);
		/* Held for a reference: the text was not copied. */
		ck_assert_int_eq(atomic_load(&batch->refs), 2 + i);
	}
	write_events(expected, batch->events, MANY_EVENTS);
	for (int i = 0; i < 2; i++) {
		show_queue(&queues[i], shown);
		ck_assert_str_eq(shown, expected);
	}
	ck_assert_int_eq(atomic_load(&batch->refs), 1);
	/* No event was written by itself. */
	for (size_t i = 0; i < MANY_EVENTS; i++)
		ck_assert_ptr_null(atomic_load(&batch->events[i]->forms[EVENT_JSON]));
	event_batch_release(batch);
}
END_TEST

/* With holes, of two batches, few: by count of the events and of those left out. */
START_TEST(any_events_make_a_message)
{
	static char expected[MESSAGE_BYTES], shown[MESSAGE_BYTES];
	struct event_batch *batches[2] = {make_deletions(), make_deletions()};
	struct event *events[2 * MANY_EVENTS];
	struct out_queue queue;

	out_queue_init(&queue);
	for (size_t step = 1; step < 2 * MANY_EVENTS; step++) {
		size_t count = 0;

		for (size_t i = 0; i < 2 * MANY_EVENTS; i += step)
			events[count++] = batches[i / MANY_EVENTS]->events[i % MANY_EVENTS];
		queue_events(&queue, events, count);
		show_queue(&queue, shown);
		write_events(expected, events, count);
		ck_assert_str_eq(shown, expected);
	}
	event_batch_release(batches[0]);
	event_batch_release(batches[1]);
}
END_TEST

#define COUNT(array) ((int)(sizeof(array) / sizeof(array)[0]))

int main(void)
{
	Suite *suite = suite_create("stream");
	TCase *tcase = tcase_create("stream");

	tcase_add_checked_fixture(tcase, start, stop);
	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, a_stream_is_a_response_in_chunks);
	tcase_add_test(tcase, events_from_another_thread_reach_every_watch);
	tcase_add_test(tcase, large_events_are_not_copied_and_are_let_go);
	tcase_add_test(tcase, nothing_is_sent_before_the_first_message);
	tcase_add_test(tcase, a_body_may_hold_several_messages);
	tcase_add_loop_test(tcase, what_comes_before_garbage_holds, 0, COUNT(AFTER_FIRST));
	tcase_add_loop_test(tcase, messages_that_open_nothing_leave_it_open, 0, COUNT(SILENT));
	tcase_add_loop_test(tcase, a_body_without_a_message_is_refused, 0, COUNT(BROKEN));
	tcase_add_test(tcase, a_body_of_too_many_messages_is_worked_off_to_the_limit);
	tcase_add_test(tcase, a_body_beyond_the_limit_is_refused);
	tcase_add_test(tcase, a_client_of_http_1_0_gets_lines);
	tcase_add_test(tcase, a_method_of_one_request_takes_the_first);
	tcase_add_test(tcase, a_stream_that_ends_has_a_last_chunk);
	tcase_add_test(tcase, an_error_before_the_first_message_decides_the_status);
	tcase_add_test(tcase, an_error_after_it_is_a_line);
	tcase_add_test(tcase, a_stream_may_be_refused_at_once);
	tcase_add_test(tcase, a_time_limit_ends_a_stream);
	tcase_add_test(tcase, a_bad_time_limit_is_refused);
	tcase_add_test(tcase, a_client_that_leaves_closes_the_stream);
	tcase_add_test(tcase, a_client_that_half_closes_does_too);
	tcase_add_test(tcase, a_client_that_resets_does_too);
	tcase_add_test(tcase, a_client_that_left_with_its_request_is_noticed);
	tcase_add_test(tcase, what_a_client_sends_on_is_ignored_and_costs_nothing);
	tcase_add_test(tcase, a_client_that_does_not_read_holds_the_engine_back);
	tcase_add_test(tcase, idle_streams_take_little_memory);
	tcase_add_test(tcase, connections_may_be_reused_before_a_stream);
	tcase_add_test(tcase, a_keep_alive_is_one_answer);
	tcase_add_test(tcase, a_keep_alive_may_be_answered_later);
	tcase_add_loop_test(tcase, a_keep_alive_without_a_request_is_answered_with_nothing, 0, 3);
	tcase_add_test(tcase, a_keep_alive_may_be_refused);
	tcase_add_test(tcase, draining_ends_streams);
	tcase_add_test(tcase, stopping_cuts_streams);
	suite_add_tcase(suite, tcase);

	tcase = tcase_create("events");
	tcase_add_test(tcase, streams_share_the_text_of_many_events);
	tcase_add_test(tcase, any_events_make_a_message);
	suite_add_tcase(suite, tcase);
	return test_run(suite);
}
