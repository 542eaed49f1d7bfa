/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/fake_streams.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "election.pb-c.h"
#include "engine/engine.h"
#include "engine/method.h"
#include "engine/stream.h"
#include "lib/fake_engine.h"
#include "rpc.pb-c.h"
#include "state/event.h"

struct news {
	struct news *next;
	struct event_batch *batch;
};

struct reader {
	struct engine *engine;
	struct reader *next;
	engine_wake_fn *wake;
	void *arg;
	struct fake_stream *streams;
	bool due;          /* a stream has something to say by itself */
	struct news *news; /* newest first; guarded by 'lock' */
};

struct fake_stream {
	struct stream *stream;
	struct fake_stream *next, *prev;
	int64_t watches;
	int flood_left;
	int64_t later_id; /* a keep-alive to be answered */
	bool requests_ended;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards the list of readers, and their news */
static struct reader *readers;
static atomic_int open_count, opened, requests, flooded;
static struct event_batch *newest;

/* ---- Messages ---- */

static void fill_header(Pb__ResponseHeader *header)
{
	pb__response_header__init(header);
	header->revision = 2;
}

static void send_created(struct fake_stream *fake)
{
	Pb__WatchResponse response;
	Pb__ResponseHeader header;

	pb__watch_response__init(&response);
	fill_header(&header);
	response.header = &header;
	response.watch_id = fake->watches;
	response.created = true;
	fake->stream->ops->message(fake->stream, &response.base);
}

static void send_events(struct fake_stream *fake, struct event_batch *batch)
{
	Pb__WatchResponse head;
	Pb__ResponseHeader header;
	struct watch_message message = {
		.head = &head.base,
		.events = batch->events,
		.count = batch->count,
	};

	pb__watch_response__init(&head);
	fill_header(&header);
	head.header = &header;
	fake->stream->ops->events(fake->stream, &message);
}

static void send_keep_alive(struct fake_stream *fake, int64_t id)
{
	Pb__LeaseKeepAliveResponse response;

	pb__lease_keep_alive_response__init(&response);
	response.id = id;
	response.ttl = 60;
	fake->stream->ops->message(fake->stream, &response.base);
}

static void send_leader(struct fake_stream *fake, const ProtobufCBinaryData *name)
{
	Pb__LeaderResponse response;
	Pb__KeyValue kv;

	pb__leader_response__init(&response);
	pb__key_value__init(&kv);
	kv.key = *name;
	response.kv = &kv;
	fake->stream->ops->message(fake->stream, &response.base);
}

static void end(struct fake_stream *fake, enum status_code code)
{
	struct status status = {.code = code};

	if (fake->stream->ended)
		return;
	fake->stream->ended = true;
	fake->stream->ops->end(fake->stream, &status);
}

/* ---- What streams do by themselves ---- */

static void flood(struct fake_stream *fake)
{
	char text[FAKE_FLOOD_BYTES + 1];
	Pb__WatchResponse response;

	memset(text, 'x', FAKE_FLOOD_BYTES);
	text[FAKE_FLOOD_BYTES] = '\0';
	pb__watch_response__init(&response);
	response.cancel_reason = text;
	while (fake->flood_left > 0 && fake->stream->ops->has_room(fake->stream)) {
		fake->flood_left--;
		atomic_fetch_add(&flooded, 1);
		fake->stream->ops->message(fake->stream, &response.base);
	}
}

static void finish_keep_alive(struct fake_stream *fake)
{
	if (fake->later_id != 0)
		send_keep_alive(fake, fake->later_id);
	fake->later_id = 0;
	if (fake->requests_ended)
		end(fake, STATUS_OK);
}

/* ---- The streams' interface ---- */

bool stream_open(struct engine *engine, struct reader *reader, struct stream *stream)
{
	struct fake_stream *fake;

	stream->engine = engine;
	stream->reader = reader;
	stream->state = NULL;
	stream->ended = false;
	atomic_fetch_add(&opened, 1);
	if (stream->token != NULL && strcmp(stream->token, "refused") == 0) {
		struct status status = {.code = fake_engine_failure(engine)};

		stream->ended = true;
		stream->ops->end(stream, &status);
		return false;
	}
	fake = calloc(1, sizeof *fake);
	if (fake == NULL)
		abort();
	*fake = (struct fake_stream){.stream = stream, .next = reader->streams};
	if (fake->next != NULL)
		fake->next->prev = fake;
	reader->streams = fake;
	stream->state = fake;
	atomic_fetch_add(&open_count, 1);
	return true;
}

static bool starts_with(const ProtobufCBinaryData *key, const char *word)
{
	return key->len >= strlen(word) && memcmp(key->data, word, strlen(word)) == 0;
}

static void receive_watch(struct fake_stream *fake, const Pb__WatchRequest *request)
{
	if (request->request_union_case == PB__WATCH_REQUEST__REQUEST_UNION_CANCEL_REQUEST) {
		end(fake, STATUS_OK);
	} else if (request->request_union_case == PB__WATCH_REQUEST__REQUEST_UNION_CREATE_REQUEST) {
		const ProtobufCBinaryData *key = &request->create_request->key;
		bool is_silent_flood = starts_with(key, "silent flood");

		if (starts_with(key, "error")) {
			end(fake, fake_engine_failure(fake->stream->engine));
			return;
		}
		fake->watches++;
		if (!starts_with(key, "quiet") && !is_silent_flood)
			send_created(fake);
		if (starts_with(key, "flood") || is_silent_flood) {
			fake->flood_left = FAKE_FLOOD_MESSAGES;
			flood(fake);
		}
	}
}

void stream_receive(struct stream *stream, const ProtobufCMessage *request)
{
	struct fake_stream *fake = stream->state;

	atomic_fetch_add(&requests, 1);
	if (stream->ended)
		return;
	if (request->descriptor == &pb__watch_request__descriptor) {
		receive_watch(fake, (const Pb__WatchRequest *)request);
	} else if (request->descriptor == &pb__lease_keep_alive_request__descriptor) {
		int64_t id = ((const Pb__LeaseKeepAliveRequest *)request)->id;

		if (id < FAKE_LATER_ID) {
			send_keep_alive(fake, id);
			return;
		}
		fake->later_id = id;
		stream->reader->due = true;
	} else if (request->descriptor == &pb__leader_request__descriptor) {
		send_leader(fake, &((const Pb__LeaderRequest *)request)->name);
	}
}

void stream_end_requests(struct stream *stream)
{
	struct fake_stream *fake = stream->state;

	if (stream->ended)
		return;
	fake->requests_ended = true;
	if (stream->method->paired && fake->later_id == 0)
		end(fake, STATUS_OK);
}

void stream_resume(struct stream *stream)
{
	if (!stream->ended)
		flood(stream->state);
}

void stream_close(struct stream *stream)
{
	struct fake_stream *fake = stream->state;

	stream->ended = true;
	stream->state = NULL;
	if (fake == NULL)
		return;
	if (fake->prev != NULL)
		fake->prev->next = fake->next;
	else
		stream->reader->streams = fake->next;
	if (fake->next != NULL)
		fake->next->prev = fake->prev;
	free(fake);
	atomic_fetch_sub(&open_count, 1);
}

/* ---- Readers ---- */

enum status_code engine_reader_new(struct engine *engine, struct reader **out)
{
	*out = calloc(1, sizeof **out);
	if (*out == NULL)
		return STATUS_NO_MEMORY;
	(*out)->engine = engine;
	return STATUS_OK;
}

enum status_code engine_reader_listen(struct reader *reader, engine_wake_fn *wake, void *arg)
{
	reader->wake = wake;
	reader->arg = arg;
	pthread_mutex_lock(&lock);
	reader->next = readers;
	readers = reader;
	pthread_mutex_unlock(&lock);
	return STATUS_OK;
}

void engine_reader_rest(struct reader *reader)
{
	(void)reader;
}

bool engine_reader_is_idle(const struct reader *reader)
{
	(void)reader;
	return true;
}

static struct news *take_news(struct reader *reader)
{
	struct news *oldest = NULL;
	struct news *news;

