/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/station.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "edge/json.h"
#include "engine/method.h"
#include "lib/fixture.h"
#include "lib/test.h"
#include "state/event.h"

enum { ARENA_CAP_BYTES = 64 << 20, TURN_MAX_MS = 20, TEXTS_MAX = 100000 };

/* ---- The engine ---- */

static void wake(void *arg)
{
	const struct station *station = arg;

	eventfd_write(station->wake_fd, 1);
}

void station_open(struct station *station, const char *dir)
{
	char own[sizeof station->dir];
	static int count;

	if (dir == NULL)
		snprintf(own, sizeof own, "%s/station-%d", test_directory(), ++count);
	station_open_on(station, dir != NULL ? dir : own, NULL);
}

void station_open_on(struct station *station, const char *dir, const char *vfs)
{
	struct store_options options;
	char own[sizeof station->dir]; /* 'dir' may be the station's */

	snprintf(own, sizeof own, "%s", dir);
	*station = (struct station){.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
	memcpy(station->dir, own, sizeof own);
	station->config = (struct config){
		.name = "station",
		.listeners = "http://127.0.0.1:0",
		.quota_backend_bytes = -1,
		.max_request_bytes = 1536 * 1024,
		.max_txn_ops = 128,
		.slow_request_ms = 60000,
		.progress_notify_ms = 600000,
	};
	options = (struct store_options){.dir = station->dir, .vfs = vfs};
	arena_init(&station->arena, ARENA_CAP_BYTES, NULL, 0);
	ck_assert_int_eq(store_open(&options, &station->store), STATUS_OK);
	station->log = held_log_open(station->store->saved.applied_offset);
	ck_assert_int_eq(engine_start(&station->config, &station->log->base, station->store, &station->engine),
	                 STATUS_OK);
	ck_assert_int_eq(engine_reader_new(station->engine, &station->reader), STATUS_OK);
	ck_assert_int_eq(engine_reader_listen(station->reader, wake, station), STATUS_OK);
}

void station_close(struct station *station)
{
	engine_drain(station->engine);
	while (engine_pending(station->engine) > 0 || !engine_reader_is_idle(station->reader))
		station_turn(station);
	engine_reader_free(station->reader);
	engine_stop(station->engine);
	log_close(&station->log->base);
	store_close(station->store);
	arena_release(&station->arena);
	close(station->wake_fd);
}

void station_turn(struct station *station)
{
	struct pollfd ready = {.fd = station->wake_fd, .events = POLLIN};
	int64_t now_ms = clock_ms();
	int64_t due_ms = engine_reader_run(station->reader, now_ms);
	int64_t wait_ms = due_ms - now_ms < TURN_MAX_MS ? due_ms - now_ms : TURN_MAX_MS;
	eventfd_t ignored;

	engine_reader_rest(station->reader);
	if (wait_ms > 0 && poll(&ready, 1, (int)wait_ms) > 0)
		eventfd_read(station->wake_fd, &ignored);
}

void station_settle(struct station *station)
{
	eventfd_t ignored;

	do {
		while (engine_reader_run(station->reader, clock_ms()) == 0)
			;
	} while (eventfd_read(station->wake_fd, &ignored) == 0);
}

/* ---- Calls ---- */

static void on_finish(struct call *call, bool slow)
{
	struct errand *errand = call->edge;
	struct station *station = errand->station;

	(void)slow;
	atomic_store(&errand->over, true); /* it may be gone from here on */
	wake(station);
}

static const struct call_ops CALL_OPS = {.finish = on_finish};

void errand_start(struct errand *errand, struct station *station, const char *service, const char *name,
                  const ProtobufCMessage *request, int64_t deadline_ms)
{
	errand->station = station;
	atomic_init(&errand->over, false);
	errand->call = call_new(&CALL_OPS, errand, ARENA_CAP_BYTES);
	ck_assert_ptr_nonnull(errand->call);
	errand->call->method = method_by_name(service, name);
	errand->call->request = request;
	errand->call->deadline_ms = deadline_ms;
	if (call_start(station->engine, station->reader, errand->call))
		atomic_store(&errand->over, true);
}

struct call *errand_await(struct errand *errand)
{
	while (!atomic_load(&errand->over))
		station_turn(errand->station);
	return errand->call;
}

struct call *station_call(struct station *station, const char *service, const char *name,
                          const ProtobufCMessage *request)
{
	struct errand errand;

	errand_start(&errand, station, service, name, request, 0);
	return errand_await(&errand);
}

static struct call *must(struct call *call)
{
	ck_assert_msg(call->status.code == STATUS_OK, "%s", status_text(&call->status));
	return call;
}

int64_t station_put_leased(struct station *station, const char *key, const char *value, int64_t lease)
{
	Pb__PutRequest *request = make_put(&station->arena, key, value);
	struct call *call;
	int64_t revision;

	request->lease = lease;
	call = must(station_call(station, "KV", "Put", &request->base));
	revision = ((const Pb__PutResponse *)call->response)->header->revision;
	call_free(call);
	return revision;
}

int64_t station_put(struct station *station, const char *key, const char *value)
{
	return station_put_leased(station, key, value, 0);
}

int64_t station_delete(struct station *station, const char *key, const char *end)
{
	Pb__DeleteRangeRequest *request = make_delete(&station->arena, key, end);
	struct call *call = must(station_call(station, "KV", "DeleteRange", &request->base));
	int64_t revision = ((const Pb__DeleteRangeResponse *)call->response)->header->revision;

	call_free(call);
	return revision;
}

void station_grant(struct station *station, int64_t id, int64_t ttl_sec)
{
	Pb__LeaseGrantRequest request = PB__LEASE_GRANT_REQUEST__INIT;

	request.id = id;
	request.ttl = ttl_sec;
	call_free(must(station_call(station, "Lease", "LeaseGrant", &request.base)));
}

/* ---- Streams ---- */

static struct tape *tape_of(const struct stream *stream)
{
	return (struct tape *)(uintptr_t)stream;
}

static struct buf *new_text(struct tape *tape)
{
	ck_assert_uint_lt(tape->count, TEXTS_MAX);
	tape->texts = realloc(tape->texts, (tape->count + 1) * sizeof *tape->texts);
	ck_assert_ptr_nonnull(tape->texts);
	buf_init(&tape->texts[tape->count]);
	return &tape->texts[tape->count++];
}

/* Encodes with a header that shows the revision only. */
static void encode(const ProtobufCMessage *message, struct buf *text)
{
	Pb__ResponseHeader *header;
	Pb__ResponseHeader kept;

	memcpy(&header, (const uint8_t *)message + message->descriptor->fields[0].offset, sizeof header);
	kept = *header;
	pb__response_header__init(header);
	header->revision = kept.revision;
	json_encode(message, text);
	*header = kept;
}

static void on_message(struct stream *stream, const ProtobufCMessage *response)
{
	struct buf *text = new_text(tape_of(stream));

	encode(response, text);
	buf_append_byte(text, '\0');
}

static void encode_event(const Pb__Event *event, struct buf *buf)
{
	json_encode(&event->base, buf);
}

static void on_events(struct stream *stream, const struct watch_message *message)
{
	struct buf *text = new_text(tape_of(stream));

	encode(message->head, text);
	text->len--; /* the closing brace */
	buf_append_text(text, ",\"events\":[");
	for (size_t i = 0; i < message->count; i++) {
		const struct event_bytes *bytes =
			event_form(message->events[i], message->prev_kv ? EVENT_JSON_PREV : EVENT_JSON, encode_event);

		if (i > 0)
			buf_append_byte(text, ',');
		buf_append(text, bytes->data, bytes->len);
	}
	buf_append_text(text, "]}");
	buf_append_byte(text, '\0');
}

static void on_end(struct stream *stream, const struct status *status)
{
	tape_of(stream)->ended = true;
	tape_of(stream)->status = *status;
}

static bool has_room(const struct stream *stream)
{
	return !tape_of(stream)->full;
}

static const struct stream_ops TAPE_OPS = {
	.message = on_message,
	.events = on_events,
	.end = on_end,
	.has_room = has_room,
};

void tape_open(struct tape *tape, struct station *station, const char *service, const char *name)
{
	*tape = (struct tape){.station = station};
	tape->stream.ops = &TAPE_OPS;
	tape->stream.method = method_by_name(service, name);
	ck_assert(stream_open(station->engine, station->reader, &tape->stream));
}

void tape_close(struct tape *tape)
{
	stream_close(&tape->stream);
	for (size_t i = 0; i < tape->count; i++)
		buf_release(&tape->texts[i]);
	free(tape->texts);
	tape->texts = NULL;
}

void tape_send(struct tape *tape, const ProtobufCMessage *request)
{
	stream_receive(&tape->stream, request);
}

const char *tape_next(struct tape *tape)
{
	while (tape->taken == tape->count && !tape->ended)
		station_turn(tape->station);
	ck_assert_msg(tape->taken < tape->count, "the stream ended: %s", status_text(&tape->status));
	return (const char *)tape->texts[tape->taken++].data;
}

bool tape_is_silent(struct tape *tape)
{
	station_settle(tape->station);
	return tape->taken == tape->count;
}
