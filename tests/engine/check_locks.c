/* SPDX-License-Identifier: Apache-2.0 */
/* Locks and elections, on a real engine. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "election.pb-c.h"
#include "lib/fixture.h"
#include "lib/station.h"
#include "lib/test.h"
#include "lock.pb-c.h"

static Pb__LockRequest *lock_request(struct station *station, const char *name, int64_t lease)
{
	Pb__LockRequest *request = arena_alloc(&station->arena, sizeof *request);

	pb__lock_request__init(request);
	request->name = make_bytes(&station->arena, name);
	request->lease = lease;
	return request;
}

static void start_lock(struct errand *errand, struct station *station, const char *name, int64_t lease,
                       int64_t deadline_ms)
{
	errand_start(errand, station, "Lock", "Lock", &lock_request(station, name, lease)->base, deadline_ms);
}

static int64_t count_keys(struct station *station)
{
	Pb__RangeRequest *request = make_range(&station->arena, "a", "z");
	struct call *call;
	int64_t count;

	request->count_only = true;
	call = station_call(station, "KV", "Range", &request->base);
	ck_assert_int_eq(call->status.code, STATUS_OK);
	count = ((const Pb__RangeResponse *)call->response)->count;
	call_free(call);
	return count;
}

static void await_keys(struct station *station, int64_t count)
{
	while (count_keys(station) != count)
		station_turn(station);
}

static void revoke(struct station *station, int64_t lease)
{
	Pb__LeaseRevokeRequest request = PB__LEASE_REVOKE_REQUEST__INIT;
	struct call *call;

	request.id = lease;
	call = station_call(station, "Lease", "LeaseRevoke", &request.base);
	ck_assert_int_eq(call->status.code, STATUS_OK);
	call_free(call);
}

/* Awaits a lock that must be granted; the key it is held by. */
static void assert_locked(struct errand *errand, const char *key)
{
	struct call *call = errand_await(errand);
	const Pb__LockResponse *response = (const Pb__LockResponse *)call->response;

	ck_assert_msg(call->status.code == STATUS_OK, "%s", status_text(&call->status));
	ck_assert_uint_eq(response->key.len, strlen(key));
	ck_assert_mem_eq(response->key.data, key, response->key.len);
	call_free(call);
}

static void assert_refused(struct errand *errand, enum status_code code, const char *text)
{
	struct call *call = errand_await(errand);

	ck_assert_int_eq(call->status.code, code);
	ck_assert_str_eq(status_text(&call->status), text);
	call_free(call);
}

START_TEST(a_lock_is_held_by_one_and_passed_on_in_the_order_of_asking)
{
	enum { CLIENTS = 5 };
	struct errand errands[CLIENTS];
	struct station station;

	station_open(&station, NULL);
	for (int i = 0; i < CLIENTS; i++) {
		station_grant(&station, 0x100 + i, 600);
		start_lock(&errands[i], &station, "m", 0x100 + i, 0);
		await_keys(&station, i + 1);
	}
	for (int i = 0; i < CLIENTS; i++) {
		char key[16];

		snprintf(key, sizeof key, "m/10%d", i);
		assert_locked(&errands[i], key);
		for (int later = i + 1; later < CLIENTS; later++)
			ck_assert(!atomic_load(&errands[later].over));
		station_delete(&station, key, NULL);
	}
	station_close(&station);
}
END_TEST

START_TEST(a_lock_asked_for_again_by_its_holder_is_granted)
{
	struct station station;
	struct errand errand;

	station_open(&station, NULL);
	station_grant(&station, -31, 600);
	for (int i = 0; i < 2; i++) {
		start_lock(&errand, &station, "m", -31, 0);
		assert_locked(&errand, "m/-1f");
	}
	ck_assert_int_eq(count_keys(&station), 1);
	station_close(&station);
}
END_TEST

START_TEST(one_who_goes_away_leaves_no_key)
{
	struct errand holder, waiter;
	struct station station;

	station_open(&station, NULL);
	station_grant(&station, 1, 600);
	station_grant(&station, 2, 600);
	start_lock(&holder, &station, "m", 1, 0);
	assert_locked(&holder, "m/1");
	start_lock(&waiter, &station, "m", 2, 0);
	await_keys(&station, 2);
	call_cancel(waiter.call);
	assert_refused(&waiter, STATUS_CANCELED, "context canceled");
	await_keys(&station, 1);
	/* Before its first step has ended, too. */
	start_lock(&waiter, &station, "m", 2, 0);
	call_cancel(waiter.call);
	assert_refused(&waiter, STATUS_CANCELED, "context canceled");
	await_keys(&station, 1);
	station_close(&station);
}
END_TEST

START_TEST(a_second_call_that_is_given_up_does_not_give_the_lock_back)
{
	struct errand first, second;
	struct station station;

	station_open(&station, NULL);
	station_grant(&station, 1, 600);
	start_lock(&first, &station, "m", 1, 0);
	assert_locked(&first, "m/1");
	start_lock(&second, &station, "m", 1, 0);
	call_cancel(second.call);
	assert_refused(&second, STATUS_CANCELED, "context canceled");
	ck_assert_int_eq(count_keys(&station), 1);
	station_close(&station);
}
END_TEST

