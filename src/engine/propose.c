/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A write becomes a log record. Its sequence number is given and the record
 * appended under one lock, so that records stand in the log in the order of
 * their numbers; the waiting call is found again by that number when the
 * record comes back to be applied.
 *
 * Under a shared log a call ends when its record is applied and the log has
 * confirmed it, whichever comes last: what was read back may be less durable
 * than was asked for until then.
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

/* What is known of a record on its way. A slot without call and flags is free. */
enum {
	SLOT_TAKEN = 1,     /* the applier has the call */
	SLOT_CONFIRMED = 2, /* the log has confirmed the record, or will not any more */
	SLOT_FAILED = 4,    /* the latter */
	SLOT_PARKED = 8,    /* applied; the call waits here for the confirmation */
};

static bool pending_reserve(struct pending *pending)
{
	size_t size = pending->size == 0 ? PENDING_FIRST_SIZE : pending->size * 2;
	struct pending_slot *slots;

	if (pending->next - pending->first < pending->size)
		return true;
	slots = calloc(size, sizeof *slots);
	if (slots == NULL)
		return false;
	for (uint64_t at = pending->first; at != pending->next; at++)
		slots[at & (size - 1)] = pending->slots[at & (pending->size - 1)];
	free(pending->slots);
	pending->slots = slots;
	pending->size = size;
	return true;
}

/* NULL when the number is not in the table. */
static struct pending_slot *pending_find(struct pending *pending, uint64_t sequence)
{
	if (sequence < pending->first || sequence >= pending->next)
		return NULL;
	return &pending->slots[sequence & (pending->size - 1)];
}

static void pending_free(struct pending *pending, struct pending_slot *slot)
{
	*slot = (struct pending_slot){0};
	while (pending->first != pending->next) {
		const struct pending_slot *first = &pending->slots[pending->first & (pending->size - 1)];

		if (first->call != NULL || (first->flags & SLOT_TAKEN) != 0)
			break;
		pending->slots[pending->first & (pending->size - 1)] = (struct pending_slot){0};
		pending->first++;
	}
}

/* The log says what became of a record that it had taken. */
static void on_done(void *arg, uint64_t sequence, enum status_code status)
{
	struct engine *engine = arg;
	struct pending_slot *slot;
	struct call *call = NULL;

	if (status != STATUS_OK)
		metric_add(METRIC_PROPOSALS_FAILED, 1);
	pthread_mutex_lock(&engine->propose_lock);
	slot = pending_find(&engine->pending, sequence);
	if (slot != NULL && (slot->call != NULL || (slot->flags & SLOT_TAKEN) != 0)) {
		slot->flags |= (uint8_t)(SLOT_CONFIRMED | (status != STATUS_OK ? SLOT_FAILED : 0));
		if ((slot->flags & SLOT_PARKED) != 0) {
			call = slot->call;
			pending_free(&engine->pending, slot);
		}
	}
	pthread_mutex_unlock(&engine->propose_lock);
	if (call != NULL && status != STATUS_OK)
		call_fail(call, STATUS_TIMEOUT, NULL);
	if (call != NULL)
		call_finish(call, false);
	if (status == STATUS_OK)
		atomic_store(&engine->confirmed_ms, clock_ms());
	else
		read_append_failed(engine, sequence);
}

void propose_init(struct engine *engine)
{
	engine->pending.first = engine->pending.next = 1;
	log_listen(engine->log, on_done, engine);
}

/* Under the lock. 'call' is NULL when nobody waits. */
static enum status_code append(struct engine *engine, Pb__Record *rec, struct call *call)
{
	struct pending_slot *slot;
	enum status_code status;

	if (!pending_reserve(&engine->pending))
		return STATUS_NO_MEMORY;
	rec->sequence = engine->pending.next;
	buf_reset(&engine->record);
	status = record_pack(rec, atomic_load_explicit(&engine->level, memory_order_relaxed),
	                     &engine->record);
	if (status != STATUS_OK)
		return status;
	slot = &engine->pending.slots[rec->sequence & (engine->pending.size - 1)];
	*slot = (struct pending_slot){.call = call};
	engine->pending.next++;
	if (call != NULL)
		call->sequence = rec->sequence;
	status = log_append(engine->log, engine->record.data, engine->record.len, rec->sequence);
	if (status != STATUS_OK || call == NULL)
		pending_free(&engine->pending, slot);
	return status;
}

static bool may_propose(const struct engine *engine, const ProtobufCMessage *request)
{
	if (!engine->shared || atomic_load_explicit(&engine->joined, memory_order_relaxed))
		return true;
	return request->descriptor == &pb__genesis__descriptor ||
	       request->descriptor == &pb__join__descriptor;
}

/* Where this node is in a shared log, so that others can tell whether they follow the same. */
static void fill_place(struct engine *engine, Pb__Record *rec)
{
	pthread_mutex_lock(&engine->place_lock);
	rec->seen_offset = engine->place_offset;
	rec->seen_chain = engine->place_chain;
	pthread_mutex_unlock(&engine->place_lock);
	rec->term = atomic_load_explicit(&engine->term, memory_order_relaxed);
}

