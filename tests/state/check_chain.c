/* SPDX-License-Identifier: Apache-2.0 */
#include "state/chain.h"

#include <stdio.h>
#include <stdlib.h>

#include "lib/fixture.h"
#include "lib/prng.h"
#include "lib/test.h"

enum {
	VERSIONS = 5000, /* three powers of 16, and some */
	STEPS_MAX = 75,  /* fifteen for each power, and for the versions without */
};

/* Applies requests in one transaction, so that thousands take no time. */
static void put_many(struct fixture *fx, const char *key, int count)
{
	struct applied applied;
	char value[32];

	ck_assert_int_eq(store_begin(fx->st), STATUS_OK);
	for (int i = 0; i < count; i++) {
		snprintf(value, sizeof value, "%lld", (long long)fx->st->view.state.revision + 1);
		fixture_apply_record(fx, make_record(&fx->arena, &make_put(&fx->arena, key, value)->base),
		                     false, &applied);
		ck_assert_int_eq(applied.status, STATUS_OK);
	}
	ck_assert_int_eq(store_commit(fx->st), STATUS_OK);
	fixture_forget(fx);
}

/* Every put has its revision for a value. */
static void check_revision(struct fixture *fx, const char *key, int64_t revision, int64_t wanted)
{
	const char *value = fixture_get(fx, key, revision);

	if (wanted == 0) {
		ck_assert_ptr_null(value);
		return;
	}
	ck_assert_msg(value != NULL, "nothing at revision %lld", (long long)revision);
	ck_assert_int_eq(atoll(value), wanted);
}

static int steps(struct fixture *fx)
{
	return sqlite3_stmt_status(fixture_reader(fx)->stmts[SQL_LINKS], SQLITE_STMTSTATUS_RUN, 1);
}

START_TEST(every_version_is_found_in_few_steps)
{
	struct fixture fx;
	int most = 0;

	fixture_open(&fx);
	put_many(&fx, "k", VERSIONS);
	for (int64_t revision = 1; revision <= VERSIONS + 1; revision++) {
		int taken;

		steps(&fx);
		check_revision(&fx, "k", revision, revision == 1 ? 0 : revision);
		taken = steps(&fx);
		if (taken > most)
			most = taken;
		if (revision % 256 == 0)
			fixture_forget(&fx);
	}
	ck_assert_int_gt(most, 15);
	ck_assert_int_le(most, STEPS_MAX);
	fixture_close(&fx);
}
END_TEST

START_TEST(other_keys_in_between_do_not_matter)
{
	struct fixture fx;
	int64_t last_k = 0;
	struct prng prng;

	prng_init(&prng, 5);
	fixture_open(&fx);
	for (int i = 0; i < 60; i++) {
		put_many(&fx, "k", 1 + (int)prng_below(&prng, 20));
		put_many(&fx, "l", 1 + (int)prng_below(&prng, 5));
		put_many(&fx, "m", 1);
	}
	for (int64_t revision = 2; revision <= fx.st->saved.revision; revision++) {
		Pb__RangeRequest *request = make_range(&fx.arena, "k", "n");
		const Pb__RangeResponse *response;
		int64_t newest = 0;

		request->revision = revision;
		response = fixture_range(&fx, request);
		for (size_t i = 0; i < response->n_kvs; i++) {
			const Pb__KeyValue *kv = response->kvs[i];

			ck_assert_int_le(kv->mod_revision, revision);
			if (kv->mod_revision > newest)
				newest = kv->mod_revision;
			if (kv->key.data[0] == 'k') {
				ck_assert_int_ge(kv->mod_revision, last_k);
				last_k = kv->mod_revision;
			}
		}
		/* One of the keys was written at this very revision. */
		ck_assert_int_eq(newest, revision);
	}
	fixture_close(&fx);
}
END_TEST

