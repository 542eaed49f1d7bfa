/* SPDX-License-Identifier: Apache-2.0 */
#include "state/maintenance.h"

#include <string.h>

#include "lib/fixture.h"
#include "lib/test.h"
#include "state/quota.h"

#define ACTIVATE PB__ALARM_REQUEST__ALARM_ACTION__ACTIVATE
#define DEACTIVATE PB__ALARM_REQUEST__ALARM_ACTION__DEACTIVATE

static const Pb__AlarmResponse *set_alarm(struct fixture *fx, Pb__AlarmRequest__AlarmAction action,
                                          Pb__AlarmType kind, uint64_t member)
{
	Pb__AlarmRequest *request = make_alarm(&fx->arena, action, kind);

	request->memberid = member;
	return fixture_run(fx, &request->base);
}

static size_t count_alarms(struct fixture *fx, Pb__AlarmType kind)
{
	Pb__AlarmMember **alarms;
	size_t count;

	ck_assert_int_eq(view_refresh(fixture_reader(fx)), STATUS_OK);
	ck_assert_int_eq(maintenance_read_alarms(&fx->reader, kind, &fx->arena, &count, &alarms),
	                 STATUS_OK);
	view_rest(&fx->reader);
	return count;
}

START_TEST(an_alarm_is_raised_once_and_cleared_once)
{
	struct fixture fx;
	const Pb__AlarmResponse *response;

	fixture_open(&fx);
	response = set_alarm(&fx, ACTIVATE, PB__ALARM_TYPE__NOSPACE, 7);
	ck_assert_uint_eq(response->n_alarms, 1);
	ck_assert_uint_eq(response->alarms[0]->memberid, 7);
	ck_assert_int_eq(response->alarms[0]->alarm, PB__ALARM_TYPE__NOSPACE);
	ck_assert_uint_eq(set_alarm(&fx, ACTIVATE, PB__ALARM_TYPE__NOSPACE, 7)->n_alarms, 1);
	ck_assert_uint_eq(count_alarms(&fx, PB__ALARM_TYPE__NONE), 1);
	ck_assert(fx.st->alarm_nospace && !fx.st->alarm_corrupt);
	ck_assert_uint_eq(set_alarm(&fx, DEACTIVATE, PB__ALARM_TYPE__NOSPACE, 7)->n_alarms, 1);
	ck_assert_uint_eq(set_alarm(&fx, DEACTIVATE, PB__ALARM_TYPE__NOSPACE, 7)->n_alarms, 0);
	ck_assert(!fx.st->alarm_nospace);
	ck_assert_uint_eq(count_alarms(&fx, PB__ALARM_TYPE__NONE), 0);
	fixture_close(&fx);
}
END_TEST

START_TEST(an_alarm_lasts_as_long_as_any_member_has_it)
{
	struct fixture fx;

	fixture_open(&fx);
	for (uint64_t member = 1; member <= 5; member++)
		set_alarm(&fx, ACTIVATE, PB__ALARM_TYPE__NOSPACE, member << 60);
	set_alarm(&fx, ACTIVATE, PB__ALARM_TYPE__CORRUPT, 1);
	ck_assert_uint_eq(count_alarms(&fx, PB__ALARM_TYPE__NONE), 6);
	ck_assert_uint_eq(count_alarms(&fx, PB__ALARM_TYPE__NOSPACE), 5);
	ck_assert_uint_eq(count_alarms(&fx, PB__ALARM_TYPE__CORRUPT), 1);
	set_alarm(&fx, DEACTIVATE, PB__ALARM_TYPE__NOSPACE, (uint64_t)1 << 60);
	ck_assert(fx.st->alarm_nospace);
	fixture_reopen(&fx);
	ck_assert(fx.st->alarm_nospace && fx.st->alarm_corrupt);
	fixture_close(&fx);
}
END_TEST

START_TEST(no_space_refuses_what_adds_and_nothing_else)
{
	struct fixture fx;
	Pb__TxnRequest *txn;

	fixture_open(&fx);
	fixture_put(&fx, "a", "1");
	set_alarm(&fx, ACTIVATE, PB__ALARM_TYPE__NOSPACE, 1);
	ck_assert_int_eq(fixture_apply(&fx, &make_put(&fx.arena, "b", "1")->base).status, STATUS_NO_SPACE);
	txn = make_txn(&fx.arena);
	txn_add_failure(&fx.arena, txn, &make_put(&fx.arena, "b", "1")->base);
	ck_assert_int_eq(fixture_apply(&fx, &txn->base).status, STATUS_NO_SPACE);
	txn = make_txn(&fx.arena);
	txn_add_success(&fx.arena, txn, &make_delete(&fx.arena, "b", NULL)->base);
	ck_assert_int_eq(fixture_apply(&fx, &txn->base).status, STATUS_OK);
	fixture_delete(&fx, "a", NULL);
	fixture_compact(&fx, fx.st->saved.revision);
	set_alarm(&fx, DEACTIVATE, PB__ALARM_TYPE__NOSPACE, 1);
	fixture_put(&fx, "b", "1");
	fixture_close(&fx);
}
END_TEST

