/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as a protobuf message. The first byte chooses the type: a record
 * of the log or the request of a method. What is taken packs to bytes that are
 * taken too, and packs to the same again.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/wire.h"
#include "engine/method.h"
#include "record.pb-c.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	method_init();
	return 0;
}

static void check_way_back(const ProtobufCMessage *message, struct arena *arena)
{
	ProtobufCMessage *again;
	struct buf first, second;

	buf_init(&first);
	buf_init(&second);
	wire_pack(message, &first);
	if (wire_unpack(message->descriptor, first.data, first.len, arena, &again) != STATUS_OK)
		abort();
	wire_pack(again, &second);
	if (first.len != second.len || (first.len > 0 && memcmp(first.data, second.data, first.len) != 0))
		abort();
	buf_release(&first);
	buf_release(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const ProtobufCMessageDescriptor *type = &pb__record__descriptor;
	ProtobufCMessage *message;
	struct arena arena;

	if (size == 0)
		return 0;
	if (data[0] != 0)
		type = method_at(data[0] % method_count())->input;
	arena_init(&arena, 64 << 20, NULL, 0);
	if (wire_unpack(type, data + 1, size - 1, &arena, &message) == STATUS_OK)
		check_way_back(message, &arena);
	arena_release(&arena);
	return 0;
}
