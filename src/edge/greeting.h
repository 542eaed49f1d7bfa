/* SPDX-License-Identifier: Apache-2.0 */
/* What a connection's first bytes say it speaks. */
#ifndef KETA_GREETING_H
#define KETA_GREETING_H

enum greeting {
	GREETING_UNKNOWN, /* too few bytes yet */
	GREETING_HTTP1,   /* or anything else that is not HTTP/2 */
	GREETING_HTTP2,
	GREETING_CLOSED, /* the client is gone */
};

/* Looks at the bytes that have come, and leaves them. */
enum greeting greeting_peek(int fd);

#endif
