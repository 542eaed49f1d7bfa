/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/validate.h"

#include "lib/fixture.h"
#include "lib/prng.h"
#include "lib/test.h"

enum { MAX_OPS = 128, CAP_BYTES = 1 << 28 };

static struct arena arena;

static void set_up(void)
{
	arena_init(&arena, CAP_BYTES, NULL, 0);
}

static void tear_down(void)
{
	arena_release(&arena);
}

static Pb__TxnRequest *nested(ProtobufCMessage *success, ProtobufCMessage *failure)
{
	Pb__TxnRequest *txn = make_txn(&arena);

	if (success != NULL)
		txn_add_success(&arena, txn, success);
	if (failure != NULL)
		txn_add_failure(&arena, txn, failure);
	return txn;
}

static ProtobufCMessage *put(const char *key)
{
	return &make_put(&arena, key, "v")->base;
}

static ProtobufCMessage *del(const char *key, const char *end)
{
	return &make_delete(&arena, key, end)->base;
}

START_TEST(a_key_is_needed_everywhere)
{
	Pb__TxnRequest *txn;

	ck_assert_int_eq(validate_range(make_range(&arena, "", NULL)), STATUS_EMPTY_KEY);
	ck_assert_int_eq(validate_range(make_range(&arena, "a", NULL)), STATUS_OK);
	ck_assert_int_eq(validate_put(make_put(&arena, "", "v")), STATUS_EMPTY_KEY);
	ck_assert_int_eq(validate_delete_range(make_delete(&arena, "", "z")), STATUS_EMPTY_KEY);
	ck_assert_int_eq(validate_delete_range(make_delete(&arena, "a", "z")), STATUS_OK);
	txn = make_txn(&arena);
	txn_add_compare(&arena, txn,
	                make_compare(&arena, "", PB__COMPARE__COMPARE_TARGET__VERSION,
	                             PB__COMPARE__COMPARE_RESULT__EQUAL));
	ck_assert_int_eq(validate_txn(txn, MAX_OPS), STATUS_EMPTY_KEY);
	ck_assert_int_eq(validate_txn(nested(put(""), NULL), MAX_OPS), STATUS_EMPTY_KEY);
	ck_assert_int_eq(validate_txn(nested(NULL, del("", "z")), MAX_OPS), STATUS_EMPTY_KEY);
	ck_assert_int_eq(
		validate_txn(nested(&nested(&make_range(&arena, "", NULL)->base, NULL)->base, NULL),
	                     MAX_OPS),
		STATUS_EMPTY_KEY);
}
END_TEST

START_TEST(unknown_orders_are_refused)
{
	Pb__RangeRequest *range = make_range(&arena, "a", NULL);

	range->sort_order = (Pb__RangeRequest__SortOrder)3;
	ck_assert_int_eq(validate_range(range), STATUS_INVALID_SORT);
	range->sort_order = (Pb__RangeRequest__SortOrder)-1;
	ck_assert_int_eq(validate_range(range), STATUS_INVALID_SORT);
	range->sort_order = PB__RANGE_REQUEST__SORT_ORDER__DESCEND;
	range->sort_target = (Pb__RangeRequest__SortTarget)5;
	ck_assert_int_eq(validate_range(range), STATUS_INVALID_SORT);
	range->sort_target = PB__RANGE_REQUEST__SORT_TARGET__VALUE;
	ck_assert_int_eq(validate_range(range), STATUS_OK);
}
END_TEST

START_TEST(what_is_to_be_ignored_must_not_be_given)
{
	Pb__PutRequest *request = make_put(&arena, "a", "v");

	request->ignore_value = true;
	ck_assert_int_eq(validate_put(request), STATUS_VALUE_PROVIDED);
	request->value = (ProtobufCBinaryData){0};
	ck_assert_int_eq(validate_put(request), STATUS_OK);
	request->ignore_lease = true;
	request->lease = 1;
	ck_assert_int_eq(validate_put(request), STATUS_LEASE_PROVIDED);
	request->lease = 0;
	ck_assert_int_eq(validate_put(request), STATUS_OK);
}
END_TEST

