/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine with a real store and a log that can be held back: calls from
 * several threads, reads that wait for their barrier, time-outs, quota, stop.
 */
#include "engine/engine.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/config.h"
#include "engine/call.h"
#include "log/election.h"
#include "lib/held_log.h"
#include "lib/test.h"
#include "lib/waiting.h"
#include "rpc.pb-c.h"
#include "state/store.h"

struct node {
	struct config config;
	struct store *store;
	struct held_log *log;
	struct engine *engine;
	struct reader *reader;
};

static void node_start(struct node *node)
{
	struct store_options options = {.dir = test_directory()};

	node->config = (struct config){
		.name = "test",
		.listeners = "http://127.0.0.1:1",
		.max_request_bytes = 1 << 20,
		.max_txn_ops = 128,
		.quota_backend_bytes = 1 << 20,
		.slow_request_ms = 100000,
	};
	ck_assert_int_eq(store_open(&options, &node->store), STATUS_OK);
	node->log = held_log_open(node->store->saved.applied_offset);
	ck_assert_int_eq(engine_start(&node->config, &node->log->base, node->store, &node->engine),
	                 STATUS_OK);
	ck_assert_int_eq(engine_reader_new(node->engine, &node->reader), STATUS_OK);
}

static bool never_holds(struct election *election)
{
	(void)election;
	return false;
}

static void stand(struct election *election, bool stands)
{
	(void)election;
	(void)stands;
}

static void resign(struct election *election)
{
	(void)election;
}

/* The same under a log that passes for a shared one; the only node, which never leads. */
static void node_start_shared(struct node *node)
{
	static const struct election_ops OPS = {.holds = never_holds, .stand = stand, .resign = resign};
	static struct election election = {.ops = &OPS};
	struct store_options options = {.dir = test_directory(), .log_kind = LOG_KAFKA};
	struct engine_cluster cluster = {.election = &election, .node_name = "test", .found = true};
	struct engine_info info;

	node->config = (struct config){
		.name = "test",
		.listeners = "http://127.0.0.1:1",
		.max_request_bytes = 1 << 20,
		.max_txn_ops = 128,
		.quota_backend_bytes = 1 << 20,
		.slow_request_ms = 100000,
	};
	ck_assert_int_eq(store_open(&options, &node->store), STATUS_OK);
	node->log = held_log_open_shared(node->store->saved.applied_offset);
	ck_assert_int_eq(engine_join(&node->config, &node->log->base, node->store, &cluster, &node->engine),
	                 STATUS_OK);
	do {
		sched_yield();
		engine_info(node->engine, &info);
	} while (!info.ready);
	ck_assert_int_eq(engine_reader_new(node->engine, &node->reader), STATUS_OK);
}

static void node_stop(struct node *node)
{
	engine_reader_free(node->reader);
	engine_stop(node->engine);
	log_close(&node->log->base);
	store_close(node->store);
}

static ProtobufCBinaryData bytes(const char *text)
{
	return (ProtobufCBinaryData){.len = strlen(text), .data = (uint8_t *)(uintptr_t)text};
}

static enum status_code put(struct node *node, struct reader *reader, const char *key, const char *value,
                            int64_t *revision)
{
	Pb__PutRequest request = PB__PUT_REQUEST__INIT;
	struct waiting waiting;
	struct call *call;
	enum status_code status;

	request.key = bytes(key);
	request.value = bytes(value);
	waiting_start(&waiting, node->engine, reader, "KV", "Put", &request.base, 0);
	call = waiting_await(&waiting);
	status = call->status.code;
	if (status == STATUS_OK && revision != NULL)
		*revision = ((Pb__PutResponse *)call->response)->header->revision;
	call_free(call);
	return status;
}

