/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages as JSON, from their descriptors alone; no message is known by name.
 *
 * Requests are taken as etcd's gateway takes them (proto3's JSON mapping):
 * names as in the .proto file or in lowerCamelCase; integers as numbers or in
 * strings; enums by name or number; bytes in base64 of either alphabet; null
 * for "not set"; unknown fields and unknown names of enum values ignored.
 * Only the first JSON value of a body counts, and a blank body is {}.
 *
 * Answers carry the names of the .proto file, 64-bit integers as strings,
 * enums as names, and leave out what is not set.
 *
 * Differences from etcd's parser, all on purpose: a field given twice is
 * refused even if it is unknown, an integer above 2^63 must be in a string, a
 * number beyond a double's range is refused even in an unknown field, and a
 * string may not hold U+0000.
 */
#ifndef KETA_JSON_H
#define KETA_JSON_H

#include <stddef.h>

#include <protobuf-c/protobuf-c.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/status.h"

/* Reads a body into a message of the given type. Everything that the message
 * holds is in the arena; the text may go. STATUS_NO_MEMORY, or
 * STATUS_BAD_REQUEST with *message saying what is wrong, where, and what was
 * expected; it lives in the arena. Any thread. */
enum status_code json_decode(const ProtobufCMessageDescriptor *type, const char *text, size_t len,
                             struct arena *arena, ProtobufCMessage **out, const char **message);

/* The same for the first of several values in *text, which then begins behind
 * it; *out is NULL when nothing but blanks is left. After an error the rest has
 * no meaning. */
enum status_code json_decode_next(const ProtobufCMessageDescriptor *type, const char **text, size_t *len,
                                  struct arena *arena, ProtobufCMessage **out, const char **message);

/* Appends the message as one JSON object, in a single pass. Memory running out
 * marks the buffer as failed. */
void json_encode(const ProtobufCMessage *message, struct buf *buf);

/* Appends the body of an error: {"code":3,"message":"..."}. */
void json_encode_error(struct buf *buf, int code, const char *message);

#endif
