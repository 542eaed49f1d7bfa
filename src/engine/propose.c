/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A write becomes a log record. Its sequence number is given and the record
 * appended under one lock, so that records stand in the log in the order of
 * their numbers; the waiting call is found again by that number when the
 * record comes back to be applied.
 */
#include <stdlib.h>

#include "base/clock.h"
#include "base/metrics.h"
#include "engine/internal.h"
#include "log/record.h"
#include "state/quota.h"

enum {
	PENDING_FIRST_SIZE = 256,
	/* etcd's request as it stands in its log has a header around it. */
	REQUEST_HEADER_BYTES = 16,
};

static bool pending_reserve(struct pending *pending)
{
	size_t size = pending->size == 0 ? PENDING_FIRST_SIZE : pending->size * 2;
	struct call **slots;

	if (pending->next - pending->first < pending->size)
		return true;
	slots = calloc(size, sizeof(struct call *));
	if (slots == NULL)
		return false;
	for (uint64_t at = pending->first; at != pending->next; at++)
		slots[at & (size - 1)] = pending->slots[at & (pending->size - 1)];
	free(pending->slots);
	pending->slots = slots;
	pending->size = size;
	return true;
}

static struct call *pending_take(struct pending *pending, uint64_t sequence)
{
	struct call *call;

	if (sequence < pending->first || sequence >= pending->next)
		return NULL;
	call = pending->slots[sequence & (pending->size - 1)];
	pending->slots[sequence & (pending->size - 1)] = NULL;
	while (pending->first != pending->next && pending->slots[pending->first & (pending->size - 1)] == NULL)
		pending->first++;
	return call;
}

/* The log says that it could not keep a record that it had taken. */
static void on_append_failed(void *arg, enum status_code status, int64_t offset)
{
	(void)arg;
	(void)offset;
	(void)status;
	metric_add(METRIC_PROPOSALS_FAILED, 1); /* the deadline ends the call: it may still be applied */
}

/* Under the lock. 'call' is NULL when nobody waits. */
static enum status_code append(struct engine *engine, Pb__Record *rec, struct call *call)
{
	enum status_code status;

	if (!pending_reserve(&engine->pending))
		return STATUS_NO_MEMORY;
	rec->sequence = engine->pending.next;
	buf_reset(&engine->record);
	status = record_pack(rec, &engine->record);
	if (status != STATUS_OK)
		return status;
	engine->pending.slots[rec->sequence & (engine->pending.size - 1)] = call;
	engine->pending.next++;
	if (call != NULL)
		call->sequence = rec->sequence;
	status = log_append(engine->log, engine->record.data, engine->record.len, on_append_failed, engine);
	if (status != STATUS_OK || call == NULL)
		pending_take(&engine->pending, rec->sequence);
	return status;
}

static enum status_code append_request(struct engine *engine, const ProtobufCMessage *request, struct call *call)
{
	Pb__Record rec;
	enum status_code status;

	pb__record__init(&rec);
	status = record_set_request(&rec, request);
	if (status != STATUS_OK)
		return status;
	rec.cluster_id = atomic_load_explicit(&engine->cluster_id, memory_order_relaxed);
	rec.member_id = atomic_load_explicit(&engine->member_id, memory_order_relaxed);
	rec.incarnation = engine->incarnation;
	rec.time_ms = clock_wall_ms();
	pthread_mutex_lock(&engine->propose_lock);
	status = append(engine, &rec, call);
	pthread_mutex_unlock(&engine->propose_lock);
	if (status != STATUS_OK)
		metric_add(METRIC_PROPOSALS_FAILED, 1);
	return status;
}

bool propose(struct engine *engine, struct call *call)
{
	size_t size = protobuf_c_message_get_packed_size(call->request) + REQUEST_HEADER_BYTES;
	enum status_code status;

	if ((int64_t)size > engine->config->max_request_bytes)
		return call_fail(call, STATUS_REQUEST_TOO_LARGE, NULL);
	status = append_request(engine, call->request, call);
	/* From here on the call may be finished, and freed, by the applier. */
	return status == STATUS_OK ? false : call_fail(call, status, NULL);
}

enum status_code propose_internal(struct engine *engine, const ProtobufCMessage *request)
{
	return append_request(engine, request, NULL);
}

void propose_own(struct engine *engine, struct call *call)
{
	enum status_code status;

	call->engine = engine;
	call->started_us = clock_us();
	call->arena.cap_bytes = ENGINE_RESPONSE_CAP_BYTES; /* the record is applied in it */
	atomic_fetch_add(&engine->in_flight, 1);
	status = append_request(engine, call->request, call);
	if (status == STATUS_OK)
		return;
	call_fail(call, status, NULL);
	call_finish(call, false);
}

struct call *propose_take(struct engine *engine, uint64_t sequence)
{
	struct call *call;

	pthread_mutex_lock(&engine->propose_lock);
	call = pending_take(&engine->pending, sequence);
	pthread_mutex_unlock(&engine->propose_lock);
	return call;
}

void propose_expire(struct engine *engine, int64_t now_ms)
{
	struct pending *pending = &engine->pending;
	struct call_queue expired;
	struct call *call;

	call_queue_init(&expired);
	pthread_mutex_lock(&engine->propose_lock);
	for (uint64_t at = pending->first; at < pending->next; at++) {
		call = pending->slots[at & (pending->size - 1)];
		if (call != NULL && call_is_expired(call, now_ms))
			call_queue_push(&expired, pending_take(pending, at));
	}
	pthread_mutex_unlock(&engine->propose_lock);
	while ((call = call_queue_pop(&expired)) != NULL) {
		metric_add(METRIC_PROPOSALS_FAILED, 1);
		call_finish_expired(call, now_ms);
	}
}

bool propose_has_space(const struct engine *engine, int64_t cost)
{
	int64_t quota = engine->config->quota_backend_bytes;

	return cost == 0 || quota < 0 || atomic_load(&engine->logical_bytes) + cost < quota;
}

bool propose_no_space(struct engine *engine, struct call *call)
{
	Pb__AlarmRequest alarm;
	enum status_code status;

	/* One call raises the alarm and waits for it; the others need not. */
	if (atomic_load(&engine->alarm_nospace) || atomic_exchange(&engine->alarm_proposed, true))
		return call_fail(call, STATUS_NO_SPACE, NULL);
	pb__alarm_request__init(&alarm);
	alarm.action = PB__ALARM_REQUEST__ALARM_ACTION__ACTIVATE;
	alarm.alarm = PB__ALARM_TYPE__NOSPACE;
	alarm.memberid = atomic_load(&engine->member_id);
	call->refusal = STATUS_NO_SPACE;
	status = append_request(engine, &alarm.base, call);
	if (status == STATUS_OK)
		return false;
	atomic_store(&engine->alarm_proposed, false);
	return call_fail(call, STATUS_NO_SPACE, NULL);
}
