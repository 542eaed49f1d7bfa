/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A JSON request as a typed call, and a finished call as JSON: what lies
 * between HTTP and the engine.
 */
#ifndef KETA_GATEWAY_H
#define KETA_GATEWAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/status.h"
#include "edge/head.h"
#include "engine/call.h"
#include "engine/method.h"

/* What one request may take of memory once decoded; the engine has its own
 * limit for the answer. */
enum { GATEWAY_ARENA_BYTES = 256 << 20 };

/* A body longer than the largest message times this is not kept: base64 makes
 * bytes longer by a third, and names and digits are longer than tags. */
enum { GATEWAY_BODY_FACTOR = 2 };

struct gateway_request {
	const struct head *head;
	const char *body;
	size_t len;
	size_t received;      /* more than len when the body was not kept */
	size_t message_limit; /* of the request as protobuf */
};

/* Fills in a new call: method, request, token, deadline. False when the
 * request is refused; the call's status says why. */
bool gateway_decode(struct call *call, const struct method *method, const struct gateway_request *request);

/* The messages of a stream: each call gives the first of *text and moves on;
 * *out is NULL at the end. STATUS_BAD_REQUEST, STATUS_MESSAGE_TOO_LARGE or
 * STATUS_NO_MEMORY with a text of its own, or NULL, in *error. */
enum status_code gateway_decode_next(const struct method *method, size_t message_limit, const char **text,
                                     size_t *len, struct arena *arena, ProtobufCMessage **out,
                                     const char **error);

/* The refusal of a body of that size: its text in *error, its code returned. */
enum status_code gateway_refuse_size(struct arena *arena, size_t size, size_t limit, const char **error);

/* When the client wants it to be over, on clock_ms's scale; 0: no limit.
 * STATUS_BAD_REQUEST or STATUS_DEADLINE_EXCEEDED, as above. */
enum status_code gateway_deadline(const struct header *timeout, struct arena *arena, int64_t *deadline_ms,
                                  const char **error);

/* The token among the headers; its text is NULL if there is none. */
struct header gateway_token(const struct head *head);

/* Appends the answer of a finished call and returns its HTTP status. Memory
 * running out marks the buffer as failed. */
unsigned gateway_encode(const struct call *call, struct buf *buf);

/* Appends the body of an error and returns its HTTP status. */
unsigned gateway_encode_error(const struct status *status, struct buf *buf);

#endif
