/* SPDX-License-Identifier: Apache-2.0 */
/* Streams over WebSockets: the frames by themselves, and the whole against the
 * fake engine. */
#include "edge/websocket.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/config.h"
#include "base/metrics.h"
#include "edge/body.h"
#include "edge/client_stream.h"
#include "edge/handshake.h"
#include "edge/http.h"
#include "edge/listen_set.h"
#include "edge/listener.h"
#include "edge/out_queue.h"
#include "edge/stream_set.h"
#include "engine/method.h"
#include "lib/fake_engine.h"
#include "lib/fake_streams.h"
#include "lib/test.h"
#include "lib/ws_client.h"

/* Keys in base64. */
#define CREATE "{\"create_request\":{\"key\":\"YQ==\"}}"
#define ERROR "{\"create_request\":{\"key\":\"ZXJyb3I=\"}}"
#define SILENT_FLOOD "{\"create_request\":{\"key\":\"c2lsZW50IGZsb29k\"}}"
#define CANCEL "{\"cancel_request\":{}}"
#define CREATED(id)                                                                                        \
	"{\"result\":{\"header\":{\"revision\":\"2\"},\"watch_id\":\"" id "\",\"created\":true}}"

enum { FIN = 0x80, RSV1 = 0x40, LARGE_BYTES = 100000 };

static struct engine *engine;
static struct reader *reader; /* where there is no http */
static struct http *http;
static struct http_answer answer;
static struct ws_frame frame;
static struct config config;

static void start_with(const char *origins)
{
	signal(SIGPIPE, SIG_IGN);
	method_init();
	config = (struct config){
		.listeners = "http://127.0.0.1:0",
		.cors_origins = origins,
		.max_request_bytes = 2048,
		.http_threads = 2,
		.slow_request_ms = 1000,
	};
	engine = fake_engine_new();
	ck_assert_int_eq(http_serve(&config, engine, &http), STATUS_OK);
}

static void start(void)
{
	start_with(NULL);
}

static void start_with_origin(void)
{
	start_with("https://board.example");
}

static void stop(void)
{
	http_stop(http);
	fake_engine_free(engine);
}

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

static int open_socket(const char *path)
{
	int fd = open_client();

	ws_ask(fd, path, "", &answer);
	ck_assert_int_eq(answer.status, 101);
	return fd;
}

static void expect_text(int fd, const char *text)
{
	ws_read(fd, &frame);
	ck_assert_int_eq(frame.opcode, WS_TEXT);
	ck_assert_str_eq(frame.data, text);
}

static void expect_close(int fd, unsigned code)
{
	ws_read(fd, &frame);
	ck_assert_int_eq(frame.opcode, WS_CLOSE);
	ck_assert_uint_eq(frame.code, code);
}

static void expect_header(const char *name, const char *value)
{
	const char *found = http_header(&answer, name);

	if (value == NULL)
		ck_assert_msg(found == NULL, "%s: %s", name, found);
	else
		ck_assert_str_eq(found != NULL ? found : "(absent)", value);
}

/* ---- Frames alone ---- */

struct heard {
	struct websocket websocket; /* first */
	struct out_queue out;
	int texts;
	size_t len;
};

static void hear(struct websocket *websocket, const char *text, size_t len)
{
	struct heard *heard = (struct heard *)websocket;

	(void)text;
	heard->texts++;
	heard->len = len;
}

static const struct websocket_ops HEARD_OPS = {.text = hear};

static void begin_hearing(struct heard *heard)
{
	*heard = (struct heard){.texts = 0};
	out_queue_init(&heard->out);
	websocket_init(&heard->websocket, &HEARD_OPS, &heard->out, 1000);
}

static void end_hearing(struct heard *heard)
{
	websocket_release(&heard->websocket);
	out_queue_release(&heard->out);
}

