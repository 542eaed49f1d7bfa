/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The scan walks the bytes once with a stack of its own, one entry per open
 * message. It is on the path of every write, so it guesses the next field
 * (encoders write fields in order) before it searches, and it does nothing
 * about unknown fields unless it has seen one.
 */
#include "base/wire.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>

#include "base/message.h"
#include "base/utf8.h"

enum {
	VARINT_BYTES_MAX = 10,
	TAG_BYTES_MAX = 5, /* of tags and lengths; protobuf-c takes no more */
};

static const uint8_t NOTHING[1];

/* Where the scan goes on when the message on top of it has ended. */
struct open_message {
	const ProtobufCMessageDescriptor *type;
	const uint8_t *end;
};

struct scan {
	const uint8_t *at;
	const uint8_t *end; /* of the innermost message */
	const ProtobufCMessageDescriptor *type;
	unsigned guess; /* the field that came last, by index */
	bool saw_unknown;
	unsigned depth;
	unsigned depth_max;
	struct open_message open[WIRE_DEPTH_MAX];
};

static bool read_varint(struct scan *scan, unsigned bytes_max, uint64_t *out)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < bytes_max && scan->at < scan->end; i++) {
		uint8_t byte = *scan->at++;

		value |= (uint64_t)(byte & 0x7f) << (7 * i);
		if (byte < 0x80) {
			*out = value;
			return true;
		}
	}
	return false;
}

static bool skip(struct scan *scan, uint64_t count)
{
	if (count > (uint64_t)(scan->end - scan->at))
		return false;
	scan->at += count;
	return true;
}

static const ProtobufCFieldDescriptor *find_field(struct scan *scan, uint32_t number)
{
	const ProtobufCMessageDescriptor *type = scan->type;
	const ProtobufCFieldDescriptor *field;

	for (unsigned i = scan->guess; i < type->n_fields && i < scan->guess + 2; i++) {
		if (type->fields[i].id == number) {
			scan->guess = i;
			return &type->fields[i];
		}
	}
	field = protobuf_c_message_descriptor_get_field(type, number);
	if (field != NULL)
		scan->guess = (unsigned)(field - type->fields);
	else
		scan->saw_unknown = true;
	return field;
}

static ProtobufCWireType wire_type_of(ProtobufCType type)
{
	switch (type) {
	case PROTOBUF_C_TYPE_SFIXED32:
	case PROTOBUF_C_TYPE_FIXED32:
	case PROTOBUF_C_TYPE_FLOAT:
		return PROTOBUF_C_WIRE_TYPE_32BIT;
	case PROTOBUF_C_TYPE_SFIXED64:
	case PROTOBUF_C_TYPE_FIXED64:
	case PROTOBUF_C_TYPE_DOUBLE:
		return PROTOBUF_C_WIRE_TYPE_64BIT;
	case PROTOBUF_C_TYPE_STRING:
	case PROTOBUF_C_TYPE_BYTES:
	case PROTOBUF_C_TYPE_MESSAGE:
		return PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED;
	case PROTOBUF_C_TYPE_INT32:
	case PROTOBUF_C_TYPE_SINT32:
	case PROTOBUF_C_TYPE_INT64:
	case PROTOBUF_C_TYPE_SINT64:
	case PROTOBUF_C_TYPE_UINT32:
	case PROTOBUF_C_TYPE_UINT64:
	case PROTOBUF_C_TYPE_BOOL:
	case PROTOBUF_C_TYPE_ENUM:
		break;
	}
	return PROTOBUF_C_WIRE_TYPE_VARINT;
}

/* The numbers of a repeated field in one piece. */
static bool scan_packed(struct scan *scan, const ProtobufCFieldDescriptor *field, uint64_t len)
{
	const uint8_t *outer = scan->end;
	uint64_t number;

	if (field->label != PROTOBUF_C_LABEL_REPEATED || len > (uint64_t)(outer - scan->at))
		return false;
	switch (wire_type_of(field->type)) {
	case PROTOBUF_C_WIRE_TYPE_32BIT:
		return len % 4 == 0 && skip(scan, len);
	case PROTOBUF_C_WIRE_TYPE_64BIT:
		return len % 8 == 0 && skip(scan, len);
	default:
		break;
	}
	scan->end = scan->at + len;
	while (scan->at < scan->end) {
		if (!read_varint(scan, VARINT_BYTES_MAX, &number))
			return false;
	}
	scan->end = outer;
	return true;
}

static bool scan_string(struct scan *scan, uint64_t len)
{
	const uint8_t *text = scan->at;

	return skip(scan, len) && utf8_is_valid(text, (size_t)len) && memchr(text, 0, (size_t)len) == NULL;
}

static bool open_message(struct scan *scan, const ProtobufCFieldDescriptor *field, uint64_t len)
{
	if (len > (uint64_t)(scan->end - scan->at) || scan->depth + 1 >= scan->depth_max)
		return false;
	scan->open[scan->depth++] = (struct open_message){.type = scan->type, .end = scan->end};
	scan->type = field->descriptor;
	scan->end = scan->at + len;
	scan->guess = 0;
	return true;
}

