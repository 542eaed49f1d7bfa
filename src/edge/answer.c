/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The order of the decisions is that of etcd's server: Host, CORS, OPTIONS,
 * redirection, and then the path.
 */
#include "edge/answer.h"

#include <stdlib.h>
#include <string.h>

#include "base/metrics.h"
#include "edge/exchange.h"
#include "edge/gateway.h"
#include "edge/handshake.h"
#include "edge/paired.h"
#include "edge/reply.h"
#include "edge/stream_start.h"
#include "engine/call.h"
#include "engine/method.h"
#include "rpc.pb-c.h"

enum {
	HEALTH_ARENA_BYTES = 1 << 20,
	/* Of the daemon, to send an answer: the head with what fits of the body, and the rest. */
	ANSWER_RUNS = 2,
};

/* ---- Replies ---- */

enum MHD_Result answer_reply(struct exchange *exchange, struct reply *reply)
{
	exchange->stage = STAGE_ANSWERED;
	exchange->loop->runs_due = ANSWER_RUNS;
	reply->cors_origin = exchange->cors_origin;
	reply->close =
		reply->close || atomic_load_explicit(&exchange->loop->edge->draining, memory_order_relaxed);
	metric_add(METRIC_HTTP_REQUESTS, 1);
	return reply_queue(exchange->mhd, reply);
}

static enum MHD_Result send_text(struct exchange *exchange, unsigned status, const char *text)
{
	struct reply reply = {
		.status = status,
		.content_type = REPLY_TEXT,
		.body = text,
		.len = strlen(text),
		.nosniff = true,
	};

	return answer_reply(exchange, &reply);
}

enum MHD_Result answer_refusal(struct exchange *exchange, unsigned status, const char *text)
{
	struct reply reply = {
		.status = status,
		.content_type = REPLY_TEXT,
		.body = text,
		.len = strlen(text),
		.close = true,
	};

	metric_add(METRIC_HTTP_MALFORMED, 1);
	return answer_reply(exchange, &reply);
}

/* Sends what a buffer holds, which is taken over. */
enum MHD_Result answer_buf(struct exchange *exchange, struct buf *buf, struct reply *reply)
{
	if (buf->failed || buf->len == 0) {
		buf_release(buf);
		return MHD_NO; /* no memory: the connection is closed */
	}
	reply->len = buf->len;
	reply->body = (const char *)buf_detach(buf);
	reply->owned = true;
	return answer_reply(exchange, reply);
}

/* An error that is no call's. Not in exchange->answer: of an abandoned request
 * that may be under another thread's pen. */
enum MHD_Result answer_error(struct exchange *exchange, const struct status *status)
{
	struct reply reply = {.content_type = REPLY_JSON};
	struct buf body;

	buf_init(&body);
	reply.status = gateway_encode_error(status, &body);
	metric_add(metric_refused(status_grpc(status->code)), 1);
	return answer_buf(exchange, &body, &reply);
}

static enum MHD_Result send_error(struct exchange *exchange, enum status_code code)
{
	const struct status status = {.code = code};

	return answer_error(exchange, &status);
}

enum MHD_Result answer_handshake(struct exchange *exchange, const struct head_refusal *refusal)
{
	struct reply reply = {
		.status = refusal->status,
		.content_type = REPLY_TEXT,
		.body = refusal->text,
		.len = strlen(refusal->text),
		.nosniff = true,
		.websocket_version = refusal->status == MHD_HTTP_UPGRADE_REQUIRED ? "13" : NULL,
	};

	return answer_reply(exchange, &reply);
}

void answer_encode(struct exchange *exchange)
{
	exchange->answer_status = gateway_encode(exchange->call, &exchange->answer);
}

/* The call is over. Its memory goes before the answer is sent, which may take
 * a slow client long. */
static enum MHD_Result send_answer(struct exchange *exchange)
{
	struct reply reply = {.content_type = REPLY_JSON};

	if (exchange->answer_status == 0)
		answer_encode(exchange);
	reply.status = exchange->answer_status;
	reply.grpc = exchange->call->status.code == STATUS_OK;
	call_free(exchange->call);
	exchange->call = NULL;
	return answer_buf(exchange, &exchange->answer, &reply);
}

/* ---- The API ---- */

static enum MHD_Result start_call(struct exchange *exchange, const struct method *method)
{
	const struct edge *edge = exchange->loop->edge;
	struct gateway_request request = {
		.head = &exchange->head,
		.received = exchange->received,
		.message_limit = edge->message_limit,
	};

	request.body = exchange_body(exchange, &request.len);
	if (exchange->body.failed)
		return send_error(exchange, STATUS_NO_MEMORY);
	exchange->call = call_new(&EXCHANGE_CALL_OPS, exchange, GATEWAY_ARENA_BYTES);
	if (exchange->call == NULL)
		return send_error(exchange, STATUS_NO_MEMORY);
	if (!gateway_decode(exchange->call, method, &request) ||
	    call_start(edge->engine, exchange->loop->reader, exchange->call))
		return send_answer(exchange);
	return exchange_await_call(exchange);
}

static enum MHD_Result refuse_method(struct exchange *exchange)
{
	struct status status = {.code = STATUS_METHOD_NOT_ALLOWED};

	if (handshake_is_asked(&exchange->head))
		status.message = "this is no stream and takes no WebSocket: POST the request";
	return answer_error(exchange, &status);
}

static enum MHD_Result answer_api(struct exchange *exchange, const char *http_method)
{
	const struct method *method = method_by_path(exchange->target.path, exchange->target.path_len);

