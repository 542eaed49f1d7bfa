/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The whole engine on a disk that fails: writes are refused with the reason and
 * without delay, reads go on, and when the disk is well again so is the server,
 * with all that it acknowledged.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/config.h"
#include "engine/call.h"
#include "engine/engine.h"
#include "lib/fault_vfs.h"
#include "lib/fixture.h"
#include "lib/prng.h"
#include "lib/test.h"
#include "lib/waiting.h"
#include "log/embedded_log.h"

enum {
	CLIENTS = 4,
	PUTS_EACH = 100,
	BATCH = 200,
	LARGE_BYTES = 3000,
	PROMPT_MS = 4000, /* well below the time-out of a request, well above any commit */
};

struct node {
	struct config config;
	struct store *store;
	struct log *log;
	struct engine *engine;
};

static void node_start(struct node *node)
{
	struct store_options options = {.dir = fixture_path("node"), .vfs = FAULT_VFS};

	node->config = (struct config){
		.name = "test",
		.listeners = "http://127.0.0.1:1",
		.max_request_bytes = 1 << 20,
		.max_txn_ops = 128,
		.quota_backend_bytes = 1 << 30,
		.slow_request_ms = 100000,
	};
	ck_assert_int_eq(store_open(&options, &node->store), STATUS_OK);
	ck_assert_int_eq(embedded_log_open(node->store->saved.applied_offset, 1 << 20, &node->log), STATUS_OK);
	ck_assert_int_eq(engine_start(&node->config, node->log, node->store, &node->engine), STATUS_OK);
}

static void node_stop(struct node *node)
{
	engine_stop(node->engine);
	log_close(node->log);
	store_close(node->store);
}

static struct call *start(struct node *node, struct reader *reader, const char *name,
                          const ProtobufCMessage *request, struct waiting *waiting)
{
	waiting_start(waiting, node->engine, reader, "KV", name, request, 0);
	return waiting->call;
}

/* Every call is answered, and soon. */
static void await(struct waiting *waiting)
{
	waiting_await(waiting);
	ck_assert_int_lt(clock_ms() - waiting->started_ms, PROMPT_MS);
}

/* Runs a call to its end; to be freed. */
static struct call *run(struct node *node, struct reader *reader, const char *name,
                        const ProtobufCMessage *request)
{
	struct waiting waiting;
	struct call *call = start(node, reader, name, request, &waiting);

	await(&waiting);
	return call;
}

static enum status_code put(struct node *node, struct reader *reader, const char *key)
{
	struct arena arena;
	struct call *call;
	enum status_code status;

	arena_init(&arena, 1 << 16, NULL, 0);
	call = run(node, reader, "Put", &make_put(&arena, key, "v")->base);
	status = call->status.code;
	call_free(call);
	arena_release(&arena);
	return status;
}

/* One that fills a page of the database. */
static void put_large(struct node *node, struct reader *reader, const char *key, struct arena *arena)
{
	Pb__PutRequest *request = make_put(arena, key, NULL);
	struct call *call;

	request->value =
		(ProtobufCBinaryData){.len = LARGE_BYTES, .data = arena_calloc(arena, 1, LARGE_BYTES)};
	call = run(node, reader, "Put", &request->base);
	ck_assert_int_eq(call->status.code, STATUS_OK);
	call_free(call);
}

static bool exists(struct node *node, struct reader *reader, const char *key)
{
	struct arena arena;
	struct call *call;
	bool found;

	arena_init(&arena, 1 << 16, NULL, 0);
	call = run(node, reader, "Range", &make_range(&arena, key, NULL)->base);
	ck_assert_int_eq(call->status.code, STATUS_OK);
	found = ((const Pb__RangeResponse *)call->response)->count == 1;
	call_free(call);
	arena_release(&arena);
	return found;
}

static const char *fault_of(struct node *node)
{
	struct engine_info info;

	engine_info(node->engine, &info);
	return info.fault;
}

