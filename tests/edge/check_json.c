/* SPDX-License-Identifier: Apache-2.0 */
#include "edge/json.h"

#include <stdlib.h>
#include <string.h>

#include "base/wire.h"
#include "engine/method.h"
#include "lib/messages.h"
#include "lib/test.h"
#include "rpc.pb-c.h"

#define REP8(x) x x x x x x x x
#define REP64(x) REP8(REP8(x))

#define RANGE &pb__range_request__descriptor
#define TXN &pb__txn_request__descriptor
#define USER &pb__auth_user_add_request__descriptor
#define MEMBER &pb__member_remove_request__descriptor
#define MEMBER_ADD &pb__member_add_request__descriptor
#define WATCH &pb__watch_request__descriptor
#define GRANT &pb__lease_grant_request__descriptor
#define CHECKPOINT &pb__lease_checkpoint__descriptor

/* 'answer' is the message as JSON again, or NULL when the body is refused with
 * a message that holds 'words'. */
struct example {
	const ProtobufCMessageDescriptor *type;
	const char *body;
	const char *answer;
	const char *words;
};

static const struct example EXAMPLES[] = {
	/* bodies */
	{RANGE, "", "{}", NULL},
	{RANGE, " \t\r\n", "{}", NULL},
	{RANGE, "{}", "{}", NULL},
	{RANGE, " {\"key\":\"YQ==\"} x", "{\"key\":\"YQ==\"}", NULL},
	{RANGE, "{\"key\":\"YQ==\"}{\"key\":\"Yg==\"}", "{\"key\":\"YQ==\"}", NULL},
	{RANGE, "{\"key\":\"YQ==\"},", "{\"key\":\"YQ==\"}", NULL},
	{RANGE, "[]", NULL, "the body: expected an object, got a list"},
	{RANGE, "null", NULL, "the body: expected an object, got null"},
	{RANGE, "5", NULL, "the body: expected an object, got a number"},
	{RANGE, "\"\"", NULL, "the body: expected an object, got a string"},
	{RANGE, "true", NULL, "the body: expected an object, got a boolean"},
	{RANGE, "{", NULL,
         "line 1, column 1: expected a field name in double quotes, or '}', but the body ends"},
	{RANGE, "{\"key\"", NULL, "expected ':' after the name of a field"},
	{RANGE, "{\"key\":", NULL, "expected a value, but the body ends here"},
	{RANGE, "{\"key\":\"YQ==\"", NULL, "expected ',' or '}' after the value of a field"},
	{RANGE, "{\"key\":\"YQ==\",}", NULL, "column 15: expected a field name"},
	{RANGE, "{\n \"key\":\"YQ==\"\n \"limit\":1}", NULL, "line 3, column 8"},
	{RANGE, "{'key':1}", NULL, "expected a field name in double quotes"},
	{RANGE, "{\"key\":YQ==}", NULL, "text goes in double quotes"},
	{RANGE, "{\"key\":\"Y\tQ==\"}", NULL, "must be escaped"},
	{RANGE, "{\"key\":\"\\x\"}", NULL, "no such escape sequence"},
	{RANGE, "{\"key\":\"abc", NULL, "the string is not closed"},
	{RANGE, "{\"bogus\":\"\\ud800\"}", NULL, "half of a surrogate pair"},
	{RANGE, "{\"limit\":01}", NULL, "column 10"},
	{RANGE, "\xef\xbb\xbf{}", NULL, "line 1, column 1"},
	{USER, "{\"name\":\"\xff\"}", NULL, "not valid UTF-8"},
	/* names */
	{RANGE, "{\"rangeEnd\":\"Yw==\",\"countOnly\":true}",
         "{\"range_end\":\"Yw==\",\"count_only\":true}", NULL},
	{RANGE, "{\"range_end\":\"Yw==\"}", "{\"range_end\":\"Yw==\"}", NULL},
	{RANGE, "{\"Key\":\"YQ==\",\"RangeEnd\":\"YQ==\",\"range_End\":1,\"rangeend\":1,\"range\":1}", "{}",
         NULL},
	{RANGE, "{\"minMod_revision\":1,\"min_modRevision\":1,\"min__mod_revision\":1}", "{}", NULL},
	{RANGE, "{\"bogus\":{\"x\":[1,2,null]},\"\":1,\"@type\":\"\\u0000\"}", "{}", NULL},
	{RANGE, "{\"key\":\"YQ==\",\"key\":\"Yg==\"}", NULL, "this field is given twice"},
	{RANGE, "{\"range_end\":\"\",\"rangeEnd\":\"\"}", NULL, "range_end: the field is given twice"},
	{RANGE, "{\"rangeEnd\":\"\",\"range_end\":null}", NULL, "range_end: the field is given twice"},
	{GRANT, "{\"ID\":\"5\",\"TTL\":\"100\"}", "{\"TTL\":\"100\",\"ID\":\"5\"}", NULL},
	{GRANT, "{\"id\":\"6\",\"ttl\":\"100\"}", "{}", NULL},
	{CHECKPOINT, "{\"remainingTTL\":1}", "{\"remaining_TTL\":\"1\"}", NULL},
	{CHECKPOINT, "{\"remaining_TTL\":1}", "{\"remaining_TTL\":\"1\"}", NULL},
	/* null */
	{RANGE, "{\"key\":null,\"limit\":null,\"serializable\":null,\"sort_order\":null}", "{}", NULL},
	{TXN, "{\"compare\":null,\"success\":null}", "{}", NULL},
	{TXN, "{\"compare\":[null]}", NULL, "compare[0]: expected an object, got null"},
	{TXN, "{\"success\":[{\"request_range\":null}]}", "{\"success\":[{}]}", NULL},
	{MEMBER_ADD, "{\"peerURLs\":[null]}", NULL, "peerURLs[0]: expected a string, got null"},
	/* integers */
	{RANGE, "{\"limit\":1}", "{\"limit\":\"1\"}", NULL},
	{RANGE, "{\"limit\":\"1\"}", "{\"limit\":\"1\"}", NULL},
	{RANGE, "{\"limit\":1.0}", "{\"limit\":\"1\"}", NULL},
	{RANGE, "{\"limit\":\"1.0\"}", "{\"limit\":\"1\"}", NULL},
	{RANGE, "{\"limit\":1e0}", "{\"limit\":\"1\"}", NULL},
	{RANGE, "{\"limit\":\"1e0\"}", "{\"limit\":\"1\"}", NULL},
	{RANGE, "{\"limit\":\"10e-1\"}", "{\"limit\":\"1\"}", NULL},
	{RANGE, "{\"limit\":\"1.50e1\"}", "{\"limit\":\"15\"}", NULL},
	{RANGE, "{\"limit\":\"-1E+2\"}", "{\"limit\":\"-100\"}", NULL},
	{RANGE, "{\"limit\":\"0e999999999999999999999\"}", "{}", NULL},
	{RANGE, "{\"limit\":\"9007199254740993.0\"}", "{\"limit\":\"9007199254740993\"}", NULL},
	{RANGE, "{\"limit\":1e18}", "{\"limit\":\"1000000000000000000\"}", NULL},
	{RANGE, "{\"limit\":-0}", "{}", NULL},
	{RANGE, "{\"limit\":-0.0}", "{}", NULL},
	{RANGE, "{\"limit\":\"-0\"}", "{}", NULL},
	{RANGE, "{\"limit\":9223372036854775807}", "{\"limit\":\"9223372036854775807\"}", NULL},
	{RANGE, "{\"limit\":\"9223372036854775807\"}", "{\"limit\":\"9223372036854775807\"}", NULL},
	{RANGE, "{\"limit\":-9223372036854775808}", "{\"limit\":\"-9223372036854775808\"}", NULL},
	{RANGE, "{\"limit\":\"9223372036854775808\"}", NULL, "limit: expected a 64-bit integer"},
	{RANGE, "{\"limit\":9223372036854775808}", NULL, "needs quotes"},
	{RANGE, "{\"limit\":1.5}", NULL, "limit: expected a 64-bit integer, as a number or in a string"},
	{RANGE, "{\"limit\":\"1.5\"}", NULL, "limit"},
	{RANGE, "{\"limit\":\"\"}", NULL, "limit"},
	{RANGE, "{\"limit\":\" 1\"}", NULL, "limit"},
	{RANGE, "{\"limit\":\"1 \"}", NULL, "limit"},
	{RANGE, "{\"limit\":\"01\"}", NULL, "limit"},
	{RANGE, "{\"limit\":\"+1\"}", NULL, "limit"},
	{RANGE, "{\"limit\":\"0x1\"}", NULL, "limit"},
	{RANGE, "{\"limit\":\"1_0\"}", NULL, "limit"},
	{RANGE, "{\"limit\":\"1,2\"}", NULL, "limit"},
	{RANGE, "{\"limit\":\"1.\"}", NULL, "limit"},
	{RANGE, "{\"limit\":\".5\"}", NULL, "limit"},
	{RANGE, "{\"limit\":\"1e\"}", NULL, "limit"},
	{RANGE, "{\"limit\":\"-\"}", NULL, "limit"},
	{RANGE, "{\"limit\":\"1e20\"}", NULL, "limit"},
	{RANGE, "{\"limit\":\"many\"}", NULL, "limit"},
	{RANGE, "{\"limit\":1e19}", NULL, "limit"},
	{RANGE, "{\"limit\":true}", NULL, "limit: expected a 64-bit integer, got a boolean"},
	{RANGE, "{\"limit\":{}}", NULL, "limit: expected a 64-bit integer, got an object"},
	{RANGE, "{\"limit\":1e400}", NULL, "this number is too large"},
	{MEMBER, "{\"ID\":\"18446744073709551615\"}", "{\"ID\":\"18446744073709551615\"}", NULL},
	{MEMBER, "{\"ID\":1.8e19}", "{\"ID\":\"18000000000000000000\"}", NULL},
	{MEMBER, "{\"ID\":18446744073709551615}", NULL, "this integer needs quotes"},
	{MEMBER, "{\"ID\":1.9e19}", NULL, "ID: expected an unsigned 64-bit integer"},
	{MEMBER, "{\"ID\":-1}", NULL, "ID: expected an unsigned 64-bit integer"},
	{MEMBER, "{\"ID\":\"-0\"}", "{}", NULL},
	/* booleans */
	{RANGE, "{\"count_only\":false}", "{}", NULL},
	{RANGE, "{\"count_only\":\"true\"}", NULL, "count_only: expected true or false, got a string"},
	{RANGE, "{\"count_only\":1}", NULL, "count_only: expected true or false, got a number"},
	/* enums */
	{RANGE, "{\"sort_order\":\"DESCEND\"}", "{\"sort_order\":\"DESCEND\"}", NULL},
	{RANGE, "{\"sort_order\":1}", "{\"sort_order\":\"ASCEND\"}", NULL},
	{RANGE, "{\"sort_order\":1.0}", "{\"sort_order\":\"ASCEND\"}", NULL},
	{RANGE, "{\"sort_order\":9}", "{\"sort_order\":9}", NULL},
	{RANGE, "{\"sort_order\":-1}", "{\"sort_order\":-1}", NULL},
	{RANGE, "{\"sort_order\":\"UP\"}", "{}", NULL},
	{RANGE, "{\"sort_order\":\"1\"}", "{}", NULL},
	{RANGE, "{\"sort_order\":\"ASCEND\\u0000\"}", "{}", NULL},
	{RANGE, "{\"sort_order\":1.5}", NULL, "sort_order: expected a 32-bit integer"},
	{RANGE, "{\"sort_order\":2147483648}", NULL, "sort_order: expected a 32-bit integer"},
	{RANGE, "{\"sort_order\":true}", NULL, "sort_order: expected the name or number of an enum value"},
	{WATCH, "{\"create_request\":{\"filters\":[\"NODELETE\",\"BOGUS\",0,7]}}",
         "{\"create_request\":{\"filters\":[\"NODELETE\",\"NOPUT\",7]}}", NULL},
	/* bytes */
	{RANGE, "{\"key\":\"+/8=\"}", "{\"key\":\"+/8=\"}", NULL},
	{RANGE, "{\"key\":\"-_8=\"}", "{\"key\":\"+/8=\"}", NULL},
	{RANGE, "{\"key\":\"+/8\"}", "{\"key\":\"+/8=\"}", NULL},
	{RANGE, "{\"key\":\"YR==\"}", "{\"key\":\"YQ==\"}", NULL},
	{RANGE, "{\"key\":\"\\u0059Q==\"}", "{\"key\":\"YQ==\"}", NULL},
	{RANGE, "{\"key\":\"+_8=\"}", NULL, "key: not valid base64: it mixes"},
	{RANGE, "{\"key\":\"YQ=\"}", NULL, "key: not valid base64"},
	{RANGE, "{\"key\":\"Y\"}", NULL, "key: not valid base64"},
	{RANGE, "{\"key\":\"Y Q==\"}", NULL, "key: not valid base64"},
	{RANGE, "{\"key\":\"YQ==\\n\"}", NULL, "key: not valid base64"},
	{RANGE, "{\"key\":\"YQ====\"}", NULL, "key: not valid base64"},
	{RANGE, "{\"key\":\"YQ==YQ==\"}", NULL, "key: not valid base64"},
	{RANGE, "{\"key\":\"====\"}", NULL, "key: not valid base64"},
	{RANGE, "{\"key\":\"\\u0000f:1\"}", NULL, "key: not valid base64"},
	{RANGE, "{\"key\":5}", NULL, "key: expected a string of base64, got a number"},
	{RANGE, "{\"key\":\"" REP64("YWJj") "\"}", "{\"key\":\"" REP64("YWJj") "\"}", NULL},
	{RANGE, "{\"key\":\"" REP64("YWJj") "\",\"range_end\":\"\\u00000:8\"}", NULL,
         "range_end: not valid base64"},
	{RANGE, "{\"key\":\"" REP64("YWJj") "!\"}", NULL, "key: not valid base64"},
	{RANGE, "{\"limit\":\"" REP64("1") "\"}", NULL, "limit: expected a 64-bit integer"},
	{RANGE, "{\"sort_order\":\"" REP64("ASCEND") "\"}", "{}", NULL},
	{RANGE, "{\"" REP64("key") "\":1}", "{}", NULL},
	{RANGE, "{\"key\":\"" REP64("YWJj") "\" x", NULL, "column 267: expected ',' or '}'"},
	/* strings */
	{USER, "{\"name\":\"\\u00e9\\ud83d\\ude00\\n\"}", "{\"name\":\"\xc3\xa9\xf0\x9f\x98\x80\\n\"}",
         NULL},
	{USER, "{\"name\":\"" REP64("abc") "\"}", "{\"name\":\"" REP64("abc") "\"}", NULL},
	{USER, "{\"name\":\"" REP64("abc") "\\n\"}", "{\"name\":\"" REP64("abc") "\\n\"}", NULL},
	{USER, "{\"name\":\"\"}", "{}", NULL},
	{USER, "{\"name\":\"root\\u0000x\"}", NULL, "name: the string must not hold U+0000"},
	{USER, "{\"name\":5}", NULL, "name: expected a string, got a number"},
	/* messages, lists, oneofs */
	{USER, "{\"options\":{}}", "{\"options\":{}}", NULL},
	{USER, "{\"options\":5}", NULL, "options: expected an object, got a number"},
	{TXN, "{\"compare\":{}}", NULL, "compare: expected a list, got an object"},
	{TXN, "{\"compare\":[]}", "{}", NULL},
	{TXN, "{\"success\":[[]]}", NULL, "success[0]: expected an object, got a list"},
	{TXN, "{\"success\":[{},{\"request_txn\":{\"failure\":[{\"request_put\":{\"lease\":\"x\"}}]}}]}",
         NULL, "success[1].request_txn.failure[0].request_put.lease: expected a 64-bit integer"},
	{TXN, "{\"compare\":[{\"target\":\"VERSION\",\"version\":0}]}",
         "{\"compare\":[{\"version\":\"0\"}]}", NULL},
	{TXN, "{\"compare\":[{\"value\":\"\"}]}", "{\"compare\":[{\"value\":\"\"}]}", NULL},
	{TXN, "{\"compare\":[{\"modRevision\":\"2\"}]}", "{\"compare\":[{\"mod_revision\":\"2\"}]}", NULL},
	{TXN, "{\"compare\":[{\"version\":null,\"lease\":1}]}", "{\"compare\":[{\"lease\":\"1\"}]}", NULL},
	{TXN, "{\"compare\":[{\"version\":\"1\",\"mod_revision\":\"2\"}]}", NULL,
         "compare[0].mod_revision: only one of the fields it shares a oneof with may be set, and version "
         "is"},
};

