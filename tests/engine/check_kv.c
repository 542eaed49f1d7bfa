/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which reads run where they arrive, what one that gave up leaves behind, and
 * what compactions can do to a long one. There is no thread here: the engine is
 * a queue, and the test takes the reader thread's part.
 */
#include "engine/handlers.h"

#include <stdio.h>
#include <string.h>

#include "engine/internal.h"
#include "lib/fixture.h"
#include "lib/test.h"

/* More than two slices of a walk (state/scan.h). */
enum { MANY = 5000, ARENA_BYTES = 1 << 26 };

struct bench {
	struct fixture fx;
	struct config config;
	struct engine engine;
	struct reader reader;
};

static void bench_open(struct bench *bench)
{
	*bench = (struct bench){
		.config = {.max_txn_ops = 128, .quota_backend_bytes = -1},
		.engine =
			{
				.read_lock = PTHREAD_MUTEX_INITIALIZER,
				.read_ready = PTHREAD_COND_INITIALIZER,
			},
	};
	bench->engine.config = &bench->config;
	call_queue_init(&bench->engine.reads);
	fixture_open(&bench->fx);
	ck_assert_int_eq(store_view(bench->fx.st, VIEW_SHORT_READ, &bench->reader.view), STATUS_OK);
}

static void bench_close(struct bench *bench)
{
	view_close(&bench->reader.view);
	fixture_close(&bench->fx);
}

static void fill(struct bench *bench, int count, size_t value_len)
{
	struct fixture *fx = &bench->fx;
	struct applied applied;
	char key[16];

	ck_assert_int_eq(store_begin(fx->st), STATUS_OK);
	for (int i = 0; i < count; i++) {
		Pb__PutRequest *put;

		snprintf(key, sizeof key, "key-%05d", i);
		put = make_put(&fx->arena, key, NULL);
		put->value = (ProtobufCBinaryData){value_len, arena_calloc(&fx->arena, 1, value_len)};
		ck_assert_int_eq(
			fixture_apply_record(fx, make_record(&fx->arena, &put->base), false, &applied),
			STATUS_OK);
	}
	ck_assert_int_eq(store_commit(fx->st), STATUS_OK);
}

static struct call *new_call(const ProtobufCMessage *request)
{
	struct call *call = call_new(NULL, NULL, ARENA_BYTES);

	ck_assert_ptr_nonnull(call);
	call->request = request;
	return call;
}

static Pb__RangeRequest *new_range(struct bench *bench, const char *key, const char *end)
{
	Pb__RangeRequest *range = make_range(&bench->fx.arena, key, end);

	range->serializable = true;
	return range;
}

/* It does not run where it arrives; the call that is left then is as large as it was. */
static void assert_is_left(struct bench *bench, struct call *call,
                           bool (*run)(struct engine *, struct reader *, struct call *))
{
	size_t used = call->arena.used_bytes;

	ck_assert(!run(&bench->engine, &bench->reader, call));
	ck_assert_uint_eq(call->arena.used_bytes, used);
	ck_assert_ptr_null(call->response);
	ck_assert_ptr_eq(call_queue_pop(&bench->engine.reads), call);
	ck_assert(call->resume(&bench->engine, &bench->reader, call));
	ck_assert_str_eq(status_code_name(call->status.code), "OK");
	ck_assert_ptr_nonnull(call->response);
}

START_TEST(a_range_of_large_values_is_left_to_a_reader_thread)
{
	struct bench bench;
	struct call *call;
	Pb__RangeRequest *range;

	bench_open(&bench);
	fill(&bench, 50, 4096);
	range = new_range(&bench, "key-", "key.");
	call = new_call(&range->base);
	assert_is_left(&bench, call, kv_range);
	ck_assert_uint_eq(((Pb__RangeResponse *)call->response)->n_kvs, 50);
	call_free(call);
	range->keys_only = true;
	call = new_call(&range->base);
	ck_assert(kv_range(&bench.engine, &bench.reader, call));
	ck_assert_uint_eq(((Pb__RangeResponse *)call->response)->n_kvs, 50);
	call_free(call);
	bench_close(&bench);
}
END_TEST

START_TEST(a_walk_through_much_history_is_left_to_a_reader_thread)
{
	struct bench bench;
	struct call *call;
	Pb__RangeRequest *range;

	bench_open(&bench);
	fill(&bench, 1000, 1);
	range = new_range(&bench, "key-", "key.");
	range->revision = 2;
	for (int i = 0; i < 2; i++) {
		range->count_only = i == 1;
		call = new_call(&range->base);
		assert_is_left(&bench, call, kv_range);
		ck_assert_int_eq(((Pb__RangeResponse *)call->response)->count, 1);
		call_free(call);
	}
	bench_close(&bench);
}
END_TEST

