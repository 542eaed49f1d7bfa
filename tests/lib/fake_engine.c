/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/fake_engine.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "engine/call.h"
#include "engine/method.h"
#include "rpc.pb-c.h"

enum { TOKEN_BYTES = 256 };

struct engine {
	pthread_mutex_t lock; /* guards all below */
	pthread_cond_t changed;
	pthread_t thread;
	bool stop;
	struct call *later; /* to be finished by the thread, newest first */
	struct call *held;  /* until they are released */
	int held_count;
	int64_t started;
	int64_t pending;
	enum status_code failure;
	const char *fault;
	bool nospace, corrupt;
	bool shared, ready;
	const char *log_fault;
	char token[TOKEN_BYTES];
	int64_t timeout_ms;
};

/* ---- Calls ---- */

static void respond(struct call *call, const ProtobufCBinaryData *key)
{
	Pb__ResponseHeader *header = arena_alloc(&call->arena, sizeof *header);
	Pb__RangeResponse *response = arena_alloc(&call->arena, sizeof *response);
	Pb__KeyValue *kv = arena_alloc(&call->arena, sizeof *kv);
	Pb__KeyValue **kvs = arena_alloc(&call->arena, sizeof(Pb__KeyValue *));

	pb__response_header__init(header);
	header->cluster_id = 14841639068965178418ULL;
	header->member_id = 10276657743932975437ULL;
	header->revision = 2;
	header->raft_term = 2;
	if (call->method->output != &pb__range_response__descriptor) {
		Pb__PutResponse *put = arena_alloc(&call->arena, sizeof *put);

		pb__put_response__init(put);
		put->header = header;
		call->response = &put->base;
		return;
	}
	pb__range_response__init(response);
	pb__key_value__init(kv);
	kv->key = *key;
	kv->value = *key;
	kv->create_revision = 2;
	kv->mod_revision = 2;
	kv->version = 1;
	kvs[0] = kv;
	response->header = header;
	response->kvs = kvs;
	response->n_kvs = 1;
	response->count = 1;
	call->response = &response->base;
}

static ProtobufCBinaryData key_of(const struct call *call)
{
	ProtobufCBinaryData none = {0, NULL};

	if (call->method->input == &pb__range_request__descriptor)
		return ((const Pb__RangeRequest *)call->request)->key;
	if (call->method->input == &pb__put_request__descriptor)
		return ((const Pb__PutRequest *)call->request)->key;
	return none;
}

static bool starts_with(const ProtobufCBinaryData *key, const char *word)
{
	return key->len >= strlen(word) && memcmp(key->data, word, strlen(word)) == 0;
}

static void note(struct engine *engine, const struct call *call)
{
	engine->started++;
	snprintf(engine->token, sizeof engine->token, "%s", call->token != NULL ? call->token : "");
	engine->timeout_ms = call->deadline_ms != 0 ? call->deadline_ms - clock_ms() : 0;
}

/* The thread is woken for the first of a batch only. */
static void put_aside(struct engine *engine, struct call *call, struct call **list)
{
	bool was_empty = *list == NULL;

	call->next = *list;
	*list = call;
	engine->pending++;
	if (list == &engine->held)
		engine->held_count++;
	if (was_empty || list == &engine->held)
		pthread_cond_broadcast(&engine->changed);
}

bool call_start(struct engine *engine, struct reader *reader, struct call *call)
{
	ProtobufCBinaryData key = key_of(call);
	bool is_over = true;

	(void)reader;
	call->engine = engine;
	pthread_mutex_lock(&engine->lock);
	note(engine, call);
	if (starts_with(&key, "error")) {
		call_fail(call, engine->failure, NULL);
	} else if (starts_with(&key, "later") || starts_with(&key, "slow")) {
		put_aside(engine, call, &engine->later);
		is_over = false;
	} else if (starts_with(&key, "never")) {
		put_aside(engine, call, &engine->held);
		is_over = false;
	}
	pthread_mutex_unlock(&engine->lock);
	if (is_over && call->status.code == STATUS_OK)
		respond(call, &key);
	return is_over;
}

static void finish_all(struct call *call)
{
	while (call != NULL) {
		struct call *next = call->next;
		ProtobufCBinaryData key = key_of(call);

		respond(call, &key);
		call->ops->finish(call, starts_with(&key, "slow"));
		call = next;
	}
}

static void *run(void *arg)
{
	struct engine *engine = arg;

	pthread_mutex_lock(&engine->lock);
	while (!engine->stop || engine->later != NULL) {
		struct call *later = engine->later;

		if (later == NULL) {
			pthread_cond_wait(&engine->changed, &engine->lock);
			continue;
		}
		engine->later = NULL;
		pthread_mutex_unlock(&engine->lock);
		finish_all(later);
		pthread_mutex_lock(&engine->lock);
	}
	pthread_mutex_unlock(&engine->lock);
	return NULL;
}

/* ---- The engine's interface ---- */

