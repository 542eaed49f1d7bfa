/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/internal.h"
#include "lib/test.h"

enum { OFFSET = 40 };

static struct votes *begin(uint64_t hash)
{
	struct votes *votes = NULL;

	ck_assert_int_eq(votes_new(&votes), STATUS_OK);
	votes_begin(votes, OFFSET, hash);
	return votes;
}

static void note(struct votes *votes, uint64_t member, int64_t offset, uint64_t hash)
{
	struct vote vote = {member, offset, hash};

	votes_note(votes, &vote);
}

static struct tally tally(struct votes *votes)
{
	struct tally out;

	votes_tally(votes, &out);
	return out;
}

START_TEST(before_anybody_was_asked_there_is_nothing)
{
	struct votes *votes = NULL;

	ck_assert_int_eq(votes_new(&votes), STATUS_OK);
	ck_assert_uint_eq(tally(votes).votes, 0);
	ck_assert_uint_eq(tally(votes).agree, 0);
	ck_assert(!tally(votes).decided);
	note(votes, 1, OFFSET, 5);
	ck_assert_uint_eq(tally(votes).votes, 0);
	votes_free(votes);
	votes_free(NULL);
}
END_TEST

START_TEST(the_leader_has_voted_by_asking)
{
	struct votes *votes = begin(5);

	ck_assert_int_eq(tally(votes).offset, OFFSET);
	ck_assert_uint_eq(tally(votes).votes, 1);
	ck_assert_uint_eq(tally(votes).agree, 1);
	ck_assert(tally(votes).decided);
	ck_assert_uint_eq(tally(votes).hash, 5);
	votes_free(votes);
}
END_TEST

START_TEST(each_member_has_one_vote)
{
	struct votes *votes = begin(5);

	note(votes, 1, OFFSET, 5);
	note(votes, 1, OFFSET, 5);
	note(votes, 1, OFFSET, 6);
	ck_assert_uint_eq(tally(votes).votes, 2);
	ck_assert_uint_eq(tally(votes).agree, 2);
	note(votes, 2, OFFSET, 5);
	ck_assert_uint_eq(tally(votes).votes, 3);
	votes_free(votes);
}
END_TEST

START_TEST(votes_on_another_offset_do_not_count)
{
	struct votes *votes = begin(5);

	note(votes, 1, OFFSET - 1, 5);
	note(votes, 2, OFFSET + 1, 5);
	note(votes, 3, 0, 5);
	ck_assert_uint_eq(tally(votes).votes, 1);
	votes_free(votes);
}
END_TEST

START_TEST(asking_again_begins_anew)
{
	struct votes *votes = begin(5);

	note(votes, 1, OFFSET, 6);
	votes_begin(votes, OFFSET + 9, 7);
	ck_assert_int_eq(tally(votes).offset, OFFSET + 9);
	ck_assert_uint_eq(tally(votes).votes, 1);
	ck_assert_uint_eq(tally(votes).hash, 7);
	note(votes, 1, OFFSET, 6); /* late */
	note(votes, 1, OFFSET + 9, 7);
	ck_assert_uint_eq(tally(votes).agree, 2);
	votes_free(votes);
}
END_TEST

/* What 'others' have, beside the leader, whose hash is 1. */
static const struct {
	uint64_t others[4]; /* 0: no vote */
	bool decided;
	uint64_t hash;
	size_t agree;
} RESULTS[] = {
	{{1}, true, 1, 2},           {{2}, false, 0, 1},       /* one against one */
	{{1, 2}, true, 1, 2},        {{2, 2}, true, 2, 1},     /* the leader is in the minority */
	{{2, 3}, false, 0, 1},       {{1, 2, 2}, false, 0, 2}, /* half is not most */
	{{2, 2, 2}, true, 2, 1},     {{1, 1, 2, 3}, true, 1, 3},
	{{1, 2, 2, 3}, false, 0, 2}, {{2, 2, 2, 3}, true, 2, 1},
};

START_TEST(more_than_half_decide)
{
	struct votes *votes = begin(1);
	struct tally result;

	for (uint64_t i = 0; i < 4 && RESULTS[_i].others[i] != 0; i++)
		note(votes, i + 1, OFFSET, RESULTS[_i].others[i]);
	result = tally(votes);
	ck_assert_int_eq(result.decided, RESULTS[_i].decided);
	ck_assert_uint_eq(result.agree, RESULTS[_i].agree);
	if (result.decided)
		ck_assert_uint_eq(result.hash, RESULTS[_i].hash);
	votes_free(votes);
}
END_TEST

START_TEST(there_is_room_for_all_members)
{
	struct votes *votes = begin(5);

	for (uint64_t member = 1; member <= STORE_MEMBERS_MAX + 10; member++)
		note(votes, member, OFFSET, 5);
	ck_assert_uint_eq(tally(votes).votes, STORE_MEMBERS_MAX);
	votes_free(votes);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("votes");
	TCase *tcase = tcase_create("votes");

	tcase_add_test(tcase, before_anybody_was_asked_there_is_nothing);
	tcase_add_test(tcase, the_leader_has_voted_by_asking);
	tcase_add_test(tcase, each_member_has_one_vote);
	tcase_add_test(tcase, votes_on_another_offset_do_not_count);
	tcase_add_test(tcase, asking_again_begins_anew);
	tcase_add_loop_test(tcase, more_than_half_decide, 0, sizeof RESULTS / sizeof *RESULTS);
	tcase_add_test(tcase, there_is_room_for_all_members);
	suite_add_tcase(suite, tcase);
	return suite;
}

int main(void)
{
	return test_run(make_suite());
}