START_TEST(a_transaction_of_large_values_is_left_to_a_reader_thread)
{
	struct bench bench;
	struct call *call;
	Pb__TxnRequest *txn;

	bench_open(&bench);
	fill(&bench, 1, 8192);
	txn = make_txn(&bench.fx.arena);
	for (int i = 0; i < 20; i++)
		txn_add_success(&bench.fx.arena, txn, &new_range(&bench, "key-00000", NULL)->base);
	call = new_call(&txn->base);
	assert_is_left(&bench, call, kv_txn);
	call_free(call);
	txn->n_success = 2;
	call = new_call(&txn->base);
	ck_assert(kv_txn(&bench.engine, &bench.reader, call));
	ck_assert_uint_eq(((Pb__TxnResponse *)call->response)->n_responses, 2);
	call_free(call);
	bench_close(&bench);
}
END_TEST

/* Whenever the reader takes a snapshot, the one before is compacted away. */
static int compact_behind(unsigned event, void *arg, void *stmt, void *text)
{
	struct bench *bench = arg;
	struct fixture *fx = &bench->fx;

	(void)event;
	(void)text;
	if (stmt != bench->reader.view.stmts[SQL_BEGIN])
		return 0;
	fixture_put(fx, "key-00000", "v");
	fixture_compact(fx, fx->st->saved.revision);
	fixture_compact_rows(fx, 1000);
	return 0;
}

static size_t run_overtaken(struct bench *bench, const ProtobufCMessage *request, bool overtaken,
                            bool (*run)(struct engine *, struct reader *, struct call *))
{
	struct call *call = new_call(request);
	size_t used;

	view_rest(&bench->reader.view);
	sqlite3_trace_v2(bench->reader.view.db, overtaken ? SQLITE_TRACE_STMT : 0,
	                 overtaken ? compact_behind : NULL, bench);
	assert_is_left(bench, call, run);
	sqlite3_trace_v2(bench->reader.view.db, 0, NULL, NULL);
	used = call->arena.used_bytes;
	call_free(call);
	return used;
}

START_TEST(compactions_that_overtake_a_long_read_do_not_fail_it)
{
	struct bench bench;
	Pb__TxnRequest *txn;
	Pb__RangeRequest *range;

	bench_open(&bench);
	fill(&bench, MANY, 1);
	range = new_range(&bench, "key-", "key.");
	txn = make_txn(&bench.fx.arena);
	txn_add_success(&bench.fx.arena, txn, &range->base);
	txn_add_success(&bench.fx.arena, txn, &range->base);
	/* What the attempts before the last have read is given back too. */
	ck_assert_uint_eq(run_overtaken(&bench, &range->base, true, kv_range),
	                  run_overtaken(&bench, &range->base, false, kv_range));
	ck_assert_uint_eq(run_overtaken(&bench, &txn->base, true, kv_txn),
	                  run_overtaken(&bench, &txn->base, false, kv_txn));
	bench_close(&bench);
}
END_TEST

START_TEST(a_revision_that_is_gone_is_refused)
{
	struct bench bench;
	struct call *call;
	Pb__TxnRequest *txn;
	Pb__RangeRequest *range;

	bench_open(&bench);
	fill(&bench, 10, 1);
	fixture_compact(&bench.fx, 5);
	range = new_range(&bench, "key-", "key.");
	range->revision = 4;
	txn = make_txn(&bench.fx.arena);
	txn_add_success(&bench.fx.arena, txn, &range->base);
	call = new_call(&range->base);
	ck_assert(kv_range(&bench.engine, &bench.reader, call));
	ck_assert_int_eq(call->status.code, STATUS_COMPACTED);
	ck_assert(call->resume(&bench.engine, &bench.reader, call));
	ck_assert_int_eq(call->status.code, STATUS_COMPACTED);
	call_free(call);
	call = new_call(&txn->base);
	ck_assert(kv_txn(&bench.engine, &bench.reader, call));
	ck_assert_int_eq(call->status.code, STATUS_COMPACTED);
	call_free(call);
	bench_close(&bench);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("kv");
	TCase *tcase = tcase_create("kv");

	tcase_set_timeout(tcase, 120);
	tcase_add_test(tcase, a_range_of_large_values_is_left_to_a_reader_thread);
	tcase_add_test(tcase, a_walk_through_much_history_is_left_to_a_reader_thread);
	tcase_add_test(tcase, a_transaction_of_large_values_is_left_to_a_reader_thread);
	tcase_add_test(tcase, compactions_that_overtake_a_long_read_do_not_fail_it);
	tcase_add_test(tcase, a_revision_that_is_gone_is_refused);
	suite_add_tcase(suite, tcase);
	return suite;
}

int main(void)
{
	return test_run(make_suite());
}