/* Decodes and encodes again into buf; the error if it was refused. */
static const char *run(const ProtobufCMessageDescriptor *type, const char *body, size_t len,
                       struct arena *arena, struct buf *buf)
{
	ProtobufCMessage *message = NULL;
	const char *error = NULL;
	/* A copy of its own, so that reading past its end is found. */
	char *copy = malloc(len + 1);
	enum status_code status;

	memcpy(copy + 1, body, len);
	status = json_decode(type, copy + 1, len, arena, &message, &error);
	free(copy);
	if (status != STATUS_OK) {
		ck_assert_int_eq(status, STATUS_BAD_REQUEST);
		ck_assert_ptr_nonnull(error);
		return error;
	}
	ck_assert_ptr_null(error);
	buf_reset(buf);
	json_encode(message, buf);
	buf_append_byte(buf, 0);
	ck_assert(!buf->failed);
	return NULL;
}

START_TEST(bodies_are_taken_as_etcd_takes_them)
{
	const struct example *example = &EXAMPLES[_i];
	struct arena arena;
	struct buf buf;
	const char *error;

	arena_init(&arena, 1 << 20, NULL, 0);
	buf_init(&buf);
	error = run(example->type, example->body, strlen(example->body), &arena, &buf);
	if (example->answer == NULL) {
		ck_assert_msg(error != NULL, "%s was taken", example->body);
		ck_assert_msg(strstr(error, example->words) != NULL, "%s: %s", example->body, error);
	} else {
		ck_assert_msg(error == NULL, "%s: %s", example->body, error);
		ck_assert_str_eq((char *)buf.data, example->answer);
	}
	buf_release(&buf);
	arena_release(&arena);
}
END_TEST