START_TEST(an_empty_operation_is_refused)
{
	Pb__TxnRequest *txn = make_txn(&arena);

	txn_add_success(&arena, txn, NULL);
	ck_assert_int_eq(validate_txn(txn, MAX_OPS), STATUS_KEY_NOT_FOUND);
}
END_TEST

static Pb__TxnRequest *make_sized(unsigned compares, unsigned success, unsigned failure)
{
	Pb__TxnRequest *txn = make_txn(&arena);
	Pb__Compare *compare = make_compare(&arena, "c", PB__COMPARE__COMPARE_TARGET__VERSION,
	                                    PB__COMPARE__COMPARE_RESULT__EQUAL);

	while (compares-- > 0)
		txn_add_compare(&arena, txn, compare);
	while (success-- > 0)
		txn_add_success(&arena, txn, &make_range(&arena, "r", NULL)->base);
	while (failure-- > 0)
		txn_add_failure(&arena, txn, &make_range(&arena, "r", NULL)->base);
	return txn;
}

START_TEST(the_largest_of_three_lists_counts_against_the_limit)
{
	ck_assert_int_eq(validate_txn(make_sized(3, 3, 3), 3), STATUS_OK);
	ck_assert_int_eq(validate_txn(make_sized(4, 3, 3), 3), STATUS_TOO_MANY_OPS);
	ck_assert_int_eq(validate_txn(make_sized(3, 4, 3), 3), STATUS_TOO_MANY_OPS);
	ck_assert_int_eq(validate_txn(make_sized(3, 3, 4), 3), STATUS_TOO_MANY_OPS);
	ck_assert_int_eq(validate_txn(make_sized(0, 0, 0), 0), STATUS_OK);
}
END_TEST

START_TEST(a_nested_transaction_has_what_is_left_of_the_limit)
{
	Pb__TxnRequest *txn = nested(&make_sized(0, 2, 0)->base, NULL);

	ck_assert_int_eq(validate_txn(txn, 3), STATUS_OK);
	ck_assert_int_eq(validate_txn(txn, 2), STATUS_TOO_MANY_OPS);
	/* Two beside each other have as much each. */
	txn_add_success(&arena, txn, &make_sized(0, 2, 0)->base);
	ck_assert_int_eq(validate_txn(txn, 4), STATUS_OK);
	ck_assert_int_eq(validate_txn(txn, 3), STATUS_TOO_MANY_OPS);
}
END_TEST

START_TEST(deep_nesting_is_checked_without_harm)
{
	Pb__TxnRequest *txn = nested(put("a"), NULL);

	for (int i = 0; i < 60; i++)
		txn = nested(&txn->base, put("a"));
	ck_assert_int_eq(validate_txn(txn, MAX_OPS), STATUS_OK);
	txn_add_success(&arena, txn, put("a"));
	ck_assert_int_eq(validate_txn(txn, MAX_OPS), STATUS_DUPLICATE_KEY);
}
END_TEST

/* One branch, in a few signs: p key, d key-end ('!' for none), ( and | and ) around a
 * nested transaction and its branches. */
struct overlap {
	const char *branch;
	bool refused;
};

static const struct overlap OVERLAPS[] = {
	{"pa pb", false},
	{"pa pa", true},
	{"pa db!", false},
	{"pa da!", true},
	{"da! pa", true},
	{"pa dac", true},
	{"pc dac", false},
	{"pb dac", true},
	{"pa dbc", false},
	{"da! da!", false},
	{"dac dac dbd", false},
	/* A range that ends before it begins has no keys. */
	{"pb dba", false},
	{"pb dbb", false},
	/* The two branches of a nested transaction exclude each other. */
	{"(pa|pa)", false},
	{"(pa|) (pa|)", true},
	{"(pa|) (|pa)", true},
	{"(|pa) (|pa)", true},
	{"(pa|pa) (pb|pb)", false},
	{"(pa|) pa", true},
	{"(|pa) pa", true},
	{"(pa|) pb", false},
	{"(pa pa|)", true},
	/* A deletion beside a nested put, and the other way round. */
	{"da! (pa|)", true},
	{"dac (|pb)", true},
	{"(da!|) pa", true},
	{"(|dac) pb", true},
	{"(da!|pa)", false},
	{"(da!|) (pa|)", true},
	/* Of two nested ones the later must not put what the earlier deletes; not the other way round. */
	{"(pa|) (da!|)", false},
	{"((pa|)|) ((|da!)|)", false},
	{"((da!|)|) ((|pa)|)", true},
	{"((pa|pb)|(pa|pb))", false},
	{"((pa|pb)|(pa|pb)) pb", true},
	{"((pa|pb)|(pa|pb)) pc dd!", false},
};

