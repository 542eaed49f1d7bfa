/* SPDX-License-Identifier: Apache-2.0 */
#include "state/range.h"

#include <string.h>

#include "lib/fixture.h"
#include "lib/test.h"

/* Revisions: a 2, b 3 and 5, c 4 and gone at 6, d 7, c again 8. */
static void open_sample(struct fixture *fx)
{
	fixture_open(fx);
	fixture_put(fx, "a", "3");
	fixture_put(fx, "b", "9");
	fixture_put(fx, "c", "1");
	fixture_put(fx, "b", "2");
	fixture_delete(fx, "c", NULL);
	fixture_put(fx, "d", "2");
	fixture_put(fx, "c", "5");
}

struct form {
	const char *key, *end;
	bool open_end;
	const char *shown;
};

static const struct form FORMS[] = {
	{"b", NULL, false, "b=2"},
	{"x", NULL, false, ""},
	{"a", "c", false, "a=3 b=2"},
	{"b", "b", false, ""},
	{"c", "a", false, ""},
	{"a", "a\x01", false, "a=3"},
	{"b", NULL, true, "b=2 c=5 d=2"},
	{"e", NULL, true, ""},
	{"A", "\xff", false, "a=3 b=2 c=5 d=2"},
};

START_TEST(a_range_has_its_keys)
{
	const struct form *form = &FORMS[_i];
	struct fixture fx;
	Pb__RangeRequest *request;
	const Pb__RangeResponse *response;

	open_sample(&fx);
	request = make_range(&fx.arena, form->key, form->end);
	if (form->open_end)
		request->range_end = make_open_end(&fx.arena);
	response = fixture_range(&fx, request);
	ck_assert_str_eq(fixture_show(&fx, response), form->shown);
	ck_assert_int_eq(response->count, (int64_t)response->n_kvs);
	ck_assert_int_eq(response->header->revision, 8);
	ck_assert(!response->more);
	fixture_close(&fx);
}
END_TEST

START_TEST(one_zero_byte_twice_is_every_key)
{
	struct fixture fx;
	Pb__RangeRequest *request;

	open_sample(&fx);
	request = make_range(&fx.arena, NULL, NULL);
	request->key = request->range_end = make_open_end(&fx.arena);
	ck_assert_str_eq(fixture_show(&fx, fixture_range(&fx, request)), "a=3 b=2 c=5 d=2");
	fixture_close(&fx);
}
END_TEST

static const char *const AT_REVISION[] = {
	[1] = "",
	[2] = "a=3",
	[3] = "a=3 b=9",
	[4] = "a=3 b=9 c=1",
	[5] = "a=3 b=2 c=1",
	[6] = "a=3 b=2",
	[7] = "a=3 b=2 d=2",
	[8] = "a=3 b=2 c=5 d=2",
};

START_TEST(an_old_revision_shows_what_was)
{
	struct fixture fx;
	Pb__RangeRequest *request;

	open_sample(&fx);
	request = make_range(&fx.arena, "a", "z");
	request->revision = _i;
	ck_assert_str_eq(fixture_show(&fx, fixture_range(&fx, request)), AT_REVISION[_i]);
	request->count_only = true;
	ck_assert_int_eq(fixture_range(&fx, request)->count * 4,
	                 (int64_t)(strlen(AT_REVISION[_i]) + 1) / 4 * 4);
	fixture_close(&fx);
}
END_TEST

START_TEST(a_single_key_has_its_past)
{
	struct fixture fx;

	open_sample(&fx);
	ck_assert_ptr_null(fixture_get(&fx, "c", 3));
	ck_assert_str_eq(fixture_get(&fx, "c", 4), "1");
	ck_assert_str_eq(fixture_get(&fx, "c", 5), "1");
	ck_assert_ptr_null(fixture_get(&fx, "c", 6));
	ck_assert_ptr_null(fixture_get(&fx, "c", 7));
	ck_assert_str_eq(fixture_get(&fx, "c", 8), "5");
	ck_assert_str_eq(fixture_get(&fx, "b", 4), "9");
	fixture_close(&fx);
}
END_TEST

