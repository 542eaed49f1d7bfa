/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a stream: what the edge calls goes to the method's handler, as
 * long as the engine's side is not over.
 */
#include "engine/stream.h"

#include "base/metrics.h"
#include "engine/internal.h"

bool stream_open(struct engine *engine, struct reader *reader, struct stream *stream)
{
	stream->engine = engine;
	stream->reader = reader;
	stream->handler = NULL;
	stream->state = NULL;
	stream->ended = false;
	metric_add(METRIC_CLIENT_REQUESTS, 1);
	if (atomic_load(&engine->draining))
		return stream_fail(stream, STATUS_STOPPED, NULL);
	if (engine->shared && !atomic_load_explicit(&engine->joined, memory_order_relaxed))
		return stream_fail(stream, STATUS_NOT_READY, NULL);
	if (stream->method->open == NULL)
		return stream_fail(stream, STATUS_UNIMPLEMENTED, NULL);
	return stream->method->open(engine, stream);
}

void stream_receive(struct stream *stream, const ProtobufCMessage *request)
{
	if (!stream->ended)
		stream->handler->receive(stream, request);
}

void stream_end_requests(struct stream *stream)
{
	if (!stream->ended)
		stream->handler->end_requests(stream);
}

void stream_resume(struct stream *stream)
{
	if (!stream->ended)
		stream->handler->resume(stream);
}

void stream_close(struct stream *stream)
{
	stream->ended = true;
	if (stream->handler != NULL)
		stream->handler->close(stream);
	stream->handler = NULL;
}

bool stream_fail(struct stream *stream, enum status_code code, const char *message)
{
	struct status status = {.code = code, .message = message};

	if (stream->ended)
		return false;
	stream->ended = true;
	if (code != STATUS_OK)
		metric_add(metric_refused(status_grpc(code)), 1);
	stream->ops->end(stream, &status);
	return false;
}

void stream_fill_header(struct engine *engine, Pb__ResponseHeader *header, int64_t revision)
{
	pb__response_header__init(header);
	header->cluster_id = atomic_load_explicit(&engine->cluster_id, memory_order_relaxed);
	header->member_id = atomic_load_explicit(&engine->member_id, memory_order_relaxed);
	header->raft_term = atomic_load_explicit(&engine->term, memory_order_relaxed);
	header->revision = revision;
}
