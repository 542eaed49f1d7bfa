/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"

#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "lib/test.h"

static struct buf buf;

static void set_up(void)
{
	buf_init(&buf);
}

static void tear_down(void)
{
	buf_release(&buf);
}

static const char *text(void)
{
	buf_append_byte(&buf, 0);
	ck_assert(!buf.failed);
	return (const char *)buf.data;
}

START_TEST(appends_follow_each_other)
{
	buf_append(&buf, "ab", 2);
	buf_append(&buf, NULL, 0);
	buf_append_byte(&buf, 'c');
	buf_append_text(&buf, "de");
	buf_printf(&buf, "-%d-%s", 7, "x");
	ck_assert_str_eq(text(), "abcde-7-x");
}
END_TEST

START_TEST(it_grows_and_keeps_what_it_has)
{
	for (int i = 0; i < 100000; i++)
		buf_append_byte(&buf, (uint8_t)i);
	ck_assert_uint_eq(buf.len, 100000);
	for (size_t i = 0; i < buf.len; i++)
		ck_assert_uint_eq(buf.data[i], (uint8_t)i);
}
END_TEST

START_TEST(reset_keeps_the_memory)
{
	buf_append_text(&buf, "abc");
	uint8_t *data = buf.data;

	buf_reset(&buf);
	ck_assert_uint_eq(buf.len, 0);
	buf_append_text(&buf, "x");
	ck_assert_ptr_eq(buf.data, data);
}
END_TEST

START_TEST(detach_hands_the_bytes_out)
{
	uint8_t *data;

	ck_assert_ptr_null(buf_detach(&buf));
	buf_append_text(&buf, "abc");
	buf.failed = true;
	ck_assert_ptr_null(buf_detach(&buf));
	buf_append_text(&buf, "abc");
	data = buf_detach(&buf);
	ck_assert_mem_eq(data, "abc", 3);
	ck_assert_ptr_null(buf.data);
	ck_assert_uint_eq(buf.len, 0);
	free(data);
}
END_TEST

START_TEST(a_failed_buffer_stays_failed_until_reset)
{
	buf_append_text(&buf, "abc");
	buf.failed = true; /* as it is when memory ran out */
	ck_assert_ptr_null(buf_reserve(&buf, 1));
	buf_append_text(&buf, "d");
	ck_assert_uint_eq(buf.len, 3);
	buf_reset(&buf);
	buf_append_text(&buf, "e");
	ck_assert_str_eq(text(), "e");
}
END_TEST

START_TEST(integers_are_exact_at_their_limits)
{
	buf_append_i64(&buf, 0);
	buf_append_byte(&buf, ' ');
	buf_append_i64(&buf, -1);
	buf_append_byte(&buf, ' ');
	buf_append_i64(&buf, INT64_MAX);
	buf_append_byte(&buf, ' ');
	buf_append_i64(&buf, INT64_MIN);
	buf_append_byte(&buf, ' ');
	buf_append_u64(&buf, UINT64_MAX);
	ck_assert_str_eq(text(), "0 -1 9223372036854775807 -9223372036854775808 18446744073709551615");
}
END_TEST

/* The test vectors of RFC 4648, section 10. */
static const char *const BASE64[][2] = {
	{"", ""},
	{"f", "Zg=="},
	{"fo", "Zm8="},
	{"foo", "Zm9v"},
	{"foob", "Zm9vYg=="},
	{"fooba", "Zm9vYmE="},
	{"foobar", "Zm9vYmFy"},
	{"\xfb\xff", "+/8="},
};

START_TEST(base64_is_that_of_the_rfc)
{
	uint8_t bytes[BASE64_DECODED_MAX(8)];
	size_t count;

	buf_append_base64(&buf, BASE64[_i][0], strlen(BASE64[_i][0]));
	ck_assert_str_eq(text(), BASE64[_i][1]);
	ck_assert_ptr_null(base64_decode(BASE64[_i][1], strlen(BASE64[_i][1]), bytes, &count));
	ck_assert_uint_eq(count, strlen(BASE64[_i][0]));
	ck_assert_mem_eq(bytes, BASE64[_i][0], count);
}
END_TEST

START_TEST(base64_of_all_lengths_comes_back)
{
	uint8_t bytes[256], again[BASE64_DECODED_MAX(352)];
	size_t count;

	for (size_t i = 0; i < sizeof bytes; i++)
		bytes[i] = (uint8_t)(i * 167);
	for (size_t len = 0; len <= sizeof bytes; len++) {
		buf_reset(&buf);
		buf_append_base64(&buf, bytes, len);
		for (int padded = 1; padded >= 0; padded--) {
			ck_assert_ptr_null(base64_decode((char *)buf.data, buf.len, again, &count));
			ck_assert_uint_eq(count, len);
			ck_assert_mem_eq(again, bytes, len);
			while (buf.len > 0 && buf.data[buf.len - 1] == '=')
				buf.len--;
		}
	}
}
END_TEST

START_TEST(json_strings_are_escaped)
{
	static const char ODD[] = "a\"b\\c\n\r\t\x01\x1f\x7f/<>&\xc3\xa9\xf0\x9f\x98\x80\xff\xc3";

	buf_append_json(&buf, ODD, sizeof ODD - 1);
	buf_append_json(&buf, "", 0);
	buf_append_json(&buf, "\0", 1);
	ck_assert_str_eq(text(), "\"a\\\"b\\\\c\\n\\r\\t\\u0001\\u001f\x7f/<>&\xc3\xa9\xf0\x9f\x98\x80"
	                         "\xef\xbf\xbd\xef\xbf\xbd\"\"\"\"\\u0000\"");
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("buf");
	TCase *tcase = tcase_create("buf");

	tcase_add_checked_fixture(tcase, set_up, tear_down);
	tcase_add_test(tcase, appends_follow_each_other);
	tcase_add_test(tcase, it_grows_and_keeps_what_it_has);
	tcase_add_test(tcase, reset_keeps_the_memory);
	tcase_add_test(tcase, detach_hands_the_bytes_out);
	tcase_add_test(tcase, a_failed_buffer_stays_failed_until_reset);
	tcase_add_test(tcase, integers_are_exact_at_their_limits);
	tcase_add_loop_test(tcase, base64_is_that_of_the_rfc, 0, sizeof BASE64 / sizeof BASE64[0]);
	tcase_add_test(tcase, base64_of_all_lengths_comes_back);
	tcase_add_test(tcase, json_strings_are_escaped);
	suite_add_tcase(suite, tcase);
	return suite;
}

int main(void)
{
	return test_run(make_suite());
}
