/* SPDX-License-Identifier: Apache-2.0 */
/* Starts calls, ends them, and keeps them in queues in between. */
#include <string.h>

#include "base/clock.h"
#include "base/logger.h"
#include "base/metrics.h"
#include "engine/internal.h"
#include "engine/method.h"

void call_queue_init(struct call_queue *queue)
{
	queue->head = NULL;
	queue->tail = &queue->head;
}

void call_queue_push(struct call_queue *queue, struct call *call)
{
	call->next = NULL;
	*queue->tail = call;
	queue->tail = &call->next;
}

struct call *call_queue_pop(struct call_queue *queue)
{
	struct call *call = queue->head;

	if (call == NULL)
		return NULL;
	queue->head = call->next;
	if (queue->head == NULL)
		queue->tail = &queue->head;
	return call;
}

void call_queue_move(struct call_queue *to, struct call_queue *from)
{
	*to = *from;
	if (to->head == NULL)
		to->tail = &to->head;
	call_queue_init(from);
}

/* All responses of the API have their header as field 1, if any. */
static Pb__ResponseHeader *find_header(ProtobufCMessage *response)
{
	const ProtobufCMessageDescriptor *type = response->descriptor;
	Pb__ResponseHeader *header;

	if (type->n_fields == 0 || type->fields[0].descriptor != &pb__response_header__descriptor)
		return NULL;
	memcpy(&header, (const uint8_t *)response + type->fields[0].offset, sizeof header);
	return header;
}

/* A header that has a cluster id was filled by its handler. */
static void fill_header(struct engine *engine, ProtobufCMessage *response)
{
	Pb__ResponseHeader *header = find_header(response);

	if (header == NULL || header->cluster_id != 0)
		return;
	header->cluster_id = atomic_load_explicit(&engine->cluster_id, memory_order_relaxed);
	header->member_id = atomic_load_explicit(&engine->member_id, memory_order_relaxed);
	header->raft_term = atomic_load_explicit(&engine->term, memory_order_relaxed);
	if (header->revision == 0)
		header->revision = atomic_load(&engine->revision);
}

static void note_slow(struct engine *engine, const struct call *call, int64_t took_us)
{
	size_t request = protobuf_c_message_get_packed_size(call->request);
	size_t response = call->response != NULL ? protobuf_c_message_get_packed_size(call->response) : 0;

	metric_add(METRIC_SLOW_APPLIES, 1);
	logger_warn("engine", "slow request", LOG_STR("method", call->method->name),
	            LOG_I64("took_ms", took_us / 1000),
	            LOG_I64("limit_ms", engine->config->slow_request_ms),
	            LOG_STR("status", status_code_name(call->status.code)),
	            LOG_I64("request_bytes", (int64_t)request),
	            LOG_I64("response_bytes", (int64_t)response), LOG_END);
}

static void conclude(struct engine *engine, struct call *call)
{
	int64_t took_us = clock_us() - call->started_us;

	if (call->status.code == STATUS_OK && call->response == NULL)
		call_fail(call, STATUS_INTERNAL, NULL);
	if (call->status.code == STATUS_OK)
		fill_header(engine, call->response);
	else
		metric_add(metric_refused(status_grpc(call->status.code)), 1);
	metric_observe(METRIC_REQUEST_SECONDS, took_us);
	/* Who waits for a lock is not slow. */
	if (took_us >= engine->config->slow_request_ms * 1000 && call->waiter == NULL)
		note_slow(engine, call, took_us);
	atomic_fetch_sub(&engine->in_flight, 1);
}

bool call_start(struct engine *engine, struct reader *reader, struct call *call)
{
	call->engine = engine;
	call->started_us = clock_us();
	call->arena.cap_bytes = ENGINE_RESPONSE_CAP_BYTES;
	metric_add(METRIC_CLIENT_REQUESTS, 1);
	atomic_fetch_add(&engine->in_flight, 1);

	if (atomic_load(&engine->draining))
		call_fail(call, STATUS_STOPPED, NULL);
	else if (engine->shared && !atomic_load_explicit(&engine->joined, memory_order_relaxed))
		call_fail(call, STATUS_NOT_READY, NULL);
	else if (call->method->run == NULL)
		call_fail(call, STATUS_UNIMPLEMENTED, NULL);
	else if (call->deadline_ms != 0 && call->deadline_ms <= call->started_us / 1000)
		call_fail(call, STATUS_DEADLINE_EXCEEDED, NULL);
	else if (!call->method->run(engine, reader, call))
		return false;
	conclude(engine, call);
	return true;
}

void call_finish(struct call *call, bool slow)
{
	if (call->method != NULL)
		conclude(call->engine, call);
	else
		atomic_fetch_sub(&call->engine->in_flight, 1); /* the engine's own: see propose_own */
	call->ops->finish(call, slow);
}

bool call_is_expired(const struct call *call, int64_t now_ms)
{
	int64_t own_ms = call->started_us / 1000 + ENGINE_TIMEOUT_MS;

	return now_ms >= own_ms || (call->deadline_ms != 0 && now_ms >= call->deadline_ms);
}

void call_finish_expired(struct call *call, int64_t now_ms)
{
	bool own = call->deadline_ms == 0 || now_ms < call->deadline_ms;

	if (!call_is_expired(call, now_ms))
		call_fail(call, STATUS_CANCELED, NULL);
	else
		call_fail(call, own ? STATUS_TIMEOUT : STATUS_DEADLINE_EXCEEDED, NULL);
	call_finish(call, false);
}
