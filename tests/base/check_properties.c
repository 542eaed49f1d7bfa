/* SPDX-License-Identifier: Apache-2.0 */
#include "base/properties.h"

#include <string.h>

#include "base/buf.h"
#include "lib/test.h"

/* Collects "line:key=value;" for each entry, NUL shown as '0'. */
static enum status_code collect(void *arg, const struct property *property)
{
	struct buf *out = arg;

	ck_assert_int_eq(property->key[property->key_len], '\0');
	ck_assert_int_eq(property->value[property->value_len], '\0');
	buf_printf(out, "%zu:", property->line);
	buf_append(out, property->key, property->key_len);
	buf_append_byte(out, '=');
	buf_append(out, property->value, property->value_len);
	buf_append_byte(out, ';');
	for (size_t i = 0; i < out->len; i++)
		if (out->data[i] == '\0')
			out->data[i] = '0';
	return STATUS_OK;
}

/* Each answer but the line numbers is what Java 17's Properties.load gives. */
static const struct {
	const char *text;
	const char *entries;
} GOOD[] = {
	{"", ""},
	{"a=b", "1:a=b;"},
	{"\xef\xbb\xbf# x\na=b",
         "2:a=b;"}, /* a byte order mark, which Java would take for a part of a key */
	{"\xef\xbb\xbf", ""},
	{"a:b\nc d\r\ne\tf\rg", "1:a=b;2:c=d;3:e=f;4:g=;"},
	{"  a  =  b  \n", "1:a=b  ;"},
	{"a = = b", "1:a== b;"},
	{"a : = b", "1:a== b;"},
	{"a b = c", "1:a=b = c;"},
	{"\fa\f=\fb", "1:a=b;"},
	{"=b\n:c\n", "1:=b;2:=c;"},
	{"# x\n  ! y\n\n \t\na=#b\n", "5:a=#b;"},
	{"# not \\\na=b", "2:a=b;"},
	{"a=b\\\n   c\nd=e", "1:a=bc;3:d=e;"},
	{"a=b\\\r\n\tc\\\rd\ne=f", "1:a=bcd;4:e=f;"},
	{"a=b\\\n\nc=d", "1:a=b;3:c=d;"},
	{"a=b\\\n# c\n", "1:a=b# c;"},
	{"a\\\n = b", "1:a=b;"},
	{"a=b\\\\\nc=d", "1:a=b\\;2:c=d;"},
	{"a=b\\", "1:a=b;"},
	{"a=b\\\n", "1:a=b;"},
	{"a=b\\\n  ", "1:a=b;"},
	{"\\", "1:=;"},
	{"\\\n", "1:=;"},
	{"\\\r\n", ""},
	{"\\\n  ", ""},
	{"\\\n# c\na=b", "3:a=b;"},
	{"a\\=b\\:c\\ d = e", "1:a=b:c d=e;"},
	{"\\#a=\\!b", "1:#a=!b;"},
	{"a=\\t\\n\\r\\f\\q\\\"\\b", "1:a=\t\n\r\fq\"b;"},
	{"a\\\\=b", "1:a\\=b;"},
	{"\\u0061=\\u00e4\\u20AC", "1:a=\303\244\342\202\254;"},
	{"a=\\uD83D\\uDE00", "1:a=\360\237\230\200;"},
	{"a=\\uD83D\\\n  \\uDE00", "1:a=\360\237\230\200;"},
	{"a=\\u003d\\u0000", "1:a==0;"},
	{"a\\u0020b=c", "1:a b=c;"},
	{"\303\244=\360\237\230\200", "1:\303\244=\360\237\230\200;"},
	{"a=1\na=2", "1:a=1;2:a=2;"},
};

START_TEST(it_reads_what_java_reads)
{
	struct properties_error error = {0};
	struct buf out;

	buf_init(&out);
	ck_assert_int_eq(properties_parse(GOOD[_i].text, strlen(GOOD[_i].text), collect, &out, &error),
	                 STATUS_OK);
	buf_append_byte(&out, '\0');
	ck_assert_str_eq((char *)out.data, GOOD[_i].entries);
	buf_release(&out);
}
END_TEST

static const struct {
	const char *text;
	size_t line;
} BAD[] = {
	{"a=\\u12", 1},
	{"a=b\n\nc=\\u12g4", 3},
	{"\\u=1", 1},
	{"a=\\u+123", 1},
	{"a=\\\n\\u", 1},        /* the line where the entry starts */
	{"a=\\ud83d", 1},        /* half a pair */
	{"a=\\ude00\\ud83d", 1}, /* the wrong way round */
	{"a=\\ud83d\\u0041", 1},
	{"a=\\ud83d\\ude0", 1},
	{"a=b\r\n#\xff", 2},        /* comments too */
	{"a=b\rc=\xc0\x80", 2},     /* an overlong NUL */
	{"a=b\n\xed\xa0\xbd=1", 2}, /* a surrogate as such */
	{"a=\xf0\x9f\x98", 1},
};

START_TEST(it_refuses_with_the_line)
{
	struct properties_error error = {0};
	struct buf out;

	buf_init(&out);
	ck_assert_int_eq(properties_parse(BAD[_i].text, strlen(BAD[_i].text), collect, &out, &error),
	                 STATUS_BAD_CONFIG);
	ck_assert_uint_eq(error.line, BAD[_i].line);
	ck_assert_ptr_nonnull(error.text);
	buf_release(&out);
}
END_TEST

START_TEST(a_nul_is_a_character)
{
	struct properties_error error = {0};
	struct buf out;

	buf_init(&out);
	ck_assert_int_eq(properties_parse("a\0b=\0", 5, collect, &out, &error), STATUS_OK);
	buf_append_byte(&out, '\0');
	ck_assert_str_eq((char *)out.data, "1:a0b=0;");
	buf_release(&out);
}
END_TEST

static enum status_code stop_at_second(void *arg, const struct property *property)
{
	int *calls = arg;

	++*calls;
	return property->line == 2 ? STATUS_CANCELED : STATUS_OK;
}

START_TEST(the_function_can_stop_the_reading)
{
	struct properties_error error = {0};
	int calls = 0;

	ck_assert_int_eq(properties_parse("a\nb\nc\n", 6, stop_at_second, &calls, &error), STATUS_CANCELED);
	ck_assert_int_eq(calls, 2);
	ck_assert_uint_eq(error.line, 0);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("properties");
	TCase *tcase = tcase_create("properties");

	tcase_add_loop_test(tcase, it_reads_what_java_reads, 0, sizeof GOOD / sizeof *GOOD);
	tcase_add_loop_test(tcase, it_refuses_with_the_line, 0, sizeof BAD / sizeof *BAD);
	tcase_add_test(tcase, a_nul_is_a_character);
	tcase_add_test(tcase, the_function_can_stop_the_reading);
	suite_add_tcase(suite, tcase);
	return suite;
}

int main(void)
{
	return test_run(make_suite());
}
