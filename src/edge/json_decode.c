/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jansson's tree to a message. The walk goes over what the client sent and
 * looks each name up in the descriptor; so its cost follows the request, and
 * what is not mentioned keeps the default that init gave it.
 *
 * Where it stands is a chain of places on the stack, which becomes text, such
 * as success[0].request_put.lease, only when something is wrong.
 */
#include "edge/json.h"

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/base64.h"
#include "base/decimal.h"
#include "base/message.h"
#include "base/wire.h"
#include "edge/json_parse.h"
#include "edge/json_shorten.h"

enum { PATH_MAX_BYTES = 256 };

struct decoder {
	struct arena *arena;
	struct json_tree tree;
	const char *message;
};

/* A value's way to the top: a field, or an item of the list above it. */
struct place {
	const struct place *above; /* NULL at the top, which has no name */
	const char *name;          /* NULL for an item */
	size_t index;
	unsigned depth; /* of messages */
};

static enum status_code decode_message(struct decoder *decoder, const struct place *place,
                                       const json_t *json, const ProtobufCMessageDescriptor *type,
                                       ProtobufCMessage **out);

/* Writes the end of the path first, at the end of the text; a long path loses
 * its beginning. */
static const char *print_place(const struct place *place, char text[static PATH_MAX_BYTES])
{
	char *at = text + PATH_MAX_BYTES - 1;
	char item[32];

	*at = '\0';
	for (; place->above != NULL; place = place->above) {
		bool dot = place->name != NULL && place->above->above != NULL;
		size_t len;

		if (place->name == NULL)
			snprintf(item, sizeof item, "[%zu]", place->index);
		len = strlen(place->name != NULL ? place->name : item);
		if (len + dot > (size_t)(at - text))
			break;
		at -= len;
		memcpy(at, place->name != NULL ? place->name : item, len);
		if (dot)
			*--at = '.';
	}
	return *at == '\0' ? "the body" : at;
}

static enum status_code refuse(struct decoder *decoder, const struct place *place, const char *what)
{
	char path[PATH_MAX_BYTES];

	decoder->message = arena_printf(decoder->arena, "%s: %s", print_place(place, path), what);
	return decoder->message == NULL ? STATUS_NO_MEMORY : STATUS_BAD_REQUEST;
}

static const char *kind_of(const json_t *json)
{
	switch (json_typeof(json)) {
	case JSON_OBJECT:
		return "an object";
	case JSON_ARRAY:
		return "a list";
	case JSON_STRING:
		return "a string";
	case JSON_INTEGER:
	case JSON_REAL:
		return "a number";
	case JSON_TRUE:
	case JSON_FALSE:
		return "a boolean";
	case JSON_NULL:
		break;
	}
	return "null";
}

static enum status_code refuse_kind(struct decoder *decoder, const struct place *place, const json_t *json,
                                    const char *expected)
{
	char what[128];

	snprintf(what, sizeof what, "expected %s, got %s", expected, kind_of(json));
	return refuse(decoder, place, what);
}

/* Whether the key is the name in lowerCamelCase: without underscores, and with
 * a capital where a small letter followed one. */
static bool is_camel_case_of(const char *key, const char *name)
{
	for (; *name != '\0'; name++) {
		char expected = *name;

		if (expected == '_')
			continue;
		if (name[-1] == '_' && expected >= 'a' && expected <= 'z')
			expected = (char)(expected - 'a' + 'A');
		if (*key++ != expected)
			return false;
	}
	return *key == '\0';
}

/* Messages have few fields, and the first letters differ in most. */
static const ProtobufCFieldDescriptor *find_field(const ProtobufCMessageDescriptor *type, const char *key)
{
	for (unsigned i = 0; i < type->n_fields; i++) {
		const char *name = type->fields[i].name;

		if (name[0] == key[0] && (strcmp(name, key) == 0 || is_camel_case_of(key + 1, name + 1)))
			return &type->fields[i];
	}
	return NULL;
}

/* 1.0 and 1e3 are whole; jansson has rounded what a double cannot hold. */
static bool read_real(double real, struct decimal *out)
{
	double magnitude = real < 0 ? -real : real;

	if (!(magnitude < 0x1p64) || (double)(uint64_t)magnitude != magnitude)
		return false;
	*out = (struct decimal){.magnitude = (uint64_t)magnitude, .negative = real < 0};
	return true;
}