START_TEST(json_and_protobuf_give_the_same_message)
{
	const ProtobufCMessageDescriptor *type = messages_type((size_t)_i);
	uint64_t generator = (uint64_t)_i * 7919 + 1;
	struct buf packed, json, again;

	buf_init(&packed);
	buf_init(&json);
	buf_init(&again);
	for (int round = 0; round < 60; round++) {
		ProtobufCMessage *message;
		const char *error;
		struct arena arena;

		arena_init(&arena, 16 << 20, NULL, 0);
		buf_reset(&packed);
		buf_reset(&json);
		buf_reset(&again);
		message = messages_random(type, &generator, &arena);
		wire_pack(message, &packed);
		json_encode(message, &json);
		ck_assert_int_eq(json_decode(type, (char *)json.data, json.len, &arena, &message, &error),
		                 STATUS_OK);
		wire_pack(message, &again);
		ck_assert_uint_eq(packed.len, again.len);
		if (packed.len > 0)
			ck_assert_mem_eq(packed.data, again.data, packed.len);
		arena_release(&arena);
	}
	buf_release(&packed);
	buf_release(&json);
	buf_release(&again);
}
END_TEST

/* {"success":[{"request_txn": ... }]} around {} */
static void nest(struct buf *buf, size_t depth)
{
	buf_reset(buf);
	for (size_t i = 0; i < depth; i++)
		buf_append_text(buf, "{\"success\":[{\"request_txn\":");
	buf_append_text(buf, "{}");
	for (size_t i = 0; i < depth; i++)
		buf_append_text(buf, "}]}");
}

