/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One log on two stores gives one state. One store takes the log straight; the
 * other in batches of any size, with restarts and crashes, with batches rolled
 * back and taken again, with records applied undoably or not, with compaction and
 * checkpoints at other moments. Responses, hash and content must be the same.
 *
 * KETA_SEED repeats a run, KETA_STEPS makes the log longer.
 */
#include <stdlib.h>
#include <xxhash.h>

#include "base/wire.h"
#include "lib/array_log.h"
#include "lib/fixture.h"
#include "lib/test.h"
#include "lib/workload.h"
#include "log/record.h"
#include "state/compact.h"

enum {
	DEFAULT_RECORDS = 1500,
	BATCH_MAX = 40,
	STRAIGHT_BATCH = 10,
};

/* What each record gave: the status, and a hash of the packed response. */
struct answer {
	enum status_code status;
	uint64_t response;
	int64_t revision, changes;
};

struct run {
	struct prng prng;
	struct log *log;
	struct answer *answers; /* of the straight store; by offset */
	bool straight;
	struct fixture fx;
};

/* Records of all kinds, refused ones too, around revisions that a store of its
 * own goes through while they are drawn. */
static struct log *make_log(int64_t records, uint64_t seed)
{
	struct log *log = array_log_new();
	struct workload work = {.alarms = true};
	struct fixture fx;

	prng_init(&work.prng, seed);
	fixture_open(&fx);
	for (int64_t i = 0; i < records; i++) {
		ProtobufCMessage *request;
		struct buf packed;

		workload_learn(&work, fx.st);
		request = workload_write(&work, &fx.arena);
		buf_init(&packed);
		ck_assert_int_eq(record_pack(make_record(&fx.arena, request), RECORD_LEVEL, &packed),
		                 STATUS_OK);
		ck_assert_int_eq(log_append(log, packed.data, packed.len, 0), STATUS_OK);
		buf_release(&packed);
		fixture_apply(&fx, request);
		fixture_forget(&fx);
	}
	fixture_close(&fx);
	return log;
}

static struct answer make_answer(const struct applied *applied)
{
	struct answer answer = {
		.status = applied->status,
		.revision = applied->revision,
		.changes = applied->changes,
	};
	struct buf packed;

	if (applied->response == NULL)
		return answer;
	buf_init(&packed);
	wire_pack(applied->response, &packed);
	answer.response = XXH3_64bits(packed.data, packed.len);
	buf_release(&packed);
	return answer;
}

static void check_answer(struct run *run, int64_t offset, const struct applied *applied)
{
	struct answer answer = make_answer(applied), *wanted = &run->answers[offset];

	if (run->straight) {
		*wanted = answer;
		return;
	}
	ck_assert_msg(answer.status == wanted->status, "record %ld: %s, but %s before", (long)offset,
	              status_code_name(answer.status), status_code_name(wanted->status));
	ck_assert_uint_eq(answer.response, wanted->response);
	ck_assert_int_eq(answer.revision, wanted->revision);
	ck_assert_int_eq(answer.changes, wanted->changes);
}

/* Applies records up to one of them and perhaps thinks better of it. */
static enum status_code apply_records(struct run *run, const struct log_record *records, size_t count,
                                      bool undoable)
{
	struct store *st = run->fx.st;
	enum status_code status = store_begin(st);

	for (size_t i = 0; status == STATUS_OK && i < count; i++) {
		struct applied applied;
		Pb__Record *rec;

		ck_assert_int_eq(
			record_unpack(records[i].data, records[i].len, RECORD_LEVEL, &run->fx.arena, &rec),
			STATUS_OK);
		/* Offset 1 of the log comes after genesis. */
		status = apply(st, rec, records[i].offset + 1, undoable, &run->fx.arena, &applied);
		if (status == STATUS_OK)
			check_answer(run, records[i].offset, &applied);
	}
	if (status == STATUS_OK && !run->straight && prng_chance(&run->prng, 15))
		status = STATUS_BUSY; /* any reason will do */
	if (status == STATUS_OK)
		return store_commit(st);
	store_rollback(st);
	return status;
}

