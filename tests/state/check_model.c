/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store against the model: random requests to both, and the same answers
 * from both, byte for byte. Compaction runs in steps in between, the store is
 * closed and opened again at times, and reads go to the writer's own view as
 * well as to a reader's. What watchers are told at once, and what they read of
 * the past, must be what the model says.
 *
 * KETA_SEED repeats a run, KETA_STEPS makes it longer.
 */
#include <stdio.h>

#include "lib/fixture.h"
#include "lib/model.h"
#include "lib/test.h"
#include "lib/workload.h"
#include "state/compact.h"
#include "state/history.h"
#include "state/lease.h"
#include "state/range.h"
#include "state/renewals.h"
#include "state/txn.h"

enum {
	DEFAULT_STEPS = 4000,
	BATCH_MAX = 12,
	COMPACT_MAX_ROWS = 7,
	SPANS_MAX = 3,
};

struct run {
	struct fixture fx;
	struct model model;
	struct workload work;
	int64_t step;
	size_t leases_seen;
};

static void learn(struct run *run)
{
	workload_learn(&run->work, run->fx.st);
}

static void check_answer(const struct run *run, const struct applied *found, enum status_code status,
                         const ProtobufCMessage *wanted)
{
	ck_assert_msg(found->status == status, "step %ld: status %s, but wanted %s", (long)run->step,
	              status_code_name(found->status), status_code_name(status));
	if (wanted == NULL)
		ck_assert_ptr_null(found->response);
	else if (status == STATUS_OK)
		assert_same_message(found->response, wanted);
	ck_assert_int_eq(found->revision, run->model.revision);
}

static void check_events(const struct run *run, const struct event_batch *batch,
                         const struct model_events *wanted)
{
	ck_assert(!batch->missing);
	ck_assert_msg(batch->count == wanted->count, "step %ld: %zu events, but wanted %zu",
	              (long)run->step, batch->count, wanted->count);
	for (size_t i = 0; i < wanted->count; i++)
		assert_same_message(&batch->events[i]->pb.base, &wanted->items[i]->base);
}

/* What watchers are told of the batch that was just applied. */
static void check_news(struct run *run, int64_t before)
{
	struct event_batch *batch = store_take_news(run->fx.st);
	bool wanted = run->fx.st->keeps_news && run->model.revision > before;
	struct model_events events;

	ck_assert_int_eq(batch != NULL, wanted);
	if (batch == NULL)
		return;
	ck_assert_int_eq(batch->first, before + 1);
	ck_assert_int_eq(batch->last, run->model.revision);
	ck_assert_int_eq(batch->has_prev, run->fx.st->keeps_prev);
	model_history(&run->model, batch->first, batch->last, batch->has_prev, false, &run->fx.arena,
	              &events);
	check_events(run, batch, &events);
	event_batch_release(batch);
}

/* A lease as the store has it, in the database and in memory. */
static enum status_code check_lease(void *arg, const struct lease_row *row)
{
	struct run *run = arg;
	const struct model *model = &run->model;
	int64_t renewal = row->renewal;
	size_t at = 0;

	while (at < model->lease_count && model->leases[at].id != row->id)
		at++;
	ck_assert_uint_lt(at, model->lease_count);
	renewals_find(run->fx.st->renewals, row->id, &renewal);
	ck_assert_int_eq(row->ttl_sec, model->leases[at].ttl_sec);
	ck_assert_int_eq(row->remaining_sec, model->leases[at].remaining_sec);
	ck_assert_int_eq(renewal, model->leases[at].renewal);
	run->leases_seen++;
	return STATUS_OK;
}

static void check_leases(struct run *run)
{
	run->leases_seen = 0;
	ck_assert_int_eq(lease_read_all(&run->fx.st->view, check_lease, run), STATUS_OK);
	ck_assert_uint_eq(run->leases_seen, run->model.lease_count);
}

