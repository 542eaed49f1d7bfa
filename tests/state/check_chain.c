/* SPDX-License-Identifier: Apache-2.0 */
#include "state/chain.h"

#include <stdio.h>
#include <stdlib.h>

#include "lib/fixture.h"
#include "lib/prng.h"
#include "lib/test.h"

enum { VERSIONS = 5000 };

START_TEST(skips_name_the_last_version_of_each_power)
{
	struct chain chain = {0};
	struct chain_blob skips, heads;

	for (int64_t id = 1; id <= 600; id++) {
		int wanted = id % 256 == 0 ? 2 : id % 16 == 0 ? 1 : 0;

		/* The first of a power has none before it. */
		if (id == 16 || id == 256)
			wanted--;
		chain_add(&chain, id, &skips);
		ck_assert_int_eq(chain.number, id);
		ck_assert_int_eq(skips.bytes, wanted * (int)sizeof(uint64_t));
		if (wanted > 0)
			ck_assert_int_eq((int64_t)skips.ids[0], id - 16);
	}
	chain_heads(&chain, &heads);
	ck_assert_int_eq(heads.bytes, 2 * (int)sizeof(uint64_t));
	ck_assert_int_eq((int64_t)heads.ids[0], 592);
	ck_assert_int_eq((int64_t)heads.ids[1], 512);
}
END_TEST

static void put_numbers(struct fixture *fx, int count)
{
	char value[16];

	for (int i = 0; i < count; i++) {
		snprintf(value, sizeof value, "%d", i);
		fixture_put(fx, "k", value);
		if (i % 256 == 0)
			fixture_forget(fx);
	}
}

/* The first put makes revision 2. */
static void assert_readable(struct fixture *fx, int64_t first, int64_t last, int64_t step)
{
	char wanted[32];

	for (int64_t revision = first; revision <= last; revision += step) {
		snprintf(wanted, sizeof wanted, "%ld", (long)revision - 2);
		ck_assert_str_eq(fixture_get(fx, "k", revision), wanted);
	}
}

static int64_t count_steps(struct fixture *fx)
{
	sqlite3_stmt *stmt = fixture_reader(fx)->stmts[SQL_LINKS];

	return sqlite3_stmt_status(stmt, SQLITE_STMTSTATUS_RUN, 1);
}

START_TEST(each_of_many_versions_is_found_in_few_steps)
{
	struct fixture fx;

	fixture_open(&fx);
	put_numbers(&fx, VERSIONS);
	assert_readable(&fx, 2, VERSIONS + 1, 7);
	for (int64_t revision = 2; revision <= VERSIONS; revision += 97) {
		count_steps(&fx);
		assert_readable(&fx, revision, revision, 1);
		ck_assert_int_le(count_steps(&fx), 15 * 4);
	}
	ck_assert_ptr_null(fixture_get(&fx, "k", 1));
	fixture_close(&fx);
}
END_TEST

START_TEST(a_compacted_chain_still_leads_to_what_is_kept)
{
	struct fixture fx;

	fixture_open(&fx);
	put_numbers(&fx, VERSIONS);
	for (int64_t revision = 300; revision < VERSIONS; revision += 1111) {
		fixture_compact(&fx, revision);
		assert_readable(&fx, revision, VERSIONS + 1, 13);
		fixture_compact_rows(&fx, 100);
		assert_readable(&fx, revision, VERSIONS + 1, 13);
	}
	fixture_reopen(&fx);
	assert_readable(&fx, VERSIONS, VERSIONS + 1, 1);
	fixture_close(&fx);
}
END_TEST

START_TEST(deletions_are_links_like_others)
{
	struct fixture fx;

	fixture_open(&fx);
	for (int i = 0; i < 200; i++) {
		char value[16];

		snprintf(value, sizeof value, "%d", i);
		fixture_put(&fx, "k", value);
		fixture_delete(&fx, "k", NULL);
	}
	for (int i = 0; i < 200; i++) {
		ck_assert_int_eq(atoi(fixture_get(&fx, "k", 2 + 2 * i)), i);
		ck_assert_ptr_null(fixture_get(&fx, "k", 3 + 2 * i));
	}
	fixture_compact(&fx, 201);
	fixture_compact_rows(&fx, 50);
	ck_assert_ptr_null(fixture_get(&fx, "k", 201));
	ck_assert_int_eq(atoi(fixture_get(&fx, "k", 202)), 100);
	ck_assert_ptr_null(fixture_get(&fx, "k", 0));
	/* Gone for good once its last deletion is compacted, and born anew. */
	fixture_put(&fx, "other", "1");
	fixture_compact(&fx, fx.st->saved.revision);
	fixture_compact_rows(&fx, 50);
	ck_assert_int_eq(fx.st->saved.logical_bytes, version_cost(5, 1));
	fixture_put(&fx, "k", "new");
	ck_assert_str_eq(fixture_get(&fx, "k", 0), "new");
	ck_assert_ptr_null(fixture_get(&fx, "k", fx.st->saved.revision - 1));
	fixture_close(&fx);
}
END_TEST

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

START_TEST(keys_deleted_at_any_length_of_chain_have_their_past)
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

static Suite *make_suite(void)
{
	Suite *suite = suite_create("chain");
	TCase *tcase = tcase_create("chain");

	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, skips_name_the_last_version_of_each_power);
	tcase_add_test(tcase, each_of_many_versions_is_found_in_few_steps);
	tcase_add_test(tcase, a_compacted_chain_still_leads_to_what_is_kept);
	tcase_add_test(tcase, deletions_are_links_like_others);
	tcase_add_test(tcase, other_keys_in_between_do_not_matter);
	tcase_add_test(tcase, keys_deleted_at_any_length_of_chain_have_their_past);
	suite_add_tcase(suite, tcase);
	return suite;
}

int main(void)
{
	return test_run(make_suite());
}
