/* SPDX-License-Identifier: Apache-2.0 */
#include "state/txn.h"

#include <stdio.h>
#include <string.h>

#include "lib/fixture.h"
#include "lib/test.h"

#define TARGET(name) PB__COMPARE__COMPARE_TARGET__##name
#define RESULT(name) PB__COMPARE__COMPARE_RESULT__##name

static void set_wanted(struct fixture *fx, Pb__Compare *compare, int64_t wanted)
{
	switch ((int)compare->target) {
	case TARGET(VERSION):
		compare->target_union_case = PB__COMPARE__TARGET_UNION_VERSION;
		compare->version = wanted;
		break;
	case TARGET(CREATE):
		compare->target_union_case = PB__COMPARE__TARGET_UNION_CREATE_REVISION;
		compare->create_revision = wanted;
		break;
	case TARGET(MOD):
		compare->target_union_case = PB__COMPARE__TARGET_UNION_MOD_REVISION;
		compare->mod_revision = wanted;
		break;
	case TARGET(LEASE):
		compare->target_union_case = PB__COMPARE__TARGET_UNION_LEASE;
		compare->lease = wanted;
		break;
	default:
		compare->target_union_case = PB__COMPARE__TARGET_UNION_VALUE;
		compare->value = make_bytes(&fx->arena, arena_printf(&fx->arena, "%d", (int)wanted));
		break;
	}
}

static const Pb__TxnResponse *run(struct fixture *fx, const Pb__TxnRequest *txn)
{
	return fixture_run(fx, &txn->base);
}

/* Whether a transaction of this compare alone succeeds; both ways to run it agree. */
static bool holds(struct fixture *fx, Pb__Compare *compare)
{
	Pb__TxnRequest *txn = make_txn(&fx->arena);
	Pb__TxnResponse *read = NULL;
	const Pb__TxnResponse *applied;

	txn_add_compare(&fx->arena, txn, compare);
	applied = run(fx, txn);
	ck_assert_int_eq(view_refresh(fixture_reader(fx)), STATUS_OK);
	ck_assert_int_eq(txn_read(&fx->reader, txn, &fx->arena, &read), STATUS_OK);
	assert_same_message(&read->base, &applied->base);
	return applied->succeeded;
}

/* The key "k": created at 2, changed at 3, so version 2, value "5". */
static const int64_t IS[] = {
	[TARGET(VERSION)] = 2, [TARGET(CREATE)] = 2, [TARGET(MOD)] = 3,
	[TARGET(VALUE)] = 5,   [TARGET(LEASE)] = 0,
};
enum { TARGETS = 5, RESULTS = 4 };

static bool should_hold(int result, int64_t is, int64_t wanted)
{
	switch (result) {
	case RESULT(EQUAL):
		return is == wanted;
	case RESULT(GREATER):
		return is > wanted;
	case RESULT(LESS):
		return is < wanted;
	default:
		return is != wanted;
	}
}

START_TEST(every_compare_holds_when_it_should)
{
	int target = _i / RESULTS, result = _i % RESULTS;
	struct fixture fx;

	fixture_open(&fx);
	fixture_put(&fx, "k", "4");
	fixture_put(&fx, "k", "5");
	for (int64_t wanted = IS[target] - 1; wanted <= IS[target] + 1; wanted++) {
		Pb__Compare *compare = make_compare(&fx.arena, "k", (Pb__Compare__CompareTarget)target,
		                                    (Pb__Compare__CompareResult)result);

		set_wanted(&fx, compare, wanted);
		ck_assert_int_eq(holds(&fx, compare), should_hold(result, IS[target], wanted));
	}
	fixture_close(&fx);
}
END_TEST

START_TEST(a_missing_key_compares_as_zeros_and_never_by_value)
{
	int target = _i / RESULTS, result = _i % RESULTS;
	struct fixture fx;

	fixture_open(&fx);
	for (int64_t wanted = -1; wanted <= 1; wanted++) {
		Pb__Compare *compare = make_compare(&fx.arena, "none", (Pb__Compare__CompareTarget)target,
		                                    (Pb__Compare__CompareResult)result);

		set_wanted(&fx, compare, wanted);
		ck_assert_int_eq(holds(&fx, compare),
		                 target != TARGET(VALUE) && should_hold(result, 0, wanted));
	}
	fixture_close(&fx);
}
END_TEST