int64_t engine_pending(const struct engine *engine)
{
	return engine->pending;
}

void engine_info(struct engine *engine, struct engine_info *out)
{
	pthread_mutex_lock(&engine->lock);
	*out = (struct engine_info){
		.cluster_id = 14841639068965178418ULL,
		.member_id = 10276657743932975437ULL,
		.revision = 2,
		.compact_revision = -1,
		.applied_offset = 7,
		.term = 2,
		.alarm_nospace = engine->nospace,
		.alarm_corrupt = engine->corrupt,
		.fault = engine->fault,
		.shared = engine->shared,
		.ready = engine->ready,
		.leads = false,
		.has_leader = engine->shared && engine->log_fault == NULL,
		.log_fault = engine->log_fault,
		.newest_offset = engine->shared ? 10 : 0,
		.state_hash = engine->shared ? 0xabc : 0,
	};
	pthread_mutex_unlock(&engine->lock);
}

void engine_sizes(struct engine *engine, struct reader *reader, struct engine_sizes *out)
{
	(void)engine;
	(void)reader;
	*out = (struct engine_sizes){
		.file_bytes = 4096, .used_bytes = 2048, .wal_bytes = 1024, .logical_bytes = 100, .keys = 1};
}

/* ---- The test's side ---- */

struct engine *fake_engine_new(void)
{
	struct engine *engine = calloc(1, sizeof *engine);

	if (engine == NULL)
		abort();
	pthread_mutex_init(&engine->lock, NULL);
	pthread_cond_init(&engine->changed, NULL);
	engine->failure = STATUS_INTERNAL;
	if (pthread_create(&engine->thread, NULL, run, engine) != 0)
		abort();
	return engine;
}

/* Those held back last, as long as more than so many are. */
static void release_down_to(struct engine *engine, int count)
{
	while (engine->held_count > count) {
		struct call *call = engine->held;

		engine->held = call->next;
		engine->held_count--;
		call->next = engine->later;
		engine->later = call;
	}
	pthread_cond_broadcast(&engine->changed);
}

void fake_engine_release(struct engine *engine)
{
	pthread_mutex_lock(&engine->lock);
	release_down_to(engine, 0);
	pthread_mutex_unlock(&engine->lock);
}

void fake_engine_release_newest(struct engine *engine)
{
	pthread_mutex_lock(&engine->lock);
	release_down_to(engine, engine->held_count - 1);
	pthread_mutex_unlock(&engine->lock);
}

void fake_engine_free(struct engine *engine)
{
	fake_engine_release(engine);
	pthread_mutex_lock(&engine->lock);
	engine->stop = true;
	pthread_cond_broadcast(&engine->changed);
	pthread_mutex_unlock(&engine->lock);
	pthread_join(engine->thread, NULL);
	pthread_cond_destroy(&engine->changed);
	pthread_mutex_destroy(&engine->lock);
	free(engine);
}

int fake_engine_held(struct engine *engine)
{
	int count;

	pthread_mutex_lock(&engine->lock);
	count = engine->held_count;
	pthread_mutex_unlock(&engine->lock);
	return count;
}

void fake_engine_wait_held(struct engine *engine, int count)
{
	pthread_mutex_lock(&engine->lock);
	while (engine->held_count < count)
		pthread_cond_wait(&engine->changed, &engine->lock);
	pthread_mutex_unlock(&engine->lock);
}

int64_t fake_engine_started(struct engine *engine)
{
	int64_t count;

	pthread_mutex_lock(&engine->lock);
	count = engine->started;
	pthread_mutex_unlock(&engine->lock);
	return count;
}

void fake_engine_fail_with(struct engine *engine, enum status_code code)
{
	pthread_mutex_lock(&engine->lock);
	engine->failure = code;
	pthread_mutex_unlock(&engine->lock);
}

enum status_code fake_engine_failure(struct engine *engine)
{
	enum status_code failure;

	pthread_mutex_lock(&engine->lock);
	failure = engine->failure;
	pthread_mutex_unlock(&engine->lock);
	return failure;
}

void fake_engine_raise(struct engine *engine, bool nospace, bool corrupt)
{
	pthread_mutex_lock(&engine->lock);
	engine->nospace = nospace;
	engine->corrupt = corrupt;
	pthread_mutex_unlock(&engine->lock);
}

void fake_engine_break(struct engine *engine, const char *fault)
{
	pthread_mutex_lock(&engine->lock);
	engine->fault = fault;
	pthread_mutex_unlock(&engine->lock);
}

void fake_engine_share(struct engine *engine, bool ready, const char *fault)
{
	pthread_mutex_lock(&engine->lock);
	engine->shared = true;
	engine->ready = ready;
	engine->log_fault = fault;
	pthread_mutex_unlock(&engine->lock);
}

const char *fake_engine_last_token(struct engine *engine)
{
	return engine->token;
}

int64_t fake_engine_last_timeout_ms(struct engine *engine)
{
	return engine->timeout_ms;
}
