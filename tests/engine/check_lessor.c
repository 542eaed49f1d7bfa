/* SPDX-License-Identifier: Apache-2.0 */
/* The lessor with time passed in; at last against a plain model of itself. */
#include "engine/lessor.h"

#include <stdlib.h>
#include <string.h>

#include "lib/fixture.h"
#include "lib/prng.h"
#include "lib/test.h"

static const int64_t START_MS = 123456789; /* a monotonic clock starts anywhere */

enum { TICK_MS = 50, MOST = 64 };

struct clock {
	struct fixture fx;
	struct lessor *lessor;
	int64_t now_ms;
	int64_t ids[MOST], renewals[MOST], remaining[MOST];
};

static void start(struct clock *clock)
{
	fixture_open(&clock->fx);
	clock->now_ms = START_MS;
	ck_assert_int_eq(lessor_new(fixture_reader(&clock->fx), START_MS, &clock->lessor), STATUS_OK);
}

static void stop(struct clock *clock)
{
	lessor_free(clock->lessor);
	fixture_close(&clock->fx);
}

static void note(struct clock *clock, enum lease_deed deed, int64_t id, int64_t ttl_sec, int64_t renewal)
{
	struct lease_note note = {.deed = deed, .id = id, .ttl_sec = ttl_sec, .renewal = renewal};

	ck_assert_int_eq(lessor_note(clock->lessor, &note, 1, clock->now_ms), STATUS_OK);
}

static void pass(struct clock *clock, int64_t ms, bool held)
{
	for (; ms > 0; ms -= TICK_MS) {
		clock->now_ms += ms < TICK_MS ? ms : TICK_MS;
		lessor_tick(clock->lessor, clock->now_ms, held);
	}
}

static size_t take(struct clock *clock)
{
	return lessor_take_due(clock->lessor, MOST, clock->ids, clock->renewals);
}

static size_t take_unrecorded(struct clock *clock, bool all, size_t max)
{
	return lessor_take_unrecorded(clock->lessor, all, max, clock->ids, clock->renewals,
	                              clock->remaining);
}

/* What is left in milliseconds; -1 when there is no such lease. */
static int64_t left(struct clock *clock, int64_t id)
{
	int64_t ttl_sec, remaining_ms;

	return lessor_find(clock->lessor, id, &ttl_sec, &remaining_ms) ? remaining_ms : -1;
}

START_TEST(a_lease_is_due_when_its_time_is_over_and_not_before)
{
	struct clock clock;

	start(&clock);
	note(&clock, LEASE_GRANTED, 7, 2, 100);
	pass(&clock, 1999, false);
	ck_assert_uint_eq(take(&clock), 0);
	ck_assert_int_eq(left(&clock, 7), 1);
	pass(&clock, 1, false);
	ck_assert_uint_eq(take(&clock), 1);
	ck_assert_int_eq(clock.ids[0], 7);
	ck_assert_int_eq(clock.renewals[0], 100);
	ck_assert_int_eq(left(&clock, 7), 0);
	stop(&clock);
}
END_TEST

START_TEST(time_between_two_ticks_is_not_given_away)
{
	struct clock clock;

	start(&clock);
	clock.now_ms += 40; /* since the last tick */
	note(&clock, LEASE_GRANTED, 7, 2, 100);
	ck_assert_int_eq(left(&clock, 7), 2000);
	pass(&clock, 1999, false);
	ck_assert_uint_eq(take(&clock), 0);
	pass(&clock, 1, false);
	ck_assert_uint_eq(take(&clock), 1);
	stop(&clock);
}
END_TEST

START_TEST(a_renewal_gives_the_whole_time_again)
{
	struct clock clock;

	start(&clock);
	note(&clock, LEASE_GRANTED, 7, 2, 100);
	pass(&clock, 1500, false);
	note(&clock, LEASE_RENEWED, 7, 2, 101);
	pass(&clock, 1999, false);
	ck_assert_uint_eq(take(&clock), 0);
	pass(&clock, 1, false);
	ck_assert_uint_eq(take(&clock), 1);
	ck_assert_int_eq(clock.renewals[0], 101);
	stop(&clock);
}
END_TEST