/* "hi" in two fragments with a ping between, and a message of 126 bytes. */
static size_t make_frames(uint8_t *to)
{
	static const uint8_t parts[] = {
		WS_TEXT,       0x81, 0, 0,   0, 0, 'h', /* */
		FIN | WS_PING, 0x82, 0, 0,   0, 0, 'p', 'q', FIN | WS_CONTINUE, 0x81, 0, 0, 0, 0, 'i',
		FIN | WS_TEXT, 0xfe, 0, 126, 1, 1, 1,   1,
	};

	memcpy(to, parts, sizeof parts);
	memset(to + sizeof parts, 'x' ^ 1, 126);
	return sizeof parts + 126;
}

START_TEST(frames_may_come_in_any_pieces)
{
	uint8_t bytes[256];
	size_t len = make_frames(bytes);

	for (size_t piece = 1; piece <= len; piece++) {
		struct heard heard;

		begin_hearing(&heard);
		for (size_t at = 0; at < len; at += piece)
			websocket_receive(&heard.websocket, bytes + at,
			                  len - at < piece ? len - at : piece);
		ck_assert_int_eq(heard.texts, 2);
		ck_assert_uint_eq(heard.len, 126);
		ck_assert(!heard.websocket.over);
		ck_assert_uint_eq(heard.out.len, 4); /* the pong */
		ck_assert(!websocket_is_partial(&heard.websocket));
		ck_assert_ptr_null(heard.websocket.frames);
		end_hearing(&heard);
	}
}
END_TEST

START_TEST(an_incomplete_frame_is_partial)
{
	uint8_t bytes[256];
	size_t len = make_frames(bytes);
	struct heard heard;

	begin_hearing(&heard);
	websocket_receive(&heard.websocket, bytes, 1);
	ck_assert(websocket_is_partial(&heard.websocket));
	websocket_receive(&heard.websocket, bytes + 1, 6);
	ck_assert(websocket_is_partial(&heard.websocket));
	ck_assert_ptr_null(heard.websocket.frames);
	websocket_receive(&heard.websocket, bytes + 7, len - 7);
	ck_assert(!websocket_is_partial(&heard.websocket));
	end_hearing(&heard);
}
END_TEST

/* ---- Time ---- */

static struct stream_set set;
static struct listen_set *sockets;
static struct listener *listener;
static struct client_stream *client;
static int ends[2]; /* ours, and the stream's */

static void start_clock(void)
{
	static const struct handshake handshake = {.key = "dGhlIHNhbXBsZSBub25jZQ=="};
	struct listener_options options = {.connection_limit = 1};
	struct client_options client_options = {.set = &set};

	method_init();
	engine = fake_engine_new();
	ck_assert_int_eq(engine_reader_new(engine, &reader), STATUS_OK);
	ck_assert_int_eq(listen_set_open("http://127.0.0.1:0", &sockets), STATUS_OK);
	options.set = sockets;
	ck_assert_int_eq(listener_open(&options, &listener), STATUS_OK);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	stream_set_init(&set, epoll_create1(EPOLL_CLOEXEC), listener, 1000);
	client_options.method = method_by_name("Watch", "Watch");
	client_options.fd = ends[1];
	client = ws_stream_new(&client_options, &handshake);
	ck_assert(stream_set_add(&set, client, CLIENT_QUIET));
	ck_assert(stream_open(engine, reader, &client->stream));
	stream_set_mark(&set, client);
	stream_set_settle(&set);
	http_read_head(ends[0], &answer);
}

static void stop_clock(void)
{
	stream_set_cut(&set);
	close(set.epoll_fd);
	stream_set_release(&set);
	listener_stop(listener);
	listener_free(listener);
	listen_set_free(sockets);
	engine_reader_free(reader);
	fake_engine_free(engine);
	close(ends[0]);
}

static void pass(int64_t ms)
{
	set.now_ms += ms;
	stream_set_check_phases(&set);
	stream_set_settle(&set);
}

/* Lets the stream see what we sent. */
static void let_read(void)
{
	client_stream_read(client);
	stream_set_settle(&set);
}

static bool is_silent(void)
{
	struct pollfd readable = {.fd = ends[0], .events = POLLIN};

	return poll(&readable, 1, 0) == 0;
}