/* The client lost its connection and called again before the first call was through. */
START_TEST(a_call_that_is_given_up_leaves_the_key_to_a_newer_one)
{
	struct errand first, second, other;
	struct station station;

	station_open(&station, NULL);
	station_grant(&station, 1, 600);
	station_grant(&station, 2, 600);
	atomic_store(&station.log->held, true);
	start_lock(&first, &station, "m", 1, 0);
	call_cancel(first.call);
	start_lock(&second, &station, "m", 1, 0);
	start_lock(&other, &station, "m", 2, 0);
	atomic_store(&station.log->held, false);
	assert_refused(&first, STATUS_CANCELED, "context canceled");
	assert_locked(&second, "m/1");
	await_keys(&station, 2);
	station_settle(&station);
	ck_assert(!atomic_load(&other.over));
	station_delete(&station, "m/1", NULL);
	assert_locked(&other, "m/2");
	station_close(&station);
}
END_TEST

START_TEST(a_call_that_times_out_leaves_no_key_that_appears_later)
{
	struct station station;
	struct errand errand;

	station_open(&station, NULL);
	station_grant(&station, 1, 600);
	atomic_store(&station.log->held, true);
	start_lock(&errand, &station, "m", 1, clock_ms() + 50);
	/* The engine's own limit ends the entry; then its deletion is in the log. */
	while (engine_pending(station.engine) > 0 && !atomic_load(&errand.over)) {
		station_turn(&station);
		if (clock_ms() > errand.call->deadline_ms + 500)
			atomic_store(&station.log->held, false);
	}
	assert_refused(&errand, STATUS_DEADLINE_EXCEEDED, "context deadline exceeded");
	ck_assert_int_eq(count_keys(&station), 0);
	station_close(&station);
}
END_TEST

START_TEST(one_whose_time_is_up_leaves_no_key)
{
	struct errand holder, waiter;
	struct station station;

	station_open(&station, NULL);
	station_grant(&station, 1, 600);
	station_grant(&station, 2, 600);
	start_lock(&holder, &station, "m", 1, 0);
	assert_locked(&holder, "m/1");
	start_lock(&waiter, &station, "m", 2, clock_ms() + 50);
	assert_refused(&waiter, STATUS_DEADLINE_EXCEEDED, "context deadline exceeded");
	await_keys(&station, 1);
	station_close(&station);
}
END_TEST

START_TEST(a_lock_ends_with_its_lease_and_so_does_a_place_in_the_queue)
{
	struct errand holder, second, third;
	struct station station;

	station_open(&station, NULL);
	for (int i = 1; i <= 3; i++)
		station_grant(&station, i, 600);
	start_lock(&holder, &station, "m", 1, 0);
	assert_locked(&holder, "m/1");
	start_lock(&second, &station, "m", 2, 0);
	await_keys(&station, 2);
	start_lock(&third, &station, "m", 3, 0);
	await_keys(&station, 3);
	revoke(&station, 2);
	station_settle(&station);
	ck_assert(!atomic_load(&third.over));
	revoke(&station, 1);
	assert_locked(&third, "m/3");
	assert_refused(&second, STATUS_SESSION_EXPIRED, "mutex: session is expired");
	station_close(&station);
}
END_TEST

START_TEST(a_lease_that_is_not_there_is_told_as_etcd_tells_it)
{
	struct station station;
	struct errand errand;

	station_open(&station, NULL);
	start_lock(&errand, &station, "m", 99, 0);
	assert_refused(&errand, STATUS_UNKNOWN, "etcdserver: requested lease not found");
	station_close(&station);
}
END_TEST

START_TEST(those_who_wait_are_let_go_when_the_server_stops_and_keep_their_place)
{
	struct errand holder, waiter;
	struct station station;
	char dir[sizeof station.dir];

	station_open(&station, NULL);
	station_grant(&station, 1, 600);
	station_grant(&station, 2, 600);
	start_lock(&holder, &station, "m", 1, 0);
	assert_locked(&holder, "m/1");
	start_lock(&waiter, &station, "m", 2, 0);
	await_keys(&station, 2);
	engine_drain(station.engine);
	assert_refused(&waiter, STATUS_STOPPED, "etcdserver: server stopped");
	memcpy(dir, station.dir, sizeof dir);
	station_close(&station);
	station_open(&station, dir);
	ck_assert_int_eq(count_keys(&station), 2);
	start_lock(&waiter, &station, "m", 2, 0);
	station_delete(&station, "m/1", NULL);
	assert_locked(&waiter, "m/2");
	station_close(&station);
}
END_TEST