static bool read_whole(const struct decoder *decoder, const json_t *json, struct decimal *out)
{
	const char *text;
	size_t len;
	json_int_t integer;

	switch (json_typeof(json)) {
	case JSON_INTEGER:
		integer = json_integer_value(json);
		out->negative = integer < 0;
		out->magnitude = integer < 0 ? 0 - (uint64_t)integer : (uint64_t)integer;
		return true;
	case JSON_REAL:
		return read_real(json_real_value(json), out);
	case JSON_STRING:
		text = json_tree_string(&decoder->tree, json, &len);
		return decimal_parse(text, len, out);
	default:
		return false;
	}
}

/* The largest values of an integer type, and its name for messages. */
struct integer_range {
	uint64_t positive;
	uint64_t negative;
	const char *name;
};

static const struct integer_range INT32 = {INT32_MAX, (uint64_t)INT32_MAX + 1, "a 32-bit integer"};
static const struct integer_range INT64 = {INT64_MAX, (uint64_t)INT64_MAX + 1, "a 64-bit integer"};
static const struct integer_range UINT32 = {UINT32_MAX, 0, "an unsigned 32-bit integer"};
static const struct integer_range UINT64 = {UINT64_MAX, 0, "an unsigned 64-bit integer"};

/* The number in two's complement. */
static enum status_code decode_integer(struct decoder *decoder, const struct place *place,
                                       const json_t *json, const struct integer_range *range, uint64_t *out)
{
	struct decimal number = {0};
	char what[160];
	bool wide = range->positive > UINT32_MAX;

	if (read_whole(decoder, json, &number) &&
	    number.magnitude <= (number.negative ? range->negative : range->positive)) {
		*out = number.negative ? 0 - number.magnitude : number.magnitude;
		return STATUS_OK;
	}
	if (!json_is_string(json) && !json_is_number(json))
		return refuse_kind(decoder, place, json, range->name);
	snprintf(what, sizeof what, "expected %s, as a number or in a string%s", range->name,
	         json_is_real(json) && wide ? " (a string keeps all digits)" : "");
	return refuse(decoder, place, what);
}

static enum status_code decode_32(struct decoder *decoder, const struct place *place, const json_t *json,
                                  const struct integer_range *range, void *to)
{
	uint64_t number;
	uint32_t narrow;
	enum status_code status = decode_integer(decoder, place, json, range, &number);

	if (status != STATUS_OK)
		return status;
	narrow = (uint32_t)number;
	memcpy(to, &narrow, sizeof narrow);
	return STATUS_OK;
}

static enum status_code decode_64(struct decoder *decoder, const struct place *place, const json_t *json,
                                  const struct integer_range *range, void *to)
{
	uint64_t number;
	enum status_code status = decode_integer(decoder, place, json, range, &number);

	if (status == STATUS_OK)
		memcpy(to, &number, sizeof number);
	return status;
}

static enum status_code decode_bool(struct decoder *decoder, const struct place *place, const json_t *json,
                                    protobuf_c_boolean *to)
{
	if (!json_is_boolean(json))
		return refuse_kind(decoder, place, json, "true or false");
	*to = json_is_true(json);
	return STATUS_OK;
}

/* An unknown name is skipped: a newer client's value is not this server's to
 * judge. A number is kept whatever it is; the handlers judge it. */
static enum status_code decode_enum(struct decoder *decoder, const struct place *place, const json_t *json,
                                    const ProtobufCEnumDescriptor *type, int *to, bool *skipped)
{
	const ProtobufCEnumValue *value;

	if (json_is_number(json))
		return decode_32(decoder, place, json, &INT32, to);
	if (!json_is_string(json))
		return refuse_kind(decoder, place, json, "the name or number of an enum value");
	/* A name that was cut out of the text is too long to be known. */
	value = protobuf_c_enum_descriptor_get_value_by_name(type, json_string_value(json));
	*skipped = value == NULL || strlen(value->name) != json_string_length(json);
	if (!*skipped)
		*to = value->value;
	return STATUS_OK;
}

static enum status_code decode_string(struct decoder *decoder, const struct place *place,
                                      const json_t *json, char **to)
{
	const char *text;
	size_t len;

	if (!json_is_string(json))
		return refuse_kind(decoder, place, json, "a string");
	text = json_tree_string(&decoder->tree, json, &len);
	if (memchr(text, 0, len) != NULL)
		return refuse(decoder, place, "the string must not hold U+0000");
	*to = arena_alloc(decoder->arena, len + 1);
	if (*to == NULL)
		return STATUS_NO_MEMORY;
	memcpy(*to, text, len);
	(*to)[len] = '\0';
	return STATUS_OK;
}