static void apply_some(struct run *run)
{
	struct log_record records[BATCH_MAX];
	size_t max = run->straight ? STRAIGHT_BATCH : 1 + prng_below(&run->prng, BATCH_MAX), count;
	bool undoable = !run->straight && prng_chance(&run->prng, 30);
	enum status_code status;

	array_log_seek(run->log, run->fx.st->saved.applied_offset - 1);
	ck_assert_int_eq(log_poll(run->log, records, max, &count, 0), STATUS_OK);
	status = apply_records(run, records, count, undoable);
	if (status == STATUS_HALF_APPLIED)
		status = apply_records(run, records, count, true);
	ck_assert(status == STATUS_OK || status == STATUS_BUSY);
	fixture_forget(&run->fx);
}

static void disturb(struct run *run)
{
	size_t dropped;
	bool done;

	if (prng_chance(&run->prng, 10))
		fixture_lose_unwritten(&run->fx);
	if (prng_chance(&run->prng, 10))
		fixture_reopen(&run->fx);
	if (prng_chance(&run->prng, 10))
		ck_assert_int_eq(store_restart_wal(run->fx.st), STATUS_OK);
	if (compact_is_due(run->fx.st) && prng_chance(&run->prng, 40)) {
		ck_assert_int_eq(store_begin(run->fx.st), STATUS_OK);
		ck_assert_int_eq(compact_step(run->fx.st, 1 + prng_below(&run->prng, 30), &dropped, &done),
		                 STATUS_OK);
		if (prng_chance(&run->prng, 20))
			store_rollback(run->fx.st);
		else
			ck_assert_int_eq(store_commit(run->fx.st), STATUS_OK);
	}
}

static void replay(struct run *run, bool straight)
{
	fixture_open(&run->fx);
	run->straight = straight;
	while (run->fx.st->saved.applied_offset <= array_log_end(run->log)) {
		apply_some(run);
		if (!straight)
			disturb(run);
	}
}

START_TEST(one_log_gives_one_state_however_it_is_taken)
{
	int64_t records = prng_setting("KETA_STEPS", DEFAULT_RECORDS);
	uint64_t seed = prng_seed("check_replay");
	struct run straight = {.log = make_log(records, seed)}, other;

	prng_init(&straight.prng, seed + 1);
	straight.answers = calloc((size_t)records + 1, sizeof *straight.answers);
	other = straight;
	replay(&straight, true);
	replay(&other, false);
	ck_assert_uint_eq(other.fx.st->saved.hash, straight.fx.st->saved.hash);
	ck_assert_int_eq(other.fx.st->saved.revision, straight.fx.st->saved.revision);
	ck_assert_int_eq(other.fx.st->saved.keys, straight.fx.st->saved.keys);
	ck_assert_int_eq(other.fx.st->saved.last_id, straight.fx.st->saved.last_id);
	ck_assert_uint_eq(fixture_content_hash(&other.fx), fixture_content_hash(&straight.fx));
	ck_assert_uint_eq(fixture_lease_hash(&other.fx), fixture_lease_hash(&straight.fx));
	/* What the quota counts depends on when rows are dropped, and meets again when all are. */
	fixture_compact_rows(&other.fx, 50);
	fixture_compact_rows(&straight.fx, 1000);
	ck_assert_int_eq(other.fx.st->saved.logical_bytes, straight.fx.st->saved.logical_bytes);
	ck_assert_uint_eq(fixture_content_hash(&other.fx), fixture_content_hash(&straight.fx));
	fixture_close(&other.fx);
	fixture_close(&straight.fx);
	log_close(straight.log);
	free(straight.answers);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("replay");
	TCase *tcase = tcase_create("replay");

	tcase_set_timeout(tcase, 3600);
	tcase_add_test(tcase, one_log_gives_one_state_however_it_is_taken);
	suite_add_tcase(suite, tcase);
	return suite;
}

int main(void)
{
	return test_run(make_suite());
}
