/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Readers beside the writer, each on a thread of its own as in the server:
 * what they see is always one whole commit, never an older one than was
 * acknowledged before they looked, while history is compacted under them and
 * the write-ahead log is started afresh.
 *
 * KETA_STEPS says how many batches the writer makes.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "lib/fixture.h"
#include "lib/prng.h"
#include "lib/test.h"
#include "state/compact.h"
#include "state/range.h"

enum {
	DEFAULT_BATCHES = 400,
	READERS = 3,
	READS_MIN = 50, /* of each reader, however busy the machine is */
	GROUP = 4,      /* keys that change together */
	FILLER = 50,    /* keys beside them, so that ranges are of some length */
};

struct reader {
	struct fixture *fx;
	pthread_t thread;
	_Atomic int64_t reads, old_reads;
};

static _Atomic int64_t acknowledged; /* the newest revision that a client could know of */
static _Atomic bool over;

static int64_t number(const Pb__KeyValue *kv)
{
	int64_t value = 0;

	for (size_t i = 0; i < kv->value.len; i++)
		value = value * 10 + kv->value.data[i] - '0';
	return value;
}

/* All keys of the group, of one commit. */
static void check_group(const Pb__RangeResponse *response)
{
	ck_assert_uint_eq(response->n_kvs, GROUP);
	for (size_t i = 1; i < GROUP; i++) {
		ck_assert_int_eq(number(response->kvs[i]), number(response->kvs[0]));
		ck_assert_int_eq(response->kvs[i]->mod_revision, response->kvs[0]->mod_revision);
	}
}

static const Pb__RangeResponse *read_group(struct view *view, int64_t revision, struct arena *arena)
{
	Pb__RangeRequest *request = make_range(arena, "group-", "group.");
	Pb__RangeResponse *response = NULL;
	enum status_code status;

	request->revision = revision;
	status = range_run(view, request, view->state.revision, arena, &response);
	ck_assert(status == STATUS_OK || (revision > 0 && status == STATUS_COMPACTED));
	return response;
}

static void read_once(struct reader *self, struct view *view, struct arena *arena, struct prng *prng,
                      int64_t *last)
{
	int64_t known = atomic_load(&acknowledged);
	const Pb__RangeResponse *response;

	ck_assert_int_eq(view_refresh(view), STATUS_OK);
	ck_assert_int_ge(view->state.revision, known);
	ck_assert_int_ge(view->state.revision, *last);
	*last = view->state.revision;
	response = read_group(view, 0, arena);
	check_group(response);
	/* Nothing but the group changes the revision: its newest is the store's. */
	ck_assert_int_eq(response->kvs[0]->mod_revision, view->state.revision);
	response = read_group(view, view->state.revision - prng_below(prng, 5), arena);
	/* There was a time before the group. */
	if (response != NULL && response->n_kvs > 0) {
		check_group(response);
		self->old_reads++;
	}
	self->reads++;
	arena_reset(arena);
	if (prng_chance(prng, 30))
		view_rest(view);
}

static void *run_reader(void *arg)
{
	struct reader *self = arg;
	struct arena arena;
	struct prng prng;
	struct view view;
	int64_t last = 0;

	prng_init(&prng, (uint64_t)(uintptr_t)self);
	arena_init(&arena, 1 << 24, NULL, 0);
	ck_assert_int_eq(store_view(self->fx->st, VIEW_SHORT_READ, &view), STATUS_OK);
	while (!atomic_load(&over))
		read_once(self, &view, &arena, &prng, &last);
	view_close(&view);
	arena_release(&arena);
	return NULL;
}

static void change_group(struct fixture *fx, int value)
{
	Pb__TxnRequest *txn = make_txn(&fx->arena);

	for (int i = 0; i < GROUP; i++)
		txn_add_success(&fx->arena, txn,
		                &make_put(&fx->arena, arena_printf(&fx->arena, "group-%d", i),
		                          arena_printf(&fx->arena, "%d", value))
		                         ->base);
	fixture_run(fx, &txn->base);
	atomic_store(&acknowledged, fx->st->saved.revision);
}

static void maintain(struct fixture *fx, int round)
{
	size_t dropped;
	bool done;

	if (round % 20 == 0 && fx->st->saved.revision - 3 > fx->st->saved.compact_revision)
		fixture_compact(fx, fx->st->saved.revision - 3);
	if (compact_is_due(fx->st)) {
		ck_assert_int_eq(store_begin(fx->st), STATUS_OK);
		ck_assert_int_eq(compact_step(fx->st, 10, &dropped, &done), STATUS_OK);
		ck_assert_int_eq(store_commit(fx->st), STATUS_OK);
	}
	if (round % 30 == 0)
		ck_assert_int_eq(store_restart_wal(fx->st), STATUS_OK);
}

static bool have_all_read(struct reader *readers)
{
	for (int i = 0; i < READERS; i++)
		if (atomic_load(&readers[i].reads) < READS_MIN || atomic_load(&readers[i].old_reads) == 0)
			return false;
	return true;
}

START_TEST(readers_see_whole_commits_and_no_older_ones)
{
	int batches = (int)prng_setting("KETA_STEPS", DEFAULT_BATCHES);
	struct reader readers[READERS];
	struct fixture fx;

	fixture_open(&fx);
	for (int i = 0; i < FILLER; i++)
		fixture_put(&fx, arena_printf(&fx.arena, "filler-%d", i), "v");
	change_group(&fx, 0);
	for (int i = 0; i < READERS; i++) {
		readers[i] = (struct reader){.fx = &fx};
		ck_assert_int_eq(pthread_create(&readers[i].thread, NULL, run_reader, &readers[i]), 0);
	}
	for (int i = 1; i <= batches || !have_all_read(readers); i++) {
		change_group(&fx, i);
		maintain(&fx, i);
		fixture_forget(&fx);
	}
	atomic_store(&over, true);
	for (int i = 0; i < READERS; i++) {
		pthread_join(readers[i].thread, NULL);
	}
	fixture_close(&fx);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("concurrency");
	TCase *tcase = tcase_create("concurrency");

	tcase_set_timeout(tcase, 600);
	tcase_add_test(tcase, readers_see_whole_commits_and_no_older_ones);
	suite_add_tcase(suite, tcase);
	return suite;
}

int main(void)
{
	return test_run(make_suite());
}
