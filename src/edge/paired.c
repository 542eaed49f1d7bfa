/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A body without a message that can be read is answered with nothing, and 200:
 * so does etcd, whose clients send keep-alives without looking.
 */
#include "edge/paired.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "edge/answer.h"
#include "edge/body.h"
#include "edge/exchange.h"
#include "edge/gateway.h"
#include "edge/reply.h"
#include "edge/stream_json.h"
#include "engine/method.h"
#include "engine/stream.h"

struct paired {
	struct stream stream; /* first */
	struct exchange *exchange;
	struct buf lines;
	unsigned status; /* of the answer, once the first line is there */
	bool over;
	bool failed; /* memory ran out */
	char *token;
};

/* ---- What the engine calls ---- */

static void add_line(struct paired *paired, bool measured, const struct stream_json *json)
{
	paired->failed = paired->failed || !measured;
	if (paired->failed)
		return;
	buf_append(&paired->lines, json->buf->data, json->buf->len);
	buf_append_byte(&paired->lines, '\n');
}

static void on_message(struct stream *stream, const ProtobufCMessage *response)
{
	struct paired *paired = (struct paired *)stream;
	struct buf *text = &paired->exchange->loop->streams.text;
	struct stream_json json;

	if (paired->status == 0)
		paired->status = MHD_HTTP_OK;
	add_line(paired, stream_json_message(&json, text, response), &json);
}

/* No such method watches anything. */
static void on_events(struct stream *stream, const struct watch_message *message)
{
	(void)message;
	((struct paired *)stream)->failed = true;
}

static void on_end(struct stream *stream, const struct status *status)
{
	struct paired *paired = (struct paired *)stream;
	struct buf *text = &paired->exchange->loop->streams.text;
	struct stream_json json;

	paired->over = true;
	if (status->code != STATUS_OK) {
		if (paired->status == 0)
			paired->status = (unsigned)status_http(status->code);
		add_line(paired, stream_json_error(&json, text, status), &json);
	}
	exchange_wake(paired->exchange);
}

/* The number of answers is bounded by that of the requests (BODY_MESSAGES_MAX). */
static bool has_room(const struct stream *stream)
{
	(void)stream;
	return true;
}

static const struct stream_ops OPS = {
	.message = on_message,
	.events = on_events,
	.end = on_end,
	.has_room = has_room,
};

/* ---- Life ---- */

static struct paired *new_paired(struct exchange *exchange, const struct method *method)
{
	struct header token = gateway_token(&exchange->head);
	struct paired *paired = calloc(1, sizeof *paired);

	if (paired == NULL)
		return NULL;
	*paired = (struct paired){.stream = {.ops = &OPS, .method = method}, .exchange = exchange};
	buf_init(&paired->lines);
	if (token.text == NULL)
		return paired;
	paired->token = strndup(token.text, token.len);
	paired->stream.token = paired->token;
	if (paired->token != NULL)
		return paired;
	free(paired);
	return NULL;
}

void paired_free(struct paired *paired)
{
	if (paired == NULL)
		return;
	stream_close(&paired->stream);
	buf_release(&paired->lines);
	free(paired->token);
	free(paired);
}

/* ---- The answer ---- */

enum MHD_Result paired_finished(struct exchange *exchange)
{
	struct paired *paired = exchange->paired;
	bool is_ok = paired->status == 0 || paired->status == MHD_HTTP_OK;
	struct reply reply = {.status = is_ok ? MHD_HTTP_OK : paired->status, .body = ""};

	if (paired->failed || paired->lines.failed)
		return MHD_NO;
	if (paired->lines.len == 0)
		return answer_reply(exchange, &reply);
	reply.content_type = REPLY_JSON;
	reply.grpc = is_ok;
	return answer_buf(exchange, &paired->lines, &reply);
}

static void run_requests(struct paired *paired, struct body *body, struct arena *arena)
{
	const struct method *method = paired->stream.method;
	ProtobufCMessage *request;
	const char *error;

	while (!paired->over && body_next(body, method, arena, &request, &error) == STATUS_OK &&
	       request != NULL) {
		stream_receive(&paired->stream, request);
		arena_reset(arena);
	}
	if (!paired->over)
		stream_end_requests(&paired->stream);
}

static enum MHD_Result start(struct exchange *exchange, const struct method *method, struct arena *arena)
{
	struct status status = {0};
	struct body body;
	int64_t deadline_ms; /* what is answered within a moment has no need of it */

	status.code = gateway_deadline(&exchange->head.timeout, arena, &deadline_ms, &status.message);
	if (status.code == STATUS_OK)
		status.code = body_init(&body, exchange, arena, &status.message);
	if (status.code == STATUS_OK) {
		exchange->paired = new_paired(exchange, method);
		status.code = exchange->paired != NULL ? STATUS_OK : STATUS_NO_MEMORY;
	}
	if (status.code != STATUS_OK)
		return answer_error(exchange, &status);
	if (stream_open(exchange->loop->edge->engine, exchange->loop->reader, &exchange->paired->stream))
		run_requests(exchange->paired, &body, arena);
	return exchange->paired->over ? paired_finished(exchange) : exchange_wait(exchange);
}

enum MHD_Result paired_start(struct exchange *exchange, const struct method *method)
{
	enum MHD_Result result;
	struct arena arena;

	arena_init(&arena, GATEWAY_ARENA_BYTES, NULL, 0);
	result = start(exchange, method, &arena);
	arena_release(&arena);
	return result;
}
