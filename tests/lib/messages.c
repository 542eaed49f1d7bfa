/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/messages.h"

#include <stdlib.h>
#include <string.h>

#include "base/message.h"
#include "engine/method.h"

enum {
	DEPTH_MAX = 6,
	ITEMS_MAX = 4,
};

size_t messages_type_count(void)
{
	return 2 * method_count();
}

const ProtobufCMessageDescriptor *messages_type(size_t index)
{
	const struct method *method = method_at(index / 2);

	return index % 2 == 0 ? method->input : method->output;
}

/* xorshift64 (Marsaglia). */
static uint64_t draw(uint64_t *generator)
{
	*generator ^= *generator << 13;
	*generator ^= *generator >> 7;
	*generator ^= *generator << 17;
	return *generator;
}

static void *allocate(struct arena *arena, size_t size)
{
	void *object = arena_calloc(arena, 1, size);

	if (object == NULL)
		abort();
	return object;
}

/* Small, large and of either sign. */
static uint64_t draw_integer(uint64_t *generator)
{
	uint64_t number = draw(generator) >> draw(generator) % 64;

	return draw(generator) % 2 == 0 ? number : 0 - number;
}

static ProtobufCBinaryData draw_bytes(uint64_t *generator, struct arena *arena)
{
	ProtobufCBinaryData bytes = {.len = draw(generator) % (draw(generator) % 8 == 0 ? 300 : 12)};

	bytes.data = allocate(arena, bytes.len + 1);
	for (size_t i = 0; i < bytes.len; i++)
		bytes.data[i] = (uint8_t)draw(generator);
	return bytes;
}

static char *draw_string(uint64_t *generator, struct arena *arena)
{
	static const char *const PIECES[] = {
		"a",
		"Z9",
		"\"",
		"\\",
		"/",
		"\n",
		"\x01",
		"<&",
		" ",
		"\xc3\xa9",
		"\xe2\x82\xac",
		"\x7f",
		"\xf0\x9f\x98\x80",
		"a plain text long enough not to go through the parser at all"};
	size_t pieces = draw(generator) % 9;
	char *text = allocate(arena, 9 * 64);

	for (size_t i = 0; i < pieces; i++)
		strcat(text, PIECES[draw(generator) % (sizeof PIECES / sizeof PIECES[0])]);
	return text;
}

static ProtobufCMessage *draw_message(const ProtobufCMessageDescriptor *type, uint64_t *generator,
                                      struct arena *arena, unsigned depth);

static void draw_value(const ProtobufCFieldDescriptor *field, void *to, uint64_t *generator,
                       struct arena *arena, unsigned depth)
{
	const ProtobufCEnumDescriptor *type;
	ProtobufCBinaryData bytes;
	uint64_t number = draw_integer(generator);
	uint32_t narrow = (uint32_t)number;
	void *pointer;

	switch (field->type) {
	case PROTOBUF_C_TYPE_MESSAGE:
		pointer = draw_message(field->descriptor, generator, arena, depth + 1);
		memcpy(to, &pointer, sizeof pointer);
		return;
	case PROTOBUF_C_TYPE_STRING:
		pointer = draw_string(generator, arena);
		memcpy(to, &pointer, sizeof pointer);
		return;
	case PROTOBUF_C_TYPE_BYTES:
		bytes = draw_bytes(generator, arena);
		memcpy(to, &bytes, sizeof bytes);
		return;
	case PROTOBUF_C_TYPE_BOOL:
		narrow %= 2;
		break;
	case PROTOBUF_C_TYPE_ENUM:
		type = field->descriptor;
		if (draw(generator) % 4 != 0)
			narrow = (uint32_t)type->values[draw(generator) % type->n_values].value;
		break;
	default:
		break;
	}
	if (message_element_size(field->type) == sizeof number)
		memcpy(to, &number, sizeof number);
	else
		memcpy(to, &narrow, sizeof narrow);
}

static void draw_list(ProtobufCMessage *message, const ProtobufCFieldDescriptor *field, uint64_t *generator,
                      struct arena *arena, unsigned depth)
{
	size_t count = draw(generator) % (ITEMS_MAX + 1);
	size_t size = message_element_size(field->type);
	uint8_t *items = allocate(arena, count * size);

	for (size_t i = 0; i < count; i++)
		draw_value(field, items + i * size, generator, arena, depth);
	*message_count_mutable(message, field) = count;
	memcpy(message_value_mutable(message, field), &items, sizeof items);
}

static void draw_field(ProtobufCMessage *message, const ProtobufCFieldDescriptor *field,
                       uint64_t *generator, struct arena *arena, unsigned depth)
{
	if (field->label == PROTOBUF_C_LABEL_REPEATED) {
		draw_list(message, field, generator, arena, depth);
		return;
	}
	if (message_field_in_oneof(field)) {
		if (message_case(message, field) != 0)
			return;
		*message_case_mutable(message, field) = field->id;
	}
	draw_value(field, message_value_mutable(message, field), generator, arena, depth);
}

static ProtobufCMessage *draw_message(const ProtobufCMessageDescriptor *type, uint64_t *generator,
                                      struct arena *arena, unsigned depth)
{
	ProtobufCMessage *message = allocate(arena, type->sizeof_message);

	protobuf_c_message_init(type, message);
	for (unsigned i = 0; i < type->n_fields; i++) {
		const ProtobufCFieldDescriptor *field = &type->fields[i];

		if (draw(generator) % 3 == 0 ||
		    (depth == DEPTH_MAX && field->type == PROTOBUF_C_TYPE_MESSAGE))
			continue;
		draw_field(message, field, generator, arena, depth);
	}
	return message;
}

ProtobufCMessage *messages_random(const ProtobufCMessageDescriptor *type, uint64_t *generator,
                                  struct arena *arena)
{
	return draw_message(type, generator, arena, 0);
}