static void apply_batch(struct run *run)
{
	const ProtobufCMessage *requests[BATCH_MAX];
	struct applied found[BATCH_MAX];
	size_t count = 1 + prng_below(&run->work.prng, BATCH_MAX);
	int64_t before = run->model.revision;

	run->fx.st->keeps_news = prng_chance(&run->work.prng, 70);
	run->fx.st->keeps_prev = prng_chance(&run->work.prng, 50);
	for (size_t i = 0; i < count; i++)
		requests[i] = workload_write(&run->work, &run->fx.arena);
	ck_assert_int_eq(fixture_apply_batch(&run->fx, requests, count, found), STATUS_OK);
	for (size_t i = 0; i < count; i++) {
		ProtobufCMessage *wanted = NULL;
		enum status_code status = model_apply(&run->model, requests[i], &run->fx.arena, &wanted);

		check_answer(run, &found[i], status, wanted);
	}
	run->step += (int64_t)count;
	check_news(run, before);
	check_leases(run);
	learn(run);
}

/* The writer's own view, or a reader's with a new snapshot or the one it kept. */
static struct view *draw_view(struct run *run)
{
	struct view *view = fixture_reader(&run->fx);

	if (prng_chance(&run->work.prng, 30))
		return &run->fx.st->view;
	if (prng_chance(&run->work.prng, 30))
		view_rest(view);
	ck_assert_int_eq(view_refresh(view), STATUS_OK);
	return view;
}

static void check_range(struct run *run)
{
	const Pb__RangeRequest *request = workload_range(&run->work, &run->fx.arena);
	Pb__RangeResponse *wanted = NULL, *found = NULL;
	enum status_code status = model_range(&run->model, request, &run->fx.arena, &wanted);
	struct view *view = draw_view(run);

	ck_assert_int_eq(range_run(view, request, view->state.revision, &run->fx.arena, &found), status);
	if (status == STATUS_OK)
		assert_same_message(&found->base, &wanted->base);
	run->step++;
}

static void check_read_txn(struct run *run)
{
	const Pb__TxnRequest *request = workload_read_txn(&run->work, &run->fx.arena);
	struct view *view = draw_view(run);
	ProtobufCMessage *wanted = NULL;
	Pb__TxnResponse *found = NULL;
	bool corrupt = run->model.corrupt;
	enum status_code status;

	/* Reads go on under any alarm; the model knows records only. */
	run->model.corrupt = false;
	status = model_apply(&run->model, &request->base, &run->fx.arena, &wanted);
	run->model.corrupt = corrupt;
	run->model.offset--;
	ck_assert_int_eq(txn_read(view, request, &run->fx.arena, &found), status);
	if (status == STATUS_OK)
		assert_same_message(&found->base, wanted);
	run->step++;
}

/* Leaves the events of keys in one of the spans. */
static void filter(struct model_events *events, const Pb__RangeRequest *const *ranges, size_t count)
{
	size_t kept = 0;

	for (size_t i = 0; i < events->count; i++) {
		const struct model_key key = {.key = events->items[i]->kv->key.data,
		                              .key_len = events->items[i]->kv->key.len};
		bool wanted = count == 0;

		for (size_t j = 0; j < count; j++)
			wanted |= model_in_span(&key, ranges[j]->key, ranges[j]->range_end);
		if (wanted)
			events->items[kept++] = events->items[i];
	}
	events->count = kept;
}

/* Reads a slice; the revision to go on from. */
static int64_t check_slice(struct run *run, const struct history_slice *slice,
                           const Pb__RangeRequest *const *ranges)
{
	struct model_events wanted;
	struct event_batch *batch;
	int64_t last;

	ck_assert_int_eq(history_read(fixture_reader(&run->fx), slice, &batch), STATUS_OK);
	last = batch->last;
	ck_assert_int_eq(batch->first, slice->from);
	ck_assert_int_ge(last, slice->from - (slice->from > run->model.revision));
	ck_assert_int_eq(batch->has_prev, slice->with_prev);
	model_history(&run->model, slice->from, last, slice->with_prev, true, &run->fx.arena, &wanted);
	filter(&wanted, ranges, slice->span_count);
	check_events(run, batch, &wanted);
	event_batch_release(batch);
	return last + 1;
}

