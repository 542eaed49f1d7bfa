/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as the body of a stream of requests. Each message must lie behind
 * the one before, and mean by itself what it means among the others.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/wire.h"
#include "edge/json.h"
#include "rpc.pb-c.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void compare_alone(const ProtobufCMessage *message, const char *text, size_t len,
                          struct arena *arena)
{
	ProtobufCMessage *alone;
	const char *error;
	struct buf first, second;

	buf_init(&first);
	buf_init(&second);
	if (json_decode(message->descriptor, text, len, arena, &alone, &error) != STATUS_OK)
		abort();
	wire_pack(message, &first);
	wire_pack(alone, &second);
	if (first.len != second.len || (first.len > 0 && memcmp(first.data, second.data, first.len) != 0))
		abort();
	buf_release(&first);
	buf_release(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data;
	size_t left = size;
	struct arena arena;

	arena_init(&arena, 64 << 20, NULL, 0);
	for (;;) {
		const char *from = text;
		size_t before = left;
		ProtobufCMessage *message;
		const char *error;

		if (json_decode_next(&pb__watch_request__descriptor, &text, &left, &arena, &message,
		                     &error) != STATUS_OK ||
		    message == NULL)
			break;
		if (left >= before || text + left != (const char *)data + size)
			abort();
		compare_alone(message, from, before - left, &arena);
		arena_reset(&arena);
	}
	arena_release(&arena);
	return 0;
}