struct kind {
	struct fault fault;
	enum status_code status;
};

static const struct kind KINDS[] = {
	{{.calls = FAULT_WRITE, .at = 1, .from_then_on = true, .code = SQLITE_FULL}, STATUS_DISK_FULL},
	{{.calls = FAULT_WRITE, .at = 1, .from_then_on = true, .torn = true}, STATUS_IO_ERROR},
	{{.calls = FAULT_SYNC, .at = 1, .from_then_on = true, .loses = true}, STATUS_IO_ERROR},
};

START_TEST(a_disk_that_fails_refuses_writes_until_it_is_well)
{
	const struct kind *kind = &KINDS[_i];
	struct reader *reader;
	struct node node;

	fault_vfs_start(fixture_path("node"));
	node_start(&node);
	ck_assert_int_eq(engine_reader_new(node.engine, &reader), STATUS_OK);
	ck_assert_int_eq(put(&node, reader, "before"), STATUS_OK);
	ck_assert_ptr_null(fault_of(&node));
	fault_vfs_plan(&kind->fault);
	for (int i = 0; i < 3; i++) {
		ck_assert_str_eq(status_code_name(put(&node, reader, "refused")),
		                 status_code_name(kind->status));
		ck_assert_ptr_nonnull(fault_of(&node));
		ck_assert(exists(&node, reader, "before"));
		ck_assert(!exists(&node, reader, "refused"));
	}
	fault_vfs_plan(NULL);
	ck_assert_int_eq(put(&node, reader, "after"), STATUS_OK);
	ck_assert_ptr_null(fault_of(&node));
	engine_reader_free(reader);
	node_stop(&node);

	node_start(&node);
	ck_assert_int_eq(engine_reader_new(node.engine, &reader), STATUS_OK);
	ck_assert(exists(&node, reader, "before"));
	ck_assert(!exists(&node, reader, "refused"));
	ck_assert(exists(&node, reader, "after"));
	engine_reader_free(reader);
	node_stop(&node);
}
END_TEST

/* Many calls at once, so that they are applied together, on a database of which
 * nothing is in memory: a read fails while one of them is applied. */
START_TEST(a_failure_inside_a_batch_is_told_to_all_of_it)
{
	struct fault fault = {.calls = FAULT_READ, .at = 30};
	static struct waiting waiting[BATCH];
	struct call *calls[BATCH];
	struct reader *reader;
	struct arena arena;
	struct node node;
	int refused = 0;

	fault_vfs_start(fixture_path("node"));
	arena_init(&arena, 1 << 24, NULL, 0);
	node_start(&node);
	ck_assert_int_eq(engine_reader_new(node.engine, &reader), STATUS_OK);
	for (int i = 0; i < BATCH; i++)
		put_large(&node, reader, arena_printf(&arena, "%d", i), &arena);
	engine_reader_free(reader);
	node_stop(&node);

	node_start(&node);
	ck_assert_int_eq(engine_reader_new(node.engine, &reader), STATUS_OK);
	fault_vfs_plan(&fault);
	for (int i = 0; i < BATCH; i++)
		calls[i] = start(&node, reader, "Put",
		                 &make_put(&arena, arena_printf(&arena, "%d", i), "v")->base, &waiting[i]);
	for (int i = 0; i < BATCH; i++) {
		await(&waiting[i]);
		refused += calls[i]->status.code == STATUS_IO_ERROR;
		ck_assert(calls[i]->status.code == STATUS_OK || calls[i]->status.code == STATUS_IO_ERROR);
		call_free(calls[i]);
	}
	ck_assert(fault_vfs_happened());
	ck_assert_int_gt(refused, 0);
	engine_reader_free(reader);
	node_stop(&node);
	arena_release(&arena);
}
END_TEST

struct client {
	struct node *node;
	pthread_t thread;
	int number;
	bool acknowledged[PUTS_EACH];
};

static _Atomic int clients_left;