/* From a revision drawn at random to the newest. */
static void check_history(struct run *run)
{
	int64_t oldest = run->model.compact_revision > 0 ? run->model.compact_revision : 1;
	const Pb__RangeRequest *ranges[SPANS_MAX];
	struct span spans[SPANS_MAX];
	struct history_slice slice = {
		.from = oldest + prng_below(&run->work.prng, (unsigned)(run->model.revision + 2 - oldest)),
		.spans = spans,
		.span_count = prng_below(&run->work.prng, SPANS_MAX + 1),
		.with_prev = prng_chance(&run->work.prng, 50),
		.rows = 1 + prng_below(&run->work.prng, 40),
		.bytes = 1 + prng_below(&run->work.prng, 2000),
	};
	struct event_batch *batch;

	for (size_t i = 0; i < slice.span_count; i++) {
		ranges[i] = workload_range(&run->work, &run->fx.arena);
		spans[i] = span_make(ranges[i]->key, ranges[i]->range_end);
	}
	/* Compaction takes something from its own revision only. */
	if (prng_chance(&run->work.prng, 30))
		slice.from = oldest;
	run->step++;
	if (oldest > 1 && prng_chance(&run->work.prng, 10)) {
		slice.from = oldest - 1;
		ck_assert_int_eq(history_read(fixture_reader(&run->fx), &slice, &batch), STATUS_COMPACTED);
		return;
	}
	do
		slice.from = check_slice(run, &slice, ranges);
	while (slice.from <= run->model.revision);
}

static void compact_some(struct run *run)
{
	size_t max = 1 + prng_below(&run->work.prng, COMPACT_MAX_ROWS);
	size_t dropped;
	bool done;

	if (!compact_is_due(run->fx.st))
		return;
	ck_assert_int_eq(store_begin(run->fx.st), STATUS_OK);
	ck_assert_int_eq(compact_step(run->fx.st, max, &dropped, &done), STATUS_OK);
	ck_assert_int_eq(store_commit(run->fx.st), STATUS_OK);
}

static void check_scalars(struct run *run)
{
	const struct store_state *state = &run->fx.st->saved;

	ck_assert_int_eq(state->revision, run->model.revision);
	ck_assert_int_eq(state->compact_revision, run->model.compact_revision);
	ck_assert_int_eq(state->keys, model_live_keys(&run->model));
	ck_assert_int_eq(state->applied_offset, run->fx.offset);
	if (compact_is_due(run->fx.st))
		ck_assert_int_ge(state->logical_bytes, model_retained_bytes(&run->model));
	else
		ck_assert_int_eq(state->logical_bytes, model_retained_bytes(&run->model));
}

START_TEST(the_store_answers_as_the_model_does)
{
	int64_t steps = prng_setting("KETA_STEPS", DEFAULT_STEPS);
	struct run run = {.work = {.alarms = true}};

	prng_init(&run.work.prng, prng_seed("check_model"));
	fixture_open(&run.fx);
	model_init(&run.model);
	learn(&run);
	while (run.step < steps) {
		unsigned kind = prng_below(&run.work.prng, 100);

		if (kind < 30)
			apply_batch(&run);
		else if (kind < 70)
			check_range(&run);
		else if (kind < 75)
			check_history(&run);
		else if (kind < 85)
			check_read_txn(&run);
		else if (kind < 98)
			compact_some(&run);
		else
			fixture_reopen(&run.fx);
		check_scalars(&run);
		fixture_forget(&run.fx);
	}
	fixture_compact_rows(&run.fx, 100);
	check_scalars(&run);
	model_release(&run.model);
	fixture_close(&run.fx);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("model");
	TCase *tcase = tcase_create("model");

	tcase_set_timeout(tcase, 3600);
	tcase_add_test(tcase, the_store_answers_as_the_model_does);
	suite_add_tcase(suite, tcase);
	return suite;
}

int main(void)
{
	return test_run(make_suite());
}