START_TEST(a_recreated_key_starts_over)
{
	struct fixture fx;
	const Pb__KeyValue *kv;

	open_sample(&fx);
	kv = fixture_range(&fx, make_range(&fx.arena, "c", NULL))->kvs[0];
	ck_assert_int_eq(kv->create_revision, 8);
	ck_assert_int_eq(kv->mod_revision, 8);
	ck_assert_int_eq(kv->version, 1);
	kv = fixture_range(&fx, make_range(&fx.arena, "b", NULL))->kvs[0];
	ck_assert_int_eq(kv->create_revision, 3);
	ck_assert_int_eq(kv->mod_revision, 5);
	ck_assert_int_eq(kv->version, 2);
	fixture_close(&fx);
}
END_TEST

START_TEST(revisions_out_of_reach_are_refused)
{
	struct fixture fx;
	Pb__RangeRequest *request;
	Pb__RangeResponse *response;

	open_sample(&fx);
	request = make_range(&fx.arena, "a", NULL);
	request->revision = 9;
	ck_assert_int_eq(fixture_try_range(&fx, request, &response), STATUS_FUTURE_REVISION);
	fixture_compact(&fx, 5);
	request->revision = 4;
	ck_assert_int_eq(fixture_try_range(&fx, request, &response), STATUS_COMPACTED);
	request->revision = 5;
	ck_assert_int_eq(fixture_try_range(&fx, request, &response), STATUS_OK);
	request->revision = -7;
	ck_assert_str_eq(fixture_show(&fx, fixture_range(&fx, request)), "a=3");
	fixture_close(&fx);
}
END_TEST

struct limit {
	int64_t limit;
	const char *shown;
	bool more;
};

static const struct limit LIMITS[] = {
	{0, "a=3 b=2 c=5 d=2", false},
	{-1, "a=3 b=2 c=5 d=2", false},
	{1, "a=3", true},
	{3, "a=3 b=2 c=5", true},
	{4, "a=3 b=2 c=5 d=2", false},
	{INT64_MAX, "a=3 b=2 c=5 d=2", false},
};

START_TEST(a_limit_cuts_and_tells_and_counts_all)
{
	struct fixture fx;
	Pb__RangeRequest *request;
	const Pb__RangeResponse *response;

	open_sample(&fx);
	request = make_range(&fx.arena, "a", "z");
	request->limit = LIMITS[_i].limit;
	response = fixture_range(&fx, request);
	ck_assert_str_eq(fixture_show(&fx, response), LIMITS[_i].shown);
	ck_assert_int_eq(response->more, LIMITS[_i].more);
	ck_assert_int_eq(response->count, 4);
	fixture_close(&fx);
}
END_TEST

struct order {
	Pb__RangeRequest__SortOrder order;
	Pb__RangeRequest__SortTarget target;
	int64_t limit;
	const char *shown;
};

#define NONE PB__RANGE_REQUEST__SORT_ORDER__NONE
#define ASCEND PB__RANGE_REQUEST__SORT_ORDER__ASCEND
#define DESCEND PB__RANGE_REQUEST__SORT_ORDER__DESCEND
#define BY(target) PB__RANGE_REQUEST__SORT_TARGET__##target

static const struct order ORDERS[] = {
	{NONE, BY(KEY), 0, "a=3 b=2 c=5 d=2"},
	{ASCEND, BY(KEY), 0, "a=3 b=2 c=5 d=2"},
	{DESCEND, BY(KEY), 0, "d=2 c=5 b=2 a=3"},
	{DESCEND, BY(KEY), 2, "d=2 c=5"},
	{ASCEND, BY(VALUE), 0, "b=2 d=2 a=3 c=5"},
	{DESCEND, BY(VALUE), 0, "c=5 a=3 b=2 d=2"},
	{DESCEND, BY(VALUE), 1, "c=5"},
	{ASCEND, BY(VERSION), 0, "a=3 c=5 d=2 b=2"},
	{DESCEND, BY(VERSION), 0, "b=2 a=3 c=5 d=2"},
	{ASCEND, BY(CREATE), 0, "a=3 b=2 d=2 c=5"},
	{DESCEND, BY(CREATE), 0, "c=5 d=2 b=2 a=3"},
	{ASCEND, BY(MOD), 0, "a=3 b=2 d=2 c=5"},
	{DESCEND, BY(MOD), 3, "c=5 d=2 b=2"},
	/* A target without an order sorts, but only what the limit let in, and one more. */
	{NONE, BY(VALUE), 0, "b=2 d=2 a=3 c=5"},
	{NONE, BY(VALUE), 1, "b=2"},
	{NONE, BY(CREATE), 3, "a=3 b=2 d=2"},
};