START_TEST(a_quiet_client_is_pinged_and_cut_when_it_does_not_answer)
{
	pass(19999);
	ck_assert(is_silent());
	pass(1);
	ws_read(ends[0], &frame);
	ck_assert_int_eq(frame.opcode, WS_PING);
	ws_send_frame(ends[0], FIN | WS_PONG, "", 0);
	let_read();
	pass(10000);
	pass(19999);
	ck_assert(is_silent());
	pass(1);
	ws_read(ends[0], &frame);
	ck_assert_int_eq(frame.opcode, WS_PING);
	pass(9999);
	ck_assert_uint_eq(set.count, 1);
	pass(1);
	ck_assert_uint_eq(set.count, 0);
	ck_assert(http_is_closed(ends[0]));
}
END_TEST

START_TEST(a_message_that_takes_too_long_is_given_up)
{
	ws_send_frame(ends[0], WS_TEXT, "{", 1);
	let_read();
	for (int i = 0; i < 2; i++) {
		pass(20000);
		ws_read(ends[0], &frame);
		ck_assert_int_eq(frame.opcode, i == 0 ? WS_PING : WS_CLOSE);
		ws_send_frame(ends[0], FIN | WS_PONG, "", 0);
		let_read();
		pass(10000);
	}
	ck_assert_uint_eq(frame.code, 1008);
}
END_TEST

START_TEST(a_client_has_some_time_to_answer_a_close)
{
	client_stream_stop(client);
	stream_set_settle(&set);
	expect_close(ends[0], 1001);
	pass(1999);
	ck_assert_uint_eq(set.count, 1);
	pass(1);
	ck_assert_uint_eq(set.count, 0);
}
END_TEST

static bool receive_some(void)
{
	static char bytes[1 << 16];

	return recv(ends[0], bytes, sizeof bytes, MSG_DONTWAIT) > 0;
}

/* It has no room before the engine has said anything. */
START_TEST(the_engine_goes_on_after_pongs_have_taken_the_room)
{
	char payload[WEBSOCKET_CONTROL_BYTES] = {0};

	while (client->out.len < CLIENT_ROOM_BYTES) {
		ws_send_frame(ends[0], FIN | WS_PING, payload, sizeof payload);
		client_stream_read(client);
	}
	ws_send_text(ends[0], SILENT_FLOOD);
	client_stream_read(client);
	ck_assert_int_eq(fake_streams_requests(), 1);
	ck_assert_int_eq(fake_streams_flooded(), 0);
	do {
		stream_set_mark(&set, client);
		stream_set_settle(&set);
	} while (receive_some());
	ck_assert_int_eq(fake_streams_flooded(), FAKE_FLOOD_MESSAGES);
}
END_TEST

/* ---- The handshake ---- */