static const char *read_branch(const char *at, Pb__TxnRequest *txn, bool success)
{
	void (*add)(struct arena *, Pb__TxnRequest *, ProtobufCMessage *) =
		success ? txn_add_success : txn_add_failure;

	while (*at != '\0' && *at != '|' && *at != ')') {
		char key[2] = {at[1], '\0'}, end[2] = {0};

		switch (*at) {
		case 'p':
			add(&arena, txn, put(key));
			at += 2;
			break;
		case 'd':
			end[0] = at[2];
			add(&arena, txn, del(key, at[2] == '!' ? NULL : end));
			at += 3;
			break;
		case '(': {
			Pb__TxnRequest *inner = make_txn(&arena);

			at = read_branch(at + 1, inner, true);
			at = read_branch(at + 1, inner, false) + 1;
			add(&arena, txn, &inner->base);
			break;
		}
		default:
			at++;
			break;
		}
	}
	return at;
}

START_TEST(puts_and_deletes_of_a_branch_must_not_meet)
{
	const struct overlap *overlap = &OVERLAPS[_i];

	for (int success = 0; success < 2; success++) {
		Pb__TxnRequest *txn = make_txn(&arena);

		read_branch(overlap->branch, txn, success == 1);
		ck_assert_msg(validate_txn(txn, MAX_OPS) ==
		                      (overlap->refused ? STATUS_DUPLICATE_KEY : STATUS_OK),
		              "%s", overlap->branch);
	}
}
END_TEST

START_TEST(the_two_outer_branches_may_have_the_same_keys)
{
	ck_assert_int_eq(validate_txn(nested(put("a"), put("a")), MAX_OPS), STATUS_OK);
	ck_assert_int_eq(validate_txn(nested(put("a"), del("a", NULL)), MAX_OPS), STATUS_OK);
}
END_TEST

/* etcd's check does not see a deletion up to the end of the key space. */
START_TEST(a_deletion_without_end_is_not_compared)
{
	Pb__DeleteRangeRequest *deletion = make_delete(&arena, "a", NULL);

	Pb__TxnRequest *txn = nested(put("b"), NULL);

	deletion->range_end = make_open_end(&arena);
	txn_add_success(&arena, txn, &deletion->base);
	ck_assert_int_eq(validate_txn(txn, MAX_OPS), STATUS_OK);
}
END_TEST

/*
 * The rule once more, without any cleverness: lists of keys and ranges, each
 * new key compared with all of them.
 */
enum { KEYS = 6 };

struct print {
	bool put[KEYS];
	bool deleted[KEYS];
};

static bool collect(Pb__RequestOp *const *ops, size_t count, struct print *print);

static bool collect_branch(const struct print *inner, const struct print *sibling, struct print *print)
{
	for (int key = 0; key < KEYS; key++) {
		if (!inner->put[key])
			continue;
		if (print->put[key] && (sibling == NULL || !sibling->put[key]))
			return false;
		if (print->deleted[key])
			return false;
		print->put[key] = true;
	}
	return true;
}

static bool collect_nested(const Pb__TxnRequest *txn, struct print *print)
{
	struct print success = {0}, failure = {0};

	if (!collect(txn->success, txn->n_success, &success) ||
	    !collect(txn->failure, txn->n_failure, &failure) || !collect_branch(&success, NULL, print) ||
	    !collect_branch(&failure, &success, print))
		return false;
	for (int key = 0; key < KEYS; key++)
		print->deleted[key] |= success.deleted[key] || failure.deleted[key];
	return true;
}