START_TEST(a_lease_that_is_due_can_still_be_renewed)
{
	struct clock clock;

	start(&clock);
	note(&clock, LEASE_GRANTED, 7, 2, 100);
	pass(&clock, 2000, false);
	ck_assert_uint_eq(take(&clock), 1);
	note(&clock, LEASE_RENEWED, 7, 2, 101);
	ck_assert_int_eq(left(&clock, 7), 2000);
	pass(&clock, 1999, false);
	ck_assert_uint_eq(take(&clock), 0);
	stop(&clock);
}
END_TEST

START_TEST(a_lease_that_was_given_and_did_not_go_is_given_again_later)
{
	struct clock clock;

	start(&clock);
	note(&clock, LEASE_GRANTED, 7, 2, 100);
	pass(&clock, 2000, false);
	ck_assert_uint_eq(take(&clock), 1);
	pass(&clock, 1000, false);
	ck_assert_uint_eq(take(&clock), 0);
	pass(&clock, 1000, false);
	ck_assert_uint_eq(take(&clock), 1);
	note(&clock, LEASE_GONE, 7, 0, 0);
	pass(&clock, 10000, false);
	ck_assert_uint_eq(take(&clock), 0);
	ck_assert_int_eq(left(&clock, 7), -1);
	ck_assert_uint_eq(lessor_count(clock.lessor), 0);
	stop(&clock);
}
END_TEST

/* One of them may be why the record that was to end them all failed. */
START_TEST(what_is_given_again_is_given_alone)
{
	struct clock clock;

	start(&clock);
	for (int64_t id = 1; id <= 3; id++)
		note(&clock, LEASE_GRANTED, id, 2, 100);
	note(&clock, LEASE_GRANTED, 4, 4, 100);
	note(&clock, LEASE_GRANTED, 5, 4, 100);
	pass(&clock, 2000, false);
	ck_assert_uint_eq(take(&clock), 3);
	note(&clock, LEASE_RENEWED, 3, 2, 101); /* which makes it like new */
	pass(&clock, 2000, false);
	for (size_t taken = 0, count; taken < 5; taken += count) {
		count = take(&clock);
		ck_assert_uint_gt(count, 0);
		for (size_t i = 0; i < count; i++)
			ck_assert(count == 1 || clock.ids[i] > 2);
	}
	ck_assert_uint_eq(take(&clock), 0);
	stop(&clock);
}
END_TEST

START_TEST(time_stands_still_while_it_is_held)
{
	struct clock clock;

	start(&clock);
	note(&clock, LEASE_GRANTED, 7, 2, 100);
	pass(&clock, 1000, false);
	pass(&clock, 60000, true);
	ck_assert_int_eq(left(&clock, 7), 1000);
	pass(&clock, TICK_MS, false); /* the hold ended somewhere in here */
	ck_assert_int_eq(left(&clock, 7), 1000);
	pass(&clock, 1000, false);
	pass(&clock, TICK_MS, true);
	ck_assert_uint_eq(take(&clock), 0);
	pass(&clock, TICK_MS, false);
	ck_assert_uint_eq(take(&clock), 1);
	stop(&clock);
}
END_TEST

START_TEST(while_the_process_was_stopped_a_second_passes_at_most)
{
	struct clock clock;

	start(&clock);
	note(&clock, LEASE_GRANTED, 7, 10, 100);
	clock.now_ms += 3600 * 1000;
	note(&clock, LEASE_GRANTED, 8, 10, 101); /* before the first tick after it */
	lessor_tick(clock.lessor, clock.now_ms, false);
	ck_assert_int_eq(left(&clock, 7), 9000);
	ck_assert_int_eq(left(&clock, 8), 10000);
	stop(&clock);
}
END_TEST