START_TEST(the_handshake_answers_the_key)
{
	int fd = open_socket("/v3/watch");

	expect_header("Upgrade", "websocket");
	expect_header("Connection", "Upgrade");
	/* The example of RFC 6455, section 1.3. */
	expect_header("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
	expect_header("Sec-WebSocket-Protocol", NULL);
	close(fd);
	await(fake_streams_count, 0);
	await(connections, 0);
}
END_TEST

#define HOST_LINE "Host: localhost\r\n"
#define UPGRADE_LINES "Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
#define VERSION_13 "Sec-WebSocket-Version: 13\r\n"
#define KEY_LINE "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

static const struct {
	const char *request;
	int status;
} HANDSHAKES[] = {
	{"GET /v3/watch HTTP/1.1\r\n" HOST_LINE UPGRADE_LINES VERSION_13 KEY_LINE "\r\n", 101},
	{"GET /v3/watch HTTP/1.1\r\n" HOST_LINE
         "upgrade: h2c, WebSocket\r\nconnection: UPGRADE\r\n" VERSION_13 KEY_LINE "\r\n",
         101},
	{"GET /v3/watch HTTP/1.1\r\n" HOST_LINE UPGRADE_LINES KEY_LINE "\r\n", 426},
	{"GET /v3/watch HTTP/1.1\r\n" HOST_LINE UPGRADE_LINES "Sec-WebSocket-Version: 8\r\n" KEY_LINE
         "\r\n",
         426},
	{"GET /v3/watch HTTP/1.1\r\n" HOST_LINE UPGRADE_LINES VERSION_13 "\r\n", 400},
	{"GET /v3/watch HTTP/1.1\r\n" HOST_LINE UPGRADE_LINES VERSION_13
         "Sec-WebSocket-Key: c2hvcnQ=\r\n\r\n",
         400},
	{"GET /v3/watch HTTP/1.1\r\n" HOST_LINE UPGRADE_LINES VERSION_13 KEY_LINE KEY_LINE "\r\n", 400},
	{"GET /v3/watch HTTP/1.1\r\n" HOST_LINE "Upgrade: websocket\r\n" VERSION_13 KEY_LINE "\r\n", 400},
	{"GET /v3/watch HTTP/1.0\r\n" HOST_LINE UPGRADE_LINES VERSION_13 KEY_LINE "\r\n", 400},
	{"GET /v3/watch HTTP/1.1\r\n" HOST_LINE VERSION_13 KEY_LINE "\r\n", 501},
	{"GET /v3/nothing HTTP/1.1\r\n" HOST_LINE UPGRADE_LINES VERSION_13 KEY_LINE "\r\n", 404},
	/* Only streams are worth a WebSocket. */
	{"GET /v3/kv/range HTTP/1.1\r\n" HOST_LINE UPGRADE_LINES VERSION_13 KEY_LINE "\r\n", 501},
	/* Origins. */
	{"GET /v3/watch HTTP/1.1\r\n" HOST_LINE UPGRADE_LINES VERSION_13 KEY_LINE
         "Origin: http://localhost\r\n\r\n",
         101},
	{"GET /v3/watch HTTP/1.1\r\n" HOST_LINE UPGRADE_LINES VERSION_13 KEY_LINE
         "Origin: https://LOCALHOST\r\n\r\n",
         101},
	{"GET /v3/watch HTTP/1.1\r\n" HOST_LINE UPGRADE_LINES VERSION_13 KEY_LINE
         "Origin: http://localhost:81\r\n\r\n",
         403},
	{"GET /v3/watch HTTP/1.1\r\n" HOST_LINE UPGRADE_LINES VERSION_13 KEY_LINE
         "Origin: http://evil.example\r\n\r\n",
         403},
	{"GET /v3/watch HTTP/1.1\r\n" HOST_LINE UPGRADE_LINES VERSION_13 KEY_LINE
         "Origin: https://board.example\r\n\r\n",
         403},
	{"GET /v3/watch HTTP/1.1\r\n" HOST_LINE UPGRADE_LINES VERSION_13 KEY_LINE "Origin: null\r\n\r\n",
         403},
	{"GET /v3/watch HTTP/1.1\r\n" HOST_LINE UPGRADE_LINES VERSION_13 KEY_LINE
         "Origin: localhost\r\n\r\n",
         403},
};

START_TEST(a_handshake_is_checked)
{
	int fd = open_client();

	http_send(fd, HANDSHAKES[_i].request);
	http_read_head(fd, &answer);
	ck_assert_int_eq(answer.status, HANDSHAKES[_i].status);
	expect_header("Sec-WebSocket-Version", answer.status == 426 ? "13" : NULL);
	close(fd);
	await(connections, 0);
}
END_TEST

START_TEST(an_origin_may_be_allowed)
{
	static const struct {
		const char *origin;
		int status;
	} cases[] = {
		{"https://board.example", 101}, {"http://localhost", 101}, {"http://board.example", 403}};

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		char header[128];
		int fd = open_client();

		snprintf(header, sizeof header, "Origin: %s\r\n", cases[i].origin);
		ws_ask(fd, "/v3/watch", header, &answer);
		ck_assert_int_eq(answer.status, cases[i].status);
		close(fd);
	}
}
END_TEST

