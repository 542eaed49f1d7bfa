/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Watch service: a stream of requests that open and cancel watches, and of
 * what they see. Which watcher is concerned by what is the shard's business
 * (watch/shard.h); here are the requests, the messages, and their order:
 * "created" before anything a watch sees, progress never ahead of it.
 */
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/metrics.h"
#include "base/seed.h"
#include "engine/handlers.h"
#include "engine/internal.h"
#include "watch/shard.h"

enum {
	/* What etcd adds to max-request-bytes where it says how large a fragment may be. */
	FRAGMENT_OVERHEAD_BYTES = 512 * 1024,
	SLOTS_FIRST = 4,
	/* What the watches of one stream may take of memory, keys included. */
	STREAM_BYTES = 64 << 20,
};

/* In messages that are about no watch, or about one that could not be opened. */
#define NO_WATCH_ID INT64_C(-1)

struct watch {
	struct watcher watcher;
	struct watch *next; /* in its slot */
	int64_t id;
	int64_t start; /* as asked for; 0: from now */
	struct watch *next_ahead, **ahead_link; /* those that wait for a revision to come; or NULL */
	bool fragment;
	bool notify;   /* tell of progress from time to time */
	bool is_quiet; /* since the last time */
	bool is_lost;  /* it is over, and was told so; its id is in use until it is canceled */
	uint8_t bytes[]; /* the key and the range's end */
};

struct watch_stream {
	struct watch_group group;
	struct stream *stream;
	struct watch **slots; /* by id; a power of two of them */
	size_t slot_count, count;
	uint64_t seed; /* of the hash: clients choose ids */
	size_t bytes;  /* of all watches */
	struct watch *ahead;
	int64_t next_id;
	struct reader_timer progress;
};

/* ---- Watches by id ---- */

static struct watch **slot_of(const struct watch_stream *self, int64_t id)
{
	return &self->slots[XXH3_64bits_withSeed(&id, sizeof id, self->seed) & (self->slot_count - 1)];
}

static struct watch *find_watch(const struct watch_stream *self, int64_t id)
{
	struct watch *watch = self->slot_count > 0 ? *slot_of(self, id) : NULL;

	while (watch != NULL && watch->id != id)
		watch = watch->next;
	return watch;
}

static void link_watch(struct watch_stream *self, struct watch *watch)
{
	struct watch **slot = slot_of(self, watch->id);

	watch->next = *slot;
	*slot = watch;
}

/* Makes room for one more. */
static bool reserve(struct watch_stream *self)
{
	size_t old_count = self->slot_count;
	struct watch **old = self->slots;

	if (self->count < old_count)
		return true;
	self->slot_count = old_count > 0 ? old_count * 2 : SLOTS_FIRST;
	self->slots = calloc(self->slot_count, sizeof(struct watch *));
	if (self->slots == NULL) {
		self->slots = old;
		self->slot_count = old_count;
		return false;
	}
	for (size_t i = 0; i < old_count; i++) {
		for (struct watch *watch = old[i], *next; watch != NULL; watch = next) {
			next = watch->next;
			link_watch(self, watch);
		}
	}
	free(old);
	return true;
}

/* It is no longer ahead. Again does no harm. */
static void catch_up(struct watch *watch)
{
	if (watch->ahead_link == NULL)
		return;
	*watch->ahead_link = watch->next_ahead;
	if (watch->next_ahead != NULL)
		watch->next_ahead->ahead_link = watch->ahead_link;
	watch->ahead_link = NULL;
}

static void go_ahead(struct watch_stream *self, struct watch *watch)
{
	watch->next_ahead = self->ahead;
	watch->ahead_link = &self->ahead;
	if (self->ahead != NULL)
		self->ahead->ahead_link = &watch->next_ahead;
	self->ahead = watch;
}

static size_t watch_bytes(const struct watch *watch)
{
	return sizeof *watch + watch->watcher.span.key_len + watch->watcher.span.end_len;
}

static void add_watch(struct watch_stream *self, struct watch *watch)
{
	link_watch(self, watch);
	if (watch->start > 0)
		go_ahead(self, watch);
	self->bytes += watch_bytes(watch);
	self->count++;
	metric_add(METRIC_WATCHERS, 1);
}

