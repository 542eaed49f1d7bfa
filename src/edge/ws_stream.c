/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stream over a WebSocket: a request per text message (or several, one after
 * another), an answer per text message, both at any time. A method that takes
 * one request takes the first.
 *
 * The client is pinged, for the sake of proxies that close what is idle and of
 * clients that vanish. What it may hold here is bounded: nothing is read while
 * it does not take its answers, a message holds no more requests than a body
 * may, and one that is not complete after two pings is given up.
 */
#include <stddef.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/metrics.h"
#include "edge/body.h"
#include "edge/client_stream.h"
#include "edge/gateway.h"
#include "edge/handshake.h"
#include "edge/stream_json.h"
#include "edge/stream_set.h"
#include "edge/websocket.h"

struct ws_stream {
	struct client_stream client; /* first */
	struct websocket websocket;
	bool requests_ended; /* the method takes no more */
	bool was_partial;    /* at the last ping a message was incomplete, and no other has come since */
};

/* ---- To the client ---- */

static void send_message(struct client_stream *client, const struct stream_json *json)
{
	struct ws_stream *ws = (struct ws_stream *)client;

	websocket_begin_text(&ws->websocket, json->len);
	stream_json_append(json, &client->out);
}

static void close_with(struct ws_stream *ws, enum websocket_code code, const char *reason)
{
	websocket_close(&ws->websocket, code, reason);
	stream_set_phase(ws->client.set, &ws->client, CLIENT_CLOSING);
}

static void send_error(struct ws_stream *ws, enum websocket_code code, const struct status *status)
{
	struct stream_json json;

	if (!stream_json_error(&json, &ws->client.set->text, status)) {
		client_stream_lose(&ws->client);
		return;
	}
	send_message(&ws->client, &json);
	close_with(ws, code, status_text(status));
}

static enum websocket_code code_of(enum status_code code)
{
	if (code == STATUS_STOPPED)
		return WEBSOCKET_GOING_AWAY;
	if (code == STATUS_MESSAGE_TOO_LARGE)
		return WEBSOCKET_TOO_BIG;
	if (status_is_retriable(code))
		return WEBSOCKET_TRY_LATER;
	return status_http(code) >= 500 ? WEBSOCKET_INTERNAL : WEBSOCKET_REFUSED;
}

static void send_end(struct client_stream *client, const struct status *status)
{
	struct ws_stream *ws = (struct ws_stream *)client;

	if (status->code == STATUS_OK)
		close_with(ws, WEBSOCKET_NORMAL, "");
	else
		send_error(ws, code_of(status->code), status);
}

static void stop(struct client_stream *client)
{
	close_with((struct ws_stream *)client, WEBSOCKET_GOING_AWAY, "the server stops");
}

/* ---- From the client ---- */

static struct ws_stream *stream_of(struct websocket *websocket)
{
	return (struct ws_stream *)(void *)((char *)websocket - offsetof(struct ws_stream, websocket));
}

static void refuse(struct ws_stream *ws, enum websocket_code code, const struct status *status)
{
	metric_add(metric_refused(status_grpc(status->code)), 1);
	send_error(ws, code, status);
	ws->client.over = true;
}

static void refuse_unreadable(struct ws_stream *ws, const struct status *status)
{
	refuse(ws, status->code == STATUS_BAD_REQUEST ? WEBSOCKET_BAD_DATA : code_of(status->code), status);
}

/* What is left of a message. */
struct requests {
	const char *text;
	size_t len;
	size_t taken;
};

/* Hands the next request on; false when there is none. */
static bool take_request(struct ws_stream *ws, struct requests *requests, struct arena *arena)
{
	static const struct status too_many = {
		.code = STATUS_BAD_REQUEST,
		.message = "too many requests in one message",
	};
	struct stream *stream = &ws->client.stream;
	struct status status = {0};
	ProtobufCMessage *request;

	if (ws->client.over || ws->client.lost || ws->requests_ended)
		return false;
	status.code = gateway_decode_next(stream->method, ws->client.set->message_limit, &requests->text,
	                                  &requests->len, arena, &request, &status.message);
	if (status.code != STATUS_OK) {
		refuse_unreadable(ws, &status);
		return false;
	}
	if (request == NULL)
		return false;
	if (++requests->taken > BODY_MESSAGES_MAX) {
		refuse(ws, WEBSOCKET_REFUSED, &too_many);
		return false;
	}
	stream_receive(stream, request);
	ws->requests_ended = !stream->method->request_stream;
	if (ws->requests_ended)
		stream_end_requests(stream);
	return true;
}

