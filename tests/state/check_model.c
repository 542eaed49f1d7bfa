/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store against the model: random requests to both, and the same answers
 * from both, byte for byte. Compaction runs in steps in between, the store is
 * closed and opened again at times, and reads go to the writer's own view as
 * well as to a reader's.
 *
 * KETA_SEED repeats a run, KETA_STEPS makes it longer.
 */
#include <stdio.h>

#include "lib/fixture.h"
#include "lib/model.h"
#include "lib/test.h"
#include "lib/workload.h"
#include "state/compact.h"
#include "state/range.h"
#include "state/txn.h"

enum {
	DEFAULT_STEPS = 4000,
	BATCH_MAX = 12,
	COMPACT_MAX_ROWS = 7,
};

struct run {
	struct fixture fx;
	struct model model;
	struct workload work;
	int64_t step;
};

static void learn(struct run *run)
{
	run->work.revision = run->model.revision;
	run->work.compact_revision = run->model.compact_revision;
}

static void check_answer(const struct run *run, const struct applied *found, enum status_code status,
                         const ProtobufCMessage *wanted)
{
	ck_assert_msg(found->status == status, "step %ld: status %s, but wanted %s", (long)run->step,
	              status_code_name(found->status), status_code_name(status));
	if (status == STATUS_OK)
		assert_same_message(found->response, wanted);
	ck_assert_int_eq(found->revision, run->model.revision);
}

static void apply_batch(struct run *run)
{
	const ProtobufCMessage *requests[BATCH_MAX];
	struct applied found[BATCH_MAX];
	size_t count = 1 + prng_below(&run->work.prng, BATCH_MAX);

	for (size_t i = 0; i < count; i++)
		requests[i] = workload_write(&run->work, &run->fx.arena);
	ck_assert_int_eq(fixture_apply_batch(&run->fx, requests, count, found), STATUS_OK);
	for (size_t i = 0; i < count; i++) {
		ProtobufCMessage *wanted = NULL;
		enum status_code status = model_apply(&run->model, requests[i], &run->fx.arena, &wanted);

		check_answer(run, &found[i], status, wanted);
	}
	run->step += (int64_t)count;
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

	ck_assert_int_eq(range_run(view, request, view->state.revision, &run->fx.arena, &found),
	                 status);
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
	ck_assert_int_eq(txn_read(view, request, &run->fx.arena, &found), status);
	if (status == STATUS_OK)
		assert_same_message(&found->base, wanted);
	run->step++;
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
		else if (kind < 75)
			check_range(&run);
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