/* Takes it out of the table and frees it; the shard does not know it any more. */
static void drop_watch(struct watch_stream *self, struct watch *watch)
{
	struct watch **at = slot_of(self, watch->id);

	while (*at != watch)
		at = &(*at)->next;
	*at = watch->next;
	catch_up(watch);
	self->bytes -= watch_bytes(watch);
	self->count--;
	if (!watch->is_lost)
		metric_add(METRIC_WATCHERS, -1);
	free(watch);
}

/* ---- Messages ---- */

static struct watch_stream *stream_of(struct watch_group *group)
{
	return (struct watch_stream *)group; /* its first member */
}

static void send(struct watch_stream *self, Pb__WatchResponse *response, int64_t revision)
{
	Pb__ResponseHeader header;

	stream_fill_header(self->stream->engine, &header, revision);
	response->header = &header;
	self->stream->ops->message(self->stream, &response->base);
}

static void send_progress(struct watch_stream *self, int64_t id, int64_t revision)
{
	Pb__WatchResponse response;

	pb__watch_response__init(&response);
	response.watch_id = id;
	send(self, &response, revision);
}

static void send_refusal(struct watch_stream *self, const char *reason)
{
	Pb__WatchResponse response;

	pb__watch_response__init(&response);
	response.watch_id = NO_WATCH_ID;
	response.created = true;
	response.canceled = true;
	response.cancel_reason = (char *)(uintptr_t)reason;
	send(self, &response, hub_revision(self->stream->engine->hub));
}

static size_t varint_bytes(size_t value)
{
	size_t bytes = 1;

	while ((value >>= 7) != 0)
		bytes++;
	return bytes;
}

/* What an event takes in the message's protobuf form. */
static size_t event_bytes(const struct event *event, bool prev_kv)
{
	Pb__Event pb = event->pb;
	size_t bytes;

	if (!prev_kv)
		pb.prev_kv = NULL;
	bytes = protobuf_c_message_get_packed_size(&pb.base);
	return 1 + varint_bytes(bytes) + bytes;
}

/* How many of the events the next fragment takes: as many as stay below the
 * limit, one at least. */
static size_t fragment_count(const struct watch_message *message, size_t limit)
{
	size_t bytes = protobuf_c_message_get_packed_size(message->head);
	size_t count = 0;

	while (count < message->count) {
		bytes += event_bytes(message->events[count], message->prev_kv);
		if (count > 0 && bytes >= limit)
			break;
		count++;
	}
	return count;
}

static void send_fragments(struct watch_stream *self, struct watch_message *message,
                           Pb__WatchResponse *response)
{
	size_t limit = (size_t)self->stream->engine->config->max_request_bytes + FRAGMENT_OVERHEAD_BYTES;
	size_t left = message->count;

	/* The flag takes two bytes, which etcd counts only once it has to split. */
	response->fragment = fragment_count(message, limit) < message->count;
	while (left > 0) {
		message->count = left;
		message->count = fragment_count(message, limit);
		left -= message->count;
		response->fragment = left > 0;
		self->stream->ops->events(self->stream, message);
		message->events += message->count;
		response->fragment = true;
	}
}

static void on_events(struct watcher *watcher, int64_t revision, struct event *const *events,
                      size_t count)
{
	struct watch *watch = (struct watch *)watcher;
	struct watch_stream *self = stream_of(watcher->group);
	Pb__WatchResponse response;
	Pb__ResponseHeader header;
	struct watch_message message = {
		.head = &response.base,
		.events = events,
		.count = count,
		.prev_kv = watcher->prev_kv,
	};

	pb__watch_response__init(&response);
	stream_fill_header(self->stream->engine, &header, revision);
	response.header = &header;
	response.watch_id = watch->id;
	watch->is_quiet = false;
	metric_add(METRIC_WATCH_EVENTS, (int64_t)count);
	if (watch->fragment && count > 1)
		send_fragments(self, &message, &response);
	else
		self->stream->ops->events(self->stream, &message);
}

static void on_lost(struct watcher *watcher, enum status_code why, int64_t compact_revision)
{
	struct watch_stream *self = stream_of(watcher->group);
	struct watch *watch = (struct watch *)watcher;
	Pb__WatchResponse response;

	pb__watch_response__init(&response);
	response.watch_id = watch->id;
	response.canceled = true;
	if (why == STATUS_COMPACTED)
		response.compact_revision = compact_revision;
	else
		response.cancel_reason = (char *)(uintptr_t)status_code_text(why);
	watch->is_lost = true;
	catch_up(watch);
	metric_add(METRIC_WATCHERS, -1);
	send(self, &response, 0); /* etcd names no revision here */
}

