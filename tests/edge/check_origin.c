/* SPDX-License-Identifier: Apache-2.0 */
#include "edge/origin.h"

#include <string.h>

#include "lib/test.h"

static bool holds(const char *list, const char *name)
{
	struct origin_set set;
	bool result;

	ck_assert_int_eq(origin_set_init(&set, list), STATUS_OK);
	result = origin_set_holds(&set, name, strlen(name));
	origin_set_release(&set);
	return result;
}

START_TEST(an_empty_list_holds_everything)
{
	ck_assert(holds(NULL, "a"));
	ck_assert(holds("", "a"));
	ck_assert(holds(" , ", "a"));
	ck_assert(holds("", ""));
}
END_TEST

START_TEST(a_star_holds_everything)
{
	ck_assert(holds("*", "a"));
	ck_assert(holds("b, *", "a"));
	ck_assert(!holds("*.example", "a.example"));
}
END_TEST

START_TEST(a_list_holds_its_names_byte_by_byte)
{
	ck_assert(holds("http://a:1,http://b:2", "http://a:1"));
	ck_assert(holds(" http://a:1 , http://b:2 ", "http://b:2"));
	ck_assert(!holds("http://a:1,http://b:2", "http://A:1"));
	ck_assert(!holds("http://a:1,http://b:2", "http://a:1/"));
	ck_assert(!holds("http://a:1,http://b:2", "http://a:"));
	ck_assert(!holds("http://a:1", ""));
}
END_TEST

static const struct {
	const char *host, *name;
} HOSTS[] = {
	{"good.example", "good.example"},
	{"good.example:80", "good.example"},
	{"good.example:", "good.example"},
	{"127.0.0.1:2379", "127.0.0.1"},
	{"[::1]:2379", "::1"},
	{"[::1]", "[::1]"},
	{"::1", "::1"},
	{"a:b:c", "a:b:c"},
	{"[:80", "[:80"},
	{"[a]b:80", "[a]b:80"},
	{":80", ""},
	{"", ""},
};

START_TEST(a_host_header_gives_its_name)
{
	size_t len;
	const char *name = origin_host_name(HOSTS[_i].host, strlen(HOSTS[_i].host), &len);

	ck_assert_uint_eq(len, strlen(HOSTS[_i].name));
	ck_assert_mem_eq(name, HOSTS[_i].name, len);
}
END_TEST

START_TEST(the_refusal_names_the_host)
{
	struct buf buf;

	buf_init(&buf);
	origin_refusal(&buf, "bad.example", 11);
	buf_append_byte(&buf, '\0');
	ck_assert_ptr_nonnull(strstr((char *)buf.data, "  - e.g. etcd --host-whitelist \"bad.example\"\n"));
	buf_release(&buf);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("origin");
	TCase *tcase = tcase_create("origin");

	tcase_add_test(tcase, an_empty_list_holds_everything);
	tcase_add_test(tcase, a_star_holds_everything);
	tcase_add_test(tcase, a_list_holds_its_names_byte_by_byte);
	tcase_add_loop_test(tcase, a_host_header_gives_its_name, 0, (int)(sizeof HOSTS / sizeof HOSTS[0]));
	tcase_add_test(tcase, the_refusal_names_the_host);
	suite_add_tcase(suite, tcase);
	return suite;
}

int main(void)
{
	return test_run(make_suite());
}