static bool collect(Pb__RequestOp *const *ops, size_t count, struct print *print)
{
	for (size_t i = 0; i < count; i++) {
		const Pb__DeleteRangeRequest *deletion = ops[i]->request_delete_range;

		if (ops[i]->request_case != PB__REQUEST_OP__REQUEST_REQUEST_DELETE_RANGE)
			continue;
		for (int key = 0; key < KEYS; key++) {
			int at = 'a' + key, begin = deletion->key.data[0];

			print->deleted[key] |= deletion->range_end.len == 0
			                               ? at == begin
			                               : at >= begin && at < deletion->range_end.data[0];
		}
	}
	for (size_t i = 0; i < count; i++)
		if (ops[i]->request_case == PB__REQUEST_OP__REQUEST_REQUEST_TXN &&
		    !collect_nested(ops[i]->request_txn, print))
			return false;
	for (size_t i = 0; i < count; i++) {
		int key;

		if (ops[i]->request_case != PB__REQUEST_OP__REQUEST_REQUEST_PUT)
			continue;
		key = ops[i]->request_put->key.data[0] - 'a';
		if (print->put[key] || print->deleted[key])
			return false;
		print->put[key] = true;
	}
	return true;
}

static Pb__TxnRequest *draw_txn(struct prng *prng, unsigned depth);

static ProtobufCMessage *draw_op(struct prng *prng, unsigned depth)
{
	char key[2] = {(char)('a' + prng_below(prng, KEYS)), '\0'};
	char end[2] = {(char)('a' + prng_below(prng, KEYS)), '\0'};
	unsigned kind = prng_below(prng, 10);

	if (kind < 4)
		return put(key);
	if (kind < 6 || depth == 0)
		return del(key, prng_chance(prng, 50) ? end : NULL);
	return &draw_txn(prng, depth - 1)->base;
}

static Pb__TxnRequest *draw_txn(struct prng *prng, unsigned depth)
{
	Pb__TxnRequest *txn = make_txn(&arena);

	for (unsigned n = prng_below(prng, 4); n > 0; n--)
		txn_add_success(&arena, txn, draw_op(prng, depth));
	for (unsigned n = prng_below(prng, 3); n > 0; n--)
		txn_add_failure(&arena, txn, draw_op(prng, depth));
	return txn;
}

START_TEST(random_transactions_are_judged_by_the_rule)
{
	struct prng prng;
	int refused = 0, rounds = (int)prng_setting("KETA_STEPS", 20000);

	prng_init(&prng, prng_seed("check_validate"));
	for (int i = 0; i < rounds; i++) {
		Pb__TxnRequest *txn = draw_txn(&prng, 3);
		struct print success = {0}, failure = {0};
		bool good = collect(txn->success, txn->n_success, &success) &&
		            collect(txn->failure, txn->n_failure, &failure);

		ck_assert_int_eq(validate_txn(txn, MAX_OPS), good ? STATUS_OK : STATUS_DUPLICATE_KEY);
		refused += !good;
		arena_reset(&arena);
	}
	ck_assert_int_gt(refused, rounds / 10);
	ck_assert_int_lt(refused, rounds - rounds / 10);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("validate");
	TCase *tcase = tcase_create("validate");

	tcase_set_timeout(tcase, 600);
	tcase_add_checked_fixture(tcase, set_up, tear_down);
	tcase_add_test(tcase, a_key_is_needed_everywhere);
	tcase_add_test(tcase, unknown_orders_are_refused);
	tcase_add_test(tcase, what_is_to_be_ignored_must_not_be_given);
	tcase_add_test(tcase, an_empty_operation_is_refused);
	tcase_add_test(tcase, the_largest_of_three_lists_counts_against_the_limit);
	tcase_add_test(tcase, a_nested_transaction_has_what_is_left_of_the_limit);
	tcase_add_test(tcase, deep_nesting_is_checked_without_harm);
	tcase_add_loop_test(tcase, puts_and_deletes_of_a_branch_must_not_meet, 0,
	                    (int)(sizeof OVERLAPS / sizeof *OVERLAPS));
	tcase_add_test(tcase, the_two_outer_branches_may_have_the_same_keys);
	tcase_add_test(tcase, a_deletion_without_end_is_not_compared);
	tcase_add_test(tcase, random_transactions_are_judged_by_the_rule);
	suite_add_tcase(suite, tcase);
	return suite;
}

int main(void)
{
	return test_run(make_suite());
}