static bool has_room(struct watch_group *group)
{
	const struct watch_stream *self = stream_of(group);

	return self->stream->ops->has_room(self->stream);
}

static const struct watch_ops WATCH_OPS = {
	.events = on_events,
	.lost = on_lost,
	.has_room = has_room,
};

/* ---- Progress ---- */

/* Each watch is looked at until its time has come, and then no more. */
static bool is_ahead(struct watch_stream *self, int64_t revision)
{
	while (self->ahead != NULL && self->ahead->start <= revision)
		catch_up(self->ahead);
	return self->ahead != NULL;
}

/* One answer for all watches of the stream; none while one of them lags, or
 * waits for a revision to come, as in etcd. */
static void answer_progress(struct watch_stream *self)
{
	int64_t revision;

	/* Of what the client knows to have happened it is to hear. */
	shard_run(self->group.shard);
	if (self->count > 0 && watch_group_is_synced(&self->group, &revision) && !is_ahead(self, revision))
		send_progress(self, NO_WATCH_ID, revision);
}

/* Clients that connected together are not to be told together for ever. */
static void set_progress_timer(struct watch_stream *self, int64_t now_ms)
{
	int64_t interval_ms = self->stream->engine->config->progress_notify_ms;
	int64_t jitter_ms = interval_ms >= 10 ? random() % (interval_ms / 10) : 0;

	reader_set_timer(self->stream->reader, &self->progress, now_ms + interval_ms + jitter_ms);
}

static void on_progress_timer(struct reader_timer *timer, int64_t now_ms)
{
	struct watch_stream *self =
		(struct watch_stream *)((char *)timer - offsetof(struct watch_stream, progress));
	int64_t revision;
	bool synced = watch_group_is_synced(&self->group, &revision) && has_room(&self->group);

	for (size_t i = 0; i < self->slot_count; i++) {
		for (struct watch *watch = self->slots[i]; watch != NULL; watch = watch->next) {
			if (watch->notify && watch->is_quiet && synced && watch->start <= revision &&
			    !watch->is_lost)
				send_progress(self, watch->id, revision);
			watch->is_quiet = true;
		}
	}
	set_progress_timer(self, now_ms);
}

/* ---- Requests ---- */

static bool is_empty_range(ProtobufCBinaryData key, ProtobufCBinaryData end)
{
	struct span span = span_make(key, end);

	return !span_is_single(&span) && !span_is_open(&span) &&
	       bytes_compare(key.data, key.len, end.data, end.len) >= 0;
}

static struct watch *new_watch(struct watch_stream *self, const Pb__WatchCreateRequest *request,
                               ProtobufCBinaryData key)
{
	struct watch *watch = calloc(1, sizeof *watch + key.len + request->range_end.len);

	if (watch == NULL)
		return NULL;
	memcpy(watch->bytes, key.data, key.len);
	if (request->range_end.len > 0)
		memcpy(watch->bytes + key.len, request->range_end.data, request->range_end.len);
	watch->watcher.group = &self->group;
	watch->watcher.span = (struct span){
		.key = watch->bytes,
		.key_len = key.len,
		.end = watch->bytes + key.len,
		.end_len = request->range_end.len,
	};
	watch->watcher.prev_kv = request->prev_kv;
	for (size_t i = 0; i < request->n_filters; i++) {
		watch->watcher.no_put |= request->filters[i] == PB__WATCH_CREATE_REQUEST__FILTER_TYPE__NOPUT;
		watch->watcher.no_delete |=
			request->filters[i] == PB__WATCH_CREATE_REQUEST__FILTER_TYPE__NODELETE;
	}
	watch->start = request->start_revision;
	watch->fragment = request->fragment;
	watch->notify = request->progress_notify;
	watch->is_quiet = true;
	return watch;
}

/* 0 asks for the next free one. False when the id is in use. */
static bool choose_id(struct watch_stream *self, int64_t wanted, int64_t *id)
{
	*id = wanted;
	if (wanted != 0)
		return find_watch(self, wanted) == NULL;
	while (find_watch(self, self->next_id) != NULL)
		self->next_id++;
	*id = self->next_id++;
	return true;
}

