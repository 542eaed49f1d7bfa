/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What can be refused is refused before the connection is taken over, as any
 * request is, and the connection stays: a handshake, a time limit, a body
 * without a first message. What the engine refuses ends the connection.
 *
 * A body of many messages is worked off here, in order, and whatever comes
 * after one that cannot be read is ignored, as by etcd. Only the first has to
 * be there: etcd leaves a client without one waiting for ever.
 */
#include "edge/stream_start.h"

#include <fcntl.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/metrics.h"
#include "edge/answer.h"
#include "edge/body.h"
#include "edge/client_stream.h"
#include "edge/exchange.h"
#include "edge/gateway.h"
#include "edge/handshake.h"
#include "edge/paired.h"
#include "edge/stream_set.h"
#include "engine/method.h"
#include "engine/stream.h"

/* ---- Taking over ---- */

static struct client_options options_of(struct exchange *exchange, const struct method *method)
{
	return (struct client_options){
		.set = &exchange->loop->streams,
		.method = method,
		.fd = fcntl(exchange->connection->fd, F_DUPFD_CLOEXEC, 0),
		.token = gateway_token(&exchange->head),
	};
}

/* Hands the connection to the stream, whose descriptor is a duplicate. False
 * when it cannot be; nothing has changed then. */
static bool take_over(struct exchange *exchange, struct client_stream *client, enum client_phase phase)
{
	struct loop *loop = exchange->loop;

	if (!stream_set_add(&loop->streams, client, phase)) {
		client->kind->free(client);
		return false;
	}
	connections_give_away(&loop->connections, exchange->connection);
	exchange->stage = STAGE_ANSWERED;
	metric_add(METRIC_HTTP_REQUESTS, 1);
	stream_set_mark(&loop->streams, client);
	return true;
}

static enum MHD_Result refuse_descriptor(struct exchange *exchange, int fd)
{
	const struct status status = {.code = fd < 0 ? STATUS_TOO_FEW_FILES : STATUS_NO_MEMORY};

	if (fd >= 0)
		close(fd);
	return answer_error(exchange, &status);
}

/* ---- WebSocket ---- */

static enum MHD_Result start_ws(struct exchange *exchange, const struct method *method)
{
	struct handshake handshake;
	struct client_options options;
	struct client_stream *client;

	handshake_read(&handshake, exchange->mhd, &exchange->head, &exchange->loop->edge->cors_origins);
	if (handshake.refusal.status != 0)
		return answer_handshake(exchange, &handshake.refusal);
	options = options_of(exchange, method);
	options.token = handshake.token;
	client = options.fd >= 0 ? ws_stream_new(&options, &handshake) : NULL;
	if (client == NULL || !take_over(exchange, client, CLIENT_QUIET))
		return refuse_descriptor(exchange, options.fd);
	stream_open(exchange->loop->edge->engine, exchange->loop->reader, &client->stream);
	return MHD_NO;
}

/* ---- HTTP ---- */

/* The stream may end meanwhile; the engine ignores the rest then. */
static void run_requests(struct client_stream *client, struct body *body, ProtobufCMessage *request,
                         struct arena *arena)
{
	const struct method *method = client->stream.method;
	const char *error;

	while (request != NULL && !client->over) {
		stream_receive(&client->stream, request);
		arena_reset(arena);
		if (!method->request_stream ||
		    body_next(body, method, arena, &request, &error) != STATUS_OK)
			break;
	}
	if (!client->over)
		stream_end_requests(&client->stream);
}

static enum MHD_Result start_http(struct exchange *exchange, const struct method *method,
                                  struct arena *arena)
{
	struct status status = {0};
	struct client_options options;
	struct client_stream *client;
	ProtobufCMessage *request = NULL;
	struct body body;
	int64_t deadline_ms;

	status.code = gateway_deadline(&exchange->head.timeout, arena, &deadline_ms, &status.message);
	if (status.code == STATUS_OK)
		status.code = body_init(&body, exchange, arena, &status.message);
	if (status.code == STATUS_OK)
		status.code = body_next(&body, method, arena, &request, &status.message);
	if (status.code != STATUS_OK)
		return answer_error(exchange, &status);
	options = options_of(exchange, method);
	options.deadline_ms = deadline_ms;
	client = options.fd >= 0 ? http_stream_new(&options, exchange->cors_origin, !exchange->head.is_1_0)
	                         : NULL;
	if (client == NULL || !take_over(exchange, client, CLIENT_OPEN))
		return refuse_descriptor(exchange, options.fd);
	if (stream_open(exchange->loop->edge->engine, exchange->loop->reader, &client->stream))
		run_requests(client, &body, request, arena);
	return MHD_NO;
}

enum MHD_Result stream_start(struct exchange *exchange, const struct method *method)
{
	static const struct status stopped = {.code = STATUS_STOPPED};
	enum MHD_Result result;
	struct arena arena;

	if (atomic_load_explicit(&exchange->loop->edge->draining, memory_order_relaxed))
		return answer_error(exchange, &stopped);
	if (handshake_is_asked(&exchange->head))
		return start_ws(exchange, method);
	if (method->paired)
		return paired_start(exchange, method);
	arena_init(&arena, GATEWAY_ARENA_BYTES, NULL, 0);
	result = start_http(exchange, method, &arena);
	arena_release(&arena);
	return result;
}
