/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A message seen through its descriptor: where a field lies, and whether it
 * is set. What the codecs share; they know no message by name.
 *
 * A field that is neither optional, repeated nor in a oneof has no quantifier,
 * and its quantifier_offset is 0, which is where the descriptor pointer lies:
 * ask for a quantifier only where there is one.
 */
#ifndef KETA_MESSAGE_H
#define KETA_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <protobuf-c/protobuf-c.h>

/* The field's value; of a repeated field, the pointer to its elements. */
static inline const void *message_value(const ProtobufCMessage *message,
                                        const ProtobufCFieldDescriptor *field)
{
	return (const uint8_t *)message + field->offset;
}

static inline void *message_value_mutable(ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
	return (uint8_t *)message + field->offset;
}

/* The number of elements of a repeated field. */
static inline size_t *message_count_mutable(ProtobufCMessage *message,
                                            const ProtobufCFieldDescriptor *field)
{
	return (size_t *)(void *)((uint8_t *)message + field->quantifier_offset);
}

static inline size_t message_count(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
	return *(const size_t *)(const void *)((const uint8_t *)message + field->quantifier_offset);
}

static inline bool message_field_in_oneof(const ProtobufCFieldDescriptor *field)
{
	return (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0;
}

/* The number of the member that a oneof holds, 0 for none; 'field' is any
 * member of it. */
static inline uint32_t *message_case_mutable(ProtobufCMessage *message,
                                             const ProtobufCFieldDescriptor *field)
{
	return (uint32_t *)(void *)((uint8_t *)message + field->quantifier_offset);
}

static inline uint32_t message_case(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
	return *(const uint32_t *)(const void *)((const uint8_t *)message + field->quantifier_offset);
}

/* Whether a field with presence of its own (proto3's "optional") is set; a
 * pointer says it by itself and has no quantifier. */
static inline protobuf_c_boolean *message_has_mutable(ProtobufCMessage *message,
                                                      const ProtobufCFieldDescriptor *field)
{
	return (protobuf_c_boolean *)(void *)((uint8_t *)message + field->quantifier_offset);
}

static inline bool message_has(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
	return *(const protobuf_c_boolean *)(const void *)((const uint8_t *)message +
	                                                   field->quantifier_offset) != 0;
}

/* What one element of a repeated field takes. */
static inline size_t message_element_size(ProtobufCType type)
{
	switch (type) {
	case PROTOBUF_C_TYPE_MESSAGE:
	case PROTOBUF_C_TYPE_STRING:
		return sizeof(void *);
	case PROTOBUF_C_TYPE_BYTES:
		return sizeof(ProtobufCBinaryData);
	case PROTOBUF_C_TYPE_INT64:
	case PROTOBUF_C_TYPE_SINT64:
	case PROTOBUF_C_TYPE_SFIXED64:
	case PROTOBUF_C_TYPE_UINT64:
	case PROTOBUF_C_TYPE_FIXED64:
		return sizeof(uint64_t);
	default:
		return sizeof(uint32_t);
	}
}

#endif
