/* SPDX-License-Identifier: Apache-2.0 */
#include "log/record.h"

#include <string.h>

#include "lib/fixture.h"
#include "lib/test.h"

enum { CAP_BYTES = 1 << 20 };

static Pb__Record *put_record(struct arena *arena)
{
	Pb__PutRequest *put = make_put(arena, "key", "value");
	Pb__Record *rec;

	put->key = copy_bytes(arena, "k\0\xff", 3);
	rec = make_record(arena, &put->base);
	rec->incarnation = UINT64_MAX;
	rec->sequence = 7;
	rec->time_ms = -1;
	rec->user = arena_strdup(arena, "root");
	return rec;
}

static void pack(struct buf *buf, const Pb__Record *rec)
{
	buf_init(buf);
	ck_assert_int_eq(record_pack(rec, RECORD_LEVEL, buf), STATUS_OK);
}

START_TEST(a_record_comes_back_as_it_was)
{
	struct arena arena;
	struct buf buf;
	Pb__Record *rec, *back = NULL;

	arena_init(&arena, CAP_BYTES, NULL, 0);
	rec = put_record(&arena);
	pack(&buf, rec);
	ck_assert_int_eq(record_unpack(buf.data, buf.len, RECORD_LEVEL, &arena, &back), STATUS_OK);
	assert_same_message(&back->base, &rec->base);
	ck_assert_str_eq(back->user, "root");
	assert_same_message(record_request(back), record_request(rec));
	buf_release(&buf);
	arena_release(&arena);
}
END_TEST

/* Records in files and topics have this form: it may not change. */
START_TEST(the_envelope_is_the_one_of_level_1)
{
	struct arena arena;
	struct buf buf;

	arena_init(&arena, CAP_BYTES, NULL, 0);
	pack(&buf, put_record(&arena));
	ck_assert_uint_gt(buf.len, RECORD_ENVELOPE_BYTES);
	ck_assert_mem_eq(buf.data, "KETA\1\0\0\0", 8);
	buf_release(&buf);
	arena_release(&arena);
}
END_TEST

START_TEST(a_record_may_follow_other_bytes)
{
	struct arena arena;
	struct buf buf;
	Pb__Record *back = NULL;

	arena_init(&arena, CAP_BYTES, NULL, 0);
	buf_init(&buf);
	buf_append_text(&buf, "before");
	ck_assert_int_eq(record_pack(put_record(&arena), RECORD_LEVEL, &buf), STATUS_OK);
	ck_assert_int_eq(record_unpack(buf.data + 6, buf.len - 6, RECORD_LEVEL, &arena, &back), STATUS_OK);
	buf_release(&buf);
	arena_release(&arena);
}
END_TEST

START_TEST(every_damaged_bit_is_found)
{
	struct arena arena;
	struct buf buf;
	Pb__Record *back;

	arena_init(&arena, CAP_BYTES, NULL, 0);
	pack(&buf, put_record(&arena));
	for (size_t bit = 0; bit < buf.len * 8; bit++) {
		buf.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
		ck_assert_int_eq(record_unpack(buf.data, buf.len, RECORD_LEVEL, &arena, &back),
		                 STATUS_BAD_RECORD);
		buf.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	buf_release(&buf);
	arena_release(&arena);
}
END_TEST

START_TEST(a_record_cut_short_is_refused)
{
	struct arena arena;
	struct buf buf;
	Pb__Record *back;

	arena_init(&arena, CAP_BYTES, NULL, 0);
	pack(&buf, put_record(&arena));
	for (size_t len = 0; len < buf.len; len++) {
		/* A block of its own, so that a read past its end is found. */
		uint8_t *copy = arena_copy(&arena, buf.data, len);

		ck_assert_int_eq(record_unpack(copy, len, RECORD_LEVEL, &arena, &back), STATUS_BAD_RECORD);
	}
	buf_release(&buf);
	arena_release(&arena);
}
END_TEST

START_TEST(a_record_too_large_for_its_arena_is_no_bad_record)
{
	struct arena arena, small;
	struct buf buf;
	Pb__Record *back;

	arena_init(&arena, CAP_BYTES, NULL, 0);
	arena_init(&small, 64, NULL, 0);
	pack(&buf, put_record(&arena));
	ck_assert_int_eq(record_unpack(buf.data, buf.len, RECORD_LEVEL, &small, &back), STATUS_NO_MEMORY);
	buf_release(&buf);
	arena_release(&small);
	arena_release(&arena);
}
END_TEST

static const ProtobufCMessageDescriptor *const CARRIED[] = {
	&pb__genesis__descriptor,
	&pb__put_request__descriptor,
	&pb__delete_range_request__descriptor,
	&pb__txn_request__descriptor,
	&pb__compaction_request__descriptor,
	&pb__alarm_request__descriptor,
	&pb__lease_grant_request__descriptor,
	&pb__lease_revoke_request__descriptor,
	&pb__auth_enable_request__descriptor,
	&pb__auth_user_add_request__descriptor,
};

START_TEST(a_request_finds_its_place_by_its_type)
{
	const ProtobufCMessageDescriptor *type = CARRIED[_i];
	struct arena arena;
	struct buf buf;
	Pb__Record rec, *back = NULL;
	ProtobufCMessage *request;

	pb__record__init(&rec);
	arena_init(&arena, CAP_BYTES, NULL, 0);
	request = arena_alloc(&arena, type->sizeof_message);
	protobuf_c_message_init(type, request);
	ck_assert_int_eq(record_set_request(&rec, request), STATUS_OK);
	ck_assert_ptr_eq(record_request(&rec), request);
	pack(&buf, &rec);
	ck_assert_int_eq(record_unpack(buf.data, buf.len, RECORD_LEVEL, &arena, &back), STATUS_OK);
	ck_assert_ptr_eq(record_request(back)->descriptor, type);
	buf_release(&buf);
	arena_release(&arena);
}
END_TEST

START_TEST(a_request_that_no_record_carries_is_refused)
{
	Pb__Record rec;
	Pb__RangeRequest range = PB__RANGE_REQUEST__INIT;

	pb__record__init(&rec);
	ck_assert_int_eq(record_set_request(&rec, &range.base), STATUS_UNIMPLEMENTED);
	ck_assert_ptr_null(record_request(&rec));
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("record");
	TCase *tcase = tcase_create("record");

	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, a_record_comes_back_as_it_was);
	tcase_add_test(tcase, the_envelope_is_the_one_of_level_1);
	tcase_add_test(tcase, a_record_may_follow_other_bytes);
	tcase_add_test(tcase, every_damaged_bit_is_found);
	tcase_add_test(tcase, a_record_cut_short_is_refused);
	tcase_add_test(tcase, a_record_too_large_for_its_arena_is_no_bad_record);
	tcase_add_loop_test(tcase, a_request_finds_its_place_by_its_type, 0,
	                    (int)(sizeof CARRIED / sizeof *CARRIED));
	tcase_add_test(tcase, a_request_that_no_record_carries_is_refused);
	suite_add_tcase(suite, tcase);
	return suite;
}

int main(void)
{
	return test_run(make_suite());
}