/* *sequence, unless NULL, is the record's number. */
static enum status_code append_request(struct engine *engine, const ProtobufCMessage *request,
                                       struct call *call, uint64_t *sequence)
{
	Pb__Record rec;
	enum status_code status;

	if (!may_propose(engine, request))
		return STATUS_NOT_READY;
	if (atomic_load_explicit(&engine->log_fault, memory_order_relaxed) != NULL)
		return STATUS_TIMEOUT;
	pb__record__init(&rec);
	status = record_set_request(&rec, request);
	if (status != STATUS_OK)
		return status;
	rec.cluster_id = atomic_load_explicit(&engine->cluster_id, memory_order_relaxed);
	rec.member_id = atomic_load_explicit(&engine->member_id, memory_order_relaxed);
	rec.incarnation = engine->incarnation;
	rec.time_ms = clock_wall_ms();
	if (engine->shared)
		fill_place(engine, &rec);
	pthread_mutex_lock(&engine->propose_lock);
	status = append(engine, &rec, call);
	if (sequence != NULL)
		*sequence = rec.sequence;
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
	if (engine_log_fault(engine) != NULL)
		return call_fail(call, STATUS_TIMEOUT, engine_log_fault(engine));
	status = append_request(engine, call->request, call, NULL);
	/* From here on the call may be finished, and freed, by the applier. */
	return status == STATUS_OK ? false : call_fail(call, status, NULL);
}

enum status_code propose_internal(struct engine *engine, const ProtobufCMessage *request,
                                  uint64_t *sequence)
{
	return append_request(engine, request, NULL, sequence);
}

void propose_own(struct engine *engine, struct call *call)
{
	enum status_code status;

	call->engine = engine;
	call->started_us = clock_us();
	call->arena.cap_bytes = ENGINE_RESPONSE_CAP_BYTES; /* the record is applied in it */
	atomic_fetch_add(&engine->in_flight, 1);
	status = append_request(engine, call->request, call, NULL);
	if (status == STATUS_OK)
		return;
	call_fail(call, status, NULL);
	call_finish(call, false);
}

uint64_t propose_next(struct engine *engine)
{
	uint64_t next;

	pthread_mutex_lock(&engine->propose_lock);
	next = engine->pending.next;
	pthread_mutex_unlock(&engine->propose_lock);
	return next;
}

struct call *propose_take(struct engine *engine, uint64_t sequence)
{
	struct pending_slot *slot;
	struct call *call = NULL;

	pthread_mutex_lock(&engine->propose_lock);
	slot = pending_find(&engine->pending, sequence);
	if (slot != NULL && (slot->flags & (SLOT_TAKEN | SLOT_PARKED)) == 0)
		call = slot->call;
	if (call != NULL && engine->shared) {
		slot->call = NULL;
		slot->flags |= SLOT_TAKEN;
	} else if (call != NULL) {
		pending_free(&engine->pending, slot);
	}
	pthread_mutex_unlock(&engine->propose_lock);
	return call;
}

bool propose_settle(struct engine *engine, struct call *call)
{
	struct pending_slot *slot;
	bool settled = true;

	if (!engine->shared)
		return true;
	pthread_mutex_lock(&engine->propose_lock);
	slot = pending_find(&engine->pending, call->sequence);
	if (slot != NULL && (slot->flags & SLOT_TAKEN) != 0) {
		slot->flags &= (uint8_t)~SLOT_TAKEN;
		settled = call->status.code != STATUS_OK || (slot->flags & SLOT_CONFIRMED) != 0;
		if ((slot->flags & SLOT_FAILED) != 0 && call->status.code == STATUS_OK)
			call_fail(call, STATUS_TIMEOUT, NULL);
		if (settled) {
			pending_free(&engine->pending, slot);
		} else {
			slot->call = call;
			slot->flags |= SLOT_PARKED;
		}
	}
	pthread_mutex_unlock(&engine->propose_lock);
	return settled;
}

void propose_expire(struct engine *engine, int64_t now_ms)
{
	struct pending *pending = &engine->pending;
	struct call_queue expired;
	struct call *call;

	call_queue_init(&expired);
	pthread_mutex_lock(&engine->propose_lock);
	for (uint64_t at = pending->first; at < pending->next; at++) {
		struct pending_slot *slot = pending_find(pending, at);

		if (slot == NULL || slot->call == NULL || !call_is_expired(slot->call, now_ms))
			continue;
		if (slot->call->refusal == STATUS_NO_SPACE)
			atomic_store(&engine->alarm_proposed, false); /* the alarm may have got lost */
		call_queue_push(&expired, slot->call);
		pending_free(pending, slot);
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
	status = append_request(engine, &alarm.base, call, NULL);
	if (status == STATUS_OK)
		return false;
	atomic_store(&engine->alarm_proposed, false);
	return call_fail(call, STATUS_NO_SPACE, NULL);
}