static int64_t count(struct node *node, struct reader *reader, bool serializable)
{
	Pb__RangeRequest request = PB__RANGE_REQUEST__INIT;
	ProtobufCBinaryData all = {.len = 1, .data = (uint8_t *)(uintptr_t) ""};
	struct waiting waiting;
	struct call *call;
	int64_t found;

	request.key = all;
	request.range_end = all;
	request.count_only = true;
	request.serializable = serializable;
	waiting_start(&waiting, node->engine, reader, "KV", "Range", &request.base, 0);
	call = waiting_await(&waiting);
	ck_assert_int_eq(call->status.code, STATUS_OK);
	found = ((Pb__RangeResponse *)call->response)->count;
	call_free(call);
	return found;
}

START_TEST(a_put_is_seen_by_the_read_after_it)
{
	struct node node;

	node_start(&node);
	for (int i = 0; i < 200; i++) {
		char key[16];
		int64_t revision = 0;

		snprintf(key, sizeof key, "%d", i);
		ck_assert_int_eq(put(&node, node.reader, key, "v", &revision), STATUS_OK);
		ck_assert_int_eq(revision, i + 2);
		ck_assert_int_eq(count(&node, node.reader, i % 2 == 0), i + 1);
	}
	node_stop(&node);
}
END_TEST

struct client {
	struct node *node;
	int number;
};

enum { CLIENTS = 8, PUTS_EACH = 100 };

static void *run_client(void *arg)
{
	struct client *client = arg;
	struct reader *reader;
	int64_t last = 0;

	ck_assert_int_eq(engine_reader_new(client->node->engine, &reader), STATUS_OK);
	for (int i = 0; i < PUTS_EACH; i++) {
		char key[32];
		int64_t revision = 0;

		snprintf(key, sizeof key, "%d/%d", client->number, i);
		ck_assert_int_eq(put(client->node, reader, key, "v", &revision), STATUS_OK);
		ck_assert_int_gt(revision, last);
		ck_assert_int_ge(count(client->node, reader, false), i + 1);
		last = revision;
		engine_reader_rest(reader);
	}
	engine_reader_free(reader);
	return NULL;
}

START_TEST(many_threads_write_and_read_at_once)
{
	struct node node;
	struct client clients[CLIENTS];
	pthread_t threads[CLIENTS];
	struct engine_info info;

	node_start(&node);
	for (int i = 0; i < CLIENTS; i++) {
		clients[i] = (struct client){&node, i};
		ck_assert_int_eq(pthread_create(&threads[i], NULL, run_client, &clients[i]), 0);
	}
	for (int i = 0; i < CLIENTS; i++)
		pthread_join(threads[i], NULL);
	ck_assert_int_eq(count(&node, node.reader, false), CLIENTS * PUTS_EACH);
	engine_info(node.engine, &info);
	ck_assert_int_eq(info.revision, 1 + CLIENTS * PUTS_EACH);
	ck_assert_int_eq(engine_pending(node.engine), 0);
	node_stop(&node);
}
END_TEST

START_TEST(a_linearizable_read_waits_for_its_barrier_and_no_other_does)
{
	Pb__RangeRequest request = PB__RANGE_REQUEST__INIT;
	struct node node;
	struct waiting waiting;

	node_start_shared(&node);
	ck_assert_int_eq(put(&node, node.reader, "k", "v", NULL), STATUS_OK);
	atomic_store(&node.log->held, true);
	request.key = bytes("k");
	waiting_start(&waiting, node.engine, node.reader, "KV", "Range", &request.base, 0);
	ck_assert_int_eq(count(&node, node.reader, true), 1); /* serializable: goes on meanwhile */
	ck_assert(!waiting_is_over(&waiting));
	atomic_store(&node.log->held, false);
	ck_assert_int_eq(waiting_await(&waiting)->status.code, STATUS_OK);
	ck_assert_int_eq(((Pb__RangeResponse *)waiting.call->response)->count, 1);
	call_free(waiting.call);
	node_stop(&node);
}
END_TEST

