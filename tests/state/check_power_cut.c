/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The power fails at any write or sync, again and again, on one store. After
 * each cut it must hold every batch that was acknowledged, the batch under way
 * wholly or not at all, and nothing else; a second store that nothing ever
 * happens to applies the same batches, to compare with. In some lives a write or
 * a sync fails before.
 *
 * KETA_SEED repeats a run, KETA_ROUNDS says how many cuts.
 */
#include <stdio.h>

#include "lib/fault_vfs.h"
#include "lib/fixture.h"
#include "lib/test.h"
#include "lib/workload.h"
#include "state/compact.h"

enum {
	DEFAULT_ROUNDS = 300,
	STORES = 6, /* the rounds are shared out: a store's youth is where directories matter */
	BATCH_MAX = 6,
	CALLS_MAX = 120,
	CONTENT_EVERY = 8, /* comparing all old revisions takes long */
	DOUBTS_MAX = 32,
};

/* A batch, or the birth of the cluster. */
struct batch {
	const ProtobufCMessage *requests[BATCH_MAX]; /* in the calm store's arena */
	size_t count;
	int64_t before; /* the offset */
	bool genesis;
};

struct run {
	struct fixture fx;   /* the one that suffers */
	struct fixture calm; /* the one to compare with */
	struct workload work;
	struct batch doubts[DOUBTS_MAX]; /* failed since the last that did not: one of them may be there */
	size_t doubt_count;
	int64_t cuts;
};

static void learn(struct run *run)
{
	workload_learn(&run->work, run->calm.st);
}

/* What does not hurry is written with the next that does: other than the calm
 * store, this one compacts and tries again after a failure, so it may have
 * written more. */
static void write_calm(struct run *run)
{
	struct store *st = run->calm.st;

	if (run->fx.st->written_offset != st->saved.applied_offset ||
	    st->written_offset == st->saved.applied_offset)
		return;
	st->writes_next = true;
	ck_assert_int_eq(store_begin(st), STATUS_OK);
	ck_assert_int_eq(store_commit(st), STATUS_OK);
}

/* The batch is known to have happened, and none of those in doubt before it. */
static void follow(struct run *run, const struct batch *batch, const struct applied *found)
{
	struct applied wanted[BATCH_MAX];

	run->calm.offset = batch->before;
	if (batch->genesis)
		fixture_bear(&run->calm);
	else
		ck_assert_int_eq(fixture_apply_batch(&run->calm, batch->requests, batch->count, wanted),
		                 STATUS_OK);
	for (size_t i = 0; found != NULL && i < batch->count; i++) {
		ck_assert_int_eq(found[i].status, wanted[i].status);
		if (wanted[i].response != NULL)
			assert_same_message(found[i].response, wanted[i].response);
	}
	run->doubt_count = 0;
	write_calm(run);
	learn(run);
}

static void apply_batch(struct run *run)
{
	struct batch batch = {
		.before = run->fx.offset,
		.count = 1,
		.genesis = run->fx.st->saved.cluster_id == 0,
	};
	struct applied found[BATCH_MAX];
	enum status_code status;

	if (batch.genesis) {
		status = fixture_try_bear(&run->fx);
	} else {
		batch.count = 1 + prng_below(&run->work.prng, BATCH_MAX);
		for (size_t i = 0; i < batch.count; i++)
			batch.requests[i] = workload_write(&run->work, &run->calm.arena);
		status = fixture_apply_batch(&run->fx, batch.requests, batch.count, found);
	}
	if (status == STATUS_OK) {
		follow(run, &batch, batch.genesis ? NULL : found);
		return;
	}
	ck_assert(fault_vfs_is_off() || fault_vfs_happened());
	ck_assert_uint_lt(run->doubt_count, DOUBTS_MAX);
	run->doubts[run->doubt_count++] = batch;
}

static void compact_some(struct run *run)
{
	enum status_code status;
	size_t dropped;
	bool done;

	if (store_begin(run->fx.st) != STATUS_OK)
		return;
	status = compact_step(run->fx.st, 1 + prng_below(&run->work.prng, 20), &dropped, &done);
	if (status == STATUS_OK)
		status = store_commit(run->fx.st);
	else
		store_rollback(run->fx.st);
	if (status == STATUS_OK)
		write_calm(run);
}

static void checkpoint(struct run *run)
{
	struct view reader;

	if (prng_chance(&run->work.prng, 50)) {
		store_restart_wal(run->fx.st);
	} else if (store_view(run->fx.st, VIEW_SHORT_READ, &reader) == STATUS_OK) {
		store_checkpoint(&reader);
		view_close(&reader);
	}
}

/* Works until the power goes, or the store is closed in peace. */
static void work(struct run *run)
{
	while (!fault_vfs_is_off() && run->fx.st != NULL) {
		unsigned kind = prng_below(&run->work.prng, 100);

		if (kind < 70 || run->fx.st->saved.cluster_id == 0)
			apply_batch(run);
		else if (kind < 85)
			compact_some(run);
		else if (kind < 97)
			checkpoint(run);
		else
			fixture_shut(&run->fx);
		fixture_forget(&run->fx);
		if (run->doubt_count == 0)
			fixture_forget(&run->calm);
	}
}

