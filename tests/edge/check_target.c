/* SPDX-License-Identifier: Apache-2.0 */
#include "edge/target.h"

#include <string.h>

#include "lib/test.h"

/* path: NULL when the target is refused */
struct example {
	const char *raw;
	const char *path;
	const char *query;
	const char *location;
};

static const struct example EXAMPLES[] = {
	{"/", "/", "", NULL},
	{"/v3/kv/range", "/v3/kv/range", "", NULL},
	{"/v3/kv/range/", "/v3/kv/range/", "", NULL},
	{"/v3/kv/range?x=1", "/v3/kv/range", "x=1", NULL},
	{"/v3/kv/range?", "/v3/kv/range", "", NULL},
	{"/v3/kv/range??a", "/v3/kv/range", "?a", NULL},
	{"/v3/kv/range?%zz", "/v3/kv/range", "%zz", NULL},
	{"/v3/kv/range#x", "/v3/kv/range#x", "", NULL},
	{"/v3/kv/range;x", "/v3/kv/range;x", "", NULL},
	/* cleaned */
	{"/v3//kv/range", "/v3/kv/range", "", "/v3/kv/range"},
	{"//v3/kv/range", "/v3/kv/range", "", "/v3/kv/range"},
	{"/v3//kv/range?x=1&y=%zz", "/v3/kv/range", "x=1&y=%zz", "/v3/kv/range?x=1&y=%zz"},
	{"/v3/kv/../kv/range", "/v3/kv/range", "", "/v3/kv/range"},
	{"/v3/kv/./range", "/v3/kv/range", "", "/v3/kv/range"},
	{"/v3/kv/range/.", "/v3/kv/range", "", "/v3/kv/range"},
	{"/v3/kv/range/..", "/v3/kv", "", "/v3/kv"},
	{"/v3/kv/range//", "/v3/kv/range/", "", "/v3/kv/range/"},
	{"/v3/kv/x/../", "/v3/kv/", "", "/v3/kv/"},
	{"/..", "/", "", "/"},
	{"/../../x", "/x", "", "/x"},
	{"//", "/", "", "/"},
	{"/v3", "/v3/", "", "/v3/"},
	{"/v3?a=b", "/v3/", "a=b", "/v3/?a=b"},
	{"/v3/.", "/v3/", "", "/v3/"},
	{"/v3/", "/v3/", "", NULL},
	{"/.../x", "/.../x", "", NULL},
	{"/v3//a:b", "/v3/a:b", "", "/v3/a:b"},
	{"//evil.example/x", "/evil.example/x", "", "/evil.example/x"},
	{"/a//b<c>\"d\xe9", "/a/b<c>\"d\xe9", "", "/a/b%3Cc%3E%22d%E9"},
	{"/v3//kv/%72ange", "/v3/kv/range", "", "/v3/kv/%72ange"},
	/* decoded after that */
	{"/v3/kv/r%61nge", "/v3/kv/range", "", NULL},
	{"/v3/kv%2Frange", "/v3/kv/range", "", NULL},
	{"/v3/kv%2frange", "/v3/kv/range", "", NULL},
	{"/%763/kv/range", "/v3/kv/range", "", NULL},
	{"/v3/%2e%2e/x", "/v3/../x", "", NULL},
	{"/v3%2Fkv/range", "/v3%2Fkv/range", "", NULL},
	{"/health%2F", "/health%2F", "", NULL},
	{"/livez%2fserializable_read", "/livez%2fserializable_read", "", NULL},
	{"/%68ealth", "/health", "", NULL},
	{"/v3/kv/%zz", NULL, NULL, NULL},
	{"/v3/kv/%2", NULL, NULL, NULL},
	{"/v3/kv/%", NULL, NULL, NULL},
	{"/v3/kv//%zz", NULL, NULL, NULL},
	/* the older name */
	{"/v3beta/kv/range", "/v3/kv/range", "", NULL},
	{"/v3beta/", "/v3/", "", NULL},
	{"/v3beta", "/v3beta", "", NULL},
	{"/v3beta//kv/range?q", "/v3/kv/range", "q", "/v3/kv/range?q"},
	{"/v3beta/v3beta/kv/range", "/v3/v3beta/kv/range", "", NULL},
	{"/%76%33beta/kv/range", "/v3/kv/range", "", NULL},
	{"/v3beta%2Fkv/range", "/v3/kv/range", "", NULL},
	{"/v3alpha/kv/range", "/v3alpha/kv/range", "", NULL},
	/* absolute */
	{"http://y/v3/kv/range?x", "/v3/kv/range", "x", NULL},
	{"http://y", "/", "", "/"},
	{"http://y?x", "/", "x", "/?x"},
	{"HTTP://y:1//x", "/x", "", "/x"},
	/* neither */
	{"", NULL, NULL, NULL},
	{"*", NULL, NULL, NULL},
	{"v3/kv/range", NULL, NULL, NULL},
	{"a/b://c", NULL, NULL, NULL},
	{"x:y", NULL, NULL, NULL},
	{"://y/", NULL, NULL, NULL},
	/* bytes that may not be there */
	{"/v3/kv/range\x01", NULL, NULL, NULL},
	{"/v3/kv/range\x7f", NULL, NULL, NULL},
	{"/v3/kv range", NULL, NULL, NULL},
	{"/v3?a\r\nX: y", NULL, NULL, NULL},
	{"/v3/kv/r\xc3\xa9", "/v3/kv/r\xc3\xa9", "", NULL},
};