static enum status_code decode_bytes(struct decoder *decoder, const struct place *place, const json_t *json,
                                     ProtobufCBinaryData *to)
{
	const char *text;
	const char *wrong;
	size_t len;
	char what[128];

	if (!json_is_string(json))
		return refuse_kind(decoder, place, json, "a string of base64");
	text = json_tree_string(&decoder->tree, json, &len);
	to->data = arena_alloc(decoder->arena, BASE64_DECODED_MAX(len));
	if (to->data == NULL)
		return STATUS_NO_MEMORY;
	wrong = base64_decode(text, len, to->data, &to->len);
	if (wrong == NULL)
		return STATUS_OK;
	snprintf(what, sizeof what, "not valid base64: %s", wrong);
	return refuse(decoder, place, what);
}

/* One value of any type to where the message or list has room for it. */
static enum status_code decode_value(struct decoder *decoder, const struct place *place, const json_t *json,
                                     const ProtobufCFieldDescriptor *field, void *to, bool *skipped)
{
	*skipped = false;
	switch (field->type) {
	case PROTOBUF_C_TYPE_INT32:
	case PROTOBUF_C_TYPE_SINT32:
	case PROTOBUF_C_TYPE_SFIXED32:
		return decode_32(decoder, place, json, &INT32, to);
	case PROTOBUF_C_TYPE_UINT32:
	case PROTOBUF_C_TYPE_FIXED32:
		return decode_32(decoder, place, json, &UINT32, to);
	case PROTOBUF_C_TYPE_INT64:
	case PROTOBUF_C_TYPE_SINT64:
	case PROTOBUF_C_TYPE_SFIXED64:
		return decode_64(decoder, place, json, &INT64, to);
	case PROTOBUF_C_TYPE_UINT64:
	case PROTOBUF_C_TYPE_FIXED64:
		return decode_64(decoder, place, json, &UINT64, to);
	case PROTOBUF_C_TYPE_BOOL:
		return decode_bool(decoder, place, json, to);
	case PROTOBUF_C_TYPE_ENUM:
		return decode_enum(decoder, place, json, field->descriptor, to, skipped);
	case PROTOBUF_C_TYPE_STRING:
		return decode_string(decoder, place, json, to);
	case PROTOBUF_C_TYPE_BYTES:
		return decode_bytes(decoder, place, json, to);
	case PROTOBUF_C_TYPE_MESSAGE:
		return decode_message(decoder, place, json, field->descriptor, to);
	case PROTOBUF_C_TYPE_FLOAT:
	case PROTOBUF_C_TYPE_DOUBLE:
		break; /* the API has none, and a test sees to it */
	}
	assert(false && "a field of a type that the API does not use");
	return STATUS_INTERNAL;
}

static enum status_code decode_list(struct decoder *decoder, const struct place *place, const json_t *json,
                                    const ProtobufCFieldDescriptor *field, ProtobufCMessage *message)
{
	size_t size = message_element_size(field->type);
	size_t *count = message_count_mutable(message, field);
	uint8_t *items;

	if (!json_is_array(json))
		return refuse_kind(decoder, place, json, "a list");
	items = arena_calloc(decoder->arena, json_array_size(json), size);
	if (items == NULL)
		return STATUS_NO_MEMORY;
	for (size_t i = 0; i < json_array_size(json); i++) {
		struct place item = {.above = place, .index = i, .depth = place->depth};
		bool skipped;
		enum status_code status = decode_value(decoder, &item, json_array_get(json, i), field,
		                                       items + *count * size, &skipped);

		if (status != STATUS_OK)
			return status;
		if (!skipped)
			++*count;
	}
	memcpy(message_value_mutable(message, field), &items, sizeof items);
	return STATUS_OK;
}

static enum status_code refuse_second_member(struct decoder *decoder, const struct place *place,
                                             const ProtobufCMessage *message, uint32_t first)
{
	const ProtobufCFieldDescriptor *other =
		protobuf_c_message_descriptor_get_field(message->descriptor, first);
	char what[160];

	snprintf(what, sizeof what, "only one of the fields it shares a oneof with may be set, and %s is",
	         other->name);
	return refuse(decoder, place, what);
}