START_TEST(a_compare_without_its_value_wants_zero)
{
	struct fixture fx;
	Pb__Compare *compare;

	fixture_open(&fx);
	fixture_put(&fx, "k", "");
	ck_assert(!holds(&fx, make_compare(&fx.arena, "k", TARGET(VERSION), RESULT(EQUAL))));
	ck_assert(holds(&fx, make_compare(&fx.arena, "k", TARGET(VERSION), RESULT(GREATER))));
	ck_assert(holds(&fx, make_compare(&fx.arena, "k", TARGET(VALUE), RESULT(EQUAL))));
	/* The member of another target does not count. */
	compare = make_compare(&fx.arena, "k", TARGET(VERSION), RESULT(EQUAL));
	compare->target_union_case = PB__COMPARE__TARGET_UNION_MOD_REVISION;
	compare->mod_revision = 1;
	ck_assert(!holds(&fx, compare));
	/* Unknown targets and results hold. */
	ck_assert(holds(&fx, make_compare(&fx.arena, "k", (Pb__Compare__CompareTarget)9, RESULT(EQUAL))));
	ck_assert(holds(&fx, make_compare(&fx.arena, "k", TARGET(VERSION), (Pb__Compare__CompareResult)9)));
	fixture_close(&fx);
}
END_TEST

START_TEST(a_compare_of_a_range_is_for_every_key)
{
	struct fixture fx;
	Pb__Compare *compare;

	fixture_open(&fx);
	fixture_put(&fx, "a1", "x");
	fixture_put(&fx, "a2", "x");
	compare = make_compare(&fx.arena, "a", TARGET(VERSION), RESULT(EQUAL));
	compare->range_end = make_bytes(&fx.arena, "b");
	set_wanted(&fx, compare, 1);
	ck_assert(holds(&fx, compare));
	fixture_put(&fx, "a2", "y");
	ck_assert(!holds(&fx, compare));
	compare->range_end = make_open_end(&fx.arena);
	ck_assert(!holds(&fx, compare));
	fixture_delete(&fx, "a2", NULL);
	ck_assert(holds(&fx, compare));
	fixture_close(&fx);
}
END_TEST

START_TEST(an_empty_transaction_succeeds_and_changes_nothing)
{
	struct fixture fx;
	const Pb__TxnResponse *response;

	fixture_open(&fx);
	response = run(&fx, make_txn(&fx.arena));
	ck_assert(response->succeeded);
	ck_assert_uint_eq(response->n_responses, 0);
	ck_assert_int_eq(response->header->revision, 1);
	ck_assert_int_eq(fx.st->saved.revision, 1);
	fixture_close(&fx);
}
END_TEST

START_TEST(the_chosen_branch_alone_is_run)
{
	struct fixture fx;
	Pb__TxnRequest *txn;

	fixture_open(&fx);
	txn = make_txn(&fx.arena);
	txn_add_compare(&fx.arena, txn, make_compare(&fx.arena, "k", TARGET(VERSION), RESULT(EQUAL)));
	txn_add_success(&fx.arena, txn, &make_put(&fx.arena, "k", "then")->base);
	txn_add_failure(&fx.arena, txn, &make_put(&fx.arena, "k", "else")->base);
	ck_assert(run(&fx, txn)->succeeded);
	ck_assert_str_eq(fixture_get(&fx, "k", 0), "then");
	ck_assert(!run(&fx, txn)->succeeded);
	ck_assert_str_eq(fixture_get(&fx, "k", 0), "else");
	fixture_close(&fx);
}
END_TEST

START_TEST(operations_see_those_before_them_and_share_a_revision)
{
	struct fixture fx;
	Pb__TxnRequest *txn;
	const Pb__TxnResponse *response;

	fixture_open(&fx);
	fixture_put(&fx, "a", "old");
	txn = make_txn(&fx.arena);
	txn_add_success(&fx.arena, txn, &make_range(&fx.arena, "a", NULL)->base);
	txn_add_success(&fx.arena, txn, &make_put(&fx.arena, "a", "new")->base);
	txn_add_success(&fx.arena, txn, &make_range(&fx.arena, "a", NULL)->base);
	txn_add_success(&fx.arena, txn, &make_put(&fx.arena, "b", "new")->base);
	txn_add_success(&fx.arena, txn, &make_delete(&fx.arena, "x", NULL)->base);
	response = run(&fx, txn);
	ck_assert_int_eq(response->header->revision, 3);
	ck_assert_int_eq(response->responses[0]->response_range->header->revision, 2);
	ck_assert_str_eq(fixture_show(&fx, response->responses[0]->response_range), "a=old");
	ck_assert_int_eq(response->responses[1]->response_put->header->revision, 3);
	ck_assert_int_eq(response->responses[2]->response_range->header->revision, 3);
	ck_assert_str_eq(fixture_show(&fx, response->responses[2]->response_range), "a=new");
	ck_assert_int_eq(response->responses[4]->response_delete_range->header->revision, 3);
	ck_assert_int_eq(fixture_range(&fx, make_range(&fx.arena, "b", NULL))->kvs[0]->mod_revision, 3);
	ck_assert_int_eq(fx.st->saved.revision, 3);
	fixture_close(&fx);
}
END_TEST

