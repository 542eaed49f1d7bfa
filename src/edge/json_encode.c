/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A message to JSON, straight into the buffer: for each field that is set, its
 * name and its value, without a tree between. A listing of 100,000 keys is one
 * pass, so the loop over fields asks for room once per field and then writes.
 */
#include "edge/json.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>

#include "base/message.h"

/* What a name takes besides its letters: a comma, two quotes and a colon. */
enum { NAME_EXTRA = 4 };

static bool is_bytes_empty(const void *value)
{
	return ((const ProtobufCBinaryData *)value)->len == 0;
}

static bool is_string_empty(const void *value)
{
	const char *text = *(const char *const *)value;

	return text == NULL || text[0] == '\0';
}

static bool is_default(const void *value, ProtobufCType type)
{
	switch (type) {
	case PROTOBUF_C_TYPE_MESSAGE:
		return *(const ProtobufCMessage *const *)value == NULL;
	case PROTOBUF_C_TYPE_STRING:
		return is_string_empty(value);
	case PROTOBUF_C_TYPE_BYTES:
		return is_bytes_empty(value);
	case PROTOBUF_C_TYPE_INT64:
	case PROTOBUF_C_TYPE_SINT64:
	case PROTOBUF_C_TYPE_SFIXED64:
	case PROTOBUF_C_TYPE_UINT64:
	case PROTOBUF_C_TYPE_FIXED64:
		return *(const uint64_t *)value == 0;
	default:
		return *(const uint32_t *)value == 0;
	}
}

static bool is_set(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
	if (field->label == PROTOBUF_C_LABEL_REPEATED)
		return message_count(message, field) > 0;
	if (message_field_in_oneof(field))
		return message_case(message, field) == field->id;
	if (field->label == PROTOBUF_C_LABEL_OPTIONAL && field->quantifier_offset != 0)
		return message_has(message, field);
	return !is_default(message_value(message, field), field->type);
}

static void encode_name(const char *name, bool first, struct buf *buf)
{
	size_t len = strlen(name);
	uint8_t *to = buf_reserve(buf, len + NAME_EXTRA);

	if (to == NULL)
		return;
	if (!first)
		*to++ = ',';
	*to++ = '"';
	memcpy(to, name, len);
	to += len;
	*to++ = '"';
	*to = ':';
	buf->len += len + NAME_EXTRA - first;
}

static void encode_enum(int value, const ProtobufCEnumDescriptor *type, struct buf *buf)
{
	const ProtobufCEnumValue *known = protobuf_c_enum_descriptor_get_value(type, value);

	if (known == NULL) {
		buf_append_i64(buf, value);
		return;
	}
	buf_append_byte(buf, '"');
	buf_append_text(buf, known->name);
	buf_append_byte(buf, '"');
}

static void encode_bytes(const ProtobufCBinaryData *bytes, struct buf *buf)
{
	buf_append_byte(buf, '"');
	buf_append_base64(buf, bytes->data, bytes->len);
	buf_append_byte(buf, '"');
}

static void encode_string(const char *text, struct buf *buf)
{
	if (text == NULL)
		text = "";
	buf_append_json(buf, text, strlen(text));
}

static void encode_value(const void *value, const ProtobufCFieldDescriptor *field, struct buf *buf)
{
	switch (field->type) {
	case PROTOBUF_C_TYPE_INT32:
	case PROTOBUF_C_TYPE_SINT32:
	case PROTOBUF_C_TYPE_SFIXED32:
		buf_append_i64(buf, *(const int32_t *)value);
		return;
	case PROTOBUF_C_TYPE_UINT32:
	case PROTOBUF_C_TYPE_FIXED32:
		buf_append_u64(buf, *(const uint32_t *)value);
		return;
	case PROTOBUF_C_TYPE_INT64:
	case PROTOBUF_C_TYPE_SINT64:
	case PROTOBUF_C_TYPE_SFIXED64:
		buf_append_byte(buf, '"');
		buf_append_i64(buf, *(const int64_t *)value);
		buf_append_byte(buf, '"');
		return;
	case PROTOBUF_C_TYPE_UINT64:
	case PROTOBUF_C_TYPE_FIXED64:
		buf_append_byte(buf, '"');
		buf_append_u64(buf, *(const uint64_t *)value);
		buf_append_byte(buf, '"');
		return;
	case PROTOBUF_C_TYPE_BOOL:
		buf_append_text(buf, *(const protobuf_c_boolean *)value ? "true" : "false");
		return;
	case PROTOBUF_C_TYPE_ENUM:
		encode_enum(*(const int *)value, field->descriptor, buf);
		return;
	case PROTOBUF_C_TYPE_STRING:
		encode_string(*(const char *const *)value, buf);
		return;
	case PROTOBUF_C_TYPE_BYTES:
		encode_bytes(value, buf);
		return;
	case PROTOBUF_C_TYPE_MESSAGE:
		json_encode(*(const ProtobufCMessage *const *)value, buf);
		return;
	case PROTOBUF_C_TYPE_FLOAT:
	case PROTOBUF_C_TYPE_DOUBLE:
		break; /* the API has none, and a test sees to it */
	}
	assert(false && "a field of a type that the API does not use");
}

static void encode_list(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field,
                        struct buf *buf)
{
	const uint8_t *items = *(const uint8_t *const *)message_value(message, field);
	size_t size = message_element_size(field->type);

	buf_append_byte(buf, '[');
	for (size_t i = 0; i < message_count(message, field); i++) {
		if (i > 0)
			buf_append_byte(buf, ',');
		encode_value(items + i * size, field, buf);
	}
	buf_append_byte(buf, ']');
}

void json_encode(const ProtobufCMessage *message, struct buf *buf)
{
	const ProtobufCMessageDescriptor *type = message->descriptor;
	bool first = true;

	buf_append_byte(buf, '{');
	for (unsigned i = 0; i < type->n_fields; i++) {
		const ProtobufCFieldDescriptor *field = &type->fields[i];

		if (!is_set(message, field))
			continue;
		encode_name(field->name, first, buf);
		first = false;
		if (field->label == PROTOBUF_C_LABEL_REPEATED)
			encode_list(message, field, buf);
		else
			encode_value(message_value(message, field), field, buf);
	}
	buf_append_byte(buf, '}');
}

void json_encode_error(struct buf *buf, int code, const char *message)
{
	buf_append_text(buf, "{\"code\":");
	buf_append_i64(buf, code);
	buf_append_text(buf, ",\"message\":");
	buf_append_json(buf, message, strlen(message));
	buf_append_byte(buf, '}');
}
