/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/autocompact.h"

#include "lib/test.h"

#define SECOND_MS INT64_C(1000)
#define MINUTE_MS (60 * SECOND_MS)
#define HOUR_MS (60 * MINUTE_MS)
#define DAY_MS (24 * HOUR_MS)

static const int64_t START_MS = 123456789; /* a monotonic clock starts anywhere */

/* A plan that is ticked through time; the newest revision is the minutes passed
 * and one, unless it is held. */
struct run {
	struct autocompact plan;
	int64_t now_ms;
	int64_t held; /* the revision that nothing changes any more; 0: none */
};

static int64_t revision_at(int64_t ms)
{
	return 1 + ms / MINUTE_MS;
}

static void start(struct run *run, enum config_compaction mode, int64_t retention)
{
	*run = (struct run){0};
	autocompact_init(&run->plan, mode, retention, START_MS, 1);
}

/* Goes on until the plan wants a compaction, at most to 'until'; the revision,
 * or 0. run->now_ms is when. */
static int64_t next(struct run *run, int64_t until_ms, int64_t step_ms)
{
	while (run->now_ms + step_ms <= until_ms) {
		int64_t newest, revision;

		run->now_ms += step_ms;
		newest = run->held > 0 ? run->held : revision_at(run->now_ms);
		revision = autocompact_tick(&run->plan, START_MS + run->now_ms, newest);
		if (revision > 0)
			return revision;
	}
	return 0;
}

START_TEST(off_never_compacts)
{
	struct run run;

	start(&run, COMPACTION_OFF, HOUR_MS);
	ck_assert_int_eq(next(&run, 30 * DAY_MS, MINUTE_MS), 0);
	/* So does a retention of nothing. */
	start(&run, COMPACTION_PERIODIC, 0);
	ck_assert_int_eq(next(&run, 30 * DAY_MS, MINUTE_MS), 0);
	start(&run, COMPACTION_REVISION, 0);
	ck_assert_int_eq(next(&run, 30 * DAY_MS, MINUTE_MS), 0);
}
END_TEST

START_TEST(an_hours_history_is_kept_for_an_hour)
{
	struct run run;

	start(&run, COMPACTION_PERIODIC, HOUR_MS);
	/* Nothing before a whole period has passed, then the revision of the start. */
	ck_assert_int_eq(next(&run, 3 * HOUR_MS, SECOND_MS), 1);
	ck_assert_int_eq(run.now_ms, HOUR_MS);
	/* Then once per hour what was newest an hour ago. */
	for (int64_t hour = 1; hour < 100; hour++) {
		ck_assert_int_eq(next(&run, DAY_MS * 30, SECOND_MS), revision_at(hour * HOUR_MS));
		ck_assert_int_eq(run.now_ms, (hour + 1) * HOUR_MS);
	}
}
END_TEST

START_TEST(a_days_history_is_cut_every_hour)
{
	struct run run;

	start(&run, COMPACTION_PERIODIC, DAY_MS);
	ck_assert_int_eq(next(&run, 3 * DAY_MS, SECOND_MS), 1);
	ck_assert_int_eq(run.now_ms, DAY_MS);
	for (int64_t hour = 1; hour < 50; hour++) {
		ck_assert_int_eq(next(&run, DAY_MS * 30, SECOND_MS), revision_at(hour * HOUR_MS));
		ck_assert_int_eq(run.now_ms, DAY_MS + hour * HOUR_MS);
	}
}
END_TEST

START_TEST(seconds_of_history_are_kept_for_seconds)
{
	struct run run;
	int64_t last_ms;

	start(&run, COMPACTION_PERIODIC, 5 * SECOND_MS);
	ck_assert_int_eq(next(&run, MINUTE_MS, 50), 1);
	ck_assert_int_eq(run.now_ms, 5 * SECOND_MS);
	/* A change comes due a period after it was made, give or take a sample. */
	last_ms = run.now_ms;
	ck_assert_int_eq(next(&run, 10 * MINUTE_MS, 50), 2);
	ck_assert_int_gt(run.now_ms, last_ms);
	ck_assert_int_ge(run.now_ms, MINUTE_MS + 5 * SECOND_MS);
	ck_assert_int_le(run.now_ms, MINUTE_MS + 6 * SECOND_MS);
}
END_TEST