/* The fake engine refuses one token. */
static const struct {
	const char *headers;
	bool is_refused;
	bool is_bearer;
} TOKENS[] = {
	{"", false, false},
	{"Sec-WebSocket-Protocol: Bearer, refused\r\n", true, true},
	{"Sec-WebSocket-Protocol: Bearer,refused\r\n", true, true},
	{"Sec-WebSocket-Protocol: Bearer, other\r\n", false, true},
	{"Sec-WebSocket-Protocol: Bearer\r\n", false, true},
	{"Sec-WebSocket-Protocol: chat, refused\r\n", false, false},
	{"Cookie: a=b; token=refused\r\n", true, false},
	{"Cookie: token=\"refused\"; a=b\r\n", true, false},
	{"Cookie: mytoken=refused\r\n", false, false},
	{"Cookie: token=other\r\nSec-WebSocket-Protocol: Bearer, refused\r\n", false, true},
	/* As by etcd, whose proxy does not pass it on. */
	{"Authorization: refused\r\n", false, false},
};

START_TEST(a_token_comes_in_a_subprotocol_or_a_cookie)
{
	int fd = open_client();

	fake_engine_fail_with(engine, STATUS_NO_SPACE);
	ws_ask(fd, "/v3/watch", TOKENS[_i].headers, &answer);
	ck_assert_int_eq(answer.status, 101);
	expect_header("Sec-WebSocket-Protocol", TOKENS[_i].is_bearer ? "Bearer" : NULL);
	if (TOKENS[_i].is_refused) {
		expect_text(fd, "{\"error\":{\"code\":8,\"message\":"
		                "\"etcdserver: mvcc: database space exceeded\"}}");
		expect_close(fd, 1008);
		ck_assert_str_eq(frame.data, "etcdserver: mvcc: database space exceeded");
	} else {
		ws_send_text(fd, CREATE);
		expect_text(fd, CREATED("1"));
	}
	close(fd);
	await(connections, 0);
}
END_TEST

/* ---- Messages ---- */

START_TEST(messages_go_both_ways_at_any_time)
{
	int fd = open_socket("/v3/watch");

	ws_send_text(fd, CREATE);
	expect_text(fd, CREATED("1"));
	fake_streams_publish("a", "b", 1);
	expect_text(fd,
	            "{\"result\":{\"header\":{\"revision\":\"2\"},\"events\":[{\"kv\":{\"key\":\"YQ==\","
	            "\"mod_revision\":\"3\",\"value\":\"Yg==\"}}]}}");
	ws_send_text(fd, CREATE " " CREATE);
	expect_text(fd, CREATED("2"));
	expect_text(fd, CREATED("3"));
	ws_send_text(fd, " ");
	ws_send_frame(fd, FIN | WS_BINARY, CREATE, strlen(CREATE));
	expect_text(fd, CREATED("4"));
	close(fd);
	await(fake_streams_count, 0);
	await(connections, 0);
}
END_TEST

START_TEST(large_messages_go_out_whole)
{
	static char value[LARGE_BYTES];
	int fd = open_socket("/v3/watch");

	memset(value, 'v', sizeof value);
	ws_send_text(fd, CREATE);
	expect_text(fd, CREATED("1"));
	for (size_t len = 0; len < sizeof value; len = len * 2 + 1) {
		fake_streams_publish("a", value, len);
		ws_read(fd, &frame);
		ck_assert_int_eq(frame.opcode, WS_TEXT);
		ck_assert_uint_gt(frame.len, len);
		ck_assert_str_eq(frame.data + frame.len - 5, "}}]}}");
	}
	close(fd);
}
END_TEST

START_TEST(fragments_make_a_message)
{
	int fd = open_socket("/v3/watch");

	for (int i = 0; i < 2; i++) {
		ws_send_frame(fd, WS_TEXT, CREATE, 10);
		ws_send_frame(fd, FIN | WS_PING, "now", 3);
		ws_read(fd, &frame);
		ck_assert_int_eq(frame.opcode, WS_PONG);
		ck_assert_str_eq(frame.data, "now");
		ws_send_frame(fd, WS_CONTINUE, "", 0);
		ws_send_frame(fd, FIN | WS_CONTINUE, &CREATE[10], strlen(CREATE) - 10);
		expect_text(fd, i == 0 ? CREATED("1") : CREATED("2"));
	}
	close(fd);
}
END_TEST