START_TEST(nested_branches_are_settled_before_the_first_write)
{
	struct fixture fx;
	Pb__TxnRequest *outer, *inner;
	const Pb__TxnResponse *response;

	fixture_open(&fx);
	inner = make_txn(&fx.arena);
	txn_add_compare(&fx.arena, inner, make_compare(&fx.arena, "a", TARGET(VERSION), RESULT(EQUAL)));
	txn_add_success(&fx.arena, inner, &make_put(&fx.arena, "b", "was not there")->base);
	txn_add_failure(&fx.arena, inner, &make_put(&fx.arena, "b", "was there")->base);
	outer = make_txn(&fx.arena);
	txn_add_success(&fx.arena, outer, &make_put(&fx.arena, "a", "1")->base);
	txn_add_success(&fx.arena, outer, &inner->base);
	response = run(&fx, outer);
	ck_assert_str_eq(fixture_get(&fx, "b", 0), "was not there");
	ck_assert(response->responses[1]->response_txn->succeeded);
	ck_assert_ptr_nonnull(response->responses[1]->response_txn->header);
	ck_assert_int_eq(response->responses[1]->response_txn->header->revision, 0);
	ck_assert_int_eq(response->responses[1]->response_txn->responses[0]->response_put->header->revision,
	                 2);
	ck_assert_int_eq(fx.st->saved.revision, 2);
	fixture_close(&fx);
}
END_TEST

START_TEST(deep_nesting_is_followed_in_order)
{
	enum { DEPTH = 40 };
	struct fixture fx;
	Pb__TxnRequest *txn;
	const Pb__TxnResponse *response;

	fixture_open(&fx);
	txn = make_txn(&fx.arena);
	for (int i = 0; i < DEPTH; i++) {
		Pb__TxnRequest *outer = make_txn(&fx.arena);

		txn_add_success(&fx.arena, outer, &txn->base);
		txn_add_success(&fx.arena, outer,
		                &make_put(&fx.arena, arena_printf(&fx.arena, "k%02d", i), "v")->base);
		txn = outer;
	}
	response = run(&fx, txn);
	for (int i = 0; i < DEPTH; i++) {
		ck_assert_uint_eq(response->n_responses, 2);
		response = response->responses[0]->response_txn;
	}
	ck_assert_int_eq(fx.st->saved.keys, DEPTH);
	fixture_close(&fx);
}
END_TEST

START_TEST(a_check_that_fails_changes_nothing)
{
	struct fixture fx;
	Pb__TxnRequest *txn;
	Pb__RangeRequest *range;
	Pb__PutRequest *put;

	fixture_open(&fx);
	txn = make_txn(&fx.arena);
	range = make_range(&fx.arena, "a", NULL);
	range->revision = 2; /* its own revision is not there yet */
	txn_add_success(&fx.arena, txn, &make_put(&fx.arena, "a", "1")->base);
	txn_add_success(&fx.arena, txn, &range->base);
	ck_assert_int_eq(fixture_apply(&fx, &txn->base).status, STATUS_FUTURE_REVISION);
	txn = make_txn(&fx.arena);
	put = make_put(&fx.arena, "b", NULL);
	put->ignore_value = true;
	txn_add_success(&fx.arena, txn, &make_put(&fx.arena, "a", "1")->base);
	txn_add_success(&fx.arena, txn, &put->base);
	ck_assert_int_eq(fixture_apply(&fx, &txn->base).status, STATUS_KEY_NOT_FOUND);
	put = make_put(&fx.arena, "b", "1");
	put->lease = 3;
	txn = make_txn(&fx.arena);
	txn_add_success(&fx.arena, txn, &put->base);
	ck_assert_int_eq(fixture_apply(&fx, &txn->base).status, STATUS_LEASE_NOT_FOUND);
	ck_assert_int_eq(fx.st->saved.revision, 1);
	ck_assert_int_eq(fx.st->saved.keys, 0);
	fixture_close(&fx);
}
END_TEST