START_TEST(a_range_is_sorted_as_asked)
{
	struct fixture fx;
	Pb__RangeRequest *request;
	const Pb__RangeResponse *response;

	open_sample(&fx);
	request = make_range(&fx.arena, "a", "z");
	request->sort_order = ORDERS[_i].order;
	request->sort_target = ORDERS[_i].target;
	request->limit = ORDERS[_i].limit;
	response = fixture_range(&fx, request);
	ck_assert_str_eq(fixture_show(&fx, response), ORDERS[_i].shown);
	ck_assert_int_eq(response->count, 4);
	ck_assert_int_eq(response->more, ORDERS[_i].limit > 0);
	fixture_close(&fx);
}
END_TEST

struct filter {
	int64_t min_mod, max_mod, min_create, max_create, limit;
	const char *shown;
	bool more;
};

static const struct filter FILTERS[] = {
	{5, 0, 0, 0, 0, "b=2 c=5 d=2", false},
	{0, 5, 0, 0, 0, "a=3 b=2", false},
	{5, 7, 0, 0, 0, "b=2 d=2", false},
	{0, 0, 4, 0, 0, "c=5 d=2", false},
	{0, 0, 0, 3, 0, "a=3 b=2", false},
	{3, 0, 0, 7, 0, "b=2 d=2", false},
	{5, 0, 0, 0, 1, "b=2", true},
	{5, 0, 0, 0, 3, "b=2 c=5 d=2", false},
	{9, 0, 0, 0, 0, "", false},
};

START_TEST(filters_leave_out_but_the_count_is_of_all)
{
	struct fixture fx;
	Pb__RangeRequest *request;
	const Pb__RangeResponse *response;

	open_sample(&fx);
	request = make_range(&fx.arena, "a", "z");
	request->min_mod_revision = FILTERS[_i].min_mod;
	request->max_mod_revision = FILTERS[_i].max_mod;
	request->min_create_revision = FILTERS[_i].min_create;
	request->max_create_revision = FILTERS[_i].max_create;
	request->limit = FILTERS[_i].limit;
	response = fixture_range(&fx, request);
	ck_assert_str_eq(fixture_show(&fx, response), FILTERS[_i].shown);
	ck_assert_int_eq(response->more, FILTERS[_i].more);
	ck_assert_int_eq(response->count, 4);
	fixture_close(&fx);
}
END_TEST

START_TEST(keys_only_leaves_out_the_values)
{
	struct fixture fx;
	Pb__RangeRequest *request;
	const Pb__RangeResponse *response;

	open_sample(&fx);
	request = make_range(&fx.arena, "a", "z");
	request->keys_only = true;
	response = fixture_range(&fx, request);
	ck_assert_str_eq(fixture_show(&fx, response), "a= b= c= d=");
	ck_assert_int_eq(response->kvs[1]->version, 2);
	request->sort_target = BY(VALUE);
	ck_assert_str_eq(fixture_show(&fx, fixture_range(&fx, request)), "b= d= a= c=");
	fixture_close(&fx);
}
END_TEST

START_TEST(count_only_gives_no_keys)
{
	struct fixture fx;
	Pb__RangeRequest *request;
	const Pb__RangeResponse *response;

	open_sample(&fx);
	request = make_range(&fx.arena, "b", "z");
	request->count_only = true;
	request->limit = 1;
	request->min_mod_revision = 8;
	response = fixture_range(&fx, request);
	ck_assert_uint_eq(response->n_kvs, 0);
	ck_assert_int_eq(response->count, 3);
	ck_assert(!response->more);
	fixture_close(&fx);
}
END_TEST