START_TEST(a_barrier_ahead_of_what_is_applied_waits_for_apply)
{
	Pb__RangeRequest request = PB__RANGE_REQUEST__INIT;
	Pb__PutRequest write = PB__PUT_REQUEST__INIT;
	struct node node;
	struct waiting reading, writing;

	node_start_shared(&node);
	atomic_store(&node.log->held, true);
	write.key = request.key = bytes("k");
	waiting_start(&writing, node.engine, node.reader, "KV", "Put", &write.base, 0);
	waiting_start(&reading, node.engine, node.reader, "KV", "Range", &request.base, 0);
	ck_assert(!waiting_is_over(&reading));
	atomic_store(&node.log->held, false);
	ck_assert_int_eq(waiting_await(&writing)->status.code, STATUS_OK);
	ck_assert_int_eq(waiting_await(&reading)->status.code, STATUS_OK);
	ck_assert_int_eq(((Pb__RangeResponse *)reading.call->response)->count, 1);
	call_free(writing.call);
	call_free(reading.call);
	node_stop(&node);
}
END_TEST

START_TEST(a_write_and_a_read_end_at_their_deadline)
{
	Pb__RangeRequest request = PB__RANGE_REQUEST__INIT;
	Pb__PutRequest write = PB__PUT_REQUEST__INIT;
	struct node node;
	struct waiting reading, writing;

	node_start_shared(&node);
	atomic_store(&node.log->held, true);
	write.key = request.key = bytes("k");
	waiting_start(&writing, node.engine, node.reader, "KV", "Put", &write.base, clock_ms() + 20);
	waiting_start(&reading, node.engine, node.reader, "KV", "Range", &request.base, clock_ms() + 20);
	ck_assert_int_eq(waiting_await(&writing)->status.code, STATUS_DEADLINE_EXCEEDED);
	ck_assert_int_eq(waiting_await(&reading)->status.code, STATUS_DEADLINE_EXCEEDED);
	call_free(writing.call);
	call_free(reading.call);
	atomic_store(&node.log->held, false);
	/* The record still arrives, and finds nobody waiting. */
	ck_assert_int_eq(put(&node, node.reader, "other", "v", NULL), STATUS_OK);
	ck_assert_int_eq(count(&node, node.reader, false), 2);
	node_stop(&node);
}
END_TEST

START_TEST(a_waiting_read_is_let_go_when_it_is_canceled)
{
	Pb__RangeRequest request = PB__RANGE_REQUEST__INIT;
	struct node node;
	struct waiting reading;

	node_start_shared(&node);
	atomic_store(&node.log->held, true);
	request.key = bytes("k");
	waiting_start(&reading, node.engine, node.reader, "KV", "Range", &request.base, 0);
	call_cancel(reading.call);
	ck_assert_int_eq(waiting_await(&reading)->status.code, STATUS_CANCELED);
	call_free(reading.call);
	atomic_store(&node.log->held, false);
	node_stop(&node);
}
END_TEST

START_TEST(a_deadline_that_has_passed_is_refused_at_once)
{
	Pb__PutRequest write = PB__PUT_REQUEST__INIT;
	struct node node;
	struct waiting writing;

	node_start(&node);
	write.key = bytes("k");
	waiting_start(&writing, node.engine, node.reader, "KV", "Put", &write.base, 1);
	ck_assert(waiting_is_over(&writing));
	ck_assert_int_eq(writing.call->status.code, STATUS_DEADLINE_EXCEEDED);
	call_free(writing.call);
	node_stop(&node);
}
END_TEST

static enum status_code clear_alarm(struct node *node)
{
	Pb__AlarmRequest request = PB__ALARM_REQUEST__INIT;
	struct engine_info info;
	struct waiting waiting;
	enum status_code status;

	engine_info(node->engine, &info);
	request.action = PB__ALARM_REQUEST__ALARM_ACTION__DEACTIVATE;
	request.alarm = PB__ALARM_TYPE__NOSPACE;
	request.memberid = info.member_id;
	waiting_start(&waiting, node->engine, node->reader, "Maintenance", "Alarm", &request.base, 0);
	status = waiting_await(&waiting)->status.code;
	call_free(waiting.call);
	return status;
}

