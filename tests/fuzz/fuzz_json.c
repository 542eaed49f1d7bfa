/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as the JSON body of any request. The first byte chooses the
 * method. What is taken must survive the way to JSON and back.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/wire.h"
#include "edge/json.h"
#include "engine/method.h"

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
	const char *error;
	struct buf json, first, second;

	buf_init(&json);
	buf_init(&first);
	buf_init(&second);
	json_encode(message, &json);
	if (json_decode(message->descriptor, (char *)json.data, json.len, arena, &again, &error) !=
	    STATUS_OK)
		abort();
	wire_pack(message, &first);
	wire_pack(again, &second);
	if (first.len != second.len || (first.len > 0 && memcmp(first.data, second.data, first.len) != 0))
		abort();
	buf_release(&json);
	buf_release(&first);
	buf_release(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	ProtobufCMessage *message;
	const char *error;
	struct arena arena;

	if (size == 0)
		return 0;
	arena_init(&arena, 64 << 20, NULL, 0);
	if (json_decode(method_at(data[0] % method_count())->input, (const char *)data + 1, size - 1,
	                &arena, &message, &error) == STATUS_OK)
		check_way_back(message, &arena);
	arena_release(&arena);
	return 0;
}
