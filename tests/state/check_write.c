/* SPDX-License-Identifier: Apache-2.0 */
#include "state/write.h"

#include <string.h>

#include "lib/fixture.h"
#include "lib/test.h"

static const Pb__KeyValue *get(struct fixture *fx, const char *key)
{
	const Pb__RangeResponse *response = fixture_range(fx, make_range(&fx->arena, key, NULL));

	return response->n_kvs == 1 ? response->kvs[0] : NULL;
}

START_TEST(each_put_makes_a_revision_and_a_version)
{
	struct fixture fx;
	const Pb__KeyValue *kv;

	fixture_open(&fx);
	ck_assert_int_eq(fixture_put(&fx, "a", "1")->header->revision, 2);
	ck_assert_int_eq(fixture_put(&fx, "a", "2")->header->revision, 3);
	kv = get(&fx, "a");
	ck_assert_int_eq(kv->create_revision, 2);
	ck_assert_int_eq(kv->mod_revision, 3);
	ck_assert_int_eq(kv->version, 2);
	ck_assert_int_eq(fx.st->saved.keys, 1);
	fixture_close(&fx);
}
END_TEST

START_TEST(a_put_gives_back_the_pair_it_replaced)
{
	struct fixture fx;
	Pb__PutRequest *put;
	const Pb__PutResponse *response;

	fixture_open(&fx);
	put = make_put(&fx.arena, "a", "1");
	put->prev_kv = true;
	response = fixture_run(&fx, &put->base);
	ck_assert_ptr_null(response->prev_kv);
	put = make_put(&fx.arena, "a", "2");
	put->prev_kv = true;
	response = fixture_run(&fx, &put->base);
	ck_assert_ptr_nonnull(response->prev_kv);
	ck_assert_mem_eq(response->prev_kv->value.data, "1", 1);
	ck_assert_int_eq(response->prev_kv->mod_revision, 2);
	fixture_close(&fx);
}
END_TEST

START_TEST(ignore_value_keeps_the_value)
{
	struct fixture fx;
	Pb__PutRequest *put;

	fixture_open(&fx);
	fixture_put(&fx, "a", "kept");
	put = make_put(&fx.arena, "a", NULL);
	put->ignore_value = true;
	fixture_run(&fx, &put->base);
	ck_assert_str_eq(fixture_get(&fx, "a", 0), "kept");
	ck_assert_int_eq(get(&fx, "a")->version, 2);
	fixture_put(&fx, "a", "");
	fixture_run(&fx, &put->base);
	ck_assert_uint_eq(get(&fx, "a")->value.len, 0);
	fixture_close(&fx);
}
END_TEST

START_TEST(building_on_a_missing_key_is_refused)
{
	struct fixture fx;
	Pb__PutRequest *put;

	fixture_open(&fx);
	put = make_put(&fx.arena, "a", NULL);
	put->ignore_value = true;
	ck_assert_int_eq(fixture_apply(&fx, &put->base).status, STATUS_KEY_NOT_FOUND);
	put = make_put(&fx.arena, "a", "1");
	put->ignore_lease = true;
	ck_assert_int_eq(fixture_apply(&fx, &put->base).status, STATUS_KEY_NOT_FOUND);
	ck_assert_int_eq(fx.st->saved.revision, 1);
	fixture_put(&fx, "a", "1");
	fixture_delete(&fx, "a", NULL);
	ck_assert_int_eq(fixture_apply(&fx, &put->base).status, STATUS_KEY_NOT_FOUND);
	fixture_close(&fx);
}
END_TEST

START_TEST(a_lease_that_nobody_granted_is_refused)
{
	struct fixture fx;
	Pb__PutRequest *put;

	fixture_open(&fx);
	put = make_put(&fx.arena, "a", "1");
	put->lease = 7;
	ck_assert_int_eq(fixture_apply(&fx, &put->base).status, STATUS_LEASE_NOT_FOUND);
	ck_assert_ptr_null(get(&fx, "a"));
	fixture_close(&fx);
}
END_TEST

START_TEST(deleting_nothing_makes_no_revision)
{
	struct fixture fx;
	const Pb__DeleteRangeResponse *response;

	fixture_open(&fx);
	fixture_put(&fx, "a", "1");
	response = fixture_delete(&fx, "b", "z");
	ck_assert_int_eq(response->deleted, 0);
	ck_assert_int_eq(response->header->revision, 2);
	ck_assert_int_eq(fx.st->saved.revision, 2);
	fixture_close(&fx);
}
END_TEST

