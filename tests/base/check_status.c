/* SPDX-License-Identifier: Apache-2.0 */
#include "base/status.h"

#include <string.h>

#include "lib/test.h"

START_TEST(every_code_has_a_name_and_a_text)
{
	enum status_code code = (enum status_code)_i;

	ck_assert_str_ne(status_code_name(code), "");
	ck_assert_ptr_nonnull(status_code_text(code));
	ck_assert((status_code_text(code)[0] == '\0') == (code == STATUS_OK));
	ck_assert((status_grpc(code) == GRPC_OK) == (code == STATUS_OK));
	ck_assert(status_grpc(code) <= GRPC_UNAUTHENTICATED);
	ck_assert((status_http(code) == 200) == (code == STATUS_OK));
	ck_assert_int_ge(status_http(code), 200);
	ck_assert_int_lt(status_http(code), 600);
	ck_assert(!status_is_retriable(code) || code != STATUS_OK);
}
END_TEST

START_TEST(names_are_unique)
{
	for (int other = 0; other < _i; other++)
		ck_assert_str_ne(status_code_name((enum status_code)_i),
		                 status_code_name((enum status_code)other));
}
END_TEST

/* As etcd's gateway answers. */
static const struct {
	enum status_code code;
	int grpc;
	int http;
	bool retriable;
} ANSWERS[] = {
	{STATUS_OK, 0, 200, false},
	{STATUS_BAD_REQUEST, 3, 400, false},
	{STATUS_EMPTY_KEY, 3, 400, false},
	{STATUS_NOT_FOUND, 5, 404, false},
	{STATUS_LEASE_NOT_FOUND, 5, 404, false},
	{STATUS_MESSAGE_TOO_LARGE, 8, 429, false},
	{STATUS_NO_SPACE, 8, 429, false},
	{STATUS_COMPACTED, 11, 400, false},
	{STATUS_METHOD_NOT_ALLOWED, 12, 501, false},
	{STATUS_UNIMPLEMENTED, 12, 501, false},
	{STATUS_INTERNAL, 13, 500, false},
	{STATUS_TIMEOUT, 14, 503, true},
	{STATUS_STOPPED, 14, 503, true},
	{STATUS_CORRUPT, 15, 500, false},
	{STATUS_DEADLINE_EXCEEDED, 4, 504, true},
	{STATUS_CANCELED, 1, 499, true},
};

START_TEST(codes_map_as_in_etcds_gateway)
{
	ck_assert_int_eq((int)status_grpc(ANSWERS[_i].code), ANSWERS[_i].grpc);
	ck_assert_int_eq(status_http(ANSWERS[_i].code), ANSWERS[_i].http);
	ck_assert_int_eq(status_is_retriable(ANSWERS[_i].code), ANSWERS[_i].retriable);
}
END_TEST

START_TEST(a_message_replaces_the_text)
{
	struct status status = {.code = STATUS_EMPTY_KEY};

	ck_assert_str_eq(status_text(&status), "etcdserver: key is not provided");
	status.message = "mine";
	ck_assert_str_eq(status_text(&status), "mine");
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("status");
	TCase *tcase = tcase_create("status");

	tcase_add_loop_test(tcase, every_code_has_a_name_and_a_text, 0, STATUS_COUNT);
	tcase_add_loop_test(tcase, names_are_unique, 0, STATUS_COUNT);
	tcase_add_loop_test(tcase, codes_map_as_in_etcds_gateway, 0, sizeof ANSWERS / sizeof ANSWERS[0]);
	tcase_add_test(tcase, a_message_replaces_the_text);
	suite_add_tcase(suite, tcase);
	return suite;
}

int main(void)
{
	return test_run(make_suite());
}