static void take_text(struct websocket *websocket, const char *text, size_t len)
{
	struct ws_stream *ws = stream_of(websocket);
	struct requests requests = {.text = text, .len = len};
	struct arena arena;

	ws->was_partial = false;
	arena_init(&arena, GATEWAY_ARENA_BYTES, NULL, 0);
	while (take_request(ws, &requests, &arena))
		arena_reset(&arena);
	arena_release(&arena);
}

static const struct websocket_ops WEBSOCKET_OPS = {.text = take_text};

static void receive(struct client_stream *client, const void *data, size_t len)
{
	struct ws_stream *ws = (struct ws_stream *)client;

	websocket_receive(&ws->websocket, data, len);
	/* Its close, or a violation: what the engine still has to say is not wanted. */
	if (ws->websocket.close_sent)
		client->over = true;
}

static bool wants_input(const struct client_stream *client)
{
	const struct ws_stream *ws = (const struct ws_stream *)client;

	return !ws->websocket.over && client->out.len < CLIENT_ROOM_BYTES;
}

static bool is_done(const struct client_stream *client)
{
	return ((const struct ws_stream *)client)->websocket.over;
}

/* ---- Time ---- */

/* Behind bytes that wait to be sent a ping would measure those: a peer that
 * takes nothing is the kernel's to time out. */
static void ping(struct ws_stream *ws)
{
	struct client_stream *client = &ws->client;
	bool is_partial = websocket_is_partial(&ws->websocket);

	if (is_partial && ws->was_partial) {
		close_with(ws, WEBSOCKET_REFUSED, "a message took too long");
		client->over = true;
		return;
	}
	ws->was_partial = is_partial;
	if (client->out.len > 0)
		return;
	websocket_ping(&ws->websocket);
	stream_set_phase(client->set, client, CLIENT_PINGED);
}

static void expire(struct client_stream *client, int64_t now_ms)
{
	struct ws_stream *ws = (struct ws_stream *)client;

	(void)now_ms;
	if (client->phase == CLIENT_QUIET)
		ping(ws);
	else if (client->phase == CLIENT_PINGED && !ws->websocket.awaiting_pong)
		stream_set_phase(client->set, client, CLIENT_QUIET);
	else if (client->phase == CLIENT_CLOSING || client->out.len == 0)
		client_stream_lose(client);
	stream_set_mark(client->set, client);
}

/* ---- Life ---- */

static void free_stream(struct client_stream *client)
{
	websocket_release(&((struct ws_stream *)client)->websocket);
	client_stream_release(client);
	free(client);
}

static const struct client_kind WS_KIND = {
	.message = send_message,
	.end = send_end,
	.stop = stop,
	.receive = receive,
	.wants_input = wants_input,
	.is_done = is_done,
	.expire = expire,
	.free = free_stream,
};

struct client_stream *ws_stream_new(const struct client_options *options, const struct handshake *handshake)
{
	struct ws_stream *ws = calloc(1, sizeof *ws);
	struct buf answer;

	if (ws == NULL)
		return NULL;
	if (!client_stream_init(&ws->client, &WS_KIND, options)) {
		free(ws);
		return NULL;
	}
	websocket_init(&ws->websocket, &WEBSOCKET_OPS, &ws->client.out,
	               options->set->message_limit * GATEWAY_BODY_FACTOR);
	buf_init(&answer);
	handshake_write(handshake, &answer);
	out_queue_append(&ws->client.out, answer.data, answer.len);
	ws->client.out.failed = ws->client.out.failed || answer.failed;
	buf_release(&answer);
	return &ws->client;
}