/* Whether a range is over this budget. */
static bool is_over(struct fixture *fx, Pb__RangeRequest *request, int64_t rows, int64_t bytes)
{
	struct view *view = fixture_reader(fx);
	Pb__RangeResponse *response = NULL;
	enum status_code status;

	ck_assert_int_eq(view_refresh(view), STATUS_OK);
	view->terms = (struct read_terms){.bounded = true, .rows = rows, .bytes = bytes};
	status = range_run(view, request, view->state.revision, &fx->arena, &response);
	view->terms = (struct read_terms){0};
	if (status != STATUS_OK)
		ck_assert_str_eq(status_code_name(status), "OVER_BUDGET");
	ck_assert((status == STATUS_OK) == (response != NULL));
	return status != STATUS_OK;
}

START_TEST(more_rows_than_allowed_are_left_to_another)
{
	struct fixture fx;
	Pb__RangeRequest *all, *limited, *counted, *one;

	open_sample(&fx);
	all = make_range(&fx.arena, "a", "z");
	limited = make_range(&fx.arena, "a", "z");
	limited->limit = 1;
	counted = make_range(&fx.arena, "a", "z");
	counted->count_only = true;
	one = make_range(&fx.arena, "a", NULL);
	ck_assert(is_over(&fx, all, 3, 1000));
	ck_assert(!is_over(&fx, all, 4, 1000));
	ck_assert(is_over(&fx, counted, 3, 1000));
	ck_assert(!is_over(&fx, counted, 4, 1000));
	ck_assert(is_over(&fx, limited, 3, 1000));
	ck_assert(!is_over(&fx, limited, 4, 1000));
	ck_assert(is_over(&fx, one, 0, 1000));
	ck_assert(!is_over(&fx, one, 1, 1000));
	fixture_close(&fx);
}
END_TEST

START_TEST(more_bytes_than_allowed_are_left_to_another)
{
	struct fixture fx;
	Pb__RangeRequest *all, *one;

	open_sample(&fx);
	all = make_range(&fx.arena, "a", "z");
	one = make_range(&fx.arena, "a", NULL);
	ck_assert(is_over(&fx, all, 100, 7));
	ck_assert(!is_over(&fx, all, 100, 8));
	ck_assert(is_over(&fx, one, 100, 1));
	ck_assert(!is_over(&fx, one, 100, 2));
	/* Values that are not asked for are not read. */
	all->keys_only = one->keys_only = true;
	ck_assert(!is_over(&fx, all, 100, 4));
	ck_assert(!is_over(&fx, one, 100, 1));
	all->revision = one->revision = 5;
	ck_assert(!is_over(&fx, all, 100, 4));
	ck_assert(!is_over(&fx, one, 100, 1));
	all->sort_target = PB__RANGE_REQUEST__SORT_TARGET__VALUE;
	ck_assert(is_over(&fx, all, 100, 4));
	/* The newest value is read on the way to an old one. */
	one = make_range(&fx.arena, "b", NULL);
	one->revision = 3;
	ck_assert(is_over(&fx, one, 100, 2));
	ck_assert(!is_over(&fx, one, 100, 3));
	fixture_close(&fx);
}
END_TEST

/* Keys born later and keys deleted before are no part of the answer; looking at
 * them takes as long as if they were. */
START_TEST(rows_that_an_old_revision_does_not_show_count_too)
{
	struct fixture fx;
	Pb__RangeRequest *request;

	fixture_open(&fx);
	fixture_put(&fx, "a", "1");
	fixture_put(&fx, "gone", "1");
	fixture_delete(&fx, "gone", NULL);
	fixture_put(&fx, "later", "1");
	request = make_range(&fx.arena, "a", "z");
	request->revision = 4;
	for (int i = 0; i < 2; i++) {
		request->count_only = i == 1;
		ck_assert(is_over(&fx, request, 3 * VIEW_OLD_ROW_COST - 1, 1000));
		ck_assert(!is_over(&fx, request, 3 * VIEW_OLD_ROW_COST, 1000));
	}
	fixture_close(&fx);
}
END_TEST