START_TEST(a_clock_that_goes_back_changes_nothing)
{
	struct clock clock;

	start(&clock);
	note(&clock, LEASE_GRANTED, 7, 10, 100);
	lessor_tick(clock.lessor, clock.now_ms - 5000, false);
	ck_assert_int_eq(left(&clock, 7), 10000);
	stop(&clock);
}
END_TEST

START_TEST(notes_of_one_transaction_count_in_their_order)
{
	struct clock clock;
	struct lease_note notes[] = {
		{.deed = LEASE_GRANTED, .id = 7, .ttl_sec = 5, .renewal = 1},
		{.deed = LEASE_GONE, .id = 7},
		{.deed = LEASE_GRANTED, .id = 7, .ttl_sec = 9, .renewal = 3},
		{.deed = LEASE_GRANTED, .id = -8, .ttl_sec = 5, .renewal = 4},
		{.deed = LEASE_GONE, .id = -8},
		{.deed = LEASE_RENEWED, .id = -8, .ttl_sec = 5, .renewal = 6},
		{.deed = LEASE_GONE, .id = 9},
	};

	start(&clock);
	ck_assert_int_eq(lessor_note(clock.lessor, notes, sizeof notes / sizeof *notes, clock.now_ms),
	                 STATUS_OK);
	ck_assert_uint_eq(lessor_count(clock.lessor), 1);
	ck_assert_int_eq(left(&clock, 7), 9000);
	ck_assert_int_eq(left(&clock, -8), -1);
	stop(&clock);
}
END_TEST

START_TEST(the_list_is_in_the_order_of_expiry)
{
	static const int64_t WANTED[] = {-3, 30, 20, 10};
	struct clock clock;
	int64_t *ids;
	size_t count;

	start(&clock);
	ck_assert_int_eq(lessor_list(clock.lessor, &clock.fx.arena, &count, &ids), STATUS_OK);
	ck_assert_uint_eq(count, 0);
	note(&clock, LEASE_GRANTED, 10, 900, 1);
	note(&clock, LEASE_GRANTED, 30, 300, 2);
	note(&clock, LEASE_GRANTED, 20, 600, 3);
	note(&clock, LEASE_GRANTED, -3, 2, 4);
	pass(&clock, 5000, false);
	/* That one is to be looked at again later than others are due does not matter. */
	ck_assert_uint_eq(take(&clock), 1);
	ck_assert_int_eq(lessor_list(clock.lessor, &clock.fx.arena, &count, &ids), STATUS_OK);
	ck_assert_uint_eq(count, 4);
	ck_assert_mem_eq(ids, WANTED, sizeof WANTED);
	stop(&clock);
}
END_TEST

START_TEST(a_long_lease_is_recorded_after_a_tenth_of_it_and_a_minute)
{
	struct clock clock;

	start(&clock);
	note(&clock, LEASE_GRANTED, 7, 600, 100);
	pass(&clock, 119999, false);
	ck_assert_uint_eq(take_unrecorded(&clock, false, MOST), 0);
	pass(&clock, 1, false);
	ck_assert_uint_eq(take_unrecorded(&clock, false, MOST), 1);
	ck_assert_int_eq(clock.ids[0], 7);
	ck_assert_int_eq(clock.renewals[0], 100);
	ck_assert_int_eq(clock.remaining[0], 480);
	ck_assert_uint_eq(take_unrecorded(&clock, false, MOST), 0);
	/* The same again, from what was recorded. */
	pass(&clock, 119999, false);
	ck_assert_uint_eq(take_unrecorded(&clock, false, MOST), 0);
	pass(&clock, 1, false);
	ck_assert_uint_eq(take_unrecorded(&clock, false, MOST), 1);
	ck_assert_int_eq(clock.remaining[0], 360);
	/* A renewal takes the record back. */
	note(&clock, LEASE_RENEWED, 7, 600, 101);
	pass(&clock, 119000, false);
	ck_assert_uint_eq(take_unrecorded(&clock, false, MOST), 0);
	pass(&clock, 1000, false);
	ck_assert_uint_eq(take_unrecorded(&clock, false, MOST), 1);
	ck_assert_int_eq(clock.remaining[0], 480);
	ck_assert_int_eq(clock.renewals[0], 101);
	stop(&clock);
}
END_TEST