START_TEST(a_corrupt_cluster_changes_nothing)
{
	struct fixture fx;

	fixture_open(&fx);
	fixture_put(&fx, "a", "1");
	set_alarm(&fx, ACTIVATE, PB__ALARM_TYPE__CORRUPT, 1);
	ck_assert_int_eq(fixture_apply(&fx, &make_put(&fx.arena, "b", "1")->base).status, STATUS_CORRUPT);
	ck_assert_int_eq(fixture_apply(&fx, &make_delete(&fx.arena, "a", NULL)->base).status,
	                 STATUS_CORRUPT);
	ck_assert_int_eq(fixture_apply(&fx, &make_txn(&fx.arena)->base).status, STATUS_CORRUPT);
	ck_assert_int_eq(fixture_apply(&fx, &make_compaction(&fx.arena, 2)->base).status, STATUS_CORRUPT);
	ck_assert_str_eq(fixture_get(&fx, "a", 0), "1");
	set_alarm(&fx, DEACTIVATE, PB__ALARM_TYPE__CORRUPT, 1);
	fixture_put(&fx, "b", "1");
	fixture_close(&fx);
}
END_TEST

START_TEST(genesis_makes_the_cluster_and_its_member)
{
	struct fixture fx;
	Pb__Member **members;
	size_t count;

	fixture_open(&fx);
	ck_assert_uint_eq(fx.st->saved.cluster_id, FIXTURE_CLUSTER_ID);
	ck_assert_uint_eq(fx.st->saved.member_id, FIXTURE_MEMBER_ID);
	ck_assert_int_eq(fx.st->saved.revision, 1);
	fixture_reopen(&fx);
	ck_assert_int_eq(view_refresh(fixture_reader(&fx)), STATUS_OK);
	ck_assert_int_eq(maintenance_read_members(&fx.reader, &fx.arena, &count, &members), STATUS_OK);
	ck_assert_uint_eq(count, 1);
	ck_assert_uint_eq(members[0]->id, FIXTURE_MEMBER_ID);
	ck_assert_str_eq(members[0]->name, "default");
	ck_assert_uint_eq(members[0]->n_clienturls, 1);
	ck_assert_str_eq(members[0]->clienturls[0], "http://127.0.0.1:2379");
	fixture_close(&fx);
}
END_TEST

START_TEST(a_member_may_have_many_urls_or_none)
{
	struct fixture fx;
	Pb__Genesis genesis;
	char *urls[5];
	Pb__Member **members;
	size_t count;

	pb__genesis__init(&genesis);
	for (size_t wanted = 0; wanted <= 5; wanted += 5) {
		ck_assert_int_eq(fixture_open_at(&fx, fixture_path(wanted == 0 ? "none" : "many"), NULL),
		                 STATUS_OK);
		for (size_t i = 0; i < 5; i++)
			urls[i] = arena_printf(&fx.arena, "http://host-%zu:2379", i);
		genesis.cluster_id = genesis.member_id = UINT64_MAX;
		genesis.member_name = arena_strdup(&fx.arena, "n");
		genesis.client_urls = urls;
		genesis.n_client_urls = wanted;
		ck_assert_int_eq(store_begin(fx.st), STATUS_OK);
		ck_assert_int_eq(maintenance_apply_genesis(fx.st, &genesis), STATUS_OK);
		ck_assert_int_eq(store_commit(fx.st), STATUS_OK);
		fixture_reopen(&fx);
		ck_assert_uint_eq(fx.st->saved.cluster_id, UINT64_MAX);
		ck_assert_int_eq(view_refresh(fixture_reader(&fx)), STATUS_OK);
		ck_assert_int_eq(maintenance_read_members(&fx.reader, &fx.arena, &count, &members),
		                 STATUS_OK);
		ck_assert_uint_eq(count, 1);
		ck_assert_uint_eq(members[0]->id, UINT64_MAX);
		ck_assert_uint_eq(members[0]->n_clienturls, wanted);
		if (wanted > 0)
			ck_assert_str_eq(members[0]->clienturls[4], "http://host-4:2379");
		fixture_close(&fx);
	}
}
END_TEST

START_TEST(the_dearer_branch_is_the_cost_of_a_transaction)
{
	struct fixture fx;
	Pb__TxnRequest *txn, *inner;
	Pb__PutRequest *small, *large;

	fixture_open(&fx);
	small = make_put(&fx.arena, "a", "1");
	large = make_put(&fx.arena, "a", "a longer value");
	ck_assert_int_eq(quota_put_cost(small), QUOTA_PUT_OVERHEAD_BYTES + 2);
	txn = make_txn(&fx.arena);
	ck_assert_int_eq(quota_txn_cost(txn), 0);
	txn_add_success(&fx.arena, txn, &make_delete(&fx.arena, "a", NULL)->base);
	txn_add_success(&fx.arena, txn, &make_range(&fx.arena, "a", NULL)->base);
	ck_assert_int_eq(quota_txn_cost(txn), 0);
	txn_add_success(&fx.arena, txn, &large->base);
	inner = make_txn(&fx.arena);
	txn_add_success(&fx.arena, inner, &small->base);
	txn_add_failure(&fx.arena, txn, &inner->base);
	ck_assert_int_eq(quota_txn_cost(txn), quota_put_cost(large));
	txn_add_failure(&fx.arena, txn, &small->base);
	ck_assert_int_eq(quota_txn_cost(txn), 2 * quota_put_cost(small));
	fixture_close(&fx);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("maintenance");
	TCase *tcase = tcase_create("maintenance");

	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, an_alarm_is_raised_once_and_cleared_once);
	tcase_add_test(tcase, an_alarm_lasts_as_long_as_any_member_has_it);
	tcase_add_test(tcase, no_space_refuses_what_adds_and_nothing_else);
	tcase_add_test(tcase, a_corrupt_cluster_changes_nothing);
	tcase_add_test(tcase, genesis_makes_the_cluster_and_its_member);
	tcase_add_test(tcase, a_member_may_have_many_urls_or_none);
	tcase_add_test(tcase, the_dearer_branch_is_the_cost_of_a_transaction);
	suite_add_tcase(suite, tcase);
	return suite;
}

int main(void)
{
	return test_run(make_suite());
}