START_TEST(targets_are_read_as_etcd_reads_them)
{
	const struct example *example = &EXAMPLES[_i];
	struct target target;

	target_init(&target, example->raw);
	if (example->path == NULL) {
		ck_assert_int_eq(target.status, STATUS_BAD_REQUEST);
	} else {
		ck_assert_int_eq(target.status, STATUS_OK);
		ck_assert_uint_eq(target.path_len, strlen(example->path));
		ck_assert_mem_eq(target.path, example->path, target.path_len);
		ck_assert_uint_eq(target.query_len, strlen(example->query));
		ck_assert_mem_eq(target.query, example->query, target.query_len);
		ck_assert_pstr_eq(target.location, example->location);
	}
	target_release(&target);
}
END_TEST

START_TEST(nul_does_not_cut_the_path)
{
	struct target target;

	target_init(&target, "/v3/kv/range%00/x");
	ck_assert_int_eq(target.status, STATUS_OK);
	ck_assert_uint_eq(target.path_len, 15);
	ck_assert_mem_eq(target.path, "/v3/kv/range\0/x", 15);
	target_release(&target);
}
END_TEST

START_TEST(long_targets_are_kept_whole)
{
	char raw[4000];
	struct target target;

	memset(raw, 'a', sizeof raw);
	memcpy(raw, "/v3beta//", 9);
	memcpy(raw + 2000, "?q=", 3);
	raw[sizeof raw - 1] = '\0';
	target_init(&target, raw);
	ck_assert_int_eq(target.status, STATUS_OK);
	ck_assert_uint_eq(target.path_len, 2000 - 9 + 4);
	ck_assert_uint_eq(target.query_len, 1998);
	ck_assert_uint_eq(strlen(target.location), target.path_len + 1 + target.query_len);
	target_release(&target);
}
END_TEST

START_TEST(the_page_of_a_redirect_is_safe_html)
{
	struct target target;
	struct buf buf;

	buf_init(&buf);
	target_init(&target, "/a//'?<&>\"");
	target_redirect_body(&target, &buf);
	buf_append_byte(&buf, 0);
	ck_assert_str_eq((char *)buf.data,
	                 "<a href=\"/a/&#39;?&lt;&amp;&gt;&#34;\">Temporary Redirect</a>.\n\n");
	target_release(&target);
	buf_release(&buf);
}
END_TEST

START_TEST(parameters_are_decoded_one_by_one)
{
	static const char QUERY[] = "verbose&exclude=NO%53PACE&&exclude=a+b=c&bad=%zz&x;y=1&=v&%00=&z";
	static const char *const PAIRS[][2] = {
		{"verbose", ""}, {"exclude", "NOSPACE"}, {"exclude", "a b=c"}, {"", "v"}, {"\0", ""},
		{"z", ""},
	};
	struct target_query query;
	struct target_pair pair;
	size_t count = 0;

	target_query_init(&query, QUERY, sizeof QUERY - 1);
	for (; target_query_next(&query, &pair); count++) {
		ck_assert_uint_lt(count, sizeof PAIRS / sizeof PAIRS[0]);
		ck_assert_uint_eq(pair.name_len, count == 4 ? 1 : strlen(PAIRS[count][0]));
		ck_assert_mem_eq(pair.name, PAIRS[count][0], pair.name_len);
		ck_assert_uint_eq(pair.value_len, strlen(PAIRS[count][1]));
		ck_assert_mem_eq(pair.value, PAIRS[count][1], pair.value_len);
	}
	ck_assert_uint_eq(count, sizeof PAIRS / sizeof PAIRS[0]);
}
END_TEST

START_TEST(parameters_too_long_to_be_ours_are_skipped)
{
	char text[600];
	struct target_query query;
	struct target_pair pair;

	memset(text, 'a', sizeof text);
	memcpy(text + sizeof text - 2, "&b", 2);
	target_query_init(&query, text, sizeof text);
	ck_assert(target_query_next(&query, &pair));
	ck_assert_uint_eq(pair.name_len, 1);
	ck_assert(!target_query_next(&query, &pair));
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("target");
	TCase *tcase = tcase_create("target");

	tcase_add_loop_test(tcase, targets_are_read_as_etcd_reads_them, 0,
	                    sizeof EXAMPLES / sizeof EXAMPLES[0]);
	tcase_add_test(tcase, nul_does_not_cut_the_path);
	tcase_add_test(tcase, long_targets_are_kept_whole);
	tcase_add_test(tcase, the_page_of_a_redirect_is_safe_html);
	tcase_add_test(tcase, parameters_are_decoded_one_by_one);
	tcase_add_test(tcase, parameters_too_long_to_be_ours_are_skipped);
	suite_add_tcase(suite, tcase);
	return suite;
}

int main(void)
{
	return test_run(make_suite());
}