START_TEST(a_short_lease_is_not_worth_a_record)
{
	struct clock clock;

	start(&clock);
	note(&clock, LEASE_GRANTED, 7, 60, 100);
	pass(&clock, 59900, false);
	ck_assert_uint_eq(take_unrecorded(&clock, false, MOST), 0);
	stop(&clock);
}
END_TEST

START_TEST(before_a_stop_all_are_recorded_each_once)
{
	struct clock clock;
	bool seen[200] = {false};
	size_t count, sum = 0;

	start(&clock);
	for (int64_t id = 0; id < 200; id++)
		note(&clock, LEASE_GRANTED, id, id < 100 ? 10 : 1000, id);
	pass(&clock, 50, false);
	ck_assert_uint_eq(take_unrecorded(&clock, true, MOST), 0); /* rounded up, all is left */
	pass(&clock, 1450, false);
	while ((count = take_unrecorded(&clock, true, MOST)) > 0) {
		for (size_t i = 0; i < count; i++) {
			ck_assert(!seen[clock.ids[i]]);
			seen[clock.ids[i]] = true;
			ck_assert_int_eq(clock.remaining[i], clock.ids[i] < 100 ? 9 : 999);
			ck_assert_int_eq(clock.renewals[i], clock.ids[i]);
		}
		sum += count;
	}
	ck_assert_uint_eq(sum, 200);
	/* To have no time left is to be gone, which is not for a record like this to say. */
	pass(&clock, 20000, false);
	ck_assert_uint_eq(take_unrecorded(&clock, true, MOST), MOST);
	for (size_t i = 0; i < MOST; i++)
		ck_assert_int_ge(clock.remaining[i], 1);
	stop(&clock);
}
END_TEST

static void grant(struct fixture *fx, int64_t id, int64_t ttl_sec)
{
	Pb__LeaseGrantRequest request = PB__LEASE_GRANT_REQUEST__INIT;

	request.id = id;
	request.ttl = ttl_sec;
	fixture_run(fx, &request.base);
}

START_TEST(a_start_gives_each_what_was_recorded_or_its_full_time)
{
	Pb__LeaseCheckpointed left_over = PB__LEASE_CHECKPOINTED__INIT;
	int64_t id = 2, renewal, remaining = 30;
	struct fixture fx;
	struct clock clock = {.now_ms = START_MS};

	fixture_open(&fx);
	grant(&fx, 1, 100);
	grant(&fx, 2, 200);
	renewal = fx.offset;
	left_over.ids = &id;
	left_over.renewals = &renewal;
	left_over.remaining = &remaining;
	left_over.n_ids = left_over.n_renewals = left_over.n_remaining = 1;
	fixture_apply(&fx, &left_over.base);
	ck_assert_int_eq(lessor_new(&fx.st->view, START_MS, &clock.lessor), STATUS_OK);
	ck_assert_int_eq(left(&clock, 1), 100000);
	ck_assert_int_eq(left(&clock, 2), 30000);
	pass(&clock, 30000, false);
	ck_assert_uint_eq(take(&clock), 1);
	ck_assert_int_eq(clock.renewals[0], renewal);
	lessor_free(clock.lessor);
	fixture_close(&fx);
}
END_TEST

/* The same by looking at all leases each time. */
struct model {
	struct {
		bool exists, given;
		int64_t ttl_sec, renewal, due_ms, again_ms;
	} leases[1000];
	int64_t clock_ms;
};

static void model_note(struct model *model, int64_t id, enum lease_deed deed, int64_t ttl_sec,
                       int64_t renewal)
{
	if (deed == LEASE_RENEWED && !model->leases[id].exists)
		return;
	model->leases[id].exists = deed != LEASE_GONE;
	model->leases[id].given = false;
	model->leases[id].ttl_sec = ttl_sec;
	model->leases[id].renewal = renewal;
	model->leases[id].due_ms = model->leases[id].again_ms = model->clock_ms + ttl_sec * 1000;
}