	pthread_mutex_lock(&lock);
	news = reader->news;
	reader->news = NULL;
	pthread_mutex_unlock(&lock);
	while (news != NULL) {
		struct news *next = news->next;

		news->next = oldest;
		oldest = news;
		news = next;
	}
	return oldest;
}

int64_t engine_reader_run(struct reader *reader, int64_t now_ms)
{
	struct news *news = take_news(reader);

	(void)now_ms;
	while (news != NULL) {
		struct news *next = news->next;

		for (struct fake_stream *fake = reader->streams; fake != NULL; fake = fake->next) {
			if (fake->watches > 0 && !fake->stream->ended)
				send_events(fake, news->batch);
		}
		event_batch_release(news->batch);
		free(news);
		news = next;
	}
	if (reader->due) {
		reader->due = false;
		for (struct fake_stream *fake = reader->streams; fake != NULL; fake = fake->next) {
			if (fake->later_id != 0)
				finish_keep_alive(fake);
		}
	}
	return INT64_MAX;
}

void engine_reader_free(struct reader *reader)
{
	struct reader **at;
	struct news *news;

	if (reader == NULL)
		return;
	pthread_mutex_lock(&lock);
	for (at = &readers; *at != NULL && *at != reader; at = &(*at)->next)
		;
	if (*at != NULL)
		*at = reader->next;
	pthread_mutex_unlock(&lock);
	for (news = take_news(reader); news != NULL;) {
		struct news *next = news->next;

		event_batch_release(news->batch);
		free(news);
		news = next;
	}
	if (reader->streams != NULL)
		abort(); /* a stream was not closed */
	free(reader);
}

/* ---- The test's side ---- */

int fake_streams_count(void)
{
	return atomic_load(&open_count);
}

int fake_streams_opened(void)
{
	return atomic_load(&opened);
}

int fake_streams_requests(void)
{
	return atomic_load(&requests);
}

int fake_streams_flooded(void)
{
	return atomic_load(&flooded);
}

void fake_streams_publish(const char *key, const void *value, size_t len)
{
	struct event_batch *batch = event_batch_new();
	Pb__KeyValue kv;

	if (batch == NULL)
		abort();
	pb__key_value__init(&kv);
	kv.key = (ProtobufCBinaryData){.len = strlen(key), .data = (uint8_t *)(uintptr_t)key};
	kv.value = (ProtobufCBinaryData){.len = len, .data = (uint8_t *)(uintptr_t)value};
	kv.mod_revision = 3;
	if (event_batch_add(batch, false, &kv) == NULL)
		abort();
	pthread_mutex_lock(&lock);
	for (struct reader *reader = readers; reader != NULL; reader = reader->next) {
		struct news *news = malloc(sizeof *news);

		if (news == NULL)
			abort();
		*news = (struct news){.next = reader->news, .batch = event_batch_hold(batch)};
		reader->news = news;
		reader->wake(reader->arg);
	}
	pthread_mutex_unlock(&lock);
	event_batch_release(newest);
	newest = batch;
}

int fake_streams_batches(void)
{
	return newest != NULL ? atomic_load(&newest->refs) - 1 : 0;
}