static const char *client_key(const struct client *client, int i, char key[32])
{
	snprintf(key, 32, "%d/%d", client->number, i);
	return key;
}

static void *run_client(void *arg)
{
	struct client *client = arg;
	struct reader *reader;
	char key[32];

	ck_assert_int_eq(engine_reader_new(client->node->engine, &reader), STATUS_OK);
	for (int i = 0; i < PUTS_EACH; i++) {
		enum status_code status = put(client->node, reader, client_key(client, i, key));

		ck_assert_msg(status == STATUS_OK || status == STATUS_IO_ERROR ||
		                      status == STATUS_DISK_FULL,
		              "%s", status_code_name(status));
		client->acknowledged[i] = status == STATUS_OK;
		if (status == STATUS_OK)
			ck_assert(exists(client->node, reader, key));
		engine_reader_rest(reader);
	}
	engine_reader_free(reader);
	atomic_fetch_sub(&clients_left, 1);
	return NULL;
}

/* Fails a call now and then while the clients write; reads go on. */
static void disturb(struct node *node)
{
	struct reader *reader;
	struct prng prng;

	ck_assert_int_eq(engine_reader_new(node->engine, &reader), STATUS_OK);
	prng_init(&prng, prng_seed("check_engine_faults"));
	while (atomic_load(&clients_left) > 0) {
		struct fault fault = KINDS[prng_below(&prng, 3)].fault;

		fault.from_then_on = false;
		fault.at = 1 + prng_below(&prng, 20);
		fault_vfs_plan(&fault);
		while (!fault_vfs_happened() && atomic_load(&clients_left) > 0) {
			ck_assert(!exists(node, reader, "never"));
			engine_reader_rest(reader);
		}
	}
	fault_vfs_plan(NULL);
	engine_reader_free(reader);
}

static void check_clients(struct node *node, const struct client *clients)
{
	struct reader *reader;
	int missing = 0, refused = 0;
	char key[32];

	ck_assert_int_eq(engine_reader_new(node->engine, &reader), STATUS_OK);
	for (int c = 0; c < CLIENTS; c++) {
		for (int i = 0; i < PUTS_EACH; i++) {
			missing += clients[c].acknowledged[i] &&
			           !exists(node, reader, client_key(&clients[c], i, key));
			refused += !clients[c].acknowledged[i];
		}
	}
	ck_assert_int_eq(missing, 0);
	ck_assert_int_gt(refused, 0);
	ck_assert_int_lt(refused, CLIENTS * PUTS_EACH);
	engine_reader_free(reader);
}

START_TEST(what_was_acknowledged_between_failures_is_kept)
{
	static struct client clients[CLIENTS];
	struct node node;

	fault_vfs_start(fixture_path("node"));
	node_start(&node);
	atomic_store(&clients_left, CLIENTS);
	for (int i = 0; i < CLIENTS; i++) {
		clients[i] = (struct client){.node = &node, .number = i};
		ck_assert_int_eq(pthread_create(&clients[i].thread, NULL, run_client, &clients[i]), 0);
	}
	disturb(&node);
	for (int i = 0; i < CLIENTS; i++)
		pthread_join(clients[i].thread, NULL);
	check_clients(&node, clients);
	node_stop(&node);
	node_start(&node);
	check_clients(&node, clients);
	node_stop(&node);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("engine_faults");
	TCase *tcase = tcase_create("engine_faults");

	tcase_set_timeout(tcase, 120);
	tcase_add_loop_test(tcase, a_disk_that_fails_refuses_writes_until_it_is_well, 0,
	                    (int)(sizeof KINDS / sizeof *KINDS));
	tcase_add_test(tcase, a_failure_inside_a_batch_is_told_to_all_of_it);
	tcase_add_test(tcase, what_was_acknowledged_between_failures_is_kept);
	suite_add_tcase(suite, tcase);
	return suite;
}

int main(void)
{
	return test_run(make_suite());
}