static size_t model_due(const struct model *model)
{
	size_t count = 0;

	for (int64_t id = 0; id < 1000; id++)
		count += model->leases[id].exists && model->leases[id].again_ms <= model->clock_ms;
	return count;
}

static void compare_taken(const struct clock *clock, size_t count, struct model *model)
{
	for (size_t i = 0; i < count; i++) {
		int64_t id = clock->ids[i];

		ck_assert(model->leases[id].exists && model->leases[id].again_ms <= model->clock_ms);
		ck_assert_int_eq(clock->renewals[i], model->leases[id].renewal);
		ck_assert(count == 1 || !model->leases[id].given);
		model->leases[id].given = true;
		model->leases[id].again_ms = model->clock_ms + 2000;
	}
}

static void step_and_compare(struct clock *clock, struct model *model)
{
	size_t due, count;

	pass(clock, TICK_MS, false);
	model->clock_ms += TICK_MS;
	due = model_due(model);
	while ((count = take(clock)) > 0) {
		ck_assert_uint_le(count, due);
		due -= count;
		compare_taken(clock, count, model);
	}
	ck_assert_uint_eq(due, 0);
}

START_TEST(thousands_of_steps_agree_with_a_plain_model)
{
	static struct model model;
	struct prng prng;
	struct clock clock;

	prng_init(&prng, prng_seed("check_lessor"));
	start(&clock);
	for (int64_t i = 0; i < 200000; i++) {
		int64_t id = prng_below(&prng, 1000);
		int64_t ttl_sec = 2 + prng_below(&prng, 20);
		unsigned what = prng_below(&prng, 10);
		enum lease_deed deed = what < 3 ? LEASE_GRANTED : what < 8 ? LEASE_RENEWED : LEASE_GONE;

		note(&clock, deed, id, ttl_sec, i);
		model_note(&model, id, deed, ttl_sec, i);
		if (prng_below(&prng, 20) == 0)
			step_and_compare(&clock, &model);
	}
	for (int64_t id = 0; id < 1000; id++) {
		int64_t wanted = model.leases[id].due_ms - model.clock_ms;

		ck_assert_int_eq(left(&clock, id), !model.leases[id].exists ? -1 : wanted < 0 ? 0 : wanted);
	}
	stop(&clock);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("lessor");
	TCase *time = tcase_create("time"), *records = tcase_create("records"),
	      *model = tcase_create("model");

	tcase_add_test(time, a_lease_is_due_when_its_time_is_over_and_not_before);
	tcase_add_test(time, time_between_two_ticks_is_not_given_away);
	tcase_add_test(time, a_renewal_gives_the_whole_time_again);
	tcase_add_test(time, a_lease_that_is_due_can_still_be_renewed);
	tcase_add_test(time, a_lease_that_was_given_and_did_not_go_is_given_again_later);
	tcase_add_test(time, what_is_given_again_is_given_alone);
	tcase_add_test(time, time_stands_still_while_it_is_held);
	tcase_add_test(time, while_the_process_was_stopped_a_second_passes_at_most);
	tcase_add_test(time, a_clock_that_goes_back_changes_nothing);
	tcase_add_test(time, notes_of_one_transaction_count_in_their_order);
	tcase_add_test(time, the_list_is_in_the_order_of_expiry);
	tcase_add_test(records, a_long_lease_is_recorded_after_a_tenth_of_it_and_a_minute);
	tcase_add_test(records, a_short_lease_is_not_worth_a_record);
	tcase_add_test(records, before_a_stop_all_are_recorded_each_once);
	tcase_add_test(records, a_start_gives_each_what_was_recorded_or_its_full_time);
	tcase_add_test(model, thousands_of_steps_agree_with_a_plain_model);
	suite_add_tcase(suite, time);
	suite_add_tcase(suite, records);
	suite_add_tcase(suite, model);
	return suite;
}

int main(void)
{
	return test_run(make_suite());
}
