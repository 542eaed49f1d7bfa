/* SPDX-License-Identifier: Apache-2.0 */
#include "state/event.h"

#include <stdlib.h>
#include <string.h>

enum {
	EVENTS_FIRST = 4,
	/* A batch is bounded by who makes it; one delete may change millions of keys. */
	BATCH_CAP_BYTES = 1 << 30,
	/* Of keys and values: themselves, and their forms, which are longer. */
	CHARGE_FACTOR = 3,
	/* Runs are found one by one, and those of different watches may overlap: a batch keeps only
	 * some, which hold each of its events about so many times. */
	RUNS_MAX = 64,
	RUN_COPIES_MAX = 4,
};

/* A joined form. */
struct event_run {
	struct event_run *next;
	size_t first, count; /* of the batch's events */
	enum event_form form;
	struct event_bytes *bytes;
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

static int64_t charge_of(const struct event_batch *batch)
{
	return CHARGE_FACTOR * (int64_t)batch->bytes;
}

static void free_run(struct event_run *run)
{
	free(run->bytes);
	free(run);
}

static void free_runs(struct event_batch *batch)
{
	struct event_run *run = atomic_load_explicit(&batch->runs, memory_order_relaxed);

	while (run != NULL) {
		struct event_run *next = run->next;

		free_run(run);
		run = next;
	}
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
		atomic_fetch_sub(batch->account, charge_of(batch));
	free_runs(batch);
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
	event->index = batch->count;
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
	atomic_fetch_add(account, charge_of(batch));
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
	for (size_t i = at; i < batch->count; i++)
		batch->events[i]->index = i;
}

/* ---- Forms ---- */

static bool is_json(enum event_form form)
{
	return form == EVENT_JSON || form == EVENT_JSON_PREV;
}

static bool shows_prev(enum event_form form)
{
	return form == EVENT_JSON_PREV || form == EVENT_WIRE_PREV;
}

/* Gives back what the buffer has beyond its content: forms are kept for long. */
static struct event_bytes *detach_bytes(struct buf *buf)
{
	size_t len = buf->len;
	uint8_t *data = buf_detach(buf);
	struct event_bytes *bytes = data != NULL ? realloc(data, len) : NULL;

	if (bytes == NULL)
		bytes = (struct event_bytes *)data;
	if (bytes != NULL)
		bytes->len = len - sizeof *bytes;
	return bytes;
}

static struct event_bytes *make_bytes(struct event *const *events, size_t count, enum event_form form,
                                      event_encode_fn *encode)
{
	struct buf buf;

	buf_init(&buf);
	buf_reserve(&buf, sizeof(struct event_bytes));
	buf.len = sizeof(struct event_bytes);
	for (size_t i = 0; i < count && !buf.failed; i++) {
		Pb__Event pb = events[i]->pb;

		if (!shows_prev(form))
			pb.prev_kv = NULL;
		if (i > 0 && is_json(form))
			buf_append_byte(&buf, ',');
		encode(&pb, &buf);
	}
	return detach_bytes(&buf);
}

const struct event_bytes *event_form(struct event *event, enum event_form form, event_encode_fn *encode)
{
	struct event_bytes *bytes = atomic_load_explicit(&event->forms[form], memory_order_acquire);
	struct event_bytes *made_meanwhile = NULL;

	if (bytes != NULL)
		return bytes;
	bytes = make_bytes(&event, 1, form, encode);
	if (bytes == NULL || atomic_compare_exchange_strong(&event->forms[form], &made_meanwhile, bytes))
		return bytes;
	free(bytes);
	return made_meanwhile;
}

/* ---- Runs ---- */

/* In their order: so the ends tell. */
static bool is_run(struct event *const *events, size_t count)
{
	return count > 0 && events[0]->batch == events[count - 1]->batch &&
	       events[count - 1]->index - events[0]->index == count - 1;
}

static const struct event_bytes *find_run(const struct event_run *run, const struct event_run *wanted)
{
	for (; run != NULL; run = run->next) {
		if (run->first == wanted->first && run->count == wanted->count && run->form == wanted->form)
			return run->bytes;
	}
	return NULL;
}

/* Whether these runs leave room for one more of so many events. */
static bool may_add(const struct event_run *run, const struct event_batch *batch, size_t count)
{
	size_t runs = 0;

	for (; run != NULL; run = run->next) {
		runs++;
		count += run->count;
	}
	return runs < RUNS_MAX && count <= RUN_COPIES_MAX * batch->count;
}

/* Takes over the bytes, unless another thread has added the same meanwhile. */
static const struct event_bytes *add_run(struct event_batch *batch, const struct event_run *made)
{
	struct event_run *run = malloc(sizeof *run);

	if (run == NULL) {
		free(made->bytes);
		return NULL;
	}
	*run = *made;
	while (!atomic_compare_exchange_strong(&batch->runs, &run->next, run)) {
		const struct event_bytes *made_meanwhile = find_run(run->next, run);

		if (made_meanwhile != NULL) {
			free_run(run);
			return made_meanwhile;
		}
	}
	return run->bytes;
}

const struct event_bytes *event_run_form(struct event *const *events, size_t count, enum event_form form,
                                         event_encode_fn *encode)
{
	struct event_run run = {.count = count, .form = form};
	struct event_batch *batch;
	const struct event_bytes *found;

	if (!is_run(events, count))
		return NULL;
	batch = events[0]->batch;
	run.first = events[0]->index;
	run.next = atomic_load_explicit(&batch->runs, memory_order_acquire);
	found = find_run(run.next, &run);
	if (found != NULL || !may_add(run.next, batch, count))
		return found;
	run.bytes = make_bytes(events, count, form, encode);
	return run.bytes != NULL ? add_run(batch, &run) : NULL;
}
