/* SPDX-License-Identifier: Apache-2.0 */
#include "base/arena.h"

#include <stdalign.h>
#include <string.h>

#include "lib/test.h"

START_TEST(objects_are_aligned_and_apart)
{
	struct arena arena;
	uint8_t *one, *two;

	arena_init(&arena, 1 << 20, NULL, 0);
	one = arena_alloc(&arena, 3);
	two = arena_alloc(&arena, 5);
	ck_assert_ptr_nonnull(one);
	ck_assert_ptr_nonnull(two);
	ck_assert_uint_eq((uintptr_t)one % 16, 0);
	memset(one, 1, 3);
	memset(two, 2, 5);
	ck_assert_uint_eq(one[2], 1);
	arena_release(&arena);
}
END_TEST

START_TEST(the_cap_refuses_and_reset_starts_over)
{
	struct arena arena;

	arena_init(&arena, 100, NULL, 0);
	ck_assert_ptr_nonnull(arena_alloc(&arena, 64));
	ck_assert_ptr_null(arena_alloc(&arena, 64));
	ck_assert_ptr_null(arena_alloc(&arena, SIZE_MAX));
	ck_assert_ptr_null(arena_calloc(&arena, SIZE_MAX / 2, 4));
	arena_reset(&arena);
	ck_assert_ptr_nonnull(arena_alloc(&arena, 64));
	arena_release(&arena);
}
END_TEST

START_TEST(a_lent_block_is_used_first)
{
	alignas(16) uint8_t block[64];
	struct arena arena;

	arena_init(&arena, 1 << 20, block, sizeof block);
#ifndef ARENA_OBJECTS
	ck_assert_ptr_eq(arena_alloc(&arena, 32), block);
#endif
	ck_assert_ptr_nonnull(arena_alloc(&arena, 4096));
	arena_reset(&arena);
	ck_assert_ptr_nonnull(arena_alloc(&arena, 32));
	arena_release(&arena);
}
END_TEST

START_TEST(texts_are_made_in_the_arena)
{
	struct arena arena;

	arena_init(&arena, 1 << 20, NULL, 0);
	ck_assert_str_eq(arena_printf(&arena, "%d-%s", 7, "x"), "7-x");
	ck_assert_str_eq(arena_strdup(&arena, "abc"), "abc");
	arena_release(&arena);
}
END_TEST

START_TEST(a_rewind_frees_what_came_after_its_mark)
{
	alignas(16) uint8_t block[64];
	struct arena arena;
	struct arena_mark mark;
	char *kept;

	arena_init(&arena, 1 << 20, block, sizeof block);
	for (int i = 0; i < 3; i++) {
		size_t used;

		kept = arena_strdup(&arena, "kept");
		mark = arena_mark(&arena);
		used = arena.used_bytes;
		/* More than the cap in all: each time it must be given back. */
		for (int j = 0; j < 3; j++) {
			ck_assert_ptr_nonnull(arena_alloc(&arena, 100));
			ck_assert_ptr_nonnull(arena_alloc(&arena, 1000000));
			arena_rewind(&arena, &mark);
			ck_assert_uint_eq(arena.used_bytes, used);
		}
		ck_assert_str_eq(kept, "kept");
		ck_assert_ptr_nonnull(arena_alloc(&arena, 5000));
	}
	arena_release(&arena);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("arena");
	TCase *tcase = tcase_create("arena");

	tcase_add_test(tcase, objects_are_aligned_and_apart);
	tcase_add_test(tcase, the_cap_refuses_and_reset_starts_over);
	tcase_add_test(tcase, a_lent_block_is_used_first);
	tcase_add_test(tcase, a_rewind_frees_what_came_after_its_mark);
	tcase_add_test(tcase, texts_are_made_in_the_arena);
	suite_add_tcase(suite, tcase);
	return suite;
}

int main(void)
{
	return test_run(make_suite());
}