static enum status_code compact(struct node *node, int64_t revision)
{
	Pb__CompactionRequest request = PB__COMPACTION_REQUEST__INIT;
	struct waiting waiting;
	enum status_code status;

	request.revision = revision;
	request.physical = true;
	waiting_start(&waiting, node->engine, node->reader, "KV", "Compact", &request.base, 0);
	status = waiting_await(&waiting)->status.code;
	call_free(waiting.call);
	return status;
}

START_TEST(the_quota_raises_the_alarm_and_compaction_makes_space)
{
	static char value[64 * 1024];
	struct node node;
	struct engine_info info;
	int64_t revision = 0;
	int puts = 0;

	memset(value, 'x', sizeof value - 1);
	node_start(&node);
	while (put(&node, node.reader, "k", value, &revision) == STATUS_OK)
		puts++;
	ck_assert_int_ge(puts, 10);
	ck_assert_int_lt(puts, 17);
	/* Who is refused may rely on finding the alarm. */
	engine_info(node.engine, &info);
	ck_assert(info.alarm_nospace);
	ck_assert_int_eq(put(&node, node.reader, "small", "v", NULL), STATUS_NO_SPACE);
	ck_assert_int_eq(compact(&node, revision), STATUS_OK);
	ck_assert_int_eq(put(&node, node.reader, "small", "v", NULL), STATUS_NO_SPACE);
	ck_assert_int_eq(clear_alarm(&node), STATUS_OK);
	ck_assert_int_eq(put(&node, node.reader, "small", "v", NULL), STATUS_OK);
	node_stop(&node);
}
END_TEST

START_TEST(a_drained_engine_refuses_and_stops)
{
	struct node node;

	node_start(&node);
	ck_assert_int_eq(put(&node, node.reader, "k", "v", NULL), STATUS_OK);
	engine_drain(node.engine);
	ck_assert_int_eq(put(&node, node.reader, "k", "v", NULL), STATUS_STOPPED);
	node_stop(&node);
}
END_TEST

START_TEST(what_was_acknowledged_is_there_after_a_restart)
{
	struct node node;
	struct engine_info before, after;

	node_start(&node);
	for (int i = 0; i < 50; i++)
		ck_assert_int_eq(put(&node, node.reader, "k", "v", NULL), STATUS_OK);
	engine_info(node.engine, &before);
	node_stop(&node);
	node_start(&node);
	engine_info(node.engine, &after);
	ck_assert_int_eq(after.revision, before.revision);
	ck_assert_uint_eq(after.cluster_id, before.cluster_id);
	ck_assert_uint_eq(after.member_id, before.member_id);
	ck_assert_int_eq(put(&node, node.reader, "k", "v", NULL), STATUS_OK);
	node_stop(&node);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("engine");
	TCase *tcase = tcase_create("engine");

	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, a_put_is_seen_by_the_read_after_it);
	tcase_add_test(tcase, many_threads_write_and_read_at_once);
	tcase_add_test(tcase, a_linearizable_read_waits_for_its_barrier_and_no_other_does);
	tcase_add_test(tcase, a_barrier_ahead_of_what_is_applied_waits_for_apply);
	tcase_add_test(tcase, a_write_and_a_read_end_at_their_deadline);
	tcase_add_test(tcase, a_waiting_read_is_let_go_when_it_is_canceled);
	tcase_add_test(tcase, a_deadline_that_has_passed_is_refused_at_once);
	tcase_add_test(tcase, the_quota_raises_the_alarm_and_compaction_makes_space);
	tcase_add_test(tcase, a_drained_engine_refuses_and_stops);
	tcase_add_test(tcase, what_was_acknowledged_is_there_after_a_restart);
	suite_add_tcase(suite, tcase);
	return suite;
}

int main(void)
{
	return test_run(make_suite());
}