	if (method == NULL)
		return send_error(exchange, STATUS_NOT_FOUND);
	if (method->kind == METHOD_STREAM && handshake_is_asked(&exchange->head))
		return stream_start(exchange, method);
	if (strcmp(http_method, MHD_HTTP_METHOD_POST) != 0)
		return refuse_method(exchange);
	return method->kind == METHOD_STREAM ? stream_start(exchange, method)
	                                     : start_call(exchange, method);
}

/* ---- The plain endpoints ---- */

/* A read of a key that need not exist, as etcd does to see whether it can. */
static bool make_health_read(struct exchange *exchange, bool serializable)
{
	static const char KEY[] = "health";
	struct call *call = call_new(&EXCHANGE_CALL_OPS, exchange, HEALTH_ARENA_BYTES);
	Pb__RangeRequest *range;

	exchange->call = call;
	if (call == NULL)
		return false;
	range = arena_alloc(&call->arena, sizeof *range);
	if (range == NULL)
		return false;
	pb__range_request__init(range);
	range->key.data = arena_copy(&call->arena, KEY, sizeof KEY - 1);
	range->key.len = sizeof KEY - 1;
	range->limit = 1;
	range->keys_only = true;
	range->serializable = serializable;
	call->method = method_by_name("KV", "Range");
	call->request = &range->base;
	return range->key.data != NULL;
}

/* Takes steps until the reply is there or a read has to be waited for. */
static enum MHD_Result step_plain(struct exchange *exchange)
{
	const struct edge *edge = exchange->loop->edge;
	struct reply reply = {0};

	for (;;) {
		const struct status *outcome = exchange->call != NULL ? &exchange->call->status : NULL;
		enum plain_next next =
			plain_step(&exchange->plain, head_method(&exchange->head), outcome, &reply);

		call_free(exchange->call);
		exchange->call = NULL;
		if (next == PLAIN_REPLY)
			return answer_reply(exchange, &reply);
		if (!make_health_read(exchange, next == PLAIN_READ_SERIALIZABLE))
			return MHD_NO;
		if (!call_start(edge->engine, exchange->loop->reader, exchange->call))
			return exchange_await_call(exchange);
	}
}

/* ---- Dispatch ---- */

static bool is_host_allowed(const struct exchange *exchange, struct buf *refusal)
{
	const struct origin_set *hosts = &exchange->loop->edge->hosts;
	const struct header *host = &exchange->head.host;
	const char *name;
	size_t len;

	if (hosts->any)
		return true;
	name = origin_host_name(host->text != NULL ? host->text : "", host->len, &len);
	if (origin_set_holds(hosts, name, len))
		return true;
	origin_refusal(refusal, name, len);
	return false;
}

static const char *allowed_origin(const struct exchange *exchange)
{
	const struct origin_set *origins = &exchange->loop->edge->cors_origins;
	const struct header *origin = &exchange->head.origin;

	if (origins->any)
		return "*";
	if (origin->text != NULL && origin_set_holds(origins, origin->text, origin->len))
		return origin->text;
	return NULL;
}

/* A GET is told where to go in HTML too, as by Go's server. */
static enum MHD_Result redirect(struct exchange *exchange)
{
	struct reply reply = {.status = MHD_HTTP_TEMPORARY_REDIRECT, .body = ""};

	reply.location = exchange->target.location;
	if (strcmp(exchange->head.method, MHD_HTTP_METHOD_GET) != 0 &&
	    strcmp(exchange->head.method, MHD_HTTP_METHOD_HEAD) != 0)
		return answer_reply(exchange, &reply);
	reply.content_type = "text/html; charset=utf-8";
	target_redirect_body(&exchange->target, &exchange->answer);
	return answer_buf(exchange, &exchange->answer, &reply);
}

static bool is_api_path(const struct target *target)
{
	static const char PREFIX[] = "/v3/";

	return target->path_len >= sizeof PREFIX - 1 &&
	       memcmp(target->path, PREFIX, sizeof PREFIX - 1) == 0;
}

/* The order is etcd's. */
enum MHD_Result answer_request(struct exchange *exchange)
{
	const struct target *target = &exchange->target;
	const struct plain_route *route;

	if (!is_host_allowed(exchange, &exchange->answer)) {
		struct reply reply = {.status = 421, .content_type = REPLY_TEXT, .nosniff = true};

		return answer_buf(exchange, &exchange->answer, &reply);
	}
	exchange->cors_origin = allowed_origin(exchange);
	if (strcmp(exchange->head.method, MHD_HTTP_METHOD_OPTIONS) == 0) {
		struct reply reply = {.status = MHD_HTTP_OK, .body = ""};

		return answer_reply(exchange, &reply);
	}
	if (target->location != NULL)
		return redirect(exchange);
	if (is_api_path(target))
		return answer_api(exchange, head_method(&exchange->head));
	route = plain_find(target->path, target->path_len);
	if (route == NULL)
		return send_text(exchange, MHD_HTTP_NOT_FOUND, "404 page not found\n");
	plain_init(&exchange->plain, route, exchange->loop->edge->engine, exchange->loop->reader,
	           target->query, target->query_len);
	return step_plain(exchange);
}

enum MHD_Result answer_finished(struct exchange *exchange)
{
	if (exchange->paired != NULL)
		return paired_finished(exchange);
	return exchange->plain.route != NULL ? step_plain(exchange) : send_answer(exchange);
}

enum MHD_Result answer_canceled(struct exchange *exchange)
{
	return send_error(exchange, STATUS_CANCELED);
}