/* "{}{}{}...", as often as a message may hold it, and then what follows. */
static void send_many(int fd, const char *last)
{
	static char text[BODY_MESSAGES_MAX * 2 + 64];

	for (size_t i = 0; i < BODY_MESSAGES_MAX; i++)
		memcpy(text + 2 * i, "{}", 2);
	snprintf(text + 2 * BODY_MESSAGES_MAX, 64, "%s", last);
	ws_send_text(fd, text);
}

START_TEST(a_message_holds_so_many_requests)
{
	int fd;

	config.max_request_bytes = 1 << 20;
	stop();
	engine = fake_engine_new();
	ck_assert_int_eq(http_serve(&config, engine, &http), STATUS_OK);
	fd = open_socket("/v3/watch");
	for (int i = 1; i <= 2; i++) {
		send_many(fd, " ");
		await(fake_streams_requests, i * BODY_MESSAGES_MAX);
	}
	ws_send_text(fd, CREATE);
	expect_text(fd, CREATED("1"));
	send_many(fd, CREATE);
	expect_text(fd, "{\"error\":{\"code\":3,\"message\":\"too many requests in one message\"}}");
	expect_close(fd, 1008);
	ck_assert_str_eq(frame.data, "too many requests in one message");
	ws_send_close(fd, 1008, "");
	ck_assert(http_is_closed(fd));
	ck_assert_int_eq(fake_streams_requests(), 3 * BODY_MESSAGES_MAX + 1);
	close(fd);
}
END_TEST

START_TEST(keep_alives_are_answered_one_by_one)
{
	int fd = open_socket("/v3/lease/keepalive");

	ws_send_text(fd, "{\"ID\":1}");
	expect_text(fd, "{\"result\":{\"ID\":\"1\",\"TTL\":\"60\"}}");
	ws_send_text(fd, "{\"ID\":2000}");
	expect_text(fd, "{\"result\":{\"ID\":\"2000\",\"TTL\":\"60\"}}");
	close(fd);
}
END_TEST

START_TEST(a_method_of_one_request_takes_the_first)
{
	int fd = open_socket("/v3/election/observe");

	ws_send_text(fd, "{\"name\":\"YQ==\"}{\"name\":\"Yg==\"}");
	expect_text(fd, "{\"result\":{\"kv\":{\"key\":\"YQ==\"}}}");
	ws_send_text(fd, "{\"name\":\"Yw==\"}");
	ws_send_frame(fd, FIN | WS_PING, "", 0);
	ws_read(fd, &frame);
	ck_assert_int_eq(frame.opcode, WS_PONG);
	ck_assert_int_eq(fake_streams_requests(), 1);
	close(fd);
}
END_TEST

START_TEST(a_client_that_does_not_read_is_not_read)
{
	static char body[60000];
	struct pollfd writable = {.events = POLLOUT};
	int fd = open_socket("/v3/watch");
	int requests;

	for (size_t at = 0; at + strlen(CREATE) < sizeof body; at += strlen(CREATE))
		memcpy(body + at, CREATE, strlen(CREATE) + 1);
	writable.fd = fd;
	while (poll(&writable, 1, 500) == 1)
		ws_send_text(fd, body);
	requests = fake_streams_requests();
	poll(NULL, 0, 20);
	ck_assert_int_eq(fake_streams_requests(), requests);
	close(fd);
	await(fake_streams_count, 0);
	await(connections, 0);
}
END_TEST

/* ---- The end ---- */

START_TEST(a_close_is_answered)
{
	int fd = open_socket("/v3/watch");

	ws_send_text(fd, CREATE);
	expect_text(fd, CREATED("1"));
	ws_send_close(fd, 1000, "bye");
	expect_close(fd, 1000);
	ck_assert(http_is_closed(fd));
	ck_assert_int_eq(fake_streams_count(), 0);
	close(fd);
}
END_TEST

START_TEST(a_close_without_a_code_is_answered)
{
	int fd = open_socket("/v3/watch");

	ws_send_frame(fd, FIN | WS_CLOSE, "", 0);
	expect_close(fd, 0);
	ck_assert(http_is_closed(fd));
	close(fd);
}
END_TEST

