/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/places.h"

#include <stddef.h>
#include <stdlib.h>

#include "lib/test.h"

static struct places *new_places(void)
{
	struct places *places = calloc(1, sizeof *places);

	ck_assert_ptr_nonnull(places);
	return places;
}

/* Chain and hash tell the offset. */
static void add(struct places *places, int64_t offset)
{
	places_add(places, offset, (uint64_t)offset * 2, (uint64_t)offset * 3);
}

static void check_known(const struct places *places, int64_t offset)
{
	const struct place *place = places_find(places, offset);

	ck_assert_ptr_nonnull(place);
	ck_assert_uint_eq(place->chain, (uint64_t)offset * 2);
	ck_assert_uint_eq(place->hash, (uint64_t)offset * 3);
}

START_TEST(only_where_it_began_is_known_at_first)
{
	struct places *places = new_places();

	places_reset(places, 7, 14, 21);
	check_known(places, 7);
	ck_assert_ptr_null(places_find(places, 6));
	ck_assert_ptr_null(places_find(places, 8));
	ck_assert_ptr_null(places_find(places, 0));
	ck_assert_ptr_null(places_find(places, -1));
	ck_assert_ptr_null(places_find(places, 7 + PLACES_COUNT));
	free(places);
}
END_TEST

START_TEST(an_empty_state_is_a_place_too)
{
	struct places *places = new_places();

	places_reset(places, 0, 0, 0);
	check_known(places, 0);
	add(places, 1);
	check_known(places, 1);
	check_known(places, 0);
	free(places);
}
END_TEST

START_TEST(the_oldest_is_forgotten_when_there_is_no_room)
{
	const int64_t first = 1000, last = first + PLACES_COUNT + 5;
	struct places *places = new_places();

	places_reset(places, first, 2000, 3000);
	for (int64_t offset = first + 1; offset < first + PLACES_COUNT; offset++)
		add(places, offset);
	check_known(places, first);
	add(places, first + PLACES_COUNT);
	ck_assert_ptr_null(places_find(places, first));
	check_known(places, first + 1);
	for (int64_t offset = first + PLACES_COUNT + 1; offset <= last; offset++)
		add(places, offset);
	for (int64_t offset = last - PLACES_COUNT + 1; offset <= last; offset++)
		check_known(places, offset);
	ck_assert_ptr_null(places_find(places, last - PLACES_COUNT));
	ck_assert_ptr_null(places_find(places, last + 1));
	free(places);
}
END_TEST

/* A batch that is rolled back and taken again. */
START_TEST(what_is_added_again_replaces_all_that_came_after)
{
	struct places *places = new_places();

	places_reset(places, 1, 2, 3);
	for (int64_t offset = 2; offset <= 10; offset++)
		places_add(places, offset, 1, 1);
	add(places, 5);
	check_known(places, 5);
	ck_assert_ptr_null(places_find(places, 6));
	ck_assert_ptr_null(places_find(places, 10));
	add(places, 6);
	check_known(places, 6);
	check_known(places, 1);
	free(places);
}
END_TEST

START_TEST(a_reset_forgets_everything)
{
	struct places *places = new_places();

	places_reset(places, 1, 2, 3);
	for (int64_t offset = 2; offset <= 10; offset++)
		add(places, offset);
	places_reset(places, 5, 10, 15);
	check_known(places, 5);
	ck_assert_ptr_null(places_find(places, 4));
	ck_assert_ptr_null(places_find(places, 6));
	free(places);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("places");
	TCase *tcase = tcase_create("places");

	tcase_add_test(tcase, only_where_it_began_is_known_at_first);
	tcase_add_test(tcase, an_empty_state_is_a_place_too);
	tcase_add_test(tcase, the_oldest_is_forgotten_when_there_is_no_room);
	tcase_add_test(tcase, what_is_added_again_replaces_all_that_came_after);
	tcase_add_test(tcase, a_reset_forgets_everything);
	suite_add_tcase(suite, tcase);
	return suite;
}

int main(void)
{
	return test_run(make_suite());
}