START_TEST(a_range_is_deleted_in_one_revision)
{
	struct fixture fx;
	Pb__DeleteRangeRequest *request;
	const Pb__DeleteRangeResponse *response;

	fixture_open(&fx);
	for (int i = 0; i < 5; i++)
		fixture_put(&fx, arena_printf(&fx.arena, "k%d", i), arena_printf(&fx.arena, "%d", i));
	request = make_delete(&fx.arena, "k1", "k4");
	request->prev_kv = true;
	response = fixture_run(&fx, &request->base);
	ck_assert_int_eq(response->deleted, 3);
	ck_assert_uint_eq(response->n_prev_kvs, 3);
	ck_assert_mem_eq(response->prev_kvs[0]->value.data, "1", 1);
	ck_assert_mem_eq(response->prev_kvs[2]->key.data, "k3", 2);
	ck_assert_int_eq(response->header->revision, 7);
	ck_assert_int_eq(fx.st->saved.revision, 7);
	ck_assert_int_eq(fx.st->saved.keys, 2);
	ck_assert_str_eq(fixture_show(&fx, fixture_range(&fx, make_range(&fx.arena, "a", "z"))),
	                 "k0=0 k4=4");
	fixture_close(&fx);
}
END_TEST

START_TEST(a_delete_without_end_reaches_the_last_key)
{
	struct fixture fx;
	Pb__DeleteRangeRequest *request;

	fixture_open(&fx);
	fixture_put(&fx, "a", "1");
	fixture_put(&fx, "\xff\xff\xff", "2");
	request = make_delete(&fx.arena, "b", NULL);
	request->range_end = make_open_end(&fx.arena);
	ck_assert_int_eq(((const Pb__DeleteRangeResponse *)fixture_run(&fx, &request->base))->deleted, 1);
	ck_assert_int_eq(fx.st->saved.keys, 1);
	fixture_close(&fx);
}
END_TEST

START_TEST(every_change_is_counted_in_bytes_and_hash)
{
	struct fixture fx;
	uint64_t hash;

	fixture_open(&fx);
	fixture_put(&fx, "key", "value");
	ck_assert_int_eq(fx.st->saved.logical_bytes, version_cost(3, 5));
	hash = fx.st->saved.hash;
	fixture_put(&fx, "key", "value");
	ck_assert_uint_ne(fx.st->saved.hash, hash);
	ck_assert_int_eq(fx.st->saved.logical_bytes, 2 * version_cost(3, 5));
	hash = fx.st->saved.hash;
	fixture_delete(&fx, "key", NULL);
	ck_assert_uint_ne(fx.st->saved.hash, hash);
	ck_assert_int_eq(fx.st->saved.logical_bytes, 2 * version_cost(3, 5) + version_cost(3, 0));
	fixture_close(&fx);
}
END_TEST

START_TEST(a_large_value_comes_back_whole)
{
	enum { LARGE = 3 << 20 };
	struct fixture fx;
	Pb__PutRequest *put;
	const Pb__KeyValue *kv;

	fixture_open(&fx);
	put = make_put(&fx.arena, "a", NULL);
	put->value = (ProtobufCBinaryData){.len = LARGE, .data = arena_alloc(&fx.arena, LARGE)};
	for (size_t i = 0; i < LARGE; i++)
		put->value.data[i] = (uint8_t)(i * 7 + i / 256);
	fixture_run(&fx, &put->base);
	kv = get(&fx, "a");
	ck_assert_uint_eq(kv->value.len, LARGE);
	ck_assert(memcmp(kv->value.data, put->value.data, LARGE) == 0);
	fixture_close(&fx);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("write");
	TCase *tcase = tcase_create("write");

	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, each_put_makes_a_revision_and_a_version);
	tcase_add_test(tcase, a_put_gives_back_the_pair_it_replaced);
	tcase_add_test(tcase, ignore_value_keeps_the_value);
	tcase_add_test(tcase, building_on_a_missing_key_is_refused);
	tcase_add_test(tcase, a_lease_that_nobody_granted_is_refused);
	tcase_add_test(tcase, deleting_nothing_makes_no_revision);
	tcase_add_test(tcase, a_range_is_deleted_in_one_revision);
	tcase_add_test(tcase, a_delete_without_end_reaches_the_last_key);
	tcase_add_test(tcase, every_change_is_counted_in_bytes_and_hash);
	tcase_add_test(tcase, a_large_value_comes_back_whole);
	suite_add_tcase(suite, tcase);
	return suite;
}

int main(void)
{
	return test_run(make_suite());
}