static bool scan_prefixed(struct scan *scan, const ProtobufCFieldDescriptor *field)
{
	uint64_t len;

	if (!read_varint(scan, TAG_BYTES_MAX, &len))
		return false;
	if (field == NULL || field->type == PROTOBUF_C_TYPE_BYTES)
		return skip(scan, len);
	if (field->type == PROTOBUF_C_TYPE_MESSAGE)
		return open_message(scan, field, len);
	if (field->type == PROTOBUF_C_TYPE_STRING)
		return scan_string(scan, len);
	return scan_packed(scan, field, len);
}

static bool scan_field(struct scan *scan)
{
	const ProtobufCFieldDescriptor *field;
	ProtobufCWireType wire;
	uint64_t tag;

	if (!read_varint(scan, TAG_BYTES_MAX, &tag) || tag > UINT32_MAX || tag >> 3 == 0)
		return false;
	wire = (ProtobufCWireType)(tag & 7);
	field = find_field(scan, (uint32_t)(tag >> 3));
	if (wire == PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED)
		return scan_prefixed(scan, field);
	if (field != NULL && wire_type_of(field->type) != wire)
		return false;
	switch (wire) {
	case PROTOBUF_C_WIRE_TYPE_VARINT:
		return read_varint(scan, VARINT_BYTES_MAX, &tag);
	case PROTOBUF_C_WIRE_TYPE_64BIT:
		return skip(scan, 8);
	case PROTOBUF_C_WIRE_TYPE_32BIT:
		return skip(scan, 4);
	default:
		return false; /* groups are of another age, and protobuf-c refuses them too */
	}
}

/* Whether the bytes are a message of this type that protobuf-c may be given. */
static bool scan_message(struct scan *scan)
{
	for (;;) {
		while (scan->at == scan->end) {
			if (scan->depth == 0)
				return true;
			scan->depth--;
			scan->type = scan->open[scan->depth].type;
			scan->end = scan->open[scan->depth].end;
			scan->guess = 0;
		}
		if (!scan_field(scan))
			return false;
	}
}

static enum status_code unpack(const ProtobufCMessageDescriptor *type, const uint8_t *data, size_t len,
                               unsigned depth_max, struct arena *arena, ProtobufCMessage **out)
{
	struct scan scan;
	ProtobufCMessage *message;

	assert(depth_max <= WIRE_DEPTH_MAX);
	if (len == 0)
		data = NOTHING;
	scan.at = data;
	scan.end = data + len;
	scan.type = type;
	scan.guess = 0;
	scan.saw_unknown = false;
	scan.depth = 0;
	scan.depth_max = depth_max;
	if (!scan_message(&scan))
		return STATUS_BAD_REQUEST;
	/* The bytes are good, so only memory can be missing. */
	message = protobuf_c_message_unpack(type, arena_allocator(arena), len, data);
	if (message == NULL)
		return STATUS_NO_MEMORY;
	if (scan.saw_unknown)
		wire_drop_unknown(message);
	*out = message;
	return STATUS_OK;
}

enum status_code wire_unpack(const ProtobufCMessageDescriptor *type, const uint8_t *data, size_t len,
                             struct arena *arena, ProtobufCMessage **out)
{
	return unpack(type, data, len, WIRE_DEPTH_MAX, arena, out);
}

enum status_code wire_unpack_request(const ProtobufCMessageDescriptor *type, const uint8_t *data,
                                     size_t len, struct arena *arena, ProtobufCMessage **out)
{
	return unpack(type, data, len, WIRE_REQUEST_DEPTH_MAX, arena, out);
}

void wire_pack(const ProtobufCMessage *message, struct buf *buf)
{
	size_t size = protobuf_c_message_get_packed_size(message);
	uint8_t *to;

	if (size == 0)
		return;
	to = buf_reserve(buf, size);
	if (to == NULL)
		return;
	protobuf_c_message_pack(message, to);
	buf->len += size;
}

static void drop_unknown_in_field(ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
	void *value = message_value_mutable(message, field);

	if (field->label == PROTOBUF_C_LABEL_REPEATED) {
		ProtobufCMessage **items = *(ProtobufCMessage ***)value;

		for (size_t i = 0; i < message_count(message, field); i++)
			wire_drop_unknown(items[i]);
		return;
	}
	if (message_field_in_oneof(field) && message_case(message, field) != field->id)
		return;
	if (*(ProtobufCMessage **)value != NULL)
		wire_drop_unknown(*(ProtobufCMessage **)value);
}

void wire_drop_unknown(ProtobufCMessage *message)
{
	message->n_unknown_fields = 0;
	message->unknown_fields = NULL;
	for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
		const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];

		if (field->type == PROTOBUF_C_TYPE_MESSAGE)
			drop_unknown_in_field(message, field);
	}
}