static Pb__CampaignRequest *campaign_request(struct station *station, int64_t lease, const char *value)
{
	Pb__CampaignRequest *request = arena_alloc(&station->arena, sizeof *request);

	pb__campaign_request__init(request);
	request->name = make_bytes(&station->arena, "e");
	request->value = make_bytes(&station->arena, value);
	request->lease = lease;
	return request;
}

static int64_t assert_elected(struct errand *errand)
{
	struct call *call = errand_await(errand);
	int64_t revision;

	ck_assert_msg(call->status.code == STATUS_OK, "%s", status_text(&call->status));
	revision = ((const Pb__CampaignResponse *)call->response)->leader->rev;
	call_free(call);
	return revision;
}

START_TEST(an_observer_hears_of_every_leader_and_what_he_proclaims)
{
	Pb__LeaderRequest observe = PB__LEADER_REQUEST__INIT;
	Pb__ProclaimRequest proclaim = PB__PROCLAIM_REQUEST__INIT;
	Pb__LeaderKey leader = PB__LEADER_KEY__INIT;
	struct errand first, second;
	struct station station;
	struct tape tape;
	struct call *call;

	station_open(&station, NULL);
	station_grant(&station, 1, 600);
	station_grant(&station, 2, 600);
	observe.name = make_bytes(&station.arena, "e");
	tape_open(&tape, &station, "Election", "Observe");
	tape_send(&tape, &observe.base);
	ck_assert(tape_is_silent(&tape));
	errand_start(&first, &station, "Election", "Campaign", &campaign_request(&station, 1, "A")->base, 0);
	leader.rev = assert_elected(&first);
	ck_assert_str_eq(tape_next(&tape), "{\"header\":{\"revision\":\"2\"},\"kv\":{\"key\":\"ZS8x\",\"create_revision\":\"2\","
	                                   "\"mod_revision\":\"2\",\"version\":\"1\",\"value\":\"QQ==\",\"lease\":\"1\"}}");
	leader.name = make_bytes(&station.arena, "e");
	leader.key = make_bytes(&station.arena, "e/1");
	leader.lease = 1;
	proclaim.leader = &leader;
	proclaim.value = make_bytes(&station.arena, "B");
	call = station_call(&station, "Election", "Proclaim", &proclaim.base);
	ck_assert_int_eq(call->status.code, STATUS_OK);
	call_free(call);
	ck_assert_ptr_nonnull(strstr(tape_next(&tape), "\"value\":\"Qg==\""));
	errand_start(&second, &station, "Election", "Campaign", &campaign_request(&station, 2, "C")->base, 0);
	await_keys(&station, 2);
	ck_assert(!atomic_load(&second.over));
	revoke(&station, 1);
	assert_elected(&second);
	ck_assert_ptr_nonnull(strstr(tape_next(&tape), "\"key\":\"ZS8y\""));
	ck_assert(tape_is_silent(&tape));
	call = station_call(&station, "Election", "Proclaim", &proclaim.base);
	ck_assert_int_eq(call->status.code, STATUS_NOT_LEADER);
	call_free(call);
	tape_close(&tape);
	station_close(&station);
}
END_TEST

START_TEST(an_observer_may_leave_at_any_time)
{
	Pb__LeaderRequest observe = PB__LEADER_REQUEST__INIT;
	struct station station;
	struct tape tape;

	station_open(&station, NULL);
	observe.name = make_bytes(&station.arena, "e");
	for (int i = 0; i < 20; i++) {
		tape_open(&tape, &station, "Election", "Observe");
		tape_send(&tape, &observe.base);
		for (int turns = 0; turns < i % 3; turns++)
			station_turn(&station);
		tape_close(&tape);
	}
	station_close(&station);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("locks");
	TCase *tcase = tcase_create("locks");

	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, a_lock_is_held_by_one_and_passed_on_in_the_order_of_asking);
	tcase_add_test(tcase, a_lock_asked_for_again_by_its_holder_is_granted);
	tcase_add_test(tcase, one_who_goes_away_leaves_no_key);
	tcase_add_test(tcase, a_second_call_that_is_given_up_does_not_give_the_lock_back);
	tcase_add_test(tcase, a_call_that_is_given_up_leaves_the_key_to_a_newer_one);
	tcase_add_test(tcase, a_call_that_times_out_leaves_no_key_that_appears_later);
	tcase_add_test(tcase, one_whose_time_is_up_leaves_no_key);
	tcase_add_test(tcase, a_lock_ends_with_its_lease_and_so_does_a_place_in_the_queue);
	tcase_add_test(tcase, a_lease_that_is_not_there_is_told_as_etcd_tells_it);
	tcase_add_test(tcase, those_who_wait_are_let_go_when_the_server_stops_and_keep_their_place);
	tcase_add_test(tcase, an_observer_hears_of_every_leader_and_what_he_proclaims);
	tcase_add_test(tcase, an_observer_may_leave_at_any_time);
	suite_add_tcase(suite, tcase);
	return suite;
}

int main(void)
{
	return test_run(make_suite());
}