START_TEST(a_negative_revision_is_below_a_compacted_one)
{
	struct fixture fx;
	Pb__TxnRequest *txn;
	Pb__RangeRequest *range;

	fixture_open(&fx);
	txn = make_txn(&fx.arena);
	range = make_range(&fx.arena, "a", NULL);
	txn_add_success(&fx.arena, txn, &range->base);
	range->revision = -1;
	ck_assert_int_eq(fixture_apply(&fx, &txn->base).status, STATUS_OK);
	range->revision = -2;
	ck_assert_int_eq(fixture_apply(&fx, &txn->base).status, STATUS_COMPACTED);
	fixture_put(&fx, "a", "1");
	fixture_compact(&fx, 1);
	range->revision = -1;
	ck_assert_int_eq(fixture_apply(&fx, &txn->base).status, STATUS_COMPACTED);
	fixture_close(&fx);
}
END_TEST

/* Deletes up to the end of the key space, which the check for duplicates does
 * not see, and then puts with the value of a key that is gone. */
static Pb__TxnRequest *make_half_way(struct fixture *fx)
{
	Pb__TxnRequest *txn = make_txn(&fx->arena);
	Pb__DeleteRangeRequest *deletion = make_delete(&fx->arena, "a", NULL);
	Pb__PutRequest *put = make_put(&fx->arena, "k", NULL);

	deletion->range_end = make_open_end(&fx->arena);
	put->ignore_value = true;
	txn_add_success(&fx->arena, txn, &deletion->base);
	txn_add_success(&fx->arena, txn, &put->base);
	return txn;
}

START_TEST(a_transaction_that_fails_half_way_is_undone)
{
	struct fixture fx;
	struct store_state before;
	struct applied applied;

	fixture_open(&fx);
	fixture_put(&fx, "k", "1");
	fixture_put(&fx, "l", "1");
	before = fx.st->saved;
	applied = fixture_apply(&fx, &make_half_way(&fx)->base);
	ck_assert_int_eq(applied.status, STATUS_KEY_NOT_FOUND);
	ck_assert_ptr_null(applied.response);
	ck_assert_int_eq(applied.changes, 0);
	before.applied_offset++;
	ck_assert_mem_eq(&fx.st->saved, &before, sizeof before);
	ck_assert_int_eq(fixture_range(&fx, make_range(&fx.arena, "a", "z"))->count, 2);
	fixture_close(&fx);
}
END_TEST

START_TEST(the_rest_of_its_batch_is_not_undone)
{
	struct fixture fx;
	const ProtobufCMessage *requests[3];
	struct applied applied[3];

	fixture_open(&fx);
	fixture_put(&fx, "k", "1");
	requests[0] = &make_put(&fx.arena, "before", "1")->base;
	requests[1] = &make_half_way(&fx)->base;
	requests[2] = &make_put(&fx.arena, "after", "1")->base;
	ck_assert_int_eq(fixture_apply_batch(&fx, requests, 3, applied), STATUS_OK);
	ck_assert_int_eq(applied[0].status, STATUS_OK);
	ck_assert_int_eq(applied[1].status, STATUS_KEY_NOT_FOUND);
	ck_assert_int_eq(applied[2].status, STATUS_OK);
	ck_assert_int_eq(applied[2].revision, 4);
	fixture_reopen(&fx);
	ck_assert_str_eq(fixture_show(&fx, fixture_range(&fx, make_range(&fx.arena, "a", "z"))),
	                 "after=1 before=1 k=1");
	fixture_close(&fx);
}
END_TEST

/* The same without the flag is allowed: the key is created anew. */
START_TEST(deleting_everything_and_putting_starts_the_key_over)
{
	struct fixture fx;
	Pb__TxnRequest *txn;
	const Pb__KeyValue *kv;

	fixture_open(&fx);
	fixture_put(&fx, "k", "1");
	fixture_put(&fx, "k", "2");
	txn = make_half_way(&fx);
	txn->success[1]->request_put->ignore_value = false;
	txn->success[1]->request_put->value = make_bytes(&fx.arena, "new");
	run(&fx, txn);
	kv = fixture_range(&fx, make_range(&fx.arena, "k", NULL))->kvs[0];
	ck_assert_int_eq(kv->create_revision, 4);
	ck_assert_int_eq(kv->version, 1);
	ck_assert_str_eq(fixture_get(&fx, "k", 3), "2");
	ck_assert_str_eq(fixture_get(&fx, "k", 4), "new");
	fixture_close(&fx);
}
END_TEST

