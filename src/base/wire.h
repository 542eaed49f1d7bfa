/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Protobuf bytes to messages and back, with the guard that protobuf-c lacks.
 *
 * protobuf-c's unpack recurses as deep as the bytes say, cuts strings at an
 * embedded NUL and does not look at their encoding. Here the bytes are first
 * scanned against the descriptors, without recursion: depth, lengths, wire
 * types, UTF-8, NUL. Only what passes is unpacked, into an arena whose cap
 * bounds what two bytes on the wire can ask for in memory.
 *
 * Fields that the descriptors do not know are dropped, as they are when the
 * same request comes as JSON: a log record must not carry what no one checked.
 */
#ifndef KETA_WIRE_H
#define KETA_WIRE_H

#include <stddef.h>
#include <stdint.h>

#include <protobuf-c/protobuf-c.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/status.h"

enum {
	/* How deep a client's request may nest messages, itself included, in
	 * either codec. A nested transaction takes two. */
	WIRE_REQUEST_DEPTH_MAX = 100,
	/* Any message: a request accepted by the line above must still fit when
	 * it is wrapped in a log record. */
	WIRE_DEPTH_MAX = WIRE_REQUEST_DEPTH_MAX + 4,
};

/* Appends the message. Memory running out marks the buffer as failed. */
void wire_pack(const ProtobufCMessage *message, struct buf *buf);

/* Reads a message that a node wrote. Everything it holds is in the arena; the
 * bytes may go. STATUS_BAD_REQUEST when they are no such message, STATUS_NO_MEMORY
 * when the arena's cap is reached. */
enum status_code wire_unpack(const ProtobufCMessageDescriptor *type, const uint8_t *data, size_t len,
                             struct arena *arena, ProtobufCMessage **out);

/* The same for a message that a client sent. */
enum status_code wire_unpack_request(const ProtobufCMessageDescriptor *type, const uint8_t *data,
                                     size_t len, struct arena *arena, ProtobufCMessage **out);

/* Forgets unknown fields, in nested messages too. Both unpacks have done it. */
void wire_drop_unknown(ProtobufCMessage *message);

#endif
