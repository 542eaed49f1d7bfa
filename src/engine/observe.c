/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Election.Observe: a stream that tells who leads, and each value he proclaims.
 *
 *   look ── somebody leads ──► tell ── follow his key ── it is deleted ──► look
 *     └──── nobody does ─────► wait for a key of the election ──► tell
 */
#include <stdlib.h>
#include <string.h>

#include "election.pb-c.h"
#include "engine/compose.h"
#include "engine/handlers.h"
#include "engine/inner.h"
#include "watch/shard.h"

enum { NAME_CAP_BYTES = 64 << 20 };

struct observer {
	struct inner inner; /* first: its callbacks find the observer by it */
	struct watch_group group;
	struct watcher watcher;
	struct stream *stream; /* NULL once it is closed */
	struct arena arena;    /* the token and the prefix */
	const char *token;
	struct prefix prefix;
	bool watching, following; /* the election, or its leader's key */
	uint8_t *leader;          /* the key that is followed */
	size_t leader_size;
};

static struct observer *observer_of(struct watch_group *group)
{
	return (struct observer *)((char *)group - offsetof(struct observer, group));
}

static void unwatch(struct observer *self)
{
	if (self->watching)
		watch_remove(&self->watcher);
	self->watching = false;
}

static void free_observer(struct observer *self)
{
	arena_release(&self->arena);
	free(self->leader);
	free(self);
}

static void tell(struct observer *self, const Pb__KeyValue *kv, int64_t revision)
{
	Pb__LeaderResponse response;
	Pb__ResponseHeader header;

	pb__leader_response__init(&response);
	stream_fill_header(self->stream->engine, &header, revision);
	response.header = &header;
	response.kv = (Pb__KeyValue *)(uintptr_t)kv;
	self->stream->ops->message(self->stream, &response.base);
}

static void watch(struct observer *self, const struct span *span, bool following, int64_t from)
{
	self->watcher = (struct watcher){.group = &self->group, .span = *span, .no_delete = !following};
	self->following = following;
	self->watching = true;
	watch_add(&self->watcher, from);
}

/* The key's bytes are needed for as long as it is watched. */
static void follow(struct observer *self, const Pb__KeyValue *kv, int64_t from)
{
	if (kv->key.len > self->leader_size) {
		uint8_t *grown = realloc(self->leader, kv->key.len);

		if (grown == NULL) {
			stream_fail(self->stream, STATUS_NO_MEMORY, NULL);
			return;
		}
		self->leader = grown;
		self->leader_size = kv->key.len;
	}
	memcpy(self->leader, kv->key.data, kv->key.len);
	watch(self, &(struct span){.key = self->leader, .key_len = kv->key.len}, true, from);
}

static void on_found(struct inner *inner, const struct call *call)
{
	struct observer *self = (struct observer *)inner;
	const Pb__RangeResponse *range = (const Pb__RangeResponse *)call->response;
	struct span span = span_make(self->prefix.start, self->prefix.end);

	if (self->stream == NULL) {
		free_observer(self);
	} else if (call->status.code != STATUS_OK) {
		stream_fail(self->stream, call->status.code, call->status.message);
	} else if (range->n_kvs == 0) {
		watch(self, &span, false, range->header->revision + 1);
	} else {
		tell(self, range->kvs[0], range->header->revision);
		follow(self, range->kvs[0], range->header->revision + 1);
	}
}

static void look(struct observer *self)
{
	struct call *call = inner_new(&self->inner, "KV", "Range", self->token, 0);
	Pb__RangeRequest *range;

	if (call == NULL) {
		stream_fail(self->stream, STATUS_NO_MEMORY, NULL);
		return;
	}
	range = prefix_oldest(&self->prefix, &call->arena);
	call->request = range != NULL ? &range->base : NULL;
	inner_start(&self->inner, on_found);
}

static void on_events(struct watcher *watcher, int64_t revision, struct event *const *events,
                      size_t count)
{
	struct observer *self = observer_of(watcher->group);

	if (!self->following) {
		const Pb__KeyValue *kv = &events[0]->kv; /* a put: nothing else was asked for */

		unwatch(self);
		tell(self, kv, kv->mod_revision);
		follow(self, kv, kv->mod_revision + 1);
		return;
	}
	for (size_t i = 0; i < count; i++) {
		if (events[i]->pb.type == PB__EVENT__EVENT_TYPE__DELETE) {
			unwatch(self);
			look(self);
			return;
		}
		tell(self, &events[i]->kv, revision);
	}
}

/* What was missed has to be looked up. */
static void on_lost(struct watcher *watcher, enum status_code why, int64_t compact_revision)
{
	struct observer *self = observer_of(watcher->group);

	(void)compact_revision;
	self->watching = false;
	if (why == STATUS_COMPACTED)
		look(self);
	else
		stream_fail(self->stream, why, NULL);
}

static bool has_room(struct watch_group *group)
{
	const struct stream *stream = observer_of(group)->stream;

	return stream->ops->has_room(stream);
}

static const struct watch_ops OBSERVE_OPS = {
	.events = on_events,
	.lost = on_lost,
	.has_room = has_room,
};

/* The one request. */
static void receive(struct stream *stream, const ProtobufCMessage *message)
{
	const Pb__LeaderRequest *request = (const Pb__LeaderRequest *)message;
	struct observer *self = stream->state;

	if (self->prefix.start.data != NULL)
		return; /* a second one: there is no such thing */
	if (prefix_make(&self->prefix, request->name, &self->arena) != STATUS_OK)
		stream_fail(stream, STATUS_NO_MEMORY, NULL);
	else
		look(self);
}

static void end_requests(struct stream *stream)
{
	(void)stream;
}

static void resume(struct stream *stream)
{
	struct observer *self = stream->state;

	watch_group_resume(&self->group);
}

static void close_stream(struct stream *stream)
{
	struct observer *self = stream->state;

	unwatch(self);
	self->stream = NULL;
	if (self->inner.call == NULL)
		free_observer(self);
}

static const struct stream_handler OBSERVE_HANDLER = {
	.receive = receive,
	.end_requests = end_requests,
	.resume = resume,
	.close = close_stream,
};

bool election_observe(struct engine *engine, struct stream *stream)
{
	struct observer *self = calloc(1, sizeof *self);

	(void)engine;
	if (self == NULL)
		return stream_fail(stream, STATUS_NO_MEMORY, NULL);
	arena_init(&self->arena, NAME_CAP_BYTES, NULL, 0);
	self->stream = stream;
	self->inner.reader = stream->reader;
	self->token = stream->token != NULL ? arena_strdup(&self->arena, stream->token) : NULL;
	watch_group_init(&self->group, stream->reader->shard, &OBSERVE_OPS);
	stream->handler = &OBSERVE_HANDLER;
	stream->state = self;
	/* Without its token it would ask as somebody else. */
	if (stream->token != NULL && self->token == NULL)
		return stream_fail(stream, STATUS_NO_MEMORY, NULL);
	return true;
}