/* What the store says of itself decides about the batches in doubt. */
static void settle_doubt(struct run *run)
{
	int64_t applied = run->fx.st->saved.applied_offset;

	for (size_t i = 0; i < run->doubt_count; i++) {
		const struct batch batch = run->doubts[i];

		if (applied == batch.before + (int64_t)batch.count) {
			follow(run, &batch, NULL);
			return;
		}
	}
	/* The cut took what was not written: from the calm store, too. */
	write_calm(run);
	ck_assert_int_eq(applied, run->calm.st->written_offset);
	fixture_lose_unwritten(&run->calm);
	run->doubt_count = 0;
	learn(run);
}

static void compare(struct run *run)
{
	const struct store_state *found = &run->fx.st->saved, *wanted = &run->calm.st->saved;

	ck_assert_int_eq(found->applied_offset, wanted->applied_offset);
	ck_assert_int_eq(found->revision, wanted->revision);
	ck_assert_int_eq(found->compact_revision, wanted->compact_revision);
	ck_assert_int_eq(found->keys, wanted->keys);
	ck_assert_uint_eq(found->hash, wanted->hash);
	ck_assert_uint_eq(found->cluster_id, wanted->cluster_id);
	ck_assert_int_eq(run->fx.st->alarm_nospace, run->calm.st->alarm_nospace);
	ck_assert_int_eq(run->fx.st->alarm_corrupt, run->calm.st->alarm_corrupt);
	ck_assert_uint_eq(fixture_lease_hash(&run->fx), fixture_lease_hash(&run->calm));
	fixture_check_integrity(&run->fx);
	if (run->cuts % CONTENT_EVERY == 0)
		ck_assert_uint_eq(fixture_content_hash(&run->fx), fixture_content_hash(&run->calm));
}

static enum status_code reopen(struct run *run)
{
	struct store_options options = {.dir = run->fx.dir, .vfs = FAULT_VFS};
	enum status_code status = store_open(&options, &run->fx.st);

	if (status == STATUS_OK)
		run->fx.offset = run->fx.st->saved.applied_offset;
	return status;
}

/* At times a write or a sync fails before the power does, and the system drops
 * what it could not write. */
static void fail_one_call(struct run *run)
{
	struct fault fault = {.loses = true, .torn = prng_chance(&run->work.prng, 50)};

	if (prng_chance(&run->work.prng, 70))
		return;
	fault.calls = prng_chance(&run->work.prng, 60) ? FAULT_SYNC : FAULT_WRITE;
	fault.at = 1 + prng_below(&run->work.prng, fault.calls == FAULT_SYNC ? 8 : 60);
	fault_vfs_plan(&fault);
}

/* One life: from power on to the next cut. */
static void live(struct run *run)
{
	/* Often at once, while the store is being opened and recovered. */
	int64_t calls = prng_chance(&run->work.prng, 20) ? 12 : CALLS_MAX;

	fault_vfs_cut_at(1 + prng_below(&run->work.prng, (unsigned)calls));
	fail_one_call(run);
	if (reopen(run) != STATUS_OK) {
		ck_assert(fault_vfs_is_off() || fault_vfs_happened());
	} else {
		settle_doubt(run);
		work(run);
		if (run->fx.st != NULL)
			fixture_shut(&run->fx);
	}
	/* A clean close may come before the cut. */
	fault_vfs_cut();
	fault_vfs_plan(NULL);
	fault_vfs_power_on(&run->work.prng);
	run->cuts++;
	ck_assert_str_eq(status_code_name(reopen(run)), "OK");
	settle_doubt(run);
	compare(run);
	fixture_forget(&run->fx);
	fixture_forget(&run->calm);
	fixture_shut(&run->fx);
}

static void open_stores(struct run *run, int number)
{
	char name[32];

	snprintf(name, sizeof name, "cut-%d", number);
	run->fx = (struct fixture){.vfs = FAULT_VFS};
	snprintf(run->fx.dir, sizeof run->fx.dir, "%s", fixture_path(name));
	arena_init(&run->fx.arena, 1 << 30, NULL, 0);
	fault_vfs_start(run->fx.dir);
	snprintf(name, sizeof name, "calm-%d", number);
	ck_assert_int_eq(fixture_open_at(&run->calm, fixture_path(name), FAULT_VFS), STATUS_OK);
	run->doubt_count = 0;
	learn(run);
}

START_TEST(a_cut_loses_nothing_acknowledged_and_halves_nothing)
{
	int64_t rounds = prng_setting("KETA_ROUNDS", DEFAULT_ROUNDS);
	struct run run = {.work = {.alarms = true}};

	prng_init(&run.work.prng, prng_seed("check_power_cut"));
	for (int i = 0; i < STORES; i++) {
		open_stores(&run, i);
		for (int64_t round = 0; round < rounds / STORES; round++)
			live(&run);
		arena_release(&run.fx.arena);
		fixture_close(&run.calm);
	}
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("power_cut");
	TCase *tcase = tcase_create("power_cut");

	tcase_set_timeout(tcase, 3600);
	tcase_add_test(tcase, a_cut_loses_nothing_acknowledged_and_halves_nothing);
	suite_add_tcase(suite, tcase);
	return suite;
}

int main(void)
{
	return test_run(make_suite());
}