START_TEST(nesting_is_bounded)
{
	struct arena arena;
	struct buf buf, out;
	const char *error;

	arena_init(&arena, 1 << 20, NULL, 0);
	buf_init(&buf);
	buf_init(&out);
	nest(&buf, 49); /* 99 messages */
	ck_assert_ptr_null(run(TXN, (char *)buf.data, buf.len, &arena, &out));
	nest(&buf, 50);
	error = run(TXN, (char *)buf.data, buf.len, &arena, &out);
	ck_assert_ptr_nonnull(strstr(error, "nested too deeply"));
	nest(&buf, 5000);
	error = run(TXN, (char *)buf.data, buf.len, &arena, &out);
	ck_assert_ptr_nonnull(strstr(error, "nested too deeply"));
	buf_release(&buf);
	buf_release(&out);
	arena_release(&arena);
}
END_TEST

START_TEST(unknown_fields_may_nest_as_they_like)
{
	struct arena arena;
	struct buf buf, out;

	arena_init(&arena, 1 << 20, NULL, 0);
	buf_init(&buf);
	buf_init(&out);
	buf_append_text(&buf, "{\"x\":");
	for (int i = 0; i < 1000; i++)
		buf_append_byte(&buf, '[');
	for (int i = 0; i < 1000; i++)
		buf_append_byte(&buf, ']');
	buf_append_byte(&buf, '}');
	ck_assert_ptr_null(run(RANGE, (char *)buf.data, buf.len, &arena, &out));
	buf_release(&buf);
	buf_release(&out);
	arena_release(&arena);
}
END_TEST