static enum status_code decode_field(struct decoder *decoder, const struct place *place, const json_t *json,
                                     const ProtobufCFieldDescriptor *field, ProtobufCMessage *message)
{
	bool in_oneof = message_field_in_oneof(field);
	enum status_code status;
	bool skipped;

	if (field->label == PROTOBUF_C_LABEL_REPEATED)
		return decode_list(decoder, place, json, field, message);
	if (in_oneof && message_case(message, field) != 0)
		return refuse_second_member(decoder, place, message, message_case(message, field));
	status = decode_value(decoder, place, json, field, message_value_mutable(message, field), &skipped);
	if (status != STATUS_OK || skipped)
		return status;
	if (in_oneof)
		*message_case_mutable(message, field) = field->id;
	else if (field->label == PROTOBUF_C_LABEL_OPTIONAL && field->quantifier_offset != 0)
		*message_has_mutable(message, field) = true;
	return STATUS_OK;
}

static enum status_code decode_fields(struct decoder *decoder, const struct place *place,
                                      const json_t *json, ProtobufCMessage *message)
{
	const char *key;
	json_t *value;

	/* jansson's loop wants an object that could be changed; it does not. */
	json_object_foreach((json_t *)(uintptr_t)json, key, value)
	{
		const ProtobufCFieldDescriptor *field = find_field(message->descriptor, key);
		struct place below = {.above = place, .depth = place->depth};
		enum status_code status;

		if (field == NULL)
			continue;
		below.name = field->name;
		/* The parser refuses a name given twice; each style once is up to us. */
		if (strcmp(key, field->name) != 0 && json_object_get(json, field->name) != NULL)
			return refuse(decoder, &below, "the field is given twice, once in each style");
		if (json_is_null(value))
			continue;
		status = decode_field(decoder, &below, value, field, message);
		if (status != STATUS_OK)
			return status;
	}
	return STATUS_OK;
}

static enum status_code decode_message(struct decoder *decoder, const struct place *place,
                                       const json_t *json, const ProtobufCMessageDescriptor *type,
                                       ProtobufCMessage **out)
{
	struct place here = *place;

	if (!json_is_object(json))
		return refuse_kind(decoder, place, json, "an object");
	if (++here.depth > WIRE_REQUEST_DEPTH_MAX)
		return refuse(decoder, place, "messages are nested too deeply");
	*out = arena_alloc(decoder->arena, type->sizeof_message);
	if (*out == NULL)
		return STATUS_NO_MEMORY;
	protobuf_c_message_init(type, *out);
	return decode_fields(decoder, &here, json, *out);
}

static size_t count_blanks(const char *text, size_t len)
{
	size_t count = 0;

	while (count < len &&
	       (text[count] == ' ' || text[count] == '\t' || text[count] == '\n' || text[count] == '\r'))
		count++;
	return count;
}

enum status_code json_decode(const ProtobufCMessageDescriptor *type, const char *text, size_t len,
                             struct arena *arena, ProtobufCMessage **out, const char **message)
{
	struct place top = {0};
	struct decoder decoder;
	enum status_code status;

	/* Not by assignment, which would clear the tree's block too. */
	decoder.arena = arena;
	decoder.message = NULL;
	*message = NULL;
	if (count_blanks(text, len) == len) {
		text = "{}";
		len = 2;
	}
	status = json_parse(text, len, arena, &decoder.tree, message);
	if (status != STATUS_OK)
		return status;
	status = decode_message(&decoder, &top, decoder.tree.root, type, out);
	json_tree_release(&decoder.tree);
	*message = decoder.message;
	return status;
}

/* Where the value ends that the text begins with, if it is a valid object; no
 * other is a message. A text of many is then parsed one by one, each byte once. */
static size_t find_end(const char *text, size_t len)
{
	size_t depth = 0;

	if (text[0] != '{')
		return len;
	for (size_t i = 0; i < len; i++) {
		if (text[i] == '"')
			i = json_string_end(text, i + 1, len);
		else if (text[i] == '{' || text[i] == '[')
			depth++;
		else if ((text[i] == '}' || text[i] == ']') && --depth == 0)
			return i + 1;
	}
	return len;
}

enum status_code json_decode_next(const ProtobufCMessageDescriptor *type, const char **text, size_t *len,
                                  struct arena *arena, ProtobufCMessage **out, const char **message)
{
	size_t blanks = count_blanks(*text, *len);
	const char *value = *text + blanks;
	size_t left = *len - blanks;
	size_t end;

	*out = NULL;
	*message = NULL;
	if (left == 0)
		return STATUS_OK;
	end = find_end(value, left);
	*text = value + end;
	*len = left - end;
	return json_decode(type, value, end, arena, out, message);
}