START_TEST(keys_are_bytes)
{
	struct fixture fx;
	Pb__PutRequest *put;
	Pb__RangeRequest *request;
	const Pb__RangeResponse *response;

	fixture_open(&fx);
	put = make_put(&fx.arena, NULL, NULL);
	put->key = copy_bytes(&fx.arena, "a\0b", 3);
	put->value = copy_bytes(&fx.arena, "\0\xff", 2);
	fixture_run(&fx, &put->base);
	fixture_put(&fx, "a", "");
	fixture_put(&fx, "\xff\xff", "last");
	response = fixture_range(&fx, make_range(&fx.arena, "a", "b"));
	ck_assert_uint_eq(response->n_kvs, 2);
	ck_assert_uint_eq(response->kvs[0]->key.len, 1);
	ck_assert_uint_eq(response->kvs[0]->value.len, 0);
	ck_assert_uint_eq(response->kvs[1]->key.len, 3);
	ck_assert_mem_eq(response->kvs[1]->key.data, "a\0b", 3);
	ck_assert_mem_eq(response->kvs[1]->value.data, "\0\xff", 2);
	request = make_range(&fx.arena, "\xff", NULL);
	request->range_end = make_open_end(&fx.arena);
	ck_assert_int_eq(fixture_range(&fx, request)->count, 1);
	fixture_close(&fx);
}
END_TEST

START_TEST(a_response_too_large_for_its_arena_is_refused)
{
	struct fixture fx;
	struct arena small;
	Pb__RangeResponse *response = NULL;

	open_sample(&fx);
	arena_init(&small, 500, NULL, 0);
	ck_assert_int_eq(view_refresh(fixture_reader(&fx)), STATUS_OK);
	ck_assert_int_eq(range_run(&fx.reader, make_range(&fx.arena, "a", "z"), fx.reader.state.revision,
	                           &small, &response),
	                 STATUS_NO_MEMORY);
	arena_release(&small);
	ck_assert_str_eq(fixture_get(&fx, "a", 0), "3");
	fixture_close(&fx);
}
END_TEST

#define COUNT(array) (int)(sizeof(array) / sizeof *(array))

static Suite *make_suite(void)
{
	Suite *suite = suite_create("range");
	TCase *tcase = tcase_create("range");

	tcase_set_timeout(tcase, 60);
	tcase_add_loop_test(tcase, a_range_has_its_keys, 0, COUNT(FORMS));
	tcase_add_test(tcase, one_zero_byte_twice_is_every_key);
	tcase_add_loop_test(tcase, an_old_revision_shows_what_was, 1, COUNT(AT_REVISION));
	tcase_add_test(tcase, a_single_key_has_its_past);
	tcase_add_test(tcase, a_recreated_key_starts_over);
	tcase_add_test(tcase, revisions_out_of_reach_are_refused);
	tcase_add_loop_test(tcase, a_limit_cuts_and_tells_and_counts_all, 0, COUNT(LIMITS));
	tcase_add_loop_test(tcase, a_range_is_sorted_as_asked, 0, COUNT(ORDERS));
	tcase_add_loop_test(tcase, filters_leave_out_but_the_count_is_of_all, 0, COUNT(FILTERS));
	tcase_add_test(tcase, keys_only_leaves_out_the_values);
	tcase_add_test(tcase, count_only_gives_no_keys);
	tcase_add_test(tcase, more_rows_than_allowed_are_left_to_another);
	tcase_add_test(tcase, more_bytes_than_allowed_are_left_to_another);
	tcase_add_test(tcase, rows_that_an_old_revision_does_not_show_count_too);
	tcase_add_test(tcase, keys_are_bytes);
	tcase_add_test(tcase, a_response_too_large_for_its_arena_is_refused);
	suite_add_tcase(suite, tcase);
	return suite;
}

int main(void)
{
	return test_run(make_suite());
}