START_TEST(a_body_of_very_many_values_is_refused)
{
	struct arena arena;
	struct buf buf, out;

	arena_init(&arena, 1 << 20, NULL, 0);
	buf_init(&buf);
	buf_init(&out);
	buf_append_text(&buf, "{\"x\":[");
	for (int i = 0; i < 300000; i++)
		buf_append_text(&buf, "{},");
	buf_append_text(&buf, "{}]}");
	ck_assert_str_eq(run(RANGE, (char *)buf.data, buf.len, &arena, &out),
	                 "the body holds too many values");
	buf_release(&buf);
	buf_release(&out);
	arena_release(&arena);
}
END_TEST

START_TEST(the_arena_bounds_what_a_body_makes)
{
	static const char BODY[] = "{\"success\":[{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{}]}";
	enum status_code status = STATUS_NO_MEMORY;

	/* Each cap stops the decoder at another allocation. */
	for (size_t cap = 0; status == STATUS_NO_MEMORY; cap += 16) {
		ProtobufCMessage *message;
		const char *error;
		struct arena arena;

		ck_assert_uint_lt(cap, 1 << 16);
		arena_init(&arena, cap, NULL, 0);
		status = json_decode(TXN, BODY, sizeof BODY - 1, &arena, &message, &error);
		ck_assert(status == STATUS_OK || status == STATUS_NO_MEMORY);
		ck_assert_ptr_null(error);
		arena_release(&arena);
	}
}
END_TEST