START_TEST(deletions_are_links_too)
{
	struct fixture fx;
	int64_t *wanted = calloc(4000, sizeof *wanted);
	int64_t last;

	fixture_open(&fx);
	for (int i = 0; i < 40; i++) {
		int64_t first = fx.st->saved.revision + 1;

		put_many(&fx, "k", 1 + i % 7 * 9);
		for (int64_t revision = first; revision <= fx.st->saved.revision; revision++)
			wanted[revision] = revision;
		if (i % 2 == 0)
			fixture_delete(&fx, "k", NULL); /* nothing at this revision */
	}
	last = fx.st->saved.revision;
	for (int64_t revision = 1; revision <= last; revision++)
		check_revision(&fx, "k", revision, wanted[revision]);
	/* From beyond the grave as well. */
	fixture_delete(&fx, "k", NULL);
	for (int64_t revision = 1; revision <= last; revision++)
		check_revision(&fx, "k", revision, wanted[revision]);
	check_revision(&fx, "k", last + 1, 0);
	check_revision(&fx, "k", 0, 0);
	free(wanted);
	fixture_close(&fx);
}
END_TEST

START_TEST(what_compaction_leaves_is_found)
{
	struct fixture fx;

	fixture_open(&fx);
	put_many(&fx, "k", VERSIONS);
	/* At, before and after versions that others skip to. */
	for (int64_t compacted = 17; compacted < VERSIONS; compacted += compacted / 3 + 15) {
		fixture_compact(&fx, compacted);
		fixture_compact_rows(&fx, 500);
		for (int64_t revision = compacted; revision < compacted + 40; revision++)
			check_revision(&fx, "k", revision, revision);
		for (int64_t revision = compacted; revision <= VERSIONS; revision += 1 + revision / 7)
			check_revision(&fx, "k", revision, revision);
		fixture_forget(&fx);
	}
	put_many(&fx, "k", 300);
	for (int64_t revision = fx.st->saved.revision; revision > fx.st->saved.revision - 600; revision--)
		check_revision(&fx, "k", revision, revision);
	fixture_close(&fx);
}
END_TEST

START_TEST(a_key_that_is_gone_altogether_starts_a_new_chain)
{
	struct fixture fx;
	int64_t first;

	fixture_open(&fx);
	put_many(&fx, "k", 100);
	fixture_delete(&fx, "k", NULL);
	fixture_put(&fx, "other", "1");
	fixture_compact(&fx, fx.st->saved.revision);
	fixture_compact_rows(&fx, 30);
	first = fx.st->saved.revision + 1;
	put_many(&fx, "k", 100);
	check_revision(&fx, "k", first - 1, 0);
	for (int64_t revision = first; revision <= fx.st->saved.revision; revision++)
		check_revision(&fx, "k", revision, revision);
	fixture_close(&fx);
}
END_TEST

START_TEST(the_ends_of_a_chain_are_few)
{
	struct chain chain = {0};
	struct chain_blob skips, heads;

	for (int64_t number = 1; number <= VERSIONS; number++) {
		int divisible = 0;

		for (int64_t rest = number; rest % 16 == 0; rest /= 16)
			divisible++;
		chain_add(&chain, number * 10, &skips);
		ck_assert_int_eq(chain.id, number * 10);
		ck_assert_int_eq(chain.number, number);
		ck_assert_int_le(skips.bytes, divisible * 8);
		chain_heads(&chain, &heads);
		ck_assert_int_eq(heads.bytes, 8 * chain.powers);
		for (int i = 0; i < chain.powers; i++) {
			int64_t unit = (int64_t)1 << (CHAIN_POWER_BITS * (i + 1));

			ck_assert_int_eq(chain.heads[i], number / unit * unit * 10);
		}
	}
	ck_assert_int_eq(chain.powers, 3);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("chain");
	TCase *tcase = tcase_create("chain");

	tcase_set_timeout(tcase, 120);
	tcase_add_test(tcase, every_version_is_found_in_few_steps);
	tcase_add_test(tcase, other_keys_in_between_do_not_matter);
	tcase_add_test(tcase, deletions_are_links_too);
	tcase_add_test(tcase, what_compaction_leaves_is_found);
	tcase_add_test(tcase, a_key_that_is_gone_altogether_starts_a_new_chain);
	tcase_add_test(tcase, the_ends_of_a_chain_are_few);
	suite_add_tcase(suite, tcase);
	return suite;
}

int main(void)
{
	return test_run(make_suite());
}