static void create(struct watch_stream *self, const Pb__WatchCreateRequest *request)
{
	static uint8_t smallest_key[] = {0};
	Pb__WatchResponse response;
	ProtobufCBinaryData key = request->key;
	struct watch *watch;
	int64_t id, revision;

	pb__watch_response__init(&response);
	if (key.len == 0)
		key = (ProtobufCBinaryData){.data = smallest_key, .len = sizeof smallest_key};
	if (request->start_revision < 0) {
		send_refusal(self, status_code_text(STATUS_COMPACTED));
		return;
	}
	if (is_empty_range(key, request->range_end)) {
		send_refusal(self, "mvcc: watcher range is empty");
		return;
	}
	if (self->bytes + key.len + request->range_end.len > STREAM_BYTES) {
		send_refusal(self, "etcdserver: too many watches in one stream; open another");
		return;
	}
	if (!choose_id(self, request->watch_id, &id)) {
		send_refusal(self, "mvcc: duplicate watch ID provided on the WatchStream");
		return;
	}
	watch = reserve(self) ? new_watch(self, request, key) : NULL;
	if (watch == NULL) {
		send_refusal(self, status_code_text(STATUS_NO_MEMORY));
		return;
	}
	watch->id = id;
	add_watch(self, watch);
	revision = watch_add(&watch->watcher, request->start_revision);
	if (watch->notify && self->progress.list == NULL)
		set_progress_timer(self, clock_ms());
	response.watch_id = id;
	response.created = true;
	send(self, &response, revision);
}

static void cancel(struct watch_stream *self, int64_t id)
{
	struct watch *watch = find_watch(self, id);
	Pb__WatchResponse response;

	pb__watch_response__init(&response);
	if (watch == NULL)
		return;
	watch_remove(&watch->watcher);
	drop_watch(self, watch);
	response.watch_id = id;
	response.canceled = true;
	send(self, &response, hub_revision(self->stream->engine->hub));
}

/* ---- The stream ---- */

static void receive(struct stream *stream, const ProtobufCMessage *message)
{
	const Pb__WatchRequest *request = (const Pb__WatchRequest *)message;
	struct watch_stream *self = stream->state;

	/* What the client knows to have happened is neither new to it nor still to come. */
	early_await(stream->engine);
	switch (request->request_union_case) {
	case PB__WATCH_REQUEST__REQUEST_UNION_CREATE_REQUEST:
		create(self, request->create_request);
		break;
	case PB__WATCH_REQUEST__REQUEST_UNION_CANCEL_REQUEST:
		cancel(self, request->cancel_request->watch_id);
		break;
	case PB__WATCH_REQUEST__REQUEST_UNION_PROGRESS_REQUEST:
		answer_progress(self);
		break;
	default:
		break; /* etcd ignores a request that it does not know */
	}
}

/* The watches go on. */
static void end_requests(struct stream *stream)
{
	(void)stream;
}

static void resume(struct stream *stream)
{
	struct watch_stream *self = stream->state;

	watch_group_resume(&self->group);
}

static void close_stream(struct stream *stream)
{
	struct watch_stream *self = stream->state;

	reader_clear_timer(&self->progress);
	for (size_t i = 0; i < self->slot_count; i++) {
		while (self->slots[i] != NULL) {
			watch_remove(&self->slots[i]->watcher);
			drop_watch(self, self->slots[i]);
		}
	}
	metric_add(METRIC_WATCH_STREAMS, -1);
	free(self->slots);
	free(self);
}

static const struct stream_handler WATCH_HANDLER = {
	.receive = receive,
	.end_requests = end_requests,
	.resume = resume,
	.close = close_stream,
};

bool watch_open(struct engine *engine, struct stream *stream)
{
	struct watch_stream *self = calloc(1, sizeof *self);

	(void)engine;
	if (self == NULL)
		return stream_fail(stream, STATUS_NO_MEMORY, NULL);
	self->stream = stream;
	self->seed = seed_draw();
	self->progress.run = on_progress_timer;
	watch_group_init(&self->group, stream->reader->shard, &WATCH_OPS);
	stream->handler = &WATCH_HANDLER;
	stream->state = self;
	metric_add(METRIC_WATCH_STREAMS, 1);
	return true;
}