START_TEST(unset_strings_keep_the_shared_default)
{
	struct arena arena;
	ProtobufCMessage *message;
	const char *error;

	arena_init(&arena, 1 << 20, NULL, 0);
	ck_assert_int_eq(json_decode(USER, "{\"name\":null}", 13, &arena, &message, &error), STATUS_OK);
	ck_assert_ptr_eq(((Pb__AuthUserAddRequest *)message)->name, protobuf_c_empty_string);
	arena_release(&arena);
}
END_TEST

START_TEST(integers_and_names_are_printed_as_the_gateway_does)
{
	Pb__ResponseHeader header = PB__RESPONSE_HEADER__INIT;
	Pb__HashKVResponse response = PB__HASH_KVRESPONSE__INIT;
	struct buf buf;

	header.cluster_id = UINT64_MAX;
	header.revision = INT64_MIN;
	response.header = &header;
	response.hash = UINT32_MAX;
	buf_init(&buf);
	json_encode(&response.base, &buf);
	buf_append_byte(&buf, 0);
	ck_assert_str_eq((char *)buf.data, "{\"header\":{\"cluster_id\":\"18446744073709551615\","
	                                   "\"revision\":\"-9223372036854775808\"},"
	                                   "\"hash\":4294967295}");
	buf_release(&buf);
}
END_TEST