/* Whatever the period: nothing younger than it is cut, and not much older is kept. */
static const int64_t PERIODS[] = {
	7 * MINUTE_MS, 59 * MINUTE_MS, 90 * MINUTE_MS, 7 * DAY_MS, 30 * DAY_MS, 365 * DAY_MS,
};

START_TEST(any_period_is_kept_and_little_more)
{
	int64_t period = PERIODS[_i], slack = HOUR_MS + period / 400;
	struct run run;

	start(&run, COMPACTION_PERIODIC, period);
	for (int i = 0; i < 40; i++) {
		int64_t revision = next(&run, period * 3 + 100 * DAY_MS, MINUTE_MS / 2);

		ck_assert_int_gt(revision, 0);
		ck_assert_int_le(revision, revision_at(run.now_ms - period));
		ck_assert_int_ge(revision, revision_at(run.now_ms - period - slack));
	}
}
END_TEST

START_TEST(a_store_at_rest_is_compacted_once)
{
	struct run run;

	start(&run, COMPACTION_PERIODIC, HOUR_MS);
	run.held = 77;
	ck_assert_int_eq(next(&run, DAY_MS, MINUTE_MS), 1);
	ck_assert_int_eq(next(&run, DAY_MS, MINUTE_MS), 77);
	ck_assert_int_eq(next(&run, 10 * DAY_MS, MINUTE_MS), 0);
	/* What is written after the rest is cut one period later, not two. */
	run.held = 78;
	ck_assert_int_eq(next(&run, 12 * DAY_MS, MINUTE_MS), 78);
	ck_assert_int_ge(run.now_ms, 10 * DAY_MS + HOUR_MS);
	ck_assert_int_le(run.now_ms, 10 * DAY_MS + HOUR_MS + 13 * MINUTE_MS);
}
END_TEST

START_TEST(a_pause_of_the_process_cuts_nothing_too_young)
{
	struct run run;
	int64_t revision;

	start(&run, COMPACTION_PERIODIC, HOUR_MS);
	ck_assert_int_eq(next(&run, DAY_MS, MINUTE_MS), 1);
	/* The machine slept for ten hours while others wrote. */
	run.now_ms += 10 * HOUR_MS;
	revision = next(&run, 2 * DAY_MS, MINUTE_MS);
	ck_assert_int_gt(revision, 1);
	ck_assert_int_le(revision, revision_at(run.now_ms - HOUR_MS));
}
END_TEST

START_TEST(a_number_of_revisions_is_kept)
{
	struct run run;

	start(&run, COMPACTION_REVISION, 100);
	/* Looked at every five minutes; the first time that there are more than that. */
	ck_assert_int_eq(next(&run, DAY_MS, SECOND_MS), revision_at(100 * MINUTE_MS) - 100);
	ck_assert_int_eq(run.now_ms, 100 * MINUTE_MS);
	for (int64_t i = 1; i < 20; i++) {
		ck_assert_int_eq(next(&run, DAY_MS, SECOND_MS), 1 + i * 5);
		ck_assert_int_eq(run.now_ms, 100 * MINUTE_MS + i * 5 * MINUTE_MS);
	}
	run.held = revision_at(run.now_ms);
	ck_assert_int_eq(next(&run, 10 * DAY_MS, SECOND_MS), 0);
	run.held++;
	ck_assert_int_eq(next(&run, 10 * DAY_MS + HOUR_MS, SECOND_MS), run.held - 100);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("autocompact");
	TCase *tcase = tcase_create("autocompact");

	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, off_never_compacts);
	tcase_add_test(tcase, an_hours_history_is_kept_for_an_hour);
	tcase_add_test(tcase, a_days_history_is_cut_every_hour);
	tcase_add_test(tcase, seconds_of_history_are_kept_for_seconds);
	tcase_add_loop_test(tcase, any_period_is_kept_and_little_more, 0,
	                    (int)(sizeof PERIODS / sizeof *PERIODS));
	tcase_add_test(tcase, a_store_at_rest_is_compacted_once);
	tcase_add_test(tcase, a_pause_of_the_process_cuts_nothing_too_young);
	tcase_add_test(tcase, a_number_of_revisions_is_kept);
	suite_add_tcase(suite, tcase);
	return suite;
}

int main(void)
{
	return test_run(make_suite());
}
