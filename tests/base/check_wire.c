/* SPDX-License-Identifier: Apache-2.0 */
#include "base/wire.h"

#include <stdlib.h>
#include <string.h>

#include "engine/method.h"
#include "lib/messages.h"
#include "lib/test.h"
#include "record.pb-c.h"

#define PUT &pb__put_request__descriptor
#define TXN &pb__txn_request__descriptor
#define USER &pb__auth_user_add_request__descriptor
#define MEMBER &pb__member_update_request__descriptor
#define CREATE &pb__watch_create_request__descriptor
#define RANGE_RESPONSE &pb__range_response__descriptor

#define BYTES(text) text, sizeof text - 1

struct example {
	const ProtobufCMessageDescriptor *type;
	const char *data;
	size_t len;
	bool good;
};

static const struct example EXAMPLES[] = {
	{PUT, BYTES(""), true},
	{PUT, BYTES("\x0a\x01k\x12\x01v"), true},
	{PUT, BYTES("\x12\x01v\x0a\x01k"), true},
	{PUT, BYTES("\x0a\x01k\x0a\x01l"), true}, /* twice: the last counts */
	{PUT, BYTES("\x0a\x00"), true},
	{PUT, BYTES("\x18\x05"), true}, /* lease */
	{PUT, BYTES("\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), true},
	{PUT,
         BYTES("\x9a\x06\x01x\xa0\x06\x05\xa5\x06"
               "1234\xa1\x06"
               "12345678"),
         true},                           /* unknown */
	{PUT, BYTES("\x0a"), false},      /* the length is missing */
	{PUT, BYTES("\x0a\x02k"), false}, /* and more than there is */
	{PUT, BYTES("\x0a\xff\xff\xff\xff\x0f"), false},
	{PUT, BYTES("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), false},
	{PUT, BYTES("\x8a\x80\x80\x80\x80\x80\x00\x01k"), false}, /* a tag of seven bytes */
	{PUT, BYTES("\x80"), false},
	{PUT, BYTES("\x18"), false},
	{PUT, BYTES("\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), false},
	{PUT, BYTES("\x02\x00"), false},         /* field 0 */
	{PUT, BYTES("\x0b\x0c"), false},         /* a group */
	{PUT, BYTES("\x9b\x06\x9c\x06"), false}, /* an unknown one */
	{PUT, BYTES("\x0e"), false},             /* wire types 6 and 7 */
	{PUT, BYTES("\x0f"), false},
	{PUT, BYTES("\x08\x01"), false},     /* a key that is a number */
	{PUT, BYTES("\x1a\x01\x05"), false}, /* a lease that is bytes */
	{PUT,
         BYTES("\xa5\x06"
               "123"),
         false},
	{PUT,
         BYTES("\xa1\x06"
               "1234567"),
         false},
	{USER,
         BYTES("\x0a\x05"
               "alice"),
         true},
	{USER, BYTES("\x0a\x02\xc3\xa9"), true},
	{USER, BYTES("\x0a\x06root\0x"), false},
	{USER, BYTES("\x0a\x01\xff"), false},
	{USER, BYTES("\x0a\x02\xc0\x80"), false},
	{USER, BYTES("\x0a\x03\xed\xa0\x80"), false},
	{USER, BYTES("\x1a\x02\x08\x01"), true}, /* options */
	{USER, BYTES("\x1a\x02\x08"), false},
	{USER, BYTES("\x1a\x02\x0a\x01"), false},
	{MEMBER,
         BYTES("\x12\x01"
               "a\x12\x01"
               "b"),
         true},
	{MEMBER, BYTES("\x12\x01\0"), false},
	{CREATE, BYTES("\x2a\x03\x00\x01\x07"), true}, /* filters, packed */
	{CREATE, BYTES("\x28\x00\x28\x01"), true},     /* and not */
	{CREATE, BYTES("\x2a\x00"), true},
	{CREATE, BYTES("\x2a\x02\x00\x80"), false},
	{CREATE, BYTES("\x2a\x03\x00\x01"), false},
	{RANGE_RESPONSE, BYTES("\x12\x00\x12\x03\x0a\x01k\x18\x01"), true},
	{RANGE_RESPONSE, BYTES("\x12\x02\x0a\x01k"), false}, /* past its message's end */
};

static enum status_code unpack(const ProtobufCMessageDescriptor *type, const void *data, size_t len,
                               struct arena *arena, ProtobufCMessage **out)
{
	/* A copy of its own, so that reading past its end is found. */
	uint8_t *copy = malloc(len + 1);
	enum status_code status;

	memcpy(copy + 1, data, len);
	status = wire_unpack_request(type, copy + 1, len, arena, out);
	free(copy);
	return status;
}

START_TEST(only_well_formed_bytes_are_taken)
{
	const struct example *example = &EXAMPLES[_i];
	ProtobufCMessage *message;
	struct arena arena;

	arena_init(&arena, 1 << 20, NULL, 0);
	ck_assert_int_eq(unpack(example->type, example->data, example->len, &arena, &message),
	                 example->good ? STATUS_OK : STATUS_BAD_REQUEST);
	arena_release(&arena);
}
END_TEST

START_TEST(packing_and_unpacking_give_the_same_bytes)
{
	const ProtobufCMessageDescriptor *type = messages_type((size_t)_i);
	uint64_t generator = (uint64_t)_i * 104729 + 1;
	struct buf packed, again;

	buf_init(&packed);
	buf_init(&again);
	for (int round = 0; round < 40; round++) {
		ProtobufCMessage *message;
		struct arena arena;

		arena_init(&arena, 16 << 20, NULL, 0);
		buf_reset(&packed);
		buf_reset(&again);
		wire_pack(messages_random(type, &generator, &arena), &packed);
		ck_assert_int_eq(wire_unpack(type, packed.data, packed.len, &arena, &message), STATUS_OK);
		wire_pack(message, &again);
		ck_assert_uint_eq(packed.len, again.len);
		if (packed.len > 0)
			ck_assert_mem_eq(packed.data, again.data, packed.len);
		arena_release(&arena);
	}
	buf_release(&packed);
	buf_release(&again);
}
END_TEST

START_TEST(unknown_fields_are_dropped_at_every_depth)
{
	/* success { request_put { key, field 100 } field 100 } field 100 */
	static const char DATA[] = "\x12\x0b\x12\x06\x0a\x01k\xa0\x06\x05\xa0\x06\x05\xa0\x06\x05";
	static const char KNOWN[] = "\x12\x05\x12\x03\x0a\x01k";
	ProtobufCMessage *message;
	struct arena arena;
	struct buf buf;

	arena_init(&arena, 1 << 20, NULL, 0);
	buf_init(&buf);
	ck_assert_int_eq(unpack(TXN, DATA, sizeof DATA - 1, &arena, &message), STATUS_OK);
	wire_pack(message, &buf);
	ck_assert_uint_eq(buf.len, sizeof KNOWN - 1);
	ck_assert_mem_eq(buf.data, KNOWN, buf.len);
	buf_release(&buf);
	arena_release(&arena);
}
END_TEST

/* Transactions in transactions, two messages for each. Built from the inside,
 * the length of what it holds before each. */
static void nest(struct arena *arena, size_t depth, struct buf *buf)
{
	Pb__TxnRequest *txn = NULL;

	for (size_t i = 0; i <= depth; i++) {
		Pb__TxnRequest *outer = arena_alloc(arena, sizeof *outer);
		Pb__RequestOp *op = arena_alloc(arena, sizeof *op);
		Pb__RequestOp **ops = arena_alloc(arena, sizeof *ops);

		pb__txn_request__init(outer);
		if (txn != NULL) {
			pb__request_op__init(op);
			op->request_case = PB__REQUEST_OP__REQUEST_REQUEST_TXN;
			op->request_txn = txn;
			*ops = op;
			outer->success = ops;
			outer->n_success = 1;
		}
		txn = outer;
	}
	buf_reset(buf);
	wire_pack(&txn->base, buf);
}

START_TEST(nesting_is_bounded_for_clients)
{
	ProtobufCMessage *message;
	struct arena arena;
	struct buf buf;

	arena_init(&arena, 16 << 20, NULL, 0);
	buf_init(&buf);
	nest(&arena, 49, &buf); /* 99 messages */
	ck_assert_int_eq(unpack(TXN, buf.data, buf.len, &arena, &message), STATUS_OK);
	nest(&arena, 50, &buf);
	ck_assert_int_eq(unpack(TXN, buf.data, buf.len, &arena, &message), STATUS_BAD_REQUEST);
	nest(&arena, 3000, &buf);
	ck_assert_int_eq(unpack(TXN, buf.data, buf.len, &arena, &message), STATUS_BAD_REQUEST);
	buf_release(&buf);
	arena_release(&arena);
}
END_TEST

START_TEST(what_a_client_may_send_fits_into_a_record)
{
	Pb__Record rec;
	ProtobufCMessage *message;
	struct arena arena;
	struct buf buf;

	arena_init(&arena, 16 << 20, NULL, 0);
	buf_init(&buf);
	nest(&arena, 49, &buf);
	ck_assert_int_eq(unpack(TXN, buf.data, buf.len, &arena, &message), STATUS_OK);
	pb__record__init(&rec);
	rec.request_case = PB__RECORD__REQUEST_TXN;
	rec.txn = (Pb__TxnRequest *)message;
	buf_reset(&buf);
	wire_pack(&rec.base, &buf);
	ck_assert_int_eq(wire_unpack(&pb__record__descriptor, buf.data, buf.len, &arena, &message),
	                 STATUS_OK);
	buf_release(&buf);
	arena_release(&arena);
}
END_TEST

START_TEST(the_arena_bounds_what_bytes_ask_for)
{
	enum { OPERATIONS = 100000 };
	char *data = malloc(2 * OPERATIONS);
	ProtobufCMessage *message;
	struct arena arena;

	for (size_t i = 0; i < OPERATIONS; i++)
		memcpy(data + 2 * i, "\x12\x00", 2);
	arena_init(&arena, 1 << 20, NULL, 0);
	ck_assert_int_eq(unpack(TXN, data, 2 * OPERATIONS, &arena, &message), STATUS_NO_MEMORY);
	arena_release(&arena);
	free(data);
}
END_TEST

START_TEST(unset_strings_keep_the_shared_default)
{
	ProtobufCMessage *message;
	struct arena arena;

	arena_init(&arena, 1 << 20, NULL, 0);
	ck_assert_int_eq(wire_unpack(USER, NULL, 0, &arena, &message), STATUS_OK);
	ck_assert_ptr_eq(((Pb__AuthUserAddRequest *)message)->name, protobuf_c_empty_string);
	arena_release(&arena);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("wire");
	TCase *tcase = tcase_create("wire");

	tcase_add_loop_test(tcase, only_well_formed_bytes_are_taken, 0,
	                    sizeof EXAMPLES / sizeof EXAMPLES[0]);
	tcase_add_loop_test(tcase, packing_and_unpacking_give_the_same_bytes, 0,
	                    (int)messages_type_count());
	tcase_add_test(tcase, unknown_fields_are_dropped_at_every_depth);
	tcase_add_test(tcase, nesting_is_bounded_for_clients);
	tcase_add_test(tcase, what_a_client_may_send_fits_into_a_record);
	tcase_add_test(tcase, the_arena_bounds_what_bytes_ask_for);
	tcase_add_test(tcase, unset_strings_keep_the_shared_default);
	suite_add_tcase(suite, tcase);
	return suite;
}

int main(void)
{
	method_init();
	return test_run(make_suite());
}