START_TEST(a_stream_that_ends_closes_well)
{
	int fd = open_socket("/v3/watch");

	ws_send_text(fd, CREATE CANCEL CREATE);
	expect_text(fd, CREATED("1"));
	expect_close(fd, 1000);
	await(fake_streams_count, 0);
	ws_send_text(fd, CREATE); /* too late */
	ws_send_close(fd, 1000, "");
	ck_assert(http_is_closed(fd));
	close(fd);
}
END_TEST

START_TEST(a_stream_that_fails_says_why)
{
	static const struct {
		enum status_code status;
		unsigned code;
	} cases[] = {{STATUS_INTERNAL, 1011},
	             {STATUS_COMPACTED, 1008},
	             {STATUS_STOPPED, 1001},
	             {STATUS_TIMEOUT, 1013}};

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		int fd = open_socket("/v3/watch");

		fake_engine_fail_with(engine, cases[i].status);
		ws_send_text(fd, ERROR);
		ws_read(fd, &frame);
		ck_assert_int_eq(strncmp(frame.data, "{\"error\":{\"code\":", 17), 0);
		expect_close(fd, cases[i].code);
		ws_send_close(fd, frame.code, "");
		ck_assert(http_is_closed(fd));
		close(fd);
	}
}
END_TEST

START_TEST(broken_json_ends_it)
{
	static const char *const texts[] = {"garbage", "{\"create_request\":5}", "[]", CREATE "x"};
	int fd = open_socket("/v3/watch");

	ws_send_text(fd, texts[_i]);
	if (_i == 3)
		expect_text(fd, CREATED("1"));
	ws_read(fd, &frame);
	ck_assert_int_eq(strncmp(frame.data, "{\"error\":{\"code\":3,\"message\":\"", 30), 0);
	expect_close(fd, 1007);
	ck_assert_uint_gt(frame.len, 0);
	ws_send_close(fd, 1007, "");
	ck_assert(http_is_closed(fd));
	ck_assert_int_eq(fake_streams_count(), 0);
	close(fd);
}
END_TEST

