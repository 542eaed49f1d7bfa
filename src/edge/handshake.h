/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The handshake of a WebSocket (RFC 6455, section 4.2): whether a request may
 * become one, and the answer that makes it one.
 *
 * A browser lets any page open a WebSocket to any server, and sends the
 * cookies that belong there. So a page of another origin is refused unless
 * cors.origins names it; here "*" does not, for it says that anyone may read
 * what is open to all, not that anyone may act with a visitor's cookie.
 */
#ifndef KETA_HANDSHAKE_H
#define KETA_HANDSHAKE_H

#include <stdbool.h>
#include <stddef.h>

#include <microhttpd.h>

#include "base/buf.h"
#include "edge/head.h"
#include "edge/origin.h"

enum { HANDSHAKE_KEY_BYTES = 24 };

struct handshake {
	struct head_refusal refusal; /* its status is 0 if there is none */
	const char *key;             /* Sec-WebSocket-Key */
	bool is_bearer;              /* the client's subprotocol, which the answer repeats */
	struct header token; /* from the subprotocol or a cookie, as etcd's proxy takes it; may be absent */
};

/* Whether the request asks for a WebSocket at all. */
bool handshake_is_asked(const struct head *head);

/* Checks a request that does. What it points to lives as long as the request. */
void handshake_read(struct handshake *handshake, struct MHD_Connection *connection, const struct head *head,
                    const struct origin_set *origins);

/* Appends the answer to one that was not refused. */
void handshake_write(const struct handshake *handshake, struct buf *buf);

#endif
