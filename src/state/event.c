/* SPDX-License-Identifier: Apache-2.0 */
#include "state/event.h"

#include <stdlib.h>
#include <string.h>

enum {
	EVENTS_FIRST = 4,
	/* A batch is bounded by who makes it; one delete may change millions of keys. */
	BATCH_CAP_BYTES = 1 << 30,
};

struct event_batch *event_batch_new(void)
{
	struct event_batch *batch = calloc(1, sizeof *batch);

	if (batch == NULL)
		return NULL;
	atomic_init(&batch->refs, 1);
	arena_init(&batch->arena, BATCH_CAP_BYTES, NULL, 0);
	return batch;
}

struct event_batch *event_batch_hold(struct event_batch *batch)
{
	atomic_fetch_add_explicit(&batch->refs, 1, memory_order_relaxed);
	return batch;
}

static void free_forms(struct event *event)
{
	for (int i = 0; i < EVENT_FORMS; i++)
		free(atomic_load_explicit(&event->forms[i], memory_order_relaxed));
}

void event_batch_release(struct event_batch *batch)
{
	if (batch == NULL || atomic_fetch_sub_explicit(&batch->refs, 1, memory_order_acq_rel) > 1)
		return;
	if (batch->account != NULL)
		atomic_fetch_sub(batch->account, (int64_t)batch->bytes);
	for (size_t i = 0; i < batch->count; i++)
		free_forms(batch->events[i]);
	arena_release(&batch->arena);
	free(batch->events);
	free(batch);
}

static bool reserve(struct event_batch *batch)
{
	size_t size = batch->size > 0 ? batch->size * 2 : EVENTS_FIRST;
	struct event **events;

	if (batch->count < batch->size)
		return true;
	events = realloc(batch->events, size * sizeof *events);
	if (events == NULL)
		return false;
	batch->events = events;
	batch->size = size;
	return true;
}

/* Copies a pair with its bytes into the arena. */
static bool copy_kv(struct event_batch *batch, Pb__KeyValue *to, const Pb__KeyValue *from)
{
	uint8_t *bytes = arena_alloc(&batch->arena, from->key.len + from->value.len);

	if (bytes == NULL)
		return false;
	pb__key_value__init(to);
	to->create_revision = from->create_revision;
	to->mod_revision = from->mod_revision;
	to->version = from->version;
	to->lease = from->lease;
	to->key = (ProtobufCBinaryData){.len = from->key.len, .data = bytes};
	if (from->key.len > 0)
		memcpy(bytes, from->key.data, from->key.len);
	if (from->value.len > 0) {
		to->value = (ProtobufCBinaryData){.len = from->value.len, .data = bytes + from->key.len};
		memcpy(to->value.data, from->value.data, from->value.len);
	}
	batch->bytes += from->key.len + from->value.len;
	return true;
}

struct event *event_batch_add(struct event_batch *batch, bool deleted, const Pb__KeyValue *kv)
{
	struct event *event = arena_alloc(&batch->arena, sizeof *event);

	if (event == NULL || !reserve(batch) || !copy_kv(batch, &event->kv, kv))
		return NULL;
	pb__event__init(&event->pb);
	event->pb.type = deleted ? PB__EVENT__EVENT_TYPE__DELETE : PB__EVENT__EVENT_TYPE__PUT;
	event->pb.kv = &event->kv;
	event->batch = batch;
	for (int i = 0; i < EVENT_FORMS; i++)
		atomic_init(&event->forms[i], NULL);
	batch->events[batch->count++] = event;
	return event;
}

enum status_code event_batch_set_prev(struct event_batch *batch, const Pb__KeyValue *prev)
{
	struct event *event = batch->events[batch->count - 1];

	if (!copy_kv(batch, &event->prev, prev))
		return STATUS_NO_MEMORY;
	event->pb.prev_kv = &event->prev;
	return STATUS_OK;
}

void event_batch_charge(struct event_batch *batch, _Atomic int64_t *account)
{
	batch->account = account;
	atomic_fetch_add(account, (int64_t)batch->bytes);
}

void event_batch_truncate(struct event_batch *batch, size_t count)
{
	while (batch->count > count)
		free_forms(batch->events[--batch->count]);
}

void event_batch_remove(struct event_batch *batch, size_t at)
{
	free_forms(batch->events[at]);
	batch->count--;
	memmove(&batch->events[at], &batch->events[at + 1], (batch->count - at) * sizeof(struct event *));
}

const struct event_bytes *event_form(struct event *event, enum event_form form, event_encode_fn *encode)
{
	struct event_bytes *bytes = atomic_load_explicit(&event->forms[form], memory_order_acquire);
	struct event_bytes *made_meanwhile = NULL;
	Pb__Event pb = event->pb;
	struct buf buf;

	if (bytes != NULL)
		return bytes;
	if (form == EVENT_JSON || form == EVENT_WIRE)
		pb.prev_kv = NULL;
	buf_init(&buf);
	buf_reserve(&buf, sizeof *bytes);
	buf.len = sizeof *bytes;
	encode(&pb, &buf);
	if (buf.failed) {
		buf_release(&buf);
		return NULL;
	}
	bytes = (struct event_bytes *)buf.data;
	bytes->len = buf.len - sizeof *bytes;
	if (atomic_compare_exchange_strong(&event->forms[form], &made_meanwhile, bytes))
		return bytes;
	buf_release(&buf);
	return made_meanwhile;
}