static const struct {
	const char *name;
	uint8_t bytes[16];
	size_t len;
	unsigned code;
} VIOLATIONS[] = {
	{"not masked", {FIN | WS_TEXT, 2, '{', '}'}, 4, 1002},
	{"a reserved bit", {FIN | RSV1 | WS_TEXT, 0x80, 0, 0, 0, 0}, 6, 1002},
	{"an unknown opcode", {FIN | 3, 0x80, 0, 0, 0, 0}, 6, 1002},
	{"an unknown control opcode", {FIN | 11, 0x80, 0, 0, 0, 0}, 6, 1002},
	{"nothing to continue", {FIN | WS_CONTINUE, 0x80, 0, 0, 0, 0}, 6, 1002},
	{"a message inside another",
         {WS_TEXT, 0x80, 0, 0, 0, 0, FIN | WS_TEXT, 0x80, 0, 0, 0, 0},
         12,
         1002},
	{"a ping in fragments", {WS_PING, 0x80, 0, 0, 0, 0}, 6, 1002},
	{"a long ping", {FIN | WS_PING, 0xfe, 0, 126, 0, 0, 0, 0}, 8, 1002},
	{"a length in too many bytes", {FIN | WS_TEXT, 0xfe, 0, 5, 0, 0, 0, 0}, 8, 1002},
	{"a length beyond 2^63", {FIN | WS_TEXT, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 14, 1002},
	{"a message beyond the limit",
         {FIN | WS_TEXT, 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0},
         15,
         1009},
	{"not UTF-8", {FIN | WS_TEXT, 0x81, 0, 0, 0, 0, 0xff}, 7, 1007},
	{"a close of one byte", {FIN | WS_CLOSE, 0x81, 0, 0, 0, 0, 3}, 7, 1002},
	{"a close that may not be sent", {FIN | WS_CLOSE, 0x82, 0, 0, 0, 0, 0x03, 0xed}, 8, 1002},
	{"a reason that is not UTF-8", {FIN | WS_CLOSE, 0x83, 0, 0, 0, 0, 0x03, 0xe8, 0xff}, 9, 1002},
};

START_TEST(a_violation_is_told_and_ends_it)
{
	int fd = open_socket("/v3/watch");

	http_send_bytes(fd, VIOLATIONS[_i].bytes, VIOLATIONS[_i].len);
	expect_close(fd, VIOLATIONS[_i].code);
	ck_assert(http_is_closed(fd));
	close(fd);
	await(fake_streams_count, 0);
	await(connections, 0);
}
END_TEST

START_TEST(a_client_that_vanishes_closes_the_stream)
{
	int fd = open_socket("/v3/watch");

	ws_send_text(fd, CREATE);
	expect_text(fd, CREATED("1"));
	shutdown(fd, SHUT_WR);
	ck_assert(http_is_closed(fd));
	await(fake_streams_count, 0);
	close(fd);
}
END_TEST

START_TEST(draining_says_that_the_server_goes_away)
{
	int fd = open_socket("/v3/watch");

	ws_send_text(fd, CREATE);
	expect_text(fd, CREATED("1"));
	ws_send_close(fd, 1000, "");
	expect_close(fd, 1000);
	close(fd);
	fd = open_socket("/v3/watch");
	ws_send_text(fd, CREATE);
	expect_text(fd, CREATED("1"));
	http_drain(http);
	expect_close(fd, 1001);
	close(fd);
}
END_TEST

#define COUNT(array) ((int)(sizeof(array) / sizeof(array)[0]))

static TCase *add_case(Suite *suite, const char *name, void (*set_up)(void))
{
	TCase *tcase = tcase_create(name);

	if (set_up != NULL)
		tcase_add_checked_fixture(tcase, set_up, stop);
	tcase_set_timeout(tcase, 60);
	suite_add_tcase(suite, tcase);
	return tcase;
}

int main(void)
{
	Suite *suite = suite_create("websocket");
	TCase *tcase = add_case(suite, "frames", NULL);

	tcase_add_test(tcase, frames_may_come_in_any_pieces);
	tcase_add_test(tcase, an_incomplete_frame_is_partial);

	tcase = add_case(suite, "stream", start);
	tcase_add_test(tcase, the_handshake_answers_the_key);
	tcase_add_loop_test(tcase, a_handshake_is_checked, 0, COUNT(HANDSHAKES));
	tcase_add_loop_test(tcase, a_token_comes_in_a_subprotocol_or_a_cookie, 0, COUNT(TOKENS));
	tcase_add_test(tcase, messages_go_both_ways_at_any_time);
	tcase_add_test(tcase, large_messages_go_out_whole);
	tcase_add_test(tcase, fragments_make_a_message);
	tcase_add_test(tcase, a_message_holds_so_many_requests);
	tcase_add_test(tcase, keep_alives_are_answered_one_by_one);
	tcase_add_test(tcase, a_method_of_one_request_takes_the_first);
	tcase_add_test(tcase, a_client_that_does_not_read_is_not_read);
	tcase_add_test(tcase, a_close_is_answered);
	tcase_add_test(tcase, a_close_without_a_code_is_answered);
	tcase_add_test(tcase, a_stream_that_ends_closes_well);
	tcase_add_test(tcase, a_stream_that_fails_says_why);
	tcase_add_loop_test(tcase, broken_json_ends_it, 0, 4);
	tcase_add_loop_test(tcase, a_violation_is_told_and_ends_it, 0, COUNT(VIOLATIONS));
	tcase_add_test(tcase, a_client_that_vanishes_closes_the_stream);
	tcase_add_test(tcase, draining_says_that_the_server_goes_away);

	tcase = tcase_create("time");
	tcase_add_checked_fixture(tcase, start_clock, stop_clock);
	tcase_add_test(tcase, a_quiet_client_is_pinged_and_cut_when_it_does_not_answer);
	tcase_add_test(tcase, a_message_that_takes_too_long_is_given_up);
	tcase_add_test(tcase, a_client_has_some_time_to_answer_a_close);
	tcase_add_test(tcase, the_engine_goes_on_after_pongs_have_taken_the_room);
	suite_add_tcase(suite, tcase);

	tcase = add_case(suite, "origin", start_with_origin);
	tcase_add_test(tcase, an_origin_may_be_allowed);
	return test_run(suite);
}