START_TEST(errors_have_a_code_and_a_message)
{
	struct buf buf;

	buf_init(&buf);
	json_encode_error(&buf, 3, "say \"why\"\xff");
	buf_append_byte(&buf, 0);
	ck_assert_str_eq((char *)buf.data, "{\"code\":3,\"message\":\"say \\\"why\\\"\xef\xbf\xbd\"}");
	buf_release(&buf);
}
END_TEST

/* Bodies of several values, and the keys that their messages have, up to the
 * end or to what cannot be read. */
static const struct {
	const char *body;
	const char *keys;
	bool ends_well;
} SEQUENCES[] = {
	{"", "", true},
	{" \t\r\n", "", true},
	{"{\"key\":\"YQ==\"}", "a", true},
	{"{\"key\":\"YQ==\"}{\"key\":\"Yg==\"} {\"key\":\"Yw==\"}\n", "abc", true},
	{"{\"key\":\"YQ==\"},{\"key\":\"Yg==\"}", "a", false},
	{"{\"key\":\"YQ==\"}garbage", "a", false},
	{"{\"key\":\"YQ==\"}[{\"key\":\"Yg==\"}]", "a", false},
	{"{\"key\":\"YQ==\",\"more\":{\"x\":[{},\"}]\",\"\\\"{\"]}}{\"key\":\"Yg==\"}", "ab", true},
	{"{\"key\":\"YQ==\"", "", false},
	{"{\"key\":\"YQ==\"]}{\"key\":\"Yg==\"}", "", false},
	{"{\"key\":[}]}{\"key\":\"Yg==\"}", "", false},
	{"}{\"key\":\"YQ==\"}", "", false},
	{"5{\"key\":\"YQ==\"}", "", false},
	{"{\"key\":\"YQ==\"}{\"key\":\"", "a", false},
};

START_TEST(a_body_may_hold_several_values)
{
	const char *text = SEQUENCES[_i].body;
	size_t left = strlen(text);
	char keys[8] = "";
	struct arena arena;
	ProtobufCMessage *message;
	const char *error;
	enum status_code status;

	arena_init(&arena, 1 << 20, NULL, 0);
	while ((status = json_decode_next(RANGE, &text, &left, &arena, &message, &error)) == STATUS_OK &&
	       message != NULL)
		strncat(keys, (char *)((Pb__RangeRequest *)message)->key.data, 1);
	ck_assert_str_eq(keys, SEQUENCES[_i].keys);
	ck_assert_int_eq(status, SEQUENCES[_i].ends_well ? STATUS_OK : STATUS_BAD_REQUEST);
	ck_assert_int_eq(error == NULL, SEQUENCES[_i].ends_well);
	arena_release(&arena);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("json");
	TCase *tcase = tcase_create("json");

	tcase_add_loop_test(tcase, bodies_are_taken_as_etcd_takes_them, 0,
	                    sizeof EXAMPLES / sizeof EXAMPLES[0]);
	tcase_add_loop_test(tcase, a_body_may_hold_several_values, 0,
	                    sizeof SEQUENCES / sizeof SEQUENCES[0]);
	tcase_add_loop_test(tcase, json_and_protobuf_give_the_same_message, 0, (int)messages_type_count());
	tcase_add_test(tcase, nesting_is_bounded);
	tcase_add_test(tcase, unknown_fields_may_nest_as_they_like);
	tcase_add_test(tcase, a_body_of_very_many_values_is_refused);
	tcase_add_test(tcase, the_arena_bounds_what_a_body_makes);
	tcase_add_test(tcase, unset_strings_keep_the_shared_default);
	tcase_add_test(tcase, integers_and_names_are_printed_as_the_gateway_does);
	tcase_add_test(tcase, errors_have_a_code_and_a_message);
	suite_add_tcase(suite, tcase);
	return suite;
}

int main(void)
{
	method_init();
	return test_run(make_suite());
}
