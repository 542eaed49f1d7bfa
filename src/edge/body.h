/* SPDX-License-Identifier: Apache-2.0 */
/* The messages in the body of a request to a streaming method: JSON values one
 * after another. */
#ifndef KETA_BODY_H
#define KETA_BODY_H

#include <stddef.h>

#include <protobuf-c/protobuf-c.h>

#include "base/arena.h"
#include "base/status.h"

struct exchange;
struct method;

/* A body of "{}{}{}..." is short for the memory that its answers take; so is a
 * message over a WebSocket, which may hold as many. */
enum { BODY_MESSAGES_MAX = 10000 };

struct body {
	const char *text; /* what is left; the exchange's */
	size_t len;
	size_t count; /* of messages asked for */
	size_t message_limit;
};

/* Begins with a complete request. STATUS_NO_MEMORY, or STATUS_MESSAGE_TOO_LARGE
 * for a body that was not kept. */
enum status_code body_init(struct body *body, const struct exchange *exchange, struct arena *arena,
                           const char **error);

/* The next message, in the arena; NULL at the end. The first there must be,
 * unless the method takes just one, which is then empty. STATUS_BAD_REQUEST,
 * STATUS_MESSAGE_TOO_LARGE or STATUS_NO_MEMORY, with a text of its own, or
 * NULL, in *error. */
enum status_code body_next(struct body *body, const struct method *method, struct arena *arena,
                           ProtobufCMessage **request, const char **error);

#endif
