/* SPDX-License-Identifier: Apache-2.0 */
#include "base/utf8.h"

#include <string.h>

#include "lib/test.h"

/* Edges of each length, and what lies beyond them (RFC 3629, section 4). */
static const char *const GOOD[] = {
	"",
	"a",
	"\x7f",
	"\xc2\x80",
	"\xdf\xbf",
	"\xe0\xa0\x80",
	"\xed\x9f\xbf",
	"\xee\x80\x80",
	"\xef\xbf\xbf",
	"\xf0\x90\x80\x80",
	"\xf4\x8f\xbf\xbf",
	"a\xc3\xa9z",
};

static const char *const BAD[] = {
	"\x80",
	"\xbf",
	"\xc0\x80",
	"\xc1\xbf",
	"\xc2",
	"\xc2\x41",
	"\xc2\xc2",
	"\xe0\x9f\xbf",
	"\xe0\xa0",
	"\xe0\xa0\x41",
	"\xed\xa0\x80",
	"\xed\xbf\xbf",
	"\xf0\x8f\xbf\xbf",
	"\xf0\x90\x80",
	"\xf0\x90\x80\x41",
	"\xf4\x90\x80\x80",
	"\xf5\x80\x80\x80",
	"\xfe",
	"\xff",
	"a\xc3",
};

START_TEST(good_text_is_valid)
{
	ck_assert(utf8_is_valid((const uint8_t *)GOOD[_i], strlen(GOOD[_i])));
}
END_TEST

START_TEST(bad_text_is_not)
{
	ck_assert(!utf8_is_valid((const uint8_t *)BAD[_i], strlen(BAD[_i])));
}
END_TEST

START_TEST(nul_is_a_character)
{
	ck_assert(utf8_is_valid((const uint8_t *)"a\0b", 3));
}
END_TEST

START_TEST(sequences_tell_their_length)
{
	ck_assert_uint_eq(utf8_sequence((const uint8_t *)"az", 2), 1);
	ck_assert_uint_eq(utf8_sequence((const uint8_t *)"\xc3\xa9z", 3), 2);
	ck_assert_uint_eq(utf8_sequence((const uint8_t *)"\xe2\x82\xacz", 4), 3);
	ck_assert_uint_eq(utf8_sequence((const uint8_t *)"\xf0\x9f\x98\x80z", 5), 4);
	ck_assert_uint_eq(utf8_sequence((const uint8_t *)"\xf0\x9f\x98\x80", 3), 0);
	ck_assert_uint_eq(utf8_sequence((const uint8_t *)"", 0), 0);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("utf8");
	TCase *tcase = tcase_create("utf8");

	tcase_add_loop_test(tcase, good_text_is_valid, 0, sizeof GOOD / sizeof GOOD[0]);
	tcase_add_loop_test(tcase, bad_text_is_not, 0, sizeof BAD / sizeof BAD[0]);
	tcase_add_test(tcase, nul_is_a_character);
	tcase_add_test(tcase, sequences_tell_their_length);
	suite_add_tcase(suite, tcase);
	return suite;
}

int main(void)
{
	return test_run(make_suite());
}