START_TEST(a_transaction_of_reads_ends_when_it_costs_too_much)
{
	struct fixture fx;
	Pb__TxnRequest *txn;
	Pb__TxnResponse *response = NULL;
	struct view *view;

	fixture_open(&fx);
	fixture_put(&fx, "k", "0123456789");
	txn = make_txn(&fx.arena);
	txn_add_compare(&fx.arena, txn, make_compare(&fx.arena, "k", TARGET(VALUE), RESULT(NOT_EQUAL)));
	txn_add_compare(&fx.arena, txn, make_compare(&fx.arena, "k", TARGET(MOD), RESULT(NOT_EQUAL)));
	txn_add_success(&fx.arena, txn, &make_range(&fx.arena, "k", NULL)->base);
	view = fixture_reader(&fx);
	ck_assert_int_eq(view_refresh(view), STATUS_OK);
	/* Three rows, of which one comes without its value. */
	view->terms = (struct read_terms){.bounded = true, .rows = 3, .bytes = 23};
	ck_assert_int_eq(txn_read(view, txn, &fx.arena, &response), STATUS_OK);
	view->terms = (struct read_terms){.bounded = true, .rows = 2, .bytes = 23};
	ck_assert_int_eq(txn_read(view, txn, &fx.arena, &response), STATUS_OVER_BUDGET);
	view->terms = (struct read_terms){.bounded = true, .rows = 3, .bytes = 22};
	ck_assert_int_eq(txn_read(view, txn, &fx.arena, &response), STATUS_OVER_BUDGET);
	fixture_close(&fx);
}
END_TEST

START_TEST(kinds_of_transactions_are_told_apart)
{
	struct fixture fx;
	Pb__TxnRequest *txn;
	Pb__RangeRequest *range;

	fixture_open(&fx);
	txn = make_txn(&fx.arena);
	ck_assert(txn_is_read_only(txn) && txn_is_serializable(txn));
	range = make_range(&fx.arena, "a", NULL);
	txn_add_failure(&fx.arena, txn, &range->base);
	ck_assert(txn_is_read_only(txn) && !txn_is_serializable(txn));
	range->serializable = true;
	range->range_end = make_bytes(&fx.arena, "b");
	ck_assert(txn_is_read_only(txn) && txn_is_serializable(txn));
	txn_add_success(&fx.arena, txn, &make_txn(&fx.arena)->base);
	ck_assert(!txn_is_read_only(txn));
	fixture_close(&fx);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("txn");
	TCase *tcase = tcase_create("txn");

	tcase_set_timeout(tcase, 60);
	tcase_add_loop_test(tcase, every_compare_holds_when_it_should, 0, TARGETS * RESULTS);
	tcase_add_loop_test(tcase, a_missing_key_compares_as_zeros_and_never_by_value, 0,
	                    TARGETS * RESULTS);
	tcase_add_test(tcase, a_compare_without_its_value_wants_zero);
	tcase_add_test(tcase, a_compare_of_a_range_is_for_every_key);
	tcase_add_test(tcase, an_empty_transaction_succeeds_and_changes_nothing);
	tcase_add_test(tcase, the_chosen_branch_alone_is_run);
	tcase_add_test(tcase, operations_see_those_before_them_and_share_a_revision);
	tcase_add_test(tcase, nested_branches_are_settled_before_the_first_write);
	tcase_add_test(tcase, deep_nesting_is_followed_in_order);
	tcase_add_test(tcase, a_check_that_fails_changes_nothing);
	tcase_add_test(tcase, a_negative_revision_is_below_a_compacted_one);
	tcase_add_test(tcase, a_transaction_that_fails_half_way_is_undone);
	tcase_add_test(tcase, the_rest_of_its_batch_is_not_undone);
	tcase_add_test(tcase, deleting_everything_and_putting_starts_the_key_over);
	tcase_add_test(tcase, a_transaction_of_reads_ends_when_it_costs_too_much);
	tcase_add_test(tcase, kinds_of_transactions_are_told_apart);
	suite_add_tcase(suite, tcase);
	return suite;
}

int main(void)
{
	return test_run(make_suite());
}
